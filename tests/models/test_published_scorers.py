"""Published scorers, from tiny random checkpoints in the publishers' formats, against a second writing of
each in plain transformers, open_clip and torch calls.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmreward import Media, Sample, load
from mmreward.models.base import pooled

SIZES = [(33, 32), (31, 47), (64, 64), (97, 31), (211, 50), (640, 427), (224, 100)]
"""(width, height)."""
LONG = "a red circle above two blue squares " * 60
PROMPTS = ["a red circle", "Two blue squares, & a fox!", "x", "a", LONG, LONG.replace("red", "green"), "ox"]


def picture(size):
    small = np.random.default_rng(size[0]).integers(0, 256, (-(-size[1] // 5), -(-size[0] // 5), 3))
    return Image.fromarray(small.astype(np.uint8)).resize(size)


PICTURES = [picture(size) for size in SIZES]
SAMPLES = [
    Sample(id=str(row), prompt=prompt, image=Media(image))
    for row, (prompt, image) in enumerate(zip(PROMPTS, PICTURES, strict=True))
]


def values(engine, reward, samples=SAMPLES):
    scores = engine.score(samples, reward)[reward.info.name]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return np.array([score.value for score in scores])


def same_in_any_batch(engine, reward, tolerance):
    engine.cache.clear()
    together = values(engine, reward)
    engine.cache.clear()
    backward = values(engine, reward, SAMPLES[::-1])[::-1]
    alone = []
    for sample in SAMPLES:
        engine.cache.clear()
        alone.append(values(engine, reward, [sample])[0])
    np.testing.assert_allclose(backward, together, atol=tolerance, rtol=0)
    np.testing.assert_allclose(alone, together, atol=tolerance, rtol=0)


def tensor_scores(engine, reward, second, tolerance):
    """`score_tensor` gives `score`'s numbers and the gradient of the second writing, for pictures of two
    sizes."""
    for row in (0, 5):
        array = np.asarray(PICTURES[row]).copy()
        ours, theirs = (
            (torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255).requires_grad_() for _ in range(2)
        )
        value = reward.score_tensor(ours, [PROMPTS[row]])
        assert value.item() == pytest.approx(values(engine, reward, [SAMPLES[row]])[0], abs=tolerance)
        value.sum().backward()
        wanted = second(theirs, PROMPTS[row])
        assert value.item() == pytest.approx(wanted.item(), abs=tolerance)
        wanted.sum().backward()
        assert ours.grad.abs().max() > 0
        scale = float(theirs.grad.abs().max())
        torch.testing.assert_close(ours.grad / scale, theirs.grad / scale, atol=1e-4, rtol=0)


def offline(monkeypatch, tmp_path):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))


# --- pickscore ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pick(clip_folder):
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    parts = AutoImageProcessor.from_pretrained(clip_folder, backend="pil")
    return CLIPModel.from_pretrained(clip_folder).eval(), parts, AutoTokenizer.from_pretrained(clip_folder)


def pick_of(pick, pixels, prompt):
    """The model card's lines: unit embeddings, and exp(logit_scale) before their product."""
    model, _, tokenizer = pick
    tokens = tokenizer(prompt, padding=True, truncation=True, max_length=77, return_tensors="pt")
    text = F.normalize(pooled(model.get_text_features(**tokens)), dim=-1)
    image = F.normalize(pooled(model.get_image_features(pixel_values=pixels)), dim=-1)
    return model.logit_scale.exp() * (text @ image.T)[0]


def test_pickscore_is_the_publishers_number(engine, clip_folder, pick):
    with torch.no_grad():
        pixels = [pick[1](images=[image], return_tensors="pt")["pixel_values"] for image in PICTURES]
        want = [pick_of(pick, each, prompt).item() for each, prompt in zip(pixels, PROMPTS, strict=True)]
    got = values(engine, load("pickscore", weights=clip_folder, resize="pil"))
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)


def test_pickscore_is_the_scale_times_clipscore_on_one_network(engine, clip_folder):
    picks, cosines = load("pickscore", weights=clip_folder), load("clipscore", weights=clip_folder)
    assert picks.networks[0].network is cosines.networks[0].network
    factor = picks.networks[0].scale
    np.testing.assert_allclose(values(engine, picks), factor * values(engine, cosines), rtol=1e-6)


def test_pickscore_in_any_batch(engine, clip_folder):
    same_in_any_batch(engine, load("pickscore", weights=clip_folder), 1e-5)


def test_pickscore_by_tensor(engine, clip_folder, pick):
    from torchvision.transforms import InterpolationMode, Normalize
    from torchvision.transforms.functional import resize

    processor = pick[1]

    def second(pixels, prompt):
        small = resize(pixels, 32, InterpolationMode.BICUBIC, antialias=True)
        if small is not pixels:  # at 0 and 1 themselves, clamp has only a part of the gradient
            small = small.clamp(0, 1)
        top, left = ((side - 32) // 2 for side in small.shape[-2:])
        ready = Normalize(processor.image_mean, processor.image_std)(
            small[..., top : top + 32, left : left + 32]
        )
        return pick_of(pick, ready, prompt)

    tensor_scores(engine, load("pickscore", weights=clip_folder), second, 1e-4)


def test_pickscore_cuts_long_prompts_says_so_and_still_tells_them_apart(engine, clip_folder):
    one, other = (Sample(id=text[:9], prompt=text, image=Media(PICTURES[0])) for text in (LONG, LONG[2:]))
    scores = engine.score([one, other, SAMPLES[0]], load("pickscore", weights=clip_folder))["pickscore"]
    assert [score.parts["truncated"] for score in scores] == [1, 1, 0]
    assert abs(scores[0].value - scores[1].value) > 1e-4


def test_pickscore_offline_fails_when_it_is_loaded_and_names_the_command(monkeypatch, tmp_path):
    offline(monkeypatch, tmp_path)
    with pytest.raises(ValueError, match="`hf download yuvalkirstain/PickScore_v1`") as caught:
        load("pickscore")
    assert "\n" not in str(caught.value)
