"""What a search is given and what it gives back, whatever its method and its generator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...registry import Reward
from ...types import Sample
from ..generator import Generator
from ..selection import Selection

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
