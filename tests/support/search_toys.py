"""Samplers whose every distribution is known: a Gaussian walk and a chain of bits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri

from mmreward import Score
from mmreward.search.sampler import derive


def uniform(seeds: np.ndarray) -> np.ndarray:
    return (derive(0, seeds) + 0.5) / 2.0**63


@dataclass
class Walk:
    """x0 ~ N(0, std^2) as a walk of equal steps, so E[x0 | state] is the state."""

    steps: int = 8
    std: float = 1.0
    prompts: int = 1
    forwards: int = 1
    asked: list[int] = field(default_factory=list)

    def start(self, seeds: np.ndarray) -> torch.Tensor:
        return torch.zeros(len(seeds), 1, dtype=torch.float64)

    def predict(self, states: torch.Tensor, i: int, prompts: np.ndarray) -> torch.Tensor:
        self.asked.append(len(states))
        return states

    def clean(self, states: torch.Tensor, predicted: torch.Tensor, i: int) -> torch.Tensor:
        return predicted

    def step(self, states: torch.Tensor, predicted: torch.Tensor, i: int, seeds: np.ndarray) -> torch.Tensor:
        noise = torch.from_numpy(ndtri(uniform(seeds))).view(-1, 1)
        return predicted + self.std / self.steps**0.5 * noise

    def branches(self, i: int) -> bool:
        return True

    def decode(self, latents: torch.Tensor) -> Sequence[Any]:
        return latents[:, 0].tolist()


class Bits(Walk):
    """x0 is a number of `steps` + 1 bits, drawn highest first, each 1 with probability `p`."""

    p = 0.4

    def start(self, seeds: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(uniform(seeds) < self.p).long()

    def step(self, states: torch.Tensor, predicted: torch.Tensor, i: int, seeds: np.ndarray) -> torch.Tensor:
        return 2 * predicted + torch.from_numpy(uniform(seeds) < self.p)

    def decode(self, latents: torch.Tensor) -> Sequence[Any]:
        return latents.tolist()

    def probabilities(self) -> np.ndarray:
        ones = np.array([number.bit_count() for number in range(2 ** (self.steps + 1))])
        return self.p**ones * (1 - self.p) ** (self.steps + 1 - ones)


def rewarding(value: Callable[[Any], float], fails: Callable[[Any], bool] = lambda one: False) -> Any:
    """A reward of single samples, as searches call it."""

    def score(media: Sequence[Any], prompts: np.ndarray) -> list[Score]:
        return [Score.failed("error", "scripted") if fails(one) else Score(value(one)) for one in media]

    return score
