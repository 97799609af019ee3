"""ViCLIP from a tiny random file in the published format, against a second writing of its graph."""

import numpy as np
import pytest
import torch

from mmreward import Engine, Sample, load
from mmreward.engine.batching import Budget
from mmreward.errors import Unavailable
from mmreward.evals.published import clips
from mmreward.evals.published.internvideo import cropped
from mmreward.evals.published.viclip import SIDE, NaiveViclip, cosine, middle_frames, save_viclip
from mmreward.models.viclip import middles

SAMPLES = clips.told()
CLIPS = [clips.clip_of(sample) for sample in SAMPLES]
PROMPTS = clips.PROMPTS


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return save_viclip(tmp_path_factory.mktemp("viclip") / "ViClip-InternVid-10M-FLT.pth")


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


def test_cosines_are_the_publishers(file, engine):
    naive = NaiveViclip(file)
    scores = engine.score(SAMPLES, load("viclip", file=file))["viclip"]
    theirs = [cosine(naive, clip, prompt) for clip, prompt in zip(CLIPS, PROMPTS, strict=True)]
    assert [score.value for score in scores] == pytest.approx(theirs, abs=1e-4)
    assert np.std(theirs) > 0.02, "equal values would prove nothing"
    assert [score.parts["truncated"] for score in scores] == [0, 0, 0, 1, 0]


def test_cosines_are_those_of_t2v_turbo(file, engine):
    """Whose longer side is rounded, where VBench's is cut."""
    naive = NaiveViclip(file)
    shown = [cropped(clip, seed=3, side=SIDE) for clip in CLIPS]
    theirs = [float(naive.vision(f) @ naive.text(text)) for f, text in zip(shown, PROMPTS, strict=True)]
    reward = load("viclip", file=file, protocol="t2v_turbo", seed=3)
    scores = engine.score(SAMPLES, reward)["viclip"]
    assert [score.value for score in scores] == pytest.approx(theirs, abs=1e-5)


def test_values_do_not_depend_on_the_batch(file, engine):
    reward = load("viclip", file=file)
    together = [score.value for score in engine.score(SAMPLES, reward)["viclip"]]
    alone = [engine.score([sample], reward)["viclip"][0].value for sample in SAMPLES]
    with Engine("cpu", budget=Budget(items=2), cache_bytes=0) as other:
        backward = [score.value for score in other.score(SAMPLES[::-1], reward)["viclip"]]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backward[::-1] == pytest.approx(together, abs=1e-5)


# --- traps --------------------------------------------------------------------------------------------------


def test_a_random_crop_can_be_had_again(file, engine):
    """Upstream's cannot."""
    values = {}
    for seed in (0, 0, 1, 2, 3):
        reward = load("viclip", file=file, protocol="t2v_turbo", seed=seed)
        (score,) = engine.score(SAMPLES[:1], reward)["viclip"]
        assert values.setdefault(seed, score.value) == pytest.approx(score.value, abs=1e-5)
    assert len(set(values.values())) > 1
    (middle,) = engine.score(SAMPLES[:1], load("viclip", file=file))["viclip"]
    assert middle.value not in values.values()


@pytest.mark.parametrize("total", [1, 2, 7, 8, 9, 16, 31, 300])
def test_frames_in_the_middle_of_equal_stretches(total):
    assert middles(total, 8) == middle_frames(np.arange(total)).tolist()


def test_two_long_prompts_have_different_scores(file, engine):
    """Their end token is kept; a cut without it reads the first token, which has seen nothing."""
    samples = [Sample(prompt=f"a {word} " * 60, video=SAMPLES[0].video) for word in ("fox", "house")]
    one, other = engine.score(samples, load("viclip", file=file))["viclip"]
    assert abs(one.value - other.value) > 1e-4


def test_another_file_is_refused(file, engine, tmp_path):
    state = torch.load(file, weights_only=True)["model"]
    for name, said in (
        ("vision_encoder.proj", "no 'vision_encoder.proj'"),
        ("text_encoder.ln_final.bias", "missing"),
    ):
        rest = {key: tensor for key, tensor in state.items() if key != name}
        torch.save({"model": rest}, tmp_path / f"{name}.pth")
        with pytest.raises(Unavailable, match=said):
            engine.score(SAMPLES[:1], load("viclip", file=str(tmp_path / f"{name}.pth")))
