"""The page of a training run: what ran, what the alarm says, before and after, curves, time, settings."""

import json
import math
from collections.abc import Mapping
from typing import Any

from .figures import Interval
from .frame import date, framed, made_by
from .markup import NAME_CHARS, TEXT_CHARS, count, disclosure, interval, number, table, text
from .training_charts import monitor_curves, reward_curves, time, training_curves
from .training_pictures import pairs
from .training_run import Evaluated, Measured, TrainingRun, change, column
from .training_verdict import ending, verdict, worries

MOST_REASONS = 6
"""Evaluations whose reasons stand open, the newest first."""


def training_page(run: TrainingRun, limit: int) -> str:
    """One HTML document; `limit` prompts are shown with their pictures."""
    sections = [
        _header(run),
        _verdict(run),
        _summary(run),
        pairs(run, limit),
        reward_curves(run),
        monitor_curves(run),
        training_curves(run),
        time(run),
        _footer(run),
    ]
    return framed(run.title, "\n".join(sections), ("report.css", "training.css"))


def _header(run: TrainingRun) -> str:
    spent = math.fsum(value for value in column(run.rounds, "seconds") if math.isfinite(value))
    per_round = run.config.get("rollout", {})
    drawn = run.done * int(per_round.get("prompts", 0)) * int(per_round.get("group", 0))
    facts = [
        ("rounds", f"{run.done:,} <small>of {int(run.config['rounds']):,}</small>"),
        ("samples drawn to train on", f"{drawn:,}"),
        ("evaluations", f"{len(run.evaluations):,}"),
        ("time in rounds", _duration(spent)),
    ]
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    names = f"optimises {_names(run.optimised)} \u00b7 held out: {_names(run.held_out)}"
    return (
        f'<header><h1 dir="auto">{text(run.title)}</h1>'
        f'<p class="meta"><time>{date(run.written)}</time> \u00b7 {names} \u00b7 '
        f"seed {text(run.config.get('seed', 0))}</p>"
        f'<dl class="facts">{shown}</dl><p class="ending">{_coded(ending(run))}</p></header>'
    )


def _verdict(run: TrainingRun) -> str:
    found = verdict(run)
    said = "".join(f"<p>{text(words, TEXT_CHARS)}</p>" for words in found.told)
    reasons = [_reasons(one) for one in reversed(worries(run))]
    listed = f'<ul class="reasons">{"".join(reasons[:MOST_REASONS])}</ul>' if reasons else ""
    if earlier := reasons[MOST_REASONS:]:
        listed += f"<details><summary>{count(len(earlier), 'earlier evaluation')}</summary>"
        listed += f'<ul class="reasons">{"".join(earlier)}</ul></details>'
    return (
        f'<section class="verdict {found.level}"><h2 id="verdict">{text(found.headline)}</h2>'
        f"{said}{listed}</section>"
    )


def _reasons(one: Evaluated) -> str:
    """Why an evaluation was no good."""
    why = "<br>".join(text(reason, TEXT_CHARS) for reason in one.reasons)
    when = f'<b>after {count(one.after, "round")}</b> <small class="tag">{text(one.level)}</small>'
    return f"<li>{when}<br>{why}</li>"


def _summary(run: TrainingRun) -> str:
    first, last, best = run.evaluations[0], run.evaluations[-1], run.best
    reached = f"best (after {best.after:,})" if best is not None else "best"
    heads = ("reward", "before", reached, f"last (after {last.after:,})", "change, first to last", "n")
    rows = [_row(run, name, first, best, last) for name in (*run.optimised, *run.held_out)]
    by = "the held-out rewards" if run.held_out else "the optimised reward"
    caption = (
        "Means over the held-out prompts with 95 % intervals (1.96 standard errors). Best is one evaluation "
        f"for all rows, by {by}; the best of several is partly luck. All evaluations use the same prompts "
        "and seeds; the change is that of each prompt, averaged, and so is its interval."
    )
    return f'<section><h2 id="summary">Rewards</h2>{table(caption, heads, rows)}</section>'


def _row(run: TrainingRun, name: str, first: Evaluated, best: Evaluated | None, last: Evaluated) -> list[str]:
    before, after = run.measured(first, name), run.measured(last, name)
    reached = _figure(run.measured(best, name)) if best is not None else number(math.nan)
    role = "held out" if name in run.held_out else "optimised"
    moved = change(before, after) if last is not first else Measured(math.nan, math.nan, 0)
    ns = {before.n, after.n}
    return [
        f'{text(name, NAME_CHARS)} <small class="tag">{role}</small>',
        _figure(before),
        reached,
        _figure(after),
        _figure(moved, signed=True) + _certain(moved.interval),
        " to ".join(f"{n:,}" for n in sorted(ns)),
    ]


def _figure(one: Measured, *, signed: bool = False) -> str:
    """A mean and its interval; a dash where there is none."""
    plus = "+" if signed and one.mean > 0 else ""
    between = f" <small>{interval(one.interval)}</small>" if one.interval is not None else ""
    return f"<b>{plus}{number(one.mean)}</b>{between}"


def _certain(between: Interval | None) -> str:
    if between is None or not between.low <= 0 <= between.high:
        return ""
    return ' <small class="tag">may be chance</small>'


def _footer(run: TrainingRun) -> str:
    config = run.config
    rows = [
        [text(name, NAME_CHARS), role, _weight(config, name, role), f"<code>{_args(args)}</code>"]
        for role, key in (("optimised", "rewards"), ("held out", "held_out"))
        for name, args in config[key].items()
    ]
    made = table("The rewards as they were described.", ("name", "role", "weight", "arguments"), rows)
    settings = [
        (key, config[key])
        for key in ("generator", "method", "rollout", "optimiser", "lora", "ema", "alarm")
        if key in config
    ]
    described = "".join(
        f"<div><dt>{key}</dt><dd><code>{_args(value)}</code></dd></div>" for key, value in settings
    )
    whole = disclosure("the whole config", json.dumps(config, indent=1, ensure_ascii=False))
    return (
        f'<footer><h2>How it was made</h2>{made}<dl class="settings">{described}</dl>{whole}'
        f"<p>Run: <code>{text(run.folder.name)}</code>.</p><p>{made_by()}.</p></footer>"
    )


def _weight(config: Mapping[str, Any], name: str, role: str) -> str:
    return text(config.get("weights", {}).get(name, 1.0)) if role == "optimised" else "\u2013"


def _args(value: Any) -> str:
    """A mapping without what was left open, as NAME=VALUE; an empty one is "defaults"."""
    words = _told(value)
    return text((words[1:-1] if isinstance(value, Mapping) else words) or "defaults", TEXT_CHARS)


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({', '.join(f'{key}={_told(inner)}' for key, inner in value.items() if inner is not None)})"
    return "none" if value is None else str(value)


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(text(name, NAME_CHARS) for name in names) or "none"


def _duration(spent: float) -> str:
    whole = round(spent)
    if whole < 60:
        return f"{spent:.1f} <small>s</small>"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} <small>min</small>"
    return f"{minutes // 60}:{minutes % 60:02d} <small>h</small>"


def _coded(words: str) -> str:
    """Text in which what stands between backquotes is code."""
    pieces = text(words, TEXT_CHARS).split("`")
    return "".join(f"<code>{piece}</code>" if i % 2 else piece for i, piece in enumerate(pieces))
