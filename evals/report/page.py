"""The whole page: header, figures per reward, agreement with a reference, best and worst, gallery, footer.

Turns a run into HTML and computes nothing beyond the figures it shows.
"""

# FOLDED evals/cards.py: One sample as a card: pictures, prompt, a bar or a typed failure per reward, parts, and what was written.
#
# A failed score is drawn as a hatched chip with its reason, never as a bar of length zero.
#

import inspect
import json
import math
from collections.abc import Sequence

import numpy as np

from mmreward.errors import FINE
from mmreward.rewards.judged.critique import critique
from mmreward.types import Sample, Score

from .html import (
    LINE_CHARS,
    NAME_CHARS,
    TEXT_CHARS,
    bar,
    count,
    date,
    disclosure,
    framed,
    histogram,
    interval,
    made_by,
    number,
    table,
    text,
    told,
    whisker,
)
from .pictures import Spaces, pictures, thumbnail
from .scored import NOT_SCORED, Column, Run
from .stats import DRAWS, Agreement, agreement, mean_interval, num_draws

PROMPT_CHARS = 600
SHORT_NOTE = 100
BRIEF_CHARS = 80
BRIEF_PROMPT_CHARS = 160
MAX_PARTS = 24
MAX_FIELDS = 8
HALF = 0.5


def card(run: Run, index: int) -> str:
    """Everything about the sample at this position of the run, for the gallery."""
    name = run.ids[index]
    sample = _sample(run, name)
    expects_boxes = any(column.kind == "iou" for column in run.columns)
    shown = pictures(sample, _spaces(run), expects_boxes) if sample is not None else ""
    values = [_finite(column.values[index]) for column in run.columns]
    keys = json.dumps([_finite(run.totals[index]), *values])
    statuses = {column.scores[name].status for column in run.columns if name in column.scores}
    failed = int(bool(statuses.difference(FINE)))
    scores = "".join(_score(column, column.scores.get(name)) for column in run.columns)
    return (
        f'<article class="card" data-keys="{text(keys, len(keys))}" data-failed="{failed}">'
        f'<div class="what">{shown}{_heading(name)}{_asked(run, name)}{_written(sample)}</div>'
        f'<div class="scores">{scores}</div></article>'
    )


def small_card(run: Run, name: str) -> str:
    """Picture, prompt, total and one bar per reward, for a row of several."""
    index = run.ids.index(name)
    sample = _sample(run, name)
    shown = thumbnail(sample) if sample is not None else ""
    ok = sum(math.isfinite(c.values[index]) for c in run.columns if not c.combined)
    of = sum(not c.combined for c in run.columns)
    total = f'<p class="total"><b>{number(float(run.totals[index]))}</b> over {ok} of {of} rewards</p>'
    scores = "".join(_line(column, column.scores.get(name), BRIEF_CHARS) for column in run.columns)
    said = f"{_heading(name, 'h4')}{_asked(run, name, BRIEF_PROMPT_CHARS)}{total}{scores}"
    return f'<article class="card small-card">{shown}{said}</article>'


def _sample(run: Run, name: str) -> Sample | None:
    return run.rows[name].sample if name in run.rows else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _spaces(run: Run) -> Spaces:
    args = next((column.args for column in run.columns if column.kind == "iou"), {})
    return Spaces(args.get("space", "norm_1000"), args.get("target_space", "norm_1000"))


def _heading(name: str, level: str = "h3") -> str:
    return f'<{level} class="id"><bdi>{text(name, NAME_CHARS)}</bdi></{level}>'


def _asked(run: Run, name: str, prompt_chars: int = PROMPT_CHARS) -> str:
    """The prompt, or why there is none."""
    if name not in run.rows:
        return "" if run.trouble else '<p class="absent">this id is not in the data set</p>'
    row = run.rows[name]
    if row.sample is None:
        return f'<p class="absent">the row cannot be read: {text(row.problem)}</p>'
    prompt = row.sample.prompt
    return f'<p class="prompt" dir="auto">{text(prompt, prompt_chars)}</p>' if prompt.strip() else ""


def _written(sample: Sample | None) -> str:
    """The response and the other text that came with the sample, folded away."""
    if sample is None:
        return ""
    response = disclosure("response", sample.response) if sample.response else ""
    fields = [f"{key}: {value}" for key, value in sample.meta.items() if isinstance(value, str | int | float)]
    return response + (disclosure("other fields", "\n\n".join(fields[:MAX_FIELDS])) if fields else "")


def _score(column: Column, score: Score | None) -> str:
    """A reward's line, its parts and its note."""
    if score is None or not (score.parts or score.note):
        return _line(column, score)
    beneath = _parts(column, score) + (_note(column, score) if score.ok else "")
    return _line(column, score) + (f'<div class="beneath">{beneath}</div>' if beneath else "")


def _line(column: Column, score: Score | None, reason_chars: int = LINE_CHARS) -> str:
    name = f'<span class="name">{text(column.name, NAME_CHARS)}</span>'
    if score is None:
        return f'<div class="score">{name}<span class="failed">{NOT_SCORED}</span></div>'
    if not score.ok:
        status = told(score.status)
        css = "failed na" if score.status == "na" else "failed"
        reason = f": <bdi>{text(score.note, reason_chars)}</bdi>" if score.note else ""
        return f'<div class="score">{name}<span class="{css}"><b>{status}</b>{reason}</span></div>'
    mean = float(column.ok.mean())
    drawn = bar(score.value, column.span, mean) if column.span is not None else "<span></span>"
    return f'<div class="score">{name}{drawn}<span class="value">{number(score.value)}</span></div>'


def _note(column: Column, score: Score) -> str:
    if not score.note:
        return ""
    if column.kind == "critique" or len(score.note) > SHORT_NOTE or "\n" in score.note:
        return disclosure("critique" if column.kind == "critique" else "note", score.note)
    return f'<p class="note" dir="auto">{text(score.note)}</p>'


def _parts(column: Column, score: Score) -> str:
    """Ticks for a checklist, bars for aspects and for shares, plain numbers for everything else."""
    shown = list(score.parts.items())[:MAX_PARTS]
    if column.kind == "checklist":
        items = "".join(_check(name, value) for name, value in shown)
        return f'<ul class="checks">{items}</ul>' if items else ""
    scale = _aspect_scale(column) if column.kind == "critique" and score.ok else None
    bars, numbers = "", []
    for name, value in shown:
        if scale is not None:
            bars += _part(name, value, scale, f"{value:g} of {scale[1]:g}")
        elif column.parts[name] == "share":
            bars += _part(name, value, (0.0, 1.0), number(value))
        elif column.parts[name] == "number":  # what is 0 for every sample, such as "truncated", says nothing
            numbers.append(f"{text(name, NAME_CHARS)} {value:g}")
    more = len(score.parts) - len(shown)
    listed = " \u00b7 ".join([*numbers, f"{more} more parts"] if more else numbers)
    return bars + (f'<p class="note">{listed}</p>' if listed else "")


def _part(name: str, value: float, span: tuple[float, float], told: str) -> str:
    label = f'<span class="name">{text(name, NAME_CHARS)}</span>'
    return f'<div class="part">{label}{bar(value, span)}<span class="value">{told}</span></div>'


def _check(name: str, value: float) -> str:
    verdict, sign = ("right", "\u2713") if value >= HALF else ("wrong", "\u2717")
    return (
        f'<li class="{verdict}"><span class="sign" role="img" aria-label="{verdict}">{sign}</span>'
        f'<span class="name" dir="auto">{text(name)}</span><span class="value">{number(value)}</span></li>'
    )


def _aspect_scale(column: Column) -> tuple[float, float] | None:
    """The judge's own scale, from the reward's arguments or their defaults."""
    known = inspect.signature(critique).parameters
    try:
        low, high = (float(column.args.get(end, known[end].default)) for end in ("low", "high"))
    except (TypeError, ValueError):
        return None
    return (low, high) if low < high else None


NUM_EXTREME = 4


def page(run: Run, reference: Column | None, extremes: tuple[list[str], list[str]], limit: int) -> str:
    """One HTML document. `run.rows` must hold what the first `limit` samples and the extremes show."""
    title = str(run.about.get("title") or run.path.stem)
    sections = [
        _header(run, title),
        _summary(run),
        _agreements(run, reference) if reference is not None else "",
        _extremes(run, *extremes),
        _gallery(run, limit),
        _footer(run),
    ]
    return framed(title, "\n".join(sections))


def _header(run: Run, title: str) -> str:
    scores = len(run.ids) * len(run.columns)
    absent = sum(column.failures["na"] for column in run.columns)
    failed = sum(column.failures.total() for column in run.columns) - absent
    facts = [
        ("samples", f"{len(run.ids):,}"),
        ("rewards", f"{len(run.columns):,}"),
        ("scores", f"{scores:,}"),
        ("failed", f'<span class="{"bad" if failed else ""}">{failed:,}</span> <small>of {scores:,}</small>'),
    ]
    if absent:
        facts.append(("do not apply", f"{absent:,}"))
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    names = ", ".join(text(column.name, NAME_CHARS) for column in run.columns)
    trouble = (
        f'<p class="absent">Without pictures and prompts: {text(run.trouble)}.</p>' if run.trouble else ""
    )
    return (
        f'<header><h1 dir="auto">{text(title)}</h1>'
        f'<p class="meta"><time>{date(run.created)}</time> \u00b7 {names}</p>'
        f'<dl class="facts">{shown}</dl>{trouble}</header>'
    )


def _summary(run: Run) -> str:
    heads = ("reward", "scored", "mean", "95 % interval", "min", "median", "max", "distribution", "no value")
    rows = [_summary_row(column) for column in run.columns]
    draws = num_draws(len(run.ids))
    resamples = f"{draws:,}{' or more' if draws < DRAWS else ''} resamples"
    caption = (
        "Every figure is over the samples that have a value. Intervals: percentile bootstrap over samples, "
        f"{resamples}, fixed seed. A failed score is never a number, so it is in none of them."
    )
    return f'<section><h2 id="summary">Rewards</h2>{table(caption, heads, rows)}</section>'


def _summary_row(column: Column) -> list[str]:
    ok, n = column.ok, len(column.values)
    lower = "" if column.higher_is_better else ' <small class="tag">lower is better</small>'
    combined = ' <small class="tag">combined</small>' if column.combined else ""
    spread = (ok.mean(), ok.min(), np.median(ok), ok.max()) if len(ok) else (float("nan"),) * 4
    mean, low, median, high = (number(float(value)) for value in spread)
    between = interval(mean_interval(ok)) if len(ok) >= 2 else f"n = {len(ok)}: none"
    lost = ", ".join(f"{n:,} {told(status)}" for status, n in column.failures.most_common())
    return [
        f"{text(column.name, NAME_CHARS)}{lower}{combined}",
        f"{len(ok):,} of {n:,} <small>{_percent(len(ok), n)}</small>",
        f"<b>{mean}</b>",
        between,
        low,
        median,
        high,
        histogram(ok, column.bounds) or number(float("nan")),
        f'<span class="{"bad" if set(column.failures) - {"na"} else ""}">{lost or "0"}</span>',
    ]


def _agreements(run: Run, reference: Column) -> str:
    """Spearman's rho of every other column with the reference."""
    heads = ("reward", "rho", "95 % interval", "-1 to 1", "n")
    others = [column for column in run.columns if column is not reference]
    rows = [
        _agreement_row(column, agreement(column.values, reference.values), reference) for column in others
    ]
    if not rows:
        return ""
    caption = (
        f"Spearman rank correlation with {reference.name}, over the samples where both have a value. "
        "Undefined when either is constant or fewer than 3 samples have both."
    )
    heading = f'<h2 id="agreement">Agreement with {text(reference.name, NAME_CHARS)}</h2>'
    return f'<section class="narrow">{heading}{table(caption, heads, rows)}</section>'


def _agreement_row(column: Column, found: Agreement, reference: Column) -> list[str]:
    same = column.higher_is_better == reference.higher_is_better
    turned = "" if same else ' <small class="tag">runs the other way</small>'
    name = f"{text(column.name, NAME_CHARS)}{turned}"
    if found.rho is None:
        return [name, "undefined", number(float("nan")), number(float("nan")), f"{found.n:,}"]
    drawing = whisker(found.rho, found.interval)
    return [name, f"<b>{number(found.rho)}</b>", interval(found.interval), drawing, f"{found.n:,}"]


def _extremes(run: Run, best: Sequence[str], worst: Sequence[str]) -> str:
    if not best:
        return ""
    rows = ""
    for title, names in (("Best", best), ("Worst", worst)):
        cards = "".join(small_card(run, name) for name in names)
        rows += f'<h3 class="row">{title} {len(names)}</h3><div class="few">{cards}</div>'
    explained = (
        "By total: each reward's values become ranks within this run (0 worst, 1 best), averaged over the "
        "rewards that have a value. A sample with values from fewer than half of the rewards is not ranked."
    )
    return f'<section><h2 id="extremes">Best and worst</h2><p class="lead">{explained}</p>{rows}</section>'


def _gallery(run: Run, limit: int) -> str:
    shown = min(limit, len(run.ids))
    cards = "".join(card(run, index) for index in range(shown))
    hidden = len(run.ids) - shown
    left_out = (
        f" {count(hidden, 'further sample')} not shown (limit {limit}) but counted above." if hidden else ""
    )
    explained = (
        f"{count(shown, 'sample')} in the order of the run.{left_out} Bars span each reward's range, "
        "or the run's smallest to largest value where the range is infinite or unknown; the tick on a bar is "
        "the run's mean. In a checklist, 1 is a right answer, or its probability when answers are soft."
    )
    return (
        f'<section><h2 id="samples">Samples</h2><p class="lead">{explained}</p>'
        f'{_controls(run) if shown > 1 else ""}<div id="cards" class="cards">{cards}</div></section>'
    )


def _controls(run: Run) -> str:
    """Sorting and filtering; hidden until the script shows them, so that without it nothing is dead."""
    options = '<option value="">run order</option><option value="0" data-sign="1">total</option>'
    for place, column in enumerate(run.columns, start=1):
        sign = 1 if column.higher_is_better else -1
        options += f'<option value="{place}" data-sign="{sign}">{text(column.name, NAME_CHARS)}</option>'
    return (
        f'<form id="controls" hidden><label>Sort by <select id="by">{options}</select></label>'
        '<label>from <select id="from"><option value="1">best</option><option value="-1">worst</option>'
        '</select></label><label><input type="checkbox" id="failures"> only with failures</label>'
        '<output id="shown"></output></form>'
    )


def _footer(run: Run) -> str:
    rows = [
        [
            text(column.name, NAME_CHARS),
            text(column.kind, NAME_CHARS),
            f'<code dir="auto">{text(_args(column), TEXT_CHARS)}</code>',
            _fingerprints(column),
        ]
        for column in run.columns
    ]
    command = run.about.get("command")
    words = " ".join(map(str, command)) if isinstance(command, list | tuple) else command
    ran = f"<p>Command: <code>{text(words, TEXT_CHARS)}</code></p>" if words else ""
    scored_by = run.about.get("version")
    scored = f", scored by mmreward {text(scored_by)}" if scored_by else ""
    source = f" Data: <code>{text(run.about['data'], TEXT_CHARS)}</code>." if run.about.get("data") else ""
    caption = (
        "A fingerprint stands for the reward, its arguments, weights, preprocessing and version: "
        "scores with equal fingerprints can be compared."
    )
    made = table(caption, ("name", "reward", "arguments", "fingerprint"), rows)
    return (
        f"<footer><h2>How it was made</h2>{made}"
        f"<p>Results: <code>{text(run.path.name)}</code>.{source}</p>{ran}"
        f"<p>{made_by()}{scored}.</p></footer>"
    )


def _fingerprints(column: Column) -> str:
    shown = ", ".join(f"<code>{text(one, NAME_CHARS)}</code>" for one in column.fingerprints[:4])
    if len(column.fingerprints) < 2:
        return shown
    return f'{shown} <span class="bad">{len(column.fingerprints)} versions mixed in one file</span>'


def _args(column: Column) -> str:
    return ", ".join(f"{name}={value}" for name, value in column.args.items()) or "defaults"


def _percent(part: int, whole: int) -> str:
    """Rounded down, so that 100 % means all."""
    return f"{int(1000 * part / whole) / 10:g} %" if whole else "0 %"
