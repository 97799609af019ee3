"""VBench's dynamic_degree and aesthetic_quality against a second writing of its lines, on tiny
checkpoints in the published formats; `imaging_quality` is in test_iqa.py.
"""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmreward import Engine, Media, Sample, load, models
from mmreward.engine.batching import Budget
from mmreward.errors import Unavailable
from mmreward.evals.published import amt, clips
from mmreward.evals.published.raft import NaiveRaft, degree, save_raft
from mmreward.models.flow import Raft

SAMPLES = clips.flowing()
CLIPS = [clips.clip_of(sample) for sample in SAMPLES]


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


@pytest.fixture(scope="module")
def raft(tmp_path_factory):
    return save_raft(tmp_path_factory.mktemp("raft") / "raft-things.pth")


def test_dynamic_degree_is_the_publishers(engine, raft):
    naive = NaiveRaft(raft)
    scores = engine.score(SAMPLES, load("dynamic_degree", file=raft))["dynamic_degree"]
    for clip, score in zip(CLIPS, scores, strict=True):
        speeds, moves = degree(naive, clip)
        assert score.parts["flow"] == pytest.approx(np.mean(speeds), rel=1e-4)
        assert score.parts["moving"] == sum(speed > 1 for speed in speeds)
        assert score.value == moves
    assert np.std([score.parts["flow"] for score in scores]) > 0.01, "equal values would prove nothing"
    assert {score.value for score in scores} == {0, 1}


@pytest.mark.parametrize(
    ("speeds", "value", "graded"),
    [((0.9,) * 15, 0, 0), ((9, 2, 1.1, *(0.5,) * 12), 0, 0.75), ((2,) * 15, 1, 1)],
)
def test_a_quarter_of_the_frames_is_to_move(engine, raft, monkeypatch, speeds, value, graded):
    found = iter(speeds * 2)

    async def fastest(self, before, after):
        return next(found) * 6.0 * (128 / 256.0)

    monkeypatch.setattr(Raft, "fastest", fastest)
    sample = Sample(video=Media(clips.moving((16, 128, 128), 0), "video", fps=8.0))
    for arg, wanted in ((False, value), (True, graded)):
        (score,) = engine.score([sample], load("dynamic_degree", file=raft, graded=arg))["dynamic_degree"]
        assert (score.value, score.parts["wanted"], score.parts["pairs"]) == (wanted, 4, 15)


def test_frames_are_eight_a_second(engine, raft):
    twice = Sample(video=Media(CLIPS[0].repeat(3, 0), "video", fps=24.0))
    one, other = engine.score([SAMPLES[0], twice], load("dynamic_degree", file=raft))["dynamic_degree"]
    assert other.parts == pytest.approx(one.parts, rel=1e-5)


def test_torchvisions_names_are_the_same_network(raft, tmp_path):
    """The publisher's file has `norm3` twice and names of its own."""
    torch.save(models.optical_flow(raft).module.state_dict(), tmp_path / "raft_large.pth")
    copy = models.optical_flow(str(tmp_path / "raft_large.pth")).module.state_dict()
    assert copy.keys() == models.optical_flow(raft).module.state_dict().keys()


def test_the_publishers_size_is_torchvisions():
    """Of the real widths, as raft-things.pth has them: the names of torchvision's raft_large."""
    from torchvision.models.optical_flow import raft_large

    from mmreward.models.flow import _module

    with torch.device("meta"):
        known = raft_large(weights=None, progress=False).state_dict()
        built = _module(known).state_dict()
    assert {k: v.shape for k, v in built.items()} == {k: v.shape for k, v in known.items()}


@pytest.mark.parametrize(
    ("clip", "said"),
    [
        (Media(CLIPS[0][:2], "video", fps=8.0), "too few"),
        (Media(CLIPS[0], "video"), "no frame rate"),
        (Media(clips.moving((4, 120, 200), 1), "video", fps=8.0), "too small for RAFT"),
    ],
)
def test_clips_whose_degree_means_nothing(engine, raft, clip, said):
    """Upstream: moving whatever they show, every frame taken, NaN."""
    (score,) = engine.score([Sample(video=clip)], load("dynamic_degree", file=raft))["dynamic_degree"]
    assert not score.ok and said in score.note


def test_another_file_is_refused(engine, raft, tmp_path):
    state = torch.load(raft, weights_only=True)
    rest = {name: tensor for name, tensor in state.items() if "mask.0" not in name}
    torch.save(rest, tmp_path / "small.pth")
    with pytest.raises(Unavailable, match="no RAFT of the large kind"):
        engine.score(SAMPLES[:1], load("dynamic_degree", file=str(tmp_path / "small.pth")))


# --- motion smoothness --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def between(tmp_path_factory):
    return amt.save_amt(tmp_path_factory.mktemp("amt"))


def test_motion_smoothness_is_the_publishers(engine, between):
    reward, naive = load("motion_smoothness", **between), amt.NaiveAmt(between["file"])
    scores = engine.score(SAMPLES, reward)["motion_smoothness"]
    assert scores[1].value == pytest.approx(amt.smoothness(naive, CLIPS[1]), abs=1e-4)
    assert [score.parts["frames"] for score in scores] == [2, 1, 1]
    assert np.std([score.value for score in scores]) > 1e-3, "equal values would prove nothing"
    assert scores[0].parts["worst"] < scores[0].value
    assert scores[1].parts["worst"] == pytest.approx(scores[1].value)


@pytest.mark.parametrize(
    ("clip", "said"),
    [
        (CLIPS[0][:2], "2 frames have none between two others"),
        (
            clips.moving((3, 112, 200), 1),
            "200 x 112 pixels are too small for AMT, whose shorter side has 113",
        ),
    ],
)
def test_clips_without_a_frame_in_between(engine, between, clip, said):
    (score,) = engine.score(
        [Sample(video=Media(clip, "video"))], load("motion_smoothness", **between)
    ).values()
    assert not score[0].ok and said in score[0].note


def test_another_interpolator_is_refused(engine, between, raft, tmp_path):
    with pytest.raises(Unavailable, match="no AMT-S"):
        engine.score(SAMPLES[:1], load("motion_smoothness", file=raft))
    state = torch.load(between["file"], weights_only=True)["state_dict"]
    torch.save({"state_dict": state | {"synth.weight": torch.ones(1)}}, tmp_path / "large.pth")
    with pytest.raises(Unavailable, match="does not fit"):
        engine.score(SAMPLES[:1], load("motion_smoothness", file=str(tmp_path / "large.pth")))


# --- aesthetic quality --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    return clips.save_rated(tmp_path_factory.mktemp("rated"))


def test_aesthetic_quality_is_the_publishers(engine, rated):
    naive = clips.aesthetic_quality(rated)
    theirs = [naive.value(sample) for sample in SAMPLES]
    scores = engine.score(SAMPLES, load("aesthetic_quality", **rated))["aesthetic_quality"]
    assert [score.value for score in scores] == pytest.approx(theirs, abs=1e-4)
    assert np.std(theirs) > 1e-3, "equal values would prove nothing"


def test_values_do_not_depend_on_the_batch(engine, raft, rated, between):
    rewards = {"aesthetic_quality": rated, "dynamic_degree": {"file": raft}, "motion_smoothness": between}
    for name, args in rewards.items():
        reward = load(name, **args)
        together = [score.parts for score in engine.score(SAMPLES, reward)[name]]
        with Engine("cpu", budget=Budget(items=2), cache_bytes=0) as other:
            backward = [score.parts for score in other.score(SAMPLES[::-1], reward)[name]]
        for one, two in zip(together, backward[::-1], strict=True):
            assert two == pytest.approx(one, abs=1e-5, rel=1e-5)


def test_a_head_of_another_encoder_is_refused(engine, rated, tmp_path):
    save_file({"weight": torch.ones(1, 9), "bias": torch.ones(1)}, tmp_path / "head.safetensors")
    reward = load("aesthetic_quality", **(rated | {"head": str(tmp_path / "head.safetensors")}))
    with pytest.raises(Unavailable, match="takes 9 numbers"):
        engine.score(SAMPLES[:1], reward)
