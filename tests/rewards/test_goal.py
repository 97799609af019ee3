"""Closeness to a goal against the published formula, written with matrices as its authors do."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmreward import Engine, Media, Sample, load, models

GOAL, BASELINE = "a red circle", "a picture"


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def picture(colour):
    return Image.new("RGB", (64, 64), colour)


def embedded(engine, media=None, text=None):
    net = models.clip("mini-clip", resize="pil")
    vector = engine.run(net.image(Media(media)) if text is None else net.text(text))
    return np.asarray(vector if text is None else vector.vector, dtype=float)


def published(state, goal, baseline, alpha):
    """As in the authors' reward model: a projection matrix, applied to the difference."""
    line = goal - baseline
    projection = np.outer(line, line) / (np.linalg.norm(line) ** 2)
    matrix = alpha * projection + (1 - alpha) * np.eye(len(line))
    return 1 - np.linalg.norm((state - goal) @ matrix) ** 2 / 2


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["prompt", "picture"])
def test_the_published_formula(engine, alpha, kind, tmp_path):
    place = tmp_path / "before.png"
    picture("white").save(place)
    other = picture("blue")
    baseline = BASELINE if kind == "prompt" else str(place)
    reward = load("goal", goal=kind, baseline=baseline, alpha=alpha, weights="mini-clip")
    samples = [
        Sample(id=colour, prompt=GOAL, image=Media(picture(colour)), inputs=(Media(other),))
        for colour in ("red", "green", "gray")
    ]
    scores = engine.score(samples, reward)["goal"]
    origin = embedded(engine, text=BASELINE) if kind == "prompt" else embedded(engine, picture("white"))
    target = embedded(engine, text=GOAL) if kind == "prompt" else embedded(engine, other)
    for colour, score in zip(("red", "green", "gray"), scores, strict=True):
        state = embedded(engine, picture(colour))
        assert score.value == pytest.approx(published(state, target, origin, alpha), abs=1e-5)
        assert score.parts["cosine"] == pytest.approx(state @ target, abs=1e-5)


def test_without_a_baseline_it_is_the_cosine_and_at_the_goal_1(engine):
    (score,) = engine.score(
        [Sample(prompt=GOAL, image=Media(picture("red")))], load("goal", weights="mini-clip")
    )["goal"]
    assert score.value == pytest.approx(score.parts["cosine"], abs=1e-6)
    same = Sample(image=Media(picture("red")), inputs=(Media(picture("red")),))
    (there,) = engine.score([same], load("goal", goal="picture", weights="mini-clip"))["goal"]
    assert there.value == pytest.approx(1, abs=1e-6)


def test_by_tensor_it_is_the_same_and_has_a_gradient(engine):
    given = {"baseline": BASELINE, "alpha": 0.7, "weights": "mini-clip", "resize": "tensor"}
    reward = load("goal", **given)
    rng = np.random.default_rng(0)
    arrays = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    samples = [Sample(id=str(i), prompt=GOAL, image=Media(array)) for i, array in enumerate(arrays)]
    values = [score.value for score in engine.score(samples, reward)["goal"]]
    pixels = (torch.tensor(arrays).permute(0, 3, 1, 2) / 255).requires_grad_()
    out = reward.score_tensor(pixels, [GOAL, GOAL])
    assert out.tolist() == pytest.approx(values, abs=1e-4)
    out.sum().backward()
    assert pixels.grad.abs().sum() > 0


def test_what_is_missing_or_makes_no_sense_is_said(engine):
    image = Media(picture("red"))

    def failed(sample, **given):
        (score,) = engine.score([sample], load("goal", weights="mini-clip", **given), check=False)["goal"]
        assert not score.ok
        return score

    assert failed(Sample(image=image)).status == "missing"
    assert failed(Sample(prompt="x", image=image), goal="picture").status == "missing"
    same = failed(Sample(prompt=BASELINE, image=image), baseline=BASELINE)
    assert "no line leads to the goal" in same.note
    with pytest.raises(ValueError, match=r"alpha is 1\.5"):
        load("goal", alpha=1.5, weights="mini-clip")
