"""ReFL (ImageReward, arXiv:2304.05977): one step with a gradient somewhere late in the sampling, judged by
the picture it promises."""

from collections.abc import Sequence

import torch

from ..generator import Conditioning, Generator
from ..sampling import solve
from .outcome import Outcome, PixelReward, judged
from .steps import visit, whole


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
    """Sample without a gradient up to a random step, and judge x0_hat = x - s v of that one step.

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
