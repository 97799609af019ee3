"""Which rows belong together: the samples of one prompt. Ids stay integers from end to end."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


def members(groups: ArrayLike) -> list[Rows]:
    """The row numbers of each group, in the order of the ids.

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
    """`values` as (N,) float64 with NaN for a failed score, checked against the groups.

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
