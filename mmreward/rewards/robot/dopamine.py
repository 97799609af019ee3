"""Robo-Dopamine's general reward model (arXiv:2512.23703): hops of progress between pairs of moments.

The judge sees a task's beginning and end for reference, then a moment before and one after, each from three
cameras, and says by which share of what remains, or of what was made, the second is further. Three curves
come of hops: from frame to frame, from the first frame, and from the goal. Their mean is the value.

Peers repeat one camera three times, take a grey picture for the goal or an episode's own last frame, and an
answer that cannot be read for a hop of 0. Here a view is named, the goal is a picture of the sample, and what
cannot be read is a gap, at which progress holds and which is counted.
"""

from asyncio import gather
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

from ... import models
from ...engine.episodes import Episode, frames_of, views
from ...errors import Unscorable
from ...media import Media
from ...models.pinned import Pin
from ...registry import reward
from ...tracing import noted, within
from ...trajectories import check_rule
from ...types import Sample, Score
from ..published.wording import PICTURE, Prompt, Wording, values_of, worded
from .values import Walked, anchored, covered, curve_parts, fused, read_hop, voc, walked

Curves = Literal["fused", "incremental", "forward", "backward"]
WANTED = {"fused": ("incremental", "forward", "backward")}
"""Form of the value -> the curves that it is made of; the others are themselves."""
CAMERAS = 3
"""Views of the published prompt: in front, left wrist, right wrist."""


def _own(count: int) -> str:
    views_ = " ".join([PICTURE] * count)
    return (
        f"A robot was told: {{prompt}}\nThe task when it begins: {PICTURE} and when it is done: {PICTURE}\n"
        f"Before: {views_}\nAfter: {views_}\nHow much further is it after than before? If it is further, say "
        "the percentage of what was left to do; if it is less far, the percentage of what had been done, "
        "below zero. End with <score>percentage%</score>, from -100 to 100."
    )


PROMPT = Prompt(
    pins=(
        Pin("FlagOpen/Robo-Dopamine", "7d4415fd173a01c07c12306ab1fb42dd8db92efb", "examples/inference.py",
            "SYSTEM_PROMPT", "6baabeeecf35c731aa1d058147f741f064a1391956bd8aa39448fe9bacad1b94"),
    ),
    fields={"{task}": "prompt"},
    own=_own(CAMERAS),
)  # fmt: skip
OF_ONE = Prompt(own=_own(1))
"""Ours for an episode of one camera."""


@reward("dopamine", needs=("prompt", "episode", "inputs"), range=(0.0, 1.0), paper="arXiv:2512.23703")
def dopamine(
    judge: str = "tanhuajie2001/Robo-Dopamine-GRM-3B",
    how: Curves = "fused",
    frames: str | int = "every 30",
    max_frames: int = 32,
    cameras: tuple[str, ...] = (),
    most_gaps: float = 0.2,
    words: str = "published",
    max_tokens: int = 1024,
    temperature: float = 0.0,
    seed: int = 0,
    dtype: str = "float32",
) -> Any:
    """Progress of an episode at its end, 0 to 1, from a judge's hops between its frames and the goal.

    The first of `inputs` shows the task done, by the first camera. `parts` holds each curve's end, `voc` of
    the value's curve, `negative` (share of hops below 0, large in a demonstration that is bad), `gaps` (share
    of hops that could not be read), `clamps` and the value at each frame as `frame_N`.

    Args:
        judge: a VLM (hub id, folder, or MODEL@URL for a served one). The authors' has pictures of 12544 to
            76800 pixels: put ?min_pixels=12544&max_pixels=76800 behind the name.
        how: "fused", the mean of the three curves; "incremental" (frame to frame), "forward" (from the first
            frame), "backward" (from the goal), which cost a third of it.
        frames: which frames are looked at, see `trajectories`; two at least.
        max_frames: evenly spaced ones of those, where they are more.
        cameras: views in front, at the left and at the right wrist; one may stand there twice. One view alone
            is for words of one camera.
        most_gaps: largest share of hops that may be unreadable; above it the episode is a failure.
        words: "published" (three cameras), "own", or a file; see `published.wording.worded`. A file's have
            four pictures for one camera (beginning, goal, before, after), or eight for three.
        max_tokens: length at which an answer is cut off.
        temperature: of the sampling; 0 is greedy, upstream samples at 0.1.
        seed: of the sampling.
        dtype: of the judge.

    Raises:
        ValueError: `how` or `frames` is something else, or another number of cameras than 0, 1 and 3, or
            words with another number of pictures.
    """
    if how not in get_args(Curves):
        raise ValueError(f"how is {how!r}: one of {', '.join(get_args(Curves))}")
    if isinstance(cameras, str) or len(cameras) not in (0, 1, CAMERAS):
        raise ValueError(f"cameras are {cameras!r}: name one, or three (one may stand there twice)")
    rule = check_rule(frames)
    wording = worded(words, PROMPT)
    wordings = {_cameras_of(wording, words): wording}
    if words == "own":
        wordings[1] = worded(words, OF_ONE)
    vlm = models.vlm(judge, dtype=dtype)

    async def seen_by(sample: Sample) -> list[Episode]:
        there = cameras or views(sample)
        if len(there) not in wordings:
            known = ", ".join(map(repr, there))
            raise Unscorable(
                f"the words are for {' or '.join(map(str, wordings))} cameras, and the episode has {known}: "
                "name cameras (one may stand there twice), or say words=own for one",
                "missing",
            )
        looked = [await frames_of(sample, rule, view=view, at_most=max_frames) for view in there]
        if len({episode.numbers for episode in looked}) > 1:
            raise Unscorable(f"the cameras {', '.join(there)} do not show the same steps")
        return looked

    async def hop(
        sample: Sample, before: Sequence[Media], after: Sequence[Media], ends: Sequence[Media]
    ) -> float | None:
        wording = wordings[len(after)]
        text, places = wording.filled(values_of((sample,)))
        media = (*ends, *before, *after)
        said = await vlm.write(
            media,
            text,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            system=wording.system,
            places=places,
        )
        try:
            if not said.finished:
                raise Unscorable(f"cut off after {said.tokens} tokens", "unparsable")
            return read_hop(said.text)
        except Unscorable as error:
            noted("gap", "{}", str(error))
            return None

    async def hops(kind: str, sample: Sample, looked: list[Episode], goal: Media) -> list[float | None]:
        shown = list(zip(*(episode.pictures for episode in looked), strict=True))
        ends = (shown[0][0], goal)
        before = {"incremental": shown[:-1], "forward": [shown[0]] * (len(shown) - 1)}.get(
            kind, [(goal,) * len(looked)] * (len(shown) - 1)
        )
        with within(kind):
            pairs = zip(before, shown[1:], strict=True)
            found: list[float | None] = list(await gather(*(hop(sample, a, b, ends) for a, b in pairs)))
        return found

    async def score(sample: Sample) -> Score:
        looked = await seen_by(sample)
        if len(looked[0].pictures) < 2:
            raise Unscorable("one frame has no hop: an episode has two at least", "na")
        kinds = WANTED.get(how, (how,))
        found = await gather(*(hops(kind, sample, looked, sample.inputs[0]) for kind in kinds))
        curves: dict[str, Walked] = {}
        for kind, each in zip(kinds, found, strict=True):
            noted(f"{kind} hops", "{}", each)
            curves[kind] = walked(each) if kind == "incremental" else anchored(each, end=kind == "backward")
        whole = fused(list(curves.values()))
        known = [one for each in found for one in each]
        parts = {kind: curve.progress[-1] for kind, curve in curves.items()}
        parts |= {"gaps": 1 - covered(known), "clamps": float(whole.clamps), "hops": float(len(known))}
        steps = found[0] if "incremental" in kinds else _differences(whole.progress)
        parts["negative"] = sum(one is not None and one < 0 for one in steps) / len(steps)
        if (order := voc(whole.progress)) is not None:
            parts["voc"] = order
        parts |= curve_parts(looked[0].numbers, whole.progress)
        if parts["gaps"] > most_gaps:
            said = f"{parts['gaps']:.0%} of {len(known)} hops could not be read, more than {most_gaps:.0%}"
            raise Unscorable(said, "unparsable", parts)
        return Score(whole.progress[-1], parts)

    return score


def _cameras_of(wording: Wording, words: str) -> int:
    """Views that a prompt has places for, beside those of the beginning and the goal; 0 views of a prompt
    that is not on this machine yet are the published three."""
    marks = wording.text.count(PICTURE)
    if wording.text and marks not in (4, 2 + 2 * CAMERAS):
        raise ValueError(f"words={words!r} have {marks} pictures: four for one camera, eight for three")
    return 1 if marks == 4 else CAMERAS


def _differences(progress: Sequence[float]) -> list[float | None]:
    return [after - before for before, after in pairwise(progress)]
