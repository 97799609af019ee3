"""Metrics of one training step, overall and by data source, under flat names for any logger.

What could not be measured is absent, never NaN or 0, and no figure depends on the order of the rows.
"""

import math
from collections.abc import Callable, Iterable, Sequence

from ..failures import STATUSES
from ..types import Score
from .outcomes import UNKNOWN, Outcome
from .reflection import reflection_ratios, reflection_words, reflections

OVERALL = "overall"
SOURCES = "sources"
THRESHOLDS = (0.5, 0.75, 0.9, 0.95, 0.99)
PAID = ("format", "gate", "extra")
"""Parts of a routed total beside its accuracy; whatever else a total has may be called as a metric is."""
TIED = 1e-6
"""Totals of a group that differ by less say nothing about which response is better."""
Metrics = dict[str, float]


def source_metrics(
    outcomes: Sequence[Outcome],
    *,
    right_from: float = 0.5,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
) -> Metrics:
    """Everything of `measures` as "overall/NAME" and "sources/SOURCE/NAME" ("/" in a source becomes "_").

    Args:
        outcomes: of one step, in any order.
        right_from: the accuracy from which a response counts as right.
        max_length: tokens at which a response is cut off; without it there are no clip ratios.
        max_prompt_length: the same of prompts.
    """
    blocks: dict[str, list[Outcome]] = {OVERALL: list(outcomes)} if outcomes else {}
    for outcome in sorted(outcomes, key=lambda one: one.source):
        name = (outcome.source or UNKNOWN).replace("/", "_")
        blocks.setdefault(f"{SOURCES}/{name}", []).append(outcome)
    return {
        f"{block}/{name}": value
        for block, members in blocks.items()
        for name, value in measures(members, right_from, max_length, max_prompt_length).items()
    }


def measures(
    outcomes: Sequence[Outcome], right_from: float, max_length: int | None, max_prompt_length: int | None
) -> Metrics:
    """The figures of one block, by name.

    n, status/STATUS (counts), failed, unread (shares); score and its deviation score_std, accuracy, format,
    gate, extra; component/REWARD and component/REWARD/PART; iou/above_50 and so on (share of samples whose
    mean IoU reaches it); figure/NAME; length/..., prompt_length/..., reflection/..., flag/NAME (shares);
    chance, above_chance; false_positives, false_negatives (shares of what is wrong, or right, by those who
    looked); groups/n, groups/zero_variance.
    """
    valid = [outcome for outcome in outcomes if outcome.total.ok]
    return {
        **_counts(outcomes),
        **_pay(valid),
        **_components(outcomes),
        **_figures(outcomes),
        **_lengths(outcomes, right_from, max_length),
        **_prompts(outcomes, max_prompt_length),
        **_reflection(valid, right_from),
        **_flags(outcomes),
        **_chance(valid),
        **_looked_at(valid, right_from),
        **_groups(valid),
    }


def mean(values: Iterable[float]) -> float:
    """The mean, the same in any order."""
    held = list(values)
    return math.fsum(held) / len(held)


def _share(outcomes: Sequence[Outcome], holds: Callable[[Outcome], bool]) -> float:
    return mean(float(holds(outcome)) for outcome in outcomes)


def _counts(outcomes: Sequence[Outcome]) -> Metrics:
    counts = {f"status/{status}": 0.0 for status in STATUSES}
    for outcome in outcomes:
        counts[f"status/{outcome.total.status}"] += 1.0
    failed = _share(outcomes, lambda one: one.total.status not in ("ok", "na"))
    unread = _share(outcomes, lambda one: one.unread)
    return {"n": float(len(outcomes)), **counts, "failed": failed, "unread": unread}


def _pay(valid: Sequence[Outcome]) -> Metrics:
    if not valid:
        return {}
    score = mean(one.total.value for one in valid)
    spread = math.sqrt(mean((one.total.value - score) ** 2 for one in valid))
    told = {"score": score, "score_std": spread, "accuracy": mean(one.accuracy for one in valid)}
    for name in PAID:
        values = [
            one.total.parts[name] for one in valid if math.isfinite(one.total.parts.get(name, math.nan))
        ]
        if values:
            told[name] = mean(values)
    return told


def _components(outcomes: Sequence[Outcome]) -> Metrics:
    """Means over the scores that worked."""
    columns: dict[str, list[Score]] = {}
    for outcome in outcomes:
        for name, score in outcome.scores.items():
            if score.ok:
                columns.setdefault(name, []).append(score)
    found: Metrics = {}
    overlaps: list[float] = []
    for name, scores in sorted(columns.items()):
        found[f"component/{name}"] = mean(score.value for score in scores)
        for part in sorted({part for score in scores for part in score.parts}):
            values = [score.parts[part] for score in scores if math.isfinite(score.parts.get(part, math.nan))]
            if values:
                found[f"component/{name}/{part}"] = mean(values)
            if part == "mean_iou":  # the same for every reward that looks at the same boxes
                overlaps = overlaps or values
    reached = {
        f"iou/above_{round(100 * t)}": mean(float(v >= t) for v in overlaps) for t in THRESHOLDS if overlaps
    }
    return found | reached


def _figures(outcomes: Sequence[Outcome]) -> Metrics:
    names = sorted({name for outcome in outcomes for name in outcome.figures})
    held = {name: [one.figures[name] for one in outcomes if name in one.figures] for name in names}
    finite = {name: [value for value in values if math.isfinite(value)] for name, values in held.items()}
    return {f"figure/{name}": mean(values) for name, values in finite.items() if values}


def _lengths(outcomes: Sequence[Outcome], right_from: float, limit: int | None) -> Metrics:
    """Of all responses, and of those with a score by whether they are right."""
    blocks: dict[str, list[float]] = {}
    for one in outcomes:
        if one.length is not None:
            blocks.setdefault("length", []).append(float(one.length))
            if one.total.ok:
                right = "length/right" if one.accuracy >= right_from else "length/wrong"
                blocks.setdefault(right, []).append(float(one.length))
    return {
        name: value
        for block, lengths in sorted(blocks.items())
        for name, value in _sizes(block, lengths, limit)
    }


def _prompts(outcomes: Sequence[Outcome], limit: int | None) -> Metrics:
    lengths = [float(one.prompt_length) for one in outcomes if one.prompt_length is not None]
    if not lengths:
        return {}
    ends = {"prompt_length/max": max(lengths), "prompt_length/min": min(lengths)}
    return dict(_sizes("prompt_length", lengths, limit)) | ends


def _sizes(block: str, lengths: Sequence[float], limit: int | None) -> list[tuple[str, float]]:
    clipped = [(f"{block}/clip_ratio", mean(float(n >= limit) for n in lengths))] if limit is not None else []
    return [(f"{block}/mean", mean(lengths)), *clipped]


def _reflection(valid: Sequence[Outcome], right_from: float) -> Metrics:
    counts = [reflections(one.response) for one in valid]
    ratios = reflection_ratios(counts, [one.accuracy >= right_from for one in valid])
    words = {f"word/{word}": value for word, value in reflection_words(counts).items()}
    return {f"reflection/{name}": value for name, value in {**ratios, **words}.items()}


def _flags(outcomes: Sequence[Outcome]) -> Metrics:
    names = sorted({flag for outcome in outcomes for flag in outcome.flags})
    return {f"flag/{name}": mean(float(name in one.flags) for one in outcomes) for name in names}


def _chance(valid: Sequence[Outcome]) -> Metrics:
    known = [(one.chance, one.accuracy) for one in valid if one.chance is not None]
    if not known:
        return {}
    blind = mean(chance for chance, _ in known)
    return {"chance": blind, "above_chance": mean(accuracy for _, accuracy in known) - blind}


def _looked_at(valid: Sequence[Outcome], right_from: float) -> Metrics:
    wrong = [one for one in valid if one.truth is False]
    right = [one for one in valid if one.truth is True]
    found: Metrics = {}
    if wrong:
        found["false_positives"] = _share(wrong, lambda one: one.accuracy >= right_from)
    if right:
        found["false_negatives"] = _share(right, lambda one: one.accuracy < right_from)
    return found


def _groups(valid: Sequence[Outcome]) -> Metrics:
    """Groups with at least two scores; those without variance teach nothing."""
    groups: dict[tuple[str, str], list[float]] = {}
    for one in valid:
        if one.group is not None:
            groups.setdefault((one.source, one.group), []).append(one.total.value)
    spreads = [max(values) - min(values) for values in groups.values() if len(values) > 1]
    if not spreads:
        return {}
    return {"groups/n": float(len(spreads)), "groups/zero_variance": mean(float(s < TIED) for s in spreads)}
