"""GUI actions: what every model family writes, in one canonical form; what cannot be read; mutated texts."""

import json
import random
from pathlib import Path

import pytest
from support.mutations import mutated

from mmreward import Unscorable
from mmreward.verifiers.actions import View, read_actions
from mmreward.verifiers.coordinates import Axes

CASES = [
    json.loads(line) for line in (Path(__file__).parents[1] / "cases/actions.jsonl").read_text().splitlines()
]
MANY, SOME = 100_000, 1_500


def one(text, **args):
    (action,) = read_actions(text, **args)
    return action.facts()


@pytest.mark.parametrize(
    "case", [case for case in CASES if "actions" in case], ids=lambda case: case["text"][:60]
)
def test_every_family_in_one_form(case):
    assert [action.facts() for action in read_actions(case["text"])] == case["actions"]
    if case.get("grammar"):
        found = read_actions(case["text"], grammar=case["grammar"])
        assert [action.facts() for action in found] == case["actions"]


@pytest.mark.parametrize(
    "case", [case for case in CASES if "reason" in case], ids=lambda case: case["text"][:60]
)
def test_what_cannot_be_read_says_why(case):
    with pytest.raises(Unscorable, match=case["reason"]) as failure:
        read_actions(case["text"])
    assert failure.value.status == "unparsable"


def test_the_declared_grammar_is_the_one_that_is_read():
    text = 'Action: click(point="(1,2)")'
    assert one(text, grammar="ui-tars")["type"] == "click"
    for other in ("qwen", "os-atlas"):
        with pytest.raises(Unscorable, match="no action"):
            read_actions(text, grammar=other)


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        (Axes(1000, 1000), "click(start_box='(250,500)')"),
        (Axes(1, 1), "pyautogui.click(x=0.25, y=0.5)"),
        (Axes(999, 999), '{"action": "click", "coordinate": [249.75, 499.5]}'),
        (Axes(1932, 1092), '{"action": "click", "coordinate": [483, 546]}'),
        (Axes(1000, 1000, True), '{"action": "click", "point": [500, 250]}'),
        (Axes(1000, 1000), '{"action": "click", "bbox": [200, 400, 300, 600]}'),
        (Axes(1000, 1000, True), '{"action": "click", "bbox": [400, 200, 600, 300]}'),
        (Axes(100, 100), '<tool_call>{"name": "computer_use", "arguments": {"action": "left_click", '
         '"coordinate": ["25%", "50%"]}}</tool_call>'),
    ],
)  # fmt: skip
def test_one_click_in_every_unit(axes, text):
    assert one(text, view=View(axes))["point"] == [0.25, 0.5]


def test_a_direction_is_that_of_the_content():
    assert one("scroll(direction='down')")["direction"] == "down"
    assert one("swipe(direction='up')")["direction"] == "down"
    assert one("swipe(direction='up')", view=View(swipe="content"))["direction"] == "up"
    assert one("swipe(start=[500, 800], end=[400, 200])")["direction"] == "down"
    tall = View(Axes(1000, 1000), aspect=2400 / 1080)
    assert one("swipe(start=[500, 500], end=[800, 700])", view=tall)["direction"] == "up"
    assert one("swipe(start=[500, 500], end=[800, 700])")["direction"] == "left"


def test_a_response_with_thought_and_answer():
    text = "<think>I could click(1, 2).</think>\n<answer>{'action': 'type', 'text': 'x'}</answer>"
    assert one(text) == {"type": "type", "text": "x"}
    with pytest.raises(Unscorable, match="never closed"):
        read_actions("<think>click(1, 2)")


def test_nothing_is_evaluated(tmp_path):
    witness = tmp_path / "evaluated"
    for text in (
        f"click(__import__('pathlib').Path('{witness}').touch())",
        f"[{{'action': open('{witness}', 'w'), 'point': [1, 2]}}]",
        f"__import__('os').system('touch {witness}')",
        f'click(start_box=\'__import__("os").system("touch {witness}")\')',
    ):
        with pytest.raises(Unscorable):
            read_actions(text)
    assert not witness.exists()


def _mutate(number, seed):
    chance = random.Random(seed)
    texts = [case["text"] for case in CASES]
    read = 0
    for _ in range(number):
        text = mutated(chance.choice(texts), chance)
        if chance.random() < 0.2:
            text += mutated(chance.choice(texts), chance)
        try:
            for action in read_actions(text):
                json.dumps(action.facts(), allow_nan=False)
                read += 1
        except Unscorable as failure:
            assert failure.status == "unparsable"
    return read


def test_mutated_texts_are_read_or_refused():
    assert _mutate(SOME, 0) > SOME / 10


@pytest.mark.slow
def test_a_hundred_thousand_mutated_texts_are_read_or_refused():
    assert _mutate(MANY, 1) > MANY / 10


@pytest.mark.parametrize(
    "piece",
    [
        "click(",
        "click('",
        "[",
        '{"action":',
        "'),",
        "Action:\n",
        "TYPE [",
        "click(a=[",
        "\\'",
        "<point>",
        "A" * 50,
    ],
)
def test_a_long_text_is_read_once(piece):
    """Ten times as long is refused or read, too: each of these once took quadratic time somewhere."""
    for text in (piece * 10_000, "click(start_box='" + piece * 10_000):
        try:
            read_actions(text)
        except Unscorable as failure:
            assert failure.status == "unparsable"
