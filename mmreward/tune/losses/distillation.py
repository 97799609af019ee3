"""Centred reward distillation (CRD): the network's own reward is fitted to the given one, group by group.

The network implies a reward by how much better than an older one it explains a sample. Rewards are known up
to a constant per prompt, so both are centred within the prompt's group first; over a mixed batch, easy
prompts would be preferred to hard ones. Source: CRD in https://github.com/X-GenGroup/Flow-Factory
"""

import math
from typing import Literal

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from .matching import FLOOR
from .rows import check_rows, check_shapes, group_index, group_softmax, group_sum, row_mean


def implicit_reward(
    v: torch.Tensor, v_old: torch.Tensor, target: torch.Tensor, *, adaptive: bool = False
) -> torch.Tensor:
    """q = mean_dims (v_old - target)^2 - mean_dims (v - target)^2, (N,): above 0 where v fits better.

    Args:
        v: (N, ...) velocity of the trained network.
        v_old: (N, ...) of a snapshot or of the reference; no gradient.
        target: (N, ...) noise - x0.
        adaptive: divide each error by its mean absolute error, without gradient, so that samples weigh alike.

    Raises:
        ValueError: shapes that differ.
    """
    check_shapes(v=v, v_old=v_old, target=target)
    return _error(v_old.detach(), target, adaptive) - _error(v, target, adaptive)


@torch.no_grad()
def centres(
    q: torch.Tensor,
    p: torch.Tensor,
    groups: torch.Tensor,
    *,
    temperature: float = math.inf,
    dual: bool = True,
) -> torch.Tensor:
    """The group means of q and p that `crd` subtracts, (N, C, 2), without gradient.

    The means are weighted by softmax(p / temperature) within the group; an infinite temperature gives the
    plain mean, with C = 1. With `dual`, softmax(-p / temperature) makes C = 2: once centred on the good
    samples, once on the bad ones. Compute them over whole groups; their rows may then go to `crd` in any
    number of batches.

    Args:
        q: (N,) of `implicit_reward`.
        p: (N,) rewards in [0, 1], of `to_probability`.
        groups: (N,) integer ids.
        temperature: above 0.
        dual: at an infinite temperature both are the same, and one is returned.

    Raises:
        ValueError: shapes other than (N,), ids that are not integers, or temperature not above 0.
    """
    check_rows(q=q, p=p, groups=groups)
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it is above 0")
    index = group_index(groups)
    signs = (1.0, -1.0) if dual and math.isfinite(temperature) else (1.0,)
    directions = []
    for sign in signs:
        weights = group_softmax(sign * p.float() / temperature, index)
        directions.append(torch.stack([group_sum(weights * each.float(), index) for each in (q, p)], dim=1))
    return torch.stack(directions, dim=1)


def crd(
    q: torch.Tensor,
    p: torch.Tensor,
    centre: torch.Tensor,
    *,
    beta: float = 1.0,
    clip: float = 5.0,
    form: Literal["squared", "cross_entropy"] = "squared",
) -> torch.Tensor:
    """clip / beta times (beta (q - q_mean) - (p - p_mean))^2, averaged over the centres; (N,).

    cross_entropy compares sigmoids of the two instead. 0 where beta times the centred q is the centred p.

    Args:
        q: (N,) of `implicit_reward`, with gradient.
        p: (N,) rewards in [0, 1].
        centre: (N, C, 2) of `centres`, the rows of q.
        beta: how much of the reward a unit of fit is worth.
        clip: that of `to_probability`; makes up for its division.
        form: as above.

    Raises:
        ValueError: shapes that do not match, beta not above 0, or an unknown form.
    """
    check_rows(q=q, p=p)
    if centre.ndim != 3 or len(centre) != len(q) or centre.shape[-1] != 2:
        raise ValueError(f"centre has shape {tuple(centre.shape)}; give ({len(q)}, C, 2) of `centres`")
    if not beta > 0:
        raise ValueError(f"beta is {beta}; it is above 0")
    implied = beta * (q.float()[:, None] - centre[..., 0])
    given = p.detach().float()[:, None] - centre[..., 1]
    if form == "squared":
        return clip / beta * (implied - given).square().mean(1)
    if form != "cross_entropy":
        raise ValueError(f"form is squared or cross_entropy, not {form!r}")
    losses = binary_cross_entropy_with_logits(implied, given.sigmoid(), reduction="none")
    return clip / beta * losses.mean(1)


def _error(v: torch.Tensor, target: torch.Tensor, adaptive: bool) -> torch.Tensor:
    difference = v.float() - target.float()
    error = row_mean(difference.square())
    return error / row_mean(difference.detach().abs()).clamp(min=FLOOR) if adaptive else error
