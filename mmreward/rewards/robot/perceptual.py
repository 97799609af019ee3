"""Perceptual rewards (arXiv:1612.06699): closeness to the steps of a task that a few demonstrations show, by
the features of a frozen encoder that tell a step from the others. `mmreward fit perceptual` finds both.
"""

import hashlib
import math
from asyncio import gather
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import models
from ...engine.episodes import frames_of
from ...models.wants import noting
from ...registry import record_network, reward
from ...tracing import noted
from ...trajectories import check_rule
from ...types import Sample, Score
from .values import curve_parts, voc

if TYPE_CHECKING:
    from ...models.step_facts import Steps

Floats = NDArray[np.float64]


class Content(NamedTuple):
    """The file's content, for the reward's fingerprint."""

    name: str
    fingerprint: str


def _check(steps: "Steps", file: str, net: Any) -> None:
    """Refuse an encoder of other weights than the steps were found with."""
    from ...models.weights import content_of

    source = net.network.source
    content = content_of(source)
    unknown = content == source and net.name == steps.encoder  # a hub id that is not here yet
    if content != steps.content and not unknown:
        said = f"{file} was fitted on {steps.encoder}, and {net.name} has other weights"
        raise ValueError(f"{said}: run `mmreward fit perceptual` with --weights {net.name}")


@reward("perceptual", needs=("episode",), range=(-math.inf, 0.0), uses_prompt=False,
        paper="arXiv:1612.06699", licence="the demonstrations' and the encoder's")  # fmt: skip
def perceptual(
    fitted: str,
    weights: str = "",
    frames: str | int = "8",
    view: str = "",
    resize: str = "",
    dtype: str = "",
) -> Any:
    """Closeness of an episode's last frame to the later steps of a task, at most 0, by steps that
    `mmreward fit perceptual` found in a few demonstrations.

    `parts` holds the step that the last frame is closest to (`step`, from 0, of so many `steps`), the score
    of each step there as `step_N`, the value of each frame as `frame_N`, their `voc`, and the `gain` from the
    first to the last. It knows one task and one scene, and no words: the prompt is not read. What is unlike
    every demonstration has a low value, but a frame that looks like the end has a high one however it came
    about.

    Args:
        fitted: the file that `mmreward fit perceptual` wrote.
        weights: the dual encoder, as for `clipscore`, where it lies under another name than at the fit.
        frames: which frames are looked at, see `trajectories`.
        view: whose, where the steps have several.
        resize, dtype: of the encoder, as for `clipscore`; "" for the fit's.

    Raises:
        ValueError: no such file, one that was fitted on other weights, or `frames` is something else.
    """
    from ...models.step_facts import read_steps  # with pydantic, which listing does not need

    rule = check_rule(frames)
    steps = read_steps(fitted)
    net = models.clip(weights or steps.encoder, dtype=dtype or steps.dtype, resize=resize or steps.resize)
    if not noting():
        _check(steps, fitted, net)
    told = steps.model_dump_json(exclude={"figures"})
    record_network(Content("steps", hashlib.blake2b(told.encode(), digest_size=8).hexdigest()))

    async def score(sample: Sample) -> Score:
        seen = await frames_of(sample, rule, view=view)
        found = steps.scores(np.stack(await gather(*map(net.image, seen.pictures))).astype(np.float64))
        values = steps.values(found).tolist()
        return _score(found, values, seen.numbers)

    return score


def _score(scores: Floats, values: Sequence[float], numbers: Sequence[int]) -> Score:
    last = scores[-1]
    closest = int(last.argmax())
    noted("step", "{} of {}, by the scores {}", closest, len(last), last.tolist())
    parts = {"step": float(closest), "steps": float(len(last)), "gain": values[-1] - values[0]}
    parts |= {f"step_{number}": float(value) for number, value in enumerate(last)}
    parts |= curve_parts(numbers, values)
    if (order := voc(values)) is not None:
        parts["voc"] = order
    return Score(values[-1], parts)
