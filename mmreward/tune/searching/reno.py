"""ReNO as a method of `mmreward search`: rewards to terms, and curves to a history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...types import Sample, Score
from ..rendering import filled
from ..reno.noise import optimise_noise
from ..reno.records import Optimised, Reno
from ..reno.terms import Term, standardised, transform_named
from ..sampling import sample as draw
from .job import Found, Job


@dataclass(frozen=True, slots=True, kw_only=True)
class RenoSearch(Reno):
    """ReNO's settings, and how rewards become terms.

    Args:
        transforms: reward -> a name in `terms.TRANSFORMS`; default "raw".
        standardise: pictures per prompt, of fresh noises, over whose standard deviation a term is divided;
            0 leaves the terms as they are.
    """

    transforms: Mapping[str, str] | None = None
    standardise: int = 0

    def __post_init__(self) -> None:
        Reno.__post_init__(self)
        if self.standardise < 0:
            raise ValueError(f"standardise is a number of pictures, not {self.standardise}")


def reno(job: Job, settings: RenoSearch) -> list[Found]:
    """Optimise the noise of `batch` prompts at a time, and keep each one's first and best picture.

    Raises:
        ValueError: a reward that is not differentiable, or a transform of a reward that is not there.
    """
    terms = _terms(job, settings)
    engine, held_out = job.selection.engine, job.held_out
    found = []
    for start in range(0, len(job.samples), job.batch):
        rows = slice(start, start + job.batch)
        samples, seeds = job.samples[rows], job.seeds[rows]
        watch = (lambda shots: engine.score(shots, held_out)) if held_out else None
        outcome = optimise_noise(job.generator, samples, seeds, terms, settings, watch=watch)
        found += _found(samples, seeds, outcome, job.generator.fps)
    return found


def _terms(job: Job, settings: RenoSearch) -> dict[str, Term]:
    rewards, transforms = job.selection.rewards, dict(settings.transforms or {})
    if unknown := [name for name in transforms if name not in rewards]:
        raise ValueError(f"transforms of {', '.join(unknown)}: the rewards are {', '.join(rewards)}")
    if blind := [name for name, reward in rewards.items() if reward.tensor_fn is None]:
        raise ValueError(
            f"{', '.join(blind)} cannot be differentiated: optimise others, and list it under held_out"
        )
    terms = {
        name: Term(
            reward.score_tensor,
            job.selection.recipe.weights[name],
            transform_named(transforms.get(name, "raw")),
        )
        for name, reward in rewards.items()
    }
    if not settings.standardise:
        return terms
    prompts = [sample.prompt for sample in job.samples for _ in range(settings.standardise)]
    seeds = [seed + 1 + offset for seed in job.seeds for offset in range(settings.standardise)]
    inputs = [sample.inputs for sample in job.samples for _ in range(settings.standardise)]
    plain = draw(
        job.generator,
        prompts,
        seeds,
        job.steps,
        job.guidance,
        inputs=inputs if any(inputs) else (),
        batch=job.batch,
    )
    return standardised(terms, plain.to(job.generator.device), prompts)


def _found(
    samples: Sequence[Sample], seeds: Sequence[int], outcome: Optimised, fps: float | None
) -> list[Found]:
    first, best = filled(samples, outcome.start, fps), filled(samples, outcome.pixels, fps)
    cost = outcome.spent.forwards // len(samples)
    found = []
    for row, seed in enumerate(seeds):
        iteration = outcome.best[row]
        facts: list[dict[str, Any]] = [{"seed": seed, "iteration": 0}, {"seed": seed, "iteration": iteration}]
        chosen = None if iteration is None else 1
        found.append(Found([first[row], best[row]], chosen, cost, facts, _history(outcome, row)))
    return found


def _history(outcome: Optimised, row: int) -> dict[str, Any]:
    curves = outcome.curves
    return {
        "best_iteration": outcome.best[row],
        "stopped": outcome.stopped[row],
        "loss": _numbers(curves.loss[:, row]),
        "rewards": {name: _numbers(curve[:, row]) for name, curve in curves.rewards.items()},
        "norm": _numbers(curves.norm[:, row]),
        "distance": _numbers(curves.distance[:, row]),
        "held_out": {
            str(iteration): {name: _watched(scores[row]) for name, scores in looked.items()}
            for iteration, looked in curves.watched.items()
        },
    }


def _numbers(curve: torch.Tensor) -> list[float | None]:
    """Null where the latent had stopped: JSON has no NaN."""
    return [value if value == value else None for value in curve.tolist()]


def _watched(score: Score | None) -> float | str | None:
    """The value, or the status of a failure, or nothing for a latent that had stopped."""
    if score is None:
        return None
    return score.value if score.ok else score.status
