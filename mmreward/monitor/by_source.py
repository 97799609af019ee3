"""Metrics of one training step, overall and by data source, under flat names for any logger; and their log on
disk.

A figure that could not be measured is absent, never NaN or 0, and no figure depends on the order of the rows.

Reflection words are those of V-Triune (arXiv:2505.18129), counted as words: counted as substrings, as there,
"await" and "yeti" would be reflection. The log has one JSON object per step and line; `mmreward report` draws
it.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ..errors import FINE, STATUSES
from ..types import Score
from .outcomes import UNKNOWN, Outcome

OVERALL = "overall"
SOURCES = "sources"
THRESHOLDS = (0.5, 0.75, 0.9, 0.95, 0.99)
PARTS = ("format", "gate", "extra")
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
    """Metrics of a step: everything of `measures` as "overall/NAME" and "sources/SOURCE/NAME" ("/" in a
    source becomes "_").

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
    """Figures of one block, by name.

    n, status/STATUS (counts), failed, unread (shares); score and its deviation score_std, accuracy, format,
    gate, extra; component/REWARD and component/REWARD/PART; iou/above_50 and so on (share of samples whose
    mean IoU reaches it); figure/NAME; length/..., prompt_length/..., reflection/..., flag/NAME (shares);
    chance, above_chance; false_positives, false_negatives (shares of responses that a person checked and
    found wrong, or right); groups/n, groups/zero_variance.
    """
    valid = [outcome for outcome in outcomes if outcome.total.ok]
    return {
        **_counts(outcomes),
        **_totals(valid),
        **_components(outcomes),
        **_figures(outcomes),
        **_lengths(outcomes, right_from, max_length),
        **_prompts(outcomes, max_prompt_length),
        **_reflection(valid, right_from),
        **_flags(outcomes),
        **_chance(valid),
        **_checked(valid, right_from),
        **_groups(valid),
    }


def mean(values: Iterable[float]) -> float:
    """The mean, the same in any order."""
    numbers = list(values)
    try:
        return math.fsum(numbers) / len(numbers)
    except OverflowError:  # their sum is no float, and their mean is
        return math.fsum(value / len(numbers) for value in numbers)


def _share(outcomes: Sequence[Outcome], holds: Callable[[Outcome], bool]) -> float:
    return mean(float(holds(outcome)) for outcome in outcomes)


def _counts(outcomes: Sequence[Outcome]) -> Metrics:
    counts = {f"status/{status}": 0.0 for status in STATUSES}
    for outcome in outcomes:
        counts[f"status/{outcome.total.status}"] += 1.0
    failed = _share(outcomes, lambda one: one.total.status not in FINE)
    unread = _share(outcomes, lambda one: one.unread)
    return {"n": float(len(outcomes)), **counts, "failed": failed, "unread": unread}


def _totals(valid: Sequence[Outcome]) -> Metrics:
    if not valid:
        return {}
    score = mean(one.total.value for one in valid)
    spread = math.sqrt(mean((one.total.value - score) ** 2 for one in valid))
    found = {"score": score, "score_std": spread, "accuracy": mean(one.accuracy for one in valid)}
    for name in PARTS:
        values = [
            one.total.parts[name] for one in valid if math.isfinite(one.total.parts.get(name, math.nan))
        ]
        if values:
            found[name] = mean(values)
    return found


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
    columns = {name: [one.figures[name] for one in outcomes if name in one.figures] for name in names}
    finite = {name: [value for value in values if math.isfinite(value)] for name, values in columns.items()}
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


def _checked(valid: Sequence[Outcome], right_from: float) -> Metrics:
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


# --- reflection ---------------------------------------------------------------------------------------------


WORDS = (
    "re-check",
    "re-evaluate",
    "re-examine",
    "re-think",
    "recheck",
    "reevaluate",
    "reexamine",
    "reevaluation",
    "rethink",
    "check again",
    "think again",
    "try again",
    "verify",
    "wait",
    "yet",
)
ANY = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, WORDS))})(?![\w-])", re.IGNORECASE)


def reflections(text: str) -> Counter[str]:
    """Counts of each of `WORDS` in a text, as words of their own; linear in its length."""
    return Counter(found.lower() for found in ANY.findall(text))


def reflection_ratios(counts: Sequence[Counter[str]], right: Sequence[bool]) -> dict[str, float]:
    """V-Triune's five reflection ratios, each from 0 to 1; a ratio over no responses is absent.

    Args:
        counts: of each response, see `reflections`.
        right: whether each response is.
    """
    reflect = [bool(count) for count in counts]
    pairs = list(zip(reflect, right, strict=True))
    shares = {
        "ratio": reflect,
        "ratio_in_right": [one for one, good in pairs if good],
        "ratio_in_wrong": [one for one, good in pairs if not good],
        "right_with": [good for one, good in pairs if one],
        "right_without": [good for one, good in pairs if not one],
    }
    return {name: fmean(selected) for name, selected in shares.items() if selected}


def reflection_words(counts: Sequence[Counter[str]]) -> dict[str, float]:
    """Mean occurrences per response of each of `WORDS`; empty without responses."""
    return {word: fmean(count[word] for count in counts) for word in WORDS} if counts else {}


# --- on disk ------------------------------------------------------------------------------------------------


STEP = "step"


def append_metrics(path: Path, step: int, metrics: Mapping[str, float]) -> None:
    """Append the metrics of a step; the folder is made. A value that is no number is left out, as JSON has
    none.

    A line that a killed run left unfinished is dropped first: joined with the new one it would be neither.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_unfinished(path)
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({STEP: step, **finite}) + "\n")


def _drop_unfinished(path: Path) -> None:
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb+") as lines:
        lines.seek(-1, os.SEEK_END)
        if lines.read() != b"\n":
            lines.seek(0)
            lines.truncate(lines.read().rfind(b"\n") + 1)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Metrics by step, the newest line where a resumed run wrote a step again; a cut-off last line is left
    out.

    Raises:
        ValueError: another line that is not one of metrics.
    """
    texts = path.read_text(encoding="utf-8").splitlines()
    steps: dict[float, dict[str, float]] = {}
    for number, text in enumerate(texts, start=1):
        line = _line(text)
        if line is None and number == len(texts):
            break
        if line is None:
            raise ValueError(f"{path}, line {number}: not an object with the number 'step' and other numbers")
        steps[line[STEP]] = line
    return [steps[step] for step in sorted(steps)]


def is_metrics_log(path: Path) -> bool:
    """True for a file that begins like one of `append_metrics`."""
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as lines:
        first = _line(next(lines, ""))
    return first is not None and any(name.startswith((f"{OVERALL}/", f"{SOURCES}/")) for name in first)


def _line(text: str) -> dict[str, float] | None:
    try:
        line: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or STEP not in line:
        return None
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in line.values()):
        return None
    return {name: float(value) for name, value in line.items()}
