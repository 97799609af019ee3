"""VideoScore (arXiv:2406.15252): five ratings of a generated clip by an Idefics2, or a Qwen2-VL, trained on
grades.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ... import models
from ...engine.clips import chosen
from ...errors import nearest
from ...media import Media
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

DIMENSIONS = ("visual", "temporal", "dynamic", "alignment", "factual")
"""Visual quality, temporal consistency, dynamic degree, text-to-video alignment, factual consistency: the
head's outputs in their order."""
FRAMES = {"TIGER-Lab/VideoScore": 16}
"""Frames that a clip is thinned to, at most, where they are not v1.1's."""
MOST = 48


@reward(
    "videoscore",
    needs=("prompt", "video"),
    range=(-np.inf, np.inf),
    paper="arXiv:2406.15252",
    licence="MIT (TIGER-Lab/VideoScore-v1.1); Apache-2.0 for its body (Idefics2, Mistral 7B)",
)
def videoscore(
    weights: str = "TIGER-Lab/VideoScore-v1.1",
    dimension: str = "mean",
    max_frames: int | None = None,
    words: str = "published",
    dtype: str = "float32",
) -> Any:
    """Rating of a clip, about 1 to 4, as people graded generated clips: the mean of five, or one of them.

    `parts` has visual (quality), temporal (consistency), dynamic (degree), alignment (with the prompt) and
    factual (consistency). They come of a regression and have no bounds: its text asks for 1.0 to 4.0, which
    its answers may pass. All five see the prompt. `dynamic` goes up where the others go down, so a mean hides
    a trade between them.

    As the publisher's script has it (examples/run_videoscore.py): every frame of a clip of at most 48, else
    those at 0, T/48, 2T/48, ...; its benchmark takes them from the first to the last instead. A frame is 64
    tokens, of 378 to 980 pixels a side (a smaller one is stretched to 378 x 378, whatever its shape). The
    publisher runs it in bfloat16 (`dtype`) and rounds to three digits; here nothing is rounded. 8.4 billion
    weights: 17 GB in bfloat16.

    VideoScore-Qwen2-VL sees the clip before the text: eight frames a second of at most 768 * 28 * 28 pixels,
    fewer where there are more than 64, of clips of four frames or more. It has no `max_frames`.

    Args:
        weights: TIGER-Lab/VideoScore-v1.1, TIGER-Lab/VideoScore (16 frames) or a folder of their format.
            TIGER-Lab/VideoScore-Qwen2-VL (or its format) is another model, whose numbers do not compare.
        dimension: "mean", or the one that is the value.
        max_frames: that a clip is thinned to; without it, the weights' own.
        words: as for `hpsv3`, with {text_prompt} once.
        dtype: of the body; the head is in float32.

    Raises:
        ValueError: as for `hpsv3`; no such dimension, or fewer than one frame.
    """
    if dimension not in ("mean", *DIMENSIONS):
        raise ValueError(f"dimension {dimension!r}: {nearest(dimension, ('mean', *DIMENSIONS))}")
    template = models.prompt_of(("videoscore",), words, ("{text_prompt}",))
    if models.on_qwen(weights):
        if max_frames is not None:
            raise ValueError(f"max_frames={max_frames}: {weights} looks at eight frames a second")
        return _on_qwen(weights, template, dimension, dtype)
    most = FRAMES.get(weights, MOST) if max_frames is None else max_frames
    if most < 1:
        raise ValueError(f"max_frames is {most}: a clip is looked at by one frame at least")
    net = models.video_scorer(weights, dtype=dtype)

    async def score(sample: Sample) -> Score:
        assert sample.video is not None
        frames = await aside(partial(_thinned, sample.video, most))
        read = await net.score(frames, template.replace("{text_prompt}", sample.prompt))
        noted("read", "{} frames", len(frames))
        return _rated(read, dimension)

    return score


def _on_qwen(weights: str, template: str, dimension: str, dtype: str) -> Any:
    net = models.video_rater(weights, dtype=dtype)

    async def score(sample: Sample) -> Score:
        assert sample.video is not None
        (read,) = await net.score((sample.video,), template.replace("{text_prompt}", sample.prompt))
        return _rated(read, dimension)

    return score


def _rated(read: Sequence[float], dimension: str) -> Score:
    parts = dict(zip(DIMENSIONS, read, strict=True))
    noted("rated", "{}", parts)
    return Score(float(np.mean(read)) if dimension == "mean" else parts[dimension], parts)


def _thinned(clip: Media, most: int) -> tuple[Media, ...]:
    """Every frame, or so many of a longer clip, by the publisher's rule."""

    def rule(total: int) -> list[int]:
        if total <= most:
            return list(range(total))
        return [int(number) for number in np.arange(0, total, total / most).astype(int)[:most]]

    return tuple(chosen(clip, rule))
