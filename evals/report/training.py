"""The page of a training run: what ran, what the alarm says, before and after, curves, time, settings."""

# FOLDED evals/training_pictures.py: The same prompts from the same seeds, before and after training, side by side.
# FOLDED evals/training_verdict.py: What the alarm made of a run, in plain words, and how the run ended.

import json
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from PIL import Image

from mmreward.media import Media
from mmreward.tune.journal import read_grid

from .charts import monitor_curves, reward_curves, time, training_curves
from .html import (
    NAME_CHARS,
    TEXT_CHARS,
    count,
    date,
    disclosure,
    framed,
    interval,
    made_by,
    number,
    table,
    text,
)
from .pictures import MAX_SIDE, embedded
from .stats import Interval
from .training_run import Evaluated, Measured, TrainingRun, change, column

PROMPT_CHARS = 600


def pairs(run: TrainingRun, limit: int) -> str:
    """A card per prompt: before, at the best evaluation where that is another, and after."""
    shown = list(run.prompts[:limit])
    if not shown:
        return ""
    moments = _moments(run)
    columns, troubles = [], []
    for name, one in moments:
        try:
            columns.append((name, read_grid(run.folder, one.after, len(run.prompts))))
        except (OSError, Image.DecompressionBombError) as error:
            troubles.append(f"{name}: {error}")
    trouble = "".join(f'<p class="absent">No pictures of {text(words)}.</p>' for words in troubles)
    cards = "".join(_card(i, prompt, columns) for i, prompt in enumerate(shown)) if columns else ""
    lead = f'<p class="lead">{_explained(run, shown, moments)}</p>'
    return (
        f'<section><h2 id="pictures">Before and after</h2>{lead}{trouble}'
        f'<div class="pairs">{cards}</div></section>'
    )


def _moments(run: TrainingRun) -> list[tuple[str, Evaluated]]:
    first, last, best = run.evaluations[0], run.evaluations[-1], run.best
    moments = [("before", first)]
    if best is not None and best is not first and best is not last:
        moments.append((f"best, {count(best.after, 'round')}", best))
    return moments if last is first else [*moments, (f"after {count(last.after, 'round')}", last)]


def _explained(run: TrainingRun, shown: list[str], moments: list[tuple[str, Evaluated]]) -> str:
    number = f"{count(len(shown), 'held-out prompt')}, never trained on"
    hidden = len(run.prompts) - len(shown)
    left_out = f" {count(hidden, 'further one')} not shown." if hidden else ""
    same = "each drawn from one fixed seed without noise in the steps, not picked by hand"
    alone = " There is nothing after training yet." if len(moments) == 1 else ""
    return f"{number}, {same}.{left_out}{alone}"


def _card(index: int, prompt: str, columns: list[tuple[str, list[Image.Image]]]) -> str:
    drawn = "".join(
        f'<figure><div class="picture">{_embedded(pictures[index], f"{name}: {prompt}")}</div>'
        f"<figcaption>{text(name)}</figcaption></figure>"
        for name, pictures in columns
    )
    words = f'<p class="prompt" dir="auto">{text(prompt, PROMPT_CHARS)}</p>'
    return f'<article class="card pair">{words}<div class="moments">{drawn}</div></article>'


def _embedded(picture: Image.Image, alt: str) -> str:
    return embedded(Media(picture), MAX_SIDE, alt)


Level = Literal["unknown", "ok", "warn", "alarm"]


class Verdict(NamedTuple):
    """The worst level of all evaluations (unknown after one), what it means, and what was watched."""

    level: Level
    headline: str
    told: tuple[str, ...]


def verdict(run: TrainingRun) -> Verdict:
    """The verdict over the whole run."""
    levels = {one.level for one in run.evaluations}
    if "alarm" in levels:
        return Verdict("alarm", "Alarm: the reward may be gamed", (_alarmed(run), _watched(run)))
    if "warn" in levels:
        times = sum(one.level == "warn" for one in run.evaluations)
        told = (
            f"{count(times, 'evaluation')} of {len(run.evaluations)} gave reason to worry; none often enough"
        )
        return Verdict("warn", "Warnings, no alarm", (f"{told} in a row to raise the alarm.", _watched(run)))
    if len(run.evaluations) == 1:
        told = "There is one evaluation so far, and nothing to compare it with."
        return Verdict("unknown", "Nothing to judge yet", (told,))
    return Verdict("ok", "No sign that the reward is gamed", (_watched(run),))


def worries(run: TrainingRun) -> list[Evaluated]:
    """The evaluations that had a reason to warn or worse."""
    return [one for one in run.evaluations if one.reasons]


def ending(run: TrainingRun) -> str:
    """How the run ended, or that it has not."""
    planned = int(run.config["rounds"])
    if run.ended is not None:
        return f"Ended after {count(run.done, 'round')}: {run.ended['reason']}."
    return (
        f"Not finished: {run.done} of {planned} rounds are written. It is under way or was interrupted; "
        "`mmreward tune` with the same config goes on where it stopped."
    )


def stopped(run: TrainingRun) -> bool:
    """Whether the alarm ended the run, in which case the weights of the best evaluation were kept."""
    return run.ended is not None and str(run.ended["reason"]).startswith("stopped by the alarm")


def _alarmed(run: TrainingRun) -> str:
    first = next(one for one in run.evaluations if one.level == "alarm")
    raised = f"It was raised after {count(first.after, 'round')}"
    if not stopped(run):
        return f"{raised}, and the run was not stopped by it: look at the pictures before using the weights."
    kept = f" (after {count(run.best.after, 'round')})" if run.best is not None else ""
    return f"{raised} and stopped the run. The weights kept are those of the best evaluation{kept}."


def _watched(run: TrainingRun) -> str:
    """What the verdict rests on, and what it cannot see."""
    if run.held_out:
        names = ", ".join(run.held_out)
        held_out = f"Watched for a fall while the optimised reward rises: {names}, which nobody optimises."
    else:
        held_out = (
            "No reward was held out, so a reward that rises for nothing would not have been noticed; "
            "only the pictures' textures and diversity were watched."
        )
    alarm = run.config.get("alarm")
    if alarm is None:
        return (
            f"{held_out} The config sets no alarm: the default bounds were used, and could not stop the run."
        )
    if len(run.evaluations) <= int(alarm["baseline"]):
        held_out += (
            f" Textures and diversity were not judged yet: their baseline is the first {alarm['baseline']} "
            f"evaluations, and there are {len(run.evaluations)}."
        )
    return held_out


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
