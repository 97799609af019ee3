"""The methods of `tune.search` as methods of `mmreward search`.

Each prompt's first shot is one plain sample, which the others are compared with; it can be chosen as well.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from .. import models
from ..generator import Generator
from ..sampling import encoded, shown
from . import best_of_n as bon
from . import fk, particles, tree
from .guided import PixelTerm, RewardGuided
from .job import Found, Job, best_of
from .particles import RewardFn, engine_reward
from .pruning import VlmJudge, prune
from .sampler import GeneratorSampler, generator_sampler


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfN:
    """Draw `n` pictures, keep the best."""

    n: int = 8

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n must be at least 1, not {self.n}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FkSteering:
    """Feynman-Kac steering; see `search.fk_steering`."""

    particles: int = 4
    strength: float = 10.0
    potential: Literal["diff", "max", "add", "rt"] = "diff"
    checks: int = 4
    resample_below: float = 0.5
    kernel: str = "cps"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSearch:
    """Diffusion tree search (DTS*), or sampling (DTS) with mode "sample"; see `search.tree_search`.

    `samples` is what it may cost, in plain samples.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """Paths that a judge abandons on the way; see `search.prune`. `judge` is a model, as for `checklist`."""

    judge: str
    dtype: str = "float32"
    paths: int = 8
    checks: int = 4
    clear: float = 0.5
    keep: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Guided:
    """Flow-NRG: the rewards' gradient guides each of `n` samples; see `search.RewardGuided`.

    `scale` multiplies the weights of the rewards, all of which must be differentiable.
    """

    n: int = 1
    scale: float = 10.0
    highest: float = 0.9


def best_of_n(job: Job, settings: BestOfN) -> list[Found]:
    """Of each prompt's n pictures the one with the largest total."""
    found = bon.best_of_n(_sampler(job, "ode"), _reward(job), n=settings.n, seed=job.seed, batch=job.batch)
    return [_noted(job, index, one) for index, one in enumerate(found)]


def fk_steering(job: Job, settings: FkSteering) -> list[Found]:
    """Particles that are weighed by how good their expected samples are."""
    options = asdict(settings)
    sampler = _sampler(job, options.pop("kernel"))
    return _compared(job, fk.fk_steering(sampler, _reward(job), **options, seed=job.seed, batch=job.batch))


def tree_search(job: Job, settings: TreeSearch) -> list[Found]:
    """A tree of partly drawn samples per prompt."""
    options = asdict(settings)
    sampler = _sampler(job, options.pop("kernel"))
    forwards = options.pop("samples") * sampler.steps * sampler.forwards
    found = tree.tree_search(
        sampler, _reward(job), forwards=forwards, **options, seed=job.seed, batch=job.batch
    )
    return _compared(job, found)


def pruning(job: Job, settings: Pruning) -> list[Found]:
    """Paths that a judge abandons on the way; the rewards rank what is finished."""
    options = asdict(settings)
    vlm = models.vlm(options.pop("judge"), dtype=options.pop("dtype"))
    judge = VlmJudge(job.selection.engine, vlm, [sample.prompt for sample in job.samples])
    found = prune(_sampler(job, "ode"), judge, _reward(job), **options, seed=job.seed, batch=job.batch)
    return _compared(job, found)


def guided(job: Job, settings: Guided) -> list[Found]:
    """Samples guided by the gradient of the rewards, of which the best is kept.

    Raises:
        ValueError: a reward that is not differentiable.
    """
    rewards, weights = job.selection.rewards, job.selection.recipe.weights
    if blind := [name for name, reward in rewards.items() if reward.tensor_fn is None]:
        raise ValueError(f"{', '.join(blind)} cannot be differentiated: guide by others")
    terms = [
        PixelTerm(reward.score_tensor, settings.scale * weights[name]) for name, reward in rewards.items()
    ]
    guide = RewardGuided(job.generator, terms, highest=settings.highest)
    sampler = _sampler(job, "ode", guide)
    found = bon.best_of_n(sampler, _reward(job), n=settings.n, seed=job.seed, batch=job.batch)
    return _compared(job, found)


def _sampler(job: Job, kernel: str, generator: Generator | None = None) -> GeneratorSampler:
    generator = generator or job.generator
    conditioning = encoded(generator, job.samples)
    return generator_sampler(generator, conditioning, job.steps, job.guidance, kernel)


def _reward(job: Job) -> RewardFn:
    chosen = job.selection
    return engine_reward(chosen.engine, chosen.rewards, job.samples, chosen.recipe, timeout=chosen.timeout)


def _compared(job: Job, found: Sequence[particles.Found]) -> list[Found]:
    """What a method found behind one plain sample of each prompt."""
    plain = best_of_n(job, BestOfN(n=1))
    noted = [_noted(job, index, one) for index, one in enumerate(found)]
    both = []
    for first, one in zip(plain, noted, strict=True):
        shots = first.shots + one.shots
        best = best_of(job.selection(shots).totals)
        facts = [{"method": "plain"}, *one.facts]
        both.append(Found(shots, best, first.forwards + one.forwards, facts, one.history))
    return both


def _noted(job: Job, index: int, one: particles.Found) -> Found:
    """A prompt's finding as the folder of a run holds it."""
    shots = [shown(job.samples[index], media) for media in one.media]
    return Found(shots, one.best, one.spent.forwards, [{} for _ in shots], dict(one.details))
