"""The frames of a clip that a VLM looks at, and the times it is told, are those of the file."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmreward import Media, models
from mmreward.models.vlms.vision import View, looked_at, named, own_frames, sampled

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


# --- frames that the checkpoint's processor takes itself -----------------------------------------------


def moving(count):
    return np.random.default_rng(count).integers(0, 255, (count, 48, 48, 3), dtype=np.uint8)


@pytest.mark.parametrize("count, fps", [(7, 2.0), (8, 2.0), (5, 4.0), (29, 8.0), (2, 2.0), (3, 24.0)])
def test_do_sample_frames_reads_a_clip_as_transformers_does(vlm_folder, count, fps):
    vlm = models.vlm(vlm_folder, do_sample_frames=True)
    frames, processor = moving(count), vlm.network.processor
    sight = vlm.network.vision.look(Media(frames, "video", fps=fps), vlm.view)
    want = processor(
        text=["<|vision_start|><|video_pad|><|vision_end|>"],
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        video_metadata=[{"total_num_frames": count, "fps": fps}],
        do_sample_frames=True,
        fps=2.0,
        return_tensors="pt",
        **({"cap_pixels_per_frame": True} if hasattr(processor.video_processor, "max_video_tokens") else {}),
    )
    assert sight.grid == tuple(want["video_grid_thw"][0].tolist())
    assert torch.equal(sight.patches, want["pixel_values_videos"])
    ids = processor.tokenizer(sight.text)["input_ids"]  # the placeholders and the times between them
    whole = want["input_ids"][0].tolist()
    assert any(ids == whole[start : start + len(ids)] for start in range(len(whole) - len(ids) + 1))
    cost = vlm.network.vision.frames(Media(frames, "video", fps=fps), vlm.view)[0]
    assert 2 * sight.grid[0] - 1 <= len(cost) <= 2 * sight.grid[0]


def test_an_odd_count_is_read_whole_by_qwen3_vl_and_evenly_by_qwen_vl_utils(vlm_folder):
    """The default is what the model cards' qwen-vl-utils takes; no score changes unless it is asked for."""
    own, usual = (models.vlm(vlm_folder, do_sample_frames=own) for own in (True, False))
    clip = Media(moving(7), "video", fps=2.0)
    assert usual.network.vision.frames(clip, usual.view)[0] == sampled(7, 2.0, None) == [0, 1, 2, 4, 5, 6]
    early = [0, 1, 2, 3, 4, 5]
    even = "Qwen2VL" in type(own.network.processor.video_processor).__name__
    assert own.network.vision.frames(clip, own.view)[0] == (early if even else list(range(7)))
    assert own.fingerprint != usual.fingerprint == models.vlm(vlm_folder).fingerprint
    assert own.network is usual.network


@pytest.mark.parametrize("most", [2, 5, 6])
def test_max_frames_holds_for_frames_that_the_processor_takes(vlm_folder, most):
    videos = models.vlm(vlm_folder).network.processor.video_processor
    before = videos.max_frames
    assert 2 * (most // 2) <= len(own_frames(videos, 40, 4.0, most)) <= most
    assert videos.max_frames == before, "the processor is shared with other handles"


def test_frames_of_a_varying_rate_stay_at_equal_times(vlm_folder):
    videos = models.vlm(vlm_folder).network.processor.video_processor
    media = Media(FOLDER / "vid_vfr.mp4", "video")
    numbers, about = looked_at(media, None, videos)
    own = media.times
    assert [n / about["fps"] for n in about["frames_indices"]] == pytest.approx(
        [own[number] for number in numbers], abs=1e-3
    )
    assert (numbers[0], numbers[-1]) == (0, len(own) - 1)


# --- settings behind the name --------------------------------------------------------------------------


def test_settings_behind_the_name_are_those_of_the_arguments(vlm_folder, tmp_path):
    behind = models.vlm(f"{vlm_folder}?max_frames=6&do_sample_frames=true&max_pixels=4096&min_pixels=64")
    given = models.vlm(vlm_folder, min_pixels=64, max_pixels=4096, max_frames=6, do_sample_frames=True)
    assert behind.view == given.view == View(64, 4096, 6, True)
    assert behind.network is given.network and behind.fingerprint == given.fingerprint
    odd = tmp_path / "what?max_frames=4"
    odd.mkdir()
    assert named(str(odd)) == (str(odd), View())


@pytest.mark.parametrize(
    "weights, said",
    [
        ("m?max_frame=4", "did you mean 'max_frames'"),
        ("m?max_frames=1", "max_frames=1: a clip is read two frames at a time"),
        ("m?max_frames=many", "max_frames=many: expected a whole number"),
        ("m?do_sample_frames=1", "do_sample_frames=1: expected true or false"),
        ("m?max_frames=4&max_frames=8", "max_frames of m is given twice"),
        ("m?max_frames", "bad query field"),
        ("M@http://localhost:1/v1", "do_sample_frames does not apply"),
    ],
)
def test_settings_that_do_not_exist_are_refused(weights, said):
    with pytest.raises(ValueError, match=said):
        models.vlm(weights, do_sample_frames="@" in weights)


def test_slow_clips_are_read_as_by_the_model_cards_without_a_warning(caplog):
    """Of a clip below two frames a second all are taken, which upstream says with a warning per clip."""
    from qwen_vl_utils.vision_process import smart_nframes

    slow = [(total, fps, most) for total in (2, 5, 8, 31) for fps in (0.5, 1.9) for most in (None, 4, 16)]
    numbers = [sampled(*given) for given in slow]
    assert not caplog.records
    for (total, fps, most), found in zip(slow, numbers, strict=True):
        wanted = {"fps": 2.0} | ({} if most is None else {"max_frames": most})
        assert len(found) == smart_nframes(wanted, total_frames=total, video_fps=fps)
