import numpy as np
import pytest
import torch

from mmreward import Engine, Media, Sample, load, models
from mmreward.mini.world import describe, render, sample_scene


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(3)]
    return [Media(render(scene, 64)) for scene in scenes], str(describe(scenes[0]))


def one(engine, sample, **args):
    return engine.score([sample], load("harmonic", weights="mini-clip", **args))["harmonic"][0]


@torch.no_grad()
def similarities(drawn):
    (image, *references), prompt = drawn
    net = models.clip("mini-clip")
    vectors = net.embed_pixels(torch.stack([m.pixels() for m in (image, *references)]).float() / 255)
    text = net.embed_texts([prompt])[0]
    i = (float(vectors[0] @ (vectors[1] + vectors[2])) / 2 + 1) / 2
    return i, (float(vectors[0] @ text) + 1) / 2


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.7, 1.0])
def test_formula(engine, drawn, balance):
    (image, *references), prompt = drawn
    i, t = similarities(drawn)
    score = one(engine, Sample(prompt=prompt, image=image, inputs=tuple(references)), balance=balance)
    assert score.value == pytest.approx(1 / (balance / i + (1 - balance) / t), abs=1e-5)
    assert (score.parts["references"], score.parts["prompt"]) == pytest.approx((i, t), abs=1e-5)


def test_neither_side_pays_for_the_other(engine, drawn):
    (image, *references), prompt = drawn
    i, t = similarities(drawn)
    score = one(engine, Sample(prompt=prompt, image=image, inputs=tuple(references)), balance=0.5)
    assert min(i, t) < score.value < (i + t) / 2


def test_the_placeholder_is_taken_out(engine, drawn):
    (image, *references), _ = drawn
    plain, marked, other = (
        one(engine, Sample(prompt=prompt, image=image, inputs=tuple(references)))
        for prompt in ("a red circle", "a [V] red circle", "a blue circle")
    )
    assert plain.value == pytest.approx(marked.value, abs=1e-5)
    assert abs(plain.value - other.value) > 1e-4
    kept = one(
        engine, Sample(prompt="a [V] red circle", image=image, inputs=tuple(references)), placeholder=""
    )
    assert kept.value != plain.value
    nothing = one(engine, Sample(prompt="[V]", image=image, inputs=tuple(references)))
    assert (nothing.status, nothing.note) == ("missing", "the prompt is nothing but [V]")


def test_no_references_is_missing(engine, drawn):
    (image, *_), prompt = drawn
    score = one(engine, Sample(prompt=prompt, image=image))
    assert score.status == "missing" and "inputs" in score.note


def test_balance_outside_its_range_is_named():
    with pytest.raises(ValueError, match=r"balance must be from 0 to 1, not 1\.5"):
        load("harmonic", weights="mini-clip", balance=1.5)
