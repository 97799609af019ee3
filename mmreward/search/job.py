"""What a search is given and what it gives back, whatever its method and its generator."""

# FOLDED mmreward/tune/selection.py: The reward a search selects by: several rewards through the engine, and their weighted total.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..compose import Recipe, combine
from ..engine.engine import Engine
from ..generator import Generator
from ..registry import Reward
from ..types import Sample, Score


class Judged(NamedTuple):
    """Scores of pictures: a column per reward, and the total that decides."""

    columns: Mapping[str, Sequence[Score]]
    totals: Sequence[Score]

    def row(self, index: int) -> dict[str, Score]:
        return {name: column[index] for name, column in self.columns.items()}


@dataclass(frozen=True, slots=True)
class Selection:
    """What "better" means.

    Args:
        engine: runs the rewards.
        rewards: by name.
        recipe: how their scores become the total.
        timeout: seconds one score may take.
    """

    engine: Engine
    rewards: Mapping[str, Reward]
    recipe: Recipe
    timeout: float | None = None

    def __call__(self, samples: Sequence[Sample]) -> Judged:
        """Judge samples that have a picture. A failed score fails its row's total."""
        columns = self.engine.score(samples, self.rewards, timeout=self.timeout)
        return Judged(columns, combine(columns, self.recipe, [sample.group for sample in samples]))


def best_of(totals: Sequence[Score]) -> int | None:
    """Index of the largest total, the first of equals; None when every one failed."""
    valid = [index for index, total in enumerate(totals) if total.ok]
    return max(valid, key=lambda index: totals[index].value) if valid else None


PROMPT_STRIDE = 1_000
"""Between the seeds of two prompts: as many pictures of one have noises of their own."""
RUN_STRIDE = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """What every method is given.

    Args:
        generator: draws.
        samples: the prompts.
        selection: what the pictures are to be good at.
        held_out: rewards that may be looked at along the way and must not be optimised.
        seed: of the run.
        steps: Euler steps per picture.
        guidance: classifier-free guidance.
        batch: pictures in memory at once.
    """

    generator: Generator
    samples: Sequence[Sample]
    selection: Selection
    held_out: Mapping[str, Reward]
    seed: int
    steps: int
    guidance: float
    batch: int

    @property
    def seeds(self) -> list[int]:
        """One per prompt, of its first picture; the PROMPT_STRIDE - 1 after it are this prompt's as well."""
        return [RUN_STRIDE * self.seed + PROMPT_STRIDE * index for index in range(len(self.samples))]


@dataclass(slots=True)
class Found:
    """What came of one prompt.

    Args:
        shots: the sample with each picture worth keeping; the first is what plain sampling gives.
        best: index of the chosen shot; None when none could be scored.
        forwards: forward passes of the generator's network.
        facts: of each shot, for its row in samples.jsonl.
        history: of the prompt, for its line in history.jsonl.
    """

    shots: list[Sample]
    best: int | None
    forwards: int
    facts: list[dict[str, Any]]
    history: dict[str, Any] = field(default_factory=dict)


class Method(NamedTuple):
    """A method of `mmreward search`.

    `settings` is a dataclass whose fields are the method's options in YAML; where it has `steps` and
    `guidance`, they are the job's.
    """

    settings: Callable[..., Any]
    run: Callable[[Job, Any], list[Found]]
