"""Named scales: a score that is a published constant away from the publisher's number, and says so."""

from dataclasses import replace

import pytest
from PIL import Image

from mmreward import Engine, Media, Sample, Score, list_rewards, load
from mmreward.loading import resolve
from mmreward.scales import SCALES, scaled, scales_of

ROW = Sample(prompt="a red circle", image=Media(Image.new("RGB", (40, 40), (200, 30, 30))))


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def one(engine, **args):
    (score,) = engine.score([ROW], resolve({"s": {"weights": "mini-clip", **args}}))["s"]
    assert score.ok, score.note
    return score


def test_a_scaled_score_is_the_factor_times_the_publishers_number_which_it_keeps(engine):
    plain = one(engine, reward="pickscore")
    score = one(engine, reward="pickscore", scale="pickscore/26")
    assert score.value == pytest.approx(plain.value / 26)
    assert score.parts == {**plain.parts, "raw": plain.value} and "raw" not in plain.parts


def test_the_range_the_fingerprint_and_the_gradient_follow(engine):
    import torch

    plain, other = (
        load("pickscore", weights="mini-clip", **args) for args in ({}, {"scale": "pickscore/26"})
    )
    assert other.info.range == pytest.approx((-100 / 26, 100 / 26))
    assert other.fingerprint != plain.fingerprint and other.args["scale"] == "pickscore/26"
    grads = []
    for reward in (plain, other):
        pixels = torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32).requires_grad_()
        reward.score_tensor(pixels, ["a red circle"]).sum().backward()
        grads.append(pixels.grad)
    torch.testing.assert_close(grads[1] * 26, grads[0])


def test_a_floor_cuts_what_is_below_it(engine):
    plain = load("clipscore", weights="mini-clip")
    for value in (-0.2, 0.3):

        async def fixed(sample, value=value):
            return Score(value)

        reward = scaled(replace(plain, fn=fixed), "clipscore/2.5")
        (score,) = engine.score([ROW], reward)["clipscore"]
        assert score.value == pytest.approx(2.5 * max(value, 0)) and score.parts["raw"] == value
    assert reward.info.range[0] == 0.0


def test_words_before_the_prompt_are_read_by_score_and_by_its_gradient(engine):
    import torch

    plain, scale = load("clipscore", weights="mini-clip"), "clipscore/pyiqa"
    said = [replace(ROW, prompt=prompt) for prompt in (ROW.prompt, f"A photo depicts {ROW.prompt}")]
    without, cosine = (score.value for score in engine.score(said, plain)["clipscore"])
    score = one(engine, reward="clipscore", scale=scale)
    assert cosine != without and score.value == pytest.approx(max(2.5 * cosine, 0), abs=1e-6)
    assert score.parts["raw"] == pytest.approx(cosine, abs=1e-6)
    own, pixels = load("clipscore", weights="mini-clip", scale=scale), torch.full((1, 3, 32, 32), 0.5)
    given, wanted = own.score_tensor(pixels, [ROW.prompt]), plain.score_tensor(pixels, [said[1].prompt])
    torch.testing.assert_close(given, (2.5 * wanted).clamp(min=0))
    blank, long = engine.score([replace(ROW, prompt=" "), replace(ROW, prompt="x " * 80)], own)["clipscore"]
    assert blank.status == "missing" and long.parts["truncated"] == 1.0


def test_a_mark_over_five_is_of_pictures_and_of_the_forms_that_have_it(engine):
    args = {"judge": "mini-vlm", "words": "own", "scale": "unifiedreward/5"}
    reward = load("unifiedreward", form="axes", **args)
    assert reward.info.range == pytest.approx((0.2, 1.0)) and reward.info.needs == ("prompt", "image")
    for mark in (1.0, 2.5, 5.0):

        async def fixed(sample, mark=mark):
            return Score((mark - 1) / 4)

        plain = replace(load("unifiedreward", judge="mini-vlm", words="own"), fn=fixed)
        (score,) = engine.score([ROW], scaled(plain, "unifiedreward/5"))["unifiedreward"]
        assert score.value == pytest.approx(mark / 5)
    with pytest.raises(ValueError, match="unifiedreward/5 is of the forms final, axes, not of edit"):
        load("unifiedreward", form="edit", **args)


def test_a_failure_stays_one(engine):
    reward = load("clipscore", weights="mini-clip", scale="clipscore/30")
    (score,) = engine.score([Sample(prompt="x")], reward)["clipscore"]
    assert score.status == "missing"


def test_frames_are_scaled_after_they_were_brought_together(engine):
    import numpy as np

    clip = Media(np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8), "video", fps=4.0)
    row = Sample(prompt="a red circle", video=clip)
    args = {"weights": "mini-clip", "frames": "min"}
    (plain,) = engine.score([row], load("clipscore", **args))["clipscore"]
    (score,) = engine.score([row], load("clipscore", **args, scale="clipscore/30"))["clipscore"]
    assert score.value == pytest.approx(plain.value * 100 / 30) and score.parts["raw"] == plain.value


@pytest.mark.parametrize(
    ("name", "scale", "said"),
    [
        ("hpsv2", "pickscore/26", "hpsv2 has no scale 'pickscore/26': it is of pickscore"),
        ("pickscore", "pickscore/62", "did you mean 'pickscore/26'"),
        ("pickscore", 26, "pickscore has no scale 26"),
        ("clip_i", "clip_i/2", "clip_i has none; a factor of your own is a weight"),
    ],
)
def test_what_is_no_scale_of_a_reward_is_refused(name, scale, said):
    with pytest.raises(ValueError, match=said):
        load(name, weights="mini-clip", scale=scale)


def test_every_scale_is_of_a_reward_of_one_sample_and_says_whose_it_is():
    infos = {info.name: info for info in list_rewards()}
    for name, scale in SCALES.items():
        assert name.startswith(f"{scale.reward}/") and scale.users and scale.factor > 0
        assert infos[scale.reward].arity == "point"
    assert list(scales_of("pickscore")) == ["pickscore/26"]
