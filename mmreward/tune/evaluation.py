"""What the policy makes of held-out prompts from fixed seeds: scores, textures and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray

from ..engine import Engine
from ..registry import Reward
from ..types import Sample
from .config import TuneConfig
from .grading import Grades, Grading
from .journal import Timeline
from .learner import Learner
from .online import encode
from .rounds import seed_of
from .sampling import media, shown, solve


@dataclass(frozen=True)
class Evaluated:
    """The grades of all prompts, and their pixels (N, 3, H, W) in [0, 1] on the CPU; of a clip, its first
    frame."""

    grades: Grades
    pixels: torch.Tensor

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

    @torch.no_grad()
    def run(self) -> Evaluated:
        """Sample and score; every process does its share and gets the whole."""
        accelerator, batch = self._learner.accelerator, self._config.evaluation.batch
        own = list(range(len(self._prompts)))[accelerator.process_index :: accelerator.num_processes]
        with self._learner.averaged(), self._learner.autocast():
            pixels = [self._draw(own[start : start + batch]) for start in range(0, len(own), batch)]
        grades = self._grading.collect()
        parts = [(grades, own, torch.cat(pixels))]
        if accelerator.num_processes > 1:
            parts = gather_object(parts)
        order = np.argsort(np.concatenate([index for _, index, _ in parts]))
        whole = torch.cat([shown for _, _, shown in parts])[torch.from_numpy(order)]
        return Evaluated(Grades.join([each for each, _, _ in parts]), whole)

    def _draw(self, index: Sequence[int]) -> torch.Tensor:
        """Draw and begin to score one batch; its pixels (or first frames)."""
        generator, config = self._learner.generator, self._config.evaluation
        samples = [self._prompts[i] for i in index]
        guidance = config.guidance if config.guidance is not None else self._config.rollout.guidance
        steps = config.steps or generator.steps
        latents = solve(
            generator,
            generator.noise([seed_of(config.seed, "evaluation", i) for i in index], steps),
            encode(generator, samples),
            generator.sigmas(steps),
            generator.guidance if guidance is None else guidance,
        )
        pixels = generator.decode(latents)
        finished = [
            shown(sample, one, id=str(i))
            for i, sample, one in zip(index, samples, media(pixels, generator.fps), strict=True)
        ]
        self._grading.begin(list(index), finished)
        return (pixels[:, 0] if pixels.ndim == 5 else pixels).float().cpu()


def _summary(column: NDArray[np.float64]) -> dict[str, float]:
    fine = column[np.isfinite(column)]
    number = len(fine)
    return {
        "mean": float(fine.mean()) if number else float("nan"),
        "sem": float(fine.std(ddof=1) / np.sqrt(number)) if number > 1 else float("nan"),
        "n": float(number),
    }
