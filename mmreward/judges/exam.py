"""Examination of a judge on held-out comparisons, each asked in both orders: accuracy, consistency, and a
listener's agreement with the reasoning. Trains nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..engine.engine import Engine
from ..models.vlms.answers import VLM
from ..registry import Reward
from ..types import Sample, Score
from .comparison import Comparison, both_orders
from .rationales import Rationale, RationaleSampling, sample_rationales

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Exam:
    """Figures of an examination: columns of one entry per comparison, each the mean of its two orders, 0 to
    1.

    Args:
        right: share of right verdicts; a judgement without a readable one is wrong.
        swing: 1 where the two orders get different verdicts, or one none, else 0.
        heard: the listener's probability of the right verdict after the reasoning; 0 where there is no
            reasoning.
        agrees: 1 where the listener, given the reasoning, reaches the judge's own verdict, else 0.
        readable: share of judgements with reasoning and verdict.
        understood: as `right`, of comparisons of answers, which are others; None where none were held out.
        marked: 1 where the mark of the better picture by itself is the higher one, 0.5 for equal marks, 0 for
            a lower or an unreadable one; None where no marks were asked for, see `marks_of`.
    """

    right: Column
    swing: Column
    heard: Column
    agrees: Column
    readable: Column
    understood: Column | None = None
    marked: Column | None = None


FIGURES = {
    "right": "right verdicts",
    "swing": "verdict changes with the order",
    "heard": "listener's probability of the right verdict",
    "agrees": "listener agrees with the judge",
    "readable": "readable",
    "understood": "right verdicts on answers",
    "marked": "marks of single pictures in the right order",
}


def marks_of(engine: Engine, critic: Reward, compared: Sequence[Comparison]) -> Column:
    """The column `marked` of an exam, by a reward of one picture such as `critique`."""
    samples = [
        Sample(id=f"{one.id}-{place}", prompt=one.request, image=picture)
        for one in compared
        for place, picture in enumerate(one.pictures, 1)
    ]
    scores = [
        score.value if score.ok else math.nan for score in engine.score(samples, critic)[critic.info.name]
    ]
    marked = []
    for one, first, second in zip(compared, scores[::2], scores[1::2], strict=True):
        better, worse = (first, second) if one.better == "1" else (second, first)
        marked.append(0.5 if better == worse else float(better > worse))
    return np.array(marked)


def right_of(
    engine: Engine, judge: VLM, compared: Sequence[Comparison], sampling: RationaleSampling
) -> Column:
    """The column `right` by itself, without a listener.

    Raises:
        ValueError: see `examine`.
    """
    written = engine.run(sample_rationales(judge, both_orders(compared), sampling))
    if failed := [one.note for one in written if one.outcome == "failed"]:
        raise ValueError(f"{len(failed)} of {len(written)} judgements failed: {failed[0]}")
    return _halves([float(one.verdict == one.comparison.better) for one in written])


def examine(
    engine: Engine,
    judge: VLM,
    listener: Reward,
    compared: Sequence[Comparison],
    sampling: RationaleSampling,
) -> Exam:
    """Figures of a judge's answers to comparisons in both orders, with the listener given the reasoning.

    Args:
        engine: runs judge and listener.
        judge: the model under examination.
        listener: the reward `listener` with the labels "1" and "2".
        compared: held-out comparisons.
        sampling: the question, and how answers are decoded; temperature 0 is greedy.

    Raises:
        ValueError: the judge or the listener failed to answer; an exam with holes compares with nothing.
    """
    both = both_orders(compared)
    written = engine.run(sample_rationales(judge, both, sampling))
    heard = _listener_scores(engine, listener, written, sampling)
    failed = [one.note for one in written if one.outcome == "failed"]
    failed += [score.note for score in heard.values() if not score.ok]
    if failed:
        raise ValueError(f"{len(failed)} of {len(both)} judgements failed: {failed[0]}")
    agreed = {row: score.parts["agrees"] for row, score in heard.items()}
    verdicts = [_verdict_on_pair(one) for one in written]
    return Exam(
        right=_halves([float(one.verdict == one.comparison.better) for one in written]),
        swing=np.array(
            [float(a is None or a != b) for a, b in zip(verdicts[::2], verdicts[1::2], strict=True)]
        ),
        heard=_halves([heard[row].value if row in heard else 0.0 for row in range(len(both))]),
        agrees=_halves([agreed.get(row, 0.0) for row in range(len(both))]),
        readable=_halves([float(one.verdict is not None) for one in written]),
    )


def _listener_scores(
    engine: Engine, listener: Reward, written: Sequence[Rationale], sampling: RationaleSampling
) -> dict[int, Score]:
    """The listener's score of every readable judgement, by its row."""
    readable = {row: one for row, one in enumerate(written) if one.turns}
    samples = [
        one.comparison.sample(
            sampling.asking.opening(one.comparison.request, one.comparison.answers), one.turns[-1]
        )
        for one in readable.values()
    ]
    scores = engine.score(samples, listener)[listener.info.name] if samples else []
    return dict(zip(readable, scores, strict=True))


def _verdict_on_pair(one: Rationale) -> bool | None:
    """True for a verdict for the better picture, whatever its place; None without a verdict."""
    return None if one.verdict is None else one.verdict == one.comparison.better


def _halves(values: Sequence[float]) -> Column:
    return np.asarray(np.array(values).reshape(-1, 2).mean(axis=1))
