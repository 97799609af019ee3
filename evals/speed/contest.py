"""Timing of contenders in turn: same process, same threads, each round with inputs that nobody has seen.

Four parts: the `Task` protocol (the engine's way to do a kind of work, and three ways without it), `contest`
(warm-up, rounds, differences of values), the device's limit (FLOPs of a bare forward over the rate vendors
print; well-tuned transformers reach 45 % of it, which is what the limits of published comparisons assume),
and `Workload`, which makes four contenders of tasks and samples. Knows nothing of any particular network.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Protocol

import torch
from torch.utils.flop_counter import FlopCounterMode

from mmreward import Engine, Sample, Score
from mmreward.models.linears import hasten
from mmreward.registry import Reward

Values = list[float | str]
"""The values of a contender, in one order for all of them; words only where words are the result."""
Work = Callable[[], Values]
"""The part that is timed."""


class Task(Protocol):
    """One kind of reward over one set of samples.

    `loop`, `batches` and `bare` share no code with the engine or the networks behind it, but that `bare` runs
    in `quick_linears`.
    """

    @property
    def rewards(self) -> Mapping[str, Reward]:
        """The rewards that the engine runs."""

    def values(self, scores: Mapping[str, list[Score]]) -> Values:
        """The engine's scores, in the order of the other ways. A failed score is no number: it is left
        out."""

    def loop(self, samples: Sequence[Sample]) -> Values:
        """As on a model card: one sample, one question, one forward."""

    def batches(self, samples: Sequence[Sample], size: int) -> Values:
        """Padded batches of a fixed size, one reward after another, each with its own decoding."""

    def bare(self, samples: Sequence[Sample], size: int) -> Work:
        """The limit: only forwards, of tensors prepared now, for what must be computed at least once."""


@contextmanager
def quick_linears(model: torch.nn.Module) -> Iterator[None]:
    """Block in which a model of transformers multiplies as the engine's networks do; see `models.linears`.

    Without it a limit would be one of MKL's on processors on which the engine does without MKL.
    """
    before = [(layer, type(layer)) for layer in model.modules()]
    hasten(model)
    try:
        yield
    finally:
        for layer, own in before:
            layer.__class__ = own


# --- the contest --------------------------------------------------------------------------------------------

Prepare = Callable[[int], Work]
"""Given the round, everything that is not timed; returns what is."""
Variants = Mapping[str, Prepare]
"""Ways to do the same, such as batch sizes; the fastest in the warm-up competes."""
NOBODY: Mapping[str, int] = {}


@dataclass(slots=True)
class Timing:
    """One contender's seconds per round, and the largest error of its values.

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
    shares: Mapping[str, int] = NOBODY,
    once: bool = False,
) -> dict[str, Timing]:
    """Times of all contenders: warm them up in round 0, then time rounds 1 to `repeats`, in turn.

    Args:
        contenders: name -> its parts, done one after another, each with its variants.
        repeats: timed rounds.
        reference: the contender that the others' values are compared with.
        settle: waits until the device has finished; called before and after each timed part.
        shares: contenders that do one part in so many of the work, from its beginning, and whose seconds
            are multiplied by that; the reference is one of them. The others are compared with it as far as
            it goes, and with one another.
        once: those are timed in round 1 alone.
    """
    with _small_heap():
        return _contest(contenders, repeats, reference, settle, shares, once)


def _contest(
    contenders: Mapping[str, Sequence[Variants]],
    repeats: int,
    reference: str,
    settle: Callable[[], None],
    shares: Mapping[str, int],
    once: bool,
) -> dict[str, Timing]:
    timings = {name: Timing() for name in contenders}
    picked = {name: [_fastest(part, settle) for part in parts] for name, parts in contenders.items()}
    for name, parts in picked.items():
        timings[name].chosen = [variant for variant, _ in parts]
    values: dict[str, Values] = {}
    for number in range(1, repeats + 1):
        running = [name for name in picked if not (once and number > 1 and name in shares)]
        for name in running:
            seconds, values[name] = 0.0, []
            for _, prepare in picked[name]:
                taken, found = _timed(prepare(number), settle)
                seconds += taken
                values[name] += found
            timings[name].seconds.append(seconds * shares.get(name, 1))
        for name, apart in _differences({name: values[name] for name in running}, reference, shares).items():
            timings[name].difference = max(timings[name].difference, apart)
    return timings


def _differences(values: Mapping[str, Values], reference: str, shares: Mapping[str, int]) -> dict[str, float]:
    """Each contender's largest difference from the reference, and from the first that does the whole work."""
    known = values.get(reference)
    found = dict.fromkeys(values, 0.0)
    first = next((name for name in values if name not in shares), reference)
    for name, own in values.items():
        if known is not None:
            begun = own if name in shares or not shares else own[: len(known)]
            found[name] = difference(begun, known)
        if shares and name not in shares:
            found[name] = max(found[name], difference(own, values[first]))
    return found


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
    """The fastest variant on round 0; each runs twice, for it finds its shapes cold the first time."""
    for prepare in part.values() if len(part) > 1 else ():
        prepare(0)()
    times = {name: _timed(prepare(0), settle)[0] for name, prepare in part.items()}
    name = min(times, key=lambda variant: times[variant])
    return name, part[name]


@contextmanager
def _small_heap() -> Iterator[None]:
    """Keep the garbage collector from walking through the objects that exist already, for every contender."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _timed(run: Work, settle: Callable[[], None]) -> tuple[float, Values]:
    gc.collect()
    settle()
    begun = time.perf_counter()
    values = run()
    settle()
    return time.perf_counter() - begun, values


# --- the device's limit -------------------------------------------------------------------------------------

PEAKS = {
    "H200": {"bfloat16": 989e12, "float16": 989e12, "float32": 67e12},
    "H100": {"bfloat16": 989e12, "float16": 989e12, "float32": 67e12},
    "A100": {"bfloat16": 312e12, "float16": 312e12, "float32": 19.5e12},
}
"""Dense FLOP/s of the SXM boards, without TF32, which torch leaves off by default."""
REACHED = 0.45


def device_of(device: str) -> torch.device:
    """ "auto" is the first GPU there is, else the processor."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def _of_attention(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object
) -> int:
    """FLOPs of both products, by shapes (..., length, width); torch 2.10's own formula refuses grouped
    queries."""
    *rows, width = query
    return 2 * math.prod(rows) * key[-2] * (width + value[-1])


def count(run: Work) -> int:
    """FLOPs of the matrix products and attentions in it; a multiplication and an addition are two."""
    # torch before 2.15 knows no formula for attention on the CPU, and would count none of it.
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={attention: _of_attention}) as counter:
        run()
    return int(counter.get_total_flops())


def limit(flops: int, device: torch.device, dtype: str) -> float | None:
    """Seconds for this many FLOPs at 45 % of the device's peak; None for a device not listed."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    peak = next((rates[dtype] for known, rates in PEAKS.items() if known in name), None)
    return None if peak is None else flops / (REACHED * peak)


# --- workloads ----------------------------------------------------------------------------------------------

BATCHES = (8, 16)
"""Sizes of a fixed batch; the faster one competes."""
BARE = (1, 2, 4, 8, 16)
"""Pictures or rows in one bare forward; the fastest competes."""

Draw = Callable[[int], list[Sample]]
"""A round's samples, with media nobody has opened."""


@dataclass(frozen=True)
class Workload:
    """Tasks over the samples of a round.

    `share` above 1 is for work that the loop would be minutes at: loop and batches do one part in so many, in
    the larger batches alone, and the warm-up is as short for all; `once` times them in one round. See
    `contest`.
    """

    name: str
    tasks: tuple[Task, ...]
    draw: Draw
    share: int = 1
    once: bool = False

    @property
    def shares(self) -> Mapping[str, int]:
        return {"loop": self.share, "batches": self.share} if self.share > 1 else NOBODY

    def contenders(self, engine: Engine) -> dict[str, Sequence[Variants]]:
        """name -> parts for `contest`; the engine gets all tasks in one call."""
        most = len(self._begun(0))
        bare = [size for size in BARE if size <= most]
        batches: Sequence[int] = BATCHES
        if self.share > 1:
            bare, batches = bare[-2:], BATCHES[-1:]
        return {
            "loop": [{"one by one": partial(self._loop, task)} for task in self.tasks],
            "batches": [_sizes(self._batches, task, batches) for task in self.tasks],
            "bare": [_sizes(self._bare, task, bare) for task in self.tasks],
            "engine": [{"engine": partial(self._engine, engine)}],
        }

    def counted(self) -> int:
        """FLOPs of a round's bare forwards; of work whose parts are alike, a part's, multiplied."""
        alike = self.share > 1 and not self.once
        samples, times = (self._begun(0), self.share) if alike else (self.draw(0), 1)
        return times * sum(count(task.bare(samples, 1)) for task in self.tasks)

    def _begun(self, number: int) -> list[Sample]:
        """The part of a round's samples that loop and batches look at."""
        samples = self.draw(number)
        return samples[: max(1, len(samples) // self.share)]

    def _samples(self, number: int) -> list[Sample]:
        return self.draw(number) if number else self._begun(number)

    def _loop(self, task: Task, number: int) -> Work:
        return partial(task.loop, self._begun(number))

    def _batches(self, task: Task, size: int, number: int) -> Work:
        return partial(task.batches, self._begun(number), size)

    def _bare(self, task: Task, size: int, number: int) -> Work:
        return task.bare(self._samples(number), size)

    def _engine(self, engine: Engine, number: int) -> Work:
        engine.run(_clear(engine))
        samples = self._samples(number)
        rewards = {name: reward for task in self.tasks for name, reward in task.rewards.items()}

        def run() -> Values:
            scores = engine.score(samples, rewards)
            return [value for task in self.tasks for value in task.values(scores)]

        return run


def _sizes(way: Callable[[Task, int, int], Work], task: Task, sizes: Sequence[int]) -> Variants:
    return {f"batch {size}": partial(way, task, size) for size in sizes}


async def _clear(engine: Engine) -> None:
    """Empty the cache, on the engine's loop, which owns it."""
    engine.cache.clear()
