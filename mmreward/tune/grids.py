"""Grids of noise levels: the T + 1 levels, float32, between which a sampler takes its T steps.

A grid is made once, stored with the trajectory and used again in the replay; it is never computed twice.
"""

import itertools

import torch
from torch import Tensor


def shifted(steps: int, shift: float = 1.0, device: torch.device | str = "cpu") -> Tensor:
    """Levels (steps + 1,) from 1 to 0: shift u / (1 + (shift - 1) u) for evenly spaced u.

    Shift 1 is even, 3 is usual for SD3 and FLUX, 5 for video (https://arxiv.org/abs/2403.03206): large
    pictures need more of their steps at high noise.

    Raises:
        ValueError: fewer than one step, or a shift that is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if not shift > 0:
        raise ValueError(f"shift must be positive, not {shift}")
    even = torch.linspace(1, 0, steps + 1, dtype=torch.float32, device=device)
    return even / (even + (1 - even) / shift)  # the same, and exactly 1 where u is 1, for any shift


def check(sigmas: Tensor) -> Tensor:
    """The same grid, if it is one: float32, (T + 1,), from at most 1 strictly down to 0.

    Reads the levels, so on a GPU call it once per grid and not once per step.

    Raises:
        ValueError: what is wrong with it.
    """
    if sigmas.dtype != torch.float32:
        raise ValueError(f"sigmas are {sigmas.dtype}, must be float32: another precision shifts every ratio")
    if sigmas.ndim != 1 or len(sigmas) < 2:
        raise ValueError(f"sigmas must be (T + 1,) with at least one step, not {tuple(sigmas.shape)}")
    levels = sigmas.tolist()
    for before, after in itertools.pairwise(levels):
        if not after < before:  # NaN ends here too
            raise ValueError(f"sigmas must fall at every step, but {before:.6g} is followed by {after:.6g}")
    if levels[0] > 1:
        raise ValueError(f"sigmas start at {levels[0]:.6g}; 1 is pure noise: divide timesteps by 1000")
    if levels[-1] != 0:
        raise ValueError(f"sigmas end at {levels[-1]:.6g}, must end at 0")
    return sigmas


def compressed(sigmas: Tensor, start: int, ratio: float = 0.4) -> Tensor:
    """The grid with its steps from index `start` on thinned to about `ratio` of their number, at least one.

    MixGRPO-Flash (https://arxiv.org/abs/2507.21802) does so behind the window of stochastic steps, where a
    second-order solver makes up for it. The levels up to sigmas[start] stay; the others are read off the
    grid at evenly spaced places, by linear interpolation, so that its shift is kept.

    Raises:
        ValueError: a start that is no step of the grid, or a ratio outside (0, 1].
    """
    total = len(sigmas) - 1
    if not 0 <= start < total:
        raise ValueError(f"start {start} is not one of the {total} steps of the grid")
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must lie in (0, 1], not {ratio}")
    steps = max(1, round(ratio * (total - start)))
    places = torch.linspace(start, total, steps + 1, dtype=torch.float64)
    below = places.long().clamp(max=total - 1)
    levels = sigmas.double().cpu()
    tail = torch.lerp(levels[below], levels[below + 1], places - below)
    return torch.cat([sigmas[: start + 1], tail[1:].to(sigmas)])
