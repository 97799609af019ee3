"""Reference pictures, which edits start from: how many a family takes, and rows that differ in their sizes.

A transformer takes one size of reference per forward, so rows are run in groups of the same size. Tokens are
padded to one length only to be kept in one tensor; the padding never reaches the network.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from mmreward.media import Media

Sizes = tuple[tuple[int, int], ...]
"""Rows and columns of tokens of every reference picture of a row."""


def refuse(inputs: Sequence[Sequence[Media]], family: str) -> None:
    """Raise ValueError naming the first row that has condition pictures."""
    for row, pictures in enumerate(inputs):
        if pictures:
            raise ValueError(f"row {row} has {len(pictures)} condition pictures, but {family} takes none")


def require(inputs: Sequence[Sequence[Media]], rows: int, family: str, most: int = 1) -> None:
    """Raise ValueError unless each of `rows` rows has 1 to `most` condition pictures."""
    if len(inputs) != rows:
        raise ValueError(
            f"{rows} prompts but condition pictures for {len(inputs)} rows, so row {min(len(inputs), rows)} "
            f"has only one of them; {family} takes one sequence of pictures per prompt"
        )
    for row, pictures in enumerate(inputs):
        if not 1 <= len(pictures) <= most:
            raise ValueError(
                f"row {row} has {len(pictures)} condition pictures; {family} takes "
                + ("one" if most == 1 else f"1 to {most}")
            )


def padded(rows: torch.Tensor, length: int) -> torch.Tensor:
    """(L, D) to (`length`, D), zeros behind."""
    return F.pad(rows, (0, 0, 0, length - len(rows)))


def in_groups(sizes: torch.Tensor, run: Callable[[torch.Tensor, Sizes], torch.Tensor]) -> torch.Tensor:
    """`run(rows, sizes)` for each group of rows with the same sizes; results in the order of the rows.

    `sizes` is (N, K, 2): rows and columns of tokens of every picture. A size of 0 x 0 stands for no picture
    and is left out of what `run` is told.
    """
    groups: dict[Sizes, list[int]] = {}
    for row, pairs in enumerate(sizes.tolist()):
        groups.setdefault(tuple((height, width) for height, width in pairs if height), []).append(row)
    order = torch.tensor([row for rows in groups.values() for row in rows], device=sizes.device)
    results = [run(torch.tensor(rows, device=sizes.device), size) for size, rows in groups.items()]
    return torch.cat(results)[order.argsort()]
