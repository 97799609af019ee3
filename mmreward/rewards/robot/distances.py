"""Distances to a goal in embeddings that were trained on videos: VIP (arXiv:2210.00030), R3M
(arXiv:2203.12601) and LIV (arXiv:2306.00958).

The value of a picture is its closeness to the goal; what is paid online is the difference of two values,
which `adapters.gymnasium` makes of them. A distance changes with the camera and with how much of the picture
the arm fills, and a goal from another scene gives a plateau: compare values of one camera and one goal.
"""

import math
from asyncio import gather
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ... import models
from ...engine.episodes import Episode, frames_of
from ...errors import Unscorable
from ...registry import reward
from ...tracing import noted
from ...trajectories import check_rule
from ...types import Sample, Score
from .values import curve_parts, voc

Vector = NDArray[np.floating[Any]]


def closeness(values: Sequence[float], seen: Episode) -> Score:
    """The score of an episode by its frames' values: the last one's, with the gain since the first."""
    parts = {"gain": values[-1] - values[0], **curve_parts(seen.numbers, values)}
    if (order := voc(values)) is not None:
        parts["voc"] = order
    noted("values", "{} of the frames", list(values))
    return Score(values[-1], parts)


def _by_distance(net: Any, frames: str, view: str) -> Callable[[Sample], Awaitable[Score]]:
    async def score(sample: Sample) -> Score:
        seen = await frames_of(sample, frames, view=view)
        goal, *states = await gather(*(net.image(media) for media in (sample.inputs[0], *seen.pictures)))
        return closeness([-float(np.linalg.norm(state - goal)) for state in states], seen)

    return score


@reward("vip", needs=("episode", "inputs"), range=(-math.inf, 0.0), uses_prompt=False,
        paper="arXiv:2210.00030", licence="CC BY-NC 4.0 (VIP): no commercial use")  # fmt: skip
def vip(weights: str, frames: str = "8", view: str = "", resize: str = "pil", dtype: str = "float32") -> Any:
    """Minus the distance of an episode's last frame to the goal picture in VIP's embedding; 0 at the goal.

    The first of `inputs` is the goal. `parts` holds the value of each frame as `frame_N`, their `voc`, and
    the `gain` from the first to the last.

    Args:
        weights: the published model.pt (its repository says where), or safetensors with its names.
        frames: which frames are looked at, see `trajectories`.
        view: whose, where the steps have several.
        resize, dtype: of the network, as for `clipscore`; the publisher's is "pil".

    Raises:
        ValueError: `frames` is something else, or no such file.
    """
    check_rule(frames)
    return _by_distance(models.goal_resnet(weights, "vip", dtype=dtype, resize=resize), frames, view)


@reward("r3m", needs=("episode", "inputs"), range=(-math.inf, 0.0), uses_prompt=False,
        paper="arXiv:2203.12601", licence="MIT (R3M)")  # fmt: skip
def r3m(weights: str, frames: str = "8", view: str = "", resize: str = "pil", dtype: str = "float32") -> Any:
    """Minus the distance of an episode's last frame to the goal picture in R3M's embedding; 0 at the goal.

    As `vip`. R3M's reward of a language goal is another number, which its authors switch off in use; its
    weights in the file are not read.

    Args:
        weights: the published model.pt (its repository says where), or safetensors with its names.
        frames: which frames are looked at, see `trajectories`.
        view: whose, where the steps have several.
        resize, dtype: of the network, as for `clipscore`; the publisher's is "pil".

    Raises:
        ValueError: `frames` is something else, or no such file.
    """
    check_rule(frames)
    return _by_distance(models.goal_resnet(weights, "r3m", dtype=dtype, resize=resize), frames, view)


@reward("liv", needs=("episode",), range=(-1.0, 1.0), paper="arXiv:2306.00958", licence="MIT (LIV)")
def liv(
    goal: Literal["prompt", "picture"] = "prompt",
    weights: str = "jasonyma/LIV/model.pt",
    architecture: str = "RN50-quickgelu",
    frames: str = "8",
    view: str = "",
    resize: str = "pil",
    dtype: str = "float32",
) -> Any:
    """Cosine of an episode's last frame and the goal in LIV's embedding, -1 to 1.

    The goal is the prompt or the first of `inputs`. `parts` as of `vip`.

    Args:
        goal: "prompt" or "picture".
        weights: the published file, by path or OWNER/NAME/FILE; or any dual encoder, as for `clipscore`.
        architecture: open_clip's name of a file's; the published one is a CLIP RN50.
        frames: which frames are looked at, see `trajectories`.
        view: whose, where the steps have several.
        resize, dtype: of the network, as for `clipscore`; the publisher's is "pil".

    Raises:
        ValueError: `goal` or `frames` is something else.
    """
    if goal not in ("prompt", "picture"):
        raise ValueError(f"goal is {goal!r}: prompt or picture")
    check_rule(frames)
    net = models.clip(weights, dtype=dtype, resize=resize, architecture=architecture)

    async def wanted(sample: Sample) -> Vector:
        if goal == "prompt":
            if not sample.prompt.strip():
                raise Unscorable("the sample has no prompt, which says the goal", "missing")
            return (await net.text(sample.prompt)).vector
        if not sample.inputs:
            raise Unscorable("the sample has no inputs, whose first picture is the goal", "missing")
        return await net.image(sample.inputs[0])

    async def score(sample: Sample) -> Score:
        seen = await frames_of(sample, frames, view=view)
        target, *states = await gather(wanted(sample), *map(net.image, seen.pictures))
        return closeness([float(np.clip(state @ target, -1, 1)) for state in states], seen)

    return score
