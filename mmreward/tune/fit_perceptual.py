"""Steps of a task from a few demonstrations, which the reward `perceptual` reads: `mmreward fit perceptual`
(arXiv:1612.06699).

Every demonstration is embedded frame by frame with a frozen encoder and cut into steps so that the frames of
a step differ least from their mean: the least sum of squares over all cuts, by dynamic programming, where the
paper halves recursively. The steps of equal number belong together. Of each step those features are kept
whose mean differs most from all other frames', |m - m'| / (s + s').

What the steps are worth is measured on demonstrations that were left out, one after the other.
"""

from asyncio import gather
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from .. import models
from ..data.rows import read_rows
from ..engine.engine import Engine
from ..engine.episodes import frames_of
from ..errors import Unscorable
from ..files import whole_file
from ..models.encoder_handle import Encoder
from ..models.step_facts import Step, Steps
from ..models.weights import content_of
from ..rewards.robot.values import voc
from ..trajectories import check_rule
from ..types import Sample

Floats = NDArray[np.float64]
FLOOR = 0.1
"""Share of a feature's deviation over all frames that its deviation within a step is taken for at least: a
step that is one still picture would else be reached by that picture alone."""
CONSTANT = 1e-9
"""Deviation over all frames below which a feature says nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Settings of a fit.

    Args:
        steps: to find, two at least.
        features: kept of each step; the paper's is 32.
        least: frames that a step has at least.
        frames: which frames of a demonstration are looked at, see `trajectories`.
        view: whose, where the steps have several.

    Raises:
        ValueError: a number that is too small, or no such rule.
    """

    steps: int = 3
    features: int = 32
    least: int = 2
    frames: str = "64"
    view: str = ""

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps is {self.steps}: two at least, of which the first is not paid")
        for name, value in (("features", self.features), ("least", self.least)):
            if value < 1:
                raise ValueError(f"{name} is {value}: 1 at least")
        check_rule(self.frames)


@dataclass(frozen=True, slots=True)
class StepsSummary:
    """Summary of a fit. `explained` is the share of the frames' spread that lies between steps and not within
    them; `own` and `order` are means over demonstrations that were left out, None of a single one: the share
    of frames whose closest step is the one that the demonstration's own cuts say, and the VOC of values."""

    encoder: str
    demonstrations: int
    unusable: tuple[str, ...]
    cuts: tuple[tuple[int, ...], ...]
    """Frames of each demonstration at which its steps begin, without the first."""
    explained: float
    own: float | None
    order: float | None
    out: Path

    def __str__(self) -> str:
        reason = f", such as: {self.unusable[0]}" if self.unusable else ""
        left = (
            "one demonstration alone: nothing to measure it on"
            if self.own is None
            else f"left out one by one: {self.own:.2f} of the frames are closest to their own step, VOC "
            + ("undefined" if self.order is None else f"{self.order:.2f}")
        )
        cuts = "; ".join(", ".join(map(str, cut)) for cut in self.cuts[:4])
        more = "; ..." if len(self.cuts) > 4 else ""
        return (
            f"{len(self.cuts[0]) + 1} steps on {self.encoder}\n"
            f"{self.demonstrations} demonstrations, {len(self.unusable)} unusable{reason}\n"
            f"steps begin at the frames {cuts}{more}\n"
            f"steps explain {self.explained:.2f} of the spread of the frames\n"
            f"{left}\n"
            f"-> {self.out}"
        )


def fit_perceptual(
    data: Path,
    weights: str,
    out: Path,
    engine: Engine,
    finding: Finding | None = None,
    *,
    resize: str = "pil",
) -> StepsSummary:
    """Find the steps that demonstrations show, and write them to the new file `out`.

    Args:
        data: as `mmreward score` reads it: clips or episodes of one task that all succeed.
        weights: the dual encoder, as for `clipscore`, float32.
        out: ends in .json; the reward `perceptual` reads it.
        engine: runs the encoder.
        finding: how.
        resize: of the encoder.

    Raises:
        ValueError: data that cannot be read, no usable demonstration, fewer frames than steps, frames that
            are all alike, or an `out` that is there already.
    """
    finding = finding or Finding()
    if out.suffix != ".json":
        raise ValueError(f"{out} does not end in .json")
    if out.exists():
        raise ValueError(f"{out} is there already, and rewards may read it: give the steps another name")
    encoder = models.clip(weights, resize=resize)
    found, problems = _embedded(data, encoder, engine, finding)
    cuts = [cuts_of(frames, finding.steps, finding.least) for frames, _ in found]
    clips = [frames for frames, _ in found]
    steps = steps_of(clips, cuts, finding.features)
    own, order = _left_out(clips, cuts, finding.features, encoder, weights)
    summary = StepsSummary(
        encoder=weights,
        demonstrations=len(found),
        unusable=tuple(problems),
        cuts=tuple(tuple(numbers[cut] for cut in cut) for (_, numbers), cut in zip(found, cuts, strict=True)),
        explained=_explained(clips, cuts),
        own=own,
        order=order,
        out=out,
    )
    figures = {"settings": asdict(finding), "demonstrations": len(found), "explained": summary.explained}
    figures |= {"left out": {"own step": own, "voc": order}}
    written = _steps(steps, encoder, weights, clips[0].shape[1], figures)
    with whole_file(out) as part:
        part.write_text(written.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return summary


def _steps(
    steps: Sequence[Step], encoder: Encoder, weights: str, width: int, figures: dict[str, object]
) -> Steps:
    return Steps(
        encoder=weights,
        content=content_of(encoder.network.source),
        dtype="float32",
        resize=encoder.resize,
        width=width,
        steps=tuple(steps),
        figures=figures,
    )


# --- data ---------------------------------------------------------------------------------------------------


def _embedded(
    data: Path, encoder: Encoder, engine: Engine, finding: Finding
) -> tuple[list[tuple[Floats, tuple[int, ...]]], list[str]]:
    """Embeddings (T, D) and numbers of the frames of each usable row, and why others are not usable."""

    async def embedded(sample: Sample) -> tuple[Floats, tuple[int, ...]] | str:
        try:
            seen = await frames_of(sample, finding.frames, view=finding.view)
            vectors = await gather(*map(encoder.image, seen.pictures))
        except Unscorable as error:
            return f"{sample.id}: {error}"
        if len(vectors) < finding.steps * finding.least:
            wanted = f"{finding.steps} steps of {finding.least} frames at least"
            return f"{sample.id}: {len(vectors)} frames, for {wanted}"
        return np.stack(vectors).astype(np.float64), seen.numbers

    found: list[tuple[Floats, tuple[int, ...]]] = []
    problems: list[str] = []
    for row in read_rows(data):
        result = row.problem if row.sample is None else engine.run(embedded(row.sample))
        if isinstance(result, str):
            problems.append(result)
        else:
            found.append(result)
    if not found:
        reason = f", such as: {problems[0]}" if problems else ""
        raise ValueError(f"{data} has no demonstration that can be used{reason}")
    return found, problems


# --- steps --------------------------------------------------------------------------------------------------


def cuts_of(frames: Floats, steps: int, least: int = 1) -> list[int]:
    """Frames at which steps begin, without the first: the cuts with the least sum of squares within steps.

    >>> cuts_of(np.array([[0.0], [0.1], [5.0], [5.1], [5.0], [9.0]]), 3)
    [2, 5]

    Args:
        frames: embeddings (T, D).
        steps: how many.
        least: frames of a step.

    Raises:
        ValueError: too few frames.
    """
    total = len(frames)
    if total < steps * least:
        raise ValueError(f"{total} frames are too few for {steps} steps of {least} frames at least")
    centred = frames - frames.mean(0)  # keeps the differences of large sums exact
    sums = np.concatenate([np.zeros((1, frames.shape[1])), centred.cumsum(0)])
    squares = np.concatenate([[0.0], (centred**2).sum(1).cumsum()])
    ends = np.arange(total + 1)
    # best[e] is the least sum of squares of the first e frames in so many steps
    best = squares - (sums**2).sum(1) / np.maximum(ends, 1)
    best[:least] = np.inf
    back: list[NDArray[np.int64]] = []
    for step in range(2, steps + 1):
        cost, came = np.full(total + 1, np.inf), np.zeros(total + 1, np.int64)
        for end in range(step * least, total + 1):
            starts = ends[(step - 1) * least : end - least + 1]
            within = (
                squares[end] - squares[starts] - ((sums[end] - sums[starts]) ** 2).sum(1) / (end - starts)
            )
            whole = best[starts] + within
            at = int(whole.argmin())
            cost[end], came[end] = whole[at], starts[at]
        best = cost
        back.append(came)
    cuts, end = [], total
    for came in reversed(back):
        end = int(came[end])
        cuts.append(end)
    return cuts[::-1]


def labels_of(total: int, cuts: Sequence[int]) -> NDArray[np.int64]:
    """The step of each frame, (T,)."""
    return np.searchsorted(np.asarray(cuts), np.arange(total), side="right").astype(np.int64)


def steps_of(clips: Sequence[Floats], cuts: Sequence[Sequence[int]], features: int) -> list[Step]:
    """Features of each step with their means and deviations, over all demonstrations.

    Raises:
        ValueError: frames that are all alike.
    """
    frames = np.concatenate(clips)
    labels = np.concatenate([labels_of(len(clip), cut) for clip, cut in zip(clips, cuts, strict=True)])
    spread = frames.std(0)
    varying = spread > CONSTANT
    if not varying.any():
        raise ValueError("the frames of the demonstrations are all alike to the encoder: it sees no steps")
    found = []
    for step in range(int(labels.max()) + 1):
        inside, outside = frames[labels == step], frames[labels != step]
        deviation = np.maximum(inside.std(0), FLOOR * spread)
        apart = np.full(len(spread), -1.0)
        between = np.abs(inside.mean(0) - outside.mean(0))[varying]
        apart[varying] = between / (deviation + outside.std(0))[varying]
        kept = np.argsort(-apart, kind="stable")[: min(features, int(varying.sum()))]
        found.append(
            Step(
                features=tuple(kept.tolist()),
                means=tuple(inside.mean(0)[kept].tolist()),
                deviations=tuple(deviation[kept].tolist()),
            )
        )
    return found


# --- what they are worth ------------------------------------------------------------------------------------


def _explained(clips: Sequence[Floats], cuts: Sequence[Sequence[int]]) -> float:
    """Share of the sum of squares over all demonstrations that the means of the steps take away."""
    frames = np.concatenate(clips)
    labels = np.concatenate([labels_of(len(clip), cut) for clip, cut in zip(clips, cuts, strict=True)])
    within = sum(
        float(((frames[labels == step] - frames[labels == step].mean(0)) ** 2).sum())
        for step in range(int(labels.max()) + 1)
    )
    return 1 - within / float(((frames - frames.mean(0)) ** 2).sum())


def _left_out(
    clips: Sequence[Floats], cuts: Sequence[Sequence[int]], features: int, encoder: Encoder, weights: str
) -> tuple[float | None, float | None]:
    """Share of frames that are closest to their own step, and VOC, on each demonstration by the others."""
    if len(clips) < 2:
        return None, None
    shares, orders = [], []
    for place, clip in enumerate(clips):
        others = [one for at, one in enumerate(clips) if at != place]
        try:
            found = steps_of(others, [one for at, one in enumerate(cuts) if at != place], features)
        except ValueError:  # the others are all alike
            return None, None
        steps = _steps(found, encoder, weights, clip.shape[1], {})
        scores = steps.scores(clip)
        shares.append(float((scores.argmax(1) == labels_of(len(clip), cuts[place])).mean()))
        orders.append(voc(steps.values(scores).tolist()))
    known = [order for order in orders if order is not None]
    return fmean(shares), fmean(known) if known else None
