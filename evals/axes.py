"""A plot's axes: what range they span, which round numbers stand on them, and where a value lies.

Knows nothing of SVG beyond its coordinates, which grow to the right and downwards.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

WIDTH, HEIGHT = 360.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 12.0, 24.0, 34.0
PADDING = 0.06
MOST_DECIMALS = 5


@dataclass(frozen=True)
class Axis:
    """From values to coordinates: `low` lies at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def across(values: Iterable[float]) -> Axis:
    """The horizontal axis over these values."""
    low, high = _extent(values)
    return Axis(low, high if high > low else low + 1, LEFT, WIDTH - RIGHT)


def upright(values: Iterable[float], reach: Collection[float] = ()) -> Axis:
    """The vertical axis over these values with some room, NaN left out; it reaches at least to `reach`, and
    ends there where no value lies beyond."""
    low, high = _extent([*values, *reach])
    if high == low:
        spread = abs(low) / 10 or 0.5
        low, high = low if low in reach else low - spread, high + spread
    room = PADDING * (high - low)
    bottom = low if low in reach else low - room
    return Axis(bottom, high if high in reach else high + room, HEIGHT - BOTTOM, TOP)


def ticks(low: float, high: float, most: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers between the ends, at most `most` of them, in steps of 1, 2 or 5 times a power of ten."""
    step = _step((high - low) / most)
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def tick_label(value: float, step: float) -> str:
    """With as many places as the step between ticks needs."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if decimals > MOST_DECIMALS or abs(value) >= 1e5:
        return f"{value:.3g}"
    return f"{value:.{decimals}f}"


def _extent(values: Iterable[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def _step(rough: float) -> float:
    """The smallest round step that is at least this."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= rough * (1 - 1e-9))
