"""VQAScore by CLIP-FlanT5, from a tiny random checkpoint in the published format, against a second writing of
the publisher's lines.
"""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from mmreward import Media, Sample, load, models
from mmreward.errors import Unavailable
from mmreward.evals.published.flan import likelihood, made_parts, save_flan, squared
from mmreward.models.flan import Asked, ClipT5
from mmreward.rewards.judged.vqascore import FLAN_T5

SIZES = [(48, 48), (90, 41), (33, 120), (64, 65), (640, 427)]
PROMPTS = ["a red circle", 'a sign "EXIT {24}" <image>', "x", "two  blue\nsquares " * 9, "a red circle"]


def picture(size, seed):
    small = np.random.default_rng(seed).integers(0, 256, (-(-size[1] // 8), -(-size[0] // 8), 3))
    return Image.fromarray(small.astype(np.uint8)).resize(size)


PICTURES = [picture(size, seed) for seed, size in enumerate(SIZES)]
SAMPLES = [
    Sample(id=str(row), prompt=prompt, image=Media(image))
    for row, (prompt, image) in enumerate(zip(PROMPTS, PICTURES, strict=True))
]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """T5, vision tower and projector, and the folder of the tower alone."""
    return made_parts(tmp_path_factory.mktemp("tower"))


@pytest.fixture(scope="module")
def flan(parts, tmp_path_factory):
    return save_flan(parts, tmp_path_factory.mktemp("clip-t5"))


def second(parts, image, prompt, question=FLAN_T5):
    """One row by the publisher's lines: P(Yes), P(</s>) and the score."""
    with torch.no_grad():
        each = likelihood(parts, squared(parts, image), prompt, question)
    return *each.tolist(), math.exp(float(each.log().mean()))


def values(engine, reward, samples=SAMPLES):
    scores = engine.score(samples, reward)["vqascore"]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return scores


def test_clip_flant5_gives_the_publishers_number(engine, flan, parts):
    engine.cache.clear()
    scores = values(engine, load("vqascore", judge=flan))
    wanted = [second(parts, image, prompt) for image, prompt in zip(PICTURES, PROMPTS, strict=True)]
    for score, (yes, end, whole) in zip(scores, wanted, strict=True):
        assert score.value == pytest.approx(whole, rel=1e-4)
        assert score.parts["yes"] == pytest.approx(yes, rel=1e-4)
        assert score.parts["end"] == pytest.approx(end, rel=1e-4)
        assert score.value == pytest.approx(math.sqrt(yes * end), rel=1e-4) and score.parts["truncated"] == 0
    assert len({round(score.value, 9) for score in scores}) == len(scores)  # no row has another's number


def test_clip_flant5_in_any_batch(engine, flan):
    reward = load("vqascore", judge=flan)
    engine.cache.clear()
    together = [score.value for score in values(engine, reward)]
    engine.cache.clear()
    backward = [score.value for score in values(engine, reward, SAMPLES[::-1])][::-1]
    alone = []
    for sample in SAMPLES:
        engine.cache.clear()
        alone += [score.value for score in values(engine, reward, [sample])]
    np.testing.assert_allclose(backward, together, atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(alone, together, atol=1e-6, rtol=1e-5)


def test_texts_of_one_picture_are_one_run_of_its_tower(flan):
    network = ClipT5(flan)
    equal = [Media(PICTURES[0].copy()) for _ in PROMPTS]
    items = [Asked(media, prompt, "Yes") for media, prompt in zip(equal, PROMPTS, strict=True)]
    seen = []
    network.module["vision"].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    together = network.forward("answer", network.prepare("answer", items))
    assert seen == [1]
    alone = [network.forward("answer", network.prepare("answer", [item]))[0] for item in items]
    for one, other in zip(together, alone, strict=True):
        assert one.each == pytest.approx(other.each, rel=1e-5)


def test_a_tower_that_is_not_among_the_files_is_read_from_its_own(engine, flan, parts, tmp_path):
    bare = save_flan(parts, tmp_path, vision=False)
    ours, theirs = (
        [score.value for score in values(engine, load("vqascore", judge=name))] for name in (bare, flan)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_another_question_and_a_question_that_is_too_long(engine, flan, parts):
    reward = load("vqascore", judge=flan, question="Is it {prompt}?")
    (score,) = values(engine, reward, SAMPLES[:1])
    assert score.value == pytest.approx(
        second(parts, PICTURES[0], "a red circle", "Is it {prompt}?")[2], rel=1e-4
    )
    long = Sample(prompt="q" * 4000, image=Media(PICTURES[0]))
    (cut,) = values(engine, load("vqascore", judge=flan), [long])
    assert cut.parts["truncated"] == 1
    with pytest.raises(ValueError, match="question has no"):
        load("vqascore", judge=flan, question="Is it a circle?")


def test_files_that_do_not_fit_and_clips_say_so(engine, parts, flan, tmp_path):
    folder = save_flan(parts, tmp_path)
    shard = tmp_path / "pytorch_model-00002-of-00002.bin"
    state = torch.load(shard)
    del state["mm_projector.2.bias"]
    torch.save(state, shard)
    with pytest.raises(Unavailable, match=r"1 tensors missing \(2\.bias\)"):
        engine.score(SAMPLES[:1], load("vqascore", judge=folder))
    clip = Media(np.stack([np.asarray(PICTURES[0])] * 3), "video", fps=2.0)
    (refused,) = engine.score([Sample(prompt="x", video=clip)], load("vqascore", judge=flan))["vqascore"]
    assert refused.status == "error" and "frames: mean" in refused.note


def test_missing_weights_are_said_before_any_row(parts, monkeypatch, tmp_path):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="`hf download zhiqiulin/clip-flant5-xxl`"):
        load("vqascore")
    folder = save_flan(parts, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"`hf download google/flan-t5-xxl config.json tokenizer.json "):
        load("vqascore", judge=folder)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"mm_vision_tower": "openai/clip-large"}))
    with pytest.raises(ValueError, match="`hf download openai/clip-large config"):
        load("vqascore", judge=folder)


def test_a_vlm_is_read_at_its_first_token_over_the_whole_vocabulary(engine):
    media, prompt = Media(PICTURES[0]), "a red circle"
    (score,) = values(engine, load("vqascore", judge="mini-vlm"), [Sample(prompt=prompt, image=media)])
    question = 'Does this figure show "a red circle"? Please answer Yes or No.'
    read = engine.run(models.vlm("mini-vlm").logprob(media, question, "Yes"))
    assert score.value == pytest.approx(math.exp(read.each[0]), rel=1e-5)


# --- the gradient -------------------------------------------------------------------------------------------


def smooth(count, height, width):
    """Pictures without sharp edges, on whole 8-bit values."""
    coarse = torch.rand((count, 3, 4, 4), generator=torch.Generator().manual_seed(5))
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (fine * 255).round() / 255


@pytest.mark.parametrize(("judge", "shape"), [("flan", (32, 32)), ("mini-vlm", (64, 64))])
def test_score_tensor_is_the_score_and_its_gradient_the_slope(engine, request, judge, shape):
    """At the judge's own size, where neither resizes."""
    name = request.getfixturevalue("flan") if judge == "flan" else judge
    reward = load("vqascore", judge=name)
    pixels, prompts = smooth(3, *shape).requires_grad_(), ["a red circle", "x", "two blue squares"]
    found = reward.score_tensor(pixels, prompts)
    arrays = (pixels.detach() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    samples = [
        Sample(prompt=prompt, image=Media(array)) for prompt, array in zip(prompts, arrays, strict=True)
    ]
    scores = values(engine, reward, samples)
    assert found.tolist() == pytest.approx([score.value for score in scores], rel=1e-4)
    total = found.log().sum()
    (slope,) = torch.autograd.grad(total, pixels)
    assert all(each.abs().max() > 0 for each in slope)
    along = slope / slope.norm()
    with torch.no_grad():
        ends = [reward.score_tensor(pixels + step * along, prompts).log().sum() for step in (-0.02, 0.02)]
    assert float(ends[1] - ends[0]) / 0.04 == pytest.approx(float(slope.norm()), rel=0.05)


def test_score_tensor_pads_to_a_square_as_score_does(engine, flan):
    """Within what rounding to 8 bits does before a resize."""
    reward, pixels = load("vqascore", judge=flan), smooth(2, 40, 56)
    found = reward.score_tensor(pixels, ["a red circle", "x"])
    arrays = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    samples = [Sample(prompt=p, image=Media(a)) for p, a in zip(["a red circle", "x"], arrays, strict=True)]
    assert found.tolist() == pytest.approx(
        [score.value for score in values(engine, reward, samples)], rel=0.03
    )
    bare = reward.score_tensor(pixels[:, :, :, 8:48], ["a red circle", "x"])
    assert not torch.allclose(bare, found, rtol=0.03)


def test_a_served_judge_has_no_gradient():
    assert load("vqascore", judge="m@http://localhost:1/v1").tensor_fn is None
