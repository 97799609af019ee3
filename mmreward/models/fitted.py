"""Networks that `mmreward fit` wrote: maps of a dual encoder's prompts, and preference heads.

They are functions of `mmreward.models`, as all others. Imports no torch; calling one does.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from .moving import clip_encoder, reads_clips
from .sharing import shared
from .wants import noting

if TYPE_CHECKING:
    from .maps import MappedEncoder
    from .preferences import FittedHead
    from .states import FittedStates


def mapped(
    file: str, kind: str, encoder: str, *, dtype: str = "float32", resize: str = "tensor"
) -> "MappedEncoder":
    """A dual encoder whose prompt embeddings are moved by a map that `mmreward fit` fitted on it.

    Args:
        file: the map's; one that was fitted again under the same name is another network.
        kind: of the map, "d2-align" or "pisces".
        encoder, dtype, resize: the dual encoder, as for `clip`; or the file of a ViCLIP, whose pictures are
            clips. The map itself is float32.

    Raises:
        ValueError: no such file, or one that was fitted for something else or on other weights; a resize of
            a ViCLIP.
    """
    if reads_clips(encoder) and resize != "tensor":
        raise ValueError(f"resize {resize!r}: {encoder} is a ViCLIP, whose frames have one way to be resized")
    if noting():
        return _mapped(file, "", kind, encoder, dtype, resize)
    from .weights import content_of

    path = str(Path(file).absolute())  # also of a file called "mini-...", which is no miniature
    content = content_of(path) if Path(path).is_file() else ""  # without it, reading the map says why
    return _mapped(path, content, kind, encoder, dtype, resize)


@shared
def _mapped(file: str, content: str, kind: str, encoder: str, dtype: str, resize: str) -> "MappedEncoder":
    from . import clip
    from .maps import MappedEncoder

    if reads_clips(encoder):
        return MappedEncoder(file, kind, clip_encoder(encoder, dtype=dtype))
    return MappedEncoder(file, kind, clip(encoder, dtype=dtype, resize=resize))


def preference_head(
    folder: str, encoder: str = "", *, dtype: str = "", resize: str = ""
) -> "FittedHead | FittedStates":
    """A preference head that `mmreward fit head` fitted on a dual encoder or a Qwen-VL: a reward of picture
    and prompt.

    Args:
        folder: the head's; one that was fitted again under the same name is another network.
        encoder, dtype, resize: the dual encoder, as for `clip`, or the Qwen-VL, which has no resize; "" for
            those that the head was fitted with.

    Raises:
        ValueError: no such folder, or a head that was fitted on other weights.
    """
    from .head_facts import handle_of, read_facts

    path = str(Path(folder).absolute())  # also of a folder called "mini-...", which is no miniature
    facts = read_facts(path)
    handle = handle_of(facts, encoder, dtype, resize)
    if facts.question:
        if resize:
            raise ValueError(f"resize {resize!r}: {folder} was fitted on a Qwen-VL, which resizes as it does")
        return _state_head(path, "" if noting() else _content(path), handle.encoder, handle.dtype)
    if noting():
        return _preference_head(path, "", *handle)
    return _preference_head(path, _content(path), *handle)


@shared
def _preference_head(folder: str, content: str, encoder: str, dtype: str, resize: str) -> "FittedHead":
    from . import clip
    from .preferences import FittedHead

    return FittedHead(folder, clip(encoder, dtype=dtype, resize=resize))


@shared
def _state_head(folder: str, content: str, encoder: str, dtype: str) -> "FittedStates":
    from .states import FittedStates

    return FittedStates(folder, encoder, dtype=dtype)


def _content(path: str) -> str:
    from .weights import content_of

    return content_of(path)
