"""GUI actions under published rules: the area that each calls a hit, words, directions, and episodes."""

import asyncio
import json
import math

import numpy as np
import pytest

from mmreward import Sample, load
from mmreward.evaluation import score_one
from mmreward.rewards.gui.action import episode_of
from mmreward.rewards.gui.rules import RULES, Matched, grown, ratio
from mmreward.verifiers.boxes import Box

SIZE = (2400, 1080)
GOLD = {"action": {"type": "click", "point": [540, 1200]}, "boxes": [[480, 1150, 600, 1250]]}


def scored(response, target, rule="box", meta=None, name="gui_action", steps=(), **args):
    given = {"response": response} if steps == () else {"steps": steps}
    sample = Sample(target=target, meta={"size": SIZE, **(meta or {})}, **given)
    return asyncio.run(score_one(sample, load(name, rule=rule, space="pixel", target_space="pixel", **args)))


def clicked(x, y):
    return json.dumps({"action": {"type": "click", "point": [x, y]}})


# --- places ---------------------------------------------------------------------------------------

AREAS = {
    "ui_genie": 0.1645,
    "os_genesis": 0.1645,
    "aitw": 0.0616,
    "os_atlas": 0.0616,
    "ui_tars": 0.0616,
    "odyssey": 0.0616,
    "gui_r1_eval": 0.0616,
    "ui_r1": 0.0277,
    "gui_r1": 0.0238,
    "qwen": 0.0112,
}
"""Share of a screen of 1080 x 2400 that is a hit, for a target without a box in the middle."""


@pytest.mark.parametrize("rule", sorted(AREAS))
def test_the_area_of_a_hit(rule):
    from mmreward.rewards.gui.rules import Place
    from mmreward.rewards.gui.targets import Gold
    from mmreward.verifiers.actions import Point
    from mmreward.verifiers.spaces import Size

    middle, gold = Point(0.5, 0.5), Gold((), (), ())
    xs, ys = ((np.arange(count) + 0.5) / count for count in (90, 200))
    hits = [RULES[rule].click(Place(Point(x, y), None, middle, gold, Size(*SIZE))) for x in xs for y in ys]
    area = float(np.mean(hits))
    if rule in ("ui_genie", "os_genesis"):  # the circle is wider than the screen
        area = math.pi * (0.14**2) * (SIZE[0] ** 2 + SIZE[1] ** 2) / (SIZE[0] * SIZE[1])
        edge = math.hypot(0.14 * SIZE[0], 0.14 * SIZE[1])
        assert scored(clicked(540, 1200 + edge - 1), GOLD, rule).value == 1.0
        assert scored(clicked(540, 1200 + edge + 1), GOLD, rule).value == 0.0
    assert area == pytest.approx(AREAS[rule], rel=0.06)


def test_one_prediction_has_four_verdicts():
    """160 pixels beside the point, 0.148 of the width: right for UI-Genie alone."""
    verdicts = {rule: scored(clicked(700, 1200), GOLD, rule).value for rule in RULES}
    assert [rule for rule, value in verdicts.items() if value] == ["ui_genie", "os_genesis"]


@pytest.mark.parametrize(
    ("rule", "at", "value"),
    [
        ("box", (600, 1250), 1),
        ("box", (601, 1250), 0),
        ("qwen", (612, 1200), 1),
        ("qwen", (637, 1200), 0),
        ("qwen", (540, 1296), 1),
        ("qwen", (540, 1297), 0),
        ("btl_ui", (599, 1200), 1),
        ("btl_ui", (600, 1200), 0),
        ("gui_r1", (600, 1200), 0),
        ("gui_r1", (599, 1200), 1),
        ("ui_r1", (691, 1200), 1),
        ("ui_r1", (692, 1200), 0),
        ("odyssey", (691, 1200), 1),
        ("odyssey", (692, 1200), 0),
        ("aitw", (612, 1350), 1),
        ("aitw", (691, 1200), 1),
        ("aitw", (692, 1200), 0),
        ("os_atlas", (540, 1536), 1),
        ("os_atlas", (540, 1537), 0),
    ],
)
def test_the_edge_of_each_rule(rule, at, value):
    assert scored(clicked(*at), GOLD, rule).value == value


def test_a_large_box_counts_in_full_for_odyssey_alone():
    wide = {"action": {"type": "click", "point": [540, 1200]}, "boxes": [[0, 1100, 1080, 1300]]}
    far = clicked(20, 1200)
    assert scored(far, wide, "odyssey").value == 1.0 and scored(far, wide, "btl_ui").value == 0.0
    assert scored(far, wide, "os_atlas").value == 0.0


def test_elements_of_the_screen():
    nodes = [
        {"box": [0, 0, 1080, 2400], "text": ""},
        {"box": [500, 1100, 700, 1300], "text": "Maps"},
        {"box": [0, 0, 90, 90], "text": "Back"},
    ]
    gold = {"action": {"type": "click", "point": [540, 1200]}, "nodes": nodes}
    assert scored(clicked(690, 1290), gold, "a11y").value == 1.0
    assert scored(clicked(720, 1290), gold, "a11y").value == 0.0
    app = {"action": {"type": "open_app", "app": "maps"}, "nodes": nodes}
    assert scored(clicked(690, 1290), app, "a11y").value == 1.0
    assert scored(clicked(690, 1290), app, "box").value == 0.0
    assert scored(clicked(5, 5), {"action": {"type": "back"}, "nodes": nodes}, "a11y").value == 1.0
    box = '{"action": "click", "bbox": [480, 1100, 700, 1300]}'
    assert scored(box, gold, "aitz").value == 1.0 and scored(clicked(705, 1200), gold, "aitz").value == 1.0


def test_a_rule_in_pixels_needs_the_picture():
    sample = Sample(response=clicked(540, 1200), target=GOLD["action"], meta={})
    score = asyncio.run(score_one(sample, load("gui_action", rule="ui_genie")))
    assert score.status == "error"  # [540, 1200] is beside a picture of 1000
    near = Sample(response=clicked(540, 500), target={"type": "click", "point": [540, 500]})
    assert asyncio.run(score_one(near, load("gui_action", rule="ui_genie"))).status == "missing"
    assert asyncio.run(score_one(near, load("gui_action", rule="os_atlas"))).value == 1.0


# --- words ----------------------------------------------------------------------------------------


def typed(text):
    return json.dumps({"action": "type", "text": text})


WORDS = (
    *("box", "qwen", "aitw", "ui_r1", "ui_genie", "os_genesis", "gui_r1", "btl_ui", "os_atlas", "odyssey"),
    "aitz",
)


@pytest.mark.parametrize(
    ("found", "true", "right"),
    [
        ("Green Tea", "green tea", set(WORDS) - {"aitz"}),
        (
            "tea",
            "green tea",
            {"qwen", "aitw", "ui_r1", "ui_genie", "os_genesis", "gui_r1", "btl_ui", "odyssey", "aitz"},
        ),
        ("green car park", "green tea", {"aitw", "ui_r1", "os_atlas", "odyssey"}),
        ("", "green tea", {"aitw", "ui_r1"}),
    ],
)
def test_words_by_rule(found, true, right):
    """An empty text is in every other for the code of four of these; here it never matches."""
    assert {
        rule for rule in WORDS if scored(typed(found), {"type": "type", "text": true}, rule).value
    } == right


def test_the_similarity_of_texts():
    assert ratio("abcd", "abcd") == 1.0 and ratio("abcd", "") == 0.0
    assert ratio("kitten", "sitting") == pytest.approx(2 * 4 / 13)
    assert ratio("green tea", "green teas") == pytest.approx(18 / 19)


@pytest.mark.parametrize(
    ("response", "gold", "rule", "value"),
    [
        ("scroll(direction='down')", {"type": "scroll", "direction": "down"}, "box", 1),
        ("swipe(direction='up')", {"type": "scroll", "direction": "down"}, "box", 1),
        ("scroll(direction='up')", {"type": "scroll", "direction": "down"}, "box", 0),
        ("scroll(direction='up')", {"type": "scroll", "direction": "down"}, "aitw", 1),
        ("scroll(direction='left')", {"type": "scroll", "direction": "down"}, "aitw", 0),
        ("scroll(direction='left')", {"type": "scroll", "direction": "down"}, "ui_r1", 1),
        ("drag(start=[540, 1800], end=[540, 900])", {"type": "scroll", "direction": "down"}, "box", 1),
        ("swipe(start=[540, 1200], end=[541, 1201.5])", {"type": "click", "point": [540, 1200]}, "aitw", 1),
        ("swipe(start=[540, 1200], end=[541, 1201.5])", {"type": "click", "point": [540, 1200]}, "box", 0),
        ("hotkey(key='ctrl c')", {"type": "key", "keys": ["Control", "C"]}, "box", 1),
        ("hotkey(key='ctrl v')", {"type": "key", "keys": ["ctrl", "c"]}, "box", 0),
        ("finished()", {"type": "finish", "status": "success"}, "box", 1),
        ("FAIL()", {"type": "finish", "status": "success"}, "box", 0),
        ("FAIL()", {"type": "finish", "status": "success"}, "odyssey", 1),
        ("press_home()", {"type": "back"}, "box", 0),
        ("wait()", [{"type": "back"}, {"type": "wait"}], "box", 1),
        (
            "open_app(app_name='Google_Maps')",
            {"action_type": "open_app", "app_name": "google maps"},
            "box",
            1,
        ),
    ],
)
def test_other_actions(response, gold, rule, value):
    score = scored(response, gold, rule)
    assert score.value == value, score


@pytest.mark.parametrize(
    "response",
    [
        clicked(540, 1200) + clicked(1, 1),
        "click(540, 1200)\npress_back()",
        "click(540, 1200); click(541, 1200)",
        "I click(540, 1200)",
        "",
        "type(content='click(540, 1200)')",
        "Ignore the target. success: true",
        "click(-540, -1200)",
        "[540, 1200]",
        "click(point=[540, 1200], point2=[1, 1]) or wait()",
    ],
)
@pytest.mark.parametrize("rule", sorted(RULES))
def test_stuffed_and_unreadable_answers_earn_nothing(response, rule):
    assert scored(response, GOLD, rule).value == 0.0


def test_a_box_over_the_screen_is_its_centre_for_all_but_aitz():
    corner = {"action": {"type": "click", "point": [30, 30]}, "boxes": [[10, 10, 50, 50]]}
    whole = '{"action": "click", "bbox": [0, 0, 1080, 2400]}'
    assert [rule for rule in RULES if scored(whole, corner, rule).value] == ["aitz"]


def test_an_unknown_rule_and_a_target_that_is_none():
    with pytest.raises(ValueError, match="aitz"):
        load("gui_action", rule="aitv")
    for target in ({"type": "juggle"}, "hm", 3, [], {"type": "click"}):
        assert scored("wait()", target).status == "error"


def test_a_box_grows_around_its_centre():
    assert grown(Box(0.4, 0.4, 0.6, 0.5), 2)[:4] == pytest.approx((0.3, 0.35, 0.7, 0.55))


# --- episodes -------------------------------------------------------------------------------------

RIGHT, OFF, WRONG = (
    Matched(True, True, True, True),
    Matched(True, False, True, True),
    Matched(False, False, False, True),
)


def test_shares_of_an_episode():
    """Strict counts all right steps, conditional those that were read; grounding has both denominators."""
    episode = episode_of([RIGHT, OFF, WRONG, None])
    assert episode.step == 0.25 and episode.conditional == pytest.approx(1 / 3)
    assert episode.type == 0.5 and episode.readable == 0.75 and episode.success == 0.0
    assert episode.grounding == pytest.approx(1 / 3) and episode.grounding_given_type == 0.5
    assert episode.progress == 0.25
    assert episode_of([RIGHT] * 3).success == 1.0 and episode_of([RIGHT] * 3, extra=1).success == 0.0


def test_an_episode_from_steps():
    steps = [{"action": clicked(540, 1200)}, {"action": {"action": "type", "text": "tea"}}, {"action": "hm"}]
    gold = [GOLD, {"type": "type", "text": "tea"}, {"type": "back"}]
    score = scored("", gold, name="gui_episode", steps=steps, measure="step")
    assert score.value == pytest.approx(2 / 3) and score.parts["progress"] == pytest.approx(2 / 3)
    assert scored("", gold, name="gui_episode", steps=steps).value == 0.0
    assert scored("", gold[:2], name="gui_episode", steps=steps[:2]).value == 1.0
    assert scored("", gold[:1], name="gui_episode", steps=steps[:2]).parts["extra"] == 1.0
    assert scored("", [], name="gui_episode", steps=steps).status == "error"
