"""Scores of float pixels with a gradient, against the scores of the same pictures."""

import asyncio

import numpy as np
import pytest
import torch

from mmreward import Media, Sample, load, models
from mmreward.mini.world import describe, render, sample_scene
from mmreward.models.vlms.vision import View, patches_of

YES_NO = ("yes", "no")
QUESTIONS = {"match": "Is this {prompt}? Answer yes or no.", "red": "Is there red? Answer yes or no."}


def scenes(size, count=3):
    rng = np.random.default_rng(4)
    drawn = [sample_scene(rng) for _ in range(count)]
    pixels = torch.stack([Media(render(scene, size)).pixels() for scene in drawn])
    return pixels, [str(describe(scene)) for scene in drawn]


def scored(engine, reward, pixels, prompts):
    samples = [Sample(prompt=p, image=Media(x)) for p, x in zip(prompts, pixels, strict=True)]
    (column,) = engine.score(samples, reward).values()
    return torch.tensor([score.value for score in column])


def slope(fn, pixels, way, step):
    """The change of sum(fn) along `way`, by differences."""
    with torch.no_grad():
        return float(fn(pixels + step * way).sum() - fn(pixels - step * way).sum()) / (2 * step)


REWARDS = [
    pytest.param("artifact", {"classifier": "mini-artifact"}, id="artifact-classifier"),
    pytest.param("artifact", {"judge": "mini-vlm"}, id="artifact-judge"),
    pytest.param("checklist", {"judge": "mini-vlm", "soft": True, "questions": QUESTIONS}, id="checklist"),
    pytest.param("clipscore", {"weights": "mini-clip"}, id="clipscore"),
]


@pytest.mark.parametrize(("name", "args"), REWARDS)
@pytest.mark.parametrize(("size", "atol"), [(64, 1e-4), (32, 2e-3)])
def test_the_numbers_are_those_of_the_score(engine, name, args, size, atol):
    """At 64 pixels nothing is resized; pictures of 32 are enlarged in 8 bits by one path alone."""
    reward = load(name, **args)
    assert reward.info.differentiable
    pixels, prompts = scenes(size)
    values = reward.score_tensor(pixels.float() / 255, prompts)
    torch.testing.assert_close(values, scored(engine, reward, pixels, prompts), atol=atol, rtol=0)


@pytest.mark.parametrize(("name", "args"), REWARDS)
def test_the_gradient_is_the_slope_and_every_row_has_its_own(name, args):
    reward = load(name, **args)
    pixels, prompts = scenes(32)
    # Noise makes the judges unsure: a score at its limit has next to no slope.
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    pixels = (pixels / 255 * 0.6 + 0.2 + 0.15 * noise).clamp(0.05, 0.95).requires_grad_()
    reward.score_tensor(pixels, prompts).sum().backward()
    assert (pixels.grad.abs().amax((1, 2, 3)) > 0).all()
    way = pixels.grad / pixels.grad.norm()
    along = slope(lambda x: reward.score_tensor(x, prompts), pixels.detach(), way, step=1e-2)
    assert along == pytest.approx(float(pixels.grad.norm()), rel=0.05)
    alone = pixels.detach()[1:2].requires_grad_()
    reward.score_tensor(alone, prompts[1:2]).sum().backward()
    torch.testing.assert_close(alone.grad[0], pixels.grad[1], atol=1e-4, rtol=1e-2)


def test_every_family_reads_pixels_as_it_reads_pictures(engine, vlm_folder):
    vlm = models.vlm(vlm_folder)
    pixels, _ = scenes(64, 2)
    pixels = (pixels + torch.randint(0, 60, pixels.shape, generator=torch.Generator().manual_seed(1))).clamp(
        max=255
    )
    pixels = pixels.to(torch.uint8)
    asked = [["Is there a circle?", "Is it red, and is it large?"], ["Is there a circle?", "Is it there?"]]

    async def work():
        pairs = [
            (Media(picture), text) for picture, texts in zip(pixels, asked, strict=True) for text in texts
        ]
        return await asyncio.gather(*(vlm.read(media, text, YES_NO) for media, text in pairs))

    want = engine.run(work())
    given = (pixels.float() / 255).requires_grad_()
    probs, mass = vlm.read_pixels(given, asked, YES_NO)
    assert probs.shape == (2, 2, 2) and mass.shape == (2, 2)
    expected = torch.tensor([[read.probs[label] for label in YES_NO] for read in want]).reshape(2, 2, 2)
    torch.testing.assert_close(probs.detach(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        mass.detach().flatten(), torch.tensor([read.mass for read in want]), atol=1e-5, rtol=1e-3
    )
    probs[..., 0].sum().backward()
    assert (given.grad.abs().amax((1, 2, 3)) > 0).all()


def test_what_was_read_before_without_a_gradient_changes_nothing(engine):
    """The tower's features are kept for pictures; pixels must not be answered from them, nor kept."""
    vlm = models.vlm("mini-vlm")
    (picture,), _ = scenes(64, 1)
    engine.run(vlm.read(Media(picture), "Is there a circle?", YES_NO))
    for _ in range(2):
        given = (picture[None] / 255).requires_grad_()
        vlm.read_pixels(given, [["Is there a circle?"]], YES_NO).probs[0, 0, 0].backward()
        assert given.grad.abs().sum() > 0


@pytest.mark.parametrize("size", [(64, 64), (32, 128)])
def test_patches_are_those_of_the_image_processor(size):
    images = models.vlm("mini-vlm").network.processor.image_processor
    pixels = torch.randint(
        0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(2), dtype=torch.uint8
    )
    want = images(images=list(pixels), do_resize=False, return_tensors="pt")
    values, grid = patches_of(pixels.float() / 255, size, images)
    torch.testing.assert_close(values, want["pixel_values"], atol=1e-5, rtol=1e-5)
    assert [list(grid)] * 2 == want["image_grid_thw"].tolist()


def test_the_limits_on_pixels_hold_for_tensors_too():
    small, large = (models.vlm("mini-vlm", min_pixels=p, max_pixels=p) for p in (1024, 4096))
    pixels, _ = scenes(64, 1)
    given = pixels / 255
    features = [
        vlm.network.vision.encode_pixels(vlm.network.module.model, given, vlm.view) for vlm in (small, large)
    ]
    assert [next(iter(each)).grid for each in features] == [(1, 4, 4), (1, 8, 8)]
    assert small.view == View(1024, 1024)


def test_an_unanswered_question_is_nan_or_wrong_as_in_the_score(engine):
    pixels, prompts = scenes(64, 2)
    odd = {"odd": "a red circle"}
    for name, args in (
        ("artifact", {"question": "a red circle"}),
        ("checklist", {"questions": odd, "soft": True}),
    ):
        reward = load(name, judge="mini-vlm", min_mass=1.0, **args)
        given = (pixels / 255).requires_grad_()
        values = reward.score_tensor(given, prompts)
        torch.testing.assert_close(
            values.detach(), scored(engine, reward, pixels, prompts), equal_nan=True, atol=1e-4, rtol=0
        )
        values.nansum().backward()
        assert given.grad.abs().sum() == 0
    assert values.tolist() == [0, 0]


def test_arguments_without_a_gradient_say_so():
    for name, args in (
        ("checklist", {"judge": "mini-vlm"}),
        ("checklist", {"judge": "m@http://localhost:1/v1", "soft": True}),
        ("artifact", {"judge": "m@http://localhost:1/v1"}),
    ):
        reward = load(name, **args)
        assert not reward.info.differentiable
        with pytest.raises(ValueError, match=f"{name} is not differentiable with these arguments"):
            reward.score_tensor(torch.rand(1, 3, 8, 8), ["a"])


def test_wrong_arguments_are_named(classifier_folder):
    vlm, pixels = models.vlm("mini-vlm"), torch.rand(2, 3, 64, 64)
    for asked in ([["a"]], [["a"], ["a", "b"]]):
        with pytest.raises(ValueError, match="2 pictures need as many lists"):
            vlm.read_pixels(pixels, asked, YES_NO)
    with pytest.raises(ValueError, match="stands for a picture"):
        vlm.read_pixels(pixels, [["a <|image_pad|>"]] * 2, YES_NO)
    with pytest.raises(ValueError, match="spotless"):
        load("artifact", classifier=classifier_folder, clean_label="spotless").score_tensor(pixels, ["a"] * 2)


def test_preprocessing_that_has_no_tensor_form_is_refused(classifier_folder, tmp_path):
    import json
    import shutil

    folder = tmp_path / "scaled"
    shutil.copytree(classifier_folder, folder)
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    for change, words in (({"do_normalize": False}, "do_normalize"), ({"rescale_factor": 1.0}, "1/255")):
        file.write_text(json.dumps(settings | change))
        net = type(models.classifier(classifier_folder))(str(folder))
        with pytest.raises(ValueError, match=words):
            net.probabilities_of(torch.rand(1, 3, 32, 32))
