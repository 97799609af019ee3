"""Totals: the one way from the scores of several rewards to one score per sample, as pure functions.

`combine` takes a column of scores per reward and either of two descriptions. A `Recipe` is a weighted sum,
with gates and group z-scores (`compose:` in YAML). `Roles` is a total held to [0, 1], of accuracy, format,
extras and gates (`routes:` in YAML). Both may be shaped first, by steps such as `shaping_steps.Trusted`.

A failed score is never filled in. What it does to a sum is a named policy: "propagate" makes the total fail
the same way, "drop" gives its weight to the others.

Knows no engine and no trainer. `tune.aggregate` makes advantages of the same columns, not totals, and shares
the checks of the weights.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import ClassVar, Literal, Protocol, get_args

from .registry import Reward
from .types import Sample, Score

Policy = Literal["propagate", "drop"]
Columns = Mapping[str, Sequence[Score]]
Groups = Sequence[str | None]
Interval = tuple[float, float]
Ranges = Mapping[str, Interval]
Fact = Score | None
"""A quantity that a step reads off a sample, such as its length; None for a step that reads none."""

PARTS = ("accuracy", "format", "gate", "extra", "parsed")
"""Parts of every total by `Roles`: trainers take their columns from the first sample."""


class Shaping(Protocol):
    """A step that rewrites one column before it is summed; see `shaping_steps`."""

    compares: ClassVar[bool]
    """It looks at whole groups."""
    measures: ClassVar[bool]
    """Its result still says how right a response is, and not only what it is paid."""

    @property
    def rewrites(self) -> str: ...  # the reward whose scores it replaces
    @property
    def reads(self) -> tuple[str, ...]: ...  # the rewards it looks at, that one among them
    def fact(self, sample: Sample) -> Fact: ...  # what it must know of a sample beside its scores
    def range(self, ranges: Ranges) -> Interval: ...  # of its results, from those of what it reads
    def __call__(self, columns: Columns, groups: Groups, facts: Sequence[Fact]) -> list[Score]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A weighted sum of rewards.

    Args:
        weights: reward -> weight; a reward that is not named does not enter the sum.
        gates: reward -> smallest value that lets the total through; below it the total is 0.
        normalise: "group" replaces every value by its z-score within the sample's group before it is
            weighted.
        failed: what a failed score does, see `weighted`.
        shaping: steps that rewrite columns first, in order.
    """

    weights: Mapping[str, float]
    gates: Mapping[str, float] = field(default_factory=dict)
    normalise: Literal["none", "group"] = "none"
    failed: Policy = "propagate"
    shaping: Sequence[Shaping] = ()

    @property
    def compares(self) -> bool:
        """True where a total depends on the other samples of its group."""
        return self.normalise == "group" or any(step.compares for step in self.shaping)

    @property
    def reads(self) -> tuple[str, ...]:
        """The rewards whose scores it needs."""
        return (*self.weights, *self.gates, *(name for step in self.shaping for name in step.reads))

    def check(self, rewards: Mapping[str, Reward]) -> None:
        """Refuse what these rewards cannot make, before anything is scored.

        Raises:
            ValueError: a weight, gate or step for a reward that is not there, or a step that has no effect.
        """
        if unknown := _unknown(self.reads, rewards):
            raise ValueError(f"compose: no reward named {', '.join(unknown)}; there are {', '.join(rewards)}")
        if wrong := list(shaping_mistakes(self.shaping, rewards, self.weights)):
            raise ValueError("compose: " + "; ".join(wrong))


@dataclass(frozen=True, kw_only=True, slots=True)
class Roles:
    """A total in [0, 1] from rewards by their roles.

    It is gate * (a * accuracy + f * format) / (a + f) + sum of weight * extra, held to [0, 1]. The accuracy
    is the weighted mean of its rewards and `a` the sum of their weights; so for the format. Every reward is
    brought to [0, 1], 1 being good, by its range, so that none weighs more than another because of its scale;
    a shaped one by the range that its steps give it.

    A hard gate is 0 below its threshold, which is on the reward's own scale, and 1 from it on; a soft gate
    multiplies by the value, but by no less than its floor, as PEARL's weights do (arXiv:2511.18437). Gates
    look at raw values.

    Args:
        accuracy, format, extra: reward -> weight.
        gates: reward -> threshold.
        soft_gates: reward -> floor, 0 to 1.
        ranges: reward -> (low, high), finite, of every reward that is named.
        falling: rewards that are better when lower.
        shaping: steps that rewrite columns first, in order.
    """

    accuracy: Mapping[str, float] = field(default_factory=dict)
    format: Mapping[str, float] = field(default_factory=dict)
    extra: Mapping[str, float] = field(default_factory=dict)
    gates: Mapping[str, float] = field(default_factory=dict)
    soft_gates: Mapping[str, float] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)
    falling: frozenset[str] = frozenset()
    shaping: Sequence[Shaping] = ()

    @property
    def compares(self) -> bool:
        """True where a total depends on the other samples of its group."""
        return any(step.compares for step in self.shaping)

    @property
    def needed(self) -> tuple[str, ...]:
        """The rewards without which there is no total."""
        roles = (self.accuracy, self.format, self.gates, self.soft_gates)
        weighed = [name for name, weight in self.extra.items() if weight]
        return tuple(dict.fromkeys([*(name for role in roles for name in role), *weighed]))

    @property
    def reads(self) -> tuple[str, ...]:
        """The rewards whose scores it looks at."""
        return (*self.needed, *(name for step in self.shaping for name in step.reads))


def facts_of(recipe: Recipe | Roles, sample: Sample | None) -> tuple[Fact, ...]:
    """Facts of a sample that the recipe's steps need beside its scores, one entry per step.

    A row that is no sample (None) has no facts; its scores have failed as well.
    """
    if sample is None:
        return (Score.failed("missing", "there is no sample"),) * len(recipe.shaping)
    return tuple(step.fact(sample) for step in recipe.shaping)


def total_of(scores: Columns, recipe: Recipe | Roles, samples: Sequence[Sample]) -> list[Score]:
    """The total of every sample; `combine`, with groups and facts taken from the samples."""
    facts = [facts_of(recipe, sample) for sample in samples]
    return combine(scores, recipe, [sample.group for sample in samples], facts)


def combine(
    scores: Columns,
    recipe: Recipe | Roles,
    groups: Groups = (),
    facts: Sequence[Sequence[Fact]] = (),
) -> list[Score]:
    """Totals of all rows; gates look at raw values, whatever is summed.

    A total by `Roles` fails as the first score that it needs does. It has the parts `PARTS`, all finite; what
    it lacks is 0 there (its gate is 1), and so are the parts of a failure. Its parts accuracy and format are
    measurements: what a response is paid on top of being right (`Shaping.measures`) is in the total alone.

    >>> columns = {"math": [Score(1.0), Score(0.0)], "form": [Score(0.5), Score(1.0)]}
    >>> [one.value for one in combine(columns, Recipe(weights={"math": 1, "form": 0.5}, gates={"math": 0.5}))]
    [1.25, 0.0]

    Args:
        scores: reward -> (N,) scores.
        recipe: how the total is made.
        groups: (N,) the GRPO group of each, where the recipe compares.
        facts: (N,) `facts_of` every sample, where the recipe is shaped.

    Raises:
        ValueError: a weight, gate or step for a reward that was not scored, missing groups or facts, or as
            `weighted` and `group_zscore`.
    """
    if unknown := _unknown(recipe.reads, scores):
        raise ValueError(f"no scores of {', '.join(unknown)}: there are {', '.join(scores)}")
    measured, shaped = shaped_columns(scores, recipe.shaping, groups, facts)
    if isinstance(recipe, Roles):
        return _by_roles(recipe, scores, measured, shaped)
    summands = {name: shaped[name] for name in recipe.weights}
    if recipe.normalise == "group":
        summands = {name: group_zscore(column, groups) for name, column in summands.items()}
    total = weighted(summands, recipe.weights, failed=recipe.failed)
    return gated(total, {name: (scores[name], least) for name, least in recipe.gates.items()})


def shaped_columns(
    scores: Columns,
    shaping: Sequence[Shaping],
    groups: Groups,
    facts: Sequence[Sequence[Fact]],
) -> tuple[Columns, Columns]:
    """The columns after the steps that measure alone, and after all."""
    if not shaping:
        return scores, scores
    measured, shaped = dict(scores), dict(scores)
    number = len(next(iter(scores.values()), ()))
    if len(facts) != number:
        raise ValueError(
            f"{number} rows and the facts of {len(facts)}: shaping needs `facts_of` every sample"
        )
    if any(step.compares for step in shaping) and len(groups) != number:
        raise ValueError(f"{number} rows and {len(groups)} groups")
    for index, step in enumerate(shaping):
        column = [row[index] for row in facts]
        shaped[step.rewrites] = step(shaped, groups, column)
        if step.measures:
            measured[step.rewrites] = step(measured, groups, column)
    return measured, shaped


def shaping_mistakes(
    shaping: Sequence[Shaping], rewards: Mapping[str, Reward], summed: Mapping[str, float]
) -> Iterator[str]:
    """Mistakes in steps over these rewards: unknown names, directions, and steps without effect."""
    for index, step in enumerate(shaping):
        where = f"shaping.{index}"
        for name in dict.fromkeys(step.reads):
            if name not in rewards:
                yield f"{where}: no reward named {name!r}; there are {', '.join(rewards)}"
            elif not rewards[name].info.higher_is_better:
                yield f"{where}: {name} is better when lower; shaping takes what is better when higher"
        if step.rewrites in rewards and step.rewrites not in summed:
            yield f"{where}: it rewrites {step.rewrites}, which has no weight"


def shaped_ranges(
    ranges: Ranges, shaping: Sequence[Shaping], *, measures: bool = False
) -> dict[str, Interval]:
    """The ranges of all columns after the steps, or after those that measure alone."""
    found = dict(ranges)
    for step in shaping:
        if step.measures or not measures:
            found[step.rewrites] = step.range(found)
    return found


def _by_roles(roles: Roles, scores: Columns, measured: Columns, shaped: Columns) -> list[Score]:
    """Totals row by row; without shaping the three sets of columns are one."""
    _rows(scores)  # refuses columns of unequal length
    gating, summed = {**roles.gates, **roles.soft_gates}, {**roles.accuracy, **roles.format, **roles.extra}
    read = [(name, scores[name]) for name in roles.needed if name in gating]
    read += [(name, shaped[name]) for name in roles.needed if name in summed]
    read.sort(key=lambda pair: roles.needed.index(pair[0]))
    raw = _units(roles, scores, roles.ranges)
    paid = _units(roles, shaped, shaped_ranges(roles.ranges, roles.shaping))
    plain = _units(roles, measured, shaped_ranges(roles.ranges, roles.shaping, measures=True))
    a, f = math.fsum(roles.accuracy.values()), math.fsum(roles.format.values())
    totals = []
    for row in range(len(next(iter(scores.values()), ()))):
        bad = next(((name, column[row]) for name, column in read if not column[row].ok), None)
        if bad is not None:
            totals.append(_inherited(dict([bad]), dict.fromkeys(PARTS, 0.0)))
            continue
        shut = [name for name, least in roles.gates.items() if scores[name][row].value < least]
        gate = 0.0 if shut else 1.0
        for name, floor in roles.soft_gates.items():
            gate *= max(floor, raw[name][row])
        extra = math.fsum(weight * paid[name][row] for name, weight in roles.extra.items() if weight)
        means = (_mean(paid, roles.accuracy, row), _mean(paid, roles.format, row))
        value = gate * (a * means[0] + f * means[1]) / (a + f) + extra
        accuracy, form = _mean(plain, roles.accuracy, row), _mean(plain, roles.format, row)
        parsed = min((scores[name][row].parts.get("parsed", 1.0) for name in roles.accuracy), default=1.0)
        parts = dict(zip(PARTS, (accuracy, form, gate, extra, parsed), strict=True))
        totals.append(Score(min(max(value, 0.0), 1.0), parts, note=_gate_note(shut)))
    return totals


def _units(roles: Roles, columns: Columns, ranges: Ranges) -> dict[str, list[float]]:
    """The needed columns in [0, 1], 1 being good; NaN where failed."""
    units = {}
    for name in roles.needed:
        low, high = ranges[name]
        shares = [(score.value - low) / (high - low) for score in columns[name]]
        inside = [share if math.isnan(share) else min(max(share, 0.0), 1.0) for share in shares]
        units[name] = [1.0 - share for share in inside] if name in roles.falling else inside
    return units


def _mean(units: Mapping[str, Sequence[float]], weights: Mapping[str, float], row: int) -> float:
    whole = math.fsum(weights.values())
    return math.fsum(w * units[name][row] for name, w in weights.items()) / whole if whole else 0.0


def weights_of(rewards: Mapping[str, Reward], given: Mapping[str, float]) -> dict[str, float]:
    """The weights of a sum that is to rise: those given; 1 for the others, or -1 where lower is better.

    Raises:
        ValueError: a weight for a reward that is not there.
    """
    if unknown := _unknown(given, rewards):
        raise ValueError(f"weights of {', '.join(unknown)}: the rewards are {', '.join(rewards)}")
    return {
        name: given.get(name, 1.0 if reward.info.higher_is_better else -1.0)
        for name, reward in rewards.items()
    }


def check_weights(
    columns: Mapping[str, object], weights: Mapping[str, float], gates: Mapping[str, float] | None = None
) -> None:
    """Refuse weights and gates that these columns cannot be summed by.

    Raises:
        ValueError: a weight or gate for a reward that was not scored, or a weight that is not finite.
    """
    if unknown := _unknown((*weights, *(gates or {})), columns):
        raise ValueError(f"no scores of {', '.join(unknown)}: there are {', '.join(columns)}")
    for name, weight in weights.items():
        if not math.isfinite(weight):
            raise ValueError(f"the weight of {name} is {weight}")


def weighted(scores: Columns, weights: Mapping[str, float], *, failed: Policy = "propagate") -> list[Score]:
    """sum_i w_i * value_i, per sample. `parts` holds the summands; weights may be negative and are not
    normalised.

    With failed="drop" the sum over the rewards that worked is scaled by (sum of |w|) / (sum of their |w|).

    Raises:
        ValueError: a weight for a reward that was not scored or the other way round, a weight that is not
            finite, or columns of unequal length.
    """
    check_policy(failed)
    if set(scores) != set(weights):
        raise ValueError(f"scores of {', '.join(scores)} but a weight for {', '.join(weights)}")
    check_weights(scores, weights)
    whole = sum(abs(weight) for weight in weights.values())
    totals = []
    for row in _rows(scores):
        bad = {name: score for name, score in row.items() if not score.ok and weights[name] != 0}
        parts = {name: weights[name] * score.value for name, score in row.items() if score.ok}
        kept = sum(abs(weights[name]) for name in parts)
        if bad and (failed == "propagate" or kept == 0):
            totals.append(_inherited(bad, parts))
        else:
            scale = whole / kept if bad else 1.0
            totals.append(Score(scale * sum(parts.values()), parts))
    return totals


def gated(total: Sequence[Score], gates: Mapping[str, tuple[Sequence[Score], float]]) -> list[Score]:
    """The total where every gate's score reaches its threshold, else 0; a gate that failed fails the total.

    Args:
        total: what is let through.
        gates: name -> (scores, smallest value that opens the gate).
    """
    results = []
    for index, score in enumerate(total):
        levels = {name: column[index] for name, (column, _) in gates.items()}
        bad = {name: level for name, level in levels.items() if not level.ok}
        if bad:
            results.append(_inherited(bad, score.parts))
            continue
        shut = [name for name, level in levels.items() if level.value < gates[name][1]]
        if shut and score.ok:
            results.append(Score(0.0, score.parts, note=_gate_note(shut)))
        else:
            results.append(score)
    return results


def group_zscore(scores: Sequence[Score], groups: Groups, *, ddof: int = 0, eps: float = 1e-6) -> list[Score]:
    """(value - group mean) / group std over the scores that worked; the failed ones stay failed and count
    nowhere.

    A group whose values differ by less than `eps` (or with fewer than two) gives 0: it says nothing about
    which sample is better. No epsilon is added to the denominator.

    Raises:
        ValueError: as many groups as scores are needed, and every score that worked must have one.
    """
    if len(groups) != len(scores):
        raise ValueError(f"{len(scores)} scores and {len(groups)} groups")
    # A row that could not be read has no group, and costs itself alone.
    known = [
        "" if group is None and not score.ok else group for score, group in zip(scores, groups, strict=True)
    ]
    results = list(scores)
    for indices in by_group(known, len(scores), "score").values():
        valid = [index for index in indices if scores[index].ok]
        mean = fmean(scores[index].value for index in valid) if valid else math.nan
        spread = sum((scores[index].value - mean) ** 2 for index in valid)
        std = math.sqrt(spread / (len(valid) - ddof)) if len(valid) > ddof else 0.0
        for index in valid:
            z = (scores[index].value - mean) / std if std > eps else 0.0
            results[index] = Score(z, {**scores[index].parts, "raw": scores[index].value})
    return results


def by_group(groups: Groups, number: int, row: str = "row") -> dict[str, list[int]]:
    """Row numbers by group, in the order in which the groups appear; `row` is the word for one in messages.

    Raises:
        ValueError: other than `number` groups, or a row without one.
    """
    if len(groups) != number:
        raise ValueError(f"{number} {row}s and {len(groups)} groups")
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        if group is None:
            raise ValueError(f"{row} {index} has no group")
        members.setdefault(group, []).append(index)
    return members


def group_means(scores: Sequence[Score], groups: Groups) -> dict[str, float]:
    """Mean of the scores that worked by group, NaN where none did; raises as `by_group`."""
    means = {}
    for group, rows in by_group(groups, len(scores)).items():
        values = [scores[row].value for row in rows if scores[row].ok]
        means[group] = fmean(values) if values else math.nan
    return means


def check_policy(failed: str) -> None:
    """Raises ValueError for an unknown policy."""
    if failed not in get_args(Policy):
        raise ValueError(f"failed is one of {', '.join(get_args(Policy))}, not {failed!r}")


def _unknown(names: Iterable[str], known: Mapping[str, object]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name not in known]


def _gate_note(shut: Sequence[str]) -> str:
    return f"gate shut: {', '.join(shut)}" if shut else ""


def _rows(scores: Columns) -> list[dict[str, Score]]:
    lengths = {name: len(column) for name, column in scores.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of unequal length: {lengths}")
    return [dict(zip(scores, row, strict=True)) for row in zip(*scores.values(), strict=True)]


def _inherited(bad: Mapping[str, Score], parts: Mapping[str, float]) -> Score:
    name, first = next(iter(bad.items()))
    others = f" (and {', '.join(list(bad)[1:])})" if len(bad) > 1 else ""
    return Score.failed(first.status, f"{name}{others}: {first.note}", parts)
