"""The page of a training run: the alarm's verdict, rewards before and after, pictures, curves, settings.

Computes what templates/training.html shows. Pictures stand side by side for the same prompts and seeds.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from markupsafe import Markup
from PIL import Image

from mmreward.media import Media
from mmreward.monitor.intervals import Interval, Measured, paired_change
from mmreward.tune.journal import read_grid

from .charts import monitor_curves, reward_curves, round_times, training_curves
from .html import TEXT_CHARS, count, render, text
from .pictures import MAX_SIDE, embedded
from .training_run import Evaluated, TrainingRun, change, column

MOST_REASONS = 6
"""Evaluations whose reasons stand open, the newest first."""


def training_page(run: TrainingRun, limit: int) -> str:
    """One HTML document; `limit` prompts are shown with their pictures."""
    per_round = run.config.get("rollout", {})
    prompts = list(run.prompts[:limit])
    charts = (reward_curves(run), monitor_curves(run), training_curves(run))
    return render(
        "training.html",
        ("report.css", "training.css"),
        title=run.title,
        run=run,
        drawn=run.done * int(per_round.get("prompts", 0)) * int(per_round.get("group", 0)),
        spent=_duration(math.fsum(v for v in column(run.rounds, "seconds") if math.isfinite(v))),
        ending=_coded(ending(run)),
        verdict=verdict(run),
        worries=[one for one in reversed(run.evaluations) if one.reasons],
        most_reasons=MOST_REASONS,
        rewards=[_reward(run, name) for name in (*run.optimised, *run.held_out)],
        prompts=prompts,
        hidden=len(run.prompts) - len(prompts),
        pairs=_pairs(run) if prompts else None,
        embedded=lambda picture, alt: embedded(Media(picture), MAX_SIDE, alt),
        charts=[chart for chart in charts if chart.figures or chart.folded],
        time=round_times(run) if run.rounds else None,
        config=json.dumps(run.config, indent=1, ensure_ascii=False),
        settings=_settings,
        thousands="{:,}".format,
    )


def _reward(run: TrainingRun, name: str) -> dict[str, Any]:
    """A row of the table of rewards."""
    first, last = run.evaluations[0], run.evaluations[-1]
    before, after = run.measured(first, name), run.measured(last, name)
    moved = change(before, after) if last is not first else Measured(math.nan, math.nan, 0)
    return {
        "name": name,
        "role": "held out" if name in run.held_out else "optimised",
        "before": before,
        "best": run.measured(run.best, name) if run.best is not None else None,
        "after": after,
        "change": moved,
        "by_chance": _by_chance(moved.interval),
        "direction": _direction(run, name, moved.interval),
        "n": " to ".join(f"{n:,}" for n in sorted({before.n, after.n})),
    }


def _direction(run: TrainingRun, name: str, between: Interval | None) -> str:
    """ "better" or "worse" beyond chance, by the weight of an optimised reward; empty else."""
    if between is None or _by_chance(between):
        return ""
    wanted = math.copysign(1.0, _weights(run).get(name, 1.0))
    return "better" if between.low * wanted > 0 else "worse"


def _by_chance(between: Interval | None) -> bool:
    return between is not None and between.low <= 0 <= between.high


# --- before and after ---------------------------------------------------------------------------------------


class Pairs(NamedTuple):
    """The pictures of all prompts at each moment of the run, and why a moment has none."""

    moments: list[tuple[str, Sequence[Image.Image]]]
    troubles: list[str]


def _pairs(run: TrainingRun) -> Pairs:
    found = Pairs([], [])
    for name, one in _moments(run):
        try:
            found.moments.append((name, read_grid(run.folder, one.after, len(run.prompts))))
        except (OSError, Image.DecompressionBombError) as error:
            found.troubles.append(f"{name}: {error}")
    return found


def _moments(run: TrainingRun) -> list[tuple[str, Evaluated]]:
    """Before, at the best evaluation where that is another, and after."""
    first, last, best = run.evaluations[0], run.evaluations[-1], run.best
    moments = [("before", first)]
    if best is not None and best is not first and best is not last:
        moments.append((f"best, {count(best.after, 'round')}", best))
    return moments if last is first else [*moments, (f"after {count(last.after, 'round')}", last)]


# --- the verdict in words -----------------------------------------------------------------------------------

Level = Literal["unknown", "ok", "warn", "alarm"]


class RunVerdict(NamedTuple):
    """The worst level of all evaluations (unknown after one), as a headline, and what it rests on."""

    level: Level
    headline: str
    explained: tuple[str, ...]


def verdict(run: TrainingRun) -> RunVerdict:
    """The verdict over the whole run."""
    levels = {one.level for one in run.evaluations}
    if "alarm" in levels:
        return RunVerdict("alarm", "Alarm: the reward may be gamed", (_alarmed(run), _watched(run)))
    if "warn" in levels:
        times = sum(one.level == "warn" for one in run.evaluations)
        words = (
            f"{count(times, 'evaluation')} of {len(run.evaluations)} gave reason to worry; none often enough "
            "in a row to raise the alarm."
        )
        return RunVerdict("warn", "Warnings, no alarm", (words, _watched(run)))
    if len(run.evaluations) == 1:
        words = "There is one evaluation so far, and nothing to compare it with."
        return RunVerdict("unknown", "Nothing to judge yet", (words,))
    moved = _optimised_change(run)
    between = moved.interval
    if between is not None and between.high < 0:
        words = (
            f"Over the whole run it fell by {-moved.mean:.3g} (95 % over {moved.units:,} prompts: "
            f"{-between.high:.3g} to {-between.low:.3g}): the training did the opposite of what it is for. "
            "Try a smaller learning rate, and look whether rounds failed."
        )
        return RunVerdict("warn", "The optimised reward fell", (words, _watched(run)))
    if fallen := _fallen(run):
        words = "; ".join(f"{name} moved by {by.signed(3)}" for name, by in fallen.items())
        advice = (
            f"{words} (95 % over {moved.units:,} prompts), while the weighted sum moved by "
            f"{moved.signed(3)}: the training traded the one for the other. Give it more weight, or a gate."
        )
        headline = f"Optimised, and moved the wrong way: {', '.join(fallen)}"
        return RunVerdict("warn", headline, (advice, _watched(run)))
    if _by_chance(between):
        words = (
            f"No rise either: the optimised reward moved by {moved.signed(3)}, which "
            f"{count(moved.units, 'prompt')} cannot tell from chance."
        )
        return RunVerdict("ok", "No sign that the reward is gamed", (words, _watched(run)))
    return RunVerdict("ok", "No sign that the reward is gamed", (_watched(run),))


def _optimised_change(run: TrainingRun) -> Measured:
    """Change of the weighted sum of the optimised rewards from the first evaluation to the last."""
    weights = _weights(run)
    first, last = run.evaluations[0], run.evaluations[-1]
    before, after = (
        [
            math.fsum(weight * value for weight, value in zip(weights.values(), row, strict=True))
            for row in zip(*(run.measured(one, name).values for name in weights), strict=True)
        ]
        for one in (first, last)
    )
    prompts = next((run.measured(first, name).prompts for name in weights), ())
    return paired_change(before, after, prompts=prompts or None)


def _fallen(run: TrainingRun) -> dict[str, Measured]:
    """Optimised rewards that ended beyond chance where their weight did not want them, of several."""
    weights = _weights(run)
    first, last = run.evaluations[0], run.evaluations[-1]
    found = {}
    for name, weight in weights.items() if len(weights) > 1 else ():
        moved = change(run.measured(first, name), run.measured(last, name))
        between = moved.interval
        if between is not None and (between.high < 0 < weight or weight < 0 < between.low):
            found[name] = moved
    return found


def _weights(run: TrainingRun) -> dict[str, float]:
    """The weight of each optimised reward in the total; negative where it is wanted low."""
    given = run.config.get("weights") or {}
    return {name: float(given.get(name, 1.0)) for name in run.optimised}


def ending(run: TrainingRun) -> str:
    """The reason why the run ended, or that it has not."""
    planned = int(run.config["rounds"])
    if run.ended is not None:
        return f"Ended after {count(run.done, 'round')}: {run.ended['reason']}."
    return (
        f"Not finished: {run.done} of {planned} rounds are written. It is under way or was interrupted; "
        "`mmreward tune` with the same config goes on where it stopped."
    )


def stopped(run: TrainingRun) -> bool:
    """True when the alarm ended the run, in which case the weights of the best evaluation were kept."""
    return run.ended is not None and str(run.ended["reason"]).startswith("stopped by the alarm")


def _alarmed(run: TrainingRun) -> str:
    first = next(one for one in run.evaluations if one.level == "alarm")
    raised = f"It was raised after {count(first.after, 'round')}"
    if not stopped(run):
        return f"{raised}, and the run was not stopped by it: look at the pictures before using the weights."
    kept = f" (after {count(run.best.after, 'round')})" if run.best is not None else ""
    return f"{raised} and stopped the run. The weights kept are those of the best evaluation{kept}."


def _watched(run: TrainingRun) -> str:
    """The grounds of the verdict, and what it cannot see."""
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


# --- words --------------------------------------------------------------------------------------------------


def _settings(value: Any) -> str:
    """A mapping without what was left open, as NAME=VALUE; an empty one is "defaults"."""
    words = _nested(value)
    return (words[1:-1] if isinstance(value, Mapping) else words) or "defaults"


def _nested(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = (f"{key}={_nested(one)}" for key, one in value.items() if one is not None)
        return f"({', '.join(inner)})"
    return "none" if value is None else str(value)


def _duration(spent: float) -> tuple[str, str]:
    """A number and its unit."""
    whole = round(spent)
    if whole < 60:
        return f"{spent:.1f}", "s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}", "min"
    return f"{minutes // 60}:{minutes % 60:02d}", "h"


def _coded(words: str) -> Markup:
    """Text in which the words between backquotes are code."""
    pieces = text(words, TEXT_CHARS).split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(pieces))
