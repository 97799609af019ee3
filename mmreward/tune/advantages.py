"""Group advantages: z-scores, ranks of best and worst, within the samples of one prompt; one reward.

Three parts: groups and their scores, advantages, and the choice of samples to learn from (best against worst,
the best alone). Several rewards are `aggregate`'s business. Pure numpy in float64: it runs once per rollout,
on gathered scores, and must be exact. Group ids stay integers from end to end; a failed score is NaN, and is
left out of every statistic instead of being filled in. (`compose.by_group` does the same for named groups of
`Score`s.)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypedDict, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


def members(groups: ArrayLike) -> list[Rows]:
    """Row numbers of each group, in the order of the ids.

    Args:
        groups: (N,) integer ids. Floating point is refused: from 2^53 on, neighbours become one id.

    Raises:
        ValueError: ids that are not one-dimensional, or not integers.
    """
    ids = np.asarray(groups)
    if ids.ndim != 1:
        raise ValueError(f"groups has shape {ids.shape}; give one id per row, (N,)")
    if not len(ids):
        return []
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"groups are {ids.dtype}; give integers, which stay exact beyond 2^53")
    order = np.argsort(ids, kind="stable")
    starts = np.flatnonzero(np.diff(ids[order])) + 1
    return np.split(order.astype(np.int64), starts)


def scores(values: ArrayLike, groups: ArrayLike, name: str = "values") -> Floats:
    """Scores as (N,) float64 with NaN for a failed one, checked against the groups.

    Raises:
        ValueError: another shape than the groups, or an infinite value; the message names the row.
    """
    column = np.asarray(values, dtype=np.float64)
    if column.shape != np.shape(groups):
        raise ValueError(f"{name} has shape {column.shape} and groups {np.shape(groups)}; both are (N,)")
    infinite = np.flatnonzero(np.isinf(column))
    if len(infinite):
        raise ValueError(f"{name}[{infinite[0]}] is {column[infinite[0]]}; a failed score is NaN")
    return column


StdScope = Literal["group", "global", "none"]
ZeroVariance = Literal["drop", "keep"]
Baseline = Literal["mean", "leave_one_out", "none"]

RESOLUTION = 1e-7
"""Values of a group that differ by less than this share of the largest count as equal: rewards are computed
in float32."""


class GroupOptions(TypedDict, total=False):
    """The keyword arguments of `group_advantages`."""

    std_scope: StdScope
    ddof: int
    eps: float
    clip: float
    min_valid: int
    zero_variance: ZeroVariance
    baseline: Baseline
    trim: float


@dataclass(frozen=True, slots=True)
class Advantages:
    """Advantages of rows, for a policy gradient.

    Args:
        values: (N,) float64, 0 where not usable.
        usable: (N,) bool; the other rows must not enter a loss or its denominator.
        stats: for logs; see `group_advantages`.
    """

    values: Floats
    usable: Bools
    stats: Mapping[str, float] = field(default_factory=dict)


def group_advantages(
    values: ArrayLike,
    groups: ArrayLike,
    *,
    std_scope: StdScope = "group",
    ddof: int = 0,
    eps: float = 1e-4,
    clip: float = 5.0,
    min_valid: int = 2,
    zero_variance: ZeroVariance = "drop",
    baseline: Baseline = "mean",
    trim: float = 0.0,
) -> Advantages:
    """Group advantages (value - baseline) / (std + eps), clipped; failed scores are in no mean and no std.

    The statistics `missing` (failed rows), `groups`, `dropped_groups` (too few scores), `zero_std_share`
    (of the groups that have enough) and `mean_group_std` come along.

    Args:
        values: (N,) scores; NaN is a failed one.
        groups: (N,) integer ids, exact beyond 2^53.
        std_scope: over the "group", over all scores of the call ("global", flow_grpo), or 1 ("none").
        ddof: 0 divides by n (numpy, flow_grpo), 1 by n - 1 (torch, DanceGRPO).
        eps: added to the std, in units of the reward. 1e-4 in flow_grpo, 1e-8 in DanceGRPO.
        clip: largest size of an advantage; math.inf for none.
        min_valid: groups with fewer scores are not usable.
        zero_variance: groups whose scores are all equal are not usable ("drop") or 0 ("keep").
        baseline: the group's mean, the mean of the others in the group ("leave_one_out"), or nothing.
        trim: share of a group's scores that is left out of mean and std at each end.

    Raises:
        ValueError: an unknown choice, a number outside its range, ids that are not integers, an infinite
            value.
    """
    _check(std_scope, ddof, eps, clip, min_valid, zero_variance, baseline, trim)
    column = scores(values, groups)
    valid = np.isfinite(column)
    rows_by_group = members(groups)
    result, usable = np.zeros(len(column)), np.zeros(len(column), dtype=bool)
    overall = float(np.std(column[valid], ddof=ddof)) if valid.sum() > ddof else math.nan
    stds = []
    for rows in rows_by_group:
        # A NaN in a mean would take its whole group along, and a filled-in value would move everybody's
        # baseline: failed rows are cut out first, and the group is as large as what is left.
        rows = rows[valid[rows]]
        if len(rows) < min_valid:
            continue
        core = _trimmed(column[rows], trim)
        flat = float(np.ptp(core)) <= RESOLUTION * float(np.abs(core).max())
        stds.append(0.0 if flat else float(np.std(core, ddof=ddof)))
        usable[rows] = not flat or zero_variance == "keep"
        if not flat:
            scale = {"group": stds[-1] + eps, "global": overall + eps, "none": 1.0}[std_scope]
            result[rows] = np.clip(_centred(column[rows], core, baseline) / scale, -clip, clip)
    stats = {
        "missing": float((~valid).sum()),
        "groups": float(len(rows_by_group)),
        "dropped_groups": float(len(rows_by_group) - len(stds)),
        "zero_std_share": stds.count(0.0) / len(stds) if stds else 0.0,
        "mean_group_std": float(np.mean(stds)) if stds else 0.0,
    }
    return Advantages(result, usable, stats)


def _trimmed(values: Floats, trim: float) -> Floats:
    cut = int(trim * len(values))
    return np.sort(values)[cut : len(values) - cut]


def _centred(values: Floats, core: Floats, baseline: Baseline) -> Floats:
    if baseline == "none":
        return values
    if baseline == "mean":
        return values - float(core.mean())
    # Leave one out: the baseline of a row is the mean of the others, so it does not depend on the row itself
    # and the gradient is unbiased (RLOO). It is n / (n - 1) times the centred value.
    return values - (float(values.sum()) - values) / (len(values) - 1)


def _check(
    std_scope: str,
    ddof: int,
    eps: float,
    clip: float,
    min_valid: int,
    zero_variance: str,
    baseline: str,
    trim: float,
) -> None:
    choices = (
        ("std_scope", std_scope, get_args(StdScope)),
        ("zero_variance", zero_variance, get_args(ZeroVariance)),
        ("baseline", baseline, get_args(Baseline)),
    )
    for name, given, known in choices:
        if given not in known:
            raise ValueError(f"{name} is one of {', '.join(known)}, not {given!r}")
    if ddof not in (0, 1):
        raise ValueError(f"ddof is 0 or 1, not {ddof}")
    if not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"eps is {eps}; it is at least 0")
    if not clip > 0:
        raise ValueError(f"clip is {clip}; it is above 0, math.inf for no clipping")
    if not 0 <= trim < 0.5:
        raise ValueError(f"trim is {trim}; it is a share at each end, from 0 to below 0.5")
    least = 1 + max(ddof, int(baseline == "leave_one_out"))
    if min_valid < least:
        raise ValueError(f"min_valid is {min_valid}; baseline {baseline!r} with ddof {ddof} needs {least}")
    if baseline == "leave_one_out" and trim:
        raise ValueError("baseline 'leave_one_out' takes every other score; set trim to 0")


def best_and_worst(values: ArrayLike, groups: ArrayLike) -> Rows:
    """Best against worst: (P, 2) row numbers (chosen, rejected), one pair per group, for online DPO.

    A group gives no pair when fewer than two scores worked or all are equal: a tie teaches nothing. Among
    equals the first row is taken. (`data.pairs` chooses among stored samples, with margins and duplicates.)

    Args:
        values: (N,) scores, NaN where failed.
        groups: (N,) integer ids.

    Raises:
        ValueError: as `members` and `scores`.
    """
    column = scores(values, groups)
    pairs = []
    for rows in _valid(column, groups):
        best, worst = rows[np.argmax(column[rows])], rows[np.argmin(column[rows])]
        if column[best] > column[worst]:
            pairs.append((best, worst))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def best_shares(values: ArrayLike, groups: ArrayLike) -> Floats:
    """Loss weights (N,) for `losses.sft`: 1 per group, on its best row; rows that tie share it equally.

    Groups in which all scores failed have no weight.
    """
    column = scores(values, groups)
    weights = np.zeros(len(column))
    for rows in _valid(column, groups):
        best = rows[column[rows] == column[rows].max()]
        weights[best] = 1 / len(best)
    return weights


def _valid(column: Floats, groups: ArrayLike) -> list[Rows]:
    kept = [rows[np.isfinite(column[rows])] for rows in members(groups)]
    return [rows for rows in kept if len(rows)]
