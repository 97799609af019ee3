"""Paired comparison of runs of scores, `mmreward compare`: on the samples that both have, reward by reward.

Samples are paired by id, so that what differs between two runs (checkpoints, generators, judges) is seen on
the same prompts; a pair whose prompts differ is left out. The interval is that of the mean difference, over
independent prompts (`monitor.intervals`).
"""

import json
import math
from collections.abc import Container, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from mmreward.errors import nearest
from mmreward.monitor.intervals import Interval, mean_of, paired_change

from .scored import Column, ScoredRun, find_results, load_run, with_data
from .stats import Array

SAME = 1e-6
"""Difference of two scores, relative to their size, below which they tie: the last digits of float32 depend
on the batch that a sample was scored in."""
MOVED = 3
"""Samples that are named at each end."""
ROUNDING = 1e-12
"""Part of the largest score below which a mean change is what is left of rounding."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One reward in one run against the first run.

    `n` samples have a score in both, `missing` do not; `better` of the n are better than in the first run
    (lower, where lower is better). `gained` and `lost` are the ids whose scores moved most, with the change.
    `cautions` say what to mind before the change is believed.
    """

    reward: str
    first: str
    run: str
    n: int
    missing: int
    before: float
    after: float
    change: float
    interval: Interval | None
    win_interval: Interval | None
    better: int
    worse: int
    tied: int
    gained: tuple[tuple[str, float], ...]
    lost: tuple[tuple[str, float], ...]
    cautions: tuple[str, ...]
    higher_is_better: bool

    @property
    def win_rate(self) -> float:
        """Share of the samples on which the run is better, ties counted half."""
        return (self.better + self.tied / 2) / self.n if self.n else math.nan

    @property
    def direction(self) -> Literal["better", "worse", "unknown"]:
        """Better or worse where the interval of the change says so, beyond chance."""
        if self.interval is None or self.interval.low <= 0 <= self.interval.high:
            return "unknown"
        return "better" if (self.interval.low > 0) == self.higher_is_better else "worse"


@dataclass(frozen=True)
class Pairing:
    """The samples of two runs that belong together, and the unit of each."""

    first: str
    run: str
    ids: Sequence[str]
    units: Sequence[Hashable]
    missing: int
    cautions: tuple[str, ...]

    def among(self, kept: Container[str]) -> "Pairing":
        """The pairing of these samples alone; what it left out is counted in the whole."""
        fine = [index for index, sample in enumerate(self.ids) if sample in kept]
        ids = [self.ids[index] for index in fine]
        units = [self.units[index] for index in fine]
        return replace(self, ids=ids, units=units, missing=0, cautions=())


@dataclass(frozen=True)
class Meeting:
    """A run beside the first one: their pairing, and both columns of each reward that is compared."""

    first: ScoredRun
    other: ScoredRun
    pairing: Pairing
    columns: Sequence[tuple[Column, Column]]


class Change(NamedTuple):
    """The scores of one reward in both runs, by sample of the pairing; NaN where a run has none.

    `change` is 0 where the two tie and where one has none; `gain` is the same, positive where better.
    """

    old: Array
    new: Array
    change: Array
    gain: Array

    @property
    def both(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """True where both runs have a score."""
        return np.isfinite(self.old) & np.isfinite(self.new)


def compare_runs(paths: Sequence[Path], only: Sequence[str] = ()) -> list[Comparison]:
    """Every run against the first one, for each reward that both have.

    Args:
        paths: results files of `mmreward score`, or folders that hold one.
        only: names of the rewards; empty: all that the runs share.

    Raises:
        ValueError: fewer than two runs, no results at a path, a reward that a run lacks, no common sample.
    """
    return comparisons(meetings(paths, only))


def comparisons(found: Sequence[Meeting]) -> list[Comparison]:
    """Every reward of every meeting."""
    return [compared(*columns, one.pairing) for one in found for columns in one.columns]


def meetings(paths: Sequence[Path], only: Sequence[str] = ()) -> list[Meeting]:
    """Every run beside the first one; arguments and errors are those of `compare_runs`."""
    if len(paths) < 2:
        raise ValueError("a comparison needs two runs or more: mmreward compare A.parquet B.parquet")
    runs = [load_run(find_results(path)) for path in paths]
    runs = [with_data(run, None, frozenset(run.ids)) for run in runs]
    first, name = runs[0], str(paths[0])
    return [
        _meeting(first, run, name, str(path), only) for path, run in zip(paths[1:], runs[1:], strict=True)
    ]


def _meeting(first: ScoredRun, other: ScoredRun, name: str, other_name: str, only: Sequence[str]) -> Meeting:
    ours, theirs = ({column.name: column for column in run.columns} for run in (first, other))
    for reward in only:
        for known, where in ((ours, name), (theirs, other_name)):
            if reward not in known:
                hint = nearest(reward, known, otherwise="it has")
                raise ValueError(f"{where} has no reward {reward!r}; {hint}")
    shared = only or [reward for reward in ours if reward in theirs]
    if not shared:
        raise ValueError(f"{name} and {other_name} share no reward: {sorted(ours)} and {sorted(theirs)}")
    pairing = _paired(first, other, name, other_name)
    return Meeting(first, other, pairing, [(ours[reward], theirs[reward]) for reward in shared])


def _paired(first: ScoredRun, other: ScoredRun, name: str, other_name: str) -> Pairing:
    """The samples that both runs have, those with another prompt in each left out.

    Raises:
        ValueError: there are none.
    """
    there = set(other.ids)
    common = [sample for sample in first.ids if sample in there]
    if not common:
        raise ValueError(
            f"{name} and {other_name} have no sample id in common ({first.ids[0]!r}, ... and "
            f"{other.ids[0]!r}, ...): give the rows that belong together the same id"
        )
    ids = [sample for sample in common if not _differ(first, other, sample)]
    if not ids:
        raise ValueError(f"{name} and {other_name} share ids, but under none of them the same prompt")
    cautions = []
    if moved := len(common) - len(ids):
        cautions.append(f"left out, the prompt differs between the runs: {moved} of {len(common)} samples")
    if any(sample not in first.units for sample in ids):
        why = first.trouble or "some rows are gone"
        cautions.append(f"prompts are not known ({why}): the interval takes every sample for independent")
    units = [first.units.get(sample, (sample,)) for sample in ids]
    missing = len(set(first.ids) ^ there) + moved
    return Pairing(name, other_name, ids, units, missing, tuple(cautions))


def _differ(first: ScoredRun, other: ScoredRun, sample: str) -> bool:
    """True where both rows are there, with other prompts."""
    one, two = (run.rows[sample].sample if sample in run.rows else None for run in (first, other))
    return one is not None and two is not None and one.prompt != two.prompt


def change_of(before: Column, after: Column, ids: Sequence[str]) -> Change:
    """The scores of these samples in two columns of one reward."""
    old, new = (
        np.array([column.scores[one].value if one in column.scores else math.nan for one in ids], dtype=float)
        for column in (before, after)
    )
    change = np.where(np.isfinite(old) & np.isfinite(new), new - old, 0.0)
    change[np.isclose(old, new, rtol=SAME, atol=0.0)] = 0.0
    return Change(old, new, change, change if before.higher_is_better else -change)


def compared(before: Column, after: Column, pairing: Pairing) -> Comparison:
    """One reward of two runs, over the samples of a pairing."""
    ids = pairing.ids
    old, new, change, gain = found = change_of(before, after, ids)
    both = found.both
    moved = paired_change(old, new, prompts=pairing.units)
    size = float(np.abs([old[both], new[both]]).max(initial=0.0))
    wins = np.where(both, (np.sign(gain) + 1) / 2, math.nan)
    order = np.argsort(-gain, kind="stable")
    missing = pairing.missing + int((~both).sum())
    lacking = (f"left out, no score to compare in both runs: {missing} samples",) if missing else ()
    return Comparison(
        reward=before.name,
        first=pairing.first,
        run=pairing.run,
        n=int(both.sum()),
        missing=missing,
        before=float(old[both].mean()) if both.any() else math.nan,
        after=float(new[both].mean()) if both.any() else math.nan,
        change=0.0 if abs(moved.mean) <= ROUNDING * size else moved.mean,
        interval=moved.interval,
        win_interval=mean_of(wins, pairing.units).within(0.0, 1.0),
        better=int((gain > 0).sum()),
        worse=int((gain < 0).sum()),
        tied=int((both & (gain == 0)).sum()),
        gained=tuple((ids[i], float(change[i])) for i in order[:MOVED] if gain[i] > 0),
        lost=tuple((ids[i], float(change[i])) for i in order[::-1][:MOVED] if gain[i] < 0),
        cautions=(*_measures(before, after), *pairing.cautions, *lacking),
        higher_is_better=before.higher_is_better,
    )


def _measures(before: Column, after: Column) -> Iterator[str]:
    """The reason why two columns of one name are not the same measure, where they are not."""
    if before.kind != after.kind:
        yield f"different rewards of one name, {before.kind} and {after.kind}"
    elif set(before.fingerprints) != set(after.fingerprints):
        yield "computed differently (arguments, weights or version): score both again with the same command"


def as_json(found: Sequence[Comparison]) -> str:
    """The comparisons as a JSON array; what is not a number is null."""
    records = [{**asdict(one), "win_rate": one.win_rate} for one in found]
    return json.dumps([{key: _plain(value) for key, value in each.items()} for each in records], indent=2)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
