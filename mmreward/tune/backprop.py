"""Back-propagation of differentiable rewards: DRaFT-K, DRaFT-LV, AlignProp, ReFL, SRPO, Ctrl-U.

Each method samples, or noises a picture that is there, and returns an `Outcome`: minus the reward of the
finished picture with a gradient through some evaluations of the network. They differ in these evaluations:

- DRaFT (arXiv:2309.17400) and AlignProp (arXiv:2310.03739): the last K sampling steps.
- ReFL (ImageReward, arXiv:2304.05977): one step late in the sampling, judged by its prediction x0_hat.
- SRPO (Direct-Align, arXiv:2509.06942): one step from any noise level. Noise that was added is known, so
  one step is enough to get back to the picture, and early steps, which decide the layout, are trained as
  well.
- Ctrl-U (arXiv:2410.11236): a consistency reward on real pictures, weighted less where two neighbouring
  noise levels disagree. ControlNet++ (arXiv:2404.07987) is the same without the weight.

Knows no trainer: `gradient` hands in conditioning, latents and seeds.
"""

from collections.abc import Callable, Sequence

import torch

from ..generator import Conditioning, Generator
from ..sampling import solve
from .backprop_steps import (
    Outcome,
    PixelReward,
    Visit,
    gaussian,
    judged,
    negated,
    noised,
    rowwise,
    solve_last,
    uniform,
    visit,
    whole,
)
from .losses import certainty


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


# --- Ctrl-U -------------------------------------------------------------------------------------------------


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
    """Ctrl-U: noise real pictures a little, read x0_hat at two neighbouring levels, and weigh by agreement.

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


# --- one evaluation -----------------------------------------------------------------------------------------


def refl(
    generator: Generator,
    conditioning: Conditioning,
    latents: torch.Tensor,
    sigmas: torch.Tensor,
    reward: PixelReward,
    prompts: Sequence[str],
    *,
    seed: int,
    low: int | None = None,
    high: int | None = None,
    margin: float = 2.0,
    scale: float = 1e-3,
    guidance: float = 1.0,
    recompute: bool = False,
) -> Outcome:
    """ReFL: sample without a gradient up to a random step, and judge x0_hat = x - s v of that one step.

    The loss of a row is scale * max(0, margin - reward): a row that reached the margin is left alone.

    Args:
        generator, conditioning, latents, sigmas, reward, prompts: as for `draft`.
        seed: of the step; give another one each time.
        low, high: first and last step that may be drawn, from 0, both included. None is the last quarter, as
            in the paper (30 to 39 of 40).
        margin: in units of the reward; 2 is the paper's, for ImageReward.
        scale: of the loss; 1e-3 is the paper's, which adds it to a pre-training loss.
        guidance: scale of classifier-free guidance; 1 is none, as in the paper.
        recompute: gradient checkpointing of the step.

    Raises:
        ValueError: not 0 <= low <= high < T, or as `judged`.
    """
    steps = len(sigmas) - 1
    low = steps * 3 // 4 if low is None else low
    high = steps - 1 if high is None else high
    if not 0 <= low <= high < steps:
        raise ValueError(f"low {low} and high {high} must be in order and from 0 to {steps - 1}")
    step = whole(seed, low, high, "refl")
    with torch.no_grad():
        early = solve(generator, latents, conditioning, sigmas[: step + 1], guidance)
    seen = visit(generator, early, sigmas[step], conditioning, guidance, recompute=recompute)
    promised = early - sigmas[step] * seen.velocity
    rewards = judged(reward, generator.decode(promised), prompts)
    loss = scale * torch.relu(margin - rewards)
    metrics = {"step": float(step), "sigma": float(sigmas[step])}
    return Outcome(loss, rewards.detach(), (seen,), metrics)


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
    """Direct-Align: noise a picture, take one step of the network, and remove the rest of the known noise.

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
    """The clean latents under known noise, (x - s e) / (1 - s), at one noise level below 1 or at one per
    row."""
    level = rowwise(sigma, noisy)
    return (noisy - level * noise) / (1 - level)


def relative(reward: PixelReward, better: str, worse: str) -> PixelReward:
    """SRPO's relative reward: the reward for "`better` prompt" minus the reward for "`worse` prompt".

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
