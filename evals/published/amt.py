"""AMT-S as it is released (amt-s.pth): a tiny random file of its names and shapes, and second writings of it
and of VBench's motion smoothness in plain torch, one pair of frames at a time.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

WIDTHS, SIDE, FLOWS, RADIUS, LEVELS = (6, 8, 10, 12), 4, 3, 3, 4
STEM, LAYERS, FEATURES = 8, (8, 12, 16), 10
HIDDEN, FLOW, SEEN, BOTH = 7, 4, 6, 5
TIMES = {4: 1, 3: 2, 2: 4}
"""Number of an update -> how many times coarser than its features it works."""


def save_amt(folder: Path, seed: int = 19) -> dict[str, Any]:
    """The file, its tensors under "state_dict" as published; the arguments of `motion_smoothness`."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def conv(name: str, out: int, given: int, kernel: int, scale: float = 1.4, bent: str = "") -> None:
        spread = scale * (given * kernel**2) ** -0.5
        state[f"{name}.weight"] = torch.randn(out, given, kernel, kernel, generator=generator) * spread
        state[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.1
        if bent:
            state[f"{bent}.weight"] = 0.1 + 0.2 * torch.rand(out, generator=generator)

    def pair(name: str, out: int, given: int) -> None:
        conv(f"{name}.0", out, given, 3, bent=f"{name}.1")

    conv("feat_encoder.conv1", STEM, 3, 7)
    given = STEM
    for number, wide in enumerate(LAYERS, 1):
        for block in (0, 1):
            own = f"feat_encoder.layer{number}.{block}"
            conv(f"{own}.conv1", wide // 4, given, 1)
            conv(f"{own}.conv2", wide // 4, wide // 4, 3)
            conv(f"{own}.conv3", wide, wide // 4, 1)
            if number > 1 and block == 0:
                conv(f"{own}.downsample.0", wide, given, 1)
            given = wide
    conv("feat_encoder.conv2", FEATURES, given, 1)
    given = 3
    for number, wide in enumerate(WIDTHS, 1):
        pair(f"encoder.pyramid{number}.0", wide, given)
        pair(f"encoder.pyramid{number}.1", wide, wide)
        given = wide
    outs = {4: WIDTHS[2] + 4, 3: WIDTHS[1] + 4, 2: WIDTHS[0] + 4, 1: 8 * FLOWS}
    for number, out in outs.items():
        wide = WIDTHS[number - 1] * (2 if number == 4 else 3)
        own = f"decoder{number}.convblock"
        pair(f"{own}.0", wide, wide + (1 if number == 4 else 4))
        for place, size in ((1, wide), (2, SIDE), (3, wide), (4, SIDE)):
            pair(f"{own}.1.conv{place}", size, size)
        conv(f"{own}.1.conv5", wide, wide, 3, bent=f"{own}.1.prelu")
        state[f"{own}.2.weight"] = torch.randn(wide, out, 4, 4, generator=generator) * 0.3 / wide**0.5
        state[f"{own}.2.bias"] = torch.randn(out, generator=generator) * 0.1
    for number in TIMES:
        own, wide = f"update{number}", WIDTHS[number - 2]
        conv(f"{own}.convc1", SEEN, 2 * LEVELS * (2 * RADIUS + 1) ** 2, 1)
        conv(f"{own}.convf1", 2 * FLOW, 4, 7)
        conv(f"{own}.convf2", FLOW, 2 * FLOW, 3)
        conv(f"{own}.conv", BOTH, SEEN + FLOW, 3)
        for head, first, out in (("gru", BOTH + 4 + wide, HIDDEN), ("feat_head", HIDDEN, wide)):
            conv(f"{own}.{head}.0", HIDDEN, first, 3)
            conv(f"{own}.{head}.2", out, HIDDEN, 3)
        conv(f"{own}.flow_head.0", HIDDEN, HIDDEN, 3)
        conv(f"{own}.flow_head.2", 4, HIDDEN, 3, 0.5)
    conv("comb_block.0", 6 * FLOWS, 3 * FLOWS, 3, 0.5, bent="comb_block.1")
    conv("comb_block.2", 3, 6 * FLOWS, 3, 0.5)
    torch.save({"state_dict": state, "epoch": 300}, folder / "amt-s.pth")
    return {"file": str(folder / "amt-s.pth")}


# --- the publishers' lines ----------------------------------------------------------------------------------


def sampled(values: torch.Tensor, x: torch.Tensor, y: torch.Tensor, edge: bool) -> torch.Tensor:
    """(C, ...) values (C, H, W) at places in pixels, between four of them; outside are zeros, or the edge."""
    _, height, width = values.shape
    if edge:
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    found = torch.zeros(len(values), *x.shape)
    for across in (0, 1):
        for down in (0, 1):
            column, row = left + across, top + down
            share = (1 - (x - column).abs()) * (1 - (y - row).abs())
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            taken = values[:, row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()]
            found += taken * share * inside
    return found


def picked(volume: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(H, W): of each place's own picture in a volume (H, W, h, w) the value at (x, y); zeros outside."""
    columns, rows = (each.long() for each in places(*x.shape))
    height, width = volume.shape[2:]
    left, top = x.floor(), y.floor()
    found = torch.zeros_like(x)
    for across in (0, 1):
        for down in (0, 1):
            column, row = left + across, top + down
            share = (1 - (x - column).abs()) * (1 - (y - row).abs())
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            to = row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()
            found += volume[rows, columns, *to] * share * inside
    return found


def places(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns and rows of a grid."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return columns.float(), rows.float()


def resized(x: torch.Tensor, times: float) -> torch.Tensor:
    """(C, H, W), so many times as large."""
    return F.interpolate(x[None], scale_factor=times, mode="bilinear", align_corners=False)[0]


class NaiveAmt:
    """AMT-S of one pair, by the publisher's names; tensors are (C, H, W)."""

    def __init__(self, file: str) -> None:
        self.state: dict[str, torch.Tensor] = torch.load(file, weights_only=True)["state_dict"]

    def conv(self, name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x[None], weight, self.state[f"{name}.bias"], stride, weight.shape[2] // 2)[0]

    def bent(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """PReLU."""
        slope = self.state[f"{name}.weight"][:, None, None]
        return torch.where(x > 0, x, slope * x)

    def pair(self, name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        return self.bent(f"{name}.1", self.conv(f"{name}.0", x, stride))

    def compared(self, x: torch.Tensor) -> torch.Tensor:
        """The features of `feat_encoder`."""

        def norm(y: torch.Tensor) -> torch.Tensor:
            mean = y.mean((1, 2), keepdim=True)
            return (y - mean) / ((y - mean).square().mean((1, 2), keepdim=True) + 1e-5).sqrt()

        own = "feat_encoder"
        x = norm(self.conv(f"{own}.conv1", x, 2)).relu()
        for number in (1, 2, 3):
            for block in (0, 1):
                name, stride = f"{own}.layer{number}.{block}", 2 if number > 1 and block == 0 else 1
                y = norm(self.conv(f"{name}.conv1", x)).relu()
                y = norm(self.conv(f"{name}.conv2", y, stride)).relu()
                y = norm(self.conv(f"{name}.conv3", y)).relu()
                x = x if stride == 1 else norm(self.conv(f"{name}.downsample.0", x, 2))
                x = (x + y).relu()
        return self.conv(f"{own}.conv2", x)

    def pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for number in (1, 2, 3, 4):
            x = self.pair(f"encoder.pyramid{number}.1", self.pair(f"encoder.pyramid{number}.0", x, 2))
            found.append(x)
        return found

    def decoded(self, number: int, *parts: torch.Tensor) -> torch.Tensor:
        own = f"decoder{number}.convblock"
        x = self.pair(f"{own}.0", torch.cat(parts))
        side = len(self.state[f"{own}.1.conv2.0.bias"])
        y = self.pair(f"{own}.1.conv1", x)
        y = torch.cat([y[:-side], self.pair(f"{own}.1.conv2", y[-side:])])
        y = self.pair(f"{own}.1.conv3", y)
        y = torch.cat([y[:-side], self.pair(f"{own}.1.conv4", y[-side:])])
        x = self.bent(f"{own}.1.prelu", x + self.conv(f"{own}.1.conv5", y))
        return F.conv_transpose2d(x[None], self.state[f"{own}.2.weight"], self.state[f"{own}.2.bias"], 2, 1)[
            0
        ]

    def looked_up(self, one: torch.Tensor, other: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        """Correlations of every place of a frame with the places of the other round where the flow points."""
        wide, height, width = one.shape
        looked_at = self.state["update4.convc1.weight"].shape[1] // (2 * LEVELS)
        radius = (round(looked_at**0.5) - 1) // 2
        columns, rows = places(height, width)
        x, y = columns + 2 * flow[0], rows + 2 * flow[1]
        volume = torch.einsum("cyx,cvu->yxvu", one, other) / wide**0.5
        found = []
        for level in range(LEVELS):
            found += [
                picked(volume, x / 2**level + across, y / 2**level + down)
                for across in range(-radius, radius + 1)
                for down in range(-radius, radius + 1)
            ]
            pooled = F.avg_pool2d(volume.flatten(0, 1)[:, None], 2)
            volume = pooled.reshape(height, width, *pooled.shape[2:])
        return torch.stack(found)

    def updated(
        self, number: int, features: torch.Tensor, flows: torch.Tensor, seen: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        own, times = f"update{number}", TIMES[number]

        def leaky(name: str, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(f"{own}.{name}", x)
            return torch.maximum(y, 0.1 * y)

        features = features if times == 1 else resized(features, 1 / times)
        both = torch.cat([leaky("convc1", seen), leaky("convf2", leaky("convf1", flows))])
        x = torch.cat([leaky("conv", both), flows, features])
        x = self.conv(f"{own}.gru.2", leaky("gru.0", x))
        more, step = (
            self.conv(f"{own}.{head}.2", leaky(f"{head}.0", x)) for head in ("feat_head", "flow_head")
        )
        return (more, step) if times == 1 else (resized(more, times), times * resized(step, times))

    def warped(self, x: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        columns, rows = places(*flow.shape[1:])
        return sampled(x, columns + flow[0], rows + flow[1], edge=True)

    @torch.no_grad()
    def between(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """The frame (3, H, W), 0 to 1, halfway between two whose sides 16 divides."""
        mean = torch.stack([before, after]).mean()
        before, after = before - mean, after - mean
        one, other = self.compared(before), self.compared(after)
        first, second = self.pyramid(before), self.pyramid(after)
        out = self.decoded(4, first[3], second[3], torch.full_like(first[3][:1], 0.5))
        last = torch.zeros(4, *first[3].shape[1:])
        for number in (4, 3, 2):
            flows, features = out[:4] + 2 * resized(last, 2), out[4:]
            times = TIMES[number]
            small = flows if times == 1 else resized(flows, 1 / times) / times
            seen = torch.cat([self.looked_up(one, other, small[2:]), self.looked_up(other, one, small[:2])])
            more, step = self.updated(number, features, small, seen)
            last, features = flows + step, features + more
            sides = self.warped(first[number - 2], last[:2]), self.warped(second[number - 2], last[2:])
            out = self.decoded(number - 1, features, *sides, last)
        count = len(out) // 8
        flows, frames = 2 * resized(last, 2), []
        for place in range(count):
            zero, full = (out[2 * (place + at) : 2 * (place + at) + 2] for at in (0, count))
            mask = out[4 * count + place].sigmoid()
            rest = out[5 * count + 3 * place : 5 * count + 3 * place + 3]
            left, right = self.warped(before, zero + flows[:2]), self.warped(after, full + flows[2:])
            frames.append(mask * left + (1 - mask) * right + mean + rest)
        mixed = self.conv(
            "comb_block.2", self.bent("comb_block.1", self.conv("comb_block.0", torch.cat(frames)))
        )
        return (torch.stack(frames).mean(0) + mixed).clamp(0, 1)


def smoothness(naive: NaiveAmt, clip: np.ndarray[Any, Any]) -> float:
    """VBench's `motion_score` without a GPU."""
    shots = [torch.from_numpy(frame).permute(2, 0, 1) / 255.0 for frame in clip[::2]]
    height, width = clip.shape[1:3]
    down, across = ((side // 16 + 1) * 16 - side for side in (height, width))
    down, across = down % 16, across % 16
    pads = (across // 2, across - across // 2, down // 2, down - down // 2)
    padded = [F.pad(shot[None], pads, mode="replicate")[0] for shot in shots]
    scores = []
    for place, pair in enumerate(pairwise(padded)):
        made = naive.between(*pair)[:, pads[2] : pads[2] + height, pads[0] : pads[0] + width]
        levels = (made * 255.0).permute(1, 2, 0).numpy().clip(0, 255).astype(np.uint8)
        scores.append(np.mean(np.abs(levels.astype(int) - clip[2 * place + 1].astype(int))))
    return (255.0 - float(np.mean(scores))) / 255.0
