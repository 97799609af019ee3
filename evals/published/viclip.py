"""ViCLIP as it is released: a tiny random file of its names and shapes, and a second writing of it in plain
torch.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize

WIDTH, PATCH, GRID, FRAMES, SPACE, WORDS, LENGTH = 128, 8, 4, 8, 24, 49408, 32
SIDE = PATCH * GRID
LAYERS = {"vision_encoder": 2, "text_encoder": 2}
TEXT_WIDTH = 64


def save_viclip(file: Path, seed: int = 31) -> str:
    """The file, its tensors under "model" as published."""
    file.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "temp": (),
        "vision_encoder.class_embedding": (WIDTH,),
        "vision_encoder.positional_embedding": (GRID * GRID + 1, WIDTH),
        "vision_encoder.temporal_positional_embedding": (1, FRAMES, WIDTH),
        "vision_encoder.proj": (WIDTH, SPACE),
        "vision_encoder.conv1.weight": (WIDTH, 3, 1, PATCH, PATCH),
        "text_encoder.positional_embedding": (LENGTH, TEXT_WIDTH),
        "text_encoder.text_projection": (TEXT_WIDTH, SPACE),
        "text_encoder.token_embedding.weight": (WORDS, TEXT_WIDTH),
    }
    for name, width in (
        ("vision_encoder.ln_pre", WIDTH),
        ("vision_encoder.ln_post", WIDTH),
        ("text_encoder.ln_final", TEXT_WIDTH),
    ):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for side, width in (("vision_encoder", WIDTH), ("text_encoder", TEXT_WIDTH)):
        for layer in range(LAYERS[side]):
            block = f"{side}.transformer.resblocks.{layer}."
            for name, out, given in (
                ("attn.out_proj", width, width),
                ("mlp.c_fc", 4 * width, width),
                ("mlp.c_proj", width, 4 * width),
            ):
                shapes |= {f"{block}{name}.weight": (out, given), f"{block}{name}.bias": (out,)}
            shapes |= {f"{block}attn.in_proj_weight": (3 * width, width)}
            shapes |= {f"{block}attn.in_proj_bias": (3 * width,)}
            for name in ("ln_1", "ln_2"):
                shapes |= {f"{block}{name}.weight": (width,), f"{block}{name}.bias": (width,)}
    state = {}
    for name, shape in shapes.items():
        scale = 0.2 if len(shape) < 2 else float(torch.tensor(shape[1:]).prod()) ** -0.5 * 1.5
        one = "ln_" in name and name.endswith("weight")
        state[name] = torch.randn(shape, generator=generator) * scale + float(one)
    torch.save({"model": state}, file)
    return str(file)


# --- the publisher's lines ----------------------------------------------------------------------------------


class NaiveViclip:
    """The publisher's lines with plain functions; sequence first, as nn.MultiheadAttention has it there."""

    def __init__(self, file: str) -> None:
        self.state = torch.load(file, weights_only=True)["model"]

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def blocks(self, side: str, x: torch.Tensor, mask: torch.Tensor | float = 0.0) -> torch.Tensor:
        for layer in range(2):
            own = f"{side}.transformer.resblocks.{layer}"
            y = self.norm(f"{own}.ln_1", x)
            qkv = F.linear(
                y, self.state[f"{own}.attn.in_proj_weight"], self.state[f"{own}.attn.in_proj_bias"]
            )
            out = []
            for q, k, v in zip(*(torch.split(part, 64, -1) for part in qkv.chunk(3, -1)), strict=True):
                out.append((q @ k.T / math.sqrt(64) + mask).softmax(-1) @ v)
            x = x + self.linear(f"{own}.attn.out_proj", torch.cat(out, -1))
            y = self.linear(f"{own}.mlp.c_fc", self.norm(f"{own}.ln_2", x))
            x = x + self.linear(f"{own}.mlp.c_proj", y * torch.sigmoid(1.702 * y))
        return x

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def vision(self, frames: torch.Tensor) -> torch.Tensor:
        own = "vision_encoder"
        patches = F.conv2d(frames, self.state[f"{own}.conv1.weight"][:, :, 0], stride=8).flatten(2)
        places = self.state[f"{own}.positional_embedding"]
        times = self.state[f"{own}.temporal_positional_embedding"][0]
        tokens = [self.state[f"{own}.class_embedding"] + places[0]]
        for place in range(patches.shape[2]):
            tokens += [patches[t, :, place] + places[place + 1] + times[t] for t in range(len(frames))]
        x = self.blocks(own, self.norm(f"{own}.ln_pre", torch.stack(tokens)))
        return F.normalize(self.norm(f"{own}.ln_post", x[0]) @ self.state[f"{own}.proj"], dim=-1)

    def text(self, prompt: str) -> torch.Tensor:
        own, tokenizer = "text_encoder", SimpleTokenizer()
        ids = [tokenizer.sot_token_id, *tokenizer.encode(prompt), tokenizer.eot_token_id]
        if len(ids) > 32:
            ids = [*ids[:31], tokenizer.eot_token_id]
        x = (
            self.state[f"{own}.token_embedding.weight"][ids]
            + self.state[f"{own}.positional_embedding"][: len(ids)]
        )
        mask = torch.full((len(ids), len(ids)), -torch.inf).triu(1)
        x = self.norm(f"{own}.ln_final", self.blocks(own, x, mask))
        return F.normalize(x[-1] @ self.state[f"{own}.text_projection"], dim=-1)


def middle_frames(clip: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """VBench's `get_frame_indices` with sample="middle"."""
    total = len(clip)
    stretches = np.linspace(start=0, stop=total, num=min(8, total) + 1).astype(int)
    ranges = [(start, stretches[n + 1] - 1) for n, start in enumerate(stretches[:-1])]
    found = [(start + end) // 2 for start, end in ranges]
    return clip[found + found[-1:] * (8 - len(found))]


def cosine(naive: NaiveViclip, clip: np.ndarray[Any, Any], prompt: str) -> float:
    """The cosine of a clip (T, H, W, 3) of 8 bits and a text."""
    prepare = Compose(
        [
            Resize(SIDE, interpolation=InterpolationMode.BICUBIC, antialias=True),
            CenterCrop(SIDE),
            lambda x: x.float().div(255.0),
            Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    frames = prepare(torch.from_numpy(middle_frames(clip)).permute(0, 3, 1, 2))
    return float(naive.vision(frames) @ naive.text(prompt))
