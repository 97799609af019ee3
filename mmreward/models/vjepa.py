"""V-JEPA 2-AC (arXiv:2506.09985) from its publisher's file: a ViT that embeds frames one by one, and a
predictor of the next frame's embedding from those so far, the robot's actions and its states.

Ops "frame" (the embedding) and "rollout" (how far the last predicted one is from a goal's). The file
(vjepa2-ac-vitg.pt) is a checkpoint of training: the tensors lie under `encoder` and `predictor`, beside a
second copy of the encoder and the optimizer's state, which are not read. Modules bear the names of the file,
sizes are read off the tensors, and what no tensor says is the publisher's code's (facebookresearch/vjepa2 at
c2963a4): heads of 64, frames of 256 pixels, rotary positions, 32 frames at most.

A frame of the predictor is an action, a state and the frame's patches; it sees itself and the frames before
it. What was computed of those before is therefore kept, and no mask is needed.
"""

from asyncio import gather
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..engine.batching import Cost
from ..engine.engine import current
from ..errors import Unscorable
from ..media import Media
from .base import TorchNetwork, loading
from .checkpoints import fill, parts_of, state_of
from .pictures import decoded, in_turn
from .weights import content_of, placed

HEAD = 64
"""Width of one attention head, of both networks."""
TURNED = 2 * (HEAD // 3 // 2)
"""Numbers of a head that are turned by the frame, then by the row, then by the column; the rest are not."""
SIDE = 256
"""Pixels along a side of a frame."""
FRAMES = 32
"""Frames that the published predictor can look back on: its mask has no more."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNUSED = ("encoder.pos_embed", "predictor.extrinsics_encoder.")
"""Beginnings of names in the file that take no part: fixed positions of other encoders of this family, and
the camera's place, which the published training leaves out."""

Kept = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of the frames so far, of one layer."""


class Rollout(NamedTuple):
    """One call: embeddings (P, D) of the present frame and of the goal, actions (T, A), states (T, S) or None
    for zeros."""

    now: "np.ndarray[Any, Any]"
    goal: "np.ndarray[Any, Any]"
    actions: "np.ndarray[Any, Any]"
    states: "np.ndarray[Any, Any] | None"


class VJepaAC(TorchNetwork):
    """One checkpoint.

    Args:
        weights: the publisher's file, by path or OWNER/NAME/FILE, or safetensors with its names.
        predictor: a file of tensors with the predictor's names, which stand in the place of those of
            `weights`: one trained on another robot. "" for none.
        dtype: of both networks; embeddings are brought to one scale, and compared, in float32.
    """

    def __init__(self, weights: str, predictor: str = "", *, dtype: str = "float32") -> None:
        other = content_of(placed(predictor)) if predictor else ""
        super().__init__(placed(weights), dtype=dtype, predictor=other)
        self.name, self.predictor = weights, predictor

    async def energy(
        self,
        now: Media,
        goal: Media,
        actions: "np.ndarray[Any, Any]",
        states: "np.ndarray[Any, Any] | None" = None,
    ) -> float:
        """Mean distance (L1) of the embedding that the actions are predicted to lead to from the goal's, 0 to
        2; both have mean 0 and variance 1 in every patch.

        Args:
            now: the picture before the first action.
            goal: the picture that is to be reached.
            actions: (T, A); all of them are rolled out.
            states: (T, S), the robot's before each action; None for zeros.

        Raises:
            Unscorable: a picture is broken, or actions or states are of another length than the network's.
        """
        seen, wanted = await gather(self.frame(now), self.frame(goal))
        with np.errstate(over="ignore"):  # what float32 cannot hold has no energy
            told = actions.astype(np.float32), None if states is None else states.astype(np.float32)
        item = Rollout(seen, wanted, *told)
        key = (now.key, goal.key, *((one.shape, one.tobytes()) for one in told if one is not None))
        return float(await current().submit(self, "rollout", item, key=key))

    async def frame(self, picture: Media) -> "np.ndarray[Any, Any]":
        """Embedding (P, D) of a picture, row by row, of mean 0 and variance 1 in every patch.

        Raises:
            Unscorable: the picture is broken.
        """
        found = await current().submit(self, "frame", picture, key=picture.key)
        return cast("np.ndarray[Any, Any]", found)

    def build(self) -> nn.Module:
        with loading(self.name):
            state = parts_of(self.name, "encoder", "predictor")
        if self.predictor:
            with loading(self.predictor):
                own = state_of(self.predictor, "predictor")
            state = {name: one for name, one in state.items() if not name.startswith("predictor.")}
            state |= {f"predictor.{name}": tensor for name, tensor in own.items()}
        state = {name: tensor for name, tensor in state.items() if not name.startswith(UNUSED)}
        try:
            module = _Both(state)
        except KeyError as error:
            raise ValueError(f"it is no V-JEPA 2-AC: it has no {error}") from None
        fill(module, state, self.predictor or self.name)
        return module.to(self.dtype)

    # --- running ----------------------------------------------------------------------------------

    def cost(self, op: str, item: Any) -> Cost:
        if op == "frame":
            height, width = item.size
            return Cost(256, 3 * height * width)
        return Cost(258 * len(item.actions), item.now.nbytes + item.goal.nbytes)

    def prepare(self, op: str, items: list[Any]) -> Any:
        if op == "frame":
            return torch.stack(in_turn(items, lambda index: prepared(decoded(items[index]).cpu())))
        return self._padded(items)

    def _padded(self, items: list[Rollout]) -> tuple[torch.Tensor, ...]:
        """Present and goal (B, P, D), actions (B, T, A), states (B, T, S), and how many actions each has."""
        lengths = torch.tensor([len(item.actions) for item in items])
        padded = []
        for what in ("action", "state"):
            width = getattr(self.module.predictor, f"{what}_encoder").in_features
            rows = torch.zeros(len(items), int(lengths.max()), width)
            for row, item in zip(rows, items, strict=True):
                given = getattr(item, f"{what}s")
                if given is None:
                    continue
                if given.shape[1] != width:
                    said = f"{what}s of {given.shape[1]} numbers, and the world model was trained on {width}"
                    raise Unscorable(said, "unparsable")
                row[: len(given)] = torch.from_numpy(given)
            padded.append(rows)
        ends = (torch.from_numpy(np.stack([getattr(item, end) for item in items])) for end in ("now", "goal"))
        return (*ends, *padded, lengths)

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        if op == "frame":
            return list(self.module.encoder(batch.to(self.device, self.dtype)).cpu().numpy())
        now, goal, actions, states, lengths = (one.to(self.device) for one in batch)
        energies = torch.stack(
            [(one - goal).abs().mean((1, 2)) for one in self.module.predictor.rolled(now, actions, states)], 1
        )
        return energies.gather(1, lengths[:, None] - 1)[:, 0].tolist()


def prepared(picture: torch.Tensor) -> torch.Tensor:
    """A picture (3, H, W) of 8 bits as (3, 256, 256), normalised: the largest square of its middle, resized
    linearly and without antialiasing, as the publisher does. Of a picture that is one pixel longer than wide
    that square is drawn by lot there; here it begins at the first pixel."""
    height, width = picture.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[None, :, top : top + side, left : left + side].float()
    sized = F.interpolate(square, size=(SIDE, SIDE), mode="bilinear", align_corners=False)[0]
    mean, std = (255 * torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    return (sized - mean) / std


def even(x: torch.Tensor) -> torch.Tensor:
    """The last dimension with mean 0 and variance 1, in float32."""
    return F.layer_norm(x.float(), x.shape[-1:])


# --- architecture, by the published names -------------------------------------------------------------------


class Angles(NamedTuple):
    """Cosines and sines (N, 3 * TURNED) by which the tokens of one frame are turned."""

    cos: torch.Tensor
    sin: torch.Tensor

    @classmethod
    def of(cls, places: torch.Tensor, dtype: torch.dtype) -> "Angles":
        """Of tokens at places (N, 3): frame, row and column."""
        half = TURNED // 2
        rates = 10000.0 ** -(torch.arange(half, device=places.device) / half)
        # Of the two numbers of a pair, which turn together, each has a rate of its own: a slip of the
        # publisher's, which the weights were trained with.
        angles = (places[:, :, None] * rates).repeat(1, 1, 2).flatten(1)
        return cls(angles.cos().to(dtype), angles.sin().to(dtype))

    def turn(self, x: torch.Tensor) -> torch.Tensor:
        """Queries or keys (B, heads, N, HEAD)."""
        head, rest = x[..., : 3 * TURNED], x[..., 3 * TURNED :]
        one, other = head[..., ::2], head[..., 1::2]
        across = torch.stack((-other, one), -1).flatten(-2)
        return torch.cat((head * self.cos + across * self.sin, rest), -1)


def _patches(grid: int, frame: int, device: torch.device) -> torch.Tensor:
    """Places (grid * grid, 3) of a frame's patches."""
    row, column = torch.meshgrid(*[torch.arange(grid, device=device)] * 2, indexing="ij")
    return torch.stack((torch.full_like(row, frame), row, column), -1).flatten(0, 1).float()


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor, angles: Angles, before: Kept | None) -> tuple[torch.Tensor, Kept]:
        """Attention of one frame (B, N, width) to itself and to the frames before it."""
        q, k, v = (one.unflatten(-1, (-1, HEAD)).transpose(1, 2) for one in self.qkv(x).chunk(3, -1))
        q, k = angles.turn(q), angles.turn(k)
        if before is not None:
            k, v = (torch.cat(both, 2) for both in zip(before, (k, v), strict=True))
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.proj(seen), (k, v)


class _Block(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})

    def forward(
        self, x: torch.Tensor, angles: Angles, before: Kept | None = None
    ) -> tuple[torch.Tensor, Kept]:
        seen, kept = self.attn(self.norm1(x), angles, before)
        x = x + seen
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))), kept


def _blocks(state: Mapping[str, torch.Tensor], stem: str, width: int) -> nn.ModuleList:
    depth = len({name.removeprefix(stem).split(".")[0] for name in state if name.startswith(stem)})
    inner = len(state[f"{stem}0.mlp.fc1.weight"])
    return nn.ModuleList(_Block(width, inner) for _ in range(depth))


class _Encoder(nn.Module):
    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        width, _, self.thick, patch, _ = state["encoder.patch_embed.proj.weight"].shape
        self.grid = SIDE // patch
        size = (self.thick, patch, patch)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, width, size, size)})
        self.blocks = _blocks(state, "encoder.blocks.", width)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(N, 3, SIDE, SIDE) -> (N, P, D) float32; a frame is shown as a clip in which nothing moves."""
        clips = frames[:, :, None].expand(-1, -1, self.thick, -1, -1)
        x = self.patch_embed["proj"](clips).flatten(2).transpose(1, 2)
        angles = Angles.of(_patches(self.grid, 0, x.device), x.dtype)
        for block in self.blocks:
            x, _ = block(x, angles)
        return even(self.norm(x))


class _Predictor(nn.Module):
    def __init__(self, state: Mapping[str, torch.Tensor], grid: int) -> None:
        super().__init__()
        width, given = state["predictor.predictor_embed.weight"].shape
        self.grid = grid
        self.predictor_embed = nn.Linear(given, width)
        self.action_encoder = nn.Linear(state["predictor.action_encoder.weight"].shape[1], width)
        self.state_encoder = nn.Linear(state["predictor.state_encoder.weight"].shape[1], width)
        self.predictor_blocks = _blocks(state, "predictor.predictor_blocks.", width)
        self.predictor_norm = nn.LayerNorm(width, eps=1e-6)
        self.predictor_proj = nn.Linear(width, given)

    def rolled(self, now: torch.Tensor, actions: torch.Tensor, states: torch.Tensor) -> "list[torch.Tensor]":
        """The frame (B, P, D) float32 that is predicted after each of the actions (B, T, A), from the present
        one and the states (B, T, S) before them; what was predicted is what the next is predicted from."""
        dtype = self.predictor_embed.weight.dtype
        kept: list[Kept | None] = [None] * len(self.predictor_blocks)
        found = []
        for number in range(actions.shape[1]):
            told = [
                encoder(given[:, number : number + 1].to(dtype))
                for encoder, given in ((self.action_encoder, actions), (self.state_encoder, states))
            ]
            x = torch.cat((*told, self.predictor_embed(now.to(dtype))), 1)
            # An action and a state are turned by the number of their frame alone, as if they lay in its
            # first corner.
            places = _patches(self.grid, number, x.device)
            angles = Angles.of(torch.cat((places[:1], places[:1], places)), dtype)
            for layer, block in enumerate(self.predictor_blocks):
                x, kept[layer] = block(x, angles, kept[layer])
            now = even(self.predictor_proj(self.predictor_norm(x[:, len(told) :])))
            found.append(now)
        return found


class _Both(nn.Module):
    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.encoder = _Encoder(state)
        self.predictor = _Predictor(state, self.encoder.grid)
