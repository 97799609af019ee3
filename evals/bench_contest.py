"""Timing contenders in turn: same process, same threads, each round with inputs that nobody has seen.

Knows nothing of what the contenders do.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

from .bench_tasks import Run, Values

Prepare = Callable[[int], Run]
"""Given the round, everything that is not timed; returns what is."""
Variants = Mapping[str, Prepare]
"""Ways to do the same, such as batch sizes; the fastest in the warm-up competes."""


@dataclass(slots=True)
class Outcome:
    """One contender's times, and by how much its values were off.

    `seconds` has one entry per round; `difference` is the largest absolute difference from the reference.
    """

    seconds: list[float] = field(default_factory=list)
    difference: float = 0.0
    chosen: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.seconds)


def contest(
    contenders: Mapping[str, Sequence[Variants]],
    repeats: int,
    *,
    reference: str,
    settle: Callable[[], None] = lambda: None,
) -> dict[str, Outcome]:
    """Warm everyone up in round 0, then time rounds 1 to `repeats`, taking turns.

    Args:
        contenders: name -> its parts, done one after another, each with its variants.
        repeats: timed rounds.
        reference: the contender whose values the others are held against.
        settle: waits until the device has finished; called before and after each timed part.
    """
    with _small_heap():
        return _contest(contenders, repeats, reference, settle)


def _contest(
    contenders: Mapping[str, Sequence[Variants]], repeats: int, reference: str, settle: Callable[[], None]
) -> dict[str, Outcome]:
    outcomes = {name: Outcome() for name in contenders}
    picked = {name: [_fastest(part, settle) for part in parts] for name, parts in contenders.items()}
    for name, parts in picked.items():
        outcomes[name].chosen = [variant for variant, _ in parts]
    for number in range(1, repeats + 1):
        values: dict[str, Values] = {}
        for name, parts in picked.items():
            seconds, values[name] = 0.0, []
            for _, prepare in parts:
                taken, found = _timed(prepare(number), settle)
                seconds += taken
                values[name] += found
            outcomes[name].seconds.append(seconds)
        for name, outcome in outcomes.items():
            outcome.difference = max(outcome.difference, difference(values[name], values[reference]))
    return outcomes


def difference(values: Values, reference: Values) -> float:
    """The largest absolute difference; infinite when a value is missing, NaN or of another kind."""
    if len(values) != len(reference):
        return math.inf
    return max((_apart(one, other) for one, other in zip(values, reference, strict=True)), default=0.0)


def _apart(one: float | str, other: float | str) -> float:
    if isinstance(one, str) or isinstance(other, str):
        return 0.0 if one == other else math.inf
    apart = abs(one - other)
    return math.inf if math.isnan(apart) else apart


def _fastest(part: Variants, settle: Callable[[], None]) -> tuple[str, Prepare]:
    """Run every variant on round 0; the first one twice, for it finds everything cold."""
    if len(part) > 1:
        next(iter(part.values()))(0)()
    times = {name: _timed(prepare(0), settle)[0] for name, prepare in part.items()}
    name = min(times, key=lambda variant: times[variant])
    return name, part[name]


@contextmanager
def _small_heap() -> Iterator[None]:
    """Hide what is there already from the garbage collector, which would walk through it for everybody."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _timed(run: Run, settle: Callable[[], None]) -> tuple[float, Values]:
    gc.collect()
    settle()
    begun = time.perf_counter()
    values = run()
    settle()
    return time.perf_counter() - begun, values
