"""InternVideo2 of stage 2 as it is released: a tiny random file of its names and shapes, and a second writing
of it in plain torch.
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tf
from transformers import BertTokenizer

from .upstream import Args

WIDTH, HEADS, PATCH, GRID, FRAMES, SPACE, DEPTH = 32, 16, 8, 3, 4, 24, 2
SIDE = PATCH * GRID
TEXT, LAYERS, FUSING, LENGTH = 64, 3, 2, 40
WORDS = "a an the red blue fox house circle square above two over runs jumps dog , . ! ? & x is it"
MEAN, STD = (np.array(each).reshape(1, 1, 3) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def save_internvideo(folder: Path, seed: int = 37) -> Args:
    """The file as DeepSpeed wrote it, its tensors under "module" beside what training kept, and BERT's words:
    arguments of `internvideo2`."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in _shapes(len(words)).items():
        scale = 0.2 if len(shape) < 2 else math.prod(shape[1:]) ** -0.5 * 1.5
        if "pos_embed" in name or "cls_token" in name or "embeddings" in name:
            scale = 0.5
        one = (name.endswith("weight") and len(shape) == 1) or name.endswith("gamma")
        state[name] = torch.randn(shape, generator=generator) * scale + float(one)
    file = folder / "InternVideo2-stage2_1b-224p-f4.pt"
    torch.save({"module": state, "epoch": 9, "global_step": 100}, file)
    return {"weights": str(file), "vocabulary": str(folder / "vocab.txt")}


def _shapes(words: int) -> dict[str, tuple[int, ...]]:
    places = GRID * GRID
    eye, bert = "vision_encoder.", "text_encoder.bert."
    shapes: dict[str, tuple[int, ...]] = {
        "temp": (),
        f"{eye}cls_token": (1, 1, WIDTH),
        f"{eye}patch_embed.proj.weight": (WIDTH, 3, 1, PATCH, PATCH),
        f"{eye}patch_embed.proj.bias": (WIDTH,),
    }
    for kind in ("", "clip_"):
        shapes[f"{eye}{kind}pos_embed"] = (1, FRAMES * places + 1, WIDTH)
        shapes[f"{eye}{kind}img_pos_embed"] = (1, places + 1, WIDTH)

    def linear(name: str, out: int, given: int) -> None:
        shapes.update({f"{name}.weight": (out, given), f"{name}.bias": (out,)})

    def norm(name: str, width: int) -> None:
        shapes.update({f"{name}.weight": (width,), f"{name}.bias": (width,)})

    for layer in range(DEPTH):
        own = f"{eye}blocks.{layer}."
        for name in ("norm1.weight", "norm2.weight", "attn.q_norm.weight", "attn.k_norm.weight"):
            shapes[own + name] = (WIDTH,)
        shapes |= {f"{own}ls1.gamma": (WIDTH,), f"{own}ls2.gamma": (WIDTH,)}
        shapes[f"{own}attn.qkv.weight"] = (3 * WIDTH, WIDTH)
        linear(f"{own}attn.proj", WIDTH, WIDTH)
        linear(f"{own}mlp.fc1", 2 * WIDTH, WIDTH)
        linear(f"{own}mlp.fc2", WIDTH, 2 * WIDTH)
    pool = f"{eye}clip_projector."
    for part in "qkv":
        norm(f"{pool}norm1_{part}", WIDTH)
        shapes[f"{pool}cross_attn.{part}.weight"] = (WIDTH, WIDTH)
        shapes[f"{pool}cross_attn.{part}_bias"] = (WIDTH,)
    linear(f"{pool}cross_attn.proj", SPACE, WIDTH)
    linear(f"{eye}clip_decoder.0.head", 2 * WIDTH, WIDTH)
    norm(f"{eye}clip_decoder.0.norm", 2 * WIDTH)
    linear(f"{eye}final_clip_decoder.head", SPACE, SPACE)
    norm(f"{eye}final_clip_decoder.norm", SPACE)
    for name, rows in (("word", words), ("position", 64), ("token_type", 2)):
        shapes[f"{bert}embeddings.{name}_embeddings.weight"] = (rows, TEXT)
    norm(f"{bert}embeddings.LayerNorm", TEXT)
    for layer in range(LAYERS):
        own = f"{bert}encoder.layer.{layer}."
        for kind, given in (("attention", TEXT), ("crossattention", WIDTH))[: 1 + (layer >= FUSING)]:
            linear(f"{own}{kind}.self.query", TEXT, TEXT)
            linear(f"{own}{kind}.self.key", TEXT, given)
            linear(f"{own}{kind}.self.value", TEXT, given)
            linear(f"{own}{kind}.output.dense", TEXT, TEXT)
            norm(f"{own}{kind}.output.LayerNorm", TEXT)
        linear(f"{own}intermediate.dense", 2 * TEXT, TEXT)
        linear(f"{own}output.dense", TEXT, 2 * TEXT)
        norm(f"{own}output.LayerNorm", TEXT)
    linear("text_encoder.cls.predictions.transform.dense", TEXT, TEXT)
    shapes["text_encoder.cls.predictions.bias"] = (words,)
    linear("vision_proj", 16, SPACE)
    linear("text_proj", 16, TEXT)
    linear("itm_head", 2, TEXT)
    return shapes


# --- the publisher's lines ----------------------------------------------------------------------------------


class NaiveInternVideo:
    """The publisher's lines with plain functions, for one clip and one text.

    Args:
        fused: as flash-attn's layers compute: RMS norms with the residual added before, the approximate GELU.
    """

    def __init__(self, args: Args, frames: int, fused: bool) -> None:
        self.state: dict[str, torch.Tensor] = torch.load(args["weights"], weights_only=True)["module"]
        words = Path(args["vocabulary"]).read_text().split()
        self.tokenizer: Any = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
        self.frames, self.fused = frames, fused

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state.get(f"{name}.bias", 0.0)

    def norm(self, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps)

    def rms(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.state[f"{name}.weight"]

    def positions(self) -> torch.Tensor:
        """`interpolate_pos_embed_internvideo2` with `orig_t_size=4`."""
        known = self.state["vision_encoder.pos_embed"]
        if self.frames == FRAMES:
            return known[0]
        rest = known[:, 1:].view(1, FRAMES, -1, WIDTH).permute(0, 2, 3, 1).reshape(-1, WIDTH, FRAMES)
        rest = F.interpolate(rest, size=self.frames, mode="linear").view(1, -1, WIDTH, self.frames)
        return torch.cat((known[:, :1], rest.permute(0, 3, 1, 2).reshape(1, -1, WIDTH)), dim=1)[0]

    def heads(self, *qkv: torch.Tensor, count: int = HEADS, bias: Any = 0.0) -> torch.Tensor:
        out = []
        for one, other, value in zip(*(part.chunk(count, -1) for part in qkv), strict=True):
            out.append((one @ other.T / math.sqrt(one.shape[-1]) + bias).softmax(-1) @ value)
        return torch.cat(out, -1)

    def vision(self, frames: torch.Tensor) -> torch.Tensor:
        """(T, 3, side, side) to a unit vector."""
        own = "vision_encoder."
        kernel = self.state[f"{own}patch_embed.proj.weight"][:, :, 0]
        patches = F.conv2d(frames, kernel, self.state[f"{own}patch_embed.proj.bias"], stride=PATCH)
        tokens = [self.state[f"{own}cls_token"][0, 0]]
        tokens += [
            frame[:, row, column] for frame in patches for row in range(GRID) for column in range(GRID)
        ]
        x = torch.stack(tokens) + self.positions()
        for layer in range(DEPTH):
            block = f"{own}blocks.{layer}."
            q, k, v = self.linear(f"{block}attn.qkv", self.rms(f"{block}norm1", x)).chunk(3, -1)
            q, k = self.rms(f"{block}attn.q_norm", q), self.rms(f"{block}attn.k_norm", k)
            seen = self.linear(f"{block}attn.proj", self.heads(q, k, v))
            x = x + seen * self.state[f"{block}ls1.gamma"]
            wide = self.linear(f"{block}mlp.fc1", self.rms(f"{block}norm2", x))
            cube = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
            half = torch.tanh(cube) if self.fused else torch.erf(wide / math.sqrt(2))
            x = x + self.linear(f"{block}mlp.fc2", wide * 0.5 * (1 + half)) * self.state[f"{block}ls2.gamma"]
        pool = f"{own}clip_projector."
        given = {"q": x.mean(0, keepdim=True), "k": x, "v": x}
        q, k, v = (
            self.linear(f"{pool}cross_attn.{part}", self.norm(f"{pool}norm1_{part}", one, 1e-5))
            + self.state[f"{pool}cross_attn.{part}_bias"]
            for part, one in given.items()
        )
        pooled = self.linear(f"{pool}cross_attn.proj", self.heads(q, k, v))
        return F.normalize(self.linear("vision_proj", pooled[0]), dim=-1)

    def text(self, prompt: str) -> torch.Tensor:
        """BERT in its mode "text", with padding to forty tokens."""
        asked = self.tokenizer(
            prompt, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        own = "text_encoder.bert."
        table = {
            name: self.state[f"{own}embeddings.{name}_embeddings.weight"]
            for name in ("word", "position", "token_type")
        }
        x = table["word"][asked.input_ids[0]] + table["token_type"][0] + table["position"][:LENGTH]
        x = self.norm(f"{own}embeddings.LayerNorm", x, 1e-12)
        bias = (1.0 - asked.attention_mask[0].float()) * torch.finfo(torch.float32).min
        for layer in range(FUSING):
            block = f"{own}encoder.layer.{layer}."
            q, k, v = (self.linear(f"{block}attention.self.{part}", x) for part in ("query", "key", "value"))
            seen = self.linear(
                f"{block}attention.output.dense", self.heads(q, k, v, count=TEXT // 64, bias=bias)
            )
            x = self.norm(f"{block}attention.output.LayerNorm", x + seen, 1e-12)
            wide = F.gelu(self.linear(f"{block}intermediate.dense", x))
            x = self.norm(f"{block}output.LayerNorm", x + self.linear(f"{block}output.dense", wide), 1e-12)
        return F.normalize(self.linear("text_proj", x[0]), dim=-1)


def cropped(clip: np.ndarray[Any, Any], seed: int = 0, side: int = SIDE) -> torch.Tensor:
    """T2V-Turbo's `ResizeCropMinSize` on floats of 0 to 1, its crop where the seed says, and ImageNet's
    normalisation; frames in the middle of eight stretches."""
    total = len(clip)
    bounds = np.linspace(0, total, min(8, total) + 1).astype(int)
    found = [int((one + other - 1) // 2) for one, other in pairwise(bounds)]
    found += found[-1:] * (8 - len(found))
    frames = torch.from_numpy(clip[found]).permute(0, 3, 1, 2).float() / 255
    scale = side / float(min(frames.shape[-2:]))
    size = [round(dim * scale) for dim in frames.shape[-2:]]
    draw = np.random.default_rng(seed)
    top, left = (int(draw.integers(0, dim - side + 1)) for dim in size)
    resized = tf.resize(frames, size, InterpolationMode.BICUBIC, antialias=True)
    mean, std = (torch.from_numpy(each).permute(2, 0, 1).float() for each in (MEAN, STD))
    whole: torch.Tensor = tf.crop(resized, top, left, side, side)
    return (whole - mean) / std


def squashed(clip: np.ndarray[Any, Any]) -> torch.Tensor:
    """The demonstration's `frames2tensor`; needs OpenCV."""
    import cv2

    step = len(clip) // FRAMES
    resized = [cv2.resize(frame, (SIDE, SIDE)) for frame in clip[::step][:FRAMES]]
    tube = np.stack([(frame / 255.0 - MEAN) / STD for frame in resized])
    return torch.from_numpy(tube).permute(0, 3, 1, 2).float()


def cosine(naive: NaiveInternVideo, frames: torch.Tensor, prompt: str) -> float:
    """The cosine of prepared frames and a text."""
    return float(naive.vision(frames) @ naive.text(prompt))
