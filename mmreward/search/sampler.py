"""Samplers cut into the steps that a search recombines, and the seeds of all searches.

A trajectory has `steps` + 1 states: state 0 is pure noise, state `steps` is the sample itself. The rows of
one batch may belong to different prompts; `prompts` has the prompt of each row. `generator_sampler` makes a
`Sampler` of any `Generator`: its velocity, its grid of noise levels and one stochastic kernel. Knows no
reward and no search.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..generator import Conditioning, Generator
from ..sampling import media
from ..tune import kernels

Rows = NDArray[np.int64]
"""For each row of a batch, the index of its prompt."""
Seeds = NDArray[np.int64]
"""For each row of a batch, the seed of its randomness, at least 0."""


class Sampler(Protocol):
    """A stochastic sampler cut into the pieces that a search recombines.

    Only `predict` runs the network, so its result can serve a look ahead and any number of steps from the
    same state. Every row depends on its own state, seed and prompt alone.
    """

    @property
    def prompts(self) -> int:
        """Number of prompts that rows may refer to."""
        ...

    @property
    def steps(self) -> int:
        """Steps from noise to sample."""
        ...

    @property
    def forwards(self) -> int:
        """Network evaluations that `predict` costs per row: 2 with classifier-free guidance."""
        ...

    def start(self, seeds: Seeds) -> torch.Tensor:
        """States 0, (N, ...)."""
        ...

    def predict(self, states: torch.Tensor, i: int, prompts: Rows) -> torch.Tensor:
        """Output of the network for states `i`, (N, ...); `clean` and `step` take it."""
        ...

    def clean(self, states: torch.Tensor, predicted: torch.Tensor, i: int) -> torch.Tensor:
        """The samples that states `i` are expected to end in (x0_hat), to be decoded."""
        ...

    def step(self, states: torch.Tensor, predicted: torch.Tensor, i: int, seeds: Seeds) -> torch.Tensor:
        """States `i` to states `i` + 1."""
        ...

    def branches(self, i: int) -> bool:
        """True when the step from state `i` is random, so that two seeds give two states."""
        ...

    def decode(self, latents: torch.Tensor) -> Sequence[Any]:
        """Media for the rewards, one per row."""
        ...


class Kernel(Protocol):
    """The stochastic step of a sampler in rectified-flow coordinates (see `tune.kernels`)."""

    def transition(self, x: torch.Tensor, v: torch.Tensor, sigmas: torch.Tensor, i: int) -> Any:
        """The Gaussian that the next latents come from; its `std` is 0 where the step is deterministic."""
        ...

    def draw(self, transition: Any, noise: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The next latents from standard Gaussian noise."""
        ...


def spread(steps: int, number: int) -> tuple[int, ...]:
    """`number` indices of states, evenly spread over 1 to `steps` and ending there.

    Raises:
        ValueError: fewer than one, or more than there are steps.
    """
    if not 1 <= number <= steps:
        raise ValueError(f"{number} checks do not fit into {steps} steps; give 1 to {steps}")
    return tuple(round(steps * k / number) for k in range(1, number + 1))


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
    """Sampler of a generator.

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


# --- seeds --------------------------------------------------------------------------------------------------
#
# Two uses, two rules. A method that draws whole pictures writes their seeds down, for the user to draw them
# again: those are small integers in a row (`picture_seed`). A search that branches needs a seed for every
# step of every path, which nobody types: those are hashes of what the draw is for (`derive`).

PROMPT_STRIDE = 1_000
"""Between the first seeds of two prompts: as many pictures of one prompt have noises of their own."""
RUN_STRIDE = 1_000_000_000
"""Between the first seeds of two runs."""
RESAMPLING = 1 << 32
"""Key of `derive` for the offsets of resampling; the keys of steps are below it."""
WALKS = 1 << 33
"""Key of `derive` for the walks down a tree."""
DRAWS = 1 << 34
"""Key of `derive` for the draw of one sample by weight, after the search."""


def picture_seed(run: int, prompt: int, picture: int = 0) -> int:
    """Seed of a prompt's picture in a run: those of one prompt follow each other by ones.

    Args:
        run: seed of the run.
        prompt: index of the prompt.
        picture: index of the picture; from PROMPT_STRIDE on it has the noise of another prompt's picture.
    """
    return RUN_STRIDE * run + PROMPT_STRIDE * prompt + picture


def derive(seed: int, *keys: ArrayLike) -> Seeds:
    """One seed of 63 bits per row for every combination of `seed` and keys (integers or arrays of them).

    Equal keys give equal seeds, in any batch and in any order of drawing. The mixing is that of splitmix64
    (Steele et al., OOPSLA 2014), so neighbouring keys are unrelated.
    """
    state = np.asarray(seed, dtype=np.int64).astype(np.uint64)
    for key in keys:
        state = _mixed(state ^ _mixed(np.asarray(key, dtype=np.int64).astype(np.uint64)))
    return np.atleast_1d(_mixed(state) >> np.uint64(1)).astype(np.int64)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(bits: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is the point
        bits = bits + _GOLDEN
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(bits ^ (bits >> np.uint64(31)))
