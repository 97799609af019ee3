"""Which samples of a group to learn from: best against worst, the best alone, or both ends."""

import numpy as np
from numpy.typing import ArrayLike

from .groups import Bools, Floats, Rows, members, scores


def best_and_worst(values: ArrayLike, groups: ArrayLike, *, min_spread: float = 0.0) -> Rows:
    """(P, 2) row numbers (chosen, rejected), one pair per group, for online DPO.

    A group gives no pair when fewer than two scores worked, when all are equal, or when best and worst are
    less than `min_spread` apart: a tie teaches nothing. Among equals the first row is taken.

    Args:
        values: (N,) scores, NaN where failed.
        groups: (N,) integer ids.
        min_spread: in units of the values.

    Raises:
        ValueError: as `groups.members` and `groups.scores`.
    """
    column = scores(values, groups)
    pairs = []
    for rows in _valid(column, groups):
        best, worst = rows[np.argmax(column[rows])], rows[np.argmin(column[rows])]
        spread = column[best] - column[worst]
        if spread > 0 and spread >= min_spread:
            pairs.append((best, worst))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def best_shares(values: ArrayLike, groups: ArrayLike) -> Floats:
    """(N,) weights for `losses.sft`: 1 per group, on its best row; rows that tie share it equally.

    Groups in which all scores failed have no weight.
    """
    column = scores(values, groups)
    weights = np.zeros(len(column))
    for rows in _valid(column, groups):
        best = rows[column[rows] == column[rows].max()]
        weights[best] = 1 / len(best)
    return weights


def both_ends(values: ArrayLike, groups: ArrayLike, *, keep: int) -> Bools:
    """(N,) bool: the `keep` // 2 lowest and the rest of `keep` highest of each group, as DanceGRPO's
    best-of-n. A group with no more than `keep` scores keeps them all.

    Raises:
        ValueError: fewer than two to keep.
    """
    if keep < 2:
        raise ValueError(f"keep is {keep}; a group needs at least 2 rows to have two ends")
    column = scores(values, groups)
    kept = np.zeros(len(column), dtype=bool)
    for rows in _valid(column, groups):
        order = rows[np.argsort(column[rows], kind="stable")]
        kept[order if len(order) <= keep else np.r_[order[: keep // 2], order[-(keep - keep // 2) :]]] = True
    return kept


def _valid(column: Floats, groups: ArrayLike) -> list[Rows]:
    kept = [rows[np.isfinite(column[rows])] for rows in members(groups)]
    return [rows for rows in kept if len(rows)]
