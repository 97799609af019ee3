"""A sampler and a reward whose use is counted, prompt by prompt, and cut into batches that fit memory."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ...types import Score
from .found import Spent
from .rewarding import Scores, settled
from .sampler import Rows, Sampler


class Counted:
    """Everything a search spends goes through here.

    Args:
        sampler: what is sampled from.
        batch: rows in one call of the network or the decoder.
    """

    def __init__(self, sampler: Sampler, batch: int) -> None:
        if batch < 1:
            raise ValueError(f"batch must be at least 1, not {batch}")
        self.sampler, self.batch = sampler, batch
        self._spent = np.zeros((sampler.prompts, len(Spent._fields)), dtype=np.int64)

    def spent(self, prompt: int) -> Spent:
        return Spent(*self._spent[prompt].tolist())

    def predict(self, states: torch.Tensor, i: int, prompts: Rows) -> torch.Tensor:
        """`Sampler.predict`, batch by batch."""
        self._count("forwards", prompts, self.sampler.forwards)
        return torch.cat(
            [self.sampler.predict(states[rows], i, prompts[rows]) for rows in self._batches(len(states))]
        )

    def decode(self, latents: torch.Tensor, prompts: Rows) -> list[Any]:
        """`Sampler.decode`, batch by batch."""
        self._count("decodes", prompts)
        return [one for rows in self._batches(len(latents)) for one in self.sampler.decode(latents[rows])]

    def ask(
        self, judge: Callable[[Sequence[Any], Rows], Scores], media: Sequence[Any], prompts: Rows
    ) -> list[Score]:
        """One score per row from a reward or a judge; nothing is asked about nothing."""
        if not media:
            return []
        self._count("calls", prompts)
        return settled(judge(media, prompts), len(media))

    def _count(self, what: str, prompts: Rows, times: int = 1) -> None:
        column = Spent._fields.index(what)
        self._spent[:, column] += times * np.bincount(prompts, minlength=len(self._spent))

    def _batches(self, number: int) -> list[slice]:
        return [slice(start, start + self.batch) for start in range(0, number, self.batch)]
