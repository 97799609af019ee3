"""A judge as its model card uses it, which is how the contenders without an engine use it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch
from PIL import Image

from mmreward import Sample
from mmreward.models.labels import label_sets
from mmreward.rewards.checklist import YES_NO

from .bench_samples import FPS
from .bench_tasks import Values

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
