"""Clips scored by picture rewards through `frames=`: which frames, how often decoded, and what fails."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from support.miniature import variants

from mmreward import Media, Sample, Score, Unscorable, list_rewards, load, reward
from mmreward.cli.arguments import parse_reward
from mmreward.engine import clips
from mmreward.loading import resolve

CASES = Path(__file__).parents[1] / "cases" / "media"
MINI = {"reward": "clipscore", "weights": "mini-clip"}


@pytest.fixture(autouse=True)
def nothing_kept():
    clips.forget()
    clips._recounted.clear()


def ramp(count, size=(8, 8)):
    """A clip whose frame n is grey, of level n."""
    return np.stack([np.full((*size, 3), level, np.uint8) for level in range(count)])


def level_reward(name="level", *, higher=True):
    @reward(name, needs=("image",), range=(0.0, 255.0), higher_is_better=higher)
    def factory(refused: int = -1):
        """Grey level of a picture."""

        async def score(sample):
            level = float(sample.image.array().mean())
            if level == refused:
                raise Unscorable("not this one", "na")
            return Score(level, {"twice": 2 * level})

        return score

    return name


@pytest.mark.parametrize(
    ("total", "count", "chosen"),
    [
        (9, 3, [0, 4, 8]),
        (10, 4, [0, 3, 6, 9]),
        (100, 8, [0, 14, 28, 42, 57, 71, 85, 99]),
        (5, 8, [0, 1, 2, 3, 4]),
        (1, 8, [0]),
        (7, 1, [0]),
        (2, 2, [0, 1]),
    ],
)
def test_frames_are_evenly_spaced_and_the_last_is_among_them(total, count, chosen):
    assert clips.numbers(total, count) == chosen


@pytest.mark.parametrize(
    ("frames", "value", "count"), [("mean", 49.5, 8), ("min", 0, 8), ("first", 0, 1), (3, 149.5 / 3, 3)]
)
def test_a_clip_is_scored_by_its_frames_with_their_figures_in_parts(engine, frames, value, count):
    name = level_reward()
    score = engine.score([Sample(video=ramp(100))], {"x": {"reward": name, "frames": frames}})["x"][0]
    levels = clips.numbers(100, count)
    assert score.value == pytest.approx(np.mean(levels) if frames not in ("min", "first") else value)
    assert score.parts["frames"] == count
    assert score.parts["frames_min"] == min(levels) and score.parts["frames_max"] == max(levels)
    assert score.parts["frames_mean"] == pytest.approx(np.mean(levels))
    assert score.parts["twice"] == pytest.approx(2 * score.value)


def test_a_picture_is_scored_as_without_frames(engine, png):
    name = level_reward()
    both = {"plain": {"reward": name}, "framed": {"reward": name, "frames": "mean"}}
    scores = engine.score([Sample(image=png), Sample(image=png, video=ramp(3))], both)
    assert scores["plain"] == scores["framed"]


def test_every_picture_reward_scores_a_clip_at_rest_as_its_picture(engine):
    """By name, with the miniature's weights, through the public option alone."""
    options = {"clipscore": {"weights": "mini-clip"}, "artifact": {"classifier": "mini-artifact"}}
    pixels = Media(CASES / "img_rgba.png").array()
    picture = Sample(prompt="a red circle", image=pixels)
    clip = Sample(prompt="a red circle", video=np.stack([pixels] * 5))
    for name in ("clipscore", "artifact", "saturation", "oracle"):
        plain = {"reward": name, **options.get(name, {})}
        [one] = engine.score([picture], {"x": plain})["x"]
        [whole] = engine.score([clip], {"x": {**plain, "frames": "mean"}})["x"]
        assert one.ok and whole.value == pytest.approx(one.value, abs=1e-5), name


def test_every_registered_picture_reward_takes_the_option():
    pictures = [one for one in list_rewards() if one.arity == "point" and "image" in one.needs]
    assert {"clipscore", "d2_align", "pisces", "harmonic", "artifact", "saturation", "oracle"} <= {
        one.name for one in pictures
    }
    tried = [(info.name, args) for info in pictures for args in variants(info.name)[:1]]
    assert {info.name for info in pictures} - {name for name, _ in tried} <= {
        "iqa"
    }  # whose package is not here
    for name, args in tried:
        loaded = load(name, frames="min", **args)
        assert "shown" in loaded.info.needs and "image" not in loaded.info.needs


def test_the_fingerprint_changes_only_where_frames_are_given():
    plain = load("saturation").fingerprint
    prints = {load("saturation", frames=frames).fingerprint for frames in ("mean", "min", "first", 4)}
    assert plain not in prints and len(prints) == 4
    assert "frames" not in load("saturation").args


def test_yaml_and_the_command_line_name_the_same_reward():
    _, typed = parse_reward("clipscore:weights=mini-clip,frames=mean")
    [typed] = resolve({"clipscore": typed}).values()
    [written] = resolve({"clipscore": {"weights": "mini-clip", "frames": "mean"}}).values()
    assert typed.fingerprint == written.fingerprint
    assert load("clipscore", weights="mini-clip", frames="mean").fingerprint == typed.fingerprint


@pytest.mark.parametrize("frames", [0, 1, True, -3, 2.0, "8", "max", None, 10**9])
def test_another_value_is_refused_by_name(frames):
    with pytest.raises(ValueError, match=r"saturation: frames=.* is none of mean, min, first and no number"):
        load("saturation", frames=frames)


@pytest.mark.parametrize("name", ["preference", "iou", "checklist"])
def test_a_reward_that_scores_no_single_picture_has_no_such_option(name):
    args = {"judge": "mini-vlm"} if name != "iou" else {}
    with pytest.raises(ValueError, match=f"{name} has no argument 'frames'"):
        load(name, frames="mean", **args)


def test_without_the_option_a_clip_is_missing_and_the_note_names_it(engine):
    [score] = engine.score([Sample(prompt="a red circle", video=ramp(3))], {"x": MINI})["x"]
    assert score.status == "missing"
    assert score.note.startswith("the sample has no image") and "frames: mean" in score.note
    [score] = engine.score([Sample(prompt="a red circle")], {"x": MINI})["x"]
    assert score.note == "the sample has no image"


def test_a_frame_that_fails_fails_the_clip_with_its_status(engine):
    name = level_reward()
    rows = [Sample(video=ramp(100)), Sample(video=ramp(3))]
    failed, good = engine.score(rows, {"x": {"reward": name, "refused": 57, "frames": "mean"}})["x"]
    assert (failed.status, failed.note) == ("na", "not this one (frame 58 of 100)")
    assert np.isnan(failed.value)
    assert good.ok


def test_a_damaged_frame_is_never_averaged_away(engine):
    names = ("vid_corrupt2.mp4", "vid_fs_40.mp4", "vid_html.mp4", "vid_trunc.mp4")
    rows = [Sample(prompt="a red circle", video=CASES / name) for name in names]
    for frames in ("mean", "min", 3):
        assert [s.status for s in engine.score(rows, {"x": {**MINI, "frames": frames}})["x"]] == ["error"] * 4


def test_chosen_frames_are_decoded_once_for_all_rewards(engine, monkeypatch):
    asked = []
    decode = Media.frames_at
    monkeypatch.setattr(Media, "frames_at", lambda media, of: asked.append(list(of)) or decode(media, of))
    rewards = {
        "clip": {**MINI, "frames": "mean"},
        "low": {**MINI, "frames": "min"},
        "colour": {"reward": "saturation", "frames": 8},
    }
    path = CASES / "vid_long.mp4"
    rows = [Sample(prompt=prompt, video=path) for prompt in ("a red circle", "a blue square")]
    scores = engine.score(rows, rewards)
    assert all(score.ok for column in scores.values() for score in column)
    assert asked == [clips.numbers(5000, 8)]


def test_a_clip_whose_index_counts_too_many_is_scored_by_what_is_there(engine, monkeypatch):
    name = level_reward()
    clip = Media(ramp(5), "video")
    true, decode = clip.timeline, Media.frames_at
    clip.__dict__["timeline"] = true._replace(frames=50)

    def shorter(media, chosen):
        media.__dict__["timeline"] = true
        return decode(media, [min(number, 4) for number in chosen])

    monkeypatch.setattr(Media, "frames_at", shorter)
    same = Media(ramp(5), "video")
    same.__dict__["timeline"] = true._replace(frames=50)
    scores = engine.score([Sample(video=clip), Sample(video=same)], {"x": {"reward": name, "frames": "mean"}})
    assert [score.value for score in scores["x"]] == [2.0, 2.0]
    assert scores["x"][0].parts["frames"] == 5


def test_a_frame_travels_as_its_pixels_under_its_name():
    shot = clips.spread(Media(ramp(9), "video"), 3)[1]
    again = pickle.loads(pickle.dumps(shot))
    assert type(again) is Media and again.key == shot.key and again.size == shot.size == (8, 8)
    assert np.array_equal(again.array(), shot.array()) and shot.array()[0, 0, 0] == 4


def test_columns_reach_the_clip(engine):
    name = level_reward()
    given = {"reward": name, "frames": "mean", "columns": {"video": "clip"}}
    [score] = engine.score([Sample(meta={"clip": Media(ramp(3), "video")})], {"x": given})["x"]
    assert score.value == 1.0


def test_gradients_of_pictures_stay():
    torch = pytest.importorskip("torch")
    loaded = load("saturation", frames="mean")
    pixels = torch.rand(2, 3, 8, 8, requires_grad=True)
    assert torch.equal(
        loaded.score_tensor(pixels, ["", ""]), load("saturation").score_tensor(pixels, ["", ""])
    )
