"""Contract of every search: a `Job` goes in, one `Found` per prompt comes out, a `Selection` ranks samples.

Also the cost of a search (`Spent`) and the form in which searches that know no sample call a reward
(`RewardFn`: media and prompt indices in, scores out). Knows no method and no family of generators.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ..compose import Recipe, total_of
from ..engine.engine import Engine
from ..generator import Generator
from ..registry import Reward
from ..sampling import shown
from ..types import Sample, Score
from .sampler import Rows, picture_seed

Scores = Sequence[Score] | Awaitable[Sequence[Score]]
RewardFn = Callable[[Sequence[Any], Rows], Scores]
"""Decoded samples and the index of each one's prompt, to scores where higher is better. May be async; then a
search must not be called from a running event loop (use `asyncio.to_thread`)."""


class Spent(NamedTuple):
    """Cost of a search, counted in rows: a batch of eight is eight.

    Args:
        forwards: evaluations of the network: one per row and branch of classifier-free guidance, and those
            that checkpointing repeats.
        decodes: latents decoded.
        calls: scores asked of the rewards, and verdicts asked of a judge.
        backwards: backward passes through the network.
    """

    forwards: int = 0
    decodes: int = 0
    calls: int = 0
    backwards: int = 0


class ScoreTable(NamedTuple):
    """Scores of samples: a column per reward, and the totals that decide."""

    columns: Mapping[str, Sequence[Score]]
    totals: Sequence[Score]

    def row(self, index: int) -> dict[str, Score]:
        """The scores of one sample, by reward."""
        return {name: column[index] for name, column in self.columns.items()}


@dataclass(frozen=True, slots=True)
class Selection:
    """Criterion of a search: the total of several rewards, where higher is better.

    Args:
        engine: runs the rewards; it batches, caches and isolates failures.
        rewards: by name.
        recipe: how their scores become the total (`compose.weights_of` negates where lower is better).
        timeout: seconds one score may take.
    """

    engine: Engine
    rewards: Mapping[str, Reward]
    recipe: Recipe
    timeout: float | None = None

    def __call__(self, samples: Sequence[Sample]) -> ScoreTable:
        """Score samples that have a picture or a clip. A failed score fails its row's total."""
        columns = self.engine.score(samples, self.rewards, timeout=self.timeout)
        return ScoreTable(columns, total_of(columns, self.recipe, samples))

    def reward_fn(self, samples: Sequence[Sample]) -> RewardFn:
        """The same totals for media that a search has drawn.

        Args:
            samples: one per prompt: prompt, target, meta and whatever else the rewards need; the picture or
                clip is filled in.
        """

        def totals(media: Sequence[Any], prompts: Rows) -> Sequence[Score]:
            drawn = [
                shown(samples[prompt], one, id=f"{samples[prompt].id}#{index}")
                for index, (prompt, one) in enumerate(zip(prompts, media, strict=True))
            ]
            return self(drawn).totals

        return totals


def best_of(totals: Sequence[Score]) -> int | None:
    """Index of the largest total, the first of equals; None when every one failed."""
    valid = [index for index, total in enumerate(totals) if total.ok]
    return max(valid, key=lambda index: totals[index].value) if valid else None


@dataclass(frozen=True, slots=True)
class Job:
    """Input of a method: generator, prompts, selection, and the settings that all methods share.

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
        """Seed of each prompt's first picture; see `picture_seed`."""
        return [picture_seed(self.seed, index) for index in range(len(self.samples))]


@dataclass(slots=True)
class Found:
    """Result for one prompt, as the folder of a run holds it.

    Args:
        shots: the sample with each picture worth keeping; the first is what plain sampling gives.
        best: index of the chosen shot; None when none could be scored.
        forwards: forward passes of the generator's network, as `Spent.forwards`.
        facts: of each shot, for its row in samples.jsonl.
        history: of the prompt, for its line in history.jsonl.
    """

    shots: list[Sample]
    best: int | None
    forwards: int
    facts: list[dict[str, Any]]
    history: dict[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """A method of `mmreward search`: a dataclass whose fields are the method's options in YAML.

    Fields named `steps` and `guidance` are filled in from the job.
    """

    def search(self, job: Job) -> list[Found]:
        """One `Found` per sample of the job."""
        ...
