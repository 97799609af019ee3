"""Judge tasks of the speed comparison: yes-or-no questions read from logits, and critiques written greedily.

`Judge` is a Qwen3-VL as its model card uses it, which is how the contenders without an engine use it. The
least work that answers many questions about each picture (`pack`): one row holds the picture and all of them;
each question sees the picture, what all questions begin with, and itself, and its positions go on where that
beginning ends. Written against transformers alone, so that the engine can be compared with it. A question's
value is the probability of "yes" against "no". Random weights write nothing worth reading: of critiques the
time is compared, and that every contender writes the same words.

Shapes: B rows, T tokens, N questions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch
from PIL import Image

from mmreward import Sample, Score, models
from mmreward.models.vlms.answers import YES_NO, label_sets
from mmreward.models.vlms.decoding import CACHE
from mmreward.registry import Reward
from mmreward.rewards.judged import critique
from mmreward.types import RewardInfo

from .contest import Values, Work, quick_linears
from .inputs import FPS

T = TypeVar("T")
Source = Path | tuple[Path, ...]


class Question(NamedTuple):
    """A picture, or a clip as its frames, and a question about it; "yes" is right."""

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
    """The items in lists of `size`, the last one shorter."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _open(source: Source) -> Any:
    if not isinstance(source, Path):
        return [_open(frame) for frame in source]
    with Image.open(source) as picture:
        return picture.convert("RGB")


MEDIA = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw")


class Packed(NamedTuple):
    """A forward's arguments, and where (row, token) each question ends."""

    inputs: dict[str, torch.Tensor]
    rows: torch.Tensor
    ends: torch.Tensor

    def logits(self, model: Any) -> torch.Tensor:
        """(N, V), in the order of the questions."""
        hidden = model.model(**self.inputs, use_cache=False).last_hidden_state
        return cast(torch.Tensor, model.lm_head(hidden[self.rows, self.ends]))


class _Row(NamedTuple):
    """One picture's row before padding: the shared tokens, then the questions' own."""

    ids: list[int]
    owner: list[int]
    """0 for the shared tokens, then the question's number from 1."""
    positions: torch.Tensor
    """(4, T): the text's own index, then M-RoPE's t, h, w."""
    media: dict[str, torch.Tensor]


def pack(judge: Judge, families: Sequence[Sequence[Question]]) -> Packed:
    """Lay out one row for each picture and its questions, padded on the right."""
    laid = [_laid_out(judge, questions) for questions in families]
    length = max(len(row.ids) for row in laid)
    ids = torch.zeros(len(laid), length, dtype=torch.long)
    owner = torch.full((len(laid), length), -1)
    positions = torch.zeros(4, len(laid), length, dtype=torch.long)
    for index, row in enumerate(laid):
        used = slice(0, len(row.ids))
        ids[index, used], owner[index, used] = torch.tensor(row.ids), torch.tensor(row.owner)
        positions[:, index, used] = row.positions
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    mask = causal & ((owner[:, None, :] == 0) | (owner[:, None, :] == owner[:, :, None]))
    last = (owner > 0) & (owner != owner.roll(-1, 1))
    last[:, -1] = owner[:, -1] > 0
    rows, ends = last.nonzero(as_tuple=True)
    inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": mask[:, None]}
    inputs |= {name: torch.cat([row.media[name] for row in laid]) for name in laid[0].media}
    return Packed({name: tensor.to(judge.device) for name, tensor in inputs.items()}, rows, ends)


def _laid_out(judge: Judge, questions: Sequence[Question]) -> _Row:
    first = {name: tensor.cpu() for name, tensor in judge.inputs(questions[:1]).items()}
    tokenizer = judge.processor.tokenizer
    ids: list[int] = first["input_ids"][0].tolist()
    eye = tokenizer.convert_tokens_to_ids("<|vision_end|>")
    seen = len(ids) - ids[::-1].index(eye)
    # A special token never merges with what follows, so the rest is tokenized on its own.
    rests = [judge.chat(question).rpartition("<|vision_end|>")[2] for question in questions]
    tails: list[list[int]] = tokenizer(rests, add_special_tokens=False)["input_ids"]
    shared = _shared_prefix(tails)
    ahead = seen + shared
    media = {name: first[name] for name in MEDIA if name in first}
    grids = {name: grid for name, grid in media.items() if name.endswith("thw")}
    types = first["mm_token_type_ids"][:, :ahead]
    rope, _ = judge.model.model.get_rope_index(
        input_ids=first["input_ids"][:, :ahead], mm_token_type_ids=types, **grids
    )
    columns = [torch.cat([torch.arange(ahead)[None], rope[:, 0]])]
    start = torch.tensor([[ahead], *[[int(rope.max()) + 1]] * 3])
    ids, owner = ids[:ahead], [0] * ahead
    for number, tail in enumerate(tails, start=1):
        own = tail[shared:]
        ids += own
        owner += [number] * len(own)
        columns.append(start + torch.arange(len(own)))
    return _Row(ids, owner, torch.cat(columns, dim=1), media)


def _shared_prefix(tails: Sequence[Sequence[int]]) -> int:
    """Number of tokens that all questions begin with, at least one left to each."""
    most = min(len(tail) for tail in tails) - 1
    return next((i for i in range(most) if len({tail[i] for tail in tails}) > 1), most)


@dataclass(frozen=True)
class Reading:
    """Yes-or-no questions about pictures or clips, answered from the first token's logits.

    Args:
        judge: of the contenders without an engine.
        name: of the reward among others.
        reward: that the engine runs.
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

    def bare(self, samples: Sequence[Sample], size: int) -> Work:
        """Each picture once, with all its questions behind it in one row; `size` pictures to a forward."""
        families: dict[Source, list[Question]] = {}
        for question in self._questions(samples):
            families.setdefault(question.source, []).append(question)
        packed = [pack(self.judge, some) for some in chunks(list(families.values()), size)]

        @torch.inference_mode()
        def run() -> Values:
            with quick_linears(self.judge.model):
                logits = [rows.logits(self.judge.model) for rows in packed]
            return [value for some in logits for value in self.judge.probabilities(some)]

        return run

    def _questions(self, samples: Sequence[Sample]) -> list[Question]:
        return [question for sample in samples for question in self.ask(sample)]


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

    def bare(self, samples: Sequence[Sample], size: int) -> Work:
        """Prefill and one forward per token, `size` rows at a time."""
        prepared = [self.judge.inputs([_question(s) for s in some]) for some in chunks(samples, size)]

        def run() -> Values:
            with quick_linears(self.judge.model):
                return [text for inputs in prepared for text in self._texts(self._continue(inputs))]

        return run

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
                **{CACHE: getattr(output, CACHE)},
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
    """The task, with a reward that hands over the written words.

    The critique reward itself cannot read the words of random weights, and would drop them.
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
