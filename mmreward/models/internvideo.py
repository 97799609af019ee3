"""InternVideo2 (arXiv:2403.15377) of stage 2 from its published file: a ViT that reads a clip's frames
together, and a BERT whose first layers read the prompt.

Ops "clip" and "text": unit embeddings. No current package has the architecture; modules bear the names of the
file (InternVideo2-stage2_1b-224p-f4.pt). Sizes are read off the tensors; what no tensor says (16 heads, 40
tokens of text) is the publisher's. Of the file, the layers that fuse both sides, the heads of training and
the decoders for the teacher are left out.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..engine.batching import Cost
from ..engine.engine import current
from ..media import Media
from .base import TorchNetwork, loading
from .checkpoints import fetched, fill, state_of
from .middles import cropped
from .pictures import decoded, in_turn
from .weights import content_of, placed

HEADS = 16
"""Attention heads of every layer of the picture side."""
EYES = 64
"""Width of one attention head of BERT."""
TOKENS = 40
"""Tokens of a prompt that are read, both ends among them."""
KEY = "module"
"""Name of the tensors in the file, beside what training kept."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNUSED = (
    "clip_teacher.",
    "itm_head.",
    "temp",
    "text_encoder.cls.",
    "text_encoder.bert.embeddings.position_ids",
    "vision_encoder.clip_decoder.",
    "vision_encoder.clip_img_pos_embed",
    "vision_encoder.clip_pos_embed",
    "vision_encoder.final_clip_decoder.",
    "vision_encoder.img_pos_embed",
)
"""Beginnings of names in the file that a cosine does not go through."""
LAYER = "text_encoder.bert.encoder.layer."


class Protocol(NamedTuple):
    """Frames of one use of the model, and how they and its layers are computed."""

    frames: int
    crops: bool
    """The shorter side is resized, and a square drawn by lot; else the frame is squashed to the square."""
    gelu: Literal["none", "tanh"]
    """torch's word for the exact GELU, or for its approximation, which flash-attn's fused layer has."""


PROTOCOLS = {"t2v_turbo": Protocol(8, True, "tanh"), "demo": Protocol(4, False, "none")}


class Shots(NamedTuple):
    """Frames of one clip, and the seed of a crop."""

    pictures: tuple[Media, ...]
    seed: int


class InternVideo2(TorchNetwork):
    """One checkpoint under one protocol.

    Args:
        weights: the published file, by path or OWNER/NAME/FILE.
        vocabulary: BERT's vocab.txt, likewise.
        protocol: of `PROTOCOLS`.
        dtype: of both sides; embeddings are normalised in float32.
    """

    def __init__(self, weights: str, vocabulary: str, *, protocol: str, dtype: str = "float32") -> None:
        words = content_of(placed(vocabulary))
        super().__init__(placed(weights), dtype=dtype, protocol=protocol, vocabulary=words)
        self.name, self.vocabulary, self.protocol = weights, vocabulary, PROTOCOLS[protocol]

    async def clip(self, shots: Shots) -> "np.ndarray[Any, Any]":
        """The unit embedding of a clip's frames.

        Raises:
            Unscorable: a frame is broken.
        """
        key = (tuple(picture.key for picture in shots.pictures), shots.seed)
        return cast("np.ndarray[Any, Any]", await current().submit(self, "clip", shots, key=key))

    async def text(self, text: str) -> "tuple[np.ndarray[Any, Any], bool]":
        """The unit embedding of a text, and whether it was cut; the end token is kept."""
        found = await current().submit(self, "text", text, key=text)
        return cast("tuple[np.ndarray[Any, Any], bool]", found)

    def build(self) -> nn.Module:
        with loading(self.name):
            state = {k: v for k, v in state_of(self.name, KEY).items() if not k.startswith(UNUSED)}
        try:
            deep = fusing_from(state)
            state = {name: tensor for name, tensor in state.items() if _layer(name) < deep}
            module = _Both(state, self.protocol.frames, self.protocol.gelu)
        except KeyError as error:
            raise ValueError(f"it is no InternVideo2 of stage 2: it has no {error}") from None
        known = len(self._tokenizer.get_vocab())
        if (wanted := len(state["text_encoder.bert.embeddings.word_embeddings.weight"])) != known:
            raise ValueError(f"{self.vocabulary} has {known} words, and {self.name} {wanted}")
        state["vision_encoder.pos_embed"] = stretched(
            state["vision_encoder.pos_embed"], module.vision_encoder.places, self.protocol.frames
        )
        fill(module, state, self.name)
        return module.to(self.dtype)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers.implementations import BertWordPieceTokenizer

        with loading(self.vocabulary):
            return BertWordPieceTokenizer(str(fetched(self.vocabulary)), lowercase=True)

    def cost(self, op: str, item: Any) -> Cost:
        if op == "text":
            return Cost(TOKENS, 0)
        height, width = item.pictures[0].size
        return Cost(256 * len(item.pictures), 3 * height * width * len(item.pictures))

    def prepare(self, op: str, items: list[Any]) -> Any:
        if op == "text":
            return self._tokens(items)
        side = self.module.vision_encoder.side
        return torch.stack([self._pixels(shots, side) for shots in items]).to(self.dtype)

    def _tokens(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor, list[bool]]:
        """Ids and mask, padded and cut to the published length, and which were cut."""
        with self.processing:
            found = [self._tokenizer.encode(text).ids for text in texts]
        pad, end = (self._tokenizer.token_to_id(token) for token in ("[PAD]", "[SEP]"))
        cut = [len(ids) > TOKENS for ids in found]
        kept = [[*ids[: TOKENS - 1], end] if long else ids for ids, long in zip(found, cut, strict=True)]
        ids = torch.tensor([[*one, *[pad] * (TOKENS - len(one))] for one in kept])
        return ids, torch.tensor([[n < len(one) for n in range(TOKENS)] for one in kept]), cut

    def _pixels(self, shots: Shots, side: int) -> torch.Tensor:
        """(frames, 3, side, side), normalised; every frame is cropped at the same place."""
        pictures = in_turn(shots.pictures, lambda index: decoded(shots.pictures[index]).cpu())
        mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
        if not self.protocol.crops:
            return (opencv_linear(torch.stack(pictures), side) / 255 - mean) / std
        scale = side / min(pictures[0].shape[1:])
        height, width = (round(length * scale) for length in pictures[0].shape[1:])
        draw = np.random.default_rng(shots.seed)
        top, left = (int(draw.integers(0, length - side + 1)) for length in (height, width))
        small = cropped(torch.stack(pictures), (height, width), (top, left), (side, side))
        return (small / 255 - mean) / std

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        if op == "text":
            ids, mask, cut = batch
            states = self.module.text_encoder["bert"](ids.to(self.device), mask.to(self.device))
            return list(zip(_unit(self.module.text_proj(states.last_hidden_state[:, 0])), cut, strict=True))
        return list(_unit(self.module.vision_proj(self.module.vision_encoder(batch.to(self.device)))))


def _unit(vectors: torch.Tensor) -> "np.ndarray[Any, Any]":
    return F.normalize(vectors.float(), dim=-1).cpu().numpy()


def placed_evenly(total: int, count: int) -> list[int]:
    """Frames of the publisher's demonstration: every `total // count`-th from the first.

    Raises:
        ValueError: there are fewer.
    """
    if total < count:
        raise ValueError(f"the clip has {total} frames, and {count} are read")
    return list(range(0, total, total // count))[:count]


def stretched(known: torch.Tensor, places: int, frames: int) -> torch.Tensor:
    """Positions (1, 1 + T x places, width) of another number of frames than they were trained for, linear in
    time, as upstream; that of the class token as it is."""
    first, rest = known[:, :1], known[0, 1:].reshape(-1, places, known.shape[2])
    if len(rest) == frames:
        return known
    over_time = F.interpolate(rest.permute(1, 2, 0).float(), size=frames, mode="linear")
    return torch.cat([first, over_time.permute(2, 0, 1).flatten(0, 1)[None].to(known.dtype)], dim=1)


FINE = 2048
"""Parts of 1 that OpenCV's weights are counted in."""


def opencv_linear(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Pixels (N, 3, H, W) of 8 bits squashed to (N, 3, side, side) as OpenCV's `resize` does by default: two
    neighbours a side without antialiasing, in whole numbers; the mean of four where it halves both sides."""
    height, width = pixels.shape[-2:]
    if height == width == side:
        return pixels.float()
    if height == width == 2 * side:
        return F.avg_pool2d(pixels.float(), 2).add(0.5).floor()
    left, right, one, other = _taps(width, side)
    # Outside of a row its last pixel alone counts; a column has both of its taps there.
    beyond = (left < 0) | (left >= width - 1)
    one, other = one.masked_fill(beyond, FINE), other.masked_fill(beyond, 0)
    left, right = left.clamp(0, width - 1), right.clamp(0, width - 1)
    top, bottom, above, below = _taps(height, side)
    # Of the rows only those that are looked at: a thin picture may have millions.
    parts = (pixels[..., place.clamp(0, height - 1), :].long() for place in (top, bottom))
    upper, lower = ((part[..., left] * one + part[..., right] * other) >> 4 for part in parts)
    return (((above[:, None] * upper >> 16) + (below[:, None] * lower >> 16) + 2) >> 2).float()


def _taps(length: int, side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two neighbours of each place, which may lie outside, and their weights."""
    places = ((torch.arange(side, dtype=torch.float64) + 0.5) * (length / side) - 0.5).float()
    part = places - places.floor()
    first = places.floor().long()
    return first, first + 1, ((1 - part) * FINE).round().long(), (part * FINE).round().long()


def fusing_from(state: Mapping[str, torch.Tensor]) -> int:
    """Number of BERT's first layer that looks at frames: those before it read a prompt by itself."""
    numbers = [_layer(name) for name in state if name.startswith(LAYER)]
    if not numbers:
        raise KeyError(f"{LAYER}0")
    return min((_layer(name) for name in state if ".crossattention." in name), default=max(numbers) + 1)


def _layer(name: str) -> int:
    return int(name.removeprefix(LAYER).split(".")[0]) if name.startswith(LAYER) else -1


# --- architecture, by the published names -------------------------------------------------------------------


def _like(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(tensor, dtype=torch.float32))


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class _Attention(nn.Module):
    """Queries and keys are normalised over all heads together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm, self.k_norm = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        seen = _attended(self.q_norm(query), self.k_norm(key), value)
        return cast(torch.Tensor, self.proj(seen))


def _attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    q, k, v = (one.reshape(*one.shape[:2], HEADS, -1).transpose(1, 2) for one in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class _Block(nn.Module):
    def __init__(self, width: int, inner: int, gelu: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.attn = _Attention(width)
        self.ls1, self.ls2 = _Scale(width), _Scale(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})
        self.gelu = gelu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        wide = F.gelu(self.mlp["fc1"](self.norm2(x)), approximate=self.gelu)
        return cast(torch.Tensor, x + self.ls2(self.mlp["fc2"](wide)))


class _Cross(nn.Module):
    def __init__(self, width: int, space: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.q_bias, self.k_bias, self.v_bias = (nn.Parameter(torch.empty(width)) for _ in range(3))
        self.proj = nn.Linear(width, space)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        seen = _attended(self.q(query) + self.q_bias, self.k(key) + self.k_bias, self.v(value) + self.v_bias)
        return cast(torch.Tensor, self.proj(seen))


class _Pool(nn.Module):
    """Attention of all tokens' mean to the tokens."""

    def __init__(self, width: int, space: int) -> None:
        super().__init__()
        self.norm1_q, self.norm1_k, self.norm1_v = (nn.LayerNorm(width, eps=1e-5) for _ in range(3))
        self.cross_attn = _Cross(width, space)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query = self.norm1_q(x.mean(1, keepdim=True))
        return cast(torch.Tensor, self.cross_attn(query, self.norm1_k(x), self.norm1_v(x))[:, 0])


class _Vision(nn.Module):
    def __init__(self, state: Mapping[str, torch.Tensor], frames: int, gelu: str) -> None:
        super().__init__()
        own = "vision_encoder."
        width, _, deep, patch, _ = state[f"{own}patch_embed.proj.weight"].shape
        if deep != 1:
            raise KeyError(f"{own}patch_embed.proj.weight of one frame each")
        trained = state[f"{own}pos_embed"].shape[1] - 1
        self.places = _grid(trained) ** 2
        self.side = patch * _grid(trained)
        conv = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch))
        self.patch_embed = nn.ModuleDict({"proj": conv})
        self.cls_token = _like(state[f"{own}cls_token"])
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + frames * self.places, width))
        stem = f"{own}blocks."
        depth = len({name.removeprefix(stem).split(".")[0] for name in state if name.startswith(stem)})
        inner = len(state[f"{stem}0.mlp.fc1.weight"])
        self.blocks = nn.ModuleList(_Block(width, inner, gelu) for _ in range(depth))
        self.clip_projector = _Pool(width, len(state[f"{own}clip_projector.cross_attn.proj.weight"]))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(N, T, 3, side, side) -> (N, D)."""
        patches = self.patch_embed["proj"](frames.transpose(1, 2)).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return cast(torch.Tensor, self.clip_projector(x))


def _grid(trained: int) -> int:
    """Patches along a side, of positions that were trained for 4 frames (or 8)."""
    for frames in (4, 8):
        if trained % frames == 0 and math.isqrt(trained // frames) ** 2 == trained // frames:
            return math.isqrt(trained // frames)
    raise KeyError(f"vision_encoder.pos_embed of 4 or 8 square frames: {trained} places")


class _Both(nn.Module):
    def __init__(self, state: Mapping[str, torch.Tensor], frames: int, gelu: str) -> None:
        from transformers import BertConfig, BertModel

        super().__init__()
        self.vision_encoder = _Vision(state, frames, gelu)
        own = "text_encoder.bert."
        words, width = state[f"{own}embeddings.word_embeddings.weight"].shape
        config = BertConfig(
            vocab_size=words,
            hidden_size=width,
            num_hidden_layers=fusing_from(state),
            num_attention_heads=width // EYES,
            intermediate_size=len(state[f"{LAYER}0.intermediate.dense.weight"]),
            max_position_embeddings=len(state[f"{own}embeddings.position_embeddings.weight"]),
        )
        self.text_encoder = nn.ModuleDict({"bert": BertModel(config, add_pooling_layer=False).eval()})
        for side in ("vision", "text"):
            out, given = state[f"{side}_proj.weight"].shape
            setattr(self, f"{side}_proj", nn.Linear(given, out))
