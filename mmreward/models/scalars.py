"""Scalar reward models on the body of a vision-language model, by the names of their published files.

The functions here are reached through `mmreward.models`, as all others. Imports no torch; calling one does.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from .sharing import shared
from .wants import BODY, noting

if TYPE_CHECKING:
    from .owl import Owl
    from .vlms.idefics import IdeficsScorer
    from .vlms.internvl import InternVL
    from .vlms.llava import Llava
    from .vlms.scalar import ScalarVL
    from .vlms.videoalign import VideoAlign, VideoRater
    from .vlms.xcomposer import XComposer


@shared
def scalar_vlm(
    weights: str,
    base: str,
    *,
    tokens: tuple[str, ...] = (),
    heads: int = 1,
    flat: bool = True,
    low: int = 0,
    high: int = 0,
    dtype: str = "float32",
) -> "ScalarVL":
    """A scalar reward model on a Qwen-VL body: heads on the states of special tokens, or of the last one.

    Args:
        weights: the published file of body and heads (.safetensors, or .pth of tensors alone), by path or
            OWNER/NAME/FILE; or a folder or hub id in transformers format, with the head among its tensors or
            in a value_head.safetensors.
        base: hub id or folder of the body it was trained on; its weights are not read. Such a folder is its
            own.
        tokens: special tokens whose states are read; () for the last token's.
        heads: number of heads in the file; what they say follows one another in the order of their names.
        flat: tokens of pictures are counted on like words, see `vlms.scalar`.
        low, high: pixels of every picture, at least and at most; 0 leaves that to the body's processor.
        dtype: of the body; the heads are in float32.

    Raises:
        ValueError: the weights, or the body's configuration and tokenizer, are neither here nor within reach.
    """
    from .vlms.scalar import ScalarVL

    _needed(weights)
    _needed(base, *BODY)
    return ScalarVL(weights, base, tokens=tokens, heads=heads, flat=flat, low=low, high=high, dtype=dtype)


@shared
def video_reward(weights: str, base: str, checkpoint: str, *, dtype: str = "float32") -> "VideoAlign":
    """VideoReward in its published format: three numbers at each of three tokens, of a clip and a prompt.

    Args:
        weights: a hub id or folder with a `model_config.json`.
        base: as for `scalar_vlm`.
        checkpoint: the folder in it.
        dtype: of the body; the head is in float32.

    Raises:
        ValueError: as for `scalar_vlm`.
    """
    from .vlms.videoalign import CONFIG, VideoAlign

    _needed(weights, CONFIG, f"{checkpoint}/model.pth")
    _needed(base, *BODY)
    return VideoAlign(weights, base, checkpoint, dtype=dtype)


@shared
def video_scorer(weights: str, *, dtype: str = "float32") -> "IdeficsScorer":
    """VideoScore in its published format (an Idefics2): numbers of a clip's frames behind a text."""
    _needed(weights)
    from .vlms.idefics import IdeficsScorer

    return IdeficsScorer(weights, dtype=dtype)


@shared
def video_rater(weights: str, *, dtype: str = "float32") -> "VideoRater":
    """VideoScore-Qwen2-VL in its published format: numbers of a clip before a text."""
    _needed(weights)
    from .vlms.videoalign import VideoRater

    return VideoRater(weights, dtype=dtype)


def on_qwen(weights: str) -> bool:
    """True for weights on a Qwen2-VL: of a folder by its configuration, of a hub id by its name."""
    file = Path(weights) / "config.json"
    if not file.is_file():
        return "qwen" in weights.lower()
    return bool(json.loads(file.read_text(encoding="utf-8")).get("model_type") == "qwen2_vl")


@shared
def grader(weights: str, *, dtype: str = "float32") -> "Owl":
    """mPLUG-Owl2 in its published format (DeQA-Score, Q-Align): a picture's grade by five words."""
    _needed(weights)
    from .owl import Owl

    return Owl(weights, dtype=dtype)


@shared
def llava_reward(weights: str, *, whole: bool = True, dtype: str = "float32") -> "Llava":
    """LLaVA-OneVision with a reward head in its published format (MM-RLHF-Reward): it writes a critique of a
    response, and gives a number to what it has read.

    Args:
        weights: a folder or hub id.
        whole: show it the picture as one square, as the publisher's evaluation does; False shows its tiles
            as well, as in training.
        dtype: of the body; the head is in float32.

    Raises:
        ValueError: the weights are neither here nor within reach.
    """
    _needed(weights)
    from .vlms.llava import Llava

    return Llava(weights, whole=whole, dtype=dtype)


@shared
def internvl(weights: str, *, writes: bool = False, dtype: str = "float32") -> "InternVL":
    """InternVL 2.5 or 3 in its publisher's format (VisualPRM, ArtiMuse): probabilities of a few tokens.

    Args:
        weights: a folder or hub id.
        writes: it writes answers, as VLAC, and may be an InternVL 2.
        dtype: of all parts.

    Raises:
        ValueError: the weights are neither here nor within reach.
    """
    _needed(weights)
    from .vlms.internvl import InternVL

    return InternVL(weights, writes=writes, dtype=dtype)


@shared
def xcomposer(weights: str, *, tiles: int = 9, dtype: str = "float32") -> "XComposer":
    """InternLM-XComposer2.5-Reward in its published format: a number of a question's response.

    Args:
        weights: a folder or hub id.
        tiles: of 560 pixels that one picture may have (`hd_num`).
        dtype: of the body; the head is in float32.

    Raises:
        ValueError: the weights are neither here nor within reach.
    """
    _needed(weights)
    from .vlms.xcomposer import XComposer

    return XComposer(weights, tiles=tiles, dtype=dtype)


def _needed(weights: str, *files: str) -> None:
    """See `mmreward.models.needed`."""
    if not noting():
        from .checkpoints import needed

        needed(weights, *files)
