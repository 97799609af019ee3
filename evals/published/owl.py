"""mPLUG-Owl2 as DeQA-Score and Q-Align are released: a tiny checkpoint, and a second writing of its graph.

The graph is written with plain functions on the published names, layer by layer, and shares nothing with
ours; its tokenizer is the `tokenizers` package's, as transformers makes one of Llama's file.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .upstream import Reference, pixels_of

Args = Mapping[str, Any]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
LEVELS = ("excellent", "good", "fair", "poor", "bad")
SPACE = "\u2581"
PROMPT = "USER: Say of this picture?\n<|image|>\nASSISTANT: It is"
SIDE, PATCH, GRID, QUERIES = 32, 8, 4, 3
VISION = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
    "layer_norm_eps": 1e-6,
}
GATHERER = {
    "num_learnable_queries": QUERIES,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "layer_norm_eps": 1e-6,
    "encoder_hidden_size": 24,
    "grid_size": GRID,
}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
}


def merges() -> list[tuple[str, str]]:
    """Joins of the tiny tokenizer, the first ones first: the five words, and two more."""
    found: list[tuple[str, str]] = [("A", "S"), ("AS", "S")]
    for word in (*LEVELS, "is"):
        whole = SPACE + word
        found += [(whole[:end], whole[end]) for end in range(1, len(whole))]
    return list(dict.fromkeys(found))


def vocabulary() -> list[str]:
    """Pieces by id: three of control, the bytes, letters, and what is joined."""
    letters = [SPACE, *map(chr, range(33, 127))]
    joined = dict.fromkeys(first + second for first, second in merges())
    return ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *joined]


def save_tokenizer(file: Path) -> None:
    """A SentencePiece model of these pieces."""
    ranks = {first + second: rank for rank, (first, second) in reversed(list(enumerate(merges())))}
    data = b""
    for number, piece in enumerate(vocabulary()):
        kind = 2 if number == 0 else 3 if number < 3 else 6 if number < 259 else 1
        text = piece.encode()
        score = struct.pack("<f", -float(ranks.get(piece, 1000 + number)))
        inner = b"\x0a" + bytes([len(text)]) + text + b"\x15" + score + b"\x18" + bytes([kind])
        data += b"\x0a" + bytes([len(inner)]) + inner
    file.write_bytes(data + b"\x12\x02\x18\x00")  # a trainer's message, which nobody reads


def save_owl(folder: Path, seed: int = 28) -> dict[str, Any]:
    """A folder in the published format, pickled shards and all; the arguments of `deqa`."""
    folder.mkdir(parents=True, exist_ok=True)
    state = _drawn(_shapes(), seed)
    names = [f"pytorch_model-{number:05d}-of-00002.bin" for number in (1, 2)]
    places = {name: names[name.startswith("model.layers.1")] for name in state}
    for name in names:
        torch.save({key: tensor for key, tensor in state.items() if places[key] == name}, folder / name)
    index = {"metadata": {}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    config = {
        "model_type": "mplug_owl2",
        "architectures": ["MPLUGOwl2LlamaForCausalLM"],
        "vocab_size": len(vocabulary()),
        **LLAMA,
        "visual_config": {"visual_model": VISION, "visual_abstractor": GATHERER},
    }
    (folder / "config.json").write_text(json.dumps(config))
    processor: dict[str, Any] = {
        "do_resize": True,
        "do_center_crop": True,
        "do_normalize": True,
        "resample": 3,
    }
    processor |= {"feature_extractor_type": "CLIPFeatureExtractor", "size": SIDE, "crop_size": SIDE}
    processor |= {"image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    save_tokenizer(folder / "tokenizer.model")
    (folder.parent / "prompt.txt").write_text(PROMPT)
    return {"weights": str(folder), "words": str(folder.parent / "prompt.txt")}


def _shapes() -> dict[str, tuple[int, ...]]:
    width, seen = LLAMA["hidden_size"], VISION["hidden_size"]
    found: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: float, given: float, bias: bool = True) -> None:
        found[f"{name}.weight"] = (int(out), int(given))
        if bias:
            found[f"{name}.bias"] = (int(out),)

    def norm(name: str, size: float, bias: bool = True) -> None:
        found[f"{name}.weight"] = (int(size),)
        if bias:
            found[f"{name}.bias"] = (int(size),)

    own = "model.vision_model."
    found[f"{own}embeddings.cls_token"] = (1, 1, int(seen))
    found[f"{own}embeddings.position_embedding"] = (1, GRID * GRID + 1, int(seen))
    found[f"{own}embeddings.patch_embed.weight"] = (int(seen), 3, PATCH, PATCH)
    norm(f"{own}embeddings.pre_layernorm", seen)
    norm(f"{own}post_layernorm", seen)
    for layer in range(int(VISION["num_hidden_layers"])):
        block = f"{own}encoder.layers.{layer}."
        norm(f"{block}input_layernorm", seen)
        norm(f"{block}post_attention_layernorm", seen)
        linear(f"{block}self_attn.query_key_value", 3 * seen, seen)
        linear(f"{block}self_attn.dense", seen, seen)
        linear(f"{block}mlp.fc1", VISION["intermediate_size"], seen)
        linear(f"{block}mlp.fc2", seen, VISION["intermediate_size"])
    own = "model.visual_abstractor."
    found[f"{own}query_embeds"] = (1, QUERIES, int(seen))
    found[f"{own}vit_eos"] = (1, 1, int(width))
    linear(f"{own}visual_fc", width, seen)
    for layer in range(int(GATHERER["num_hidden_layers"])):
        block = f"{own}encoder.layers.{layer}.crossattention."
        for name in ("query", "key", "value"):
            linear(f"{block}attention.{name}", seen, seen)
        found[f"{block}attention.q_pos_embed"] = (QUERIES, int(seen))
        found[f"{block}attention.k_pos_embed"] = (GRID * GRID + 1, int(seen))
        linear(f"{block}output.out_proj", seen, seen)
        for name in ("norm1", "normk", "output.norm2"):
            norm(block + name, seen)
        hidden = GATHERER["intermediate_size"]
        linear(f"{block}output.mlp.w1", hidden, seen)
        linear(f"{block}output.mlp.w3", hidden, seen)
        linear(f"{block}output.mlp.w2", seen, hidden)
        norm(f"{block}output.mlp.ffn_ln", hidden)
    found["model.embed_tokens.weight"] = found["lm_head.weight"] = (len(vocabulary()), int(width))
    norm("model.norm", width, bias=False)
    for layer in range(int(LLAMA["num_hidden_layers"])):
        block = f"model.layers.{layer}."
        found[f"{block}self_attn.rotary_emb.inv_freq"] = (4,)
        for name in ("q_proj", "o_proj"):
            linear(f"{block}self_attn.{name}", width, width, bias=False)
        for way in (0, 1):
            for name in ("k_proj", "v_proj"):
                linear(f"{block}self_attn.{name}.multiway.{way}", width, width, bias=False)
            for name in ("input_layernorm", "post_attention_layernorm"):
                norm(f"{block}{name}.multiway.{way}", width, bias=False)
        linear(f"{block}mlp.gate_proj", LLAMA["intermediate_size"], width, bias=False)
        linear(f"{block}mlp.up_proj", LLAMA["intermediate_size"], width, bias=False)
        linear(f"{block}mlp.down_proj", width, LLAMA["intermediate_size"], bias=False)
    return found


def _drawn(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        tensor = torch.randn(shape, generator=generator)
        scale = 0.3 if len(shape) == 1 else np.prod(shape[1:]) ** -0.5 if len(shape) in (2, 4) else 1.0
        state[name] = tensor * float(scale) + float("norm" in name and name.endswith("weight"))
    state["lm_head.weight"] *= 2
    state["model.visual_abstractor.visual_fc.weight"] *= 4  # else every picture has nearly the same grade
    return state


# --- the second writing -------------------------------------------------------------------------------------


class _Owl:
    def __init__(self, folder: str) -> None:
        self.state: dict[str, torch.Tensor] = {}
        for file in sorted(Path(folder).glob("pytorch_model-*.bin")):
            self.state |= torch.load(file, weights_only=True)
        self.tokenizer = _tokenizer()

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, False, keepdim=True) + eps).sqrt() * weight + bias

    def picture(self, pixels: torch.Tensor) -> torch.Tensor:
        """(T, width) of one picture (3, H, W)."""
        own = "model.vision_model"
        kernel = self.state[f"{own}.embeddings.patch_embed.weight"]
        patches = F.conv2d(pixels[None], kernel, stride=PATCH)[0].flatten(1).T
        x = torch.cat([self.state[f"{own}.embeddings.cls_token"][0], patches])
        x = x + self.state[f"{own}.embeddings.position_embedding"][0]
        x = self.norm(f"{own}.embeddings.pre_layernorm", x, 1e-6)
        heads = 2
        for layer in range(2):
            block = f"{own}.encoder.layers.{layer}"
            mixed = self.linear(
                f"{block}.self_attn.query_key_value", self.norm(f"{block}.input_layernorm", x, 1e-6)
            )
            size = x.shape[1] // heads
            out = []
            for head in range(heads):
                q, k, v = mixed[:, head * 3 * size : (head + 1) * 3 * size].chunk(3, dim=1)
                out.append((q @ k.T * size**-0.5).softmax(-1) @ v)
            x = x + self.linear(f"{block}.self_attn.dense", torch.cat(out, 1))
            y = self.linear(f"{block}.mlp.fc1", self.norm(f"{block}.post_attention_layernorm", x, 1e-6))
            x = x + self.linear(f"{block}.mlp.fc2", y / (1 + (-1.702 * y).exp()))
        patches = self.norm(f"{own}.post_layernorm", x, 1e-6)
        own = "model.visual_abstractor"
        x = self.state[f"{own}.query_embeds"][0]
        for layer in range(2):
            block = f"{own}.encoder.layers.{layer}.crossattention"
            x = self.norm(f"{block}.norm1", x, 1e-5)
            all_of = torch.cat([x, self.norm(f"{block}.normk", patches, 1e-5)])
            at_queries, at_keys = (self.state[f"{block}.attention.{n}_pos_embed"] for n in ("q", "k"))
            q = self.linear(f"{block}.attention.query", x + at_queries)
            k = self.linear(f"{block}.attention.key", all_of + torch.cat([at_queries, at_keys]))
            v = self.linear(f"{block}.attention.value", all_of)
            size = x.shape[1] // heads
            parts = [slice(head * size, (head + 1) * size) for head in range(heads)]
            out = [(q[:, p] @ k[:, p].T / size**0.5).softmax(-1) @ v[:, p] for p in parts]
            x = x + self.linear(f"{block}.output.out_proj", torch.cat(out, 1))
            y = self.norm(f"{block}.output.norm2", x, 1e-5)
            gate = self.linear(f"{block}.output.mlp.w1", y)
            y = gate * gate.sigmoid() * self.linear(f"{block}.output.mlp.w3", y)
            x = x + self.linear(f"{block}.output.mlp.w2", self.norm(f"{block}.output.mlp.ffn_ln", y, 1e-6))
        return torch.cat([self.linear(f"{own}.visual_fc", x), self.state[f"{own}.vit_eos"][0]])

    def by_kind(self, name: str, x: torch.Tensor, kinds: list[int], normed: bool) -> torch.Tensor:
        """Each token through the module of its kind."""
        rows = []
        for token, kind in zip(x, kinds, strict=True):
            weight = self.state[f"{name}.multiway.{kind}.weight"]
            rows.append(_rms(token, weight) if normed else weight @ token)
        return torch.stack(rows)

    def logits(self, before: list[int], seen: torch.Tensor, after: list[int]) -> torch.Tensor:
        words = self.state["model.embed_tokens.weight"]
        x = torch.cat([words[before], seen, words[after]])
        kinds = [0] * len(before) + [1] * len(seen) + [0] * len(after)
        size, length = 8, len(x)
        hidden = torch.full((length, length), -torch.inf).triu(1)
        for layer in range(2):
            block = f"model.layers.{layer}"
            y = self.by_kind(f"{block}.input_layernorm", x, kinds, True)
            q = self.linear(f"{block}.self_attn.q_proj", y)
            k, v = (self.by_kind(f"{block}.self_attn.{name}_proj", y, kinds, False) for name in ("k", "v"))
            out = []
            for head in range(4):
                part = slice(head * size, head * size + size)
                scores = _turned(q[:, part]) @ _turned(k[:, part]).T / size**0.5
                out.append((scores + hidden).softmax(-1) @ v[:, part])
            x = x + self.linear(f"{block}.self_attn.o_proj", torch.cat(out, 1))
            y = self.by_kind(f"{block}.post_attention_layernorm", x, kinds, True)
            gate = self.linear(f"{block}.mlp.gate_proj", y)
            x = x + self.linear(
                f"{block}.mlp.down_proj", gate * gate.sigmoid() * self.linear(f"{block}.mlp.up_proj", y)
            )
        return self.linear("lm_head", _rms(x[-1], self.state["model.norm.weight"]))


def _rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean() + 1e-5).sqrt() * weight


def _turned(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions: the complex number of the first and second half turned by its place."""
    half = x.shape[1] // 2
    rates = 10000.0 ** (-torch.arange(half) / half)
    whole = torch.polar(torch.ones(len(x), half), torch.arange(len(x))[:, None] * rates)
    turned = torch.complex(x[:, :half], x[:, half:]) * whole
    return torch.cat([turned.real, turned.imag], dim=1)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers

    names = {piece: number for number, piece in enumerate(vocabulary())}
    known = [pair for pair in merges() if pair[0] in names and pair[1] in names]
    made = Tokenizer(
        models.BPE(vocab=names, merges=known, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    return made


def _padded(picture: Image.Image) -> Image.Image:
    side = max(picture.size)
    square = Image.new("RGB", (side, side), tuple(int(255 * mean) for mean in MEAN))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def graded(args: Args) -> Reference:
    """The publishers' scorer: five logits of the next token, softmax, and the grades' mean."""
    net = _Owl(args["weights"])
    chunks = [net.tokenizer.encode(part).ids for part in Path(args["words"]).read_text().split("<|image|>")]
    ids = [net.tokenizer.encode(level).ids[0] for level in LEVELS]

    def value(picture: Image.Image, prompt: str) -> float:
        pixels = pixels_of(_padded(picture.convert("RGB")))[0]
        pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        with torch.no_grad():
            logits = net.logits([1, *chunks[0]], net.picture(pixels), chunks[1])[ids]
        return float(logits.softmax(-1) @ torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0]))

    return Reference(value)
