"""Evaluations on held-out prompts from fixed seeds: scores and pictures, and the alarm that watches them.

`Evaluation` samples the same prompts from the same seeds each time, also at a larger size. `Watch` looks at
each result: it runs the alarm on over-optimisation and the early stop, and knows which evaluation was the
best so far.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch
from accelerate.utils import gather_object

from ..engine.engine import Engine
from ..generator import Generator
from ..monitor.alarms import Estimate, OverOptimisation, Plateau
from ..monitor.intervals import Measured, mean_of
from ..monitor.pictures import HARMFUL, LARGER, measure
from ..registry import Reward
from ..sampling import encoded, filled, solve
from ..types import Sample
from .config import TuneConfig
from .data import seed_of
from .grading import Grades, Grading
from .journal import Timeline
from .learner import Learner

Pictures = tuple[Sequence[int], torch.Tensor]
"""Numbers of prompts, and a picture of each."""


@dataclass(frozen=True)
class Evaluated:
    """Result of an evaluation: the grades of all prompts, and their pixels (N, 3, H, W) in [0, 1] on the CPU;
    of a clip, its first frame. `larger` are the first `evaluation.shown` of them, drawn at the size
    `evaluation.larger`."""

    grades: Grades
    pixels: torch.Tensor
    larger: torch.Tensor | None = None
    shared: list[int] | None = None
    """The number of each sample's prompt where several samples share one; None where each has its own."""

    def measured(self) -> dict[str, Measured]:
        """Mean of each reward over the scores that worked, its error being that between prompts."""
        return {name: mean_of(column, self.shared) for name, column in self.grades.values.items()}

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean, standard error and number of each reward, over the scores that worked."""
        return {
            name: {"mean": one.mean, "sem": one.sem, "n": float(one.n)}
            for name, one in self.measured().items()
        }


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
            _shared([sample.prompt for sample in self._prompts]),
        )

    def _draw_to_score(self, index: Sequence[int]) -> torch.Tensor:
        """Draw one batch and begin to score it; its stills."""
        generator = self._learner.generator
        pixels = self._draw(generator, index)
        samples = [replace(self._prompts[i], id=str(i)) for i in index]
        finished = filled(samples, pixels, generator.fps)
        self._grading.begin(list(index), finished)
        return _stills(pixels)

    def _draw_larger(self, generator: Generator) -> Pictures:
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
            encoded(generator, [self._prompts[i] for i in index]),
            generator.sigmas(steps),
            generator.guidance if guidance is None else guidance,
        )
        return generator.decode(latents)


class _Share(NamedTuple):
    """The share of one process."""

    grades: Grades
    rows: Pictures
    larger: Pictures | None


def _batches(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _stills(pixels: torch.Tensor) -> torch.Tensor:
    """Pictures, or the first frames of clips, on the CPU."""
    return (pixels[:, 0] if pixels.ndim == 5 else pixels).float().cpu()


def _in_order(parts: Sequence[Pictures]) -> torch.Tensor:
    """The rows of all processes by their numbers, each once."""
    rows = {number: row for numbers, pixels in parts for number, row in zip(numbers, pixels, strict=True)}
    return torch.stack([rows[number] for number in sorted(rows)])


def _shared(prompts: Sequence[str]) -> list[int] | None:
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    return [numbers[prompt] for prompt in prompts] if len(numbers) < len(prompts) else None


# --- the alarm ----------------------------------------------------------------------------------------------


T = TypeVar("T")


class Watch:
    """Alarm and early stop over a run's evaluations, and which one was the best.

    Args:
        config: of the run, with a weight for every reward; without `alarm` it reports and never stops.
        held_out: rewards that are not optimised; those of which less is better count negatively.
    """

    def __init__(self, config: TuneConfig, held_out: Mapping[str, Reward]) -> None:
        self._weights = config.weights
        self._signs = {name: 1 if reward.info.higher_is_better else -1 for name, reward in held_out.items()}
        self._stops = config.alarm is not None and config.alarm.stop
        alarm = config.alarm
        self._alarm = (
            OverOptimisation(
                tolerance=alarm.tolerance,
                patience=alarm.patience,
                spread=alarm.spread,
                baseline=alarm.baseline,
                harmful=HARMFUL | _larger(HARMFUL),
            )
            if alarm
            else OverOptimisation()
        )
        early = config.early_stop
        self._plateau = Plateau(early.patience, early.least) if early else None
        self._best = -math.inf
        self.improved = False
        """True where the last evaluation was the best so far, by the held-out rewards where there are any."""
        self.stopped = ""
        """Reason to end the run here with the weights of its best evaluation; empty to go on."""
        self.reason = ""
        """The reasons of the last alarm."""

    def look(self, step: int, evaluated: Evaluated) -> dict[str, Any]:
        """Judge one evaluation; returns its entries for the journal."""
        summary = evaluated.summary()
        optimised = _total(summary, self._weights)
        held_out = {
            name if sign > 0 else f"minus {name}": Estimate(
                sign * summary[name]["mean"],
                summary[name]["sem"],
                tuple((sign * evaluated.grades.values[name]).tolist()),
            )
            for name, sign in self._signs.items()
        }
        monitors = {"monitors": _measured(evaluated.pixels)}
        watched = monitors["monitors"]
        if evaluated.larger is not None:
            monitors["monitors_larger"] = _measured(evaluated.larger)
            watched = watched | _larger(monitors["monitors_larger"])
        verdict = self._alarm.update(step, optimised, held_out, watched)
        worth = sum(each.mean for each in held_out.values()) if held_out else optimised.mean
        self.improved = worth > self._best
        self._best = max(self._best, worth) if math.isfinite(worth) else self._best
        if verdict.level == "alarm":
            self.reason = "; ".join(verdict.reasons)
            if self._stops:
                self.stopped = f"stopped by the alarm: {self.reason}"
        if self._plateau is not None and math.isfinite(worth) and self._plateau.stop(worth):
            self.stopped = self.stopped or f"no rise in {self._plateau.patience} evaluations"
        return {
            "optimised": optimised.mean,
            "worth": worth,
            **monitors,
            "verdict": verdict.level,
            "reasons": list(verdict.reasons),
        }

    def state_dict(self) -> dict[str, Any]:
        """State for a resumed run, as JSON can hold it."""
        best = self._best if math.isfinite(self._best) else None
        plateau = self._plateau.state_dict() if self._plateau is not None else None
        return {
            "alarm": self._alarm.state_dict(),
            "plateau": plateau,
            "best": best,
            "reason": self.reason,
            "stopped": self.stopped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._alarm.load_state_dict(state["alarm"])
        if self._plateau is not None:
            self._plateau.load_state_dict(state["plateau"])
        self._best = -math.inf if state["best"] is None else state["best"]
        self.reason, self.stopped = state["reason"], state["stopped"]


def _measured(pixels: torch.Tensor) -> dict[str, float]:
    """The monitors of pictures of different prompts."""
    return measure(pixels, range(len(pixels)))


def _larger(monitors: Mapping[str, T]) -> dict[str, T]:
    """Monitors of larger pictures under names of their own."""
    return {f"{LARGER}{name}": value for name, value in monitors.items()}


def _total(summary: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]) -> Estimate:
    """The weighted sum of the optimised rewards; their errors as if they were independent."""
    mean = sum(weight * summary[name]["mean"] for name, weight in weights.items())
    variance = sum((weight * summary[name]["sem"]) ** 2 for name, weight in weights.items())
    return Estimate(mean, math.sqrt(variance))
