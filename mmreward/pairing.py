"""From a data set and its scores to a folder of preference pairs: `mmreward pairs`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from .data import Row, read_rows
from .failures import Unscorable
from .pair_folder import PreferencePair, refuse_present, write_pairs
from .preferences import BEST_AGAINST_WORST, Candidate, Counts, Pair, Rules, choose_pairs
from .results import about, read
from .run import TOTAL
from .types import Sample


@dataclass(frozen=True, slots=True)
class Column:
    """The scores of a reward by row, NaN where they failed; `sign` is -1 where lower is better."""

    sign: int
    values: dict[str, float] = field(default_factory=dict)

    def worth(self, row: str) -> float:
        """Higher is better; NaN also where there is no score."""
        return self.sign * self.values.get(row, math.nan)


@dataclass(frozen=True, slots=True)
class PairSummary:
    """What came of a data set. `unusable` rows have no prompt, or no picture or clip that can be read."""

    reward: str
    rows: int
    unusable: int
    counts: Counts
    mean_margin: float
    out: Path

    def __str__(self) -> str:
        counts = self.counts
        return (
            f"{counts.groups} prompts, {self.rows} rows -> {counts.pairs} pairs by {self.reward}, "
            f"mean margin {self.mean_margin:.4g}\n"
            f"rows left out   failed {counts.failed}  unusable {self.unusable}  "
            f"duplicates {counts.duplicates}\n"
            f"pairs left out  ties {counts.ties}  below the margin {counts.close}  "
            f"disagreements {counts.disagreements}\n"
            f"-> {self.out}"
        )


def pair_file(
    data: Path,
    results: Sequence[Path],
    out: Path,
    *,
    reward: str | None = None,
    agree: Sequence[str] = (),
    rules: Rules = BEST_AGAINST_WORST,
) -> PairSummary:
    """Build preference pairs and write them to the folder `out`.

    Samples are compared that have the same group, prompt and condition pictures; where the data names no
    groups, the prompt is the group. The same input always gives the same folder.

    Args:
        data: as `mmreward score` reads it; rows need a prompt, and a picture or clip.
        results: files that `mmreward score` (or a search) wrote for it.
        out: a new folder; see `pair_folder`.
        reward: by whose scores; default "total" where there is one, else the only reward.
        agree: rewards that must not score the rejected one higher. A row where one of them failed takes no
            part.
        rules: how pairs are chosen.

    Raises:
        ValueError: files that cannot be read, no such reward, a score that two files have, no score that
            belongs to the data, no pair at all, or an `out` that is not empty.
    """
    refuse_present(out)
    columns = _read_columns(results)
    name = _picked(reward, columns)
    for other in agree:
        if other not in columns or other == name:
            raise ValueError(f"agree names {other!r}; the other rewards are {_others(columns, name)}")
    rows = list(read_rows(data))
    if not any(row.id in columns[name].values for row in rows):
        raise ValueError(f"no score of {name} is for a row of {data}: are they of another data set?")
    samples = {row.id: row.sample for row in rows if row.sample is not None}
    candidates = _candidates(rows, columns[name], [columns[other] for other in agree])
    pairs, counts = choose_pairs(candidates, rules)
    margin = fmean(pair.margin for pair in pairs) if pairs else math.nan
    summary = PairSummary(name, len(rows), len(rows) - len(candidates), counts, margin, out)
    if not pairs:
        raise ValueError(f"no pairs, so nothing was written:\n{summary}")
    write_pairs(out, [_described(pair, samples, name, columns[name].values) for pair in pairs])
    return summary


def _read_columns(paths: Iterable[Path]) -> dict[str, Column]:
    """The scores of every reward. Parquet says whether lower is better; in JSONL higher is."""
    columns: dict[str, Column] = {}
    for path in paths:
        facts = about(path).get("rewards", {}) if path.is_file() else {}
        for result in read(path):
            rises = facts.get(result.reward, {}).get("higher_is_better", True)
            column = columns.setdefault(result.reward, Column(1 if rises else -1))
            if result.id in column.values:
                raise ValueError(f"{path}: another file has a score of {result.reward} for {result.id!r} too")
            column.values[result.id] = result.score.value
    return columns


def _picked(reward: str | None, columns: Mapping[str, Column]) -> str:
    there = ", ".join(columns) or "none"
    if reward is not None:
        if reward not in columns:
            raise ValueError(f"no scores of {reward!r}; the rewards are {there}")
        return reward
    if TOTAL in columns:
        return TOTAL
    if len(columns) != 1:
        raise ValueError(f"say by which reward, with --reward; there are {there}")
    return next(iter(columns))


def _others(columns: Mapping[str, Column], name: str) -> str:
    return ", ".join(other for other in columns if other != name) or "none"


def _candidates(rows: Iterable[Row], column: Column, agree: Sequence[Column]) -> list[Candidate]:
    """Every row that has a prompt and a readable picture or clip."""
    found = []
    for row in rows:
        content = _content(row.sample)
        if row.sample is not None and content:
            others = tuple(other.worth(row.id) for other in agree)
            found.append(Candidate(row.id, _group(row.sample), column.worth(row.id), content, others))
    return found


def _content(sample: Sample | None) -> str:
    """Hash of what is shown; empty where a sample cannot be part of a pair."""
    if sample is None or sample.shown is None or not sample.prompt.strip():
        return ""
    try:
        _ = sample.shown.size, [media.size for media in sample.inputs]
        return sample.shown.key
    except Unscorable:
        return ""


def _group(sample: Sample) -> tuple[str, ...]:
    named = sample.prompt if sample.group is None else sample.group
    return (named, sample.prompt, *(media.key for media in sample.inputs))


def _described(
    pair: Pair, samples: Mapping[str, Sample], reward: str, values: Mapping[str, float]
) -> PreferencePair:
    chosen, rejected = samples[pair.chosen.id], samples[pair.rejected.id]
    assert chosen.shown is not None and rejected.shown is not None
    facts = {
        "chosen_score": values[pair.chosen.id],
        "rejected_score": values[pair.rejected.id],
        "margin": pair.margin,
        "reward": reward,
        "group": pair.chosen.group[0],
        "chosen_id": pair.chosen.id,
        "rejected_id": pair.rejected.id,
    }
    return PreferencePair(
        prompt=chosen.prompt,
        chosen=chosen.shown,
        rejected=rejected.shown,
        inputs=chosen.inputs,
        facts=facts,
    )
