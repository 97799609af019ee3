"""CLIP-I, DINO-I and DreamSim from tiny random checkpoints in the publishers' formats, against a second
writing of each in plain transformers, timm and peft calls.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from mmreward import Media, Sample, load, models
from mmreward.compose import weights_of
from mmreward.errors import Unavailable
from mmreward.evals.published.vits import BRANCHES, dino_folder, dreamsim_folder
from mmreward.models.base import pooled

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def picture(size):
    small = np.random.default_rng(size[0]).integers(0, 256, (-(-size[1] // 5), -(-size[0] // 5), 3))
    return Image.fromarray(small.astype(np.uint8)).resize(size)


PICTURES = [picture(size) for size in [(33, 32), (31, 47), (64, 64), (97, 31), (211, 50), (320, 213)]]
REFERENCES = [picture((70, 50)), picture((41, 80))]
SAMPLES = [
    Sample(id=str(row), image=Media(one), inputs=tuple(map(Media, REFERENCES)))
    for row, one in enumerate(PICTURES)
]


def scored(engine, reward, samples=SAMPLES):
    engine.cache.clear()
    scores = engine.score(samples, reward)[reward.info.name]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return scores


def values(engine, reward, samples=SAMPLES):
    return np.array([score.value for score in scored(engine, reward, samples)])


def refused(engine, reward, said):
    with pytest.raises(Unavailable, match=said):
        engine.score(SAMPLES[:1], reward)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("references")
    for number, one in enumerate(REFERENCES):
        one.save(folder / f"{number}.png")
    return [str(folder / f"{number}.png") for number in range(len(REFERENCES))]


def check(engine, files, embed, prepare, resized, make, *, distance=False):
    """Numbers of a reward, both reductions, in any batch, and with a gradient, against a second writing.

    Args:
        embed: preprocessed pixels (1, 3, H, W) -> embedding (1, D).
        prepare: PIL picture -> preprocessed pixels, the publisher's way.
        resized: float pixels (1, 3, H, W) in [0, 1] -> preprocessed pixels, in float.
        make: arguments -> the loaded reward.
    """
    flip = (lambda cosines: 1 - cosines) if distance else (lambda cosines: cosines)
    near, best = ("min", np.min) if distance else ("max", np.max)
    with torch.no_grad():
        images, others = (
            F.normalize(torch.cat([embed(prepare(one)) for one in few]), dim=-1)
            for few in (PICTURES, REFERENCES)
        )
        table = flip(images @ others.T).numpy()
    reward = make()
    np.testing.assert_allclose(values(engine, reward), table.mean(1), atol=1e-5, rtol=0)
    np.testing.assert_allclose(values(engine, make(reduce=near)), best(table, axis=1), atol=1e-5, rtol=0)
    parts = [score.parts for score in scored(engine, reward)]
    np.testing.assert_allclose([part[near] for part in parts], best(table, axis=1), atol=1e-5, rtol=0)
    together, backward = values(engine, reward), values(engine, reward, SAMPLES[::-1])[::-1]
    alone = [values(engine, reward, [sample])[0] for sample in SAMPLES]
    np.testing.assert_allclose(backward, together, atol=1e-5, rtol=0)
    np.testing.assert_allclose(alone, together, atol=1e-5, rtol=0)
    assert np.ptp(together) > 0.01

    assert not reward.info.differentiable
    fixed = make(references=files, reduce=near)
    assert fixed.info.differentiable and "inputs" not in fixed.info.needs
    bare = [Sample(id=sample.id, image=sample.image) for sample in SAMPLES]
    np.testing.assert_allclose(values(engine, fixed, bare), best(table, axis=1), atol=1e-5, rtol=0)
    array = np.asarray(PICTURES[2]).copy()
    ours, theirs = (
        (torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255).requires_grad_() for _ in range(2)
    )
    value = fixed.score_tensor(ours, ["x"])
    value.sum().backward()
    with torch.no_grad():
        floats = [v2.functional.to_dtype(v2.functional.to_image(one), scale=True)[None] for one in REFERENCES]
        known = F.normalize(torch.cat([embed(resized(one)) for one in floats]), dim=-1)
    found = flip(F.normalize(embed(resized(theirs)), dim=-1) @ known.T)
    wanted = found.amin(1) if distance else found.amax(1)
    wanted.sum().backward()
    torch.testing.assert_close(value.detach(), wanted.detach(), atol=1e-5, rtol=0)
    scale = float(theirs.grad.abs().max())
    assert scale > 0
    torch.testing.assert_close(ours.grad / scale, theirs.grad / scale, atol=1e-4, rtol=0)


def shortest(pixels, edge, side, first):
    small = v2.functional.resize(pixels, [edge], InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    top, left = (first((length - side) / 2) for length in small.shape[-2:])
    return small[..., top : top + side, left : left + side]


# --- clip_i -----------------------------------------------------------------------------------------------


def test_clip_i_is_the_cosine_of_clips_embeddings(engine, clip_folder, files):
    from transformers import AutoImageProcessor, CLIPModel

    model = CLIPModel.from_pretrained(clip_folder).eval()
    processor = AutoImageProcessor.from_pretrained(clip_folder, backend="pil")

    def resized(pixels):
        return v2.functional.normalize(shortest(pixels, 32, 32, int), CLIP_MEAN, CLIP_STD)

    check(
        engine,
        files,
        lambda pixels: pooled(model.get_image_features(pixel_values=pixels)),
        lambda one: processor(images=[one], return_tensors="pt")["pixel_values"],
        resized,
        lambda **args: load("clip_i", weights=clip_folder, **args),
    )


def test_harmonic_compares_pictures_by_what_it_is_told(engine, clip_folder, tmp_path):
    weights = dino_folder(tmp_path / "vit")
    row = Sample(prompt="a red circle", image=SAMPLES[0].image, inputs=SAMPLES[0].inputs)
    rewards = {
        "own": {"reward": "harmonic", "weights": clip_folder},
        "dino": {"reward": "harmonic", "weights": clip_folder, "likeness": weights},
        "alike": {"reward": "dino_i", "weights": weights},
        "match": {"reward": "clipscore", "weights": clip_folder},
    }
    own, found, alike, match = (column[0] for column in engine.score([row], rewards).values())
    assert found.ok and own.ok and found.parts["references"] != own.parts["references"]
    i, t = (1 + alike.parts["mean"]) / 2, (1 + match.value) / 2
    assert found.parts["references"] == pytest.approx(i, abs=1e-6)
    assert found.value == pytest.approx(1 / (0.3 / i + 0.7 / t), abs=1e-5)


def test_clip_i_shares_the_tower_of_a_clipscore(clip_folder):
    ours, theirs = load("clip_i", weights=clip_folder), load("clipscore", weights=clip_folder)
    assert ours.networks[0].network is theirs.networks[0].network


# --- dino_i -----------------------------------------------------------------------------------------------


def test_dino_i_is_the_cosine_of_class_tokens_as_dino_evaluates(engine, tmp_path, files):
    from transformers import ViTModel

    folder = dino_folder(tmp_path)
    model = ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    pil = v2.Compose(
        [
            v2.Resize(36, InterpolationMode.BICUBIC),
            v2.CenterCrop(32),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    check(
        engine,
        files,
        lambda pixels: model(pixel_values=pixels).last_hidden_state[:, 0],
        lambda one: pil(one)[None],
        lambda pixels: v2.functional.normalize(shortest(pixels, 36, 32, round), MEAN, STD),
        lambda **args: load("dino_i", weights=folder, **args),
    )


def test_dino_i_by_the_checkpoints_processor_is_another_number(engine, tmp_path):
    from transformers import AutoImageProcessor, ViTModel

    folder = dino_folder(tmp_path)
    model = ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")

    def embedded(one):
        pixels = processor(images=[one], return_tensors="pt")["pixel_values"]
        return F.normalize(model(pixel_values=pixels).last_hidden_state[:, 0], dim=-1)

    with torch.no_grad():
        others = torch.cat([embedded(one) for one in REFERENCES])
        want = [(embedded(one) @ others.T).mean().item() for one in PICTURES]
    squashed = values(engine, load("dino_i", weights=folder, processing="checkpoint"))
    np.testing.assert_allclose(squashed, want, atol=1e-5, rtol=0)
    assert np.abs(squashed - values(engine, load("dino_i", weights=folder))).max() > 0.01


def test_dino_i_on_dinov2_is_transformers_number(engine, tmp_path, files):
    from transformers import AutoImageProcessor, Dinov2Model

    folder = dino_folder(tmp_path, "dinov2")
    model = Dinov2Model.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    check(
        engine,
        files,
        lambda pixels: model(pixel_values=pixels).last_hidden_state[:, 0],
        lambda one: processor(images=[one], return_tensors="pt")["pixel_values"],
        lambda pixels: v2.functional.normalize(shortest(pixels, 36, 32, int), MEAN, STD),
        lambda **args: load("dino_i", weights=folder, **args),
    )


def test_dino_i_refuses_a_model_without_a_class_token_to_compare(engine, clip_folder):
    refused(engine, load("dino_i", weights=clip_folder), "a clip model is not a ViT or DINOv2")


# --- dreamsim ---------------------------------------------------------------------------------------------


def dreamsim_of(variant, vits):
    """The publisher's embedding: features side by side, their mean taken off, in timm's modules and with
    peft's adapter as it is."""

    def features(vit, name, pixels):
        mean, std = (CLIP_MEAN, CLIP_STD) if "clip" in name else (MEAN, STD)
        tokens = vit.patch_embed.proj(v2.functional.normalize(pixels, mean, std)).flatten(2).mT
        tokens = torch.cat([vit.cls_token.expand(len(tokens), -1, -1), tokens], 1)
        tokens = tokens + positions(vit, tokens.shape[1] - 1)
        tokens = vit.blocks(vit.norm_pre(tokens))
        return vit.norm(tokens[:, :1]) @ vit.projection if "clip" in name else tokens

    def positions(vit, count):
        first, rest = vit.pos_embed[:, :1], vit.pos_embed[:, 1:]
        if rest.shape[1] == count:
            return vit.pos_embed
        stored, side = 37, 16
        factor = (side + 0.1) / stored
        square = rest.reshape(1, stored, stored, -1).permute(0, 3, 1, 2)
        square = F.interpolate(square, scale_factor=(factor, factor), mode="bicubic")
        return torch.cat([first, square.permute(0, 2, 3, 1).flatten(1, 2)], 1)

    def embed(pixels):
        names = BRANCHES[variant]
        found = [features(vit, name, pixels) for vit, name in zip(vits, names, strict=True)]
        if variant.endswith("_patch"):
            (tokens,) = found
            tokens = F.normalize(tokens - tokens.mean(-1, keepdim=True), dim=-1)
            return torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], -1)
        whole = torch.cat([tokens[:, 0] for tokens in found], -1)
        return whole - whole.mean(-1, keepdim=True)

    return embed


def squashed(pixels):
    small = v2.functional.resize(pixels, [224, 224], InterpolationMode.BICUBIC, antialias=True)
    return small.clamp(0, 1)


@pytest.mark.parametrize("variant", BRANCHES)
def test_dreamsim_is_the_publishers_distance(engine, tmp_path, files, variant):
    vits = dreamsim_folder(tmp_path, variant)
    pil = v2.Compose(
        [
            v2.Resize((224, 224), InterpolationMode.BICUBIC),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    check(
        engine,
        files,
        dreamsim_of(variant, vits),
        lambda one: pil(one)[None],
        squashed,
        lambda **args: load("dreamsim", variant=variant, weights=str(tmp_path), **args),
        distance=True,
    )


def test_dreamsim_of_a_copy_is_nothing_and_a_sum_takes_it_negatively(engine, tmp_path):
    dreamsim_folder(tmp_path, "clip_vitb32")
    reward = load("dreamsim", variant="clip_vitb32", weights=str(tmp_path))
    copy = Sample(image=Media(PICTURES[0]), inputs=(Media(PICTURES[0]),))
    assert scored(engine, reward, [copy])[0].value == pytest.approx(0, abs=1e-6)
    assert weights_of({"dreamsim": reward}, {}) == {"dreamsim": -1.0}


def test_dreamsim_that_is_not_there_names_the_files_and_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match="`mmreward fetch dreamsim:variant=ensemble`") as caught:
        load("dreamsim")
    for name in ("dino_vitbase16_pretrain.pth", "open_clip_vitb16_pretrain.pth.tar", "adapter_config.json"):
        assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="did you mean 'clip_vitb32'"):
        load("dreamsim", variant="clip_vit_b32")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_dora": True}, "more than a plain LoRA: use_dora"),
        ({"bias": "all"}, "more than a plain LoRA"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
    ],
)
def test_an_adapter_that_is_more_than_lora_is_refused(engine, tmp_path, change, said):
    import json

    dreamsim_folder(tmp_path, "clip_vitb32")
    file = tmp_path / "clip_vitb32_single_lora" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    reward = load("dreamsim", variant="clip_vitb32", weights=str(tmp_path))
    refused(engine, reward, said)


def test_an_adapter_of_something_else_is_refused_by_name(engine, tmp_path):
    from safetensors.torch import load_file, save_file

    dreamsim_folder(tmp_path, "clip_vitb32")
    file = tmp_path / "clip_vitb32_single_lora" / "adapter_model.safetensors"
    state = load_file(file)
    save_file({**state, "base_model.model.mlp.fc1.lora_A.weight": torch.ones(4, 4)}, file)
    reward = load("dreamsim", variant="clip_vitb32", weights=str(tmp_path))
    refused(engine, reward, "mlp.fc1")


def test_dreamsims_fingerprint_is_of_what_it_reads(tmp_path):
    dreamsim_folder(tmp_path, "clip_vitb32")
    before = models.dreamsim("clip_vitb32", weights=str(tmp_path)).content
    (tmp_path / "notes.json").write_text("{}")
    assert models.perceptual.DreamSim(str(tmp_path), "clip_vitb32").content == before
    dreamsim_folder(tmp_path, "open_clip_vitb32")
    other = models.perceptual.DreamSim(str(tmp_path), "open_clip_vitb32").content
    assert other != before


# --- references -------------------------------------------------------------------------------------------


def test_references_enter_the_fingerprint_by_their_content(clip_folder, tmp_path):
    file = tmp_path / "one.png"
    prints = []
    for one in REFERENCES:
        one.save(file)
        prints.append(load("clip_i", weights=clip_folder, references=[str(file)]).fingerprint)
    assert prints[0] != prints[1]


def test_references_that_are_not_there_are_named_when_the_reward_is_loaded(clip_folder, tmp_path):
    with pytest.raises(ValueError, match=r"gone\.png"):
        load("clip_i", weights=clip_folder, references=[str(tmp_path / "gone.png")])


def test_a_rows_own_references_come_first(engine, clip_folder, files):
    own, fixed = (
        load("clip_i", weights=clip_folder),
        load("clip_i", weights=clip_folder, references=files[:1]),
    )
    np.testing.assert_allclose(values(engine, own), values(engine, fixed), atol=1e-5)


def test_a_clip_is_no_reference(engine, clip_folder):
    clip = Media(np.zeros((4, 16, 16, 3), np.uint8), "video", fps=2.0)
    row = Sample(image=Media(PICTURES[0]), inputs=(Media(PICTURES[1]), clip))
    (score,) = engine.score([row], load("clip_i", weights=clip_folder))["clip_i"]
    assert not score.ok and "inputs[1] is a clip" in score.note
