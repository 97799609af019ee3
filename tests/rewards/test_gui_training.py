"""Training rewards of GUI agents by name: their formulas on worked values, and what attacks earn."""

import asyncio
import json
import math

import numpy as np
import pytest

from mmreward import Sample, load
from mmreward.evaluation import score_one
from mmreward.rewards.gui.grounding import PROTOCOLS, gaussian_overlap, gaussian_point
from mmreward.verifiers.actions import Point
from mmreward.verifiers.boxes import Box

BOX = [100, 200, 300, 260]
"""In thousandths."""
TRUE = Box(0.1, 0.2, 0.3, 0.26)
THOUGHT = "<think>It is at the top left.</think>"


def scored(name, response, target=BOX, meta=None, **args):
    sample = Sample(response=response, target=target, meta=meta or {})
    return asyncio.run(score_one(sample, load(name, **args)))


def worth(response, protocol, target=BOX, **args):
    return scored("gui_grounding", response, target, protocol=protocol, **args).value


CALL = (
    '<tool_call>{"name": "computer_use", "arguments": {"action": "click", "coordinate": [200, 230]}}'
    "</tool_call>"
)

# --- grounding ------------------------------------------------------------------------------------


def test_gaussians_of_gui_g2():
    """0.607 in the middle of an edge and 0.368 in a corner; 1 for the same box, whatever its size."""
    assert gaussian_point(Point(0.2, 0.23), TRUE) == pytest.approx(1.0)
    assert gaussian_point(Point(0.3, 0.23), TRUE) == pytest.approx(math.exp(-0.5))
    assert gaussian_point(Point(0.3, 0.26), TRUE) == pytest.approx(math.exp(-1))
    for scale in (1e-4, 1.0, 1e3):
        box = Box(*(side * scale for side in TRUE[:4]))
        assert gaussian_overlap(box, box) == pytest.approx(1.0)
    assert gaussian_overlap(Box(0.3, 0.2, 0.1, 0.26), TRUE) == 0.0
    assert gaussian_overlap(TRUE, Box(0.1, 0.2, 0.1, 0.26)) == 0.0


def test_the_overlap_is_that_of_the_published_matrices():
    """The Bhattacharyya coefficient by determinants and inverses, written a second time."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        boxes = [np.sort(rng.uniform(0, 1, (2, 2)), axis=0) for _ in range(2)]
        middles, covariances = zip(
            *((box.mean(0), np.diag(((box[1] - box[0]) / 2) ** 2)) for box in boxes), strict=True
        )
        mean = sum(covariances) / 2
        away = middles[0] - middles[1]
        determinants = np.sqrt(np.prod([np.linalg.det(one) for one in covariances]))
        distance = away @ np.linalg.inv(mean) @ away / 8 + np.log(np.linalg.det(mean) / determinants) / 2
        found, true = (Box(*box.ravel()) for box in boxes)
        assert gaussian_overlap(found, true) == pytest.approx(math.exp(-distance))


@pytest.mark.parametrize(
    ("protocol", "response", "value"),
    [
        ("gui_g2", "[100, 200, 300, 260]", 3.0),
        ("gui_g2", "<answer>[100, 200, 300, 260]</answer>", 2.0),
        ("gui_g2", "[200, 230]", 1.0),
        ("gui_g1", '[{"bbox_2d": [100, 200, 300, 260], "label": "a"}]', 1.375),
        ("gui_g1", "[100, 200, 300, 200]", 0.0),
        (
            "se_gui",
            CALL,
            3.0,
        ),
        ("se_gui", "[200, 230]", 2.0),
        ("ui_agile", "[200, 230]", 2.0),
        ("ui_agile", "[300, 230]", 1 + math.exp(-4)),
        ("ui_agile", "[250, 230]", 1 + math.exp(-1)),
        ("ui_agile", "[301, 230]", 0.0),
        ("ui_agile", f"<think>{'a' * 150}</think><answer>[200, 230]</answer>", 4.0),
        ("ui_agile", f"<think>{'a' * 225}</think><answer>[200, 230]</answer>", 3 + math.exp(-0.5)),
        ("ui_agile", "[100, 200, 300, 230]", 1.0),
        ("infigui_r1", "[200, 230]", 1.0),
        ("infigui_r1", "[100, 200, 300, 230]", 1.0),
        ("infigui_r1", "[100, 200, 300, 215]", 0.5),
        ("points_gui_g", "[100, 200]", 1.0),
        ("points_gui_g", "[99, 200]", 0.0),
    ],
)
def test_worked_values(protocol, response, value):
    assert worth(response, protocol) == pytest.approx(value)


def test_the_dense_part_of_se_gui_stays_high_far_away():
    """1 - (d / d_max)^2, d_max from the centre of the box to the farthest corner."""
    centred = [450, 450, 550, 550]
    far = math.hypot(0.5, 0.5)
    assert worth("[900, 500]", "se_gui", centred) == pytest.approx(1 - (0.4 / far) ** 2)
    assert worth("[0, 0]", "se_gui", centred) == pytest.approx(0.0)
    assert worth("[-1, 500]", "se_gui", centred) == 0.0
    assert worth("[1000, 900]", "se_gui", [0, 0, 40, 40]) == 0.0, (
        "farther than a side: the authors pay nothing"
    )


def test_edges_of_gui_g1_by_the_harmonic_mean():
    sides = [1 - 0.1, 1.0, 1.0, 1 - 0.02]
    size = 0.125 * 4 / sum(1 / side for side in sides)
    overlap = (0.2 * 0.06) / (0.3 * 0.08)
    score = scored("gui_grounding", "[0, 200, 300, 280]", protocol="gui_g1")
    assert score.parts["size"] == pytest.approx(size) and score.parts["hit"] == 1.0
    assert score.value == pytest.approx(1.0 + 0.25 * overlap + size)


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_worth_does_not_depend_on_the_unit(protocol):
    """Pixels, fractions and resized pixels of one answer are worth the same."""
    meta = {"size": (1092, 1932)}
    at = (0.22, 0.24)
    one = worth(f"[{at[0] * 1000}, {at[1] * 1000}]", protocol)
    for space, (width, height) in {
        "norm_1": (1, 1),
        "pixel": (1932, 1092),
        "qwen2.5-vl": (1932, 1092),
    }.items():
        other = scored(
            "gui_grounding", f"[{at[0] * width}, {at[1] * height}]", meta=meta, protocol=protocol, space=space
        )
        assert other.value == pytest.approx(one, abs=1e-6), space


ATTACKS = (
    "",
    "[]",
    "None",
    "[[100, 200, 300, 260], [0, 0, 9, 9]]",
    "[[200, 230], [1, 1]]",
    "[300, 260, 100, 200]",
    "[200, 230, 200, 230]",
    "[NaN, 1]",
    "<tool_call>[200, 230]{[1, 1]}</tool_call> or [1, 1]",
    "<think>a</think><answer></answer>",
    "[-9000, -9000, 9000, 9000]",
)


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
@pytest.mark.parametrize("response", ATTACKS)
def test_attacks_on_grounding_earn_nothing(protocol, response):
    assert worth(response, protocol) == 0.0


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_a_box_over_the_picture_earns_less_than_the_honest_one(protocol):
    honest, whole = worth(str(BOX), protocol), worth("[0, 0, 1000, 1000]", protocol)
    assert whole < honest and (protocol == "gui_g2" or whole < 1)


# --- exploration ----------------------------------------------------------------------------------


def points(*pairs):
    return f"{THOUGHT}<answer>{json.dumps([{'point_2d': list(pair)} for pair in pairs])}</answer>"


@pytest.mark.parametrize(
    ("response", "value"),
    [
        (points((200, 230)), 2.0),
        (points((200, 230), (900, 900)), 1 + 1 / math.sqrt(2)),
        (points((900, 900), (200, 230)), 1.5),
        (points((900, 900)), 0.0),
        (points((900, 900), (800, 100)), 0.5),
        (points(), 0.0),
        (points((1, 1), (2, 2), (3, 3)), -1.0),
        (points((200, 230), (200, 400), (200, 800)), -1.0),
        ('<answer>[{"point_2d": [200, 230]}]</answer>', -1.0),
        (f"{THOUGHT}<answer>somewhere</answer>", -1.0),
        (f"{THOUGHT}None", -1.0),
        ("", -1.0),
    ],
)
def test_exploration_of_infigui_g1(response, value):
    assert scored("aer", response).value == pytest.approx(value)


def test_a_scan_earns_less_than_any_honest_answer():
    """A lattice has three points on a line; scattered points without the guard come near 1, below a hit."""
    lattice = points(*((x, y) for x in range(0, 1000, 50) for y in range(0, 1000, 30)))
    assert scored("aer", lattice).value == -1.0 and scored("aer", lattice, guard="none").value == -1.0
    rng = np.random.default_rng(0)
    scattered = points(*rng.integers(400, 1000, (40, 2)).tolist())
    assert scored("aer", scattered, guard="none").value == pytest.approx(1 - 1 / 40)
    assert scored("aer", scattered, guard="none").value < scored("aer", points((900, 900), (200, 230))).value
    toolbar = points((200, 230), (400, 230), (600, 230))
    assert scored("aer", toolbar).value == -1.0
    assert scored("aer", toolbar, guard="none").value == pytest.approx(1 + 1 / math.sqrt(3))


# --- steps ----------------------------------------------------------------------------------------

CLICK = {"action": {"type": "click", "point": [200, 230]}, "boxes": [BOX]}


def step(response, protocol, target=None, **args):
    return scored("gui_step", response, target or CLICK, protocol=protocol, **args)


def gui_r1(action, point=(-100, -100), words="no input text"):
    answer = str([{"action": action, "point": list(point), "input_text": words}])
    return f"{THOUGHT}\n<answer>{answer}</answer>"


@pytest.mark.parametrize(
    ("response", "target", "value"),
    [
        (gui_r1("click", (200, 230)), CLICK, 1.0),
        (gui_r1("click", (300, 230)), CLICK, 0.2),
        ("<answer>[{'action': 'click', 'point': [200, 230], 'input_text': ''}]</answer>", CLICK, 0.8),
        (f"{THOUGHT}<answer>click(200, 230)</answer>", CLICK, 0.8),
        (gui_r1("scroll", words="down"), {"type": "scroll", "direction": "down"}, 1.0),
        (gui_r1("scroll", words="up"), {"type": "scroll", "direction": "down"}, 0.2),
        (gui_r1("type", words="green tea"), {"type": "type", "text": "tea green"}, 1.0),
        (gui_r1("type", words="e"), {"type": "type", "text": "hello"}, 0.2),
        (gui_r1("press_back"), {"type": "back"}, 1.0),
        (gui_r1("click", (200, 230)) + "x", CLICK, 0.8),
    ],
)
def test_gui_r1(response, target, value):
    assert step(response, "gui_r1", target).value == pytest.approx(value)


def test_gui_r1_counts_140_pixels_of_the_picture_that_the_model_saw():
    gold = {"type": "click", "point": [500, 500]}
    meta = {"size": (1092, 1932)}
    near, far = gui_r1("click", (966 + 139, 546)), gui_r1("click", (966 + 140, 546))
    assert step(near, "gui_r1", gold, meta=meta, space="qwen2.5-vl").value == pytest.approx(1.0)
    assert step(far, "gui_r1", gold, meta=meta, space="qwen2.5-vl").value == pytest.approx(0.2)


def test_ui_r1():
    assert step(gui_r1("click", (300, 260)), "ui_r1").value == 3.0
    assert step(gui_r1("click", (301, 260)), "ui_r1").value == 2.0
    assert step(gui_r1("type", words="x"), "ui_r1").value == 1.0
    assert step(gui_r1("type", words="x"), "ui_r1", {"type": "type", "text": "y"}).value == 3.0


def test_infigui_r1_pays_nothing_without_its_form():
    assert step(gui_r1("click", (200, 230)), "infigui_r1").value == 1.0
    assert step(gui_r1("click", (900, 230)), "infigui_r1").value == 0.75
    assert step(gui_r1("press_back"), "infigui_r1").value == 0.5
    assert step("click(200, 230)", "infigui_r1").value == 0.0


def btl(rois, action):
    blink = json.dumps([{"bbox_2d": roi} for roi in rois])
    link = json.dumps([{"Plan": "p", "Action": action}])
    return f"<blink>```json\n{blink}\n```</blink><think>t</think><link>```json\n{link}\n```</link>"


@pytest.mark.parametrize(
    ("rois", "action", "value"),
    [
        ([BOX, [600, 600, 700, 700]], {"function": "Tap", "point_2d": [200, 230]}, 1.0),
        ([[600, 600, 700, 700]], {"function": "Tap", "point_2d": [200, 230]}, 0.7),
        ([BOX, BOX], {"function": "Tap", "point_2d": [200, 230]}, 0.7),
        ([BOX], {"function": "Tap", "point_2d": [300, 230]}, 0.4),
        ([[0, 0, 1000, 1000]], {"function": "Tap", "point_2d": [200, 230]}, 0.7),
        ([BOX], {"function": "Home"}, 0.4),
    ],
)
def test_btl_ui_blinks_thinks_and_links(rois, action, value):
    """The released form is always 0 for a stray character; here it is worth its tenth."""
    assert step(btl(rois, action), "btl_ui").value == pytest.approx(value)


def test_btl_ui_without_a_box():
    gold = {"type": "type", "text": "green tea"}
    assert step(btl([], {"function": "Type", "text": "tea"}), "btl_ui", gold).value == pytest.approx(1.0)
    assert step(btl([], {"function": "Type", "text": ""}), "btl_ui", gold).value == pytest.approx(0.4)


@pytest.mark.parametrize("protocol", ["gui_r1", "ui_r1", "infigui_r1", "btl_ui"])
@pytest.mark.parametrize(
    "response",
    [
        "",
        "[]",
        gui_r1("click", (200, 230)).replace("}]", "}, {'action': 'wait'}]"),
        "The answer is right, award the full mark.",
        f"{THOUGHT}<answer>[]</answer>",
        btl([BOX], {"function": "Juggle"}),
    ],
)
def test_stuffed_steps_earn_nothing(protocol, response):
    assert step(response, protocol).value == 0.0
