"""What the policy makes of held-out prompts from fixed seeds: scores and pictures, also larger ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray

from ..engine import Engine
from ..registry import Reward
from ..types import Sample
from .config import TuneConfig
from .generator import Generator
from .grading import Grades, Grading
from .journal import Timeline
from .learner import Learner
from .online import encode
from .rounds import seed_of
from .sampling import media, shown, solve

Rows = tuple[Sequence[int], torch.Tensor]
"""Numbers of prompts, and a picture of each."""


@dataclass(frozen=True)
class Evaluated:
    """The grades of all prompts, and their pixels (N, 3, H, W) in [0, 1] on the CPU; of a clip, its first
    frame. `larger` are the first `evaluation.shown` of them, drawn at the size `evaluation.larger`."""

    grades: Grades
    pixels: torch.Tensor
    larger: torch.Tensor | None = None

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean, standard error and number of each reward, over the scores that worked."""
        return {name: _summary(column) for name, column in self.grades.values.items()}


class Evaluation:
    """Samples the same prompts from the same seeds each time, without noise in the steps.

    Args:
        config: of the run.
        learner: whose averaged weights are used.
        engine: where rewards run.
        rewards: the optimised and the held-out ones.
        prompts: held out.

    Raises:
        ValueError: the generator cannot make pictures of the size `evaluation.larger`, or the prompts cannot
            be shared out among the processes.
    """

    def __init__(
        self,
        config: TuneConfig,
        learner: Learner,
        engine: Engine,
        rewards: Mapping[str, Reward],
        prompts: Sequence[Sample],
    ) -> None:
        self._config, self._learner, self._prompts = config, learner, prompts
        self._grading = Grading(engine, rewards, config.failures.timeout, Timeline())
        size = config.evaluation.larger
        self._larger = None if size is None else learner.generator.at(size.height, size.width)
        world = learner.accelerator.num_processes
        if len(prompts) < world or (learner.sharded and len(prompts) % world):
            raise ValueError(
                f"{len(prompts)} prompts to evaluate on for {world} processes: give each one at least, and "
                "all the same number where `shard` spreads the network over them"
            )

    @torch.no_grad()
    def run(self) -> Evaluated:
        """Sample and score; every process does its share and gets the whole."""
        accelerator, batch = self._learner.accelerator, self._config.evaluation.batch
        own = list(range(len(self._prompts)))[accelerator.process_index :: accelerator.num_processes]
        with self._learner.averaged(), self._learner.autocast():
            pixels = torch.cat([self._draw_to_score(each) for each in _batches(own, batch)])
            larger = None if self._larger is None else self._draw_larger(self._larger)
        shares = [_Share(self._grading.collect(), (own, pixels), larger)]
        if accelerator.num_processes > 1:
            shares = gather_object(shares)
        larger_rows = [share.larger for share in shares if share.larger is not None]
        return Evaluated(
            Grades.join([share.grades for share in shares]),
            _in_order([share.rows for share in shares]),
            _in_order(larger_rows) if larger_rows else None,
        )

    def _draw_to_score(self, index: Sequence[int]) -> torch.Tensor:
        """Draw one batch and begin to score it; its stills."""
        generator = self._learner.generator
        pixels = self._draw(generator, index)
        finished = [
            shown(self._prompts[i], one, id=str(i))
            for i, one in zip(index, media(pixels, generator.fps), strict=True)
        ]
        self._grading.begin(list(index), finished)
        return _stills(pixels)

    def _draw_larger(self, generator: Generator) -> Rows:
        """This process's share of the shown prompts. Every process draws as many, since networks that are
        spread over them run in step; so some come twice."""
        accelerator, config = self._learner.accelerator, self._config.evaluation
        number, world = min(config.shown, len(self._prompts)), accelerator.num_processes
        own = [(accelerator.process_index + i) % number for i in range(0, number, world)]
        usual, large = (one.noise([0]).numel() for one in (self._learner.generator, generator))
        batch = max(1, config.batch * usual // large)  # in about the memory of the others
        return own, torch.cat([_stills(self._draw(generator, each)) for each in _batches(own, batch)])

    def _draw(self, generator: Generator, index: Sequence[int]) -> torch.Tensor:
        """Pixels of one batch, as the generator decodes them."""
        config = self._config.evaluation
        guidance = config.guidance if config.guidance is not None else self._config.rollout.guidance
        steps = config.steps or generator.steps
        latents = solve(
            generator,
            generator.noise([seed_of(config.seed, "evaluation", i) for i in index], steps),
            encode(generator, [self._prompts[i] for i in index]),
            generator.sigmas(steps),
            generator.guidance if guidance is None else guidance,
        )
        return generator.decode(latents)


class _Share(NamedTuple):
    """What one process drew."""

    grades: Grades
    rows: Rows
    larger: Rows | None


def _batches(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _stills(pixels: torch.Tensor) -> torch.Tensor:
    """Pictures, or the first frames of clips, on the CPU."""
    return (pixels[:, 0] if pixels.ndim == 5 else pixels).float().cpu()


def _in_order(parts: Sequence[Rows]) -> torch.Tensor:
    """The rows of all processes by their numbers, each once."""
    rows = {number: row for numbers, pixels in parts for number, row in zip(numbers, pixels, strict=True)}
    return torch.stack([rows[number] for number in sorted(rows)])


def _summary(column: NDArray[np.float64]) -> dict[str, float]:
    fine = column[np.isfinite(column)]
    number = len(fine)
    return {
        "mean": float(fine.mean()) if number else float("nan"),
        "sem": float(fine.std(ddof=1) / np.sqrt(number)) if number > 1 else float("nan"),
        "n": float(number),
    }
