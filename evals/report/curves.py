"""Curves of one quantity along a run, as a figure with an inline SVG: axes, a line, its interval as a band.

An `Axis` maps values to coordinates, which grow to the right and downwards, and has round numbers on it. A
value that could not be measured is a gap, never 0. Everything is readable without colour.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from markupsafe import Markup

from .html import NAME_CHARS, count, number, text

# --- axes ---------------------------------------------------------------------------------------------------

WIDTH, HEIGHT = 360.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 12.0, 24.0, 34.0
PADDING = 0.06
MOST_DECIMALS = 5


@dataclass(frozen=True)
class Axis:
    """A map from values to coordinates: `low` lies at `start`, `high` at `end`."""

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
    """A tick's value with as many places as the step between ticks needs."""
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


# --- the figure ---------------------------------------------------------------------------------------------

MOST_POINTS = 240
"""More points than this are drawn as means of as many neighbours as needed."""
MOST_DOTS = 60


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A quantity along a run, with its interval and labels.

    Args:
        name: of the quantity, as its caption.
        x: where it was measured, ascending.
        y: its values, NaN for a gap.
        low, high: ends of the band, as many as points, or none.
        unit: of the vertical axis.
        along: of the horizontal axis.
        tag: a word or two after the name.
        css: the class that colours it.
        reach: values that the vertical axis shows at least.
        best: the x that is marked as best.
        level: a y at which a dashed line is drawn.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    unit: str
    along: str = "round"
    tag: str = ""
    css: str = "plain"
    reach: Sequence[float] = ()
    best: float | None = None
    level: float | None = None


def figure(curve: Curve) -> Markup:
    """The curve with its caption; no value at all is said in words."""
    tag = f' <small class="tag">{text(curve.tag)}</small>' if curve.tag else ""
    missing = sum(not math.isfinite(value) for value in curve.y)
    gaps = f"{count(missing, 'value')} missing: a gap. " if 0 < missing < len(curve.y) else ""
    drawn = thinned(curve)
    merged = -(-len(curve.x) // len(drawn.x)) if drawn.x else 1
    thin = f"Each point is the mean of {merged} rounds. " if merged > 1 else ""
    note = f'<p class="small">{gaps}{thin}</p>' if gaps or thin else ""
    body = '<p class="absent">never measured</p>' if missing == len(curve.y) else _svg(drawn)
    caption = f"<figcaption><b>{text(curve.name, NAME_CHARS)}</b>{tag}</figcaption>"
    return Markup(f'<figure class="curve {curve.css}">{caption}{body}{note}</figure>')


def thinned(curve: Curve, most: int = MOST_POINTS) -> Curve:
    """The same with at most `most` points, each the mean of its neighbours' finite values."""
    size = -(-len(curve.x) // most) if curve.x else 1
    if size == 1:
        return curve
    x, y, low, high = (_means(values, size) for values in (curve.x, curve.y, curve.low, curve.high))
    return replace(curve, x=x, y=y, low=low, high=high)


def _means(values: Sequence[float], size: int) -> list[float]:
    blocks = [values[start : start + size] for start in range(0, len(values), size)]
    known = [[value for value in block if math.isfinite(value)] for block in blocks]
    return [math.fsum(block) / len(block) if block else math.nan for block in known]


def _svg(curve: Curve) -> str:
    level = [curve.level] if curve.level is not None else []
    x, y = across(curve.x), upright([*curve.y, *curve.low, *curve.high, *level], curve.reach)
    parts = [_grid(curve, x, y), _best(curve, x), _level(curve, y), _band(curve, x, y), _line(curve, x, y)]
    parts.append(_dots(curve, x, y) if len(curve.x) <= MOST_DOTS else "")
    label = text(_in_words(curve))
    return f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _in_words(curve: Curve) -> str:
    """The curve in words, for those who do not see it."""
    known = [(at, value) for at, value in zip(curve.x, curve.y, strict=True) if math.isfinite(value)]
    (first, begun), (last, ended) = known[0], known[-1]
    values = [value for _, value in known]
    spread = f"lowest {number(min(values))}, highest {number(max(values))}"
    moved = f"{number(begun)} at {first:g}, {number(ended)} at {last:g}"
    return f"{curve.name}, {curve.unit}, along {curve.along}: {moved}; {spread}"


def _grid(curve: Curve, x: Axis, y: Axis) -> str:
    rows, columns = ticks(y.low, y.high), ticks(x.low, x.high, 6, whole=True)
    step = rows[1] - rows[0] if len(rows) > 1 else 1.0
    lines = "".join(f"M{LEFT:g} {y.place(value):.1f}H{WIDTH - RIGHT:g}" for value in rows)
    drawn = f'<path class="grid" d="{lines}"/>'
    drawn += "".join(
        f'<text class="y" x="{LEFT - 6:g}" y="{y.place(value) + 3.5:.1f}">{tick_label(value, step)}</text>'
        for value in rows
    )
    base = HEIGHT - BOTTOM
    drawn += "".join(
        f'<text class="x" x="{x.place(value):.1f}" y="{base + 14:g}">{value:.0f}</text>' for value in columns
    )
    drawn += f'<path class="axis" d="M{LEFT:g} {base:g}H{WIDTH - RIGHT:g}"/>'
    drawn += f'<text class="unit" x="0" y="11">{text(curve.unit)}</text>'
    return drawn + f'<text class="along" x="{WIDTH - RIGHT:g}" y="{HEIGHT - 3:g}">{text(curve.along)}</text>'


def _best(curve: Curve, x: Axis) -> str:
    if curve.best is None:
        return ""
    at = x.place(curve.best)
    end = at > WIDTH / 2
    where = f'x="{at - 4 if end else at + 4:.1f}" y="{TOP + 2:g}" text-anchor="{"end" if end else "start"}"'
    return f'<path class="best" d="M{at:.1f} {TOP - 6:g}V{HEIGHT - BOTTOM:g}"/><text {where}>best</text>'


def _level(curve: Curve, y: Axis) -> str:
    if curve.level is None or not math.isfinite(curve.level):
        return ""
    return f'<path class="level" d="M{LEFT:g} {y.place(curve.level):.1f}H{WIDTH - RIGHT:g}"/>'


def _band(curve: Curve, x: Axis, y: Axis) -> str:
    if not curve.low:
        return ""
    drawn = ""
    for points in _pieces(curve.x, curve.low, curve.high):
        there = " ".join(f"{x.place(at):.1f},{y.place(high):.1f}" for at, _, high in points)
        back = " ".join(f"{x.place(at):.1f},{y.place(low):.1f}" for at, low, _ in reversed(points))
        drawn += f'<polygon class="band" points="{there} {back}"/>'
    return drawn


def _line(curve: Curve, x: Axis, y: Axis) -> str:
    d = ""
    for points in _pieces(curve.x, curve.y):
        d += "M" + "L".join(f"{x.place(at):.1f} {y.place(value):.1f}" for at, value in points)
        d += "h0" if len(points) == 1 else ""  # a dot: round ends make it visible
    return f'<path class="line" d="{d}"/>'


def _dots(curve: Curve, x: Axis, y: Axis) -> str:
    drawn = ""
    for index, (at, value) in enumerate(zip(curve.x, curve.y, strict=True)):
        if not math.isfinite(value):
            continue
        ends = (curve.low[index], curve.high[index]) if curve.low else ()
        between = f" ({number(ends[0])} to {number(ends[1])})" if ends and math.isfinite(sum(ends)) else ""
        title = f"<title>{text(curve.along)} {at:g}: {number(value)}{between}</title>"
        drawn += f'<circle cx="{x.place(at):.1f}" cy="{y.place(value):.1f}" r="3">{title}</circle>'
    return drawn


def _pieces(*columns: Sequence[float]) -> Iterator[list[tuple[float, ...]]]:
    """Runs of neighbouring points in which everything is finite."""
    points = zip(*columns, strict=True)
    for finite, piece in groupby(points, key=lambda point: all(map(math.isfinite, point))):
        if finite:
            yield list(piece)
