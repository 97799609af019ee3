"""Steps with a gradient, noise levels and seeded draws: the parts that all methods of `backprop` are made of.

`Outcome` is their common result, `judged` the reward of pixels, `visit` one evaluation of the network. Draws
are made on the CPU from a seed and a purpose, so that they are the same on every device and in any number of
processes.
"""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from ..generator import Conditioning, Generator

PixelReward = Callable[[torch.Tensor, Sequence[str]], torch.Tensor]
"""(pixels, prompts) -> (N,), differentiable in the pixels; NaN where a row has no reward. `score_tensor` of a
loaded reward is one."""


class Visit(NamedTuple):
    """One evaluation of the network that carries a gradient.

    A trainer that holds a reference model adds its velocity-space KL here: the mean square of `velocity`
    minus the reference's velocity at the same `latents`, `sigma` and `conditioning`, which are detached.
    """

    latents: torch.Tensor
    sigma: torch.Tensor
    velocity: torch.Tensor
    conditioning: Conditioning


class Outcome(NamedTuple):
    """The result of one evaluation of a method.

    Args:
        loss: (N,) with a gradient; NaN where the row has no reward.
        rewards: (N,) detached; NaN where the row has none.
        visits: the evaluations of the network in `loss`.
        metrics: numbers for a log.
    """

    loss: torch.Tensor
    rewards: torch.Tensor
    visits: tuple[Visit, ...]
    metrics: Mapping[str, float]

    def mean(self) -> torch.Tensor:
        """The loss averaged over the rows that have a reward.

        Raises:
            ValueError: no row has one.
        """
        kept = self.loss[~self.rewards.isnan()]
        if not len(kept):
            raise ValueError(f"none of the {len(self.loss)} rows has a reward, so there is nothing to learn")
        return kept.mean()


def judged(
    reward: PixelReward, pixels: torch.Tensor, prompts: Sequence[str], ndim: int | None = 1
) -> torch.Tensor:
    """The reward of every row, float32.

    Args:
        reward: of pixels and prompts.
        pixels, prompts: its arguments.
        ndim: dimensions that its result must have; None leaves all after the rows to the reward.

    Raises:
        ValueError: not one prompt per picture, or an answer of the wrong shape.
    """
    if len(prompts) != len(pixels):
        raise ValueError(f"{len(pixels)} pictures but {len(prompts)} prompts; give one prompt per row")
    values = reward(pixels, prompts)
    if values.ndim < 1 or len(values) != len(pixels) or ndim not in (None, values.ndim):
        raise ValueError(
            f"the reward gave {tuple(values.shape)} for {len(pixels)} pictures, not one value each"
        )
    return values.float()


def negated(rewards: torch.Tensor, visits: Sequence[Visit], metrics: Mapping[str, float]) -> Outcome:
    """The outcome whose loss is minus the reward."""
    return Outcome(-rewards, rewards.detach(), tuple(visits), metrics)


def visit(
    generator: Generator,
    latents: torch.Tensor,
    sigma: torch.Tensor,
    conditioning: Conditioning,
    guidance: float,
    *,
    recompute: bool = False,
) -> Visit:
    """The network's velocity with a gradient.

    Args:
        generator, latents, sigma, conditioning, guidance: as for `Generator.velocity`.
        recompute: run the network again in the backward pass instead of keeping its activations.
    """

    def velocity(given: torch.Tensor) -> torch.Tensor:
        return generator.velocity(given, sigma, conditioning, guidance)

    # Recomputing runs the very same evaluation again in the backward pass, so loss and gradient stay what
    # they are.
    found = checkpoint(velocity, latents, use_reentrant=False) if recompute else velocity(latents)
    return Visit(latents.detach(), sigma, found, conditioning)


def solve_last(
    generator: Generator,
    latents: torch.Tensor,
    conditioning: Conditioning,
    sigmas: torch.Tensor,
    guidance: float,
    *,
    recompute: bool,
) -> tuple[torch.Tensor, list[Visit]]:
    """Euler steps along `sigmas` with a gradient, and the evaluations they took."""
    visits = []
    for now, after in itertools.pairwise(sigmas):
        visits.append(visit(generator, latents, now, conditioning, guidance, recompute=recompute))
        latents = latents + (after - now) * visits[-1].velocity
    return latents, visits


def noised(clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """(1 - s) clean + s noise, at one noise level or at one per row."""
    level = rowwise(sigma, clean)
    return (1 - level) * clean + level * noise


def rowwise(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(N,) as (N, 1, ...), to be multiplied with `like` (N, ...); a scalar stays one."""
    return values if values.ndim == 0 else values.reshape(-1, *[1] * (like.ndim - 1))


def gaussian(like: torch.Tensor, seeds: Sequence[int], purpose: str) -> torch.Tensor:
    """Unit Gaussian noise in the shape of `like`, row by row from its seed, on its device.

    Drawn on the CPU, so that a seed means the same everywhere. Purposes have different noise, and all differ
    from the starting latents of the same seeds.

    Raises:
        ValueError: not one seed per row.
    """
    if len(seeds) != len(like):
        raise ValueError(f"{len(like)} rows but {len(seeds)} seeds; give one seed per row")
    rows = [torch.randn(like.shape[1:], generator=_source(seed, purpose)) for seed in seeds]
    return torch.stack(rows).to(like.device, like.dtype)


def uniform(seeds: Sequence[int], low: float, high: float, purpose: str) -> torch.Tensor:
    """(N,) draws from [low, high), float32 on the CPU, each from its seed."""
    rows = [torch.rand((), generator=_source(seed, purpose)) for seed in seeds]
    return low + (high - low) * torch.stack(rows)


def whole(seed: int, low: int, high: int, purpose: str) -> int:
    """One whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=_source(seed, purpose)))


def _source(seed: int, purpose: str) -> torch.Generator:
    # `data.seed_of` names seeds for the rest of training. The seeds that come here were named by it; this
    # hash only keeps purposes apart, and is kept as it is so that recorded runs can be repeated.
    digest = hashlib.blake2b(f"{purpose} {int(seed)}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
