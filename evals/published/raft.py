"""RAFT as it is released (raft-things.pth): a tiny random file of its names and shapes, and second writings
of it and of VBench's dynamic degree in plain torch.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

HIDDEN, CONTEXT, RADIUS, LEVELS = 6, 5, 2, 4
STEM, STAGES, FEATURES = 8, (8, 10, 12), 16
SLOW = 0.0345
CORRELATION, FLOW, MOTION, HEAD, MASK = (12, 10), (8, 6), 9, 8, 7


def save_raft(file: Path, seed: int = 17) -> str:
    """The file, its names behind "module." as published, with `norm3` beside `downsample.1`."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def conv(name: str, out: int, given: int, *kernel: int) -> None:
        scale = (given * kernel[0] * kernel[1]) ** -0.5
        state[f"{name}.weight"] = torch.randn(out, given, *kernel, generator=generator) * scale
        state[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.1

    def norm(name: str, wide: int) -> dict[str, torch.Tensor]:
        return {
            f"{name}.weight": 1 + 0.1 * torch.randn(wide, generator=generator),
            f"{name}.bias": 0.1 * torch.randn(wide, generator=generator),
            f"{name}.running_mean": 0.1 * torch.randn(wide, generator=generator),
            f"{name}.running_var": 0.5 + torch.rand(wide, generator=generator),
            f"{name}.num_batches_tracked": torch.tensor(7),
        }

    for net, out in (("fnet", FEATURES), ("cnet", HIDDEN + CONTEXT)):
        batch = net == "cnet"
        conv(f"{net}.conv1", STEM, 3, 7, 7)
        state |= norm(f"{net}.norm1", STEM) if batch else {}
        given = STEM
        for number, wide in enumerate(STAGES, 1):
            for block in (0, 1):
                own = f"{net}.layer{number}.{block}"
                conv(f"{own}.conv1", wide, given, 3, 3)
                conv(f"{own}.conv2", wide, wide, 3, 3)
                if batch:
                    state |= norm(f"{own}.norm1", wide) | norm(f"{own}.norm2", wide)
                if block == 0 and number > 1:
                    conv(f"{own}.downsample.0", wide, given, 1, 1)
                    if batch:
                        third = norm(f"{own}.norm3", wide)
                        state |= third
                        state |= {key.replace("norm3", "downsample.1"): one for key, one in third.items()}
                given = wide
        conv(f"{net}.conv2", out, given, 1, 1)
    own = "update_block.encoder"
    conv(f"{own}.convc1", CORRELATION[0], LEVELS * (2 * RADIUS + 1) ** 2, 1, 1)
    conv(f"{own}.convc2", CORRELATION[1], CORRELATION[0], 3, 3)
    conv(f"{own}.convf1", FLOW[0], 2, 7, 7)
    conv(f"{own}.convf2", FLOW[1], FLOW[0], 3, 3)
    conv(f"{own}.conv", MOTION, CORRELATION[1] + FLOW[1], 3, 3)
    given = HIDDEN + CONTEXT + MOTION + 2
    for gate in "zrq":
        conv(f"update_block.gru.conv{gate}1", HIDDEN, given, 1, 5)
        conv(f"update_block.gru.conv{gate}2", HIDDEN, given, 5, 1)
    conv("update_block.flow_head.conv1", HEAD, HIDDEN, 3, 3)
    conv("update_block.flow_head.conv2", 2, HEAD, 3, 3)
    for part in ("weight", "bias"):  # motions about VBench's threshold, after twenty steps of them
        state[f"update_block.flow_head.conv2.{part}"] *= SLOW
    conv("update_block.mask.0", MASK, HIDDEN, 3, 3)
    conv("update_block.mask.2", 64 * 9, MASK, 1, 1)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, file)
    return str(file)


# --- the publishers' lines ----------------------------------------------------------------------------------


class NaiveRaft:
    """RAFT of one pair, by the publisher's names."""

    def __init__(self, file: str) -> None:
        state = torch.load(file, weights_only=True)
        self.state = {name.replace("module.", ""): tensor for name, tensor in state.items()}

    def conv(self, name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = self.state[f"{name}.weight"]
        padding = tuple(side // 2 for side in weight.shape[2:])
        return F.conv2d(x, weight, self.state[f"{name}.bias"], stride, padding)

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if name.startswith("fnet"):
            return F.instance_norm(x)
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.state[f"{name}.{part}"] for part in names))

    def encoded(self, net: str, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(f"{net}.norm1", self.conv(f"{net}.conv1", x, 2)))
        for number in range(1, len(STAGES) + 1):
            for block in (0, 1):
                own = f"{net}.layer{number}.{block}"
                stride = 2 if number > 1 and block == 0 else 1
                y = F.relu(self.norm(f"{own}.norm1", self.conv(f"{own}.conv1", x, stride)))
                y = F.relu(self.norm(f"{own}.norm2", self.conv(f"{own}.conv2", y)))
                if stride == 2:
                    x = self.norm(f"{own}.norm3", self.conv(f"{own}.downsample.0", x, 2))
                x = F.relu(x + y)
        return self.conv(f"{net}.conv2", x)

    def looked_up(self, volume: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """Correlations around each place's partner, level by level; the first axis of the neighbourhood is
        that of x."""
        around = torch.linspace(-RADIUS, RADIUS, 2 * RADIUS + 1)
        delta = torch.stack(torch.meshgrid(around, around, indexing="ij"), dim=-1)
        found = []
        for level in range(LEVELS):
            places = where.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2) / 2**level + delta[None]
            sides = torch.tensor([volume.shape[3], volume.shape[2]])
            grid = 2 * places / (sides - 1) - 1
            taken = F.grid_sample(volume, grid, align_corners=True)
            found.append(taken.reshape(1, *where.shape[2:], -1))
            volume = F.avg_pool2d(volume, 2, stride=2)
        return torch.cat(found, -1).permute(0, 3, 1, 2)

    @torch.no_grad()
    def flow(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """(2, H, W): where each place of the first frame is in the other, after twenty steps."""
        before, after = (2 * (x / 255.0) - 1.0 for x in (before, after))
        one, other = self.encoded("fnet", before), self.encoded("fnet", after)
        _, wide, high, across = one.shape
        volume = torch.einsum("ci,cj->ij", one[0].flatten(1), other[0].flatten(1)) / wide**0.5
        volume = volume.reshape(high * across, 1, high, across)
        context = self.encoded("cnet", before)
        hidden, context = torch.tanh(context[:, :HIDDEN]), F.relu(context[:, HIDDEN:])
        rows, columns = torch.meshgrid(torch.arange(high), torch.arange(across), indexing="ij")
        start = torch.stack([columns, rows])[None].float()
        where = start.clone()
        own = "update_block"
        for _ in range(20):
            correlation = F.relu(self.conv(f"{own}.encoder.convc1", self.looked_up(volume, where)))
            correlation = F.relu(self.conv(f"{own}.encoder.convc2", correlation))
            moved = F.relu(self.conv(f"{own}.encoder.convf1", where - start))
            moved = F.relu(self.conv(f"{own}.encoder.convf2", moved))
            both = F.relu(self.conv(f"{own}.encoder.conv", torch.cat([correlation, moved], 1)))
            given = torch.cat([context, both, where - start], 1)
            for axis in (1, 2):
                both = torch.cat([hidden, given], 1)
                update = torch.sigmoid(self.conv(f"{own}.gru.convz{axis}", both))
                reset = torch.sigmoid(self.conv(f"{own}.gru.convr{axis}", both))
                new = torch.tanh(self.conv(f"{own}.gru.convq{axis}", torch.cat([reset * hidden, given], 1)))
                hidden = (1 - update) * hidden + update * new
            step = F.relu(self.conv(f"{own}.flow_head.conv1", hidden))
            where = where + self.conv(f"{own}.flow_head.conv2", step)
        mask = 0.25 * self.conv(f"{own}.mask.2", F.relu(self.conv(f"{own}.mask.0", hidden)))
        mask = mask.view(1, 1, 9, 8, 8, high, across).softmax(2)
        fine = F.unfold(8 * (where - start), 3, padding=1).view(1, 2, 9, 1, 1, high, across)
        return (mask * fine).sum(2).permute(0, 1, 4, 2, 5, 3).reshape(2, 8 * high, 8 * across)


def degree(naive: NaiveRaft, clip: np.ndarray[Any, Any]) -> tuple[list[float], bool]:
    """VBench's `infer` on frames that are eight a second apart."""
    shots = [torch.from_numpy(frame).permute(2, 0, 1)[None].float() for frame in clip]
    threshold = 6.0 * (min(clip.shape[1:3]) / 256.0)
    down, across = ((8 - side % 8) % 8 for side in clip.shape[1:3])
    speeds = []
    for pair in pairwise(shots):
        pads = (across // 2, across - across // 2, down // 2, down - down // 2)
        u, v = naive.flow(*(F.pad(shot, pads, mode="replicate") for shot in pair)).numpy()
        lengths = np.sqrt(np.square(u) + np.square(v)).flatten()
        speeds.append(np.mean(abs(np.sort(-lengths))[: int(len(lengths) * 0.05)]) / threshold)
    return speeds, sum(speed > 1 for speed in speeds) >= round(4 * (len(clip) / 16.0))
