"""Noise levels of a flow-matching pipeline: the grid its scheduler would walk, and one level per row."""

import copy
from typing import Any

import numpy as np
import torch


def grid(scheduler: Any, steps: int, tokens: int, *, linear: bool = True) -> torch.Tensor:
    """The `steps` + 1 noise levels a pipeline walks for pictures of `tokens` tokens, float32, the last one 0.

    The shift, static or by resolution, is applied once, by a copy of the pipeline's
    `FlowMatchEulerDiscreteScheduler`, so the pipeline's own state stays as it is.

    Args:
        scheduler: of the pipeline.
        steps: at least 1.
        tokens: image tokens of one picture; matters with `use_dynamic_shifting` only.
        linear: the pipeline hands linspace(1, 1/steps) to its scheduler; else the scheduler spreads the
            levels between the ends it was trained with.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    scheduler = copy.deepcopy(scheduler)
    shift = {"mu": _shift(scheduler.config, tokens)} if scheduler.config.use_dynamic_shifting else {}
    if linear:
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), **shift)
    else:
        scheduler.set_timesteps(steps, **shift)
    return torch.as_tensor(scheduler.sigmas).float()


def _shift(config: Any, tokens: int) -> float:
    """mu of the dynamic shift: linear in the tokens, through the two points the scheduler was given."""
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    return float(config.base_shift + slope * (tokens - config.base_image_seq_len))


def levels(sigma: torch.Tensor | float, latents: torch.Tensor) -> torch.Tensor:
    """One noise level per row of `latents`, float32 (N,), from one for all or one per row."""
    return torch.as_tensor(sigma, dtype=torch.float32, device=latents.device).expand(len(latents))
