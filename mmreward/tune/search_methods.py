"""The methods of `mmreward search` by name. A new one is a function of a `search_job.Job` and a line."""

from collections.abc import Mapping
from dataclasses import dataclass

from .rendering import encoded, filled, forwards
from .sampling import sample as draw
from .search_job import PROMPT_STRIDE, Found, Job, Method
from .search_noise import RenoSearch, reno
from .selection import best_of


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOfN:
    """Draw `n` pictures, keep the best."""

    n: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.n <= PROMPT_STRIDE:
            raise ValueError(f"n must be from 1 to {PROMPT_STRIDE}, not {self.n}")


def best_of_n(job: Job, settings: BestOfN) -> list[Found]:
    """Of each prompt's n pictures the one with the largest total."""
    repeated = [sample for sample in job.samples for _ in range(settings.n)]
    seeds = [seed + offset for seed in job.seeds for offset in range(settings.n)]
    inputs = [sample.inputs for sample in repeated]
    pixels = draw(
        job.generator,
        [sample.prompt for sample in repeated],
        seeds,
        job.steps,
        job.guidance,
        inputs=inputs if any(inputs) else (),
        batch=job.batch,
    )
    shots = filled(repeated, pixels, job.generator.fps)
    totals = job.selection(shots).totals
    cost = settings.n * forwards(encoded(job.generator, job.samples[:1]), job.guidance, job.steps)
    found = []
    for index in range(len(job.samples)):
        own = slice(index * settings.n, (index + 1) * settings.n)
        facts = [{"seed": seed} for seed in seeds[own]]
        found.append(Found(shots[own], best_of(totals[own]), cost, facts))
    return found


METHODS: Mapping[str, Method] = {
    "best-of-n": Method(BestOfN, best_of_n),
    "reno": Method(RenoSearch, reno),
}
