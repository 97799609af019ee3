"""Workloads of the speed comparison: which tasks run over which pictures, by name."""

from asyncio import gather
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

import torch

from mmreward import Sample, Score, load, models
from mmreward.models.vlms.answers import YES_NO
from mmreward.registry import Reward
from mmreward.rewards.judged import listener
from mmreward.rewards.judged.checklist import checks_of
from mmreward.types import RewardInfo
from mmreward.verifiers.response import segment

from .clip import clip_family
from .contest import Task, Workload
from .inputs import GROUP, Checkpoints, Scale, draw_pictures, draw_samples
from .lists import COUNT, listing
from .vlm import Judge, Question, Reading, source_of, writing

NUM_QUESTIONS = (1, 4, 8, 16)
TOWERS_PROMPTS = 8
"""Prompts of the workload of three towers: with GROUP pictures each, 64 files."""
MIXED_QUESTIONS = 4


class Workloads:
    """The workloads of a scale; a network is loaded, and a picture drawn, when one first needs it.

    Args:
        folder: where pictures are written.
        places: the checkpoints.
        scale: sizes.
        device, dtype: of every contender's networks.
    """

    def __init__(
        self, folder: Path, places: Checkpoints, scale: Scale, device: torch.device, dtype: str
    ) -> None:
        self._folder, self._places, self._scale = folder, places, scale
        self._device, self._dtype = device, dtype
        self._drawn: dict[tuple[str, int], list[Path]] = {}

    def make(self, name: str) -> Workload:
        """The workload of this name, one of NAMES."""
        return _MAKERS[name](self, name)

    @cached_property
    def judge(self) -> Judge:
        return Judge.load(self._places.judge, self._device, getattr(torch, self._dtype))

    # --- tasks ------------------------------------------------------------------------------------

    @cached_property
    def _reading(self) -> Reading:
        reward = load("checklist", judge=self._judge, soft=True, min_mass=0.0, dtype=self._dtype)

        return Reading(self.judge, "checklist", reward, _questions, lambda score: score.parts.values())

    @cached_property
    def _listening(self) -> Reading:
        reward = load("listener", listener=self._judge, min_mass=0.0, dtype=self._dtype)

        def ask(sample: Sample) -> list[Question]:
            thought = segment(sample.response or "").thought
            text = listener.PROMPT.format(prompt=sample.prompt, reasoning=thought, labels="yes or no")
            return [Question(source_of(sample), text)]

        return Reading(self.judge, "listener", reward, ask, lambda score: [score.value])

    @cached_property
    def _family(self) -> Task:
        return clip_family(self._places, self._device, self._dtype)

    @cached_property
    def _listed(self) -> Task:
        return listing(self.judge, self._judge, self._folder.parent / "lists", self._dtype)

    @cached_property
    def _towers(self) -> Task:
        return clip_family(self._places, self._device, self._dtype, towers=3)

    @cached_property
    def _writing(self) -> Task:
        return writing(self.judge, self._judge, self._scale.words, self._dtype)

    @property
    def _judge(self) -> str:
        return str(self._places.judge)

    # --- workloads --------------------------------------------------------------------------------

    def _checklist(self, name: str, questions: int) -> Workload:
        def draw(number: int) -> list[Sample]:
            return draw_samples(self._pictures(name, number), questions=questions)

        return Workload(name, (self._reading,), draw)

    def _listener(self, name: str) -> Workload:
        def draw(number: int) -> list[Sample]:
            return draw_samples(self._pictures(name, number)[:1] * GROUP, per_prompt=GROUP)

        return Workload(name, (self._listening,), draw)

    def _clips(self, name: str) -> Workload:
        def draw(number: int) -> list[Sample]:
            paths = self._pictures(name, number, self._scale.prompts * GROUP)
            return draw_samples(paths, per_prompt=GROUP)

        return Workload(name, (self._family,), draw)

    def _three_towers(self, name: str) -> Workload:
        def draw(number: int) -> list[Sample]:
            paths = self._pictures(name, number, TOWERS_PROMPTS * GROUP)
            return draw_samples(paths, per_prompt=GROUP)

        return Workload(name, (self._towers,), draw, share=TOWERS_PROMPTS)

    def _list(self, name: str) -> Workload:
        def draw(number: int) -> list[Sample]:
            return draw_samples(self._pictures(name, number))

        return Workload(name, (self._listed,), draw, share=self._scale.pictures, once=True)

    def _critique(self, name: str) -> Workload:
        return Workload(name, (self._writing,), lambda number: draw_samples(self._pictures(name, number)))

    def _mixed(self, name: str) -> Workload:
        def draw(number: int) -> list[Sample]:
            return draw_samples(self._pictures(name, number), questions=MIXED_QUESTIONS)

        return Workload(name, (self._reading, self._listening, self._family, self._writing), draw)

    def _video(self, name: str) -> Workload:
        def draw(number: int) -> list[Sample]:
            frames, size = self._scale.frames, self._scale.sizes[:1]
            paths = self._pictures(name, number, self._scale.pictures * frames, size)
            return draw_samples(paths[start : start + frames] for start in range(0, len(paths), frames))

        return Workload(name, (video_reading(self.judge, self._judge, self._dtype),), draw)

    def _pictures(
        self, kind: str, number: int, count: int | None = None, sizes: Sequence[tuple[int, int]] = ()
    ) -> list[Path]:
        """A round's pictures, no two workloads or rounds having one in common."""
        if (kind, number) not in self._drawn:
            sizes = sizes or self._scale.sizes
            wanted = [sizes[i % len(sizes)] for i in range(count or self._scale.pictures)]
            folder = self._folder / str(len(self._drawn))
            self._drawn[kind, number] = draw_pictures(folder, wanted, seed=len(self._drawn))
        return self._drawn[kind, number]


_MAKERS: dict[str, Callable[[Workloads, str], Workload]] = {
    **{f"checklist K={k}": partial(Workloads._checklist, questions=k) for k in NUM_QUESTIONS},
    f"listener G={GROUP}": Workloads._listener,
    f"visionreward K={COUNT}": Workloads._list,
    "five CLIP rewards": Workloads._clips,
    "five rewards, three towers": Workloads._three_towers,
    "critique": Workloads._critique,
    "mixed": Workloads._mixed,
    "video": Workloads._video,
}
NAMES = tuple(_MAKERS)


def video_reading(judge: Judge, weights: str, dtype: str) -> Reading:
    """The task of a checklist's questions about clips."""
    vlm = models.vlm(weights, dtype=dtype)

    async def score(sample: Sample) -> Score:
        texts = [question.text for question in _questions(sample)]
        reads = await gather(*(vlm.read(sample.video, text, YES_NO) for text in texts))
        parts = {text: read.probs["yes"] for text, read in zip(texts, reads, strict=True)}
        return Score(sum(parts.values()) / len(parts), parts)

    info = RewardInfo(name="video", needs=("video",), range=(0.0, 1.0))
    return Reading(judge, "video", Reward(info, {}, score), _questions, lambda score: score.parts.values())


def _questions(sample: Sample) -> list[Question]:
    """The questions of the sample's checklist."""
    return [Question(source_of(sample), check.question) for check in checks_of(sample, {}).values()]
