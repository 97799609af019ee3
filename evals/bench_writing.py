"""Critiques written by a judge, greedily, of a fixed length.

Random weights say nothing worth reading: compared are the time, and that every contender writes the same
words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from mmreward import Sample, Score, models
from mmreward.registry import Reward
from mmreward.rewards import critique
from mmreward.types import RewardInfo

from .bench_judges import Judge, Question, chunks, source_of
from .bench_tasks import Run, Values


@dataclass(frozen=True)
class Writing:
    """One critique of `length` tokens for each sample."""

    judge: Judge
    reward: Reward
    length: int

    @property
    def rewards(self) -> Mapping[str, Reward]:
        return {"critique": self.reward}

    def values(self, scores: Mapping[str, list[Score]]) -> Values:
        return [score.note for score in scores["critique"] if score.ok]

    def loop(self, samples: Sequence[Sample]) -> Values:
        return self.batches(samples, 1)

    @torch.inference_mode()
    def batches(self, samples: Sequence[Sample], size: int) -> Values:
        words: Values = []
        for some in chunks(samples, size):
            inputs = self.judge.inputs([_question(sample) for sample in some])
            ids = self.judge.model.generate(**inputs, max_new_tokens=self.length, do_sample=False)
            words += self._texts(ids[:, inputs["input_ids"].shape[1] :])
        return words

    def bare(self, samples: Sequence[Sample], size: int) -> Run:
        """Prefill and one forward per token, `size` rows at a time."""
        prepared = [self.judge.inputs([_question(s) for s in some]) for some in chunks(samples, size)]
        return lambda: [text for inputs in prepared for text in self._texts(self._continue(inputs))]

    @torch.inference_mode()
    def _continue(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        model = self.judge.model
        mask = inputs["attention_mask"]
        output = model(**inputs, use_cache=True, logits_to_keep=1)
        ends = mask.sum(-1) + model.model.rope_deltas[:, 0] - 1
        chosen = [output.logits[:, -1].argmax(-1)]
        for step in range(1, self.length):
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            rope = (ends + step).expand(3, -1)
            positions = torch.cat([mask.sum(-1)[None] - 1, rope])[..., None]
            output = model(
                input_ids=chosen[-1][:, None],
                attention_mask=mask,
                position_ids=positions,
                past_key_values=output.past_key_values,
                use_cache=True,
            )
            chosen.append(output.logits[:, -1].argmax(-1))
        return torch.stack(chosen, dim=1)

    def _texts(self, ids_BT: torch.Tensor) -> Values:  # noqa: N803
        """Each row up to its stop token."""
        stop = self.judge.model.generation_config.eos_token_id
        rows = [row[: row.index(stop)] if stop in row else row for row in ids_BT.tolist()]
        return [self.judge.processor.tokenizer.decode(row) for row in rows]


def writing(judge: Judge, weights: str, length: int, dtype: str) -> Writing:
    """The task, with a reward that hands over what was written.

    The critique reward itself cannot read what random weights write, and would drop the words.
    """
    vlm = models.vlm(weights, dtype=dtype)

    async def score(sample: Sample) -> Score:
        written = await vlm.write(sample.image, _prompt(sample), max_tokens=length)
        return Score(float(written.tokens), note=written.text)

    info = RewardInfo(name="critique", needs=("prompt", "image"), range=(0.0, float(length)))
    return Writing(judge, Reward(info, {}, score), length)


def _question(sample: Sample) -> Question:
    return Question(source_of(sample), _prompt(sample))


def _prompt(sample: Sample) -> str:
    listing = "\n".join(f"- {name}: {text}" for name, text in critique.ASPECTS.items())
    return critique.PROMPT.format(prompt=sample.prompt, low="1", high="4", aspects=listing)
