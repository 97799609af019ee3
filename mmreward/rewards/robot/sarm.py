"""SARM (arXiv:2509.25358): progress by stages of a task, for long tasks whose stages take unequal time.

Published as a method to train with LeRobot (`lerobot-train --reward_model.type=sarm`), whose folder is read
here; there is no checkpoint for all tasks.
"""

from asyncio import gather
from functools import partial
from typing import Any, Literal

from ... import models
from ...engine.episodes import windows_of
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...trajectories import check_rule, views_of
from ...types import Sample, Score
from .values import curve_parts, numbers_of, voc


@reward("sarm", needs=("prompt", "episode"), range=(0.0, 1.0), paper="arXiv:2509.25358",
        licence="depends on the weights; LeRobot's code is Apache-2.0")  # fmt: skip
def sarm(
    weights: str,
    encoder: str = "openai/clip-vit-base-patch32",
    head: Literal["sparse", "dense"] = "sparse",
    states: Literal["steps", "zeros"] = "steps",
    frames: str | int = "8",
    gap: int = 0,
    view: str = "",
    resize: str = "uint8",
    dtype: str = "float32",
) -> Any:
    """Progress of an episode's last frame through the stages of its task, 0 to 1, by a SARM of one's own.

    Each frame is judged in a window of frames before and after it; beyond the ends of the episode its first
    and last frames stand. `parts` holds the `stage` at the end (from 0) of so many `stages`, its probability
    as `confidence`, how far it is as `within`, progress at each frame as `frame_N`, the stages as
    `stage_frame_N`, and `voc`.

    These are the numbers of LeRobot's progress files. Its `compute_reward` reads the last frame of a window
    and not the middle one, which training put there: it judges a moment some seconds later.

    Args:
        weights: a folder or hub id in LeRobot's format.
        encoder: the CLIP that it was trained on.
        head: "sparse", the few stages; or "dense", the many, where it was trained with both.
        states: "steps", the robot's, which every step must have; or "zeros", as LeRobot fills in where there
            are none. A network that was trained with states then sees what it never saw.
        frames: which frames are judged, see `trajectories`.
        gap: frames between those of a window; 0 for the configuration's, which is of its data's rate.
        view: whose, where the steps have several; "" for the one that it was trained on.
        resize, dtype: of the CLIP, as for `clipscore`.

    Raises:
        ValueError: `head`, `states` or `frames` is something else, or a negative gap.
    """
    if head not in ("sparse", "dense"):
        raise ValueError(f"head is {head!r}: sparse or dense")
    if states not in ("steps", "zeros"):
        raise ValueError(f"states is {states!r}: steps or zeros")
    if gap < 0:
        raise ValueError(f"gap is {gap}: frames between those of a window, or 0 for the configuration's")
    rule = check_rule(frames)
    net = models.sarm(weights, encoder, dtype=dtype, resize=resize)

    async def score(sample: Sample) -> Score:
        stages = await aside(partial(net.stages, head))  # which reads a file, or fetches it
        several = views_of(sample.steps)
        camera = view or (net.view if len(several) > 1 and net.view in several else "")
        seen = await windows_of(sample, rule, net.offsets(gap), view=camera)
        episode = seen.episode

        async def judged(row: tuple[int, ...]) -> Any:
            numbers = [episode.numbers[place] for place in row]
            known = (
                numbers_of(sample.steps, "state", numbers, "; say states=zeros to go without")
                if states == "steps"
                else None
            )
            return await net.judged([episode.pictures[place] for place in row], sample.prompt, known, head)

        found = await gather(*map(judged, seen.rows))
        last, curve = found[-1], [one.progress for one in found]
        said = "{} of {} with a probability of {}, and {} of it done"
        noted("stage", said, last.stage, stages, last.confidence, last.within)
        parts = {"stage": float(last.stage), "stages": float(stages), "confidence": last.confidence}
        parts |= {"within": last.within, **curve_parts(seen.numbers, curve)}
        parts |= {f"stage_frame_{n}": float(one.stage) for n, one in zip(seen.numbers, found, strict=True)}
        if (order := voc(curve)) is not None:
            parts["voc"] = order
        return Score(last.progress, parts)

    return score
