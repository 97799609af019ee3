"""Trajectories: what steps hold, which frames a rule picks, and frames of steps and clips alike."""

import asyncio
import pickle

import av
import numpy as np
import pytest

from mmreward import Media, Sample, Unscorable
from mmreward.engine.episodes import frames_of, views
from mmreward.isolation.protocol import pack_sample, unpack_sample
from mmreward.streams import Cut, Frame
from mmreward.tracing import listening
from mmreward.trajectories import check_rule, column, picked, seen_in, told, views_of
from mmreward.types import oversized


def grey(level: int, size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), level, np.uint8)


def seen(sample: Sample, rule: str = "all", **options: object):
    return asyncio.run(frames_of(sample, rule, **options))  # type: ignore[arg-type]


def levels(episode) -> list[int]:
    return [round(float(one.still().mean())) for one in episode.pictures]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A file of 30 grey frames, ten a second, with a key frame every 7 and B frames between."""
    path = tmp_path_factory.mktemp("film") / "file-000.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.options = {"g": "7", "crf": "1"}
        for number in range(30):
            for packet in stream.encode(av.VideoFrame.from_ndarray(grey(20 + 6 * number, 32), "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


# --- rules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "rule", "numbers"),
    [
        (32, "8", [0, 4, 9, 13, 18, 22, 27, 31]),  # Robometer's list; rounded down, scores shift visibly
        (32, "8 floor", [0, 4, 8, 13, 17, 22, 26, 31]),
        (3, "8", [0, 1, 2]),
        (9, "1", [8]),
        (9, "2", [0, 8]),
        (1, "5", [0]),
        (12, "every 5", [0, 5, 10, 11]),
        (11, "every 5", [0, 5, 10]),
        (4, "all", [0, 1, 2, 3]),
        (4, "last", [3]),
    ],
)
def test_rules_pick_these_frames_and_the_last_is_always_one(total, rule, numbers):
    assert picked(total, rule) == numbers


def test_a_rate_picks_by_the_times_and_not_by_the_numbers():
    slow_then_fast = [0.0, 1.0, 2.0, 2.1, 2.2, 2.3]
    assert picked(6, "1 fps", slow_then_fast) == [0, 1, 2, 5]
    assert picked(31, "1 fps", [number / 10 for number in range(31)]) == [0, 10, 20, 30]
    with pytest.raises(Unscorable, match="nothing says when"):
        picked(6, "1 fps")


@pytest.mark.parametrize(
    "rule", ["", "0", "-1", "8.5", "every 0", "0 fps", "first", None, 0, True, 1.5, "8 ceil"]
)
def test_what_is_no_rule_is_refused_with_those_there_are(rule):
    with pytest.raises(ValueError, match="'every 5'"):
        check_rule(rule)


def test_a_number_is_a_rule_too():
    assert check_rule(8) == check_rule("8") == "8"


def test_no_frames_are_no_pick():
    with pytest.raises(Unscorable, match="no frames"):
        picked(0, "all")


# --- steps --------------------------------------------------------------------------------------------------


def test_observations_become_media_and_other_keys_stay():
    views = {"top": grey(1), "wrist": grey(2)}
    sample = Sample(
        steps=[{"observation": views, "action": [0, 1], "time": 0.5}, {"thought": "done"}, "text"]
    )
    assert [(one.step, one.view) for one in seen_in(sample.steps)] == [(0, "top"), (0, "wrist")]
    assert all(isinstance(one.media, Media) for one in seen_in(sample.steps))
    assert views_of(sample.steps) == ("top", "wrist") and column(sample.steps, "action") == [
        [0, 1],
        None,
        None,
    ]
    assert [name for name, _ in sample.media()] == ["step 0, view 'top'", "step 0, view 'wrist'"]


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"observation": 3}], "step 0: observation is 3, not a path or a picture"),
        ([{}, {"observation": {"top": 3}}], "step 1, view 'top': observation is 3"),
        ("abc", "steps is str"),
        ({"observation": "a.png"}, "steps is dict"),
    ],
)
def test_what_is_no_step_is_refused_by_its_number(steps, words):
    with pytest.raises(ValueError, match=words):
        Sample(steps=steps)


def test_a_trajectory_of_too_many_steps_is_refused():
    sample = Sample(steps=tuple({"action": 0} for _ in range(16_385)))
    assert oversized(sample) == "there are 16385 steps; the limit is 16384 (limits.steps)"


def test_long_trajectories_are_told_by_their_ends():
    sample = Sample(steps=[{"observation": grey(0), "action": number} for number in range(40)])
    words = told(sample.steps, str)
    assert words.startswith("40 steps, seen in one view\n0  observation: ndarray, action: 0")
    assert words.count("\n") == 6 and "\n...\n38  " in words and "\n39  " in words


# --- frames -------------------------------------------------------------------------------------------------


def test_frames_of_steps_by_view_with_their_steps_and_times():
    steps = [
        {"observation": {"top": grey(10 * n), **({"wrist": grey(200 + n)} if n % 2 else {})}, "time": n / 2}
        for n in range(6)
    ]
    sample = Sample(steps=steps)
    assert views(sample) == ("top", "wrist")
    top = seen(sample, "3", view="top")
    assert (levels(top), top.numbers, top.times, top.total) == ([0, 20, 50], (0, 2, 5), (0.0, 1.0, 2.5), 6)
    wrist = seen(sample, "2", view="wrist")
    assert (levels(wrist), wrist.numbers, wrist.total) == ([201, 205], (1, 5), 3)
    assert seen(sample, "1 fps", view="top").numbers == (0, 2, 4, 5)
    assert seen(sample, "all", view="top", at_most=2).numbers == (0, 5)
    with pytest.raises(Unscorable, match="top, wrist: name one view"):
        seen(sample)
    with pytest.raises(Unscorable, match="no step has a view 'front'; there is 'top', 'wrist'"):
        seen(sample, view="front")


def test_frames_of_a_clip_and_of_a_picture():
    clip = Media(np.stack([grey(n) for n in range(9)]), "video", fps=3.0)
    found = seen(Sample(video=clip), "3")
    assert (levels(found), found.numbers, found.total) == ([0, 4, 8], (0, 4, 8), 9)
    assert found.times == pytest.approx((0, 4 / 3, 8 / 3))
    one = seen(Sample(image=grey(7)))
    assert levels(found.evened()) == [0, 4, 8, 8]
    assert (levels(one), levels(one.evened()), one.times) == ([7], [7, 7], (0.0,))
    with pytest.raises(Unscorable, match="no steps with an observation") as error:
        seen(Sample(prompt="x", steps=({"action": 1},)))
    assert error.value.status == "missing"


def test_picked_frames_are_a_clip_again_with_their_mean_rate():
    clip = Media(np.stack([grey(n) for n in range(9)]), "video", fps=4.0)
    again = seen(Sample(video=clip), "3").clip()
    assert again.frames == 3 and again.fps == 1.0 and again.array().mean((1, 2, 3)).tolist() == [0, 4, 8]


def test_an_explanation_hears_which_frames_were_looked_at():
    with listening() as notes:
        seen(Sample(video=Media(np.stack([grey(n) for n in range(9)]), "video", fps=4.0)), "3")
    assert [(note.name, note.words) for note in notes] == [("frames", "[0, 4, 8] by the rule '3', of 9")]


# --- parts of files -----------------------------------------------------------------------------------------


def test_a_cut_is_the_frames_between_two_times_and_no_others(film):
    part = Media(Cut(film, 1.0, 1.8), "video")
    assert (part.frames, part.fps, part.size) == (8, 10.0, (32, 32))
    assert part.times == pytest.approx([n / 10 for n in range(8)])
    whole = Media(film, "video").array()
    assert np.array_equal(part.array(), whole[10:18])
    assert np.array_equal(part.frames_at([7, 0]), whole[[17, 10]])
    assert np.array_equal(Media(Frame(part, 7)).array(), whole[17])
    parts = [Media(Cut(film, start, start + 0.5), "video").frames for start in np.arange(0, 3, 0.5)]
    assert parts == [5] * 6, "every frame belongs to one clip"


def test_parts_of_a_file_have_names_of_their_own(film):
    one, other = (Media(Cut(film, start, start + 1.0), "video") for start in (0.0, 1.0))
    assert one.key != other.key and one.digest != other.digest
    assert one.key == Media(Cut(film, 0.0, 1.0), "video").key
    assert Media(Frame(one, 1)).key != Media(Frame(one, 2)).key
    assert Media(Frame(one, 1)).size == (32, 32) and "file-000.mp4 0-1 s" in repr(Media(Frame(one, 1)))


def test_a_cut_beyond_the_file_says_so(film):
    with pytest.raises(Unscorable, match=r"no frames in .*file-000.mp4 8-9 s"):
        _ = Media(Cut(film, 8.0, 9.0), "video").frames


def test_frames_of_one_clip_are_decoded_together(film, monkeypatch):
    clip = Media(Cut(film, 1.0, 2.0), "video")
    sample = Sample(steps=[{"observation": Media(Frame(clip, n))} for n in range(10)])
    calls = []
    decode = Media.frames_at
    monkeypatch.setattr(Media, "frames_at", lambda self, n: calls.append(list(n)) or decode(self, n))
    assert levels(seen(sample, "4")) == pytest.approx([80, 98, 116, 134], abs=2)
    assert calls == [[0, 3, 6, 9]]


def test_a_part_of_a_file_travels_as_its_frames(film):
    clip = Media(Cut(film, 0.0, 0.3), "video")
    again = pickle.loads(pickle.dumps(clip))
    assert np.array_equal(again.array(), clip.array())


def test_a_trajectory_is_sent_to_another_process_as_its_pictures(film):
    clip = Media(Cut(film, 1.0, 1.5), "video")
    steps = [{"observation": {"top": Media(Frame(clip, n))}, "action": [n], "time": n / 10} for n in range(5)]
    blobs = []
    again = unpack_sample(pack_sample(Sample(prompt="push", steps=steps), blobs), blobs)
    assert column(again.steps, "action") == [[n] for n in range(5)]
    for one, other in zip(seen_in(again.steps), seen_in(steps), strict=True):
        assert one.view == "top" and np.array_equal(one.media.still(), other.media.still())


def test_a_notebook_shows_the_first_and_the_last_step():
    steps = [{"observation": {"top": grey(9 * n), "wrist": grey(n)}} for n in range(5)]
    html = Sample(prompt="push", steps=steps)._repr_html_()
    assert html.count("<img") == 4 and "5 steps, seen in top, wrist" in html
