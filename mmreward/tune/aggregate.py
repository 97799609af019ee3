"""Several rewards into one set of advantages.

`mmreward.compose` makes one `Score` per sample, for results that people read. This module works on the
gathered columns of a rollout and makes advantages: it standardises within groups, and leaves a row out as
soon as one of its rewards failed, so that what is left of a group is still centred.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, Unpack, get_args, overload

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from .advantages import Advantages, GroupOptions, group_advantages
from .groups import Bools, Floats, members, scores

JointMode = Literal["zscore_sum", "raw_sum", "weighted_mean", "min", "max", "rank_sum", "gated"]
Mode = Literal["zscore_sum", "raw_sum", "weighted_mean", "min", "max", "rank_sum", "gated", "separate_loss"]

ROUNDING = 1e-9
"""A weighted sum of z-scores below this share of the weights is the rounding of zero."""


@overload
def aggregate(
    columns: Mapping[str, ArrayLike],
    weights: Mapping[str, float],
    groups: ArrayLike,
    *,
    mode: JointMode = ...,
    gates: Mapping[str, float] | None = ...,
    restandardise: bool = ...,
    **options: Unpack[GroupOptions],
) -> Advantages: ...
@overload
def aggregate(
    columns: Mapping[str, ArrayLike],
    weights: Mapping[str, float],
    groups: ArrayLike,
    *,
    mode: Literal["separate_loss"],
    **options: Unpack[GroupOptions],
) -> dict[str, Advantages]: ...
def aggregate(
    columns: Mapping[str, ArrayLike],
    weights: Mapping[str, float],
    groups: ArrayLike,
    *,
    mode: Mode = "zscore_sum",
    gates: Mapping[str, float] | None = None,
    restandardise: bool = False,
    **options: Unpack[GroupOptions],
) -> Advantages | dict[str, Advantages]:
    """One advantage per row from several rewards.

    - zscore_sum: every reward is standardised within its groups, then weighted and summed (MixGRPO, GDPO).
      The scale and offset of a reward do not matter.
    - rank_sum: the same over ranks within the group; no monotone change of a reward matters.
    - raw_sum, weighted_mean, min, max: of weight * value, then standardised. The mean divides by the sum of
      the weights' sizes. Rewards on different scales swamp each other.
    - gated: zscore_sum, but a row below a gate gets the lowest total of its group, so it never beats a row
      that passes; then standardised. (`compose.gated` gives 0, which can beat a negative total.)
    - separate_loss: one `Advantages` per reward, times its weight: sum the losses (DanceGRPO's VQ and MQ).

    Args:
        columns: reward -> (N,) scores, NaN where failed; those without weight or gate are not looked at.
        weights: reward -> weight; negative ones turn a reward round, 0 leaves it out.
        groups: (N,) integer ids.
        mode: as above.
        gates: reward -> smallest raw value that passes; for mode "gated" only.
        restandardise: zscore_sum and rank_sum: standardise the sums once more over all rows (GDPO).
        options: as `group_advantages`. Where rewards are standardised one by one (zscore_sum, rank_sum,
            gated, separate_loss) eps is 0 unless given, since one eps cannot suit every scale.

    Raises:
        ValueError: a weight or gate without scores, a weight that is not finite, no weight but 0, gates or
            restandardise in a mode that has none, or as `group_advantages`.
    """
    gates = gates or {}
    _check(columns, weights, gates, mode, restandardise)
    used = {name: weight for name, weight in weights.items() if weight != 0}
    table = {name: scores(columns[name], groups, name) for name in (*used, *gates)}
    if mode == "separate_loss":
        alone: GroupOptions = {"eps": 0.0, **options}
        return {name: _times(group_advantages(table[name], groups, **alone), used[name]) for name in used}
    complete = np.all([np.isfinite(column) for column in table.values()], axis=0)
    table = {name: np.where(complete, column, np.nan) for name, column in table.items()}
    if mode not in ("zscore_sum", "rank_sum", "gated"):
        return group_advantages(_raw_total(table, used, mode), groups, **options)
    ranked = {name: _ranks(table[name], groups) if mode == "rank_sum" else table[name] for name in used}
    total, stats = _standardised_sum(ranked, used, groups, options)
    if mode == "gated":
        _shut(total, table, gates, groups)
        return _with(group_advantages(total, groups, **options), stats)
    if restandardise:
        total = _standard(total)
    kept: GroupOptions = {**options, "std_scope": "none", "baseline": "none", "trim": 0.0}
    return _with(group_advantages(total, groups, **kept), stats)


def _raw_total(table: Mapping[str, Floats], weights: Mapping[str, float], mode: str) -> Floats:
    terms = np.stack([weight * table[name] for name, weight in weights.items()])
    if mode == "min":
        return np.asarray(terms.min(axis=0))
    if mode == "max":
        return np.asarray(terms.max(axis=0))
    whole = sum(abs(weight) for weight in weights.values()) if mode == "weighted_mean" else 1.0
    return np.asarray(terms.sum(axis=0) / whole)


def _standardised_sum(
    table: Mapping[str, Floats], weights: Mapping[str, float], groups: ArrayLike, options: GroupOptions
) -> tuple[Floats, dict[str, float]]:
    """Weighted z-scores, NaN where not usable; and each reward's share of groups without spread."""
    each: GroupOptions = {"eps": 0.0, **options, "clip": math.inf, "zero_variance": "keep"}
    parts = {name: group_advantages(table[name], groups, **each) for name in weights}
    terms = [weight * parts[name].values for name, weight in weights.items()]
    total = np.sum(terms, axis=0)
    total[np.abs(total) < ROUNDING * np.sum(np.abs(terms), axis=0)] = 0.0
    total[~next(iter(parts.values())).usable] = np.nan
    return total, {f"zero_std_share/{name}": part.stats["zero_std_share"] for name, part in parts.items()}


def _ranks(column: Floats, groups: ArrayLike) -> Floats:
    ranks = np.full_like(column, np.nan)
    for rows in members(groups):
        rows = rows[np.isfinite(column[rows])]
        ranks[rows] = rankdata(column[rows])
    return ranks


def _shut(total: Floats, table: Mapping[str, Floats], gates: Mapping[str, float], groups: ArrayLike) -> None:
    passed: Bools = np.all([table[name] >= least for name, least in gates.items()], axis=0)
    for rows in members(groups):
        rows = rows[np.isfinite(total[rows])]
        if len(rows):
            total[rows[~passed[rows]]] = total[rows].min()


def _standard(total: Floats) -> Floats:
    kept = total[np.isfinite(total)]
    std = float(kept.std()) if len(kept) else 0.0
    return (total - kept.mean()) / std if std > 0 else total


def _times(advantages: Advantages, weight: float) -> Advantages:
    return replace(advantages, values=weight * advantages.values)


def _with(advantages: Advantages, stats: Mapping[str, float]) -> Advantages:
    return replace(advantages, stats={**advantages.stats, **stats})


def _check(
    columns: Mapping[str, ArrayLike],
    weights: Mapping[str, float],
    gates: Mapping[str, float],
    mode: str,
    restandardise: bool,
) -> None:
    if mode not in get_args(Mode):
        raise ValueError(f"mode is one of {', '.join(get_args(Mode))}, not {mode!r}")
    unknown = [name for name in (*weights, *gates) if name not in columns]
    if unknown:
        raise ValueError(f"no scores of {', '.join(unknown)}: there are {', '.join(columns)}")
    for name, weight in weights.items():
        if not math.isfinite(weight):
            raise ValueError(f"the weight of {name} is {weight}")
    if not any(weights.values()):
        raise ValueError(f"no reward has a weight other than 0: {dict(weights)}")
    if bool(gates) != (mode == "gated"):
        raise ValueError(f"mode {mode!r} with gates {dict(gates)}: gates and mode 'gated' go together")
    if restandardise and mode not in ("zscore_sum", "rank_sum"):
        raise ValueError(f"restandardise is for zscore_sum and rank_sum, not {mode!r}")
