"""Episodes and GUI steps on the report page: strips, curves and clicks."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import browser
from support.pages import read
from support.scored_runs import make_run

from mmreward import Engine, Media, Sample
from mmreward.evals.report.agents import curve, curves_in, strips
from mmreward.evals.report.gui_steps import marks, trajectory
from mmreward.evals.report.report import write_report
from mmreward.types import Score


def frame(folder: Path, name: str, level: int, size: tuple[int, int] = (48, 32)) -> str:
    Image.new("RGB", size, (level, 40, 90)).save(folder / name)
    return name


def test_values_of_frames_are_curves() -> None:
    parts = {
        "frame_0": 0.0,
        "frame_9": 0.5,
        "success_frame_9": 1.0,
        "voc": 0.9,
        "frames": 2.0,
        "last_frame": 3,
    }
    assert curves_in(parts) == {"": {0: 0.0, 9: 0.5}, "success": {9: 1.0}}
    drawn = curve({0: 0.0, 9: 0.5, 20: 1.0}, "progress")
    assert "progress by frame: 0 at frame 0, 1.000 at 20" in drawn.replace("0.000", "0")
    assert drawn.count("<circle") == 3


@pytest.mark.parametrize("values", [{0: 3.0, 1: 3.0}, {5: -7.0, 9: 2.0}, {0: 0.0, 1: 0.0}])
def test_a_curve_stays_within_its_drawing(values) -> None:
    heights = [float(y) for y in re.findall(r'cy="([-\d.]+)"', curve(values))]
    assert all(0 <= y <= 96 for y in heights)


def test_a_strip_has_the_first_and_the_last_frame_of_each_view() -> None:
    pixels = [Media(np.full((8, 8, 3), level, np.uint8)) for level in range(20)]
    steps = tuple(
        {"observation": {"top": one, "wrist": one}, "action": [level]} for level, one in enumerate(pixels)
    )
    rows = strips(Sample(id="e", steps=steps))
    assert [view for view, _ in rows] == ["top", "wrist"]
    numbers = [shot.number for shot in rows[0][1]]
    assert numbers[0] == 0 and numbers[-1] == 19 and len(numbers) == 8
    assert rows[0][1][-1].words == "[19]"


def test_a_clip_shows_the_frames_that_a_reward_looked_at() -> None:
    clip = Media(np.zeros((12, 8, 8, 3), np.uint8), "video")
    [(_, shots)] = strips(Sample(video=clip), (0, 4, 11))
    assert [shot.number for shot in shots] == [0, 4, 11]
    assert strips(Sample(video=clip)) == []


def test_a_page_of_an_episode(tmp_path: Path) -> None:
    steps = [
        {"observation": frame(tmp_path, f"{at}.png", 20 * at), "action": {"move": at}, "thought": "<b>on</b>"}
        for at in range(3)
    ]
    ok = Score(0.8, {"frame_0": 0.0, "frame_1": 0.4, "frame_2": 1.0, "voc": 1.0})
    failed = Score.failed("missing", "no frames")
    out = make_run(tmp_path, {"gvl": [ok, failed]}, [{"steps": steps}, {"steps": []}])
    page = read(write_report(out))
    assert len(page.having("img")) >= 3
    assert '{"move": 2} \u00b7 <b>on</b>' in page.words and "by frame" in page.words
    assert "frame_1" not in page.words and "voc" in page.words


CLICK = {"space": "pixel", "target_space": "pixel"}


@pytest.mark.parametrize(
    ("kind", "response", "target", "points", "words"),
    [
        ("click", "click(24, 16)", {"bbox_2d": [20, 10, 30, 20]}, 1, []),
        ("click", "none", {"bbox_2d": [20, 10, 30, 20]}, 0, ["read as a refusal"]),
        ("click", "(500, 16)", {"kind": "refusal"}, 0, ["nothing is to be clicked", "1 beside the picture"]),
        ("click", "what?", "none such", 0, ["no place in the response", "the target is not drawn"]),
        ("gui_action", "click(24, 16)", {"type": "click", "point": [25, 15]}, 1, ['"click"', "right: "]),
        ("gui_action", "type('tea')", {"type": "type", "text": "tea"}, 0, ['"tea"', "right: "]),
    ],
)
def test_what_a_gui_step_clicks_and_should(kind, response, target, points, words) -> None:
    image = Media(np.zeros((32, 48, 3), np.uint8))
    found = marks(Sample(image=image, response=response, target=target), kind, CLICK)
    assert len(found.points) == points
    for expected in words:
        assert any(expected in one for one in found.words), found.words


BOX = {"bbox_2d": [20, 10, 30, 20]}
CLICKED = {"action": {"type": "click", "point": [25, 15]}, "boxes": [[20, 10, 30, 20]]}


@pytest.mark.parametrize(
    ("kind", "response", "target", "reason"),
    [
        ("click", "click(6, 16)", BOX, "wrong: beside the element, 29.2 % to the left"),
        ("click", "click(36, 26)", BOX, "wrong: beside the element, 12.5 % to the right and 18.8 % below"),
        ("click", "none", BOX, "wrong: it is on the picture"),
        ("click", "click(24, 16)", {"kind": "refusal"}, "wrong: there is nothing to click"),
        ("click", "(24, 16) (2, 2)", BOX, "wrong: 2 places, and one is asked for"),
        ("click", "click(24, 16)", BOX, ""),
        ("gui_action", "click(24, 3)", CLICKED, "wrong: beside the element, 21.9 % above"),
        ("gui_action", "type('tea')", CLICKED, "wrong: type, and click is right"),
        ("gui_action", "type('tea')", {"type": "type", "text": "ice"}, "wrong: text 'tea', not 'ice'"),
        ("gui_action", "click(24, 16)", CLICKED, ""),
    ],
)
def test_why_a_step_is_wrong(kind, response, target, reason) -> None:
    sample = Sample(image=Media(np.zeros((32, 48, 3), np.uint8)), response=response, target=target)
    with Engine("cpu") as engine:
        [score] = engine.score([sample], {kind: CLICK})[kind]
    found = marks(sample, kind, CLICK, score)
    assert [one for one in found.words if one.startswith("wrong")] == ([reason] if reason else [])
    assert found.right is (score.value == 1) and not marks(sample, kind, CLICK).right


@pytest.mark.parametrize(
    ("kind", "response", "target", "reason"),
    [
        (
            "click",
            "click(60, 160)",
            {"bbox_2d": [200, 100, 300, 200]},
            "beside the element, 14 % to the left",
        ),
        ("gui_action", "type('tea')", {"type": "type", "text": "ice"}, "text 'tea', not 'ice'"),
        ("gui_action", "what?", {"type": "type", "text": "ice"}, "no place in the response"),
    ],
)
def test_a_step_without_a_screenshot_says_why_it_is_wrong_too(
    tmp_path: Path, kind, response, target, reason
) -> None:
    row = {"id": "s", "prompt": "Save", "response": response, "target": target}
    with Engine("cpu") as engine:
        [score] = engine.score([Sample(response=response, target=target)], kind)[kind]
    assert score.value == 0
    out = make_run(tmp_path, {kind: [score]}, [row], rewards={kind: {"reward": kind, "args": {}}})
    page = read(write_report(out))
    assert reason in page.words and not page.having("img")


def test_steps_of_an_episode_without_screenshots_say_why_they_are_wrong(tmp_path: Path) -> None:
    """In their places between those that have one, where only some do; and steps that are missing."""
    few = episode(tmp_path, ["click(500, 500)", "click(100, 500)"])
    bare = {**few, "steps": [{"action": step["action"]} for step in few["steps"]]}
    some = {**few, "steps": [few["steps"][0], bare["steps"][1]]}
    with Engine("cpu") as engine:
        samples = [Sample(steps=tuple(one["steps"]), target=one["target"]) for one in (bare, some)]
        scores = engine.score(samples, "gui_episode")["gui_episode"]
    facts = {"gui_episode": {"reward": "gui_episode", "args": {}}}
    html = write_report(make_run(tmp_path, {"gui_episode": scores}, [bare, some], rewards=facts)).read_text()
    for strip, drawn in zip(STRIP.findall(html), (0, 1), strict=True):
        kinds = re.findall(r"<li class=\"(\w+)\">", strip)
        words = [re.sub(r"<[^>]*>", " ", item) for item in strip.split("</li>")]
        assert kinds == ["right", "wrong", "wrong"] and strip.count("<img") == drawn
        assert "click(100, 500)" in words[1] and "30 % to the left" in words[1]
        assert "wrong: missing" in words[2] and "tea" in words[2]


def test_a_box_in_a_response_is_drawn_beside_the_true_one() -> None:
    image = Media(np.zeros((32, 48, 3), np.uint8))
    found = marks(Sample(image=image, response="[12, 8, 24, 16]", target=BOX), "click", CLICK)
    assert found.found[0][:4] == (0.25, 0.25, 0.5, 0.5) and found.points == [(0.375, 0.375)]
    assert found.boxes[0][:4] == pytest.approx((20 / 48, 10 / 32, 30 / 48, 20 / 32))
    assert marks(Sample(image=image, response="click(24, 16)", target=BOX), "click", CLICK).found == []


STRIP = re.compile(r'<ol class="strip screens">(.*?)</ol>', re.DOTALL)


def episode(folder: Path, actions) -> dict:
    """Steps of an agent on screens of their own, beside the right ones."""
    steps = [
        {"observation": frame(folder, f"{at}.png", 20 * at, (100, 60)), "action": action}
        for at, action in enumerate(actions)
    ]
    target = [{"action": {"type": "click", "point": [50, 50]}, "boxes": [[400, 400, 600, 600]]}] * 2
    return {"steps": steps, "target": [*target, {"type": "type", "text": "tea"}]}


@pytest.fixture
def walked(tmp_path: Path) -> Path:
    """A run of an episode that is wrong in its second step and has one too many, and of a right one."""
    wrong = episode(tmp_path, ["click(500, 500)", "click(100, 500)", "type('tea')", "click(1, 1)"])
    right = episode(tmp_path, ["click(500, 500)", "click(450, 550)", "type('tea')"])
    with Engine("cpu") as engine:
        samples = [Sample(steps=tuple(one["steps"]), target=one["target"]) for one in (wrong, right)]
        scores = engine.score(samples, "gui_episode")["gui_episode"]
    assert [score.value for score in scores] == [0, 1]
    facts = {"gui_episode": {"reward": "gui_episode", "args": {}}}
    return make_run(tmp_path, {"gui_episode": scores}, [wrong, right], rewards=facts)


def test_a_trajectory_is_a_strip_of_screens_with_what_was_clicked_and_meant(walked: Path) -> None:
    html = write_report(walked).read_text()
    strips = STRIP.findall(html)
    assert len(strips) == 2
    items = re.findall(r"<li( class=\"\w+\")?>(.*?)</li>", strips[0], re.DOTALL)
    assert [kind.strip() for kind, _ in items] == [
        f'class="{one}"' for one in ("right", "wrong", "right", "wrong")
    ]
    words = [re.sub(r"<[^>]*>", " ", item) for _, item in items]
    assert "beside the element, 30 % to the left" in words[1] and "one step too many" in words[3]
    assert ["<rect" in item for _, item in items] == [True, True, False, False]
    assert all('class="found"' in item for _, item in items[:2])
    assert 'class="wrong"' not in strips[1]


def test_the_first_wrong_step_of_a_long_episode_is_shown() -> None:
    screen = Media(np.zeros((8, 8, 3), np.uint8))
    steps = tuple({"observation": screen, "action": "click(500, 500)"} for _ in range(40))
    right = {"action": {"type": "click", "point": [500, 500]}, "boxes": [[400, 400, 600, 600]]}
    target = [right] * 40
    target[17] = {"type": "scroll", "direction": "down"}
    sample = Sample(steps=steps, target=target)
    found = trajectory(sample, {})
    assert [number for number, one in found.items() if not one.right] == [17]
    assert found[17].words == ["wrong: click, and scroll is right"]
    [(_, shots)] = strips(sample, (), 17)
    assert 17 in [shot.number for shot in shots] and len(shots) <= 9


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on this machine")
def test_the_strip_fits_a_phone_and_is_read_aloud(walked: Path, tmp_path: Path) -> None:
    page = write_report(walked)
    for seen in browser.laid_out(page, tmp_path, (390, 1280)):
        assert not seen["over"] and seen["wide"] <= seen["seen"], seen
    assert browser.audited(page, tmp_path, dark=True) == []


def test_the_page_draws_what_the_reward_read(tmp_path: Path) -> None:
    row = {"id": "s", "image": frame(tmp_path, "screen.png", 200), "response": "click(24, 16)"}
    row |= {"prompt": "Save", "target": {"bbox_2d": [20, 10, 30, 20]}}
    with Engine("cpu") as engine:
        sample = Sample(image=Media(tmp_path / "screen.png"), response=row["response"], target=row["target"])
        [score] = engine.score([sample], {"click": CLICK})["click"]
    assert score.value == 1
    facts = {"click": {"reward": "click", "args": CLICK}}
    out = make_run(tmp_path, {"click": [score]}, [row], rewards=facts)
    page = write_report(out).read_text()
    assert 'class="found" d="M151.0 106.7h18M160.0 97.7v18"' in page and "1 place in the response" in page
