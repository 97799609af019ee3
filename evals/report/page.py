"""The page of a run of scores: figures per reward, agreement with a reference, extremes, a card per sample.

Computes what templates/scores.html shows. A sample's card has its pictures, prompt, a bar or a typed failure
per reward, the parts of each score, and what was written.
"""

import inspect
import json
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from mmreward.errors import FINE
from mmreward.monitor.intervals import agreement, mean_of
from mmreward.rewards.judged.critique import critique
from mmreward.types import Sample, Score

from .html import NAME_CHARS, count, histogram, interval, number, render, status_words, text
from .pictures import Spaces, pictures, thumbnail
from .scored import NOT_SCORED, Column, ScoredRun

SHORT_NOTE = 100
MAX_PARTS = 24
MAX_FIELDS = 8
NUM_EXTREME = 4


def page(run: ScoredRun, reference: Column | None, extremes: tuple[list[str], list[str]], limit: int) -> str:
    """One HTML document. `run.rows` must hold what the first `limit` samples and the extremes show."""
    shown = min(limit, len(run.ids))
    absent = sum(column.failures["na"] for column in run.columns)
    prompts = run.prompts
    others = [column for column in run.columns if column is not reference]
    command = run.about.get("command")
    rows = zip(("Best", "Worst"), extremes, strict=True)
    return render(
        "scores.html",
        title=str(run.about.get("title") or run.path.stem),
        run=run,
        columns=[column.name for column in run.columns],
        scores=len(run.ids) * len(run.columns),
        failed=sum(column.failures.total() for column in run.columns) - absent,
        absent=absent,
        units=len(set(prompts)) if prompts else len(run.ids),
        by_prompt=bool(prompts),
        summaries=[_summary(column, prompts) for column in run.columns],
        reference=reference,
        agreements=[(c, agreement(c.values, reference.values, prompts)) for c in others] if reference else [],
        extremes=[(called, [_small_card(run, name) for name in ids]) for called, ids in rows if ids],
        cards=[_card(run, index) for index in range(shown)],
        hidden=len(run.ids) - shown,
        limit=limit,
        command=" ".join(map(str, command)) if isinstance(command, list | tuple) else command,
        parts_of=_parts,
        arguments_of=_arguments,
        thousands="{:,}".format,
        not_scored=NOT_SCORED,
        short_note=SHORT_NOTE,
    )


def _summary(column: Column, prompts: Sequence[Hashable] | None) -> dict[str, Any]:
    """A row of the table of rewards."""
    measured = mean_of(column.values, prompts)
    none = f"n = {count(measured.units, 'prompt') if prompts else len(column.ok)}: none"
    ok, n = column.ok, len(column.values)
    spread = (ok.mean(), ok.min(), np.median(ok), ok.max()) if len(ok) else (math.nan,) * 4
    lost = ", ".join(f"{times:,} {status_words(status)}" for status, times in column.failures.most_common())
    return {
        "column": column,
        "ok": len(ok),
        "n": n,
        "percent": f"{int(1000 * len(ok) / n) / 10:g} %" if n else "0 %",  # rounded down: 100 % means all
        "interval": none if measured.interval is None else interval(measured.interval),
        **dict(zip(("mean", "low", "median", "high"), map(float, spread), strict=True)),
        "histogram": histogram(ok, column.bounds),
        "lost": lost or "0",
        "bad": bool(set(column.failures) - {"na"}),
    }


# --- cards --------------------------------------------------------------------------------------------------


def _card(run: ScoredRun, index: int) -> dict[str, Any]:
    """The sample at this position of the run, for the gallery."""
    name = run.ids[index]
    sample = _sample(run, name)
    expects_boxes = any(column.kind == "iou" for column in run.columns)
    statuses = {column.scores[name].status for column in run.columns if name in column.scores}
    keys = [run.totals[index], *(column.values[index] for column in run.columns)]
    return {
        "name": name,
        "pictures": pictures(sample, _spaces(run), expects_boxes) if sample is not None else "",
        "response": sample.response if sample is not None else "",
        "fields": _other_fields(sample) if sample is not None else "",
        "sorting": json.dumps([float(key) if math.isfinite(key) else None for key in keys]),
        "failed": int(bool(statuses.difference(FINE))),
    }


def _small_card(run: ScoredRun, name: str) -> dict[str, Any]:
    """Picture and total, for a row of several."""
    index = run.ids.index(name)
    sample = _sample(run, name)
    rewards = [column for column in run.columns if not column.combined]
    return {
        "name": name,
        "picture": thumbnail(sample) if sample is not None else "",
        "total": float(run.totals[index]),
        "ok": sum(math.isfinite(column.values[index]) for column in rewards),
        "rewards": len(rewards),
    }


def _sample(run: ScoredRun, name: str) -> Sample | None:
    return run.rows[name].sample if name in run.rows else None


def _spaces(run: ScoredRun) -> Spaces:
    args = next((column.args for column in run.columns if column.kind == "iou"), {})
    return Spaces(args.get("space", "norm_1000"), args.get("target_space", "norm_1000"))


def _other_fields(sample: Sample) -> str:
    """The other text that came with the sample."""
    fields = [f"{key}: {value}" for key, value in sample.meta.items() if isinstance(value, str | int | float)]
    return "\n\n".join(fields[:MAX_FIELDS])


class PartBar(NamedTuple):
    """A part of a score as a bar."""

    name: str
    value: float
    span: tuple[float, float]
    words: str


class Parts(NamedTuple):
    """The parts of a score: ticks for a checklist, bars for aspects and for shares, plain numbers else."""

    checks: list[tuple[str, float]]
    bars: list[PartBar]
    numbers: list[Markup | str]


def _parts(column: Column, score: Score) -> Parts:
    shown = list(score.parts.items())[:MAX_PARTS]
    if column.kind == "checklist":
        return Parts(shown, [], [])
    scale = _aspect_scale(column.args) if column.kind == "critique" and score.ok else None
    found = Parts([], [], [])
    for name, value in shown:
        if scale is not None:
            found.bars.append(PartBar(name, value, scale, f"{value:g} of {scale[1]:g}"))
        elif column.parts[name] == "share":
            found.bars.append(PartBar(name, value, (0.0, 1.0), number(value)))
        elif column.parts[name] == "number":  # what is 0 for every sample, such as "truncated", says nothing
            found.numbers.append(text(name, NAME_CHARS) + f" {value:g}")
    if more := len(score.parts) - len(shown):
        found.numbers.append(f"{more} more parts")
    return found


def _aspect_scale(args: Mapping[str, Any]) -> tuple[float, float] | None:
    """The judge's own scale, from the reward's arguments or their defaults."""
    known = inspect.signature(critique).parameters
    try:
        low, high = (float(args.get(end, known[end].default)) for end in ("low", "high"))
    except (TypeError, ValueError):
        return None
    return (low, high) if low < high else None


def _arguments(column: Column) -> str:
    return ", ".join(f"{name}={value}" for name, value in column.args.items()) or "defaults"
