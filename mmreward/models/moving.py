"""Networks of clips and of their frames: embedders of frames, heads on them, optical flow, frames in
between, encoders of clips.

They are functions of `mmreward.models`, as all others. Imports no torch; calling one does.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from .sharing import shared
from .wants import FILES, hub_file

if TYPE_CHECKING:
    from .amt import Amt
    from .flow import Raft
    from .frames import FrameEmbedder
    from .heads import EmbeddingHead
    from .internvideo import InternVideo2
    from .viclip import ClipEncoder, ViClip


@shared
def frame_embedder(weights: str, by: str, *, dtype: str = "float32") -> "FrameEmbedder":
    """A DINO or the image tower of a CLIP (`by`), of a clip's frames as VBench prepares them."""
    from .frames import ClipFrames, DinoFrames

    return (DinoFrames if by == "dino" else ClipFrames)(weights, dtype=dtype)


@shared
def frame_head(weights: str, encoder: str, *, dtype: str = "float32") -> "EmbeddingHead":
    """A head, as for `head`, on the image tower of a CLIP, of a clip's frames as VBench prepares them."""
    from .heads import EmbeddingHead

    return EmbeddingHead(weights, frame_embedder(encoder, "clip", dtype=dtype))


@shared
def optical_flow(file: str, *, dtype: str = "float32") -> "Raft":
    """RAFT, the motion between two frames, from its publisher's file or torchvision's."""
    from .flow import Raft

    return Raft(file, dtype=dtype)


@shared
def interpolator(file: str, *, dtype: str = "float32") -> "Amt":
    """AMT-S, the frame between two frames, from its publisher's file."""
    from .amt import Amt

    return Amt(file, dtype=dtype)


@shared
def video_encoder(file: str, *, dtype: str = "float32") -> "ViClip":
    """ViCLIP, a dual encoder of clips and prompts, from its published file."""
    from .viclip import ViClip

    return ViClip(file, dtype=dtype)


@shared
def clip_and_text(weights: str, vocabulary: str, *, protocol: str, dtype: str = "float32") -> "InternVideo2":
    """InternVideo2 of stage 2, a dual encoder of clips and prompts, from its published file.

    Args:
        weights: the file, by path or OWNER/NAME/FILE.
        vocabulary: BERT's vocab.txt, likewise.
        protocol: a name of `internvideo.PROTOCOLS`: frames, their preparation, and the GELU.
        dtype: of both sides.
    """
    from .internvideo import InternVideo2

    return InternVideo2(weights, vocabulary, protocol=protocol, dtype=dtype)


def clip_encoder(file: str, *, dtype: str = "float32") -> "ClipEncoder":
    """ViCLIP as a dual encoder, on which a map of its prompts can be fitted."""
    from .viclip import ClipEncoder

    return ClipEncoder(video_encoder(file, dtype=dtype))


def reads_clips(weights: str) -> bool:
    """True for one published file, which is a ViCLIP where a dual encoder is named; False for all else."""
    named = weights.endswith(FILES) and Path(weights).is_file()
    return named or hub_file(weights) is not None
