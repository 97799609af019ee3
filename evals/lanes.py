"""When what was under way in a round, as lanes of bars over one clock."""

from collections.abc import Sequence

from mmreward.tune.journal import seconds

from .axes import Axis, tick_label, ticks
from .markup import text

Span = tuple[str, float, float]

LANES = {
    "generate": "drawing",
    "score": "scoring",
    "wait": "waiting for scores",
    "update": "updating",
}
WIDTH, ROW, LEFT, RIGHT, FOOT = 720.0, 30.0, 128.0, 16.0, 34.0


def overlap(spans: Sequence[Span], one: str, other: str) -> float:
    """Seconds during which both were under way."""
    kept = [span for span in spans if span[0] in (one, other)]
    either = seconds([("either", begun, ended) for _, begun, ended in kept], "either")
    return seconds(kept, one) + seconds(kept, other) - either


def lanes(spans: Sequence[Span]) -> str:
    """One lane per activity that there is, bars where it was under way."""
    known = [what for what in LANES if any(span[0] == what for span in spans)]
    others = [what for what in dict.fromkeys(span[0] for span in spans) if what not in LANES]
    rows = [*known, *others]
    axis = Axis(0.0, max(ended for _, _, ended in spans) or 1.0, LEFT, WIDTH - RIGHT)
    base = ROW * len(rows)
    drawn = _clock(axis, base)
    for number, what in enumerate(rows):
        drawn += _lane(number, what, [span for span in spans if span[0] == what], axis)
    told = "; ".join(f"{_name(what)} {seconds(list(spans), what):.1f} s" for what in rows)
    label = text(f"when what was under way in the last round: {told}")
    return (
        f'<svg class="lanes" viewBox="0 0 {WIDTH:g} {base + FOOT:g}" role="img" aria-label="{label}">'
        f"{drawn}</svg>"
    )


def _lane(number: int, what: str, spans: Sequence[Span], axis: Axis) -> str:
    middle = ROW * number + ROW / 2
    bars = f'<text class="y" x="{LEFT - 10:g}" y="{middle + 4:g}">{text(_name(what))}</text>'
    for _, begun, ended in spans:
        start, width = axis.place(begun), axis.place(ended) - axis.place(begun)
        told = f"<title>{text(_name(what))}: {begun:.2f} s to {ended:.2f} s</title>"
        css = what if what in LANES else "other"
        bars += (
            f'<rect class="{css}" x="{start:.1f}" y="{middle - 9:g}" width="{max(width, 1):.1f}" height="18">'
            f"{told}</rect>"
        )
    return bars


def _clock(axis: Axis, base: float) -> str:
    marks = ticks(axis.low, axis.high, 8)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    drawn = f'<path class="grid" d="{"".join(f"M{axis.place(at):.1f} 0V{base:g}" for at in marks)}"/>'
    drawn += "".join(
        f'<text class="x" x="{axis.place(at):.1f}" y="{base + 15:g}">{tick_label(at, step)}</text>'
        for at in marks
    )
    unit = "seconds since the round began"
    return drawn + f'<text class="along" x="{WIDTH - RIGHT:g}" y="{base + 30:g}">{unit}</text>'


def _name(what: str) -> str:
    return LANES.get(what, what)
