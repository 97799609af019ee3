"""VideoScore from a tiny random checkpoint in the published format, against a second writing of the
publisher's script by transformers' own processor and model.
"""

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from mmreward import Engine, Media, Sample, load
from mmreward.engine.batching import Budget
from mmreward.errors import Unavailable
from mmreward.evals.published import readers
from mmreward.evals.published.videoscore import save_videoscore
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


def test_another_checkpoint_is_refused(engine, args, tmp_path):
    copied = save_videoscore(tmp_path / "copy")
    second = tmp_path / "copy" / "model-00002-of-00002.safetensors"
    state = load_file(second)
    save_file({name: one for name, one in state.items() if not name.startswith("score.")}, second)
    with pytest.raises(Unavailable, match=r"no score\.weight"):
        engine.score(SAMPLES[:1], load("videoscore", **copied))
    with pytest.raises(ValueError, match="one frame at least"):
        load("videoscore", **args, max_frames=0)
