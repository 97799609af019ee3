"""A BLIP of random weights under the names of its publisher's file, a BERT tokenizer of a few words, and a
second writing of T2I-CompBench's BLIP-VQA in plain torch.
"""

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import transforms
from transformers import AutoTokenizer, BertTokenizer

from mmreward import Media, Sample

from .one_by_one import noise
from .readers import Sampled, pictures_of

State = dict[str, torch.Tensor]
WIDTH, WIDE, LAYERS, SIDE, PATCH, HEADS = 128, 96, 2, 48, 16, 2
WORDS = ["a", "an", "the", "red", "blue", "circle", "square", "fox", "two", "squares", "yes", "no", "?"]
DEC = 5 + len(WORDS)
"""First token of an answer; the next one, [ENC], begins a question."""


def save_tokenizer(folder: Path) -> str:
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


def save_blip(folder: Path) -> tuple[str, State]:
    """The file, with its tensors under the key `model`, and the tensors."""
    state = tensors()
    torch.save({"model": state}, folder / "model_base_vqa_capfilt_large.pth")
    return str(folder / "model_base_vqa_capfilt_large.pth"), state


def tensors() -> State:
    torch.manual_seed(5)
    state, words = {}, DEC + 2
    state["visual_encoder.cls_token"] = torch.randn(1, 1, WIDTH)
    state["visual_encoder.pos_embed"] = torch.randn(1, (SIDE // PATCH) ** 2 + 1, WIDTH)
    state["visual_encoder.patch_embed.proj.weight"] = torch.randn(WIDTH, 3, PATCH, PATCH) / 20
    state["visual_encoder.patch_embed.proj.bias"] = torch.randn(WIDTH)
    for layer in range(LAYERS):
        own = f"visual_encoder.blocks.{layer}"
        norm(state, f"{own}.norm1")
        norm(state, f"{own}.norm2")
        linear(state, f"{own}.attn.qkv", 3 * WIDTH, WIDTH, 2.0)
        linear(state, f"{own}.attn.proj", WIDTH, WIDTH)
        linear(state, f"{own}.mlp.fc1", WIDE, WIDTH)
        linear(state, f"{own}.mlp.fc2", WIDTH, WIDE)
    norm(state, "visual_encoder.norm")
    bert(state, "text_encoder", words)
    bert(state, "text_decoder.bert", words)
    head = "text_decoder.cls.predictions"
    linear(state, f"{head}.transform.dense", WIDTH, WIDTH)
    norm(state, f"{head}.transform.LayerNorm")
    state[f"{head}.bias"] = torch.zeros(words)
    state[f"{head}.decoder.weight"] = state["text_decoder.bert.embeddings.word_embeddings.weight"]
    state[f"{head}.decoder.bias"] = state[f"{head}.bias"]
    return state


def linear(state: State, name: str, out: int, inner: int, scale: float = 1.0) -> None:
    state[f"{name}.weight"] = scale * torch.randn(out, inner) / inner**0.5
    state[f"{name}.bias"] = 0.1 * torch.randn(out)


def norm(state: State, name: str) -> None:
    state[f"{name}.weight"], state[f"{name}.bias"] = 1 + 0.1 * torch.randn(WIDTH), 0.1 * torch.randn(WIDTH)


def bert(state: State, prefix: str, words: int) -> None:
    state[f"{prefix}.embeddings.word_embeddings.weight"] = torch.randn(words, WIDTH) / 8
    state[f"{prefix}.embeddings.position_embeddings.weight"] = torch.randn(40, WIDTH)
    state[f"{prefix}.embeddings.position_ids"] = torch.arange(40)[None]
    norm(state, f"{prefix}.embeddings.LayerNorm")
    for layer in range(LAYERS):
        own = f"{prefix}.encoder.layer.{layer}"
        for kind in ("attention", "crossattention"):
            for part in ("query", "key", "value"):
                linear(state, f"{own}.{kind}.self.{part}", WIDTH, WIDTH, 2.0)
            linear(state, f"{own}.{kind}.output.dense", WIDTH, WIDTH)
            norm(state, f"{own}.{kind}.output.LayerNorm")
        linear(state, f"{own}.intermediate.dense", WIDE, WIDTH)
        linear(state, f"{own}.output.dense", WIDTH, WIDE)
        norm(state, f"{own}.output.LayerNorm")


# --- the publisher's lines ----------------------------------------------------------------------------------


def apply(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def normed(state: State, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], eps)


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    q, k, v = (x.reshape(*x.shape[:-1], HEADS, WIDTH // HEADS).transpose(0, 1) for x in (query, key, value))
    weights = (q @ k.transpose(1, 2) / math.sqrt(WIDTH // HEADS)).softmax(-1)
    mixed: torch.Tensor = (weights @ v).transpose(0, 1).flatten(1)
    return mixed


def vision(state: State, image: Image.Image) -> torch.Tensor:
    steps = [
        transforms.Resize((SIDE, SIDE), transforms.InterpolationMode.BICUBIC),
        transforms.ToTensor(),
        transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ]
    pixels: torch.Tensor = transforms.Compose(steps)(image)[None]
    own = "visual_encoder"
    kernel, bias = (state[f"{own}.patch_embed.proj.{part}"] for part in ("weight", "bias"))
    x = F.conv2d(pixels, kernel, bias, stride=PATCH).flatten(2)[0].T
    x = torch.cat([state[f"{own}.cls_token"][0], x]) + state[f"{own}.pos_embed"][0]
    for layer in range(LAYERS):
        block = f"{own}.blocks.{layer}"
        qkv = apply(state, f"{block}.attn.qkv", normed(state, f"{block}.norm1", x, 1e-6))
        x = x + apply(state, f"{block}.attn.proj", attention(*qkv.chunk(3, -1)))
        wide = F.gelu(apply(state, f"{block}.mlp.fc1", normed(state, f"{block}.norm2", x, 1e-6)))
        x = x + apply(state, f"{block}.mlp.fc2", wide)
    return normed(state, f"{own}.norm", x, 1e-6)


def read(state: State, prefix: str, ids: list[int], seen: torch.Tensor) -> torch.Tensor:
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


def assent(state: State, tokenizer: str, image: Image.Image, phrase: str) -> float:
    """P(yes) of a phrase among yes and no."""
    tokens: Any = AutoTokenizer.from_pretrained(tokenizer)
    question = "".join(letter for letter in f"{phrase}?".lower() if letter not in '.!"()*#:;~')
    ids = tokens(question, truncation=True, max_length=35)["input_ids"]
    ids[0] = DEC + 1  # [ENC]
    seen = read(state, "text_encoder", ids, vision(state, image))
    head = "text_decoder.cls.predictions"
    x = read(state, "text_decoder.bert", [DEC], seen)
    x = normed(
        state, f"{head}.transform.LayerNorm", F.gelu(apply(state, f"{head}.transform.dense", x)), 1e-12
    )
    logits = apply(state, f"{head}.decoder", x)[0]
    yes, no = logits.softmax(-1)[tokens.convert_tokens_to_ids(["yes", "no"])].tolist()
    return float(yes / (yes + no))


PHRASES = (
    ["a red circle"],
    ["The Blue (square)", "a fox!"],
    ["two squares " * 30],
    ["a fox", "a red fox", "no"],
)


def asked() -> list[Sample]:
    """Pictures of awkward sizes and their phrases."""
    sizes = [(48, 48), (41, 90), (120, 33), (427, 640)]
    return [
        Sample(id=str(row), prompt="x", image=Media(noise(*size, row)), meta={"phrases": phrases})
        for row, (size, phrases) in enumerate(zip(sizes, PHRASES, strict=True))
    ]


def save_parts(folder: Path) -> dict[str, Any]:
    """The arguments of `blip_vqa`."""
    folder.mkdir(exist_ok=True)
    return {"file": save_blip(folder)[0], "tokenizer": save_tokenizer(folder)}


def assents(args: dict[str, Any]) -> Sampled:
    """The product of P(yes) over the phrases."""
    state = torch.load(args["file"], weights_only=True)["model"]

    def value(sample: Sample) -> float:
        (picture,) = pictures_of(sample)
        return math.prod(assent(state, args["tokenizer"], picture, text) for text in sample.meta["phrases"])

    return Sampled(value)
