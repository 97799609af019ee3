"""Charts of a training run: rewards and monitors by evaluation, figures by round, lanes of activities."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from mmreward.errors import FINE
from mmreward.monitor.intervals import Interval
from mmreward.tune.journal import seconds

from .curves import Axis, Curve, figure, tick_label, ticks
from .html import count, number, status_words, text
from .training_run import TrainingRun, column

AFTER = "rounds trained"
LEAST = 0.1
"""Share of its first value that a monitor's axis spans at least, so that a small change looks small."""
UNKNOWN = Interval(math.nan, math.nan)

TRAINING = {
    "advantages/zero_std_share": ("groups without variance", "share of groups"),
    "clip_frac": ("clipped ratios", "share of rows"),
    "ratio_deviation": ("deviation of the ratio from 1", "largest |ratio - 1|"),
    "kl": ("divergence from the reference", "KL"),
    "approx_kl": ("divergence from the rollout", "approximate KL"),
    "matching_error": ("matching error", "squared velocity error"),
    "old_deviation": ("deviation from the old policy", "squared velocity"),
    "grad_norm": ("norm of the gradient", "before clipping"),
}
"""Figure of a round -> its name on the page, and its unit."""

MONITORS = {
    "colourfulness": ("colourfulness", "opponent-colour spread"),
    "saturation": ("saturation", "0 to 1"),
    "high_frequency": ("high frequency", "share of the spectrum"),
    "grid_8": ("grid energy, patches of 8", "peak over its surroundings"),
    "grid_16": ("grid energy, patches of 16", "peak over its surroundings"),
    "diversity_within": ("diversity within a prompt", "mean distance"),
    "diversity_across": ("diversity across prompts", "mean distance"),
}
"""Monitor -> its name on the page, and its unit."""

PARTS = {
    "seconds/generate": "drawing samples",
    "seconds/score": "scoring, meanwhile or after",
    "seconds/wait": "waiting for the last scores",
    "seconds/update": "updating",
    "seconds": "the whole round",
}


class Chart(NamedTuple):
    """A section of curves: its anchor, title and lead, and the drawn figures."""

    id: str
    title: str
    lead: str
    figures: list[Markup]
    folded: list[Markup]
    """Of what never changed."""


class RoundTimes(NamedTuple):
    """Mean, shortest and longest seconds of each part of a round; the last round as lanes.

    `both` are the seconds of the last round in which drawing and scoring were under way at once.
    """

    rows: list[list[str]]
    lanes: Markup | str
    both: float


def reward_curves(run: TrainingRun) -> Chart:
    """One figure per reward over the evaluations, the optimised ones first."""
    best = run.best
    figures = []
    for name in (*run.optimised, *run.held_out):
        measured = [run.measured(one, name) for one in run.evaluations]
        ends = [one.interval or UNKNOWN for one in measured]
        held_out = name in run.held_out
        figures.append(
            Curve(
                name=name,
                x=[one.after for one in run.evaluations],
                y=[one.mean for one in measured],
                low=[low for low, _ in ends],
                high=[high for _, high in ends],
                unit="mean score",
                along=AFTER,
                tag="held out" if held_out else "optimised",
                css="held-out" if held_out else "optimised",
                best=best.after if best is not None and len(run.evaluations) > 1 else None,
            )
        )
    by = "the sum of the held-out rewards" if run.held_out else "the optimised reward"
    lead = (
        "Means over the held-out prompts, each from its fixed seed; bands are 95 % intervals over prompts. "
        f"The dashed line marks the best evaluation by {by}."
    )
    return _chart("evaluations", "Rewards by evaluation", lead, figures)


def monitor_curves(run: TrainingRun) -> Chart:
    """One figure per monitor, with its first value as a line; that of larger pictures comes next to it."""
    names = dict.fromkeys(name for one in run.evaluations for name in (*one.monitors, *one.larger))
    figures = []
    for name in names:
        called, unit = MONITORS.get(name, (name, "value"))
        if any(name in one.monitors for one in run.evaluations):
            figures.append(_monitor(run, called, unit, [one.monitors.get(name) for one in run.evaluations]))
        if any(name in one.larger for one in run.evaluations):
            values = [one.larger.get(name) for one in run.evaluations]
            figures.append(_monitor(run, f"{called}, larger", unit, values))
    lead = (
        "What reward hacking does to pictures: oversaturated colours, added texture, a grid of patches, all "
        "pictures alike. The dashed line is the value before training."
    )
    return _chart("monitors", "Textures and diversity", lead + _larger(run), figures)


def _monitor(run: TrainingRun, called: str, unit: str, known: Sequence[float | None]) -> Curve:
    values = [math.nan if value is None else value for value in known]
    return Curve(
        name=called,
        x=[one.after for one in run.evaluations],
        y=values,
        unit=unit,
        along=AFTER,
        tag=_moved(values),
        reach=(values[0] * (1 - LEAST), values[0] * (1 + LEAST)),
        level=values[0],
    )


def _larger(run: TrainingRun) -> str:
    """The size of the larger pictures, where there are any."""
    size = run.config.get("evaluation", {}).get("larger")
    if not size:
        return ""
    shape = f"{size['width']} x {size['height']}"
    return f" Larger: the prompts that are shown, from the same seeds, at {shape} pixels."


def training_curves(run: TrainingRun) -> Chart:
    """The figures of the training itself, round by round, and its failed scores; none without a round."""
    keys = list(dict.fromkeys(key for line in run.rounds for key in line))
    figures = [_reward(run, key.removeprefix("reward/")) for key in keys if key.startswith("reward/")]
    figures += [_plain(run, key, *words) for key, words in TRAINING.items() if key in keys]
    figures += [
        _plain(run, key, f"groups without variance, {name}", "share of groups")
        for key, name in _by_reward(run, keys)
    ]
    figures += [
        _plain(run, key, f"failed scores: {status_words(status)}", "scores", absent=0.0)
        for key, status in _statuses(keys)
        if status not in FINE
    ]
    lead = (
        "Figures of each round, over the samples it drew to train on. Bands around a reward are one standard "
        f"deviation of its samples. {_failures(run, keys)}"
    )
    return _chart("training", "Training by round", lead, figures)


def round_times(run: TrainingRun) -> RoundTimes:
    """Durations of the parts of a round."""
    rows = []
    for key, called in PARTS.items():
        known = [value for value in column(run.rounds, key) if math.isfinite(value)]
        if known:
            rows.append([called, *(f"{value:.1f} s" for value in (_mean(known), min(known), max(known)))])
    if not run.spans:
        return RoundTimes(rows, "", 0.0)
    return RoundTimes(rows, lanes(run.spans), overlap(run.spans, "generate", "score"))


def _reward(run: TrainingRun, name: str) -> Curve:
    means, spread = (column(run.rounds, f"{kind}/{name}") for kind in ("reward", "reward_std"))
    return Curve(
        name=name,
        x=_trained(run),
        y=means,
        low=[mean - one for mean, one in zip(means, spread, strict=True)],
        high=[mean + one for mean, one in zip(means, spread, strict=True)],
        unit="mean score, one deviation",
        tag="optimised",
        css="optimised",
    )


def _plain(run: TrainingRun, key: str, called: str, unit: str, absent: float = math.nan) -> Curve:
    return Curve(name=called, x=_trained(run), y=column(run.rounds, key, absent), unit=unit, reach=(0.0,))


def _trained(run: TrainingRun) -> list[float]:
    return [float(line["round"]) + 1 for line in run.rounds]


def _by_reward(run: TrainingRun, keys: Sequence[str]) -> list[tuple[str, str]]:
    """(key, reward) where groups without variance are listed by reward and that says more than all."""
    if len(run.optimised) < 2:
        return []
    forms = ("advantages/zero_std_share/{}", "advantages/{}/zero_std_share")
    return [
        (form.format(name), name) for name in run.optimised for form in forms if form.format(name) in keys
    ]


def _statuses(keys: Sequence[str]) -> list[tuple[str, str]]:
    return [(key, key.removeprefix("scores/")) for key in keys if key.startswith("scores/")]


def _failures(run: TrainingRun, keys: Sequence[str]) -> str:
    """The failed scores of all rounds in words, by status."""
    totals = {status: int(sum(column(run.rounds, key, 0.0))) for key, status in _statuses(keys)}
    failed = {status: total for status, total in totals.items() if status not in FINE and total}
    every = count(sum(totals.values()), "score")
    if not failed:
        return f"None of {every} failed."
    parts = ", ".join(f"{total:,} {status_words(status)}" for status, total in failed.items())
    return f"Of {every}, {sum(failed.values()):,} failed ({parts}) and took no part in the training."


def _moved(values: Sequence[float]) -> str:
    """The last value against the first."""
    first, last = values[0], values[-1]
    if len(values) < 2 or not math.isfinite(first + last):
        return ""
    return f"{100 * (last / first - 1):+.1f} %" if first else f"{number(first)} to {number(last)}"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _chart(name: str, title: str, lead: str, curves: Sequence[Curve]) -> Chart:
    still = [curve for curve in curves if _still(curve)]
    moving = [curve for curve in curves if curve not in still]
    return Chart(name, title, lead, list(map(figure, moving)), list(map(figure, still)))


def _still(curve: Curve) -> bool:
    """True of three points or more that all have one value."""
    known = [value for value in curve.y if math.isfinite(value)]
    return len(known) > 2 and min(known) == max(known) and not curve.css.startswith(("optimised", "held"))


# --- lanes: activities of a round over one clock -----------------------------------------------------------

Span = tuple[str, float, float]

LANES = {
    "generate": "drawing",
    "score": "scoring",
    "wait": "waiting for scores",
    "update": "updating",
}
WIDTH, ROW, LEFT, RIGHT, FOOT = 720.0, 30.0, 128.0, 16.0, 34.0


def overlap(spans: Sequence[Span], one: str, other: str) -> float:
    """Seconds during which both activities were under way."""
    kept = [span for span in spans if span[0] in (one, other)]
    either = seconds([("either", begun, ended) for _, begun, ended in kept], "either")
    return seconds(kept, one) + seconds(kept, other) - either


def lanes(spans: Sequence[Span]) -> Markup:
    """One lane per activity, with bars where it was under way."""
    known = [what for what in LANES if any(span[0] == what for span in spans)]
    others = [what for what in dict.fromkeys(span[0] for span in spans) if what not in LANES]
    rows = [*known, *others]
    axis = Axis(0.0, max(ended for _, _, ended in spans) or 1.0, LEFT, WIDTH - RIGHT)
    base = ROW * len(rows)
    drawn = _clock(axis, base)
    for place, what in enumerate(rows):
        drawn += _lane(place, what, [span for span in spans if span[0] == what], axis)
    summary = "; ".join(f"{_name(what)} {seconds(list(spans), what):.1f} s" for what in rows)
    label = text(f"when what was under way in the last round: {summary}")
    return Markup(
        f'<svg class="lanes" viewBox="0 0 {WIDTH:g} {base + FOOT:g}" role="img" aria-label="{label}">'
        f"{drawn}</svg>"
    )


def _lane(number: int, what: str, spans: Sequence[Span], axis: Axis) -> str:
    middle = ROW * number + ROW / 2
    bars = f'<text class="y" x="{LEFT - 10:g}" y="{middle + 4:g}">{text(_name(what))}</text>'
    for _, begun, ended in spans:
        start, width = axis.place(begun), axis.place(ended) - axis.place(begun)
        title = f"<title>{text(_name(what))}: {begun:.2f} s to {ended:.2f} s</title>"
        css = what if what in LANES else "other"
        bars += (
            f'<rect class="{css}" x="{start:.1f}" y="{middle - 9:g}" width="{max(width, 1):.1f}" height="18">'
            f"{title}</rect>"
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
