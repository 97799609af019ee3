"""V-JEPA 2-AC as it is released, and NORA-1.5's reward on it: a tiny random file of its names and shapes, and
a second writing in plain torch, one candidate at a time.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation

from mmreward import Media, Sample

from .one_by_one import noise
from .readers import Sampled, pictures_of
from .upstream import Args

WIDTH, INNER, DEPTH, PATCH, HEAD, SIDE = 128, 192, 2, 64, 64, 256
GRID = SIDE // PATCH
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def save_world(folder: Path, seed: int = 11) -> Args:
    """The file as its training wrote it, with what is not read beside it: arguments of `nora`."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = torch.Generator().manual_seed(seed)
    encoder = {"patch_embed.proj": (WIDTH, 3, 2, PATCH, PATCH), "norm": (WIDTH,)}
    predictor: dict[str, tuple[int, ...]] = {
        "predictor_embed": (WIDTH, WIDTH),
        "action_encoder": (WIDTH, 7),
        "state_encoder": (WIDTH, 7),
        "extrinsics_encoder": (WIDTH, 6),
        "predictor_norm": (WIDTH,),
        "predictor_proj": (WIDTH, WIDTH),
    }
    for shapes, stem in ((encoder, "blocks"), (predictor, "predictor_blocks")):
        for layer in range(DEPTH):
            own = f"{stem}.{layer}."
            shapes |= {f"{own}norm1": (WIDTH,), f"{own}norm2": (WIDTH,), f"{own}mlp.fc1": (INNER, WIDTH)}
            shapes |= {f"{own}attn.qkv": (3 * WIDTH, WIDTH), f"{own}attn.proj": (WIDTH, WIDTH)}
            shapes[f"{own}mlp.fc2"] = (WIDTH, INNER)
    parts = {name: _drawn(shapes, draw) for name, shapes in (("encoder", encoder), ("predictor", predictor))}
    whole = {**parts, "target_encoder": parts["encoder"], "opt": {"state": {0: {"step": torch.ones(1)}}}}
    file = folder / "vjepa2-ac-vitg.pt"
    torch.save({**whole, "scaler": {"scale": 2.0}, "epoch": 315, "loss": 0.5, "lr": 4e-4}, file)
    return {"weights": str(file)}


def _drawn(shapes: dict[str, tuple[int, ...]], draw: torch.Generator) -> dict[str, torch.Tensor]:
    state = {}
    for name, shape in shapes.items():
        scale = 0.2 if len(shape) == 1 else 1.5 * math.prod(shape[1:]) ** -0.5
        state[f"module.{name}.weight"] = torch.randn(shape, generator=draw) * scale + float(len(shape) == 1)
        state[f"module.{name}.bias"] = torch.randn(shape[0], generator=draw) * 0.2
    return state


# --- the publishers' lines ----------------------------------------------------------------------------------


class NaiveWorld:
    """Encoder, predictor and rollout with plain functions, for one candidate: every frame is computed again
    at every step, under the mask of blocks."""

    def __init__(self, file: str, predictor: str = "") -> None:
        whole = torch.load(file, weights_only=True)
        self.state: dict[str, torch.Tensor] = {
            f"{part}.{name.removeprefix('module.')}": tensor
            for part in ("encoder", "predictor")
            for name, tensor in whole[part].items()
        }
        if predictor:
            own = torch.load(predictor, weights_only=True)
            self.state |= {f"predictor.{name}": tensor for name, tensor in own.items()}

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], 1e-6)

    @staticmethod
    def turned(rows: torch.Tensor, places: list[tuple[int, int, int]]) -> torch.Tensor:
        """`rotate_queries_or_keys` of one head's rows, number by number."""
        found, third = rows.clone(), 2 * (HEAD // 3 // 2)
        for axis, positions in enumerate(zip(*places, strict=True)):
            for index in range(third):
                at = axis * third + index
                angle = torch.tensor(positions) / 10000 ** ((index % (third // 2)) / (third / 2))
                partner = -rows[:, at + 1] if index % 2 == 0 else rows[:, at - 1]
                found[:, at] = rows[:, at] * angle.cos() + partner * angle.sin()
        return found

    def blocks(
        self, stem: str, x: torch.Tensor, places: list[tuple[int, int, int]], mask: torch.Tensor
    ) -> torch.Tensor:
        for layer in range(DEPTH):
            own = f"{stem}.{layer}"
            q, k, v = self.linear(f"{own}.attn.qkv", self.norm(f"{own}.norm1", x)).chunk(3, -1)
            out = []
            for one, other, value in zip(*(part.chunk(WIDTH // HEAD, -1) for part in (q, k, v)), strict=True):
                one, other = self.turned(one, places), self.turned(other, places)
                scores = (one @ other.T / math.sqrt(HEAD)).masked_fill(~mask, -torch.inf)
                out.append(scores.softmax(-1) @ value)
            x = x + self.linear(f"{own}.attn.proj", torch.cat(out, -1))
            wide = self.linear(f"{own}.mlp.fc1", self.norm(f"{own}.norm2", x))
            x = x + self.linear(f"{own}.mlp.fc2", wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2))))
        return x

    def frame(self, picture: torch.Tensor) -> torch.Tensor:
        """(3, 256, 256) -> (P, D): a clip of twice the same frame."""
        kernel = self.state["encoder.patch_embed.proj.weight"]
        clip = picture[None, :, None].repeat(1, 1, 2, 1, 1)
        x = F.conv3d(clip, kernel, self.state["encoder.patch_embed.proj.bias"], stride=(2, PATCH, PATCH))
        x = x[0, :, 0].permute(1, 2, 0).reshape(GRID * GRID, -1)
        places = [(0, row, column) for row in range(GRID) for column in range(GRID)]
        x = self.blocks("encoder.blocks", x, places, torch.ones(len(x), len(x), dtype=torch.bool))
        return F.layer_norm(self.norm("encoder.norm", x), (WIDTH,))

    def predicted(self, frames: torch.Tensor, actions: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """All next frames (T, P, D) of frames (T, P, D), actions and states (T, 7)."""
        a, s = (
            self.linear(f"predictor.{name}_encoder", x)[:, None]
            for name, x in (("action", actions), ("state", states))
        )
        x = torch.cat((a, s, self.linear("predictor.predictor_embed", frames)), 1)
        block = x.shape[1]
        number = torch.arange(len(x)).repeat_interleave(block)
        patches = [(row, column) for row in range(GRID) for column in range(GRID)]
        places = [(time, *at) for time in range(len(x)) for at in [(0, 0), (0, 0), *patches]]
        x = self.blocks(
            "predictor.predictor_blocks", x.flatten(0, 1), places, number[:, None] >= number[None]
        )
        x = x.reshape(-1, block, WIDTH)[:, 2:]
        x = self.linear("predictor.predictor_proj", self.norm("predictor.predictor_norm", x))
        return F.layer_norm(x, (WIDTH,))

    @torch.no_grad()
    def energy(self, now: torch.Tensor, goal: torch.Tensor, actions: Any, states: Any) -> float:
        """As the labelling of NORA-1.5, with as many steps as there are actions."""
        actions, states = (torch.tensor(np.asarray(one), dtype=torch.float32) for one in (actions, states))
        frames = self.frame(now)[None]
        for step in range(1, len(actions) + 1):
            next_ones = self.predicted(frames, actions[:step], states[:step])
            frames = torch.cat((frames, next_ones[-1:]))
        return float((frames[-1] - self.frame(goal)).abs().mean())


def square(picture: Any) -> torch.Tensor:
    """`make_transforms` of the publisher's demonstration: scale and shape 1, so the square in the middle."""
    frame = torch.tensor(np.asarray(picture), dtype=torch.float32).permute(2, 0, 1)
    height, width = frame.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = frame[None, :, top : top + side, left : left + side]
    sized = F.interpolate(cut, (SIDE, SIDE), mode="bilinear", align_corners=False)[0]
    mean, std = (torch.tensor(each).view(3, 1, 1) * 255 for each in (MEAN, STD))
    return (sized - mean) / std


def summed(pose: list[float], action: list[float]) -> list[float]:
    """`compute_new_pose` by matrices."""
    turn, before = (
        Rotation.from_euler("xyz", each[3:6], degrees=False).as_matrix() for each in (action, pose)
    )
    angles = Rotation.from_matrix(turn @ before).as_euler("xyz", degrees=False)
    place = [one + other for one, other in zip(pose[:3], action[:3], strict=True)]
    return [*place, *angles, min(max(pose[6] + action[6], 0.0), 1.0)]


def combined(args: Args) -> Sampled:
    """Minus energy and a tenth of the deviation."""
    world = NaiveWorld(args["weights"])

    def value(sample: Sample) -> float:
        now, goal = map(square, pictures_of(sample))
        actions = [step["action"] for step in sample.steps]
        states = [sample.steps[0]["state"]]
        for action in actions[:-1]:
            states.append(summed(states[-1], action))
        apart = [
            abs(one - other)
            for mine, theirs in zip(actions, sample.target, strict=False)
            for one, other in zip(mine, theirs, strict=True)
        ]
        return -world.energy(now, goal, actions, states) - float(0.1 * sum(apart) / len(apart))

    return Sampled(value)


def candidates() -> list[Sample]:
    """Chunks of one to five actions from pictures of awkward sizes, to goals of others."""
    found = []
    for row, (size, other) in enumerate(
        [((64, 64), (50, 80)), ((300, 211), (256, 256)), ((31, 97), (97, 31))]
    ):
        draw = np.random.default_rng(row)
        for count in (1, 3, 5) if row == 0 else (2,):
            steps: list[dict[str, Any]] = [
                {"action": draw.normal(0, 0.4, 7).round(3).tolist()} for _ in range(count)
            ]
            steps[0]["state"] = draw.normal(0, 0.7, 7).round(3).tolist()
            found.append(
                Sample(
                    id=f"{row}-{count}",
                    image=Media(noise(*size, 2 * row)),
                    inputs=(Media(noise(*other, 2 * row + 1)),),
                    steps=tuple(steps),
                    target=draw.normal(0, 0.4, (6, 7)).round(3).tolist(),
                )
            )
    return found
