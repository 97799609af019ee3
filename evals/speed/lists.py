"""Question list of the speed comparison: `visionreward` beside one request per question.

The list is VisionReward's in number and form (30 questions, of which three are masks) and in words of our
own; weights are drawn. The engine also reads its VQAScore, a 31st question, which the others are spared.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmreward import Sample, load

from .contest import Values, Work
from .inputs import QUESTIONS
from .vlm import Judge, Question, Reading, source_of

COUNT = 30
MASKS = {0: (22, 23, 24, 28, 29), 1: (25, 26), 2: (27,)}
SUFFIX = " Answer yes or no."


@dataclass(frozen=True)
class Listing(Reading):
    """A reading whose values are the list's answers as they are weighed: 2 P(yes) - 1 times its mask."""

    def loop(self, samples: Sequence[Sample]) -> Values:
        return counted(super().loop(samples))

    def batches(self, samples: Sequence[Sample], size: int) -> Values:
        return counted(super().batches(samples, size))

    def bare(self, samples: Sequence[Sample], size: int) -> Work:
        run = super().bare(samples, size)
        return lambda: counted(run())


def counted(yes: Values) -> Values:
    """Weighed answers of some pictures, from P(yes) of each question."""
    values: Values = []
    for start in range(0, len(yes), COUNT):
        own = [float(one) for one in yes[start : start + COUNT]]
        gates = [1.0] * COUNT
        for mask, places in MASKS.items():
            for place in places:
                gates[place] = own[mask]
        answers = [(2 * one - 1) * gate for one, gate in zip(own, gates, strict=True)]
        values += answers[len(MASKS) :]
    return values


def listing(judge: Judge, weights: str, folder: Path, dtype: str) -> Listing:
    """The task; its two files are written in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [f"{text} Is it so in the {half} half?" for half in ("left", "right") for text in QUESTIONS]
    texts = texts[:COUNT]
    (folder / "questions.txt").write_text("\n".join(texts), encoding="utf-8")
    coefficients = {"coef": [2.3] + [0.08] * (COUNT - len(MASKS)), "intercept": [0.0]}
    (folder / "weights.json").write_text(json.dumps(coefficients), encoding="utf-8")
    reward = load(
        "visionreward",
        judge=weights,
        alignment=weights,
        questions=str(folder / "questions.txt"),
        coefficients=str(folder / "weights.json"),
        suffix=SUFFIX,
        soft=True,
        min_mass=0.0,
        dtype=dtype,
    )

    def ask(sample: Sample) -> list[Question]:
        return [Question(source_of(sample), text + SUFFIX) for text in texts]

    names = [f"q{number}: {text}" for number, text in enumerate(texts, start=1)][len(MASKS) :]
    return Listing(judge, "visionreward", reward, ask, lambda score: [score.parts[name] for name in names])
