"""ReNO: gradient descent on the noise that a picture starts from, towards higher differentiable rewards.

Method and constants: arXiv:2406.04312. Here a batch is optimised at once, and every latent has its own clip,
its own best picture and its own reason to stop, so that it ends as it would alone. The network stays as it
is. `optimise_noise` knows no reward and no family of generators; `RenoSearch` is the method of
`mmreward search`: rewards become terms, and curves a history.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..generator import Generator
from ..sampling import encoded, filled, forwards, frozen, rendered
from ..sampling import sample as draw
from ..types import Sample, Score
from .config import entry
from .job import Found, Job, Spent
from .reno_terms import (
    TRANSFORMS,
    Curves,
    Descent,
    Optimised,
    Reno,
    Term,
    clipped,
    standardised,
    weighed,
)
from .sampler import picture_seed

Watch = Callable[[Sequence[Sample]], Mapping[str, Sequence[Score]]]
"""Held-out rewards of samples with pictures, such as `lambda samples: engine.score(samples, rewards)`."""


def chi_energy(noise: torch.Tensor) -> torch.Tensor:
    """||e||^2 / 2 - (d - 1) ln ||e||, (N,) in float64, of noise (N, ...) with d numbers a row.

    The negative logarithm of the norm's chi density up to a constant; least at ||e|| = sqrt(d - 1).
    """
    length: torch.Tensor = torch.linalg.vector_norm(noise.flatten(1), dim=1, dtype=torch.float64)
    return 0.5 * length.square() - (noise[0].numel() - 1) * length.log()


def optimise_noise(
    generator: Generator,
    samples: Sequence[Sample],
    seeds: Sequence[int],
    terms: Mapping[str, Term],
    settings: Reno = Reno(),  # noqa: B008 - immutable
    *,
    watch: Watch | None = None,
) -> Optimised:
    """Optimise one noise per sample for the sum of the terms; the samples are in memory together.

    A latent whose loss or gradient is not finite stops there and keeps the best it had. A decoder that
    clamps to [0, 1] passes no gradient where it does.

    Args:
        generator: gradients pass through its `velocity` and `decode`.
        samples: the prompts (and condition pictures in `inputs`).
        seeds: of the starting noises, one per sample.
        terms: what is optimised, by name.
        settings: see `Reno`.
        watch: rewards that are looked at and never optimised.

    Raises:
        ValueError: no samples, no terms, or not as many seeds as samples.
    """
    if not samples or not terms:
        raise ValueError(f"{len(samples)} samples and {len(terms)} terms: give at least one of each")
    if len(seeds) != len(samples):
        raise ValueError(f"{len(samples)} samples but {len(seeds)} seeds; give one seed per sample")
    run = _Run(generator, samples, seeds, terms, settings)
    with frozen(generator):
        for iteration in range(settings.iterations):
            if not (rows := run.going()):
                break
            pixels = run.iterate(iteration, rows)
            if watch is not None and (run.is_last(iteration) or iteration % settings.watch_every == 0):
                run.look(watch, iteration, rows, pixels)
    return run.result()


class _Run:
    """State of one `optimise_noise`: the noises, and the best picture and the curves of each so far."""

    def __init__(
        self,
        generator: Generator,
        samples: Sequence[Sample],
        seeds: Sequence[int],
        terms: Mapping[str, Term],
        settings: Reno,
    ) -> None:
        self.generator, self.samples, self.terms, self.settings = generator, samples, terms, settings
        self.conditioning = encoded(generator, samples)
        self.sigmas = generator.sigmas(settings.steps)
        # Latents of level s are s x noise at the start: what is optimised has unit variance in every family.
        self.first = generator.noise(seeds, settings.steps).float() / self.sigmas[0]
        self.noise = self.first.clone()
        self.descent = Descent(self.first, settings.lr, settings.optimiser, settings.momentum)
        self.curves = Curves.empty(list(terms), settings.iterations, len(samples))
        self.stopped = [""] * len(samples)
        self.spent = Spent()
        self.best: list[int | None] = [None] * len(samples)
        self.best_noise = self.first.clone()
        self.best_loss = torch.full((len(samples),), torch.inf, device=self.first.device)
        self.pixels = self.start = torch.empty(0)

    def is_last(self, iteration: int) -> bool:
        """After the last iteration the noise is not changed any more."""
        return iteration == self.settings.iterations - 1

    def going(self) -> list[int]:
        """The rows that have not stopped."""
        return [row for row, reason in enumerate(self.stopped) if not reason]

    def iterate(self, iteration: int, rows: list[int]) -> torch.Tensor:
        """Draw the pictures of these rows, note them, and take a step unless the iteration is the last."""
        settings, last = self.settings, self.is_last(iteration)
        noise = self.noise[rows].requires_grad_(not last)
        with torch.set_grad_enabled(not last):
            pixels = rendered(
                self.generator,
                noise * self.sigmas[0],
                self.conditioning[torch.tensor(rows, device=noise.device)],
                self.sigmas,
                settings.guidance,
                checkpointed=settings.checkpoint and not last,
            )
            loss, rewards = weighed(self.terms, pixels, [self.samples[row].prompt for row in rows])
        self._count(len(rows), last)
        self._note(iteration, rows, loss.detach(), rewards)
        finite = loss.isfinite()
        self._stop(rows, ~finite, f"the loss of iteration {iteration} is not finite")
        self._keep_best(iteration, rows, loss.detach(), pixels.detach())
        if not last and finite.any():
            total = loss[finite].sum() + settings.regularise * chi_energy(noise[finite]).sum()
            (gradient,) = torch.autograd.grad(total, noise)
            self._step(iteration, rows, gradient, finite)
        return pixels.detach()

    def look(self, watch: Watch, iteration: int, rows: list[int], pixels: torch.Tensor) -> None:
        """Note the held-out rewards of these rows' pictures."""
        shown = filled([self.samples[row] for row in rows], pixels, self.generator.fps)
        looked: dict[str, list[Score | None]] = {}
        for name, scores in watch(shown).items():
            looked[name] = [None] * len(self.samples)
            for row, score in zip(rows, scores, strict=True):
                looked[name][row] = score
        self.curves.watched[iteration] = looked

    def result(self) -> Optimised:
        """The best pictures, and how they came about."""
        return Optimised(
            self.pixels,
            self.best_noise * self.sigmas[0],
            self.start,
            tuple(self.best),
            tuple(self.stopped),
            self.curves,
            self.spent,
        )

    def _step(self, iteration: int, rows: list[int], gradient: torch.Tensor, finite: torch.Tensor) -> None:
        usable = finite & gradient.flatten(1).isfinite().all(dim=1)
        self._stop(rows, finite & ~usable, f"the gradient of iteration {iteration} is not finite")
        moving = _where(rows, usable)
        self.noise[moving] += self.descent.step(moving, clipped(gradient[usable], self.settings.clip))
        if self.settings.max_drift is not None:
            length = _length(self.noise[rows])
            drifted = usable & ((length - 1).abs() > self.settings.max_drift)
            self._stop(rows, drifted, f"after iteration {iteration} the noise's length left its bounds")

    def _keep_best(self, iteration: int, rows: list[int], loss: torch.Tensor, pixels: torch.Tensor) -> None:
        if not len(self.pixels):
            self.pixels, self.start = pixels.clone(), pixels.clone()
        better = loss.isfinite() & (loss < self.best_loss[rows])
        winners = _where(rows, better)
        self.pixels[winners] = pixels[better]
        self.best_noise[winners] = self.noise[winners]
        self.best_loss[winners] = loss[better]
        for row in winners:
            self.best[row] = iteration

    def _note(
        self, iteration: int, rows: list[int], loss: torch.Tensor, rewards: Mapping[str, torch.Tensor]
    ) -> None:
        self.curves.loss[iteration, rows] = loss.cpu()
        for name, values in rewards.items():
            self.curves.rewards[name][iteration, rows] = values.cpu()
        self.curves.norm[iteration, rows] = _length(self.noise[rows]).cpu()
        self.curves.distance[iteration, rows] = _length(self.noise[rows] - self.first[rows]).cpu()

    def _stop(self, rows: list[int], which: torch.Tensor, reason: str) -> None:
        for row in _where(rows, which):
            self.stopped[row] = reason

    def _count(self, rows: int, last: bool) -> None:
        once = rows * forwards(self.conditioning, self.settings.guidance, self.settings.steps)
        again = once if self.settings.checkpoint and not last else 0
        spent = self.spent
        self.spent = Spent(
            forwards=spent.forwards + once + again,
            decodes=spent.decodes + rows,
            calls=spent.calls + rows * len(self.terms),
            backwards=spent.backwards + (0 if last else once),
        )


def _where(rows: list[int], mask: torch.Tensor) -> list[int]:
    return [row for row, chosen in zip(rows, mask.tolist(), strict=True) if chosen]


def _length(noise: torch.Tensor) -> torch.Tensor:
    """Norm of every row over sqrt(d)."""
    length: torch.Tensor = torch.linalg.vector_norm(noise.flatten(1), dim=1)
    return length / math.sqrt(noise[0].numel())


@dataclass(frozen=True, slots=True, kw_only=True)
class RenoSearch(Reno):
    """ReNO as a method of `mmreward search`: its settings, and the making of terms from rewards.

    Args:
        transforms: reward -> a name in `reno_terms.TRANSFORMS`; default "raw".
        standardise: pictures per prompt, of fresh noises, over whose standard deviation a term is divided;
            0 leaves the terms as they are.
    """

    transforms: Mapping[str, str] | None = None
    standardise: int = 0

    def __post_init__(self) -> None:
        Reno.__post_init__(self)
        if self.standardise < 0:
            raise ValueError(f"standardise is a number of pictures, not {self.standardise}")

    def search(self, job: Job) -> list[Found]:
        """Optimise the noise of `batch` prompts at a time, and keep each prompt's first and best picture.

        Raises:
            ValueError: a reward that is not differentiable, or a transform of a reward that is not there.
        """
        terms = _terms(job, self)
        engine, held_out = job.selection.engine, job.held_out
        found = []
        for start in range(0, len(job.samples), job.batch):
            rows = slice(start, start + job.batch)
            samples, seeds = job.samples[rows], job.seeds[rows]
            watch = (lambda shots: engine.score(shots, held_out)) if held_out else None
            optimised = optimise_noise(job.generator, samples, seeds, terms, self, watch=watch)
            found += _found(samples, seeds, optimised, job.generator.fps)
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
            entry(transforms.get(name, "raw"), TRANSFORMS, "transform"),
        )
        for name, reward in rewards.items()
    }
    if not settings.standardise:
        return terms
    prompts = [sample.prompt for sample in job.samples for _ in range(settings.standardise)]
    # Fresh noises: the first picture's is the one to be optimised.
    pictures = range(1, settings.standardise + 1)
    seeds = [picture_seed(job.seed, index, k) for index in range(len(job.samples)) for k in pictures]
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
    samples: Sequence[Sample], seeds: Sequence[int], optimised: Optimised, fps: float | None
) -> list[Found]:
    first, best = filled(samples, optimised.start, fps), filled(samples, optimised.pixels, fps)
    cost = optimised.spent.forwards // len(samples)
    found = []
    for row, seed in enumerate(seeds):
        iteration = optimised.best[row]
        facts: list[dict[str, Any]] = [{"seed": seed, "iteration": 0}, {"seed": seed, "iteration": iteration}]
        chosen = None if iteration is None else 1
        found.append(Found([first[row], best[row]], chosen, cost, facts, _history(optimised, row)))
    return found


def _history(optimised: Optimised, row: int) -> dict[str, Any]:
    curves = optimised.curves
    return {
        "best_iteration": optimised.best[row],
        "stopped": optimised.stopped[row],
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
    """The value, or the status of a failure, or null for a latent that had stopped."""
    if score is None:
        return None
    return score.value if score.ok else score.status
