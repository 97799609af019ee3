"""GVL (arXiv:2411.04549): a VLM says how far each of an episode's frames is, in an order that tells nothing.

Shown in their order, models write a ramp whatever they see. The order of the frames is drawn from a generator
that the episode's id and `seed` fix. The first frame is the anchor, at 0 %: it is neither among the shuffled
ones nor in the correlation. VOC measures order alone: a failed episode may have a high one, so hold it
against what failed episodes get.
"""

import hashlib
from typing import Any, Literal

import numpy as np

from ... import models
from ...engine.episodes import frames_of
from ...errors import Unscorable
from ...models.pinned import Pin
from ...registry import reward
from ...tracing import noted
from ...trajectories import check_rule
from ...types import Sample, Score
from ..published.wording import PICTURE, Prompt, values_of, worded
from .values import covered, curve_parts, read_percentages, voc

_ROBOMETER = ("robometer/robometer", "c7f38e266e1c00ec1203f4f8dbfa64de36590a0c")
PROMPT = Prompt(
    # The authors published no code; the copy is that of Robometer's evaluation.
    pins=(
        Pin(*_ROBOMETER, "robometer/evals/baselines/gvl.py", "GVL.build_prompt_parts.prompt1",
            "7c4c00fa22471740164b6fbf6e239becdbb6facdfe86663d932b18b8202e5b84"),
        Pin(*_ROBOMETER, "robometer/evals/baselines/gvl.py", "GVL.build_prompt_parts.prompt2",
            "fee9419d5b197d2cfda79ca0c0419781de52f6019f690ee6b092fde10dd3bc04"),
    ),
    make=PICTURE.join,
    fields={"{task_description}": "prompt"},
    own=f"A robot was told: {{prompt}}\nIt begins like this, at 0 percent: {PICTURE}\nHere are more moments "
    "of it, in no order. Say of each how much of the task is done by then, from 0 to 100, as a JSON list of "
    '{"frame_number": its number, "frame_description": words, "task_completion_percentage": percent}.\n',
)  # fmt: skip


def shuffled(count: int, seed: int, name: str) -> list[int]:
    """Order in which `count` frames are shown: equal for equal seeds and names, on every machine."""
    drawn = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    order = np.random.default_rng(int.from_bytes(drawn, "big")).permutation(count)
    return [int(place) for place in order]


@reward("gvl", needs=("prompt", "episode"), range=(-1.0, 1.0), paper="arXiv:2411.04549")
def gvl(
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    how: Literal["voc", "last"] = "voc",
    frames: str | int = "16",
    view: str = "",
    seed: int = 0,
    least: float = 0.8,
    words: str = "published",
    max_tokens: int = 4096,
    dtype: str = "float32",
) -> Any:
    """Order of a VLM's progress of shuffled frames by time: Spearman's correlation, -1 to 1 (VOC).

    `parts` holds `voc`, `last` (progress of the last frame, 0 to 1), `coverage` (share of frames that the
    judge named) and the progress of each frame as `frame_N`. Undefined, of equal values, is "na" and no 0.

    Args:
        judge: a VLM (hub id, folder, or MODEL@URL for a served one).
        how: "voc", or "last".
        frames: which frames are looked at, see `trajectories`; three at least.
        view: whose, where the steps have several.
        seed: of the order in which frames are shown.
        least: smallest coverage; below it the answer is a failure.
        words: "published", "own", or a file; see `published.wording.worded`.
        max_tokens: length at which the answer is cut off.
        dtype: of the judge.

    Raises:
        ValueError: `how` or `frames` is something else.
    """
    if how not in ("voc", "last"):
        raise ValueError(f"how is {how!r}: voc or last")
    rule = check_rule(frames)
    wording = worded(words, PROMPT)
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        seen = await frames_of(sample, rule, view=view)
        count = len(seen.pictures) - 1
        if count < 2:
            raise Unscorable(f"{count + 1} frames have no order: the first is the anchor", "na")
        order = shuffled(count, seed, f"{sample.id} {sample.prompt}")
        noted("order", "{} of the frames after the first, as they are shown", order)
        listed = "".join(f"Frame {number}:{PICTURE}" for number in range(1, count + 1))
        text, places = wording._replace(text=wording.text + listed).filled(values_of((sample,)))
        media = (seen.pictures[0], *(seen.pictures[1 + place] for place in order))
        said = await vlm.write(media, text, max_tokens=max_tokens, system=wording.system, places=places)
        if not said.finished:
            raise Unscorable(f"cut off after {said.tokens} tokens: {said.text[-200:]}", "unparsable")
        values: list[float | None] = [None] * count
        for place, percent in zip(order, read_percentages(said.text, count), strict=True):
            values[place] = None if percent is None else percent / 100
        noted("values", "{} in their order in time", values)
        parts = {"coverage": covered(values), **curve_parts(seen.numbers, [0.0, *values])}
        if parts["coverage"] < least:
            raise Unscorable(f"of {count} frames {covered(values):.0%} have a value", "unparsable", parts)
        if values[-1] is not None:
            parts["last"] = values[-1]
        correlation = voc(values)
        if correlation is not None:
            parts["voc"] = correlation
        if how == "last":
            if values[-1] is None:
                raise Unscorable("the last frame has no value", "unparsable", parts)
            return Score(values[-1], parts, note=said.text)
        if correlation is None:
            raise Unscorable("all frames have one value: there is no order", "na", parts)
        return Score(correlation, parts, note=said.text)

    return score
