"""The parts all methods are made of: steps with and without a gradient, levels, and seeded draws."""

import hashlib
import itertools
from collections.abc import Sequence

import torch
from torch.utils.checkpoint import checkpoint

from ..generator import Conditioning, Generator
from .outcome import Visit


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

    made = checkpoint(velocity, latents, use_reentrant=False) if recompute else velocity(latents)
    return Visit(latents.detach(), sigma, made, conditioning)


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
    digest = hashlib.blake2b(f"{purpose} {int(seed)}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
