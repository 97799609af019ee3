"""Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598): its rows and its forward."""

from collections.abc import Callable, Mapping

import torch

from mmreward.tune.generator import Conditioning

Forward = Callable[[torch.Tensor, torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]
"""Latents (N, ...), noise levels (N,) and what the network is told, to velocities."""


def last_is_blank(encoded: Mapping[str, torch.Tensor]) -> Conditioning:
    """Conditioning of N rows from N + 1: the last one is the blank prompt, the same for all."""
    given = {name: rows[:-1] for name, rows in encoded.items()}
    blank = {name: rows[-1:].expand(len(rows) - 1, *rows.shape[1:]) for name, rows in encoded.items()}
    return Conditioning(given, blank)


def both(
    forward: Forward, latents: torch.Tensor, levels: torch.Tensor, conditioning: Conditioning
) -> tuple[torch.Tensor, torch.Tensor]:
    """Velocities for the prompts and for the blank ones, from one forward of twice the rows."""
    told = {name: torch.cat([rows, conditioning.blank[name]]) for name, rows in conditioning.given.items()}
    given, blank = forward(torch.cat([latents, latents]), levels.repeat(2), told).chunk(2)
    return given, blank
