"""ViCLIP (arXiv:2307.06942) from its published file: a CLIP whose picture side reads the patches of a clip's
frames together.

Ops "clip" and "text": unit embeddings. No current package has the architecture; its modules bear the names of
the file (ViClip-InternVid-10M-FLT.pth). Sizes are read off the tensors; what no tensor says (heads of 64,
the approximate GELU, 32 tokens of text by its positions) is the publisher's.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..engine.batching import Cost
from ..engine.clips import chosen
from ..engine.engine import current
from ..media import Media
from ..reading import aside
from .base import TorchNetwork, loading
from .checkpoints import fill, state_of
from .encoder_handle import Text
from .middles import cropped
from .pictures import decoded, in_turn
from .weights import placed

HEAD = 64
"""Width of one attention head, on both sides."""
PROTOCOLS = {
    "vbench": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "t2v_turbo": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Name -> mean and std of pixels."""
UNUSED = "temp"
"""Name of the temperature, which a cosine does not go through."""


class Frames(NamedTuple):
    """Frames of one clip, how they are prepared, and the seed of a crop; None for the middle."""

    pictures: tuple[Media, ...]
    protocol: str
    seed: int | None


class ViClip(TorchNetwork):
    """One checkpoint.

    Args:
        weights: the published file, by path or OWNER/NAME/FILE.
        dtype: of both sides; embeddings are normalised in float32.
    """

    def __init__(self, weights: str, *, dtype: str = "float32") -> None:
        super().__init__(placed(weights), dtype=dtype)
        self.name = weights

    async def clip(self, frames: Frames) -> "np.ndarray[Any, Any]":
        """The unit embedding of a clip's frames.

        Raises:
            Unscorable: a frame is broken.
        """
        key = (tuple(picture.key for picture in frames.pictures), frames.protocol, frames.seed)
        return cast("np.ndarray[Any, Any]", await current().submit(self, "clip", frames, key=key))

    async def text(self, text: str) -> "tuple[np.ndarray[Any, Any], bool]":
        """The unit embedding of a text, and whether it was cut; the end token is kept."""
        found = await current().submit(self, "text", text, key=text)
        return cast("tuple[np.ndarray[Any, Any], bool]", found)

    @cached_property
    def state(self) -> dict[str, torch.Tensor]:
        with loading(self.name):
            state = state_of(self.source)
            state.pop(UNUSED, None)
            return state

    @cached_property
    def tokenizer(self) -> Any:
        from open_clip.tokenizer import SimpleTokenizer

        return SimpleTokenizer()

    @property
    def frames(self) -> int:
        """Frames that a clip is read by."""
        return int(self.state["vision_encoder.temporal_positional_embedding"].shape[1])

    def build(self) -> nn.Module:
        try:
            module = _Both(self.state)
        except KeyError as error:
            raise ValueError(f"it is no ViCLIP: it has no {error}") from None
        fill(module, self.state, self.name)
        return module.to(self.dtype)

    def cost(self, op: str, item: Any) -> Cost:
        if op == "text":
            return Cost(32, 0)
        height, width = item.pictures[0].size
        return Cost(256 * len(item.pictures), 3 * height * width * len(item.pictures))

    def prepare(self, op: str, items: list[Any]) -> Any:
        if op == "text":
            length = len(self.state["text_encoder.positional_embedding"])
            ids = self.tokenizer(items, context_length=length)
            cut = [len(self.tokenizer.encode(text)) + 2 > length for text in items]
            return ids, cut
        grid, patch = self._geometry
        return torch.stack([self._prepared(frames, grid * patch) for frames in items]).to(self.dtype)

    @property
    def _geometry(self) -> tuple[int, int]:
        """Patches along a side, and pixels along a patch."""
        places = len(self.state["vision_encoder.positional_embedding"]) - 1
        return math.isqrt(places), int(self.state["vision_encoder.conv1.weight"].shape[-1])

    def _prepared(self, frames: Frames, side: int) -> torch.Tensor:
        """(frames, 3, side, side), normalised; every frame is cropped at the same place."""
        pictures = in_turn(frames.pictures, lambda index: decoded(frames.pictures[index]).cpu())
        height, width = pictures[0].shape[1:]
        # VBench cuts the longer side (torchvision's Resize), T2V-Turbo rounds it.
        whole = int if frames.protocol == "vbench" else round
        longer = whole(side * max(height, width) / min(height, width))
        size = (side, longer) if height <= width else (longer, side)
        spare = (size[0] - side, size[1] - side)
        if frames.seed is None:
            top, left = (round(length / 2) for length in spare)
        else:
            draw = np.random.default_rng(frames.seed)
            top, left = (int(draw.integers(0, length + 1)) for length in spare)
        mean, std = (torch.tensor(each)[:, None, None] for each in PROTOCOLS[frames.protocol])
        sized = []
        for picture in pictures:
            small = cropped(picture[None], size, (top, left), (side, side))[0]
            if frames.protocol == "vbench":  # 8-bit values there; its kernel works in float all the same
                small = small.clamp(0, 255).round()
            sized.append((small / 255 - mean) / std)
        return torch.stack(sized)

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        if op == "text":
            ids, cut = batch
            units = _unit(self.module.text_encoder(ids.to(self.device)))
            return list(zip(units, cut, strict=True))
        return list(_unit(self.module.vision_encoder(batch.to(self.device))))


class ClipEncoder:
    """Handle of a ViCLIP as a dual encoder of clips and prompts, prepared as VBench does: what a fitted map
    is put on (`maps.MappedEncoder`).

    Args:
        network: the weights.
    """

    def __init__(self, network: ViClip) -> None:
        self.network = network
        self.name = network.name

    @property
    def fingerprint(self) -> str:
        return self.network.fingerprint

    async def image(self, media: Media) -> "np.ndarray[Any, Any]":
        """The unit embedding of a clip, (D,) float32."""
        return await self.network.clip(Frames(await aside(partial(shown, media)), "vbench", None))

    async def text(self, text: str) -> Text:
        """The unit embedding of a text; the end token is kept where it is cut."""
        return Text(*await self.network.text(text))


SHOWN = 8
"""Frames that the published file reads."""


def shown(clip: Media, places: Callable[[int], list[int]] | None = None) -> tuple[Media, ...]:
    """Frames of a clip that its encoder reads, as pictures.

    Args:
        places: numbers of the frames, of a clip of so many, some of them several times; None: ViCLIP's.

    Raises:
        Unscorable: the clip has none, or cannot be decoded.
    """
    where = places or partial(middles, count=SHOWN)
    wanted = where(max(1, clip.frames))
    numbers = sorted(set(wanted))
    shots = chosen(clip, lambda total: sorted(set(where(total))))
    if len(shots) != len(numbers):  # the index counted frames that are not there
        wanted = where(shots[0].total)
        numbers = sorted(set(wanted))
    return pictures_of(shots, numbers, wanted)


def middles(total: int, count: int) -> list[int]:
    """Frames in the middle of so many equal stretches of a clip; the last is repeated where it is shorter."""
    stretches = np.linspace(0, total, min(count, total) + 1).astype(int)
    found = [int((start + end - 1) // 2) for start, end in pairwise(stretches)]
    return found + found[-1:] * (count - len(found))


def _unit(vectors: torch.Tensor) -> "np.ndarray[Any, Any]":
    return F.normalize(vectors.float(), dim=-1).cpu().numpy()


# --- architecture, by the published names -------------------------------------------------------------------


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // HEAD, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        wide = self.mlp["c_fc"](self.ln_2(x))
        return cast(torch.Tensor, x + self.mlp["c_proj"](wide * torch.sigmoid(1.702 * wide)))


def _blocks(state: Mapping[str, torch.Tensor], side: str, width: int) -> nn.ModuleDict:
    stem = f"{side}.transformer.resblocks."
    count = len({name.removeprefix(stem).split(".")[0] for name in state if name.startswith(stem)})
    return nn.ModuleDict({"resblocks": nn.ModuleList(_Block(width) for _ in range(count))})


def _like(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(tensor, dtype=torch.float32))


class _Vision(nn.Module):
    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        own = "vision_encoder."
        width, _, deep, patch, _ = state[f"{own}conv1.weight"].shape
        if deep != 1:
            raise KeyError(f"{own}conv1.weight of one frame each")
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch), bias=False)
        self.class_embedding = _like(state[f"{own}class_embedding"])
        self.positional_embedding = _like(state[f"{own}positional_embedding"])
        self.temporal_positional_embedding = _like(state[f"{own}temporal_positional_embedding"])
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = _blocks(state, "vision_encoder", width)
        self.proj = _like(state[f"{own}proj"])

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(N, T, 3, side, side) -> (N, D)."""
        patches = self.conv1(frames.transpose(1, 2)).flatten(3)  # (N, width, T, places)
        x = patches.permute(0, 3, 2, 1) + self.positional_embedding[1:, None]
        # Of a place all frames follow one another, before the next place.
        x = (x + self.temporal_positional_embedding).flatten(1, 2)
        first = (self.class_embedding + self.positional_embedding[0]).expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([first, x], dim=1))
        for block in cast(nn.ModuleList, self.transformer["resblocks"]):
            x = block(x, None)
        return cast(torch.Tensor, self.ln_post(x[:, 0]) @ self.proj)


class _Text(nn.Module):
    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        own = "text_encoder."
        words, width = state[f"{own}token_embedding.weight"].shape
        self.token_embedding = nn.Embedding(words, width)
        self.positional_embedding = _like(state[f"{own}positional_embedding"])
        self.transformer = _blocks(state, "text_encoder", width)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = _like(state[f"{own}text_projection"])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.token_embedding(ids) + self.positional_embedding
        mask = torch.full((ids.shape[1],) * 2, -torch.inf, device=x.device, dtype=x.dtype).triu(1)
        for block in cast(nn.ModuleList, self.transformer["resblocks"]):
            x = block(x, mask)
        # The end token has the largest id.
        last = x[torch.arange(len(x), device=x.device), ids.argmax(dim=-1)]
        return cast(torch.Tensor, self.ln_final(last) @ self.text_projection)


class _Both(nn.Module):
    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.vision_encoder = _Vision(state)
        self.text_encoder = _Text(state)


def pictures_of(frames: Sequence[Media], numbers: Sequence[int], wanted: Sequence[int]) -> tuple[Media, ...]:
    """Frames by their numbers, some of them several times."""
    known = dict(zip(numbers, frames, strict=True))
    return tuple(known[number] for number in wanted)
