"""Consistency of a clip from frame to frame, as VBench (arXiv:2311.17982) measures it: of its subject by
DINO, of its background by CLIP, and of its pixels.

All three are highest for a clip in which nothing moves: beside one of them a generator needs a reward that
wants motion. Every frame is looked at, as published; say less with a shorter clip.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import models
from ...engine.clips import chosen
from ...engine.together import together
from ...errors import Unscorable
from ...media import Media
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

if TYPE_CHECKING:
    from ...models.frames import FrameEmbedder

PAPER = "arXiv:2311.17982"


@reward(
    "subject_consistency",
    needs=("video",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper=PAPER,
    licence="Apache-2.0 (VBench, facebook/dino-vitb16)",
)
def subject_consistency(weights: str = "facebook/dino-vitb16", dtype: str = "float32") -> Any:
    """Likeness, 0 to 1, of a clip's frames to the frame before and to the first, by DINO's class token.

    Of each frame after the first, half the cosine with the frame before it and half that with the first,
    neither below 0; the mean over frames. `parts` has both halves and the least frame. A clip in which
    nothing moves has 1.

    As published, a frame's shorter side is scaled to 224 in float, without antialiasing, and the whole of it
    is looked at with DINO's own stretch of its positions; `dino_i` looks at pictures otherwise, and its
    cosines are other numbers. VBench's releases differ in whether the resize is antialiased, which is the
    default of torchvision from 0.17 on; here it is not, as in its present one. A clip whose frames are
    more than 50 times as long as wide fails, here and in `background_consistency`.

    Args:
        weights: a DINO in transformers format; VBench's is ViT-B/16.
        dtype: of the network.

    Raises:
        ValueError: the weights are not on this machine and the hub cannot be reached.
    """
    models.needed(weights)
    return _consistent(models.frame_embedder(weights, "dino", dtype=dtype))


@reward(
    "background_consistency",
    needs=("video",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper=PAPER,
    licence="Apache-2.0 (VBench); openai/clip-vit-base-patch32 is MIT",
)
def background_consistency(weights: str = "openai/clip-vit-base-patch32", dtype: str = "float32") -> Any:
    """Likeness, 0 to 1, of a clip's frames to the frame before and to the first, by CLIP's embedding.

    The formula of `subject_consistency` on CLIP, which tells scenes better than individuals: VBench calls it
    the background's. As published, a frame's shorter side is scaled to 224 in float (bicubic, without
    antialiasing) and the middle is looked at.

    Args:
        weights: a CLIP in transformers format; VBench's is ViT-B/32.
        dtype: of the network.

    Raises:
        ValueError: the weights are not on this machine and the hub cannot be reached.
    """
    models.needed(weights)
    return _consistent(models.frame_embedder(weights, "clip", dtype=dtype))


@reward("temporal_flickering", needs=("video",), range=(0.0, 1.0), uses_prompt=False, paper=PAPER)
def temporal_flickering() -> Any:
    """1 less the mean difference of neighbouring frames as a fraction of full scale; 1 where nothing changes.

    VBench's formula, (255 - mean |difference|) / 255 on 8-bit values, and its name: the higher, the less it
    flickers. It is meant for scenes that stand still; motion counts as flicker. Values depend on the frame
    rate. `parts` has the worst pair.
    """

    async def score(sample: Sample) -> Score:
        assert sample.video is not None
        changes = await aside(partial(changes_of, sample.video))
        noted("compared", "{} pairs of frames", len(changes))
        return Score(1 - float(np.mean(changes)) / 255, {"worst": 1 - max(changes) / 255})

    return score


def changes_of(clip: Media) -> list[float]:
    """Mean absolute difference, 0 to 255, of each two neighbouring frames.

    Raises:
        Unscorable: the clip has one frame, or cannot be decoded.
    """
    found, before = [], None
    for frame in frames_of(clip):
        pixels = frame.array().astype(np.int16)
        if before is not None:
            found.append(float(np.abs(pixels - before).mean(dtype=np.float64)))
        before = pixels
    return found


def frames_of(clip: Media) -> Sequence[Media]:
    """Every frame, as a picture.

    Raises:
        Unscorable: there is one, or none.
    """
    shots = chosen(clip, range)
    if len(shots) < 2:
        raise Unscorable("a clip of one frame has none to compare it with")
    return shots


def _consistent(network: "FrameEmbedder") -> Any:
    async def score(sample: Sample) -> Score:
        assert sample.video is not None
        frames = await aside(partial(frames_of, sample.video))
        units = np.stack(await together(*(network.image(frame) for frame in frames)))
        before, first = likenesses(units)
        each = (before + first) / 2
        noted("compared", "{} frames with the one before and the first", len(each))
        parts = {"before": float(before.mean()), "first": float(first.mean()), "least": float(each.min())}
        return Score(min(1.0, float(each.mean())), parts)

    return score


def likenesses(units: "np.ndarray[Any, Any]") -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Cosines, not below 0, of each unit vector after the first with the one before it and with the first."""
    rows = units.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.maximum((rows[1:] * rows[:-1]).sum(1), 0), np.maximum(rows[1:] @ rows[0], 0)
