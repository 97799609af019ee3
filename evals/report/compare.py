"""Paired comparison of runs of scores, `mmreward compare`: on the samples that both have, reward by reward.

Samples are paired by id, so that what differs between two runs (checkpoints, generators, judges) is seen on
the same prompts; a pair whose prompts differ is left out. The interval is that of the mean difference, over
independent prompts (`monitor.intervals`).
"""

import json
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmreward.errors import nearest
from mmreward.monitor.intervals import Interval, paired_change

from .scored import Column, ScoredRun, find_results, load_run, with_data

SAME = 1e-6
"""Difference of two scores, relative to their size, below which they tie: the last digits of float32 depend
on the batch that a sample was scored in."""
MOVED = 3
"""Samples that are named at each end."""


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
    better: int
    worse: int
    tied: int
    gained: tuple[tuple[str, float], ...]
    lost: tuple[tuple[str, float], ...]
    cautions: tuple[str, ...]

    @property
    def win_rate(self) -> float:
        """Share of the samples on which the run is better, ties counted half."""
        return (self.better + self.tied / 2) / self.n if self.n else math.nan


@dataclass(frozen=True)
class _Pairing:
    """The samples of two runs that belong together, and the unit of each."""

    first: str
    run: str
    ids: Sequence[str]
    units: Sequence[Hashable]
    missing: int
    cautions: tuple[str, ...]


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
    runs = [with_data(run, None, frozenset(run.ids)) for run in runs]
    first, name = runs[0], str(paths[0])
    return [
        found
        for path, run in zip(paths[1:], runs[1:], strict=True)
        for found in _against(first, run, name, str(path), only)
    ]


def _against(
    first: ScoredRun, other: ScoredRun, name: str, other_name: str, only: Sequence[str]
) -> Iterator[Comparison]:
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
    for reward in shared:
        yield _compared(ours[reward], theirs[reward], pairing)


def _paired(first: ScoredRun, other: ScoredRun, name: str, other_name: str) -> _Pairing:
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
    return _Pairing(name, other_name, ids, units, missing, tuple(cautions))


def _differ(first: ScoredRun, other: ScoredRun, sample: str) -> bool:
    """True where both rows are there, with other prompts."""
    one, two = (run.rows[sample].sample if sample in run.rows else None for run in (first, other))
    return one is not None and two is not None and one.prompt != two.prompt


def _compared(before: Column, after: Column, pairing: _Pairing) -> Comparison:
    ids = pairing.ids
    old, new = (
        np.array([column.scores[one].value if one in column.scores else math.nan for one in ids], dtype=float)
        for column in (before, after)
    )
    both = np.isfinite(old) & np.isfinite(new)
    moved = paired_change(old, new, prompts=pairing.units)
    change = np.where(both, new - old, 0.0)
    change[np.isclose(old, new, rtol=SAME, atol=0.0)] = 0.0
    gain = change if before.higher_is_better else -change
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
        change=moved.mean,
        interval=moved.interval,
        better=int((gain > 0).sum()),
        worse=int((gain < 0).sum()),
        tied=int((both & (gain == 0)).sum()),
        gained=tuple((ids[i], float(change[i])) for i in order[:MOVED] if gain[i] > 0),
        lost=tuple((ids[i], float(change[i])) for i in order[::-1][:MOVED] if gain[i] < 0),
        cautions=(*_measures(before, after), *pairing.cautions, *lacking),
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
