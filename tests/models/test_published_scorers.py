"""Published scorers, from tiny random checkpoints in the publishers' formats, against a second writing of
each in plain transformers, open_clip and torch calls.
"""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from mmreward import Media, Sample, load
from mmreward.errors import Unavailable
from mmreward.evals.published.checkpoints import save_clip, save_imscore
from mmreward.evals.published.second import SECOND
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


def offline(monkeypatch, tmp_path, given=True):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", given)
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
    got = values(engine, load("pickscore", weights=clip_folder))
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)


def test_pickscore_is_the_scale_times_clipscore_on_one_network(engine, clip_folder):
    picks, cosines = (
        load("pickscore", weights=clip_folder),
        load("clipscore", weights=clip_folder, resize="pil"),
    )
    assert picks.networks[0].network is cosines.networks[0].network
    factor = picks.networks[0].network.towers.logit().scale
    np.testing.assert_allclose(values(engine, picks), factor * values(engine, cosines), rtol=1e-6)


def test_pickscore_in_any_batch(engine, clip_folder):
    same_in_any_batch(engine, load("pickscore", weights=clip_folder), 1e-5)


def clip_input(pick, pixels):
    """Shorter side to the input in float, the middle of it, normalised."""
    from torchvision.transforms import InterpolationMode, Normalize
    from torchvision.transforms.functional import resize

    small = resize(pixels, 32, InterpolationMode.BICUBIC, antialias=True)
    if small is not pixels:  # at 0 and 1 themselves, clamp has only a part of the gradient
        small = small.clamp(0, 1)
    top, left = ((side - 32) // 2 for side in small.shape[-2:])
    middle = small[..., top : top + 32, left : left + 32]
    return Normalize(pick[1].image_mean, pick[1].image_std)(middle)


def test_pickscore_by_tensor(engine, clip_folder, pick):
    def second(pixels, prompt):
        return pick_of(pick, clip_input(pick, pixels), prompt)

    tensor_scores(engine, load("pickscore", weights=clip_folder, resize="tensor"), second, 1e-4)


def test_pickscore_cuts_long_prompts_says_so_and_still_tells_them_apart(engine, clip_folder):
    one, other = (Sample(id=text[:9], prompt=text, image=Media(PICTURES[0])) for text in (LONG, LONG[2:]))
    scores = engine.score([one, other, SAMPLES[0]], load("pickscore", weights=clip_folder))["pickscore"]
    assert [score.parts["truncated"] for score in scores] == [1, 1, 0]
    assert abs(scores[0].value - scores[1].value) > 1e-4


def test_pickscore_of_imscores_siglip_is_its_cosine_times_the_scale_plus_the_bias(engine, tmp_path):
    folder = save_imscore(tmp_path / "own", "siglip")
    reward = load("pickscore", weights=folder, resize="tensor")
    second = SECOND["pickscore"]({"weights": folder})
    with torch.no_grad():
        want = [second.value(image, prompt) for image, prompt in zip(PICTURES, PROMPTS, strict=True)]
    np.testing.assert_allclose(values(engine, reward), want, atol=1e-4, rtol=0)
    assert reward.info.range == (-150, 150) and max(want) - min(want) > 0.1
    cosine = load("clipscore", weights=folder, resize="tensor")
    assert reward.networks[0].network is cosine.networks[0].network
    scaled = np.exp(4.3) * values(engine, cosine) - 15
    np.testing.assert_allclose(values(engine, reward), scaled, atol=1e-4, rtol=0)
    same_in_any_batch(engine, reward, 1e-4)
    tensor_scores(engine, reward, second.tensor, 1e-4)


def test_tensors_of_another_model_than_imscores_config_names_are_refused(tmp_path):
    folder = Path(save_imscore(tmp_path / "own", "siglip"))
    (folder / "config.json").write_text(json.dumps({"tag": save_clip(tmp_path / "other")}))
    reward = load("pickscore", weights=str(folder))
    with pytest.raises(ValueError, match=r"own on .*other does not fit the architecture"):
        reward.networks[0].network.load("cpu")


def test_pickscore_offline_fails_when_it_is_loaded_and_names_the_command(monkeypatch, tmp_path):
    offline(monkeypatch, tmp_path)
    with pytest.raises(ValueError, match="`hf download yuvalkirstain/PickScore_v1`") as caught:
        load("pickscore")
    assert "\n" not in str(caught.value)


# --- hpsv2 ----------------------------------------------------------------------------------------------

TINY_H = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def hps(tmp_path_factory):
    """The published format: a pickled dict with `state_dict`, of an architecture that open_clip names."""
    import open_clip

    folder = tmp_path_factory.mktemp("hps")
    (folder / "tiny-H.json").write_text(json.dumps(TINY_H))
    open_clip.add_model_config(folder / "tiny-H.json")
    torch.manual_seed(7)
    model = open_clip.create_model("tiny-H").eval()
    file = folder / "HPS_v2.1_compressed.pt"
    torch.save({"state_dict": model.state_dict()}, file)
    return str(file), model


def hps_scorer(hps, **args):
    return load("hpsv2", weights=hps[0], architecture="tiny-H", **args)


def hps_of(model, pixels, prompt):
    """The publisher's lines: longest side to the input in float, black around, product of unit embeddings."""
    import open_clip
    from torchvision.transforms import InterpolationMode, Normalize
    from torchvision.transforms import functional as tf

    scale = 32 / float(max(pixels.shape[-2:]))
    if scale != 1.0:
        height, width = (round(side * scale) for side in pixels.shape[-2:])
        pixels = tf.resize(pixels, [height, width], InterpolationMode.BICUBIC, antialias=True)
        down, right = 32 - height, 32 - width
        pixels = tf.pad(pixels, [right // 2, down // 2, right - right // 2, down - down // 2], fill=0)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    image = F.normalize(model.encode_image(Normalize(mean, std)(pixels)), dim=-1)
    text = F.normalize(model.encode_text(open_clip.get_tokenizer("ViT-H-14")([prompt])), dim=-1)
    return (image @ text.T)[0]


def test_hpsv2_is_the_publishers_number(engine, hps):
    from torchvision.transforms.functional import to_tensor

    with torch.no_grad():
        each = [to_tensor(image)[None] for image in PICTURES]
        want = [hps_of(hps[1], pixels, prompt).item() for pixels, prompt in zip(each, PROMPTS, strict=True)]
    np.testing.assert_allclose(values(engine, hps_scorer(hps)), want, atol=1e-5, rtol=0)


def test_hpsv2_in_any_batch(engine, hps):
    same_in_any_batch(engine, hps_scorer(hps), 1e-5)


def test_hpsv2_by_tensor(engine, hps):
    tensor_scores(engine, hps_scorer(hps), lambda pixels, prompt: hps_of(hps[1], pixels, prompt), 1e-5)


def test_hpsv2_pads_where_a_crop_would_see_something_else(engine, hps, tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY_H, "preprocess_cfg": {}}))
    save_file(hps[1].state_dict(), tmp_path / "open_clip_model.safetensors")
    folder = load("hpsv2", weights=str(tmp_path))
    np.testing.assert_allclose(values(engine, folder), values(engine, hps_scorer(hps)), atol=1e-6)
    cropped = values(engine, load("clipscore", weights=str(tmp_path)))
    different = np.abs(cropped - values(engine, folder)) > 1e-4
    assert different[[3, 4, 5, 6]].all() and not different[2]  # the square is the same


def test_hpsv2_pads_a_picture_whose_longer_side_is_the_inputs(engine, hps):
    """Where the publisher's transform does not pad at all, and its network then refuses the size."""
    thin = Sample(prompt="a", image=Media(PICTURES[2].resize((32, 20))))
    assert np.isfinite(values(engine, hps_scorer(hps), [thin])[0])


def test_hpsv2_reads_its_two_versions_from_the_publishers_files(monkeypatch, tmp_path):
    offline(monkeypatch, tmp_path)
    for version, file in (("2.0", "HPS_v2_compressed.pt"), ("2.1", "HPS_v2.1_compressed.pt")):
        with pytest.raises(ValueError, match=f"`hf download xswu/HPSv2 {file}`") as caught:
            load("hpsv2", weights=version)
        assert "\n" not in str(caught.value)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_a_checkpoint_that_asks_to_run_code_is_refused_and_runs_none(engine, hps, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": hps[1].state_dict(), "more": Hostile()}, "bad.pt")
    with pytest.raises(Unavailable, match="refused") as caught:
        engine.score(SAMPLES[:1], load("hpsv2", weights="bad.pt", architecture="tiny-H"))
    assert "weights_only" not in str(caught.value)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("visual.proj"), r"1 tensors missing \(visual.proj\)"),
        (lambda state: state.update(score_head=torch.ones(2)), r"1 tensors unexpected \(score_head\)"),
        (lambda state: state.update(text_projection=torch.ones(2, 2)), r"another shape \(text_projection\)"),
    ],
)
def test_a_checkpoint_with_other_tensors_is_refused_by_name(engine, hps, tmp_path, change, said):
    state = dict(hps[1].state_dict())
    change(state)
    torch.save({"state_dict": state}, tmp_path / "other.pt")
    reward = load("hpsv2", weights=str(tmp_path / "other.pt"), architecture="tiny-H")
    with pytest.raises(Unavailable, match=said):
        engine.score(SAMPLES[:1], reward)


# --- aesthetic ------------------------------------------------------------------------------------------


def linears(name, indices, sizes, seed):
    """A chain of layers as a publisher's file has it, weights large enough to have opinions."""
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for index, given, made in zip(indices, sizes, sizes[1:], strict=False):
        state[f"{name}.{index}.weight"] = torch.randn(made, given, generator=draw) / given**0.5 * 2
        state[f"{name}.{index}.bias"] = torch.randn(made, generator=draw)
    return state


HEADS = {
    "v1": {"weight": torch.linspace(-9, 9, 24)[None].sin() * 5, "bias": torch.tensor([3.5])},
    "v2": linears("layers", (0, 2, 4, 6, 7), (24, 16, 8, 8, 4, 1), 1),
    "v2.5": linears("scoring_head", (0, 2, 4, 6, 8), (24, 16, 8, 8, 4, 1), 2),
}


def through(state, vectors):
    """The layers one after another in float32, with nothing between them: dropout is off."""
    for key in [key for key in state if key.endswith("weight")]:
        vectors = F.linear(vectors, state[key], state[key.removesuffix("weight") + "bias"])
    return vectors[:, 0]


@pytest.fixture(params=HEADS)
def head(request, tmp_path):
    torch.save(HEADS[request.param], tmp_path / "head.pth")
    return str(tmp_path / "head.pth"), HEADS[request.param]


def unit(pick, pixels):
    return F.normalize(pooled(pick[0].get_image_features(pixel_values=pixels)), dim=-1)


def test_aesthetic_is_the_publishers_number(engine, clip_folder, pick, head):
    file, state = head
    with torch.no_grad():
        each = [pick[1](images=[image], return_tensors="pt")["pixel_values"] for image in PICTURES]
        want = [through(state, unit(pick, pixels)).item() for pixels in each]
        raw = [pooled(pick[0].get_image_features(pixel_values=pixels)) for pixels in each]
        unnormalised = [through(state, vector).item() for vector in raw]
    got = values(engine, load("aesthetic", head=file, encoder=clip_folder))
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)
    assert np.abs(np.subtract(got, unnormalised)).max() > 0.1


def test_aesthetic_v2_5_on_a_siglip(engine, siglip_folder, tmp_path):
    from transformers import AutoImageProcessor, SiglipModel

    torch.save(HEADS["v2.5"], tmp_path / "head.pth")
    model = SiglipModel.from_pretrained(siglip_folder).eval()
    processor = AutoImageProcessor.from_pretrained(siglip_folder, backend="pil")
    with torch.no_grad():
        pixels = torch.cat([processor(images=[p], return_tensors="pt")["pixel_values"] for p in PICTURES])
        want = through(HEADS["v2.5"], F.normalize(model.vision_model(pixels).pooler_output, dim=-1))
    file = str(tmp_path / "head.pth")
    got = values(engine, load("aesthetic", head=file, encoder=siglip_folder))
    np.testing.assert_allclose(got, want.numpy(), atol=1e-4, rtol=0)


def test_aesthetic_in_any_batch(engine, clip_folder, head):
    same_in_any_batch(engine, load("aesthetic", head=head[0], encoder=clip_folder), 1e-5)


def test_aesthetic_by_tensor(engine, clip_folder, pick, head):
    def second(pixels, prompt):
        return through(head[1], unit(pick, clip_input(pick, pixels)))

    tensor_scores(engine, load("aesthetic", head=head[0], encoder=clip_folder, resize="tensor"), second, 1e-4)


def test_aesthetic_shares_the_tower_of_a_clipscore(clip_folder, head):
    ours = load("aesthetic", head=head[0], encoder=clip_folder).networks
    theirs = load("clipscore", weights=clip_folder).networks[0]
    assert theirs.network in [getattr(net, "encoder", net).network for net in ours]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (linears("layers", (0, 3, 6, 9, 11), (24, 16, 8, 8, 4, 1), 1), "activations"),
        ({**HEADS["v2"], "extra.weight": torch.ones(1)}, r"extra\.bias"),
        ({k: v for k, v in HEADS["v2"].items() if k != "layers.4.bias"}, r"layers\.4\.bias"),
        ({"weight": torch.ones(1, 12), "bias": torch.ones(1)}, "takes 12 numbers and .* gives 24"),
    ],
)
def test_another_head_is_refused_by_name(engine, clip_folder, tmp_path, state, said):
    torch.save(state, tmp_path / "head.pth")
    reward = load("aesthetic", head=str(tmp_path / "head.pth"), encoder=clip_folder)
    with pytest.raises(Unavailable, match=said):
        engine.score(SAMPLES[:1], reward)


def test_aesthetic_offline_names_what_to_fetch(monkeypatch, tmp_path):
    offline(monkeypatch, tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for version, file in (("v1", "sa_0_4_vit_l_14_linear.pth"), ("v2", "sac+logos+ava1-l14-linearMSE.pth")):
        with pytest.raises(ValueError, match=rf"`curl .*checkpoints/{re.escape(file)}' 'https://github"):
            load("aesthetic", head=version)
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        torch.save(HEADS["v2"], tmp_path / "checkpoints" / file)
        with pytest.raises(ValueError, match="`hf download openai/clip-vit-large-patch14`"):
            load("aesthetic", head=version)


@pytest.mark.parametrize("name", ["pickscore", "hpsv2"])
def test_a_hub_that_does_not_answer_is_asked_once_when_the_reward_is_loaded(monkeypatch, tmp_path, name):
    import huggingface_hub
    from httpx2 import ConnectError

    asked = []

    def silent(url, **_):
        asked.append(url)
        raise ConnectError("Name or service not known")

    offline(monkeypatch, tmp_path, given=False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", silent)
    with pytest.raises(ValueError, match=r"`hf download \S+.*Name or service not known"):
        load(name)
    assert len(asked) == 1
