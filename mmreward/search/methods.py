"""Methods of `mmreward search` by name: options in YAML, and how each searches for a `Job`.

A method is a dataclass whose fields are its options, with `search(job)`; a new one is a line in `METHODS`.
All but best-of-n and ReNO put one plain sample of the prompt before what they found: the others are compared
with it, and it can be chosen as well.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .. import models
from ..generator import Generator
from ..sampling import encoded, shown
from .best_of_n import best_of_n, expected_max, kl_bound, soft_best_of_n
from .fk import Affordable, fk_steering
from .guided import PixelTerm, RewardGuided
from .job import Found, Job, RewardFn, best_of
from .particles import Particles, values_of
from .pruning import VlmJudge, prune
from .reno import RenoSearch
from .sampler import DRAWS, GeneratorSampler, derive, generator_sampler
from .tree import tree_search


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfN:
    """Best-of-N: `n` pictures, of which the one with the largest total is kept.

    With a `temperature` the choice is a draw (soft best-of-N): picture k with probability proportional to
    exp(total_k / temperature). The lower it is, the nearer to the largest total; the higher, the nearer to a
    plain sample.

    The history has `expected_max`, the unbiased estimates of the largest total among 1, 2, ... pictures that
    could be scored, and `kl_bound`, how far (nats) choosing among n pictures can lead away from the
    generator's distribution.
    """

    n: int = 8
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n must be at least 1, not {self.n}")
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, or null for the best, not {self.temperature}")

    def search(self, job: Job) -> list[Found]:
        """Of each prompt's n pictures the one with the largest total, or one drawn by its total."""
        sampler, reward = _sampler(job, "ode"), _reward(job)
        if self.temperature is None:
            drawn = best_of_n(sampler, reward, n=self.n, seed=job.seed, batch=job.batch)
            chosen = [one.best for one in drawn]
        else:
            strength = 1 / self.temperature
            drawn = soft_best_of_n(
                sampler, reward, n=self.n, strength=strength, seed=job.seed, batch=job.batch
            )
            chosen = [one.draw(int(derive(job.seed, k, DRAWS)[0])) for k, one in enumerate(drawn)]
        found = []
        for index, (one, best) in enumerate(zip(drawn, chosen, strict=True)):
            result = _found(job, index, one)
            result.best = best
            curve = expected_max(values_of(one.scores)).tolist()
            result.history |= {"expected_max": curve, "kl_bound": kl_bound(self.n)}
            found.append(result)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FkSteering:
    """Feynman-Kac steering: particles weighed by the rewards of their expected samples; see `fk.fk_steering`.

    `checks` is a number, a list of states, or {forwards: .., price: ..} for as many as a budget pays for (see
    `fk.Affordable`).
    """

    particles: int = 4
    strength: float = 10.0
    potential: Literal["diff", "max", "add", "rt"] = "diff"
    checks: int | list[int] | Affordable = 4
    resample_below: float = 0.5
    kernel: str = "cps"

    def search(self, job: Job) -> list[Found]:
        """Particles of every prompt, after a plain sample."""
        options = asdict(self)
        sampler = _sampler(job, options.pop("kernel"))
        return _compared(job, fk_steering(sampler, _reward(job), **options, seed=job.seed, batch=job.batch))


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSearch:
    """Diffusion tree search (DTS*), or sampling (DTS) with mode "sample"; see `tree.tree_search`.

    `samples` is its budget, in plain samples.
    """

    samples: int = 8
    mode: Literal["sample", "search"] = "search"
    strength: float = 10.0
    explore: float = 0.1
    widen: float = 1.0
    power: float = 0.5
    parallel: int = 1
    kernel: str = "cps"

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, not {self.samples}")

    def search(self, job: Job) -> list[Found]:
        """The finished samples of each prompt's tree, after a plain sample."""
        options = asdict(self)
        sampler = _sampler(job, options.pop("kernel"))
        forwards = options.pop("samples") * sampler.steps * sampler.forwards
        trees = tree_search(
            sampler, _reward(job), forwards=forwards, **options, seed=job.seed, batch=job.batch
        )
        return _compared(job, trees)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """Paths that a judge abandons on the way; see `pruning.prune`. `judge` is a model, as for `checklist`."""

    judge: str
    dtype: str = "float32"
    paths: int = 8
    checks: int = 4
    clear: float = 0.5
    keep: float = 0.5

    def search(self, job: Job) -> list[Found]:
        """The finished paths, ranked by the rewards, after a plain sample."""
        options = asdict(self)
        vlm = models.vlm(options.pop("judge"), dtype=options.pop("dtype"))
        judge = VlmJudge(job.selection.engine, vlm, [sample.prompt for sample in job.samples])
        paths = prune(_sampler(job, "ode"), judge, _reward(job), **options, seed=job.seed, batch=job.batch)
        return _compared(job, paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guided:
    """Flow-NRG: the rewards' gradient guides each of `n` samples; see `guided.RewardGuided`.

    `scale` multiplies the weights of the rewards, all of which must be differentiable.
    """

    n: int = 1
    scale: float = 10.0
    highest: float = 0.9

    def search(self, job: Job) -> list[Found]:
        """The guided samples, after a plain one.

        Raises:
            ValueError: a reward that is not differentiable.
        """
        rewards, weights = job.selection.rewards, job.selection.recipe.weights
        if blind := [name for name, reward in rewards.items() if reward.tensor_fn is None]:
            raise ValueError(f"{', '.join(blind)} cannot be differentiated: guide by others")
        terms = [
            PixelTerm(reward.score_tensor, self.scale * weights[name]) for name, reward in rewards.items()
        ]
        guide = RewardGuided(job.generator, terms, highest=self.highest)
        sampler = _sampler(job, "ode", guide)
        return _compared(job, best_of_n(sampler, _reward(job), n=self.n, seed=job.seed, batch=job.batch))


METHODS: Mapping[str, Callable[..., Any]] = {
    "best-of-n": BestOfN,
    "fk-steering": FkSteering,
    "tree-search": TreeSearch,
    "pruning": Pruning,
    "guided": Guided,
    "reno": RenoSearch,
}
"""Every value is a `job.Method`."""


def _sampler(job: Job, kernel: str, generator: Generator | None = None) -> GeneratorSampler:
    generator = generator or job.generator
    conditioning = encoded(generator, job.samples)
    return generator_sampler(generator, conditioning, job.steps, job.guidance, kernel)


def _reward(job: Job) -> RewardFn:
    return job.selection.reward_fn(job.samples)


def _compared(job: Job, drawn: Sequence[Particles]) -> list[Found]:
    """A method's particles behind one plain sample of each prompt."""
    found = []
    plain = best_of_n(_sampler(job, "ode"), _reward(job), n=1, seed=job.seed, batch=job.batch)
    for index, (first, one) in enumerate(zip(plain, drawn, strict=True)):
        before, after = _found(job, index, first), _found(job, index, one)
        shots = before.shots + after.shots
        best = best_of(job.selection(shots).totals)
        facts = [{"method": "plain"}, *after.facts]
        found.append(Found(shots, best, before.forwards + after.forwards, facts, after.history))
    return found


def _found(job: Job, index: int, particles: Particles) -> Found:
    """The particles of one prompt as its result."""
    shots = [shown(job.samples[index], media) for media in particles.media]
    history = dict(particles.details)
    return Found(shots, particles.best, particles.spent.forwards, [{} for _ in shots], history)
