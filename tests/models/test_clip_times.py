"""The frames of a clip that a VLM looks at, and the times it is told, are those of the file."""

from pathlib import Path

import numpy as np
import pytest

from mmreward import Media
from mmreward.models.vlms.vision import looked_at, sampled

FOLDER = Path(__file__).parents[1] / "cases" / "media"


def seconds(name):
    numbers, about = looked_at(Media(FOLDER / name, "video"), None)
    return numbers, [number / about["fps"] for number in about["frames_indices"]]


def test_one_clip_in_two_formats_is_seen_alike():
    assert seconds("fps_c.gif") == seconds("fps_c.webp")


def test_frames_of_a_varying_rate_are_taken_at_equal_times():
    numbers, times = seconds("vid_vfr.mp4")
    own = Media(FOLDER / "vid_vfr.mp4", "video").times
    assert times == pytest.approx([own[number] for number in numbers], abs=1e-3)
    assert times[0] == 0 and times[-1] == pytest.approx(4.3, abs=1e-3)
    assert len(numbers) == len(set(numbers)) or max(np.diff(numbers)) >= 1


def test_frames_of_an_even_rate_are_taken_by_number():
    numbers, times = seconds("vid_fs.mp4")
    assert numbers == sampled(64, 8.0, None) and times == [number / 8 for number in numbers]


def test_long_clips_are_looked_at_in_part():
    numbers, _ = seconds("vid_long.mp4")
    assert len(numbers) == 332 and (numbers[0], numbers[-1]) == (0, 4999)


def test_the_one_frame_of_a_clip_is_looked_at_twice():
    assert seconds("vid_one.mp4")[0] == [0, 0]
