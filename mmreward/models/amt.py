"""Frame interpolation by AMT-S (arXiv:2304.09790) from its publisher's file: the frame halfway between two.

Op "apart": mean absolute difference, in 8-bit values, of the frame that was shown between two others and the
one interpolated from these, as VBench (arXiv:2311.17982) reads it. No current package has the architecture;
its modules bear the names of the file (amt-s.pth), and widths are read off the tensors.
"""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from ..engine.batching import Cost
from ..engine.engine import current
from ..errors import Unscorable
from ..media import Media
from .base import TorchNetwork, loading
from .checkpoints import fill, state_of
from .pictures import decoded, in_turn
from .weights import placed

STRIDE = 16
"""Pixels that a side is padded to a multiple of."""
LEVELS = 4
"""Of the pyramid of correlations."""
LEAST = 8 * 2**LEVELS
"""Pixels of the shorter side, padded: below, the pyramid's top is one place wide, and its lookup is NaN."""
HALF = 0.5
"""Time of the interpolated frame."""


class Triple(NamedTuple):
    """Three frames in a row."""

    before: Media
    shown: Media
    after: Media


class Amt(TorchNetwork):
    """One checkpoint.

    Args:
        weights: the file, by path or OWNER/NAME/FILE.
        dtype: of the network; as published float32.
    """

    def __init__(self, weights: str, *, dtype: str = "float32") -> None:
        super().__init__(placed(weights), dtype=dtype)
        self.name = weights

    async def apart(self, before: Media, shown: Media, after: Media) -> float:
        """Mean absolute difference of `shown` and of what is interpolated between its neighbours, 0 to 255.

        Raises:
            Unscorable: a frame is broken, or too small.
        """
        item = Triple(before, shown, after)
        key = tuple(media.key for media in item)
        return cast(float, await current().submit(self, "apart", item, key=key))

    @cached_property
    def state(self) -> dict[str, torch.Tensor]:
        with loading(self.name):
            return state_of(self.source)

    def build(self) -> nn.Module:
        try:
            module = _AmtS(self.state)
        except KeyError as error:
            raise ValueError(f"it is no AMT-S: it has no {error}") from None
        fill(module, self.state, self.name)
        return module.to(self.dtype)

    def cost(self, op: str, item: Triple) -> Cost:
        height, width = (math.ceil(side / STRIDE) * STRIDE for side in item.before.size)
        if min(height, width) < LEAST:
            raise Unscorable(
                f"frames of {item.before.size[1]} x {item.before.size[0]} pixels are too small for AMT, "
                f"whose shorter side has {LEAST - STRIDE + 1} at least"
            )
        return Cost(height * width // STRIDE**2, 3 * 3 * 4 * height * width)

    def prepare(self, op: str, items: list[Triple]) -> list[torch.Tensor]:
        """Triples (3, 3, H, W) in 0 to 1."""
        return in_turn([item.before for item in items], lambda index: _whole(items[index]))

    @torch.inference_mode()
    def forward(self, op: str, batch: list[torch.Tensor]) -> list[float]:
        results: list[float] = [math.nan] * len(batch)
        for shape in dict.fromkeys(triple.shape for triple in batch):
            rows = [row for row, triple in enumerate(batch) if triple.shape == shape]
            triples = torch.stack([batch[row] for row in rows]).to(self.device)
            made = self._between(triples[:, 0].to(self.dtype) / 255, triples[:, 2].to(self.dtype) / 255)
            # As upstream, which drops the fraction.
            levels = (made.float() * 255).clamp(0, 255).to(torch.uint8).float()
            found = (levels - triples[:, 1].float()).abs().flatten(1).double().mean(1)
            for row, value in zip(rows, found.cpu().tolist(), strict=True):
                results[row] = value
        return results

    def _between(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Frames halfway, of the size of the given ones (N, 3, H, W), whose edges are repeated up to a
        multiple of 16, half on each side."""
        height, width = before.shape[2:]
        down, across = -height % STRIDE, -width % STRIDE
        pads = (across // 2, across - across // 2, down // 2, down - down // 2)
        made = self.module(*(F.pad(frames, pads, mode="replicate") for frames in (before, after)))
        return cast(
            torch.Tensor, made[..., down // 2 : down // 2 + height, across // 2 : across // 2 + width]
        )


def _whole(item: Triple) -> torch.Tensor:
    """All three, 8-bit.

    Raises:
        Unscorable: they differ in size.
    """
    frames = [decoded(media).cpu() for media in item]
    if len({frame.shape for frame in frames}) > 1:
        raise Unscorable("frames of a clip differ in size")
    return torch.stack(frames)


# --- the network --------------------------------------------------------------------------------------------


def _resize(x: torch.Tensor, times: float) -> torch.Tensor:
    return F.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)


def _warp(x: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Values at the places that a flow (N, 2, H, W), in pixels, points to; outside, those of the edge."""
    height, width = flow.shape[2:]
    across = torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype).expand(height, width)
    down = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype)[:, None].expand(height, width)
    x_places = across + flow[:, 0] / ((width - 1) / 2)
    y_places = down + flow[:, 1] / ((height - 1) / 2)
    grid = torch.stack([x_places, y_places], -1)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=True)


def _strided(given: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, out, 3, stride, 1), nn.PReLU(out))


class _Bottleneck(nn.Module):
    def __init__(self, given: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, out // 4, 1)
        self.conv2 = nn.Conv2d(out // 4, out // 4, 3, stride, 1)
        self.conv3 = nn.Conv2d(out // 4, out, 1)
        self.downsample = nn.Sequential(nn.Conv2d(given, out, 1, stride)) if stride > 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for conv in (self.conv1, self.conv2, self.conv3):
            y = F.instance_norm(conv(y)).relu()
        x = x if self.downsample is None else F.instance_norm(self.downsample(x))
        return (x + y).relu()


class _Features(nn.Module):
    """What frames are compared by, at an eighth of their size."""

    def __init__(self, widths: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        stem, *layers, out = widths
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3)
        given = stem
        for number, wide in enumerate(layers, 1):
            stride = 1 if number == 1 else 2
            blocks = nn.Sequential(_Bottleneck(given, wide, stride), _Bottleneck(wide, wide, 1))
            self.add_module(f"layer{number}", blocks)
            given = wide
        self.conv2 = nn.Conv2d(given, out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.instance_norm(self.conv1(x)).relu()
        for number in (1, 2, 3):
            x = self.get_submodule(f"layer{number}")(x)
        return cast(torch.Tensor, self.conv2(x))


class _Pyramid(nn.Module):
    """What frames are made of, at a half to a sixteenth of their size."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        given = 3
        for number, wide in enumerate(widths, 1):
            self.add_module(f"pyramid{number}", nn.Sequential(_strided(given, wide, 2), _strided(wide, wide)))
            given = wide

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for module in self.children():
            x = module(x)
            found.append(x)
        return found


class _Block(nn.Module):
    """Convolutions of which every second sees the last channels alone."""

    def __init__(self, wide: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.conv1, self.conv2 = _strided(wide, wide), _strided(side, side)
        self.conv3, self.conv4 = _strided(wide, wide), _strided(side, side)
        self.conv5, self.prelu = nn.Conv2d(wide, wide, 3, 1, 1), nn.PReLU(wide)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for whole, part in ((self.conv1, self.conv2), (self.conv3, self.conv4)):
            y = whole(y)
            y = torch.cat([y[:, : -self.side], part(y[:, -self.side :])], 1)
        return cast(torch.Tensor, self.prelu(x + self.conv5(y)))


class _Decoder(nn.Module):
    def __init__(self, given: int, wide: int, side: int, out: int) -> None:
        super().__init__()
        self.convblock = nn.Sequential(
            _strided(given, wide), _Block(wide, side), nn.ConvTranspose2d(wide, out, 4, 2, 1)
        )

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.convblock(torch.cat(parts, 1)))


class _Update(nn.Module):
    """Corrections of features and flows by the correlations round where the flows point."""

    def __init__(self, state: Mapping[str, torch.Tensor], name: str, times: int) -> None:
        super().__init__()
        self.times = times

        def conv(own: str) -> nn.Conv2d:
            out, given, kernel, _ = state[f"{name}.{own}.weight"].shape
            return nn.Conv2d(given, out, kernel, padding=kernel // 2)

        self.convc1, self.convf1, self.convf2, self.conv = map(conv, ("convc1", "convf1", "convf2", "conv"))
        for head in ("gru", "feat_head", "flow_head"):
            self.add_module(head, nn.Sequential(conv(f"{head}.0"), nn.LeakyReLU(0.1), conv(f"{head}.2")))

    def forward(
        self, features: torch.Tensor, flows: torch.Tensor, seen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        def bent(x: torch.Tensor) -> torch.Tensor:
            return F.leaky_relu(x, 0.1)

        features = features if self.times == 1 else _resize(features, 1 / self.times)
        moved = bent(self.convf2(bent(self.convf1(flows))))
        both = bent(self.conv(torch.cat([bent(self.convc1(seen)), moved], 1)))
        hidden = self.get_submodule("gru")(torch.cat([both, flows, features], 1))
        more, step = (self.get_submodule(head)(hidden) for head in ("feat_head", "flow_head"))
        if self.times > 1:
            more, step = _resize(more, self.times), self.times * _resize(step, self.times)
        return more, step


class _AmtS(nn.Module):
    """The network with the widths of these tensors."""

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__()

        def wide(name: str) -> int:
            return int(state[f"{name}.weight"].shape[0])

        widths = tuple(wide(f"encoder.pyramid{number}.0.0") for number in (1, 2, 3, 4))
        side = wide("decoder1.convblock.1.conv2.0")
        self.flows = wide("comb_block.0") // 6
        looked_at = int(state["update4.convc1.weight"].shape[1]) // (2 * LEVELS)
        self.radius = (math.isqrt(looked_at) - 1) // 2
        own = "feat_encoder"
        layers = (wide(f"{own}.layer{number}.0.conv3") for number in (1, 2, 3))
        first, second, third = layers
        self.feat_encoder = _Features((wide(f"{own}.conv1"), first, second, third, wide(f"{own}.conv2")))
        self.encoder = _Pyramid(widths)
        self.decoder4 = _Decoder(2 * widths[3] + 1, 2 * widths[3], side, widths[2] + 4)
        self.decoder3 = _Decoder(3 * widths[2] + 4, 3 * widths[2], side, widths[1] + 4)
        self.decoder2 = _Decoder(3 * widths[1] + 4, 3 * widths[1], side, widths[0] + 4)
        self.decoder1 = _Decoder(3 * widths[0] + 4, 3 * widths[0], side, 8 * self.flows)
        self.update4, self.update3, self.update2 = (
            _Update(state, f"update{number}", times) for number, times in ((4, 1), (3, 2), (2, 4))
        )
        mixed = wide("comb_block.0")
        self.comb_block = nn.Sequential(
            nn.Conv2d(3 * self.flows, mixed, 3, 1, 1), nn.PReLU(mixed), nn.Conv2d(mixed, 3, 3, 1, 1)
        )

    def forward(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Frames (N, 3, H, W) in 0 to 1 halfway between two of sides that 16 divides."""
        mean = torch.cat([before, after], 2).mean((1, 2, 3), keepdim=True)
        before, after = before - mean, after - mean
        lookup = _Lookup(self.feat_encoder(before), self.feat_encoder(after), self.radius)
        sides = list(zip(self.encoder(before), self.encoder(after), strict=True))
        one, other = sides[3]
        time = torch.full_like(one[:, :1], HALF)
        out = self.decoder4(one, other, time)
        flows, features = out[:, :4], out[:, 4:]
        for update, decoder, (one, other) in (
            (self.update4, self.decoder3, sides[2]),
            (self.update3, self.decoder2, sides[1]),
            (self.update2, self.decoder1, sides[0]),
        ):
            small = flows if update.times == 1 else _resize(flows, 1 / update.times) / update.times
            more, step = update(features, small, lookup(small))
            features, flows = features + more, flows + step
            out = decoder(features, _warp(one, flows[:, :2]), _warp(other, flows[:, 2:]), flows)
            if decoder is not self.decoder1:
                flows, features = out[:, :4] + 2 * _resize(flows, 2), out[:, 4:]
        return self._combined(before, after, mean, out, 2 * _resize(flows, 2))

    def _combined(
        self,
        before: torch.Tensor,
        after: torch.Tensor,
        mean: torch.Tensor,
        out: torch.Tensor,
        flows: torch.Tensor,
    ) -> torch.Tensor:
        """The mean of several flows' frames, and what a last block adds to it."""
        count, (batch, _, height, width) = self.flows, before.shape
        steps, masks, rest = torch.split(out, [4 * count, count, 3 * count], 1)
        warped = []
        for side, frames in enumerate((before, after)):
            own = steps[:, 2 * count * side : 2 * count * (side + 1)].reshape(batch, count, 2, height, width)
            places = own + flows[:, None, 2 * side : 2 * side + 2]
            many = frames[:, None].expand(-1, count, -1, -1, -1)
            warped.append(
                _warp(many.flatten(0, 1), places.flatten(0, 1)).reshape(batch, count, 3, height, width)
            )
        mask = masks.sigmoid()[:, :, None]
        each = mask * warped[0] + (1 - mask) * warped[1] + mean[:, None]
        each = each + rest.reshape(batch, count, 3, height, width)
        mixed: torch.Tensor = self.comb_block(each.flatten(1, 2))
        return (each.mean(1) + mixed).clamp(0, 1)


class _Lookup:
    """Correlations of all places of two frames, and those round where flows point.

    The first axis of a window is that of x, as the file's convolutions expect.
    """

    def __init__(self, one: torch.Tensor, other: torch.Tensor, radius: int) -> None:
        self.batch, wide, self.height, self.width = one.shape
        self.radius = radius
        volume = torch.matmul(one.flatten(2).transpose(1, 2), other.flatten(2)) / wide**0.5
        self.pyramids = [self._pooled(volume), self._pooled(volume.transpose(1, 2))]

    def _pooled(self, volume: torch.Tensor) -> list[torch.Tensor]:
        levels = [volume.reshape(-1, 1, self.height, self.width)]
        while len(levels) < LEVELS:
            levels.append(F.avg_pool2d(levels[-1], 2, stride=2))
        return levels

    def __call__(self, flows: torch.Tensor) -> torch.Tensor:
        """(N, 2 levels window, H, W) for flows from halfway to both frames."""
        dtype, device = flows.dtype, flows.device
        rows = torch.arange(self.height, dtype=dtype, device=device)[:, None].expand(self.height, self.width)
        columns = torch.arange(self.width, dtype=dtype, device=device).expand(self.height, self.width)
        start = torch.stack([columns, rows])
        around = torch.arange(-self.radius, self.radius + 1, dtype=dtype, device=device)
        window = torch.stack(torch.meshgrid(around, around, indexing="ij"), -1)
        found = []
        # A flow from halfway is half of one from frame to frame.
        for pyramid, flow in zip(self.pyramids, (flows[:, 2:], flows[:, :2]), strict=True):
            centres = (start + flow / HALF).permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
            for level, volume in enumerate(pyramid):
                sides = torch.tensor([volume.shape[3] - 1, volume.shape[2] - 1], dtype=dtype, device=device)
                grid = 2 * (centres / 2**level + window) / sides - 1
                taken = F.grid_sample(volume, grid, align_corners=True)
                found.append(taken.reshape(self.batch, self.height, self.width, -1))
        return torch.cat(found, -1).permute(0, 3, 1, 2)
