"""RoboRewardBench (arXiv:2601.00675): end-of-episode progress of robot clips, labels 1 to 5.

Labels are the `metadata.jsonl` of the test split of teetone/RoboReward, 2,831 rows of 23 subsets:
`file_name` ("SUBSET/EPISODE.mp4"), `task`, `reward`. Rows are not independent, since counterfactual rows keep
the bytes of a clip and change its task: the unit is the SHA-256 of the clip, where the clips lie beside the
labels, or a column `cluster` that holds it.

A prediction says `parsed` ({"kind": "label15" or "progress", "value": ...}), or `label` (1 to 5), `progress`
(0 to 1), `score_distribution` (probabilities by label) or `raw_text` ("ANSWER: 4"); the first that is there
counts, and nothing is taken for a scale by its size. Progress becomes a label by the cuts 0.125, 0.375, 0.625
and 0.875, each of the upper cell.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmreward.data.records import records_of
from mmreward.data.texts import Skipped
from mmreward.errors import Unscorable
from mmreward.judges.calibration import weighted_kappa
from mmreward.registry import Reward
from mmreward.rewards.robot.roboreward import CUTS, label_of, read_label
from mmreward.types import Score

from .benchmark import VALID, Answers, Benchmark, Cells, Columns, Item, Rule, Table
from .figures import (
    Array,
    auprc,
    auroc,
    codes,
    detection,
    false_positives_at,
    macro,
    mean,
    mean_of_known,
    tau_b,
)
from .predictions import normal, number_in, within

ROWS, SUBSETS = 2831, 23
"""Of the published test split."""
LABELS = (1, 2, 3, 4, 5)
LEAST_MASS = 0.5
"""Probability that must lie on the labels for an expectation over them."""


class Mark(NamedTuple):
    """A label, and the same before it was rounded, from 1 to 5; `progress` where that is what was said."""

    label: int
    value: float
    progress: float | None = None


# --- labels -------------------------------------------------------------------------------------------------


def read(path: Path) -> list[Item]:
    """The rows of metadata.jsonl, or of the folder it lies in.

    Raises:
        ValueError: no such file, a row without its fields, a label that is none, or a name twice.
    """
    file = path / "metadata.jsonl" if path.is_dir() else path
    if not file.exists():
        raise ValueError(f"{path} has no metadata.jsonl: give the folder of the split, or the file")
    items: dict[str, Item] = {}
    for number, record in enumerate(records_of(file, Skipped(), {}), start=1):
        if isinstance(record, ValueError):
            raise record
        item = _item(record, f"{file}, row {number}", file.parent)
        if item.id in items:
            raise ValueError(f"{file}, row {number}: {item.id!r} is named twice")
        items[item.id] = item
    return list(items.values())


def _item(record: Any, where: str, root: Path) -> Item:
    if not isinstance(record, Mapping):
        raise ValueError(f"{where} is no object")
    name, task, label = record.get("file_name"), record.get("task"), record.get("reward")
    if not isinstance(name, str) or not isinstance(task, str) or "/" not in normal(name):
        raise ValueError(f"{where}: file_name is SUBSET/EPISODE.mp4 and task a text, not {name!r}, {task!r}")
    if isinstance(label, bool) or label not in LABELS:
        raise ValueError(f"{where}: reward is {label!r}; a label is 1 to 5")
    clip, cluster = root / normal(name), record.get("cluster")
    known = cluster or (_digest(clip) if clip.is_file() else None)
    facts = {"subset": normal(name).split("/")[0], "task": task, "clip": known is not None}
    return Item(id=normal(name), gold=int(label), unit=known or normal(name), facts=facts)


def _digest(clip: Path) -> str:
    with clip.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- answers ------------------------------------------------------------------------------------------------


def answer(record: Mapping[str, Any], item: Item) -> Mark:
    """The answer in a prediction; see the module."""
    parsed = record.get("parsed")
    if parsed is not None:
        kind = parsed.get("kind") if isinstance(parsed, Mapping) else None
        if kind not in ("label15", "progress"):
            raise Unscorable(f"parsed is of the kind {kind!r}, not label15 or progress", "unparsable")
        value = number_in(parsed, "value")
        return of_label(value) if kind == "label15" else of_progress(value)
    if record.get("label") is not None:
        return of_label(number_in(record, "label"))
    if record.get("progress") is not None:
        return of_progress(number_in(record, "progress"))
    if record.get("score_distribution") is not None:
        return of_distribution(record["score_distribution"])
    if record.get("raw_text") is not None:
        return of_label(read_label(record["raw_text"]).value)
    raise Unscorable(
        "the prediction has no parsed, label, progress, score_distribution or raw_text", "missing"
    )


def of_label(value: float) -> Mark:
    """The answer of a label.

    Raises:
        Unscorable: it is no whole number from 1 to 5.
    """
    if value != int(value):
        raise Unscorable(f"the label is {value:g}, not a whole number", "unparsable")
    return Mark(int(within(value, 1, 5, "the label")), value)


def of_progress(value: float) -> Mark:
    """The answer of a progress from 0 to 1.

    >>> [of_progress(one).label for one in (0, 0.124, 0.125, 0.375, 0.625, 0.875, 1)]
    [1, 1, 2, 3, 4, 5, 5]

    Raises:
        Unscorable: it lies outside.
    """
    within(value, 0, 1, "progress")
    return Mark(label_of(value), 1 + 4 * value, value)


def of_distribution(given: Any) -> Mark:
    """The expected label under probabilities by label, of which half at least must lie on labels.

    Raises:
        Unscorable: no probabilities, or too little on the labels.
    """
    if not isinstance(given, Mapping):
        raise Unscorable("score_distribution is no object of probabilities by label", "unparsable")
    shares = {
        label: within(number_in(given, str(label)), 0, 1, f"the probability of {label}")
        for label in LABELS
        if given.get(str(label)) is not None
    }
    mass = sum(shares.values())
    if not LEAST_MASS <= mass <= 1 + 1e-6:
        raise Unscorable(
            f"the labels have a probability of {mass:.3g} together, not of {LEAST_MASS} to 1", "out_of_range"
        )
    return of_progress((sum(label * share for label, share in shares.items()) / mass - 1) / 4)


def rows(item: Item, reward: Reward) -> list[dict[str, Any]]:
    """The clip and what was to be done."""
    return [{"prompt": item.facts["task"], "video": item.id, "source": item.facts["subset"]}]


def scored(item: Item, scores: Sequence[Score], reward: Reward) -> Mark:
    """The answer of a reward: its part `progress` where it has one, else its value as the share of its
    range."""
    (score,) = scores
    if "progress" in score.parts:
        return of_progress(score.parts["progress"])
    low, high = reward.info.range
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"{reward.info.name} has no finite range, so its values are no progress from 0 to 1: give it a "
            "scale (see `mmreward show`)"
        )
    share = min(1.0, max(0.0, (score.value - low) / (high - low)))
    return of_progress(share if reward.info.higher_is_better else 1 - share)


# --- columns ------------------------------------------------------------------------------------------------


def columns(items: Sequence[Item], answers: Sequence[Mark | None]) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays for the rules; where there is no answer, the label that is furthest off."""
    gold = np.array([item.gold for item in items], dtype=np.float64)
    furthest = np.where(gold >= 3, 1.0, 5.0)
    there = np.array([one is not None for one in answers])
    label = np.array([math.nan if one is None else one.label for one in answers], dtype=np.float64)
    value = np.array([math.nan if one is None else one.value for one in answers], dtype=np.float64)
    progress = np.array(
        [math.nan if one is None or one.progress is None else one.progress for one in answers],
        dtype=np.float64,
    )
    low = np.array([0.0, *CUTS])[gold.astype(int) - 1]
    high = np.array([*CUTS, 1.0])[gold.astype(int) - 1]
    p = (value - 1) / 4
    outside = 4 * np.maximum(0.0, np.maximum(low - p, p - high))
    full = np.where(there, label, furthest)
    error, worst = np.abs(full - gold), np.abs(furthest - gold)
    peer = np.where(there, np.where(np.isnan(progress), label, np.round(progress * 4) + 1), 1.0)
    success = (gold == 5).astype(np.float64)
    return {
        "gold": gold,
        "label": full,
        "error": error,
        "distance": np.where(there, np.abs(value - gold), worst),
        "outside": np.where(there, outside, worst),
        "signed": np.where(there, label - gold, math.nan),
        "exact": (error == 0).astype(np.float64),
        "near": (error <= 1).astype(np.float64),
        # No label of 5 can be exceeded: for an invalid answer the worst is to have paid too much.
        "over": np.where(there, label > gold, gold < 5).astype(np.float64),
        "false success": np.where(success == 1, math.nan, np.where(there, label == 5, True)),
        "peer error": np.abs(peer - gold),
        "ranked": np.where(there, value, np.where(success == 1, -math.inf, math.inf)),
        "value": np.where(there, value, furthest),
        "success": success,
        "subset": codes([item.facts["subset"] for item in items]),
        "gold code": gold.astype(np.int64),
    }


def _kappa(columns: Columns) -> float:
    return float(weighted_kappa(columns["label"], columns["gold"]))


def _tau(columns: Columns) -> float:
    return tau_b(columns["value"], columns["gold"])


def down(name: str, words: str, of: Any, **more: Any) -> Rule:
    """A rule in which lower is better."""
    return Rule(name=name, words=words, of=of, higher_is_better=False, **more)


RULES = (
    down("mae/macro", "mean distance of labels, mean over subsets; the headline", macro("error", "subset")),
    down("mae/micro", "mean distance of labels, every row alike", mean("error")),
    down("mae/labels", "mean distance of labels, mean over the true labels", macro("error", "gold code")),
    down("mae/continuous", "mean distance before rounding, in labels", mean("distance")),
    down("mae/interval", "mean distance from the true label's cell, in labels", mean("outside")),
    down("mae/progress", "mae/micro as progress from 0 to 1", lambda c: float(c["error"].mean() / 4)),
    down("mae/robometer", "mean over subsets, invalid is label 1, progress rounded half to even",
         macro("peer error", "subset"), legacy=True, worst=False, every=True),
    Rule(name="accuracy", words="labels that are right", of=mean("exact")),
    Rule(name="within 1", words="labels at most one off", of=mean("near")),
    Rule(name="bias", words="mean label less mean true label; above 0 it pays too much", of=mean("signed"),
         worst=False, higher_is_better=None),
    down("over", "labels above the true one", mean("over")),
    Rule(name="kappa", words="quadratically weighted", of=_kappa),
    Rule(name="tau-b", words="Kendall's, of value and true label", of=_tau),
    down("false success", "failures (labels 1 to 4) that are given a 5", mean("false success")),
    Rule(name="success AUPRC", words="average precision for labels of 5; chance is their share",
         of=detection(auprc, "ranked", "success")),
    Rule(name="success AUROC", words="of a success and a failure, the success is above",
         of=detection(auroc, "ranked", "success")),
    down("fpr@95tpr", "failures above the value that 95 % of the successes reach",
         detection(false_positives_at(0.95), "ranked", "success")),
)  # fmt: skip


def cautions(items: Sequence[Item], answers: Answers) -> list[str]:
    """What to mind before the figures are set beside the official table."""
    found = []
    subsets = len({item.facts["subset"] for item in items})
    if (len(items), subsets) != (ROWS, SUBSETS):
        found.append(f"{len(items)} rows of {subsets} subsets; {ROWS} of {SUBSETS} are published")
    if len(answers.valid) < len(items):
        found.append("not comparable with the official table, which has a valid answer for every row")
    if lost := sum(not item.facts["clip"] for item in items):
        found.append(f"{lost} clips are not beside the labels: rows that share one are taken for independent")
    return found


def tables(items: Sequence[Item], columns: Columns) -> list[Table]:
    """Confusion of labels, the error by subset, and what predictions without eyes would get."""
    gold, label, valid = columns["gold"], columns["label"], columns[VALID]
    confusion: list[Cells] = [
        (str(true), *(int(((gold == true) & (label == said) & valid).sum()) for said in LABELS),
         int(((gold == true) & ~valid).sum()))
        for true in LABELS
    ]  # fmt: skip
    names = [item.facts["subset"] for item in items]
    by_subset: list[Cells] = [
        (name, int(own.sum()), float(columns["error"][own].mean()), mean_of_known(columns["signed"][own]))
        for name in sorted(set(names))
        for own in [np.array([one == name for one in names])]
    ]
    counts = np.array([(gold == one).sum() for one in LABELS])
    majority, median = LABELS[int(counts.argmax())], float(np.median(gold))
    constants: list[tuple[str, Array]] = [
        (f"always {majority}, the commonest label", np.full(len(gold), float(majority))),
        (f"always {median:g}, the median label", np.full(len(gold), median)),
    ]
    blind: list[Cells] = [
        (words, float(np.abs(said - gold).mean()), float((said == gold).mean())) for words, said in constants
    ]
    chance = float(np.mean([np.abs(one - gold).mean() for one in LABELS]))
    blind.append(("a label by chance", chance, 1 / len(LABELS)))
    return [
        Table("confusion", ("true label", *map(str, LABELS), "invalid"), confusion),
        Table("by subset", ("subset", "rows", "mae", "bias"), by_subset),
        Table("without eyes", ("prediction", "mae/micro", "accuracy"), blind),
    ]


BENCHMARK = Benchmark(
    name="roborewardbench",
    summary="end-of-episode progress of robot clips, 1 to 5",
    paper="arXiv:2601.00675",
    unit="clip",
    labels="metadata.jsonl of the test split of teetone/RoboReward, or its folder",
    read=read,
    answer=answer,
    columns=columns,
    rules=RULES,
    keys=("id", "file_name", "video"),
    rows=rows,
    scored=scored,
    cautions=cautions,
    tables=tables,
    strata="subset",
    headline="mae/micro",
)
