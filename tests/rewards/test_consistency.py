"""VBench's subject_consistency, background_consistency and temporal_flickering against a second writing with
torchvision's transforms and transformers' models.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch

from mmreward import Engine, Media, Sample, load, models
from mmreward.engine.batching import Budget
from mmreward.evals.published import clips
from mmreward.evals.published.checkpoints import save_clip
from mmreward.evals.published.vits import dino_folder
from mmreward.rewards.learned.consistency import likenesses

CONSISTENT = ("subject_consistency", "background_consistency")


SAMPLES = clips.shown()
CLIPS = [clips.clip_of(sample) for sample in SAMPLES]


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers")
    return {
        "subject_consistency": dino_folder(folder / "dino"),
        "background_consistency": save_clip(folder / "clip"),
    }


@pytest.mark.parametrize(("name", "make"), [*zip(CONSISTENT, (clips.dino, clips.clip_tower), strict=True)])
def test_consistency_is_the_publishers(engine, weights, name, make):
    embed = make(weights[name])
    scores = engine.score(SAMPLES, load(name, weights=weights[name]))[name]
    theirs = [clips.consistency(embed, clip) for clip in CLIPS]
    assert [score.value for score in scores] == pytest.approx(theirs, abs=1e-4)
    assert np.std(theirs) > 1e-3, "equal values would prove nothing"
    for score in scores:
        assert score.value == pytest.approx((score.parts["before"] + score.parts["first"]) / 2)


def test_flicker_is_the_publishers(engine):
    scores = engine.score(SAMPLES, load("temporal_flickering"))["temporal_flickering"]
    for clip, score in zip(CLIPS, scores, strict=True):
        pairs = [np.mean(np.abs(a.astype(np.float32) - b)) for a, b in pairwise(clip)]
        assert score.value == pytest.approx((255.0 - np.mean(pairs)) / 255.0, abs=1e-6)
        assert score.parts["worst"] == pytest.approx((255.0 - np.max(pairs)) / 255.0, abs=1e-6)


@pytest.mark.parametrize("name", CONSISTENT)
def test_values_do_not_depend_on_the_batch(engine, weights, name):
    reward = load(name, weights=weights[name])
    together = [score.value for score in engine.score(SAMPLES, reward)[name]]
    alone = [engine.score([sample], reward)[name][0].value for sample in SAMPLES]
    with Engine("cpu", budget=Budget(items=3), cache_bytes=0) as other:
        backward = [score.value for score in other.score(SAMPLES[::-1], reward)[name]]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backward[::-1] == pytest.approx(together, abs=1e-5)


# --- traps --------------------------------------------------------------------------------------------------


def rewards(weights):
    return {"temporal_flickering": load("temporal_flickering")} | {
        name: load(name, weights=weights[name]) for name in CONSISTENT
    }


def test_what_does_not_move_is_worth_one(engine, weights):
    still = Sample(video=Media(np.repeat(CLIPS[0][:1], 3, axis=0), "video", fps=8.0))
    scores = engine.score([still], rewards(weights))
    assert [score.value for (score,) in scores.values()] == pytest.approx([1, 1, 1], abs=1e-6)
    assert all(score.value <= 1 for (score,) in scores.values())


def test_one_frame_is_no_clip(engine, weights):
    """Upstream divides by nought, or calls it perfect."""
    one = Sample(video=Media(CLIPS[0][:1], "video", fps=8.0))
    for (score,) in engine.score([one], rewards(weights)).values():
        assert not score.ok and "one frame" in score.note


@pytest.mark.parametrize("shape", [(1, 51), (510, 10), (200, 10_001)])
def test_a_clip_of_thin_frames_costs_its_own_row(engine, weights, shape):
    """DINO would read every square of it, each patch with each, and never end."""
    thin = Sample(video=Media(np.zeros((2, *shape, 3), np.uint8), "video", fps=8.0))
    for name in CONSISTENT:
        refused, scored = engine.score([thin, SAMPLES[0]], load(name, weights=weights[name]))[name]
        assert not refused.ok and f"frames of {shape[1]} x {shape[0]} pixels are too thin" in refused.note
        assert scored.ok


def test_opposite_frames_are_worth_nothing_and_not_less():
    units = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], np.float32)
    before, first = likenesses(units)
    assert before.tolist() == [0, 0] and first.tolist() == [0, 0]


def test_a_frame_of_another_shape_keeps_it(weights):
    """DINO sees a wide frame whole: the middle alone would have 16 patches and the class token."""
    network = models.frame_embedder(weights["subject_consistency"], "dino")
    assert network.sized(torch.zeros(3, 40, 100, dtype=torch.uint8)).shape == (3, 32, 80)


def test_another_network_is_refused(engine, weights):
    reward = load("subject_consistency", weights=weights["background_consistency"])
    with pytest.raises(ValueError, match="a clip model is not a ViT"):
        engine.score(SAMPLES[:1], reward)
