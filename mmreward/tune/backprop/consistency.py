"""Ctrl-U (arXiv:2410.11236): a consistency reward on real pictures, trusted less where two neighbouring noise
levels disagree. ControlNet++ (arXiv:2404.07987) is the same without the trust."""

from collections.abc import Callable, Sequence

import torch

from ..generator import Conditioning, Generator
from ..losses import certainty
from .outcome import Outcome, PixelReward, Visit, judged
from .steps import gaussian, noised, rowwise, uniform, visit

Disagreement = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Rewards of the two levels, each (N, ...) -> how far they are apart, not negative, (N, ...)."""
Weight = Callable[[torch.Tensor], torch.Tensor]
"""Disagreement -> weight of the loss, element by element."""


def ctrl_u(
    generator: Generator,
    conditioning: Conditioning,
    clean: torch.Tensor,
    reward: PixelReward,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    highest: float = 0.4,
    gap: float = 1e-3,
    disagreement: Disagreement = lambda first, second: (first - second).abs(),
    weight: Weight = certainty,
    guidance: float = 1.0,
    recompute: bool = False,
) -> Outcome:
    """Noise real pictures a little, read x0_hat at two neighbouring levels, and weigh by their agreement.

    The loss of a row is the mean over its elements of weight(u) * -r + u, where r is the reward at the level
    itself and u = disagreement(r, reward at level + gap): being unsure lowers the weight, and costs.

    Args:
        generator, conditioning, prompts, guidance, recompute: as for `draft`.
        clean: (N, ...) latents of real pictures, whose condition the reward compares with.
        reward: agreement with the condition, (N,) or a map (N, ...), such as minus a per-pixel loss against
            the condition's segmentation or depth.
        seeds: one per row, for its noise and its level.
        highest: levels are drawn evenly from [0, highest): one step shows the picture only where little noise
            was added.
        gap: between the two levels; 1e-3 is one step of a thousand.
        disagreement, weight: the defaults are |r - r'| and `losses.certainty`, exp(-u).

    Raises:
        ValueError: not 0 < highest < highest + gap <= 1, or not one seed per row.
    """
    if not 0 < highest < highest + gap <= 1:
        raise ValueError(f"highest {highest} and gap {gap} must be positive and at most 1 together")
    noise = gaussian(clean, seeds, "ctrl-u")
    sigma = uniform(seeds, 0.0, highest, "ctrl-u").to(clean.device)
    found: list[torch.Tensor] = []
    visits: list[Visit] = []
    for level in (sigma, sigma + gap):
        noisy = noised(clean.detach(), noise, level)
        visits.append(visit(generator, noisy, level, conditioning, guidance, recompute=recompute))
        promised = noisy - rowwise(level, clean) * visits[-1].velocity
        found.append(judged(reward, generator.decode(promised), prompts, ndim=None))
    unsure = disagreement(*found)
    loss = (weight(unsure) * -found[0] + unsure).reshape(len(clean), -1).mean(1)
    rewards = found[0].detach().reshape(len(clean), -1).mean(1)
    return Outcome(loss, rewards, tuple(visits), {"disagreement": float(unsure.detach().nanmean())})
