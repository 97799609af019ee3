"""A tiny InternLM-XComposer2.5-Reward in its published format, and a second writing of its publisher's lines
in plain torch, one row and one head at a time.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import functional as tf

from .llava import Shapes, drawn, rms
from .pieces import save_pieces, tokenizer
from .upstream import Args

SIDE, PATCH, SEES, WIDTH, LAYERS, RANK = 28, 7, 32, 32, 2, 3
GRID = SIDE // PATCH
HEADS, KEYS, HIDDEN = 4, 2, 48
OWN = ("[UNUSED_TOKEN_130]", "[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_146]")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CONFIG = {
    "model_type": "internlm2",
    "architectures": ["InternLMXComposer2ForCausalLM"],
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEYS,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "rope_scaling": {"factor": 2.0, "type": "dynamic"},
    "max_position_embeddings": 1024,
    "max_length": 16384,
    "bias": False,
}


def shapes(vocabulary: int) -> Shapes:
    """Published names and shapes."""
    found: Shapes = {}

    def partial(name: str, out: int, given: int) -> None:
        found[f"{name}.weight"] = (out, given)
        found[f"{name}.Plora_A.weight"], found[f"{name}.Plora_B.weight"] = (RANK, given), (out, RANK)

    own = "vit.vision_tower.vision_model."
    found[f"{own}embeddings.class_embedding"] = (SEES,)
    found[f"{own}embeddings.patch_embedding.weight"] = (SEES, 3, PATCH, PATCH)
    found[f"{own}embeddings.position_embedding.weight"] = (GRID * GRID + 1, SEES)
    for name in ("pre_layrnorm", "post_layernorm"):
        found[f"{own}{name}.weight"] = found[f"{own}{name}.bias"] = (SEES,)
    for layer in range(LAYERS):
        block = f"{own}encoder.layers.{layer}."
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            found[f"{block}self_attn.{name}.weight"] = (SEES, SEES)
            found[f"{block}self_attn.{name}.bias"] = (SEES,)
        found[f"{block}mlp.fc1.weight"], found[f"{block}mlp.fc1.bias"] = (40, SEES), (40,)
        found[f"{block}mlp.fc2.weight"], found[f"{block}mlp.fc2.bias"] = (SEES, 40), (SEES,)
        for name in ("layer_norm1", "layer_norm2"):
            found[f"{block}{name}.weight"] = found[f"{block}{name}.bias"] = (SEES,)
    found["vision_proj.0.weight"], found["vision_proj.0.bias"] = (WIDTH, 4 * SEES), (WIDTH,)
    found["vision_proj.2.weight"], found["vision_proj.2.bias"] = (WIDTH, WIDTH), (WIDTH,)
    found["plora_glb_GN"], found["plora_sub_GN"] = (1, 1, 4 * SEES), (1, 1, 1, 4 * SEES)
    found["model.tok_embeddings.weight"] = (vocabulary, WIDTH)
    found["model.norm.weight"], found["score.weight"] = (WIDTH,), (1, WIDTH)
    for layer in range(LAYERS):
        block = f"model.layers.{layer}."
        partial(f"{block}attention.wqkv", (HEADS + 2 * KEYS) * WIDTH // HEADS, WIDTH)
        partial(f"{block}attention.wo", WIDTH, WIDTH)
        partial(f"{block}feed_forward.w1", HIDDEN, WIDTH)
        partial(f"{block}feed_forward.w3", HIDDEN, WIDTH)
        partial(f"{block}feed_forward.w2", WIDTH, HIDDEN)
        for name in ("attention_norm", "ffn_norm"):
            found[f"{block}{name}.weight"] = (WIDTH,)
    return found


def save_xcomposer(folder: Path, seed: int = 6, **config: Any) -> Args:
    """A folder in the published format, pickled shards and all; the arguments of `ixc`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = save_pieces(folder / "tokenizer.model", OWN)
    state = drawn(shapes(len(names)), seed)
    for name in ("plora_glb_GN", "plora_sub_GN"):
        state[name] = state[name] * 5
    state["model.tok_embeddings.weight"] = state["model.tok_embeddings.weight"] * WIDTH**0.5
    shards = [f"pytorch_model-{number:05d}-of-00002.bin" for number in (1, 2)]
    places = {name: shards[name.startswith("model.layers.1")] for name in state}
    for shard in shards:
        torch.save({key: tensor for key, tensor in state.items() if places[key] == shard}, folder / shard)
    index = {"metadata": {}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": len(names)} | config))
    settings = {"tokenizer_class": "InternLMXComposer2Tokenizer", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"unk_token": "<unk>"}))
    return {"weights": str(folder), "hd_num": 4}


# --- the publisher's lines ----------------------------------------------------------------------------------


class NaiveXComposer:
    """`get_score` of one chat."""

    def __init__(self, args: Args) -> None:
        self.state: dict[str, torch.Tensor] = {}
        for file in Path(args["weights"]).glob("*.bin"):
            self.state |= torch.load(file, weights_only=True)
        self.tokenizer = tokenizer(OWN)
        self.names = self.tokenizer.get_vocab()
        self.most = args["hd_num"]

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def ids(self, text: str) -> list[int]:
        """Between the pieces that are never split, each stretch by itself."""
        found, rest = [], text
        whole = (*OWN, "</s>")
        while rest:
            at, token = min(((rest.find(t), t) for t in whole if t in rest), default=(len(rest), ""))
            if at:
                found += self.tokenizer.encode(rest[:at]).ids
            found += [self.names[token]] if token else []
            rest = rest[at + len(token) :]
        return found

    def transformed(self, img: Image.Image, most: int) -> Any:
        width, height = img.size
        trans = width < height
        if trans:
            img = img.transpose(Image.Transpose.TRANSPOSE)
            width, height = img.size
        ratio, scale = width / height, 1
        while scale * np.ceil(scale / ratio) <= most:
            scale += 1
        scale = min(np.ceil(width / SIDE), scale - 1)
        new_w = int(scale * SIDE)
        img = tf.resize(img, [int(new_w / ratio), new_w])
        down = int(np.ceil(img.size[1] / SIDE) * SIDE) - img.size[1]
        img = tf.pad(img, [0, 0, 0, down], fill=[255, 255, 255])
        img = img.transpose(Image.Transpose.TRANSPOSE) if trans else img
        return tf.normalize(tf.to_tensor(img), MEAN, STD)[None]

    def tower(self, x: torch.Tensor) -> torch.Tensor:
        own = "vit.vision_tower.vision_model."

        def norm(name: str, y: torch.Tensor) -> Any:
            return F.layer_norm(y, (SEES,), self.state[f"{name}.weight"], self.state[f"{name}.bias"], 1e-5)

        x = F.conv2d(x, self.state[f"{own}embeddings.patch_embedding.weight"], stride=PATCH)
        x = x.flatten(2).transpose(1, 2)
        first = self.state[f"{own}embeddings.class_embedding"].expand(len(x), 1, -1)
        x = torch.cat([first, x], 1) + self.state[f"{own}embeddings.position_embedding.weight"]
        x = norm(f"{own}pre_layrnorm", x)
        for layer in range(LAYERS):
            block = f"{own}encoder.layers.{layer}."
            y = norm(f"{block}layer_norm1", x)
            q, k, v = (self.linear(f"{block}self_attn.{n}_proj", y) for n in "qkv")
            heads, size = [], SEES // 16
            for at in range(0, SEES, size):
                part = slice(at, at + size)
                heads.append(
                    (q[..., part] @ k[..., part].transpose(1, 2) / size**0.5).softmax(-1) @ v[..., part]
                )
            x = x + self.linear(f"{block}self_attn.out_proj", torch.cat(heads, -1))
            y = self.linear(f"{block}mlp.fc1", norm(f"{block}layer_norm2", x))
            x = x + self.linear(f"{block}mlp.fc2", y * torch.sigmoid(1.702 * y))
        return x[:, 1:]

    def picture(self, img: Image.Image, most: int) -> torch.Tensor:
        pixels = self.transformed(img, most)
        _, _, high, wide = pixels.shape
        h, w, half = high // SIDE, wide // SIDE, GRID // 2
        subs = pixels.reshape(1, 3, h, SIDE, w, SIDE).permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, SIDE, SIDE)
        whole = F.interpolate(pixels, size=(SIDE, SIDE), mode="bicubic")
        found = self.tower(torch.cat([whole, subs]))
        glb, sub = self.state["plora_glb_GN"], self.state["plora_sub_GN"]

        def fours(x: torch.Tensor) -> torch.Tensor:
            x = x.reshape(len(x), half, 2, half, 2, SEES).permute(0, 1, 3, 2, 4, 5)
            return x.reshape(len(x), half, half, 4 * SEES)

        first = torch.cat([fours(found[:1]), sub.repeat(1, half, 1, 1)], 2).reshape(1, -1, 4 * SEES)
        rest = fours(found[1:]).reshape(1, h, w, half, half, -1).permute(0, 1, 3, 2, 4, 5)
        rest = rest.reshape(1, h * half, w * half, 4 * SEES)
        rest = torch.cat([rest, sub.repeat(1, h * half, 1, 1)], 2).reshape(1, -1, 4 * SEES)
        lines = torch.cat([first, glb, rest], 1)[0]
        return self.linear("vision_proj.2", F.gelu(self.linear("vision_proj.0", lines)))

    def partial(self, name: str, x: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        low = x @ self.state[f"{name}.Plora_A.weight"].T @ self.state[f"{name}.Plora_B.weight"].T
        return x @ self.state[f"{name}.weight"].T + low * kinds[:, None]

    def score(self, question: str, response: str, pictures: Sequence[Image.Image]) -> float:
        words = self.state["model.tok_embeddings.weight"]
        text = f"[UNUSED_TOKEN_146]user\n{question}[UNUSED_TOKEN_145]\n"
        text += f"[UNUSED_TOKEN_146]assistant\n{response}[UNUSED_TOKEN_145]\n</s>[UNUSED_TOKEN_130]"
        if len(pictures) == 1 and "<ImageHere>" not in text:
            text = "<ImageHere>" + text
        rows, kinds = [words[[1]]], [torch.zeros(1)]
        for number, part in enumerate(text.split("<ImageHere>")):
            rows.append(words[self.ids(part)])
            kinds.append(torch.zeros(len(rows[-1])))
            if number < len(pictures):
                rows.append(self.picture(pictures[number], 6 if len(pictures) > 1 else self.most))
                kinds.append(torch.ones(len(rows[-1])))
        x, kind = torch.cat(rows), torch.cat(kinds)
        size, length, group = WIDTH // HEADS, len(x), HEADS // KEYS + 2
        hidden = torch.full((length, length), -torch.inf).triu(1)
        rates = 1000000.0 ** (-torch.arange(size // 2) * 2 / size)
        turns = torch.polar(torch.ones(length, size // 2), torch.arange(length)[:, None] * rates)

        def turned(y: torch.Tensor) -> torch.Tensor:
            whole = torch.complex(y[:, : size // 2], y[:, size // 2 :]) * turns
            return torch.cat([whole.real, whole.imag], 1)

        for layer in range(LAYERS):
            block = f"model.layers.{layer}."
            mixed = self.partial(
                f"{block}attention.wqkv", rms(x, self.state[f"{block}attention_norm.weight"]), kind
            )
            parts = torch.split(mixed, size, dim=1)
            heads = []
            for head in range(HEADS):
                own = head // (HEADS // KEYS) * group
                q, k, v = parts[own + head % (HEADS // KEYS)], parts[own + group - 2], parts[own + group - 1]
                heads.append((turned(q) @ turned(k).T / math.sqrt(size) + hidden).softmax(-1) @ v)
            x = x + self.partial(f"{block}attention.wo", torch.cat(heads, 1), kind)
            y = rms(x, self.state[f"{block}ffn_norm.weight"])
            y = F.silu(self.partial(f"{block}feed_forward.w1", y, kind)) * self.partial(
                f"{block}feed_forward.w3", y, kind
            )
            x = x + self.partial(f"{block}feed_forward.w2", y, kind)
        return float(rms(x, self.state["model.norm.weight"])[-1] @ self.state["score.weight"][0])
