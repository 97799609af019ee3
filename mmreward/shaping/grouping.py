"""Which samples belong to one prompt. Pure functions over the group names of samples, see `types.Sample`."""

import math
from collections.abc import Sequence
from statistics import fmean

from ..types import Score


def by_group(groups: Sequence[str | None], number: int) -> dict[str, list[int]]:
    """The row numbers of each group, in the order in which the groups appear.

    Raises:
        ValueError: other than `number` groups, or a row without one.
    """
    if len(groups) != number:
        raise ValueError(f"{number} rows and {len(groups)} groups")
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        if group is None:
            raise ValueError(f"row {row} has no group")
        members.setdefault(group, []).append(row)
    return members


def group_means(scores: Sequence[Score], groups: Sequence[str | None]) -> dict[str, float]:
    """Mean of the scores that worked by group; NaN where none did.

    Raises:
        ValueError: as `by_group`.
    """
    means = {}
    for group, rows in by_group(groups, len(scores)).items():
        values = [scores[row].value for row in rows if scores[row].ok]
        means[group] = fmean(values) if values else math.nan
    return means
