"""One sample as a card: pictures, prompt, a bar or a typed failure per reward, parts, and what was written.

A failed score is drawn as a hatched chip with its reason, never as a bar of length zero.
"""

import inspect
import json
import math

from mmreward.rewards.critique import critique
from mmreward.types import Sample, Score

from .markup import LINE_CHARS, NAME_CHARS, bar, disclosure, number, text, told
from .pictures import Spaces, pictures, thumbnail
from .scored import NOT_SCORED, Column, Run

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
    failed = int(bool(statuses - {"ok", "na"}))
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
