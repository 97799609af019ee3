"""Preference pairs from scored samples, for DPO: `mmreward pairs`.

`choose_pairs` is a pure function over scores, which knows no pictures and no files. Its outcome does not
depend on the order of the samples: among equals the smaller id comes first. `pair_file` reads a data set and
its scores, or has it judged (`pair_columns`), and writes what was chosen as a folder of pairs (see
`pair_folder`). A score whose row has changed since takes no part, and a picture is never paired with a clip.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

from ..types import Sample
from .action_pairs import write_action_pairs
from .columns import Columns
from .inputs import Inputs
from .pair_columns import (
    Column,
    Direct,
    Drawn,
    Halves,
    Judging,
    axis_of,
    content_of,
    group_of,
    mapping_of,
    others_of,
    picked,
    read_columns,
)
from .pair_folder import PreferencePair, refuse_present, write_pairs
from .response_pairs import write_response_pairs
from .rows import read_rows

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
        parts: of its score: how sure the judge is of it.
        direct: its comparison with the other half of its pair, where a judge of pairs made one.
    """

    id: str
    group: tuple[str, ...]
    score: float
    content: str
    others: tuple[float, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)
    direct: Direct | None = None


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
        confidence: least `parts["confidence"]` of the judgement, of the two scores the smaller.
        swing: largest `parts["swing"]`, the disagreement between the two orders in which a judge of pairs was
            asked.
        sure: the margin is at least so many of its standard deviations, by `parts["uncertainty"]`.

    Raises:
        ValueError: an unknown choice, a margin that is negative or no number, a limit below 1, or a filter
            outside its range.
    """

    choose: Choice = "best_worst"
    margin: float = 0.0
    per_prompt: int | None = None
    ties: bool = False
    confidence: float = 0.0
    swing: float = math.inf
    sure: float = 0.0

    def __post_init__(self) -> None:
        if self.choose not in CHOICES:
            raise ValueError(f"choose is one of {', '.join(CHOICES)}, not {self.choose!r}")
        if not (math.isfinite(self.margin) and self.margin >= 0):
            raise ValueError(f"margin is {self.margin}; it is a number from 0 up")
        if self.per_prompt is not None and self.per_prompt < 1:
            raise ValueError(f"per_prompt is {self.per_prompt}; it is at least 1")
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence is {self.confidence}; it lies in [0, 1]")
        if not (self.swing >= 0 and 0 <= self.sure < math.inf):
            raise ValueError(f"swing is {self.swing} and sure {self.sure}; both are numbers from 0 up")

    @property
    def asks_for(self) -> tuple[str, ...]:
        """Parts of the scores that the filters look at."""
        wanted = (("confidence", self.confidence > 0), ("swing", self.swing < math.inf),
                  ("uncertainty", self.sure > 0))  # fmt: skip
        return tuple(part for part, asked in wanted if asked)


BEST_AGAINST_WORST = Rules()


Directs = Mapping[tuple[str, str], Direct]
"""Comparisons by the ids of both, in one order."""


class Pair(NamedTuple):
    """Two samples of one group, the first of which has the higher score, or an equal one."""

    chosen: Candidate
    rejected: Candidate

    @property
    def margin(self) -> float:
        direct = self.chosen.direct
        return self.chosen.score - self.rejected.score if direct is None else direct.lead

    @property
    def parts(self) -> dict[str, float]:
        """How sure the judge is: of two scores, by the less sure one, and their uncertainties as variances
        add up."""
        if self.chosen.direct is not None:
            said = dict(self.chosen.direct.parts)
            if "uncertainty" in said:  # of the value, half of whose range is that of the lead
                said["uncertainty"] *= 2
            return said
        one, other = self.chosen.parts, self.rejected.parts
        both = {part: (one[part], other[part]) for part in one if part in other}
        put: dict[str, Callable[..., float]] = {"confidence": min, "swing": max, "uncertainty": math.hypot}
        return {part: rule(*both[part]) for part, rule in put.items() if part in both}


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
    """Pairs of which another reward, or the comparison of these two, prefers the rejected one."""
    unsure: int = 0
    """Pairs that a filter of confidence, swing or uncertainty left out, and comparisons that failed."""
    pairs: int = 0

    def add(self, other: "Counts") -> None:
        for count in fields(self):
            setattr(self, count.name, getattr(self, count.name) + getattr(other, count.name))


def choose_pairs(
    candidates: Iterable[Candidate], rules: Rules = BEST_AGAINST_WORST, directs: Directs | None = None
) -> tuple[list[Pair], Counts]:
    """The pairs of every group, groups in the order of their names.

    Args:
        candidates: of any number of groups.
        rules: how pairs are chosen.
        directs: comparisons of a judge of pairs; a pair that it did not compare is left out.

    Raises:
        ValueError: a filter for a part that a score does not have.
    """
    groups: dict[tuple[str, ...], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group, []).append(candidate)
    pairs: list[Pair] = []
    counts = Counts()
    for _, members in sorted(groups.items()):
        found, counted = _choose_within(members, rules, directs)
        pairs += found
        counts.add(counted)
    return pairs, counts


def _choose_within(
    members: Sequence[Candidate], rules: Rules, directs: Directs | None
) -> tuple[list[Pair], Counts]:
    usable = [one for one in members if all(map(math.isfinite, (one.score, *one.others)))]
    ranked = sorted(_distinct(usable), key=lambda one: (-one.score, one.id))
    counts = Counts(groups=1, failed=len(members) - len(usable), duplicates=len(usable) - len(ranked))
    found: list[Pair] = []
    for proposed in _proposed(ranked, rules.choose):
        pair = proposed if directs is None else _compared(proposed, directs)
        if math.isnan(pair.margin):
            counts.unsure += 1
        elif pair.margin == 0 and not rules.ties:
            counts.ties += 1
        elif 0 < pair.margin < rules.margin:
            counts.close += 1
        elif pair.margin < 0 or any(
            r > c for c, r in zip(pair.chosen.others, pair.rejected.others, strict=True)
        ):
            counts.disagreements += 1
        elif _is_unsure(pair, rules):
            counts.unsure += 1
        elif rules.per_prompt is None or len(found) < rules.per_prompt:
            found.append(pair)
    counts.pairs = len(found)
    return found, counts


def _compared(pair: Pair, directs: Directs) -> Pair:
    """The pair with its own comparison."""
    ids = pair.chosen.id, pair.rejected.id
    if ids in directs:
        direct = directs[ids]
    else:
        direct = directs[ids[::-1]].turned if ids[::-1] in directs else Direct(math.nan)
    return pair._replace(chosen=replace(pair.chosen, direct=direct))


def _is_unsure(pair: Pair, rules: Rules) -> bool:
    parts = pair.parts
    if absent := [part for part in rules.asks_for if part not in parts]:
        there = ", ".join(parts) or "none"
        raise ValueError(
            f"the scores of {pair.chosen.id!r} and {pair.rejected.id!r} do not have {absent[0]} among their "
            f"parts ({there}): confidence and uncertainty come of several votes or how=expected, swing of a "
            "judge of pairs"
        )
    return (
        parts.get("confidence", 1.0) < rules.confidence
        or parts.get("swing", 0.0) > rules.swing
        or (rules.sure > 0 and pair.margin < rules.sure * parts["uncertainty"])
    )


def agreement(candidates: Iterable[Candidate], others: int) -> list[float]:
    """Share of the twos of one group, told apart by the score and by another one, that both order alike; NaN
    where there are none. Rewards that disagree are not to be summed."""
    groups: dict[tuple[str, ...], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group, []).append(candidate)
    alike: list[list[bool]] = [[] for _ in range(others)]
    for members in groups.values():
        for one, two in itertools.combinations(_distinct(members), 2):
            for column, mine, theirs in zip(alike, one.others, two.others, strict=True):
                product = (one.score - two.score) * (mine - theirs)
                if product > 0 or product < 0:  # neither a tie nor a score that failed
                    column.append(product > 0)
    return [fmean(column) if column else math.nan for column in alike]


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
    agreement: Mapping[str, float] = field(default_factory=dict)
    """Share of the twos of one prompt that another reward orders alike, of those that both tell apart."""

    def __str__(self) -> str:
        counts = self.counts
        return (
            f"{counts.groups} prompts, {self.rows} rows -> {counts.pairs} pairs by {self.reward}, "
            f"mean margin {self.mean_margin:.4g}\n"
            f"rows left out   failed {counts.failed}  unusable {self.unusable}  "
            f"duplicates {counts.duplicates}  changed since they were scored {self.changed}\n"
            f"pairs left out  ties {counts.ties}  below the margin {counts.close}  "
            f"disagreements {counts.disagreements}  unsure {counts.unsure}\n"
            + "".join(f"orders twos as {name} does: {share:.0%}\n" for name, share in self.agreement.items())
            + f"-> {self.out}"
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
    judge: Judging | None = None,
    halves: Halves = "media",
) -> PairSummary:
    """Build preference pairs and write them to the folder `out`.

    Samples are compared that have the same group, prompt and condition pictures; where the data names no
    groups, the prompt is the group. The same input always gives the same folder.

    Args:
        data: as `mmreward score` reads it; rows need a prompt, and a picture or clip.
        results: files that `mmreward score` (or a search) wrote for it. Scores of other data sets in them,
            and of rows that have changed since, are left out; the latter are counted.
        out: a new folder; see `pair_folder`.
        reward: by whose scores; default "total" where there is one, else the only reward. REWARD/PART is one
            part of its scores, such as an aspect of `critique`.
        agree: rewards, or parts, that must not score the rejected one higher. A row where one of them failed
            takes no part.
        rules: how pairs are chosen.
        columns: as they were scored by, see `read_rows`; default: what a Parquet file of `results` says.
        judge: rewards that judge the rows now, beside the scores of `results`; the first of them is the
            default of `reward`. Judges of pairs compare every two of a group in both orders: their score of a
            sample is the share of the others it leads, and a pair is taken by its own comparison.
        halves: "media", or "responses" to one question about the same pictures, whose texts are written (see
            `response_pairs`), or "actions" of a robot from one moment (see `action_pairs`).

    Raises:
        ValueError: files that cannot be read, no such reward, a score that two files have, no score that
            belongs to the data, no pair at all, a filter for a part that a score does not have, or an `out`
            that is not empty.
    """
    refuse_present(out)
    rows = list(read_rows(data, columns if columns is not None else mapping_of(data, results)))
    scored = read_columns(results, Inputs(rows))
    drawn = [
        Drawn(row.id, row.sample, group_of(row.sample, halves))
        for row in rows
        if row.sample is not None and content_of(row.sample, halves)
    ]
    if judge is not None:
        if both := [name for name in judge.rewards if name in scored]:
            raise ValueError(f"{both[0]} has scores in a file, and is to judge now: give it another name")
        scored |= judge.judged(drawn)
        reward = next(iter(judge.rewards)) if reward is None else reward
    for axis in (reward, *agree):
        if axis is not None and axis not in scored and (column := axis_of(axis, scored)) is not None:
            scored[axis] = column
    name = picked(reward, scored)
    for other in agree:
        if other not in scored or other == name:
            raise ValueError(f"agree names {other!r}; the other rewards are {others_of(scored, name)}")
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
    candidates = [candidate_of(one, used[0], used[1:], halves) for one in drawn]
    pairs, counts = choose_pairs(candidates, rules, used[0].directs)
    margin = fmean(pair.margin for pair in pairs) if pairs else math.nan
    alike = dict(zip(agree, agreement(candidates, len(agree)), strict=True))
    summary = PairSummary(name, len(rows), len(rows) - len(candidates), counts, margin, out, changed, alike)
    if not pairs:
        raise ValueError(f"no pairs, so nothing was written:\n{summary}")
    facts = [_facts(pair, name, scored[name].values, rules) for pair in pairs]
    twos = [(samples[pair.chosen.id], samples[pair.rejected.id]) for pair in pairs]
    if halves == "responses":
        write_response_pairs(out, twos, facts)
    elif halves == "actions":
        write_action_pairs(out, twos, facts)
    else:
        write_pairs(out, [_described(*both, told) for both, told in zip(twos, facts, strict=True)])
    return summary


def candidate_of(
    one: Drawn, column: Column, agree: Sequence[Column] = (), halves: Halves = "media"
) -> Candidate:
    """A row with its score, and those of rewards that must not disagree."""
    others = tuple(other.worth(one.id) for other in agree)
    content, parts = content_of(one.sample, halves), column.parts.get(one.id, {})
    return Candidate(one.id, one.group, column.worth(one.id), content, others, parts)


def _facts(pair: Pair, reward: str, values: Mapping[str, float], rules: Rules) -> dict[str, Any]:
    facts: dict[str, Any] = {
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
    return facts | {part: pair.parts[part] for part in rules.asks_for}


def _described(chosen: Sample, rejected: Sample, facts: Mapping[str, Any]) -> PreferencePair:
    assert chosen.shown is not None and rejected.shown is not None
    return PreferencePair(
        prompt=chosen.prompt,
        chosen=chosen.shown,
        rejected=rejected.shown,
        inputs=chosen.inputs,
        facts=facts,
    )
