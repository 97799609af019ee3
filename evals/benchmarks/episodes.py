"""Alignment of a reward with episodes of any kind: order in time, order by quality, policies, success.

Labels are JSONL, a row for each episode:

    {"id": "bridge/123", "task": "put the spoon in the bowl", "quality": "suboptimal", "policy": "a",
     "cluster": "sha256:ab12", "frames": ["123/0.png", "123/1.png"]}

`quality` (failure, suboptimal, successful), `progress` (0 to 1) or `success` (true, false) is the label;
`policy`, `cluster` and, for rewards, `frames` or `video` may be left out. Success is the best quality, a
progress of 1, or true.

A prediction is `progress`, the curve of an episode with null where a look failed, or `value`, its last value
alone; `success`, a probability; and `reversed`, the curve of the clip played backwards. Values are from 0 to
1, or of the `unit` that the prediction names: "percent", or "raw" for any numbers, which have no thresholds.

VOC is Spearman's rho of value and time (GVL, arXiv:2411.04549): it knows order alone, and a judge that pays
failures a full ramp has a fine one, so it stands here beside the same of failures, and what crosses episodes.
The unit is the episode (`cluster`); of what compares the episodes of a task it is the task.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmreward.data.records import records_of
from mmreward.data.texts import Skipped
from mmreward.errors import Unscorable
from mmreward.registry import Reward
from mmreward.rewards.robot.values import covered, voc
from mmreward.types import Score

from .benchmark import COPY, VALID, Answers, Benchmark, Cells, Columns, Item, Rule, Table
from .figures import (
    Array,
    auprc,
    auroc,
    brier,
    codes,
    cohen_d,
    detection,
    ece,
    false_positives_at,
    mean,
    mean_of_known,
    pairwise,
    shares_at,
    tau_a,
    tau_b,
    within_strata,
)
from .predictions import normal, number_in

QUALITIES = {"failure": 0.0, "suboptimal": 0.5, "successful": 1.0}
UNITS = {"fraction": 1.0, "percent": 100.0, "raw": math.nan}
"""The largest value of each unit."""
LEAST = 0.8
"""Share of a curve that must be known for its order to count."""
LOOKS = 8
"""Places of an episode at which a reward is asked, the last frame among them."""
SUSPECT = 0.5
"""VOC of failures from which it is said that it is high."""
FRAME = re.compile(r"frame_\d+")
"""The part of a score that is the value at a frame of this number."""
MANY = 1 << 20
"""Above the number of tasks; a task of another draw has another number."""


class Curved(NamedTuple):
    """Curve of an episode (NaN where unknown), its last value, and a probability of success if there is one;
    `share` is True where values are from 0 to 1."""

    curve: tuple[float, ...]
    final: float
    success: float
    backwards: tuple[float, ...]
    share: bool


# --- labels -------------------------------------------------------------------------------------------------


def read(path: Path) -> list[Item]:
    """The episodes of a file.

    Raises:
        ValueError: a row without its fields, or an id twice.
    """
    items: dict[str, Item] = {}
    for number, record in enumerate(records_of(path, Skipped(), {}), start=1):
        if isinstance(record, ValueError):
            raise record
        item = _item(record, f"{path}, row {number}")
        if item.id in items:
            raise ValueError(f"{path}, row {number}: the id {item.id!r} is used twice")
        items[item.id] = item
    return list(items.values())


def _item(record: Any, where: str) -> Item:
    if not isinstance(record, Mapping) or record.get("id") is None:
        raise ValueError(f"{where} is no object with an id")
    task = record.get("task")
    if not isinstance(task, str) or not task.strip():
        raise ValueError(f"{where}: task is {task!r}, not a text")
    name = normal(record["id"])
    facts = {
        "task": task,
        "policy": record.get("policy"),
        "frames": record.get("frames"),
        "video": record.get("video"),
    }
    return Item(id=name, gold=_gold(record, where), unit=record.get("cluster") or name, facts=facts)


def _gold(record: Mapping[str, Any], where: str) -> float:
    if (quality := record.get("quality")) is not None:
        if quality not in QUALITIES:
            raise ValueError(f"{where}: quality is {quality!r}, not one of {', '.join(QUALITIES)}")
        return QUALITIES[quality]
    if (progress := record.get("progress")) is not None:
        if isinstance(progress, bool) or not isinstance(progress, int | float) or not 0 <= progress <= 1:
            raise ValueError(f"{where}: progress is {progress!r}, not from 0 to 1")
        return float(progress)
    success = record.get("success")
    if not isinstance(success, bool):
        raise ValueError(f"{where} has no quality, progress or success (true or false)")
    return float(success)


# --- answers ------------------------------------------------------------------------------------------------


def answer(record: Mapping[str, Any], item: Item) -> Curved:
    """The answer in a prediction; see the module."""
    unit = record.get("unit", "fraction")
    if unit not in UNITS:
        raise Unscorable(f"unit is {unit!r}, not one of {', '.join(UNITS)}", "unparsable")
    curve = _curve(record, "progress", UNITS[unit])
    backwards = _curve(record, "reversed", UNITS[unit])
    success = _success(record)
    known = [one for one in curve if not math.isnan(one)]
    if _has(record, "value"):
        final = _scaled(number_in(record, "value"), UNITS[unit], "value")
    elif known:
        final = known[-1]
    else:
        raise Unscorable("the prediction has no progress with a known value, and no value", "missing")
    return Curved(curve, final, success, backwards, unit != "raw")


def _success(record: Mapping[str, Any]) -> float:
    given = record.get("success")
    if given is None or isinstance(given, bool):
        return math.nan if given is None else float(given)
    return _scaled(number_in(record, "success"), 1.0, "success")


def _has(record: Mapping[str, Any], key: str) -> bool:
    return record.get(key) is not None


def _curve(record: Mapping[str, Any], key: str, most: float) -> tuple[float, ...]:
    given = record.get(key)
    if given is None:
        return ()
    if not isinstance(given, list | tuple):
        raise Unscorable(f"{key} is {type(given).__name__}, not a list", "unparsable")
    return tuple(math.nan if one is None else _scaled(number_in({key: one}, key), most, key) for one in given)


def _scaled(value: float, most: float, what: str) -> float:
    """The value as a share of the most there can be.

    Raises:
        Unscorable: it lies outside; its unit is never taken from its size.
    """
    if math.isnan(most):
        return value
    if not 0 <= value <= most:
        raise Unscorable(f"{what} has {value:g}, outside 0 to {most:g}: say its unit", "out_of_range")
    return value / most


def rows(item: Item, reward: Reward) -> list[dict[str, Any]]:
    """What a reward is given: a reward of episodes the whole of it; others the pictures at `LOOKS` places, or
    the clips that end there, and a video whole."""
    prompt, frames = item.facts.get("prompt", item.facts["task"]), item.facts["frames"]
    whole = "episode" in reward.info.needs
    if isinstance(frames, list | tuple) and frames and whole:
        return [{"prompt": prompt, "steps": [{"observation": frame} for frame in frames]}]
    if isinstance(frames, list | tuple) and frames:
        ends = sorted({round(one) for one in np.linspace(0, len(frames) - 1, min(LOOKS, len(frames)))})
        if "video" in reward.info.needs:
            return [{"prompt": prompt, "video": list(frames[: end + 1])} for end in ends]
        return [{"prompt": prompt, "image": frames[end]} for end in ends]
    if item.facts["video"]:
        return [{"prompt": prompt, "video": item.facts["video"]}]
    raise ValueError(f"episode {item.id!r} has no frames and no video for a reward to look at")


def scored(item: Item, scores: Sequence[Score], reward: Reward) -> Curved:
    """The answer of a reward: its values in the direction of better, as shares of its range if that ends.

    Of a whole episode in one score, the curve is what `parts` has as `frame_N`, and the last value `progress`
    or `last`, shares both, where it has them; `success` is the probability of success.
    """
    parts = scores[-1].parts
    frames = sorted((int(name[6:]), value) for name, value in parts.items() if FRAME.fullmatch(name))
    final = parts.get("progress", parts.get("last"))
    success = parts.get("success", math.nan)
    if final is not None:
        return Curved(tuple(value for _, value in frames), final, success, (), True)
    low, high = reward.info.range
    share = math.isfinite(low) and math.isfinite(high)
    sign = 1.0 if reward.info.higher_is_better else -1.0
    values = [sign * one.value for one in scores]
    curve = [sign * value for _, value in frames] or values
    if share:
        start = low if sign > 0 else -high
        values, curve = (
            [min(1.0, max(0.0, (value - start) / (high - low))) for value in column]
            for column in (values, curve)
        )
    return Curved(tuple(curve), values[-1], success, (), share)


# --- columns ------------------------------------------------------------------------------------------------


def order_of(curve: Sequence[float]) -> float:
    """VOC of a curve; NaN where it is undefined or too little of it is known."""
    known = [None if math.isnan(one) else one for one in curve]
    found = voc(known) if covered(known) >= LEAST else None
    return math.nan if found is None else found


def columns(items: Sequence[Item], answers: Sequence[Curved | None]) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays for the rules; where there is no answer, a success is at the bottom and a failure at the top."""
    gold = np.array([item.gold for item in items])
    success = (gold == 1).astype(np.float64)
    there = np.array([one is not None for one in answers])
    empty = Curved((), math.nan, math.nan, (), True)
    given = [empty if one is None else one for one in answers]
    final = np.array([one.final for one in given])
    chance = np.array([one.success if not math.isnan(one.success) else one.final for one in given])
    # A probability of success goes before a last value, which may be raw.
    is_share = np.array([one.share or not math.isnan(one.success) for one in given])
    low, high = (min(0.0, np.nanmin(final)), max(1.0, np.nanmax(final))) if there.any() else (0.0, 1.0)
    order = np.array([order_of(one.curve) for one in given])
    has_curve = np.array([len(one.curve) > 0 for one in given])
    won, lost = there & has_curve & (success == 1), there & has_curve & (success == 0)
    curves = has_curve.any()
    tasks = [item.facts["task"] for item in items]
    policies = [item.facts["policy"] for item in items]
    policy = np.where([one is not None for one in policies], codes(policies), -1)
    shaped = np.where(won, [_fall(one.curve) for one in given], math.nan)
    invalid_won = ~there & (success == 1) & curves
    return {
        "gold": gold,
        "success": success,
        "final": np.where(there, final, np.where(gold >= 0.5, low, high)),
        "ranked": np.where(there, chance, np.where(success == 1, -math.inf, math.inf)),
        "chance": np.where(there, np.where(is_share, chance, math.nan), 1 - success),
        "error": np.where(
            there, np.where([one.share for one in given], np.abs(final - gold), math.nan),
            np.maximum(gold, 1 - gold),
        ),
        "voc": np.where(won, order, np.where(invalid_won, -1.0, math.nan)),
        "voc0": np.where(won, np.nan_to_num(order), np.where(invalid_won, -1.0, math.nan)),
        "voc failure": np.where(lost, order, math.nan),
        "voc reversed": np.where(
            there & (success == 1), [-order_of(one.backwards) for one in given], math.nan
        ),
        "undefined": np.where(there & has_curve, np.isnan(order), math.nan),
        "fall": shaped,
        "drawdown": np.where(won, [_drawdown(one.curve) for one in given], math.nan),
        "task": codes(tasks),
        "policy": policy,
    }  # fmt: skip


def _fall(curve: Sequence[float]) -> float:
    known = np.array([one for one in curve if not math.isnan(one)])
    return float(np.maximum(0.0, -np.diff(known)).mean()) if len(known) > 1 else math.nan


def _drawdown(curve: Sequence[float]) -> float:
    known = np.array([one for one in curve if not math.isnan(one)])
    return float((np.maximum.accumulate(known) - known).max()) if len(known) > 1 else math.nan


def _by_task(figure: Any) -> Any:
    def of(columns: Columns) -> float:
        return within_strata(
            figure, columns["ranked"], columns["gold"], columns[COPY] * MANY + columns["task"]
        )

    return of


def _pairs(place: int) -> Any:
    """The rule of the share of pairs of a task that are right (0) or tied (1)."""

    def of(columns: Columns) -> float:
        strata = columns[COPY] * MANY + columns["task"]
        order = np.argsort(strata, kind="stable")
        edges = np.flatnonzero(np.diff(strata[order])) + 1
        found = [pairwise(columns["ranked"][own], columns["gold"][own]) for own in np.split(order, edges)]
        compared = sum(one[2] for one in found)
        return float(sum(one[place] for one in found)) / compared if compared else math.nan

    return of


def _policies(columns: Columns) -> tuple[Array, Array]:
    """Mean last value and mean label of each policy."""
    named = columns["policy"] >= 0
    policy = columns["policy"][named]
    sizes = np.bincount(policy)
    there = sizes > 0
    value, gold = (
        np.bincount(policy, weights=columns[name][named])[there] / sizes[there] for name in ("final", "gold")
    )
    return value, gold


def _policy_tau(columns: Columns) -> float:
    return tau_b(*_policies(columns))


def _policy_pairs(columns: Columns) -> float:
    right, _, compared = pairwise(*_policies(columns))
    return right / compared if compared else math.nan


def _gap(columns: Columns) -> float:
    value, won = columns["final"], columns["success"]
    return mean_of_known(value[won == 1]) - mean_of_known(value[won == 0])


def _hacked(columns: Columns) -> float:
    known = ~np.isnan(columns["chance"])
    paid = (columns["chance"] >= 0.5) & (columns["success"] == 0)
    return float(paid[known].mean()) if known.any() else math.nan


PRECISION, RECALL, FALSE = shares_at(0.5)


def _detected(name: str, words: str, figure: Any, score: str = "chance", better: bool | None = True) -> Rule:
    return Rule(name=name, words=words, of=detection(figure, score, "success"), higher_is_better=better)


RULES = (
    Rule(name="voc", words="order of values in time, successes, undefined ones dropped", of=mean("voc")),
    Rule(name="voc, null = 0", words="the same, an undefined one is 0", of=mean("voc0")),
    Rule(name="voc of failures", words="the same of failures: as high as of successes, it knows no failure",
         of=mean("voc failure"), worst=False, higher_is_better=None),
    Rule(name="voc reversed", words="of successes played backwards, sign turned", of=mean("voc reversed"),
         worst=False),
    Rule(name="voc undefined", words="curves without an order: constant, too short or too little known",
         of=mean("undefined"), worst=False, higher_is_better=False),
    Rule(name="fall", words="mean loss from look to look, successes", of=mean("fall"), worst=False,
         higher_is_better=False),
    Rule(name="drawdown", words="largest loss from a height, successes", of=mean("drawdown"), worst=False,
         higher_is_better=False),
    Rule(name="tau-b by task", words="Kendall's, of value and label within a task, mean over tasks",
         of=_by_task(tau_b), unit="task"),
    Rule(name="tau-a by task", words="the same without its ties, as Robometer computes what it calls tau-b",
         of=_by_task(tau_a), unit="task", legacy=True),
    Rule(name="pairs by task", words="pairs of a task ordered as the labels do, a tie is a half",
         of=_pairs(0), unit="task"),
    Rule(name="pairs tied", words="pairs of a task with one value", of=_pairs(1), unit="task",
         worst=False, higher_is_better=False),
    Rule(name="policies tau-b", words="Kendall's, of mean value and mean label of each policy",
         of=_policy_tau, unit="task"),
    Rule(name="policies paired", words="pairs of policies ordered as their labels", of=_policy_pairs,
         unit="task"),
    Rule(name="mae", words="distance of the last value from the label", of=mean("error"),
         higher_is_better=False),
    _detected("success AUPRC", "average precision for successes; chance is their share", auprc, "ranked"),
    _detected("success AUROC", "of a success and a failure, the success is above", auroc, "ranked"),
    _detected("fpr@95tpr", "failures above the value that 95 % of the successes reach",
              false_positives_at(0.95), "ranked", False),
    _detected("precision@0.5", "successes among those from 0.5 up", PRECISION),
    _detected("recall@0.5", "successes from 0.5 up", RECALL),
    _detected("fpr@0.5", "failures from 0.5 up", FALSE, better=False),
    Rule(name="hacked", words="episodes that fail and are paid 0.5 or more", of=_hacked,
         higher_is_better=False),
    _detected("brier", "squared error of the probability of success", brier, better=False),
    _detected("ece", "distance of probability and share of successes, ten bins of equal number", ece,
              better=False),
    Rule(name="gap", words="mean last value of successes less that of failures", of=_gap),
    Rule(name="cohen d", words="the same in pooled standard deviations",
         of=detection(cohen_d, "final", "success")),
)  # fmt: skip


def cautions(items: Sequence[Item], answers: Answers) -> list[str]:
    """What to mind: an order that failures have too, and classes that are not there."""
    found = []
    fails = [item for item in items if item.gold < 1]
    if len(fails) in (0, len(items)):
        found.append(f"all are {'failures' if fails else 'successes'}: what compares the two is undefined")
    curves = [answers.valid[item.id].curve for item in fails if item.id in answers.valid]
    order = mean_of_known(np.array([order_of(one) for one in curves], dtype=np.float64))
    if order >= SUSPECT:
        found.append(f"VOC of failures is {order:.3g}: the order in time says nothing of success here")
    return found


def tables(items: Sequence[Item], columns: Columns) -> list[Table]:
    """False positives by task, the worst first."""
    rows: list[Cells] = []
    for task in dict.fromkeys(item.facts["task"] for item in items):
        own = np.array([item.facts["task"] == task for item in items]) & columns[VALID]
        scores, won = columns["ranked"][own], columns["success"][own]
        chance = columns["chance"][own]
        false = FALSE(chance, won) if not np.isnan(chance).any() else math.nan
        rows.append((task, int(own.sum()), int(won.sum()), false, auroc(scores, won)))
    rows.sort(key=lambda row: 1.0 if math.isnan(float(row[3])) else -float(row[3]))
    return [Table("by task", ("task", "answered", "successes", "fpr@0.5", "success AUROC"), rows)]


BENCHMARK = Benchmark(
    name="robot-episodes",
    summary="order in time, tau-b, policy ranking, false positives and success AUPRC of episodes of your own",
    paper="arXiv:2411.04549",
    unit="episode",
    labels="a .jsonl file of episodes with quality, progress or success",
    read=read,
    answer=answer,
    columns=columns,
    rules=RULES,
    keys=("id", "episode_id"),
    rows=rows,
    scored=scored,
    cautions=cautions,
    tables=tables,
)
