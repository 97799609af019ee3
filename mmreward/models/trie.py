"""Rows of tokens that begin alike, laid out so that every common beginning is computed once. No torch.

A tree of rows is one sequence in depth-first order. A token may look at the tokens before it on its own path
to the root, and at nothing else; since the order is depth-first, that is an interval test (see `ends`), so a
mask needs one number per token. SGLang calls the one-level form multi-item scoring.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]


class Tree(NamedTuple):
    """Several rows as one sequence of T tokens.

    `source` (T, 2) says which row, and which of its tokens, stands at each place. `paths` holds for each row
    the places of its tokens. The token at place i sees place j exactly when j <= i < ends[j].
    """

    source: Ints
    paths: list[Ints]
    ends: Ints

    def __len__(self) -> int:
        return len(self.source)


def grow(rows: Sequence[Ints]) -> Tree:
    """Merge the common beginnings of rows.

    Args:
        rows: what each token is, as numbers: equal numbers at equal places after an equal beginning mean the
            same computation. Two pictures' tokens must differ though their ids do not.
    """
    paths: list[Ints] = [np.empty(0, np.int64)] * len(rows)
    source: list[Ints] = []
    size = 0
    before = np.empty(0, np.int64)
    path = np.empty(0, np.int64)
    # In sorted order a row has the longest beginning in common with the row just before it.
    for index in sorted(range(len(rows)), key=lambda index: rows[index].astype(">i8").tobytes()):
        row = rows[index]
        common = shared_length(before, row)
        fresh = len(row) - common
        path = np.concatenate([path[:common], np.arange(size, size + fresh)])
        source.append(np.stack([np.full(fresh, index), np.arange(common, len(row))], axis=1))
        size += fresh
        paths[index] = path
        before = row
    ends = np.zeros(size, np.int64)
    for path in paths:
        ends[path] = np.maximum(ends[path], path[-1] + 1 if len(path) else 0)
    return Tree(np.concatenate(source) if source else np.empty((0, 2), np.int64), paths, ends)


def shared_length(first: Ints, second: Ints) -> int:
    """How many tokens two rows have in common from their beginning."""
    length = min(len(first), len(second))
    differ = np.flatnonzero(first[:length] != second[:length])
    return int(differ[0]) if differ.size else length
