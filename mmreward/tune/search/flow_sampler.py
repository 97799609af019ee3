"""Any `Generator` as a `Sampler`: its velocity, its grid of noise levels and one stochastic kernel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .. import kernels
from ..generator import Conditioning, Generator
from ..sampling import media
from .sampler import Kernel, Rows, Seeds


@dataclass(frozen=True)
class GeneratorSampler:
    """Rows of a generator, stepped by a kernel; see `generator_sampler` and `Sampler`.

    Args:
        generator: any family.
        conditioning: one row per prompt.
        sigmas: the grid, (steps + 1,) float32, from the highest noise level down to 0.
        guidance: scale of classifier-free guidance; 1 is none.
        kernel: the step.
    """

    generator: Generator
    conditioning: Conditioning
    sigmas: torch.Tensor
    guidance: float
    kernel: Kernel

    @property
    def prompts(self) -> int:
        return len(self.conditioning)

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def forwards(self) -> int:
        return 1 if self.guidance == 1 or not self.conditioning.blank else 2

    def start(self, seeds: Seeds) -> torch.Tensor:
        return self.generator.noise(seeds.tolist(), self.steps).float()

    @torch.no_grad()
    def predict(self, states: torch.Tensor, i: int, prompts: Rows) -> torch.Tensor:
        rows = torch.as_tensor(prompts, device=states.device)
        return self.generator.velocity(states, self.sigmas[i], self.conditioning[rows], self.guidance).float()

    def clean(self, states: torch.Tensor, predicted: torch.Tensor, i: int) -> torch.Tensor:
        return states - self.sigmas[i] * predicted

    def step(self, states: torch.Tensor, predicted: torch.Tensor, i: int, seeds: Seeds) -> torch.Tensor:
        noise = gaussian(seeds, states) if self.branches(i) else torch.zeros_like(states)
        return self.kernel.draw(self.kernel.transition(states, predicted, self.sigmas, i), noise)

    def branches(self, i: int) -> bool:
        nothing = torch.zeros(1, 1, device=self.sigmas.device)
        return bool((self.kernel.transition(nothing, nothing, self.sigmas, i).std > 0).any())

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> Sequence[Any]:
        return media(self.generator.decode(latents), self.generator.fps)


def generator_sampler(
    generator: Generator,
    conditioning: Conditioning,
    steps: int | None = None,
    guidance: float | None = None,
    kernel: Kernel | str = "cps",
) -> GeneratorSampler:
    """Make a sampler of a generator.

    Args:
        generator: any family.
        conditioning: of P prompts, one row each.
        steps, guidance: default those of the generator.
        kernel: the stochastic step or its name in `tune.kernels`. "cps" keeps the noise level of every state
            exact, so x0_hat is what the network was trained on; "ode" is deterministic and leaves only the
            starting noise to choose, which is all that best-of-N needs.

    Raises:
        ValueError: fewer than one step, no prompt, or no such kernel.
    """
    steps = generator.steps if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if not len(conditioning):
        raise ValueError("there is no prompt to search for: the conditioning has no rows")
    return GeneratorSampler(
        generator,
        conditioning,
        generator.sigmas(steps),
        generator.guidance if guidance is None else guidance,
        kernels.kernel(kernel) if isinstance(kernel, str) else kernel,
    )


def gaussian(seeds: Seeds, like: torch.Tensor) -> torch.Tensor:
    """Standard Gaussian noise in the shape of `like`, drawn on the CPU row by row from each row's seed."""
    rows = [
        torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds.tolist()
    ]
    return torch.stack(rows).to(like.device)
