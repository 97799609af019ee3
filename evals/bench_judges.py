"""Questions to a judge: how transformers users ask them, and the least work that answers them.

A question's value is the probability of its right answer among the labels' tokens, from the logits after the
prompt.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch
from PIL import Image

from mmreward import Sample, Score
from mmreward.models.labels import label_sets
from mmreward.registry import Reward
from mmreward.rewards.checklist import YES_NO

from .bench_packing import pack
from .bench_samples import FPS
from .bench_tasks import Run, Values

T = TypeVar("T")
Source = Path | tuple[Path, ...]


class Question(NamedTuple):
    """A picture, or a clip as its frames, and what is asked about it; "yes" is right."""

    source: Source
    text: str


@dataclass(frozen=True)
class Judge:
    """A Qwen3-VL as its model card loads it."""

    model: Any
    processor: Any
    device: torch.device
    labels: list[list[int]]
    """Token ids of "yes" and of "no", all their spellings."""

    @classmethod
    def load(cls, folder: Path, device: torch.device, dtype: torch.dtype) -> "Judge":
        from transformers import AutoModelForImageTextToText, AutoProcessor

        model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype)
        processor: Any = AutoProcessor.from_pretrained(folder)
        tail = "<|im_end|>\n<|im_start|>assistant\n"
        labels = label_sets(processor.tokenizer, tail, YES_NO)
        return cls(model.to(device).eval(), processor, device, labels)

    def chat(self, question: Question) -> str:
        """The prompt, with one mark where the picture or clip stands."""
        kind = "image" if isinstance(question.source, Path) else "video"
        content = [{"type": kind}, {"type": "text", "text": question.text}]
        turn = [{"role": "user", "content": content}]
        return cast(str, self.processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))

    def inputs(self, questions: Sequence[Question]) -> dict[str, torch.Tensor]:
        """Decode, tokenize, pad on the left (the tokenizer's own side), and move to the device."""
        opened = [_open(question.source) for question in questions]
        chats = [self.chat(question) for question in questions]
        kind: dict[str, Any] = {"images": opened}
        if not isinstance(questions[0].source, Path):
            number = len(opened[0])
            facts = {"fps": FPS, "frames_indices": list(range(number)), "total_num_frames": number}
            kind = {"videos": opened, "video_metadata": [dict(facts) for _ in opened]}
            kind["do_sample_frames"] = False
        tokens = self.processor(text=chats, padding=True, return_tensors="pt", **kind)
        return dict(tokens.to(self.device))

    def probabilities(self, logits: torch.Tensor) -> Values:
        """(N, V) -> the probability of "yes" against "no" in each row."""
        each = [logits[:, ids].float().logsumexp(-1) for ids in self.labels]
        return cast(Values, torch.stack(each, -1).softmax(-1)[:, 0].tolist())


@dataclass(frozen=True)
class Reading:
    """Yes-or-no questions about pictures or clips, answered from the first token's logits.

    Args:
        judge: what the contenders without an engine ask.
        reward: what the engine runs.
        ask: a sample's questions, in the order of the values.
        answers: a score's values in that order.
    """

    judge: Judge
    name: str
    reward: Reward
    ask: Any
    answers: Any

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


def source_of(sample: Sample) -> Source:
    """The files of the sample's picture or clip."""
    media = sample.image or sample.video
    assert media is not None
    return cast(Source, media.source)


def chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _open(source: Source) -> Any:
    if not isinstance(source, Path):
        return [_open(frame) for frame in source]
    with Image.open(source) as picture:
        return picture.convert("RGB")
