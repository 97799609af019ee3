"""Paired comparison of runs of scores, `mmreward compare`: on the samples that both have, reward by reward.

Samples are paired by id, so that what differs between two runs (checkpoints, generators, judges) is seen on
the same prompts. The interval is that of the mean difference, over independent prompts (`monitor.intervals`).
"""

import json
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mmreward.errors import nearest
from mmreward.monitor.intervals import Measured, paired_change

from .scored import Column, ScoredRun, find_results, load_run, with_data

SAME = 1e-9
"""Difference of two scores, relative to the larger, below which they tie: a picture scored in two batches."""
MOVED = 3
"""Samples that are named at each end."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One reward in one run against the first run.

    `better` counts samples where the run is better than the first (lower, where lower is better); `gained`
    and `lost` are the ids whose scores moved most, with the change; `caution` says why the two may not be
    compared.
    """

    reward: str
    first: str
    run: str
    n: int
    missing: int
    before: float
    after: float
    change: float
    low: float | None
    high: float | None
    better: int
    worse: int
    tied: int
    gained: tuple[tuple[str, float], ...]
    lost: tuple[tuple[str, float], ...]
    caution: str = ""

    @property
    def win_rate(self) -> float:
        """Share of the samples on which the run is better, ties counted half."""
        return (self.better + self.tied / 2) / self.n if self.n else math.nan


def compare_runs(paths: Sequence[Path], only: Sequence[str] = ()) -> list[Comparison]:
    """Every run against the first one, for each reward that both have.

    Args:
        paths: results files of `mmreward score`, or folders that hold one.
        only: names of the rewards; empty: all that the runs share.

    Raises:
        ValueError: fewer than two runs, no results at a path, a reward that a run lacks, no common sample.
    """
    if len(paths) < 2:
        raise ValueError("a comparison needs two runs or more: mmreward compare A.parquet B.parquet")
    runs = [load_run(find_results(path)) for path in paths]
    first = with_data(runs[0], None, ())
    return [
        found
        for path, run in zip(paths[1:], runs[1:], strict=True)
        for found in _against(first, run, str(paths[0]), str(path), only)
    ]


def _against(
    first: ScoredRun, other: ScoredRun, name: str, other_name: str, only: Sequence[str]
) -> Iterator[Comparison]:
    ours, theirs = ({column.name: column for column in run.columns} for run in (first, other))
    shared = [reward for reward in ours if reward in theirs]
    for reward in only:
        for known, where in ((ours, name), (theirs, other_name)):
            if reward not in known:
                raise ValueError(
                    f"{where} has no reward {reward!r}; {nearest(reward, known, otherwise='it has')}"
                )
    if not shared:
        raise ValueError(f"{name} and {other_name} share no reward: {sorted(ours)} and {sorted(theirs)}")
    there = set(other.ids)
    ids = [sample for sample in first.ids if sample in there]
    if not ids:
        raise ValueError(
            f"{name} and {other_name} have no sample id in common ({first.ids[0]!r}, ... and "
            f"{other.ids[0]!r}, ...): give the rows that belong together the same id"
        )
    missing = len(set(first.ids) ^ there)
    units = [first.units.get(sample, (sample,)) for sample in ids]
    for reward in only or shared:
        yield _compared(ours[reward], theirs[reward], ids, units, missing, (name, other_name))


def _compared(
    before: Column,
    after: Column,
    ids: Sequence[str],
    units: Sequence[Hashable],
    missing: int,
    names: tuple[str, str],
) -> Comparison:
    old, new = (
        np.array([column.scores[one].value if one in column.scores else math.nan for one in ids], dtype=float)
        for column in (before, after)
    )
    both = np.isfinite(old) & np.isfinite(new)
    moved: Measured = paired_change(old, new, prompts=units)
    change = np.where(both, new - old, 0.0)
    change[
        np.abs(change) <= SAME * np.maximum(np.abs(old), np.abs(new), where=both, out=np.ones_like(old))
    ] = 0.0
    gain = change if before.higher_is_better else -change
    order = np.argsort(-gain, kind="stable")
    interval = moved.interval
    return Comparison(
        reward=before.name,
        first=names[0],
        run=names[1],
        n=int(both.sum()),
        missing=missing + int((~both).sum()),
        before=float(old[both].mean()) if both.any() else math.nan,
        after=float(new[both].mean()) if both.any() else math.nan,
        change=moved.mean,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        better=int((gain > 0).sum()),
        worse=int((gain < 0).sum()),
        tied=int((both & (gain == 0)).sum()),
        gained=tuple((ids[i], float(change[i])) for i in order[:MOVED] if gain[i] > 0),
        lost=tuple((ids[i], float(change[i])) for i in order[::-1][:MOVED] if gain[i] < 0),
        caution=_caution(before, after),
    )


def _caution(before: Column, after: Column) -> str:
    """The reason why two columns of one name are not the same measure; empty where they are."""
    if before.kind != after.kind:
        return f"different rewards of one name: {before.kind} and {after.kind}"
    if set(before.fingerprints) != set(after.fingerprints):
        return "computed differently (arguments, weights or version): score both again with the same command"
    return ""


HEADINGS = (
    "reward",
    "n",
    "before",
    "after",
    "change",
    "95 % interval",
    "better",
    "worse",
    "tied",
    "win rate",
)


def words(found: Sequence[Comparison]) -> str:
    """Tables of text: a block for each run, a line for each reward, then what moved most."""
    lines: list[str] = []
    for run in dict.fromkeys(one.run for one in found):
        block = [one for one in found if one.run == run]
        lines += ["", f"{run} against {block[0].first}"] if lines else [f"{run} against {block[0].first}"]
        lines += _columns([HEADINGS, *map(_cells, block)])
        for one in block:
            lines += _remarks(one)
    return "\n".join(lines)


def _cells(one: Comparison) -> tuple[str, ...]:
    between = "-" if one.low is None or one.high is None else f"{one.low:+.4g} to {one.high:+.4g}"
    if not one.n:
        return (one.reward, "0", *["-"] * 8)
    figures = (f"{one.before:.4g}", f"{one.after:.4g}", f"{one.change:+.4g}", between)
    return (
        one.reward,
        str(one.n),
        *figures,
        *map(str, (one.better, one.worse, one.tied)),
        f"{one.win_rate:.1%}",
    )


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _remarks(one: Comparison) -> Iterator[str]:
    if one.caution:
        yield f"  {one.reward}: {one.caution}"
    if one.missing:
        yield f"  {one.reward}: {one.missing} samples are left out, without a score in both runs"
    for label, ends in (("gained", one.gained), ("lost", one.lost)):
        if ends:
            yield f"  {one.reward}, {label} most: " + ", ".join(f"{name} ({by:+.3g})" for name, by in ends)


def as_json(found: Sequence[Comparison]) -> str:
    """The comparisons as a JSON array; what is not a number is null."""
    records = [{**asdict(one), "win_rate": one.win_rate} for one in found]
    clean = [
        {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in each.items()
        }
        for each in records
    ]
    return json.dumps(clean, indent=2)
