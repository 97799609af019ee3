"""Networks of clips and of their frames: embedders of frames, heads on them, optical flow, encoders of clips.

They are functions of `mmreward.models`, as all others. Imports no torch; calling one does.
"""

from typing import TYPE_CHECKING

from .sharing import shared

if TYPE_CHECKING:
    from .flow import Raft
    from .frames import FrameEmbedder
    from .heads import EmbeddingHead
    from .viclip import ViClip


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
def video_encoder(file: str, *, dtype: str = "float32") -> "ViClip":
    """ViCLIP, a dual encoder of clips and prompts, from its published file."""
    from .viclip import ViClip

    return ViClip(file, dtype=dtype)
