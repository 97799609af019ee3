"""SRPO: Direct-Align and semantic relative rewards (arXiv:2509.06942).

Noise that was added is known, so one step of the network is enough to get back to the picture from any noise
level, not only from late ones: early steps, which decide the layout, can be trained as well.
"""

from collections.abc import Sequence

import torch

from ..generator import Conditioning, Generator
from .outcome import Outcome, PixelReward, judged, negated
from .steps import gaussian, noised, rowwise, uniform, visit


def direct_align(
    generator: Generator,
    conditioning: Conditioning,
    clean: torch.Tensor,
    reward: PixelReward,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    low: float = 0.1,
    high: float = 0.99,
    stride: float = 0.1,
    guidance: float = 1.0,
    recompute: bool = False,
) -> Outcome:
    """Noise a picture, take one step of the network, and remove the rest of the noise, which is known.

    With x = (1 - s) x0 + s e and s' = s - stride (at least 0), the step gives x' = x + (s' - s) v, and
    x0_hat = (x' - s' e) / (1 - s'). It is x0 where v is exact, and otherwise off by (s - s') / (1 - s') times
    the error of v.

    Args:
        generator, conditioning, reward, prompts, guidance, recompute: as for `draft`.
        clean: (N, ...) latents of finished pictures: samples of the generator itself (`sampling.solve`
            without a gradient), or real ones.
        seeds: one per row, for its noise and its noise level.
        low, high: noise levels are drawn evenly from [low, high), row by row.
        stride: length of the step in noise levels.

    Raises:
        ValueError: not 0 < low <= high <= 1, a stride outside (0, 1], or not one seed per row.
    """
    if not 0 < low <= high <= 1:
        raise ValueError(f"low {low} and high {high} must be in order, above 0 and at most 1")
    if not 0 < stride <= 1:
        raise ValueError(f"stride must be in (0, 1], not {stride}")
    noise = gaussian(clean, seeds, "direct-align")
    sigma = uniform(seeds, low, high, "direct-align").to(clean.device)
    after = (sigma - stride).clamp(min=0)
    noisy = noised(clean.detach(), noise, sigma)
    seen = visit(generator, noisy, sigma, conditioning, guidance, recompute=recompute)
    stepped = noisy + rowwise(after - sigma, clean) * seen.velocity
    found = recovered(stepped, noise, after)
    rewards = judged(reward, generator.decode(found), prompts)
    return negated(rewards, [seen], {"sigma": float(sigma.mean())})


def recovered(noisy: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The picture under known noise, (x - s e) / (1 - s), at one noise level below 1 or at one per row."""
    level = rowwise(sigma, noisy)
    return (noisy - level * noise) / (1 - level)


def relative(reward: PixelReward, better: str, worse: str) -> PixelReward:
    """A reward minus itself: how much more the picture is like "`better` prompt" than like "`worse` prompt".

    What the reward likes in any picture whatever its prompt cancels, and with it much of what is gamed.

    Args:
        reward: one that reads its prompt.
        better, worse: words put before the prompt, such as "a sharp photo of" and "a blurred photo of".

    Raises:
        ValueError: both are the same, so that the difference is 0.
    """
    if better == worse:
        raise ValueError(f"better and worse are both {better!r}, so the difference is always 0")

    def difference(pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        up = reward(pixels, [f"{better} {prompt}" for prompt in prompts])
        return up - reward(pixels, [f"{worse} {prompt}" for prompt in prompts])

    return difference
