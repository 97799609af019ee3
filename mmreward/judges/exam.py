"""What a judge is worth on held-out comparisons, each asked in both orders."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import Engine
from ..models.served.client import ServedVLM
from ..models.vlms.handle import VLM
from ..registry import Reward
from ..types import Score
from .comparison import Comparison, both_orders
from .rationales import Drawing, Rationale, draw

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Exam:
    """Columns of one entry per comparison, each the mean of its two orders.

    Args:
        right: share of right verdicts; a judgement without a readable one is wrong.
        swing: 1 where the two orders get different verdicts, or one none, else 0.
        heard: probability that the listener gives to the right verdict after the reasoning; 0 where there is
            no reasoning.
        agrees: whether the listener, having heard the reasoning, reaches the judge's own verdict; 0 where
            there is none.
        readable: share of judgements with reasoning and verdict.
    """

    right: Column
    swing: Column
    heard: Column
    agrees: Column
    readable: Column


FIGURES = {
    "right": "right verdicts",
    "swing": "verdict changes with the order",
    "heard": "listener's probability of the right verdict",
    "agrees": "listener agrees with the judge",
    "readable": "readable",
}


def examine(
    engine: Engine, judge: VLM | ServedVLM, listener: Reward, asked: Sequence[Comparison], drawing: Drawing
) -> Exam:
    """Ask, greedily, and let the listener hear the reasoning.

    Raises:
        ValueError: the judge or the listener failed to answer; an exam with holes compares with nothing.
    """
    both = both_orders(asked)
    written = engine.run(draw(judge, both, drawing))
    heard = _heard(engine, listener, written, drawing)
    failed = [one.note for one in written if one.fate == "failed"]
    failed += [score.note for score in heard.values() if not score.ok]
    if failed:
        raise ValueError(f"{len(failed)} of {len(both)} judgements failed: {failed[0]}")
    agreed = {row: score.parts["agrees"] for row, score in heard.items()}
    verdicts = [_of_the_pair(one) for one in written]
    return Exam(
        right=_halves([float(one.verdict == one.comparison.better) for one in written]),
        swing=np.array(
            [float(a is None or a != b) for a, b in zip(verdicts[::2], verdicts[1::2], strict=True)]
        ),
        heard=_halves([heard[row].value if row in heard else 0.0 for row in range(len(both))]),
        agrees=_halves([agreed.get(row, 0.0) for row in range(len(both))]),
        readable=_halves([float(one.verdict is not None) for one in written]),
    )


def _heard(
    engine: Engine, listener: Reward, written: Sequence[Rationale], drawing: Drawing
) -> dict[int, Score]:
    """What the listener says of every judgement that can be read."""
    readable = {row: one for row, one in enumerate(written) if one.turns}
    samples = [
        one.comparison.sample(drawing.asking.opening(one.comparison.request), one.turns[-1])
        for one in readable.values()
    ]
    scores = engine.score(samples, listener)[listener.info.name] if samples else []
    return dict(zip(readable, scores, strict=True))


def _of_the_pair(one: Rationale) -> str | None:
    """Whether the verdict is for the better picture, wherever it stands; None without one."""
    return None if one.verdict is None else str(one.verdict == one.comparison.better)


def _halves(values: Sequence[float]) -> Column:
    return np.asarray(np.array(values).reshape(-1, 2).mean(axis=1))
