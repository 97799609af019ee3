"""Preference pairs from scored samples, for DPO: `mmreward pairs`.

`choose_pairs` is a pure function over scores, which knows no pictures and no files. Its outcome does not
depend on the order of the samples: among equals the smaller id comes first. `pair_file` reads a data set and
its scores, and writes what was chosen as a folder of pairs (see `pair_folder`). A score whose row has changed
since takes no part, and a picture is never paired with a clip.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import fmean
from typing import Literal, NamedTuple

from ..errors import Unscorable
from ..types import Sample
from .columns import Columns
from .inputs import Inputs
from .pair_folder import PreferencePair, refuse_present, write_pairs
from .results import TOTAL, about, read
from .rows import Row, read_rows

Choice = Literal["best_worst", "ends", "all"]
CHOICES: tuple[Choice, ...] = ("best_worst", "ends", "all")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample that may become half of a pair.

    Args:
        id: names the sample.
        group: samples with the same one are compared.
        score: higher is better; NaN where it failed.
        content: hash of the picture; samples of a group that share it are one.
        others: scores of the rewards that must not disagree, higher is better, NaN where they failed.
    """

    id: str
    group: tuple[str, ...]
    score: float
    content: str
    others: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Rules by which pairs are chosen.

    Args:
        choose: "best_worst" takes the best against the worst sample of a group; "ends" goes on with the
            second best against the second worst and so on; "all" takes any two, those farthest apart first.
        margin: the smallest difference that counts, in units of the score. Equal scores make no preference.
        per_prompt: pairs of one group at most; None for no limit.
        ties: take equal scores as well, as pairs whose column tie is true; `mmreward fit head --loss btt`
            learns from them, and DPO refuses them.

    Raises:
        ValueError: an unknown choice, a margin that is negative or no number, or a limit below 1.
    """

    choose: Choice = "best_worst"
    margin: float = 0.0
    per_prompt: int | None = None
    ties: bool = False

    def __post_init__(self) -> None:
        if self.choose not in CHOICES:
            raise ValueError(f"choose is one of {', '.join(CHOICES)}, not {self.choose!r}")
        if not (math.isfinite(self.margin) and self.margin >= 0):
            raise ValueError(f"margin is {self.margin}; it is a number from 0 up")
        if self.per_prompt is not None and self.per_prompt < 1:
            raise ValueError(f"per_prompt is {self.per_prompt}; it is at least 1")


BEST_AGAINST_WORST = Rules()


class Pair(NamedTuple):
    """Two samples of one group, the first of which has the higher score, or an equal one."""

    chosen: Candidate
    rejected: Candidate

    @property
    def margin(self) -> float:
        return self.chosen.score - self.rejected.score


@dataclass(slots=True)
class Counts:
    """Counts of samples that were left out, and of pairs that were not taken."""

    groups: int = 0
    failed: int = 0
    """Samples without a score, of the reward itself or of one that must not disagree."""
    duplicates: int = 0
    """Samples whose picture another one of the group has."""
    ties: int = 0
    close: int = 0
    """Pairs closer than the margin."""
    disagreements: int = 0
    pairs: int = 0

    def add(self, other: "Counts") -> None:
        for count in fields(self):
            setattr(self, count.name, getattr(self, count.name) + getattr(other, count.name))


def choose_pairs(
    candidates: Iterable[Candidate], rules: Rules = BEST_AGAINST_WORST
) -> tuple[list[Pair], Counts]:
    """The pairs of every group, groups in the order of their names."""
    groups: dict[tuple[str, ...], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group, []).append(candidate)
    pairs: list[Pair] = []
    counts = Counts()
    for _, members in sorted(groups.items()):
        found, counted = _choose_within(members, rules)
        pairs += found
        counts.add(counted)
    return pairs, counts


def _choose_within(members: Sequence[Candidate], rules: Rules) -> tuple[list[Pair], Counts]:
    usable = [one for one in members if all(map(math.isfinite, (one.score, *one.others)))]
    ranked = sorted(_distinct(usable), key=lambda one: (-one.score, one.id))
    counts = Counts(groups=1, failed=len(members) - len(usable), duplicates=len(usable) - len(ranked))
    found: list[Pair] = []
    for pair in _proposed(ranked, rules.choose):
        if pair.margin == 0 and not rules.ties:
            counts.ties += 1
        elif 0 < pair.margin < rules.margin:
            counts.close += 1
        elif any(r > c for c, r in zip(pair.chosen.others, pair.rejected.others, strict=True)):
            counts.disagreements += 1
        elif rules.per_prompt is None or len(found) < rules.per_prompt:
            found.append(pair)
    counts.pairs = len(found)
    return found, counts


def _distinct(members: Iterable[Candidate]) -> list[Candidate]:
    """One sample per picture."""
    first: dict[str, Candidate] = {}
    for one in sorted(members, key=lambda one: one.id):
        first.setdefault(one.content, one)
    return list(first.values())


def _proposed(ranked: Sequence[Candidate], choose: Choice) -> Iterator[Pair]:
    """Pairs of samples that are ordered from best to worst, in the order they are taken."""
    if choose == "all":
        every = itertools.starmap(Pair, itertools.combinations(ranked, 2))
        yield from sorted(every, key=lambda pair: (-pair.margin, pair.chosen.id, pair.rejected.id))
        return
    number = len(ranked) // 2 if choose == "ends" else min(1, len(ranked) // 2)
    for place in range(number):
        yield Pair(ranked[place], ranked[-1 - place])


@dataclass(frozen=True, slots=True)
class Column:
    """The scores of a reward by row, NaN where they failed; `sign` is -1 where lower is better."""

    sign: int
    values: dict[str, float] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    """Rows that have changed since they were scored."""

    @property
    def changed(self) -> int:
        return len(self.stale - self.values.keys())

    def worth(self, row: str) -> float:
        """Higher is better; NaN also where there is no score."""
        return self.sign * self.values.get(row, math.nan)


@dataclass(frozen=True, slots=True)
class PairSummary:
    """Counts of a data set. `unusable` rows have no prompt, or no picture or clip that can be read; `changed`
    counts scores, of any reward that was asked for, whose row has changed since it was scored."""

    reward: str
    rows: int
    unusable: int
    counts: Counts
    mean_margin: float
    out: Path
    changed: int = 0

    def __str__(self) -> str:
        counts = self.counts
        return (
            f"{counts.groups} prompts, {self.rows} rows -> {counts.pairs} pairs by {self.reward}, "
            f"mean margin {self.mean_margin:.4g}\n"
            f"rows left out   failed {counts.failed}  unusable {self.unusable}  "
            f"duplicates {counts.duplicates}  changed since they were scored {self.changed}\n"
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
    columns: Columns | None = None,
) -> PairSummary:
    """Build preference pairs and write them to the folder `out`.

    Samples are compared that have the same group, prompt and condition pictures; where the data names no
    groups, the prompt is the group. The same input always gives the same folder.

    Args:
        data: as `mmreward score` reads it; rows need a prompt, and a picture or clip.
        results: files that `mmreward score` (or a search) wrote for it. Scores of other data sets in them,
            and of rows that have changed since, are left out; the latter are counted.
        out: a new folder; see `pair_folder`.
        reward: by whose scores; default "total" where there is one, else the only reward.
        agree: rewards that must not score the rejected one higher. A row where one of them failed takes no
            part.
        rules: how pairs are chosen.
        columns: as they were scored by, see `read_rows`; default: what a Parquet file of `results` says.

    Raises:
        ValueError: files that cannot be read, no such reward, a score that two files have, no score that
            belongs to the data, no pair at all, or an `out` that is not empty.
    """
    refuse_present(out)
    rows = list(read_rows(data, columns if columns is not None else _mapping(data, results)))
    scored = _read_columns(results, Inputs(rows))
    name = _picked(reward, scored)
    for other in agree:
        if other not in scored or other == name:
            raise ValueError(f"agree names {other!r}; the other rewards are {_others(scored, name)}")
    used = [scored[name], *(scored[other] for other in agree)]
    changed = sum(column.changed for column in used)
    if not scored[name].values:
        if scored[name].changed:
            raise ValueError(
                f"all {scored[name].changed} scores of {name} for {data} are of rows that have changed "
                "since: run `mmreward score` again"
            )
        raise ValueError(f"no score of {name} is for a row of {data}: are they of another data set?")
    samples = {row.id: row.sample for row in rows if row.sample is not None}
    candidates = _candidates(rows, used[0], used[1:])
    pairs, counts = choose_pairs(candidates, rules)
    margin = fmean(pair.margin for pair in pairs) if pairs else math.nan
    summary = PairSummary(name, len(rows), len(rows) - len(candidates), counts, margin, out, changed)
    if not pairs:
        raise ValueError(f"no pairs, so nothing was written:\n{summary}")
    write_pairs(out, [_described(pair, samples, name, scored[name].values, rules) for pair in pairs])
    return summary


def _mapping(data: Path, paths: Iterable[Path]) -> Columns:
    """The mapping of columns that the scores were made with; empty where nothing says."""
    for path in paths:
        for name, columns in (about(path).get("columns", {}) if path.is_file() else {}).items():
            if (path.parent / name).resolve() == data.resolve():
                return dict(columns)
    return {}


def _read_columns(paths: Iterable[Path], inputs: Inputs) -> dict[str, Column]:
    """The scores of every reward that are of the rows as they are now.

    Parquet says whether lower is better; in JSONL higher is.
    """
    columns: dict[str, Column] = {}
    for path in paths:
        facts = about(path).get("rewards", {}) if path.is_file() else {}
        stored = read(path)
        current = {id(result) for result in inputs.sort(stored).kept}
        here: set[tuple[str, str]] = set()
        for result in stored:
            rises = facts.get(result.reward, {}).get("higher_is_better", True)
            column = columns.setdefault(result.reward, Column(1 if rises else -1))
            if id(result) not in current:
                if result.id in inputs:
                    column.stale.add(result.id)
                continue
            if result.id in column.values and result.key not in here:
                raise ValueError(f"{path}: another file has a score of {result.reward} for {result.id!r} too")
            here.add(result.key)
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
    kind = sample.shown.kind if sample.shown is not None else ""
    return (named, sample.prompt, kind, *(media.key for media in sample.inputs))


def _described(
    pair: Pair, samples: Mapping[str, Sample], reward: str, values: Mapping[str, float], rules: Rules
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
    if rules.ties:  # of every pair: every row has the same columns
        facts["tie"] = pair.margin == 0
    return PreferencePair(
        prompt=chosen.prompt,
        chosen=chosen.shown,
        rejected=rejected.shown,
        inputs=chosen.inputs,
        facts=facts,
    )
