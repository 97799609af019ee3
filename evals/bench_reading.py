"""Yes-or-no questions to a judge: how transformers users ask them, and the least work that answers them.

A question's value is the probability of "yes" against "no", from the logits after the prompt.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from mmreward import Sample, Score
from mmreward.registry import Reward

from .bench_judges import Judge, Question, Source, chunks
from .bench_packing import pack
from .bench_tasks import Run, Values


@dataclass(frozen=True)
class Reading:
    """Yes-or-no questions about pictures or clips, answered from the first token's logits.

    Args:
        judge: what the contenders without an engine ask.
        name: of the reward among others.
        reward: what the engine runs.
        ask: a sample's questions, in the order of the values.
        answers: a score's values in that order.
    """

    judge: Judge
    name: str
    reward: Reward
    ask: Callable[[Sample], list[Question]]
    answers: Callable[[Score], Iterable[float]]

    @property
    def rewards(self) -> Mapping[str, Reward]:
        return {self.name: self.reward}

    def values(self, scores: Mapping[str, list[Score]]) -> Values:
        return [value for score in scores[self.name] if score.ok for value in self.answers(score)]

    @torch.inference_mode()
    def loop(self, samples: Sequence[Sample]) -> Values:
        values: Values = []
        for question in self._questions(samples):
            logits = self.judge.model(**self.judge.inputs([question])).logits[:, -1]
            values += self.judge.probabilities(logits)
        return values

    @torch.inference_mode()
    def batches(self, samples: Sequence[Sample], size: int) -> Values:
        values: Values = []
        for questions in chunks(self._questions(samples), size):
            logits = self.judge.model(**self.judge.inputs(questions), logits_to_keep=1).logits[:, -1]
            values += self.judge.probabilities(logits)
        return values

    def bare(self, samples: Sequence[Sample], size: int) -> Run:
        """Each picture once, with all its questions behind it in one row; `size` pictures to a forward."""
        families: dict[Source, list[Question]] = {}
        for question in self._questions(samples):
            families.setdefault(question.source, []).append(question)
        packed = [pack(self.judge, some) for some in chunks(list(families.values()), size)]

        @torch.inference_mode()
        def run() -> Values:
            logits = (rows.logits(self.judge.model) for rows in packed)
            return [value for some in logits for value in self.judge.probabilities(some)]

        return run

    def _questions(self, samples: Sequence[Sample]) -> list[Question]:
        return [question for sample in samples for question in self.ask(sample)]
