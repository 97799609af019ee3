"""Attacks on verifiers: a response that games one, its score here, and the score of the other project."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmreward import Sample, Score, load

Paid = Callable[[Sample], float]


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One attack.

    Args:
        name: what is done, and to whom.
        reward: of ours, with `args`.
        honest: a response that deserves its pay.
        attack: the response that games, or is lost by, the other project.
        wanted: what the attack is worth here.
        peer: what the other project pays for it, `theirs`; None where there is no formula to carry.
    """

    name: str
    reward: str
    honest: str
    attack: str
    wanted: float
    target: Any = None
    args: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    peer: Paid | None = None
    theirs: float = math.nan

    def sample(self, response: str) -> Sample:
        return Sample(prompt="?", response=response, target=self.target, meta=self.meta)


def worth(sample: Sample, name: str, **args: Any) -> Score:
    return asyncio.run(load(name, **args)(sample))


def said(answer: str) -> str:
    return f"<think>I look at it.</think>\n<answer>\n{answer}\n</answer>"


def by(name: str, **args: Any) -> Paid:
    """A reward of ours that reproduces another project's."""
    return lambda sample: worth(sample, name, **args).value
