"""VideoScore from a tiny random checkpoint in the published format, against a second writing of the
publisher's script by transformers' own processor and model.
"""

import math

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from mmreward import Engine, Media, Sample, load
from mmreward.engine.batching import Budget
from mmreward.errors import Unavailable
from mmreward.evals.published import readers, scalars
from mmreward.evals.published.videoscore import save_videoscore
from mmreward.models.vlms.videoalign import VideoRater
from mmreward.models.vlms.vision import View
from mmreward.rewards.learned.videoscore import DIMENSIONS

SHAPES = [(3, 40, 48), (7, 30, 90), (1, 64, 33), (5, 40, 48)]
PROMPTS = ["a red circle", 'two "blue" {squares}', "x", "a fox " * 20]


CLIPS = [readers.coarse(*shape, seed) for seed, shape in enumerate(SHAPES)]
SAMPLES = [
    Sample(id=str(n), prompt=prompt, video=Media(frames, "video", fps=8.0))
    for n, (frames, prompt) in enumerate(zip(CLIPS, PROMPTS, strict=True))
]


@pytest.fixture(scope="module")
def args(tmp_path_factory):
    return save_videoscore(tmp_path_factory.mktemp("videoscore"))


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu", cache_bytes=0) as engine:
        yield engine


@pytest.fixture(scope="module")
def published(args):
    return readers.videoscore_ratings(args)


def scored(engine, reward, samples=SAMPLES):
    scores = engine.score(samples, reward)["videoscore"]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return scores


def test_ratings_are_the_publishers(engine, args, published):
    theirs = [published(frames, prompt) for frames, prompt in zip(CLIPS, PROMPTS, strict=True)]
    for score, wanted in zip(scored(engine, load("videoscore", **args)), theirs, strict=True):
        assert [score.parts[name] for name in DIMENSIONS] == pytest.approx(wanted, abs=1e-4)
        assert score.value == pytest.approx(np.mean(wanted), abs=1e-4)
    assert np.std(theirs, axis=0).min() > 0.01, "equal values would prove nothing"


def test_a_longer_clip_is_thinned_by_the_publishers_rule(engine, args, published):
    for most in (2, 3, 6):
        (score,) = scored(engine, load("videoscore", **args, max_frames=most), SAMPLES[1:2])
        assert score.value == pytest.approx(np.mean(published(CLIPS[1], PROMPTS[1], most)), abs=1e-4)


def test_one_dimension_is_the_value(engine, args):
    (score,) = scored(engine, load("videoscore", **args, dimension="dynamic"), SAMPLES[:1])
    assert score.value == score.parts["dynamic"]
    with pytest.raises(ValueError, match="did you mean 'dynamic'"):
        load("videoscore", **args, dimension="dynamics")


def test_values_do_not_depend_on_the_batch(engine, args):
    reward = load("videoscore", **args)
    together = [score.value for score in scored(engine, reward)]
    alone = [scored(engine, reward, [sample])[0].value for sample in SAMPLES]
    with Engine("cpu", budget=Budget(items=3), cache_bytes=0) as other:
        backward = [score.value for score in scored(other, reward, SAMPLES[::-1])]
    assert alone == pytest.approx(together, abs=1e-5)
    assert backward[::-1] == pytest.approx(together, abs=1e-5)


# --- traps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["<image>", "<unk>", "</s>"])
def test_tokens_of_the_models_own_are_refused(engine, args, token):
    """Upstream counts <image> as one frame less, and reads the token before <unk>, its padding."""
    sample = Sample(prompt=f"a {token} fox", video=SAMPLES[0].video)
    (score,) = engine.score([sample], load("videoscore", **args))["videoscore"]
    assert not score.ok and token in score.note


# --- the variant on a Qwen2-VL ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rater(tmp_path_factory):
    return scalars.save_rater(tmp_path_factory.mktemp("rater"))


def test_ratings_on_a_qwen_are_the_publishers(engine, rater):
    rated, samples = readers.rater_ratings(rater), readers.clips()
    scores = scored(engine, load("videoscore", **rater), samples)
    for sample, score in zip(samples, scores, strict=True):
        wanted = rated(sample.video, sample.prompt)
        assert [score.parts[name] for name in DIMENSIONS] == pytest.approx(wanted, abs=1e-4)
        alone = scored(engine, load("videoscore", **rater), [sample])[0]
        assert alone.value == pytest.approx(score.value, abs=1e-5)
    assert np.std([score.value for score in scores]) > 0.01, "equal values would prove nothing"


def test_frames_of_long_clips_are_smaller(rater):
    view = View(None, None)
    sizes = {}
    for count in (16, 64, 256):
        media = Media(np.zeros((count, 720, 1280, 3), np.uint8), "video", fps=8.0)
        sizes[count] = math.prod(VideoRater(rater["weights"]).vision.size(media, view))
    assert sizes[16] == sizes[64] <= 768 * 28 * 28 and sizes[256] <= 192 * 28 * 28


def test_what_the_variant_does_not_take(engine, rater):
    with pytest.raises(ValueError, match="max_frames=8"):
        load("videoscore", **rater, max_frames=8)
    clip = Media(CLIPS[0][:1], "video", fps=8.0)
    (score,) = engine.score([Sample(prompt="x", video=clip)], load("videoscore", **rater))["videoscore"]
    assert not score.ok and "the clip has 1 frames, and 2 are looked at" in score.note


def test_another_checkpoint_is_refused(engine, args, tmp_path):
    copied = save_videoscore(tmp_path / "copy")
    second = tmp_path / "copy" / "model-00002-of-00002.safetensors"
    state = load_file(second)
    save_file({name: one for name, one in state.items() if not name.startswith("score.")}, second)
    with pytest.raises(Unavailable, match=r"no score\.weight"):
        engine.score(SAMPLES[:1], load("videoscore", **copied))
    with pytest.raises(ValueError, match="one frame at least"):
        load("videoscore", **args, max_frames=0)
