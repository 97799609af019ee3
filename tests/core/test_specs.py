"""Rewards as they are written down: texts, functions, functions in files of one's own."""

import asyncio
import math

import pytest

from mmreward import Engine, Reward, Sample, Score, Unscorable, load
from mmreward.loading import resolve
from mmreward.specs import parse_reward, plain_reward, rewards_of

OWN = '''
"""Rewards of somebody."""
from math import sqrt

LIMIT = 3

def short(sample, limit=LIMIT):
    "1 for a short response."
    return len(sample.response) <= limit

async def later(sample):
    return 2
'''


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


def scores(rewards, *samples):
    with Engine("cpu") as engine:
        return engine.score(list(samples) or [Sample(response="four")], rewards)


def test_an_argument_of_the_wrong_kind_is_one_line_with_its_fix():
    for name, argument in (("critique", "tools"), ("rationalrewards", "aspects")):
        said = rf"^{name}: {argument} is 'crop': .*; a list is written {argument}=\[a,b\]$"
        with pytest.raises(ValueError, match=said):
            load(name, judge="mini-vlm", **{argument: "crop"})
    with pytest.raises(ValueError, match=r"^iou: threshold is 'much': [^\n]*$"):
        load("iou", threshold="much")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("iou", ("iou", {})),
        ("iou:threshold=0.5,labels=true", ("iou", {"threshold": 0.5, "labels": True})),
        ("fast=clipscore:weights=a/b", ("fast", {"reward": "clipscore", "weights": "a/b"})),
        ("checklist:judge=M@http://h:1/v1?key=K", ("checklist", {"judge": "M@http://h:1/v1?key=K"})),
        ("critique:tools=[crop,page],calls=4", ("critique", {"tools": ["crop", "page"], "calls": 4})),
        ("checklist:judge=./judge.py:x", ("checklist", {"judge": "./judge.py:x"})),
        ("checklist:judge=M?max_frames=8&do_sample_frames=true", None),
    ],
)
def test_texts_are_read_as_on_the_command_line(text, found):
    if found is None:
        found = "checklist", {"judge": "M?max_frames=8&do_sample_frames=true"}
    assert parse_reward(text) == found


def test_rewards_come_in_many_forms(own):
    loaded = load("iou")
    nameless = lambda sample: 1  # noqa: E731
    mixed = rewards_of(["math", "bare=math:bare=true", loaded, len_of, nameless, nameless, f"{own}:short"])
    assert list(mixed) == ["math", "bare", "iou", "len_of", "lambda", "lambda2", "short"]
    assert mixed["bare"].args["bare"] is True and mixed["bare"].info.name == "math"
    given = {"a": "math:bare=true", "b": {"reward": "math"}, "c": len_of, "d": loaded}
    named = rewards_of({**given, "e": f"{own}:short:limit=9", "math": {}})
    assert list(named) == ["a", "b", "c", "d", "e", "math"]
    assert all(isinstance(one, Reward) for one in named.values())
    assert named["e"].args["limit"] == 9 and named["c"].info.name == "c"
    assert list(rewards_of("math")) == ["math"] and list(rewards_of(len_of)) == ["len_of"]


def len_of(sample):
    """Characters of the response."""
    return len(sample.response)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no rewards given"),
        (["iou", "iou"], "iou is given twice"),
        ([len_of, len_of], "len_of is given twice"),
        (3, "a reward is a spec.*not int"),
        ({"x": 3}, "a reward is a spec.*not int"),
        (Sample, "not type"),
        (["iuo"], "did you mean 'iou'"),
        ("iou:threshold", "'threshold' is not ARGUMENT=VALUE"),
        ("=iou", "expected NAME:ARGUMENT=VALUE"),
        (lambda: 1, r"lambda cannot be called as lambda\(sample\)"),
        (lambda a, b: 1, "missing a required argument: 'b'"),
    ],
)
def test_what_is_no_reward_is_one_line(given, said):
    with pytest.raises(ValueError, match=said) as caught:
        rewards_of(given)
    assert "\n" not in str(caught.value)


# --- functions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, 1, 1.0, Score(1.0)])
def test_a_function_returns_a_number_or_a_score(value):
    assert scores({"mine": plain_reward(lambda sample: value)})["mine"][0].value == 1.0


@pytest.mark.parametrize("value", [None, "1", math.nan, math.inf, [1, 2], {}])
def test_anything_else_is_a_failure_that_says_what(value):
    (score,) = scores({"mine": plain_reward(lambda sample: value, "mine")})["mine"]
    assert (
        score.status == "error" and "mine returned" in score.note and "return a finite number" in score.note
    )


def test_what_it_raises_is_the_failure_of_its_sample():
    def picky(sample):
        if sample.response == "x":
            raise Unscorable("no x", "unparsable")
        return 1 / len(sample.response)

    found = scores({"picky": plain_reward(picky)}, *(Sample(response=text) for text in ("x", "", "ab")))[
        "picky"
    ]
    assert [score.status for score in found] == ["unparsable", "error", "ok"]
    assert "ZeroDivisionError" in found[1].note


def test_it_may_be_async_and_a_slow_one_holds_up_no_other():
    seen = []

    async def waits(sample):
        await asyncio.sleep(0)
        return 3

    def blocks(sample):
        import threading

        seen.append(threading.current_thread().name)
        return 4

    found = scores({"waits": plain_reward(waits), "blocks": plain_reward(blocks)})
    assert found["waits"][0].value == 3 and found["blocks"][0].value == 4
    with Engine("cpu") as engine:
        loop = engine.run(_thread_name())
    assert seen[0] != loop, "a plain function does not run on the engine's loop"


async def _thread_name():
    import threading

    return threading.current_thread().name


def test_its_fingerprint_is_its_code_and_arguments(own):
    one, other = plain_reward(lambda sample: 1, "f"), plain_reward(lambda sample: 22, "f")
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == plain_reward(lambda sample: 1, "f").fingerprint, "wherever it stands"
    closed = [plain_reward(lambda sample, least=least: least, "f").fingerprint for least in (1, 2)]
    assert len({*closed, *(plain_reward(above(least), "f").fingerprint for least in (1, 2))}) == 4
    first, again = (parse_reward(f"{own}:short")[1] for _ in range(2))
    assert first.fingerprint == again.fingerprint
    assert parse_reward(f"{own}:short:limit=5")[1].fingerprint != first.fingerprint


def above(least):
    return lambda sample: len(sample.response) > least


# --- files of one's own ---------------------------------------------------------------------------


def test_a_function_in_a_file_is_a_reward(own):
    found = scores(rewards_of([f"{own}:short", f"long={own}:short:limit=9", f"{own}:later"]))
    assert {name: column[0].value for name, column in found.items()} == {"short": 0, "long": 1, "later": 2}


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("shrt", "did you mean 'short'"),
        ("sqrt", "has no function 'sqrt'"),
        ("LIMIT", "has no function 'LIMIT'"),
        ("", "has no function ''"),
        ("short:limits=3", "unexpected keyword argument 'limits'"),
    ],
)
def test_a_function_that_is_not_there_is_one_line(own, function, said):
    with pytest.raises(ValueError, match=said) as caught:
        parse_reward(f"{own}:{function}")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_run_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"no file at .*gone\.py"):
        parse_reward(f"{tmp_path}/gone.py:f")
    (tmp_path / "broken.py").write_text("raise SystemExit('no\\nmore')")
    with pytest.raises(ValueError, match=r"broken\.py cannot be run: SystemExit: no more"):
        parse_reward(f"{tmp_path}/broken.py:f")
    (tmp_path / "torn.py").write_text("def f(:")
    with pytest.raises(ValueError, match=r"torn\.py cannot be run: SyntaxError"):
        parse_reward(f"{tmp_path}/torn.py:f")


def test_a_name_that_is_a_file_means_nothing_to_what_reads_data_or_a_config(own):
    """Configs, routes and rows go through `resolve` and `load`, which run no file."""
    text = f"{own}:short"
    with pytest.raises(ValueError, match="no reward named"):
        load(text)
    for given in (text, [text], {text: {}}, {"x": text}, {"x": {"reward": text}}):
        with pytest.raises(ValueError, match="no reward named"):
            resolve(given)
