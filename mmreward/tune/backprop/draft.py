"""Back-propagation through the last sampling steps: DRaFT-K, DRaFT-LV (arXiv:2309.17400) and AlignProp
(arXiv:2310.03739). The loss is minus the reward of the finished picture."""

from collections.abc import Sequence

import torch

from ..generator import Conditioning, Generator
from ..sampling import solve
from .outcome import Outcome, PixelReward, Visit, judged, negated
from .steps import gaussian, noised, solve_last, visit, whole


def draft(
    generator: Generator,
    conditioning: Conditioning,
    latents: torch.Tensor,
    sigmas: torch.Tensor,
    reward: PixelReward,
    prompts: Sequence[str],
    *,
    last: int = 1,
    guidance: float = 1.0,
    recompute: bool = False,
) -> Outcome:
    """DRaFT-K: sample, and keep the gradient of the last K steps.

    Args:
        generator: what is tuned.
        conditioning: the prompts, encoded; N rows.
        latents: (N, ...) at the first of `sigmas`.
        sigmas: (T + 1,) noise levels, falling to 0.
        reward: of pixels and prompts.
        prompts: N texts for the reward.
        last: K, from 1 to T. T is full back-propagation; the paper finds 1 the best trade.
        guidance: scale of classifier-free guidance; 1 is none.
        recompute: gradient checkpointing, step by step: memory of one step for a second forward of each.

    Raises:
        ValueError: `last` is not from 1 to T, or as `judged`.
    """
    steps = len(sigmas) - 1
    if not 1 <= last <= steps:
        raise ValueError(f"last must be from 1 to the {steps} steps there are, not {last}")
    with torch.no_grad():
        early = solve(generator, latents, conditioning, sigmas[: steps - last + 1], guidance)
    late = sigmas[steps - last :]
    clean, visits = solve_last(generator, early, conditioning, late, guidance, recompute=recompute)
    rewards = judged(reward, generator.decode(clean), prompts)
    return negated(rewards, visits, {"steps": float(last)})


def align_prop(
    generator: Generator,
    conditioning: Conditioning,
    latents: torch.Tensor,
    sigmas: torch.Tensor,
    reward: PixelReward,
    prompts: Sequence[str],
    *,
    seed: int,
    low: int = 1,
    high: int | None = None,
    guidance: float = 1.0,
    recompute: bool = True,
) -> Outcome:
    """AlignProp: DRaFT with a number of steps drawn anew for every batch, so that early steps learn as well.

    Args:
        generator, conditioning, latents, sigmas, reward, prompts, guidance, recompute: as for `draft`.
        seed: of the draw; give another one each time.
        low, high: the fewest and most steps with a gradient, both included; None is all T.

    Raises:
        ValueError: not 1 <= low <= high <= T.
    """
    steps = len(sigmas) - 1
    high = steps if high is None else high
    if not 1 <= low <= high <= steps:
        raise ValueError(f"low {low} and high {high} must be in order and from 1 to {steps}")
    last = whole(seed, low, high, "align-prop")
    return draft(
        generator,
        conditioning,
        latents,
        sigmas,
        reward,
        prompts,
        last=last,
        guidance=guidance,
        recompute=recompute,
    )


def draft_lv(
    generator: Generator,
    conditioning: Conditioning,
    latents: torch.Tensor,
    sigmas: torch.Tensor,
    reward: PixelReward,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    copies: int = 2,
    guidance: float = 1.0,
) -> Outcome:
    """DRaFT-LV: DRaFT-1 with less variance, from several noisings of the same finished picture.

    The first copy is the last step of the sampling itself; for the others its outcome, detached, is brought
    back to the last noise level with fresh noise. A row's loss and reward are means over its copies.

    Args:
        generator, conditioning, latents, sigmas, reward, prompts, guidance: as for `draft`.
        seeds: one per row, for the fresh noise.
        copies: how many last steps in all, at least 1; 1 is DRaFT-1.

    Raises:
        ValueError: fewer than one copy or step, or not one seed per row.
    """
    if copies < 1 or len(sigmas) < 2:
        raise ValueError(f"copies ({copies}) and steps ({len(sigmas) - 1}) must be at least 1")
    with torch.no_grad():
        early = solve(generator, latents, conditioning, sigmas[:-1], guidance)
    first, visits = _last_step(generator, early, conditioning, sigmas, guidance)
    again = [
        noised(first.detach(), gaussian(first, seeds, f"draft-lv {copy}"), sigmas[-2])
        for copy in range(1, copies)
    ]
    pictures = [first]
    for start in again:
        clean, more = _last_step(generator, start, conditioning, sigmas, guidance)
        pictures.append(clean)
        visits += more
    pixels = generator.decode(torch.cat(pictures))
    rewards = judged(reward, pixels, list(prompts) * copies).reshape(copies, -1).mean(0)
    return negated(rewards, visits, {"copies": float(copies)})


def _last_step(
    generator: Generator,
    latents: torch.Tensor,
    conditioning: Conditioning,
    sigmas: torch.Tensor,
    guidance: float,
) -> tuple[torch.Tensor, list[Visit]]:
    seen = visit(generator, latents, sigmas[-2], conditioning, guidance)
    return latents + (sigmas[-1] - sigmas[-2]) * seen.velocity, [seen]
