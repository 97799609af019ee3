"""BLIP-VQA from a tiny random checkpoint in the published format, against a second writing in plain torch."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support.tiny_blip import DEC, HEADS, LAYERS, PATCH, SIDE, WIDTH, save_blip, save_tokenizer
from torchvision import transforms
from transformers import AutoTokenizer

from mmreward import Media, Sample, Unscorable, load
from mmreward.errors import Unavailable
from mmreward.models.blip_answers import renamed
from mmreward.rewards.pictures.blip_vqa import phrases_of

SIZES = [(48, 48), (90, 41), (33, 120), (640, 427)]
PHRASES = [
    ["a red circle"],
    ["The Blue (square)", "a fox!"],
    ["two squares " * 30],
    ["a fox", "a red fox", "no"],
]


def picture(size, seed):
    small = np.random.default_rng(seed).integers(0, 256, (-(-size[1] // 8), -(-size[0] // 8), 3))
    return Image.fromarray(small.astype(np.uint8)).resize(size)


PICTURES = [picture(size, seed) for seed, size in enumerate(SIZES)]
SAMPLES = [
    Sample(id=str(row), prompt="x", image=Media(image), meta={"phrases": phrases})
    for row, (image, phrases) in enumerate(zip(PICTURES, PHRASES, strict=True))
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return save_blip(tmp_path_factory.mktemp("blip"))


# --- a second writing -----------------------------------------------------------------------------------


def apply(state, name, x):
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def normed(state, name, x, eps):
    return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], eps)


def attention(query, key, value):
    q, k, v = (x.unflatten(-1, (HEADS, WIDTH // HEADS)).transpose(0, 1) for x in (query, key, value))
    weights = (q @ k.transpose(1, 2) / math.sqrt(WIDTH // HEADS)).softmax(-1)
    return (weights @ v).transpose(0, 1).flatten(1)


def second_vision(state, image):
    steps = [
        transforms.Resize((SIDE, SIDE), transforms.InterpolationMode.BICUBIC),
        transforms.ToTensor(),
        transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ]
    pixels = transforms.Compose(steps)(image)[None]
    own = "visual_encoder"
    kernel = [state[f"{own}.patch_embed.proj.{part}"] for part in ("weight", "bias")]
    x = F.conv2d(pixels, *kernel, stride=PATCH).flatten(2)[0].T
    x = torch.cat([state[f"{own}.cls_token"][0], x]) + state[f"{own}.pos_embed"][0]
    for layer in range(LAYERS):
        block = f"{own}.blocks.{layer}"
        qkv = apply(state, f"{block}.attn.qkv", normed(state, f"{block}.norm1", x, 1e-6))
        x = x + apply(state, f"{block}.attn.proj", attention(*qkv.chunk(3, -1)))
        wide = F.gelu(apply(state, f"{block}.mlp.fc1", normed(state, f"{block}.norm2", x, 1e-6)))
        x = x + apply(state, f"{block}.mlp.fc2", wide)
    return normed(state, f"{own}.norm", x, 1e-6)


def second_bert(state, prefix, ids, seen):
    names = "word_embeddings", "position_embeddings"
    words, places = (state[f"{prefix}.embeddings.{name}.weight"] for name in names)
    x = normed(state, f"{prefix}.embeddings.LayerNorm", words[ids] + places[: len(ids)], 1e-12)
    for layer in range(LAYERS):
        own = f"{prefix}.encoder.layer.{layer}"
        for kind, other in (("attention", None), ("crossattention", seen)):
            sides = [x, *([x, x] if other is None else [other, other])]
            parts = zip(("query", "key", "value"), sides, strict=True)
            mixed = attention(*(apply(state, f"{own}.{kind}.self.{part}", side) for part, side in parts))
            out = apply(state, f"{own}.{kind}.output.dense", mixed)
            x = normed(state, f"{own}.{kind}.output.LayerNorm", out + x, 1e-12)
        wide = F.gelu(apply(state, f"{own}.intermediate.dense", x))
        x = normed(state, f"{own}.output.LayerNorm", apply(state, f"{own}.output.dense", wide) + x, 1e-12)
    return x


def second(state, tokenizer, image, phrase):
    tokens = AutoTokenizer.from_pretrained(tokenizer)
    question = "".join(letter for letter in f"{phrase}?".lower() if letter not in '.!"()*#:;~')
    ids = tokens(question, truncation=True, max_length=35)["input_ids"]
    ids[0] = DEC + 1  # [ENC]
    read = second_bert(state, "text_encoder", ids, second_vision(state, image))
    head = "text_decoder.cls.predictions"
    x = second_bert(state, "text_decoder.bert", [DEC], read)
    x = normed(
        state, f"{head}.transform.LayerNorm", F.gelu(apply(state, f"{head}.transform.dense", x)), 1e-12
    )
    logits = apply(state, f"{head}.decoder", x)[0]
    yes, no = logits.softmax(-1)[tokens.convert_tokens_to_ids(["yes", "no"])].tolist()
    return yes / (yes + no)


def values(engine, reward, samples=SAMPLES):
    scores = engine.score(samples, reward)["blip_vqa"]
    assert all(score.ok for score in scores), [score.note for score in scores]
    return scores


def test_blip_vqa_gives_the_publishers_number(engine, published, tokenizer):
    file, state = published
    engine.cache.clear()
    scores = values(engine, load("blip_vqa", file=file, tokenizer=tokenizer))
    for score, image, phrases in zip(scores, PICTURES, PHRASES, strict=True):
        sure = [second(state, tokenizer, image, phrase) for phrase in phrases]
        assert score.value == pytest.approx(math.prod(sure), abs=1e-5)
        assert score.parts["least"] == pytest.approx(min(sure), abs=1e-5)
        assert score.parts["gm"] == pytest.approx(math.prod(sure) ** (1 / len(sure)), abs=1e-5)
    assert len({round(score.value, 4) for score in scores}) == len(scores)


def test_blip_vqa_in_any_batch(engine, published, tokenizer):
    reward = load("blip_vqa", file=published[0], tokenizer=tokenizer)
    engine.cache.clear()
    together = [score.value for score in values(engine, reward)]
    alone = []
    for sample in SAMPLES:
        engine.cache.clear()
        alone += [score.value for score in values(engine, reward, [sample])]
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_a_file_that_is_no_blip_says_so(engine, published, tokenizer, tmp_path):
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    state = {name: tensor for name, tensor in published[1].items() if "blocks.1.norm2" not in name}
    torch.save({"model": state}, tmp_path / "torn.pth")
    for file, said in (("other.pth", "has no visual_encoder"), ("torn.pth", "tensors missing")):
        reward = load("blip_vqa", file=str(tmp_path / file), tokenizer=tokenizer)
        with pytest.raises(Unavailable, match=said):
            engine.score(SAMPLES[:1], reward)


def test_what_is_not_here_is_said_before_any_row(published, monkeypatch, tmp_path):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=r"`curl -fL .*model_base_vqa_capfilt_large.pth'`"):
        load("blip_vqa")
    wanted = "hf download google-bert/bert-base-uncased config.json tokenizer.json tokenizer_config.json"
    with pytest.raises(ValueError, match=f"`{wanted}`"):
        load("blip_vqa", file=published[0])


def test_published_names():
    assert renamed("visual_encoder.blocks.11.attn.proj.bias") == (
        "vision_model.encoder.layers.11.self_attn.projection.bias"
    )
    assert renamed("text_decoder.cls.predictions.bias") == "text_decoder.cls.predictions.bias"


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("a blue bench and a green bowl", ["a blue bench", "a green bowl"]),
        (
            "rubber sole shoes, a cup, and The fluffy clouds.",
            ["rubber sole shoes", "a cup", "The fluffy clouds"],
        ),
        ("a red circle", None),
        ("a pig on the bottom of a wallet", None),
        ("The metallic pen and fluffy notebook jot down ideas on the wooden desk.", None),
        ("two dogs and 3 cats", None),
        ("a dog and ", None),
    ],
)
def test_plain_prompts_are_taken_apart_and_others_are_not(prompt, phrases):
    sample = Sample(prompt=prompt)
    if phrases is not None:
        assert phrases_of(sample) == phrases
        return
    with pytest.raises(Unscorable, match="give them as `phrases`") as caught:
        phrases_of(sample)
    assert caught.value.status == "missing"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[", "not JSON"),
        (3, "not a list of texts"),
        (["a", ""], "not a list of texts"),
        (["the left"], "no phrases to ask about"),
        (["a dog"] * 9, "9 phrases for one picture; the limit is 8"),
    ],
)
def test_what_are_no_phrases_says_why(given, said):
    with pytest.raises(Unscorable, match=said):
        phrases_of(Sample(prompt="x", meta={"phrases": given}))
    asked = Sample(prompt="x", meta={"phrases": json.dumps(["a dog", "the left"])})
    assert phrases_of(asked) == ["a dog"]
