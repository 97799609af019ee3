"""Which prompts and seeds each round of training uses: a pure function of the run's seed and the round.

So a resumed run, and any number of processes, agree on every draw without exchanging anything. Knows no network.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def seed_of(*names: object) -> int:
    """A seed, 0 to 2^63 - 1, named by what it is for, such as `seed_of(run, "step", round, row, 3)`."""
    digest = hashlib.blake2b(repr(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True, slots=True)
class Row:
    """One sample to draw.

    Args:
        index: its place in the round, over all processes.
        prompt: index of its prompt in the data.
        group: the round's number of the prompt; rows of one group are neighbours.
        start: seed of its starting noise.
    """

    index: int
    prompt: int
    group: int
    start: int


def draw_rows(
    num_prompts: int, *, prompts: int, group: int, round: int, seed: int, same_noise: bool = False
) -> list[Row]:
    """The rows of one round: `prompts` different prompts, each `group` times in a row.

    The data is gone through in a new order each time around, and no prompt comes twice in one round.

    Args:
        num_prompts: prompts in the data.
        prompts: prompts in a round.
        group: samples of one prompt.
        round: number of the round.
        seed: of the run.
        same_noise: all samples of a group start at the same noise (DanceGRPO).

    Raises:
        ValueError: the data has fewer prompts than a round needs.
    """
    if prompts > num_prompts:
        raise ValueError(f"a round needs {prompts} prompts and the data has {num_prompts}: lower rollout.prompts")
    rows = []
    for number, prompt in enumerate(_picked(num_prompts, prompts, round, seed)):
        for member in range(group):
            start = seed_of(seed, "start", round, number, 0 if same_noise else member)
            rows.append(Row(len(rows), prompt, number, start))
    return rows


def _picked(num_prompts: int, prompts: int, round: int, seed: int) -> list[int]:
    rounds_per_pass = num_prompts // prompts
    lap, place = divmod(round, rounds_per_pass)
    order = np.random.default_rng((seed, lap)).permutation(num_prompts)
    return [int(index) for index in order[place * prompts : (place + 1) * prompts]]


def share_out(
    rows: Sequence[Row], *, micro_batch: int, updates: int, rank: int, world: int
) -> list[list[list[Row]]]:
    """This process's micro-batches, for each of the round's optimiser steps.

    What an optimiser step is made of does not depend on the number of processes.

    Raises:
        ValueError: the rows do not divide evenly; the message says what would.
    """
    number, rest = divmod(len(rows), micro_batch)
    if rest or number % (updates * world):
        raise ValueError(
            f"{len(rows)} samples in a round, {micro_batch} in a micro-batch, {updates} updates and {world} "
            f"processes do not fit: prompts x group must be a multiple of micro_batch x updates x processes"
        )
    batches = [list(rows[i * micro_batch : (i + 1) * micro_batch]) for i in range(number)]
    size = number // updates
    return [batches[u * size : (u + 1) * size][rank::world] for u in range(updates)]
