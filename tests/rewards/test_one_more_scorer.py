"""One more CLIP-headed scorer is one file of at most 60 lines: counted on those that are here, and shown by
one that this test writes, finds by its name, scores and differentiates.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import mmreward.rewards.learned as room
from mmreward import Engine, Media, Sample, load, registry
from mmreward.evals.published.checkpoints import save_clip
from mmreward.models.encoders import DualEncoder

MOST = 60
HEADED = ("hpsv2", "pickscore", "social_reward")
"""Files of published scorers on a dual encoder, each with its docstring, traps and gradient."""
OWN = '''"""Liking of pictures (a stand-in for the next publisher's): an affine map of CLIP's cosine."""

from ... import models
from ...engine.together import together
from ...registry import reward
from ...tracing import noted
from ...types import Score


@reward("liking", needs=("prompt", "image"), range=(-5.0, 5.0), differentiable=True, licence="MIT")
def liking(weights: str = "somebody/liking", gain: float = 4.0, dtype: str = "float32", resize: str = "pil"):
    """Liking, about -1 to 3: `gain` times the cosine, less one.

    Args:
        weights: a CLIP in transformers format.
        gain: of the cosine.
        dtype: of the towers.
        resize: as for `clipscore`.
    """
    models.needed(weights)
    net = models.clip(weights, dtype=dtype, resize=resize)

    async def score(sample):
        image, text = await together(net.image(sample.image), net.text(sample.prompt))
        cosine = float(image @ text.vector)
        noted("cosine", "{} of picture and prompt", cosine)
        return Score(gain * cosine - 1, {"cosine": cosine, "truncated": float(text.truncated)})

    return score, lambda pixels, prompts: gain * net.similarity(pixels, prompts) - 1
'''


@pytest.fixture
def liking(tmp_path, monkeypatch):
    """The file in the room of learned rewards, for this test."""
    file = tmp_path / "liking.py"
    file.write_text(OWN)
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    spec = importlib.util.spec_from_file_location(f"{room.__name__}.liking", file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return file


def test_files_of_clip_headed_scorers_have_at_most_60_lines(liking):
    files = [Path(room.__file__).parent / f"{name}.py" for name in HEADED]
    counts = {file.name: len(file.read_text().splitlines()) for file in [*files, liking]}
    assert max(counts.values()) <= MOST, counts
    assert all("differentiable=True" in file.read_text() for file in files)


def test_the_file_is_all_that_it_takes(liking, tmp_path, monkeypatch):
    seen, forward = [], DualEncoder.forward

    def counted(network, op, batch):
        vectors = forward(network, op, batch)
        seen.extend([op] * len(vectors))
        return vectors

    monkeypatch.setattr(DualEncoder, "forward", counted)
    weights = save_clip(tmp_path / "clip")
    own, known = load("liking", weights=weights), load("clipscore", weights=weights, resize="pil")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 48, 40, 3), dtype=np.uint8)
    samples = [Sample(id=str(n), prompt="a red circle", image=Media(one)) for n, one in enumerate(pixels)]
    with Engine("cpu") as engine:
        scores = engine.score(samples, {"own": own, "known": known})
    assert sorted(seen) == ["image", "image", "text"], "both rewards look through one tower, once"
    for one, other in zip(scores["own"], scores["known"], strict=True):
        assert one.value == pytest.approx(4 * other.value - 1, abs=1e-5) and one.parts["truncated"] == 0
    whole = torch.rand(1, 3, 40, 40, requires_grad=True)
    own.score_tensor(whole, ["a red circle"]).sum().backward()
    assert whole.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="did you mean 'liking'"):
        load("Liking")
