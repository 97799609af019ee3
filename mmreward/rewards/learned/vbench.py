"""VBench's (arXiv:2311.17982) motion smoothness, dynamic degree, aesthetic and imaging quality of a clip.

Its other dimensions here: `subject_consistency`, `background_consistency` and `temporal_flickering`, and
`viclip`, which is its overall_consistency and temporal_style. All but the dynamic degree are kept high by a
clip in which nothing moves.
"""

from asyncio import gather
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import models
from ...engine.clips import chosen
from ...errors import Unscorable
from ...media import Media
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from .aesthetic import CLIP, GITHUB, PUBLISHED

if TYPE_CHECKING:
    from ...models.flow import Raft

PAPER = "arXiv:2311.17982"
RAFT = "https://download.pytorch.org/models/raft_large_C_T_V1-22a6c225.pth"
"""torchvision's copy of raft-things.pth."""
AMT = "lalala125/AMT/amt-s.pth"
A_SECOND = 8
"""Frames that the dynamic degree looks at."""
LONGEST = 512
"""Pixels of the longer side of a frame whose imaging quality is measured."""


@reward(
    "dynamic_degree",
    needs=("video",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper=PAPER,
    licence="Apache-2.0 (VBench); RAFT is BSD-3-Clause",
)
def dynamic_degree(file: str | None = None, graded: bool = False, dtype: str = "float32") -> Any:
    """1 for a clip in which something moves, else 0, by RAFT's optical flow between frames.

    VBench's rule. Eight frames a second are looked at. Of each two neighbours the flow of the fastest five
    per cent of pixels is averaged, and they move where that is more than 6 pixels for every 256 of the
    frame's shorter side. The clip moves where a quarter of its frames, rounded (halves to even), do so. A
    shaking camera moves everything, and so does a cut: beside this reward, one of the consistencies.

    `parts` has `moving`, the number of pairs that move, `pairs`, `wanted`, and `flow`, the mean of the pairs'
    speeds in units of the threshold. A reward of 0 and 1 says nothing within a group whose clips all move:
    `graded` gives the share of the wanted pairs that move, at most 1.

    A clip of fewer than three such frames is not scored (upstream calls two frames moving whatever they
    show), nor one without a frame rate, or of frames below 121 pixels, whose flow is NaN upstream.

    Args:
        file: raft-things.pth, as VBench has it, or torchvision's raft_large_C_T_V1, which has the same
            weights, by path or OWNER/NAME/FILE; without it, the latter in torch.hub's cache.
        graded: True for a share.
        dtype: of the network.

    Raises:
        ValueError: the file is not on this machine, with the command that fetches it.
    """
    network = models.optical_flow(models.downloaded(RAFT) if file is None else file, dtype=dtype)

    async def score(sample: Sample) -> Score:
        assert sample.video is not None
        frames = await aside(partial(_apart, sample.video))
        speeds = await _speeds(frames, network)
        wanted, moving = round(4 * (len(frames) / 16.0)), sum(speed > 1 for speed in speeds)
        noted("compared", "{} pairs of frames, of which {} move; {} are to", len(speeds), moving, wanted)
        value = min(1.0, moving / wanted) if graded else float(moving >= wanted)
        flow = float(np.mean(speeds))
        return Score(value, {"moving": moving, "pairs": len(speeds), "wanted": wanted, "flow": flow})

    return score


async def _speeds(frames: Sequence[Media], network: "Raft") -> list[float]:
    """Of each two neighbours the flow of the fastest pixels, in units of VBench's threshold."""
    found = await gather(*(network.fastest(before, after) for before, after in pairwise(frames)))
    threshold = 6.0 * (min(frames[0].size) / 256.0)
    return [pixels / threshold for pixels in found]


def _apart(clip: Media) -> Sequence[Media]:
    """Frames of a clip at eight a second.

    Raises:
        Unscorable: it has no frame rate, or too few frames.
    """
    if clip.fps is None:
        raise Unscorable("the clip has no frame rate, and its motion is looked at eight times a second")
    step = max(1, round(clip.fps / A_SECOND))
    shots = chosen(clip, lambda total: range(0, total, step))
    if len(shots) < 3:
        raise Unscorable(f"{len(shots)} frames at eight a second are too few to tell whether a clip moves")
    return shots


@reward(
    "motion_smoothness",
    needs=("video",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper=PAPER,
    licence="Apache-2.0 (VBench); AMT is CC BY-NC 4.0",
)
def motion_smoothness(file: str = AMT, dtype: str = "float32") -> Any:
    """Likeness, 0 to 1, of a clip's odd frames to what AMT interpolates between their neighbours.

    VBench's rule: of every second frame, beginning with the second, the mean absolute difference from the
    frame halfway between those round it; 1 less the mean over 255. Real motion is about 0.98. A still clip
    has nearly 1, so that alone this reward teaches not to move: beside it, `dynamic_degree`. A cut is not
    smooth either.

    `parts` has `worst`, the same of the least smooth frame, and `frames`, how many were interpolated. Clips
    of fewer than three frames, and frames below 113 pixels, are not scored; upstream's value of the latter
    is NaN. Upstream scales large frames down by the memory that its GPU has left, and values then differ
    from machine to machine; here every frame is taken as it is, as upstream does without a GPU.

    Args:
        file: amt-s.pth, by path or OWNER/NAME/FILE.
        dtype: of the network.

    Raises:
        ValueError: the file is not on this machine, and cannot be reached.
    """
    models.needed(file)
    network = models.interpolator(file, dtype=dtype)

    async def score(sample: Sample) -> Score:
        assert sample.video is not None
        frames = await aside(partial(chosen, sample.video, range))
        if len(frames) < 3:
            raise Unscorable(f"{len(frames)} frames have none between two others")
        triples = [frames[at : at + 3] for at in range(0, len(frames) - 2, 2)]
        apart = await gather(*(network.apart(*triple) for triple in triples))
        noted("interpolated", "{} frames, {} apart in the mean", len(apart), float(np.mean(apart)))
        parts = {"worst": 1 - max(apart) / 255, "frames": len(apart)}
        return Score((255 - float(np.mean(apart))) / 255, parts)

    return score


@reward(
    "aesthetic_quality",
    needs=("video",),
    range=(-np.inf, np.inf),
    uses_prompt=False,
    paper=PAPER,
    licence="Apache-2.0 (VBench); LAION's head and OpenAI's CLIP are MIT",
)
def aesthetic_quality(head: str = "v1", encoder: str = CLIP, dtype: str = "float32") -> Any:
    """Mean aesthetic rating of a clip's frames over ten, about 0.3 to 0.7, by LAION's first head.

    `aesthetic: {head: v1, frames: 8, scale: aesthetic/10}` is nearly this and costs eight frames. VBench
    takes every frame, and scales it for CLIP in float without antialiasing, which of large frames gives other
    embeddings. `parts` has the least frame.

    Args:
        head: "v1" for the published file, which torch.hub's cache must have, or a path, as for `aesthetic`.
        encoder: a CLIP in transformers format; VBench's is ViT-L/14.
        dtype: of the encoder; the head is in float32.

    Raises:
        ValueError: the head or the encoder is not on this machine, and cannot be reached.
    """
    file = models.downloaded(GITHUB + PUBLISHED["v1"][0]) if head == "v1" else head
    models.needed(encoder)
    net = models.frame_head(file, encoder, dtype=dtype)

    async def score(sample: Sample) -> Score:
        assert sample.video is not None
        frames = await aside(partial(chosen, sample.video, range))
        values = await gather(*(net.value(frame) for frame in frames))
        noted("rated", "{} frames by the head {}", len(values), head)
        return Score(float(np.mean(values)) / 10, {"least": min(values) / 10})

    return score


@reward(
    "imaging_quality",
    needs=("video",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper=PAPER,
    licence="Apache-2.0 (VBench); pyiqa: PolyForm Noncommercial 1.0.0 and NTU S-Lab",
)
def imaging_quality() -> Any:
    """Mean technical quality of a clip's frames, 0 to 1, by MUSIQ as trained on SPAQ: blur, noise, exposure.

    pyiqa's musiq-spaq over 100, of every frame; one whose longer side has more than 512 pixels is scaled to
    them in float without antialiasing, as in VBench. Without that resize, `iqa: {metric: musiq-spaq, frames:
    8}` is a hundred times this. Needs pyiqa, as `iqa` does, and may run in an interpreter of its own
    (`python:`). `parts` has the least frame.

    Raises:
        ValueError: pyiqa is not installed.
    """
    net = models.measure("musiq-spaq", longest=LONGEST)

    async def score(sample: Sample) -> Score:
        assert sample.video is not None
        frames = await aside(partial(chosen, sample.video, range))
        values = await gather(*(net.value(frame) for frame in frames))
        noted("measured", "{} frames by MUSIQ", len(values))
        return Score(float(np.clip(np.mean(values) / 100, 0, 1)), {"least": min(values) / 100})

    return score
