"""Variance-preserving diffusion in the coordinates of rectified flow, exactly. Knows no network.

A variance-preserving (VP) model, such as Stable Diffusion, gets x = sqrt(ab) x0 + sqrt(1 - ab) noise at whole
timesteps. With the noise level s = sqrt(1 - ab) / (sqrt(ab) + sqrt(1 - ab)), and x divided by the same sum,
x becomes (1 - s) x0 + s noise. In these coordinates DDIM without added noise (arXiv:2010.02502) and the Euler
steps of k-diffusion, whose sigma is s / (1 - s), are both Euler's rule in s.
"""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

PREDICTIONS = ("epsilon", "v_prediction", "sample")
RESPACINGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
ALMOST_PURE = 1e-7
"""Noise levels this close to 0 or 1 have a finite logit."""


class Schedule:
    """Noise levels, timesteps and predictions of a VP model.

    Args:
        scheduler: the model's own, from diffusers. Its betas, spacing and kind of prediction count, not its
            solver: an Euler scheduler and one with Karras', exponential or beta spacing keeps its noise
            levels, any other has those of DDIM.

    Raises:
        ValueError: no VP scheduler, an unknown kind of prediction, or a prediction of noise that
            has to start from nothing but noise.
    """

    def __init__(self, scheduler: Any) -> None:
        config: Mapping[str, Any] = scheduler.config
        if not hasattr(scheduler, "alphas_cumprod") or config.get("timestep_type") == "continuous":
            raise ValueError(f"{type(scheduler).__name__} has no VP noise levels at discrete timesteps")
        self.prediction: str = config["prediction_type"]
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"prediction_type {self.prediction!r} is none of {', '.join(PREDICTIONS)}")
        self._config = config
        is_euler = "Euler" in type(scheduler).__name__
        self._euler = is_euler or any(config.get(name) for name in RESPACINGS)
        self._starts_pure = is_euler and config["timestep_spacing"] != "leading"
        signal_power = self._scheduler().alphas_cumprod.double()
        if self.prediction == "epsilon" and signal_power[-1] == 0:
            raise ValueError("a prediction of the noise says nothing where there is only noise (zero SNR)")
        signal, noise = signal_power.sqrt(), (1 - signal_power).sqrt()
        self.levels: torch.Tensor = (noise / (signal + noise)).float()
        """Noise level at every whole timestep, float32 (T,), rising."""

    def sigmas(self, steps: int) -> torch.Tensor:
        """The `steps` + 1 noise levels of the scheduler's own spacing, float32, from the first down to 0.

        The last is 0 even where `set_alpha_to_one` is off, which would leave the noise of timestep 0.

        Raises:
            ValueError: fewer than one step, or more than there are timesteps.
        """
        if not 1 <= steps <= len(self.levels):
            raise ValueError(f"steps must be between 1 and {len(self.levels)}, not {steps}")
        scheduler = self._scheduler()
        scheduler.set_timesteps(steps)
        if self._euler:
            ratios = scheduler.sigmas[:-1].double()
            levels = (ratios / (1 + ratios)).float()
        else:
            levels = self.levels[scheduler.timesteps]
        return torch.cat([levels, torch.zeros(1)])

    def start(self, steps: int) -> float:
        """Standard deviation of the starting latents at the first of `sigmas(steps)`.

        The pipelines begin with noise of variance 1 where the model expects almost that. Euler schedulers
        with linspace or trailing spacing leave out the little signal instead, so there it is s itself.
        """
        first = self.sigmas(steps)[0]
        return float(first if self._starts_pure else spread(first))

    def timesteps(self, sigma: torch.Tensor) -> torch.Tensor:
        """Timesteps at the noise levels `sigma`, float32 in its shape; the inverse of `levels`.

        Between two whole timesteps log(s / (1 - s)) is linear, as for the Euler schedulers; outside the
        levels that the model was trained at, it is the first or last timestep.
        """
        table = torch.logit(self.levels.to(sigma.device), ALMOST_PURE)
        wanted = torch.logit(sigma.float(), ALMOST_PURE)
        above = torch.searchsorted(table, wanted).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        return above - 1 + ((wanted - low) / (high - low)).clamp(0, 1)

    def velocity(self, predicted: torch.Tensor, latents: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """The network's prediction as d latents / d s, float32 in the shape of `latents`.

        Args:
            predicted: noise, x0 or v = sqrt(ab) noise - sqrt(1 - ab) x0, by `prediction`.
            latents: (N, ...) in rectified-flow coordinates.
            sigma: noise levels, broadcastable against `latents`; above 0 for a prediction of x0.
        """
        predicted = predicted.float()
        if self.prediction == "epsilon":
            return (predicted - latents) / (1 - sigma)
        if self.prediction == "sample":
            return (latents - predicted) / sigma
        scale = 1 / spread(sigma)
        return scale * predicted + scale**2 * (2 * sigma - 1) * latents

    def _scheduler(self) -> Any:
        kind = EulerDiscreteScheduler if self._euler else DDIMScheduler
        return kind.from_config(self._config)


def spread(sigma: torch.Tensor) -> torch.Tensor:
    """Standard deviation at level s of latents whose x0 has variance 1; VP latents are ours divided by it."""
    return torch.hypot(1 - sigma, sigma)
