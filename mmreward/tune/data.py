"""Training data: prompts or preference pairs of a run, the rows of each round with their seeds, and cached
latents.

The rows of a round are a pure function of the run's seed and the round, so a resumed run, and any number of
processes, agree on every draw without exchanging anything. Every seed of a run is named by `seed_of`. Knows
no network.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..data.pair_folder import PreferencePair, read_pairs, without_ties
from ..data.rows import read_rows
from ..generator import Generator
from ..media import Media
from ..types import Sample
from .config import PromptsConfig


def seed_of(*names: object) -> int:
    """A seed, 0 to 2^63 - 1, named by its purpose, such as `seed_of(run, "step", round, row, 3)`.

    Equal names give equal seeds on every machine, and different names independent ones, so no generator's
    state has to be kept or exchanged.
    """
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
    """Rows of one round: `prompts` different prompts, each `group` times in a row.

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
        raise ValueError(
            f"a round needs {prompts} prompts and the data has {num_prompts}: lower rollout.prompts"
        )
    rows: list[Row] = []
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
    """Micro-batches of this process, for each of the round's optimiser steps.

    The rows of an optimiser step do not depend on the number of processes.

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


class KnownLatents:
    """Latents of pictures and clips that are there already, kept up to a limit; the others are encoded again.

    Each is encoded alone, so that its latents do not depend on the rest of its batch.

    Args:
        generator: encodes the media.
        limit: bytes of latents that are kept, in the memory of the CPU.
    """

    def __init__(self, generator: Generator, limit: int) -> None:
        self._generator, self._limit = generator, limit
        self._kept: dict[str, torch.Tensor] = {}
        self._size = 0

    def of(self, media: Sequence[Media]) -> torch.Tensor:
        """Latents (N, ...), float32, on the generator's device.

        Raises:
            ValueError: a file that cannot be read or has another size than the generator makes, by its name.
        """
        return torch.stack([self._one(each) for each in media]).to(self._generator.device)

    def _one(self, media: Media) -> torch.Tensor:
        try:
            known = self._kept.get(media.key)
            if known is not None:
                return known
            pixels = media.pixels().to(self._generator.device).float() / 255
            latents = self._generator.to_latents(pixels[None])[0].cpu()
        except ValueError as error:
            raise ValueError(f"{media!r} has no latents: {error}") from error
        size = latents.nbytes
        if self._size + size <= self._limit:
            self._kept[media.key] = latents
            self._size += size
        return latents


WORLD = "shapes-world"


def load_prompts(config: PromptsConfig) -> list[Sample]:
    """Prompts as samples without a picture; their other fields go to the rewards as they are.

    Raises:
        ValueError: no such data, rows that cannot be read, no rows, or rows without a prompt.
    """
    samples = _captions(config) if config.data == WORLD else _rows(config)
    if not samples:
        raise ValueError(f"{config.data} has no rows")
    empty = [sample.id for sample in samples if not sample.prompt.strip()]
    if empty:
        raise ValueError(f"{config.data}: {len(empty)} rows have no prompt, the first is {empty[0]!r}")
    return samples


def load_pairs(config: PromptsConfig) -> list[PreferencePair]:
    """Preference pairs, the first `count` of them.

    Raises:
        ValueError: as `read_pairs`, or one of them is a tie.
    """
    return list(without_ties(read_pairs(config.data)[: config.count], "DPO"))


def _captions(config: PromptsConfig) -> list[Sample]:
    from ..mini import flow, tasks

    captions = flow.held_out(config.count or 256, config.seed)
    return [
        Sample(
            id=f"{config.seed}-{number}",
            prompt=str(caption),
            meta={"checklist": [{"question": q, "answer": a} for q, a in tasks.checklist(caption)]},
        )
        for number, caption in enumerate(captions)
    ]


def _rows(config: PromptsConfig) -> list[Sample]:
    rows = list(read_rows(config.data))
    bad = [row for row in rows if row.sample is None]
    if bad:
        raise ValueError(
            f"{config.data}: {len(bad)} rows cannot be read; the first is {bad[0].id}: {bad[0].problem}"
        )
    samples = [row.sample for row in rows if row.sample is not None]
    return samples[: config.count]
