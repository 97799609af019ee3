"""Media looked at before a reward sees them: named, measured and where need be read, off the engine's loop.

`examined` is for the loop, which others share: files and large pictures go to worker threads. A caller who
waits for scores anyway does what needs no reading on its own thread, and has the first files read before the
loop begins (`examine_at_hand`): a loop that is woken for one file after another spends most of its time on
being woken, and forms its batches of those few that have come.

A PIL picture holds its pixels in a form of its own, and floats are named by the bytes that rewards see. To
name either, its pixels are converted, which is most of what it costs before the network, so they are kept
for the one who asks for them next, up to `KEPT` bytes. Knows nothing of models.
"""

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from . import stills
from .errors import Unscorable
from .media import Media, is_tensor
from .reading import Errands, Span, aside
from .streams import Cut, Frame

SMALL = 1 << 20
"""Encoded bytes whose header is read and that are hashed at once rather than on another thread."""
LARGE = 8 << 20
"""Bytes of pixels that are hashed on another thread: up to here it takes less than to hand them over."""
KEPT = 512 << 20
"""Bytes of converted pictures that wait for their first use: 680 of 512 x 512."""
AHEAD = 256
"""Files, and frames of clips, that a caller has read before the loop begins: as many as a batch has."""
FEW = 4
"""Threads that read them."""
PATIENCE = 0.1
"""Seconds that it waits for them: a mount may have stalled, and then the loop goes on without."""
LOOKED_AT = ("size", "key", "timeline")  # what is known of a file once it has been read


async def examined(medias: Iterable[Media]) -> None:
    """Have files read, hashed and measured on worker threads, so that `key` and `size` are known on the loop.

    What cannot be read is left for the reward that looks at it, and raises there.
    """
    waits: dict[int, Awaitable[None]] = {}
    for media in medias:
        if _known(media) or id(media) in waits:
            continue
        if (begun := _under_way(media)) is not None:
            waits[id(media)] = asyncio.wrap_future(begun)
            continue
        source = media.source
        # A list is a clip's frames, which may be files.
        if (
            isinstance(source, Path | Span | Cut | Frame | list | tuple)
            or (isinstance(source, bytes) and (media.kind == "video" or len(source) > SMALL))
            or getattr(source, "nbytes", 0) > LARGE
            or _is_pil(source)
            or (media.kind == "image" and _floats(source) > SMALL)
        ):
            waits[id(media)] = aside(partial(_examine, media))
    if len(waits) == 1:  # most often: a task of its own would cost more than a small file
        await waits.popitem()[1]
    elif waits:
        await asyncio.gather(*waits.values())


def examine_at_hand(medias: Iterable[Media]) -> None:
    """Hash and measure those pictures in memory of which the loop's thread, or one that the loop has to wake,
    would do it, those that are converted as far as their pixels are kept; and wait a moment for the first
    files, for pictures that Pillow has opened and not read, and for clips that are given as frames.

    What several samples show is looked at once: the answers of a group name one file, or one picture.
    """
    converted, ahead = 0, 0
    named: dict[Any, Media] = {}
    files: dict[Any, list[Media]] = {}
    for media in medias:
        source: Any = media.source
        if _known(media):
            continue
        shown = (source if isinstance(source, Path | Span) else id(source), media.kind, media.given_fps)
        if shown in files:
            files[shown].append(media)
        elif shown in named:
            media.__dict__.update(_looked_at(named[shown]))
        elif frames := _to_be_read(source):
            if ahead < AHEAD and _under_way(media) is None:
                files[shown] = [media]
                ahead += frames
        elif media.kind == "image" and _quickly_named(source):
            converted += (size := _to_be_converted(source))
            if converted <= KEPT or not size:
                named[shown] = media
                with suppress(Exception):  # raised again where its row looks at it
                    _name(media, oldest_leave=True)
    if files:
        _read_ahead(list(files.values()))


def _to_be_read(source: Any) -> int:
    """Files that readers open, several at a time: one, or the frames of a clip; 0 for what is in memory."""
    if isinstance(source, list | tuple):
        return max(1, len(source))
    unread = _is_pil(source) and (source.mode != "RGB" or getattr(source, "tile", None))
    return int(isinstance(source, Path | Span) or bool(unread))


def _quickly_named(source: Any) -> bool:
    """Whether it takes less to hash than to hand over to another thread."""
    if isinstance(source, bytes):
        return len(source) <= SMALL
    size = _to_be_converted(source) if _is_pil(source) else getattr(source, "nbytes", LARGE + 1)
    return size <= LARGE and not (is_tensor(source) and source.device.type != "cpu")


def _to_be_converted(source: Any) -> int:
    """Bytes that a PIL picture, or one in floats, is converted to; 0 for any other source."""
    return 3 * source.width * source.height if _is_pil(source) else _floats(source)


def _read_ahead(files: Sequence[Sequence[Media]]) -> None:
    errands = Errands([partial(_examine, *alike) for alike in files])
    for alike, begun in zip(files, errands.results, strict=True):
        for media in alike:
            media.__dict__["_examining"] = os.getpid(), begun
    errands.begin(FEW)
    wait(errands.results, PATIENCE)
    errands.begin(len(files))  # what is left waits behind files that take long


def _known(media: Media) -> bool:
    return {"key", "size"} <= media.__dict__.keys()


def _under_way(media: Media) -> "Future[None] | None":
    """The reading of a file that a caller of this process has begun, and that has not ended."""
    process, begun = media.__dict__.get("_examining", (0, None))
    return begun if begun is not None and process == os.getpid() and not begun.done() else None


def _examine(media: Media, *alike: Media) -> None:
    """Name and measure a picture, and those that stand for the same file."""
    with suppress(Unscorable):
        _name(media, oldest_leave=False)
    for other in alike:
        other.__dict__.update(_looked_at(media))


def _name(media: Media, *, oldest_leave: bool) -> None:
    source: Any = media.source
    pixels = media.eight_bits() if _floats(source) else None
    if pixels is not None:
        media.__dict__["key"] = media.named(pixels)
    if isinstance(source, Path | Span):
        read = Media(media.content(), media.kind, fps=media.given_fps)  # once, for both
    elif _is_pil(source) and media.kind == "image":
        with stills.turn(source, repr(media)):
            pixels = stills.rgb(source)
        read = Media(pixels, fps=media.given_fps)  # whose key is the picture's
    else:
        read = media
    _ = read.size, read.key
    media.__dict__.update(_looked_at(read))
    if pixels is not None:
        _kept.keep(media, pixels, oldest_leave=oldest_leave)


def _looked_at(media: Media) -> dict[str, Any]:
    return {name: media.__dict__[name] for name in LOOKED_AT if name in media.__dict__}


def _is_pil(source: Any) -> bool:
    return hasattr(source, "getexif")


def _floats(source: Any) -> int:
    """Floats in the host's memory that a picture is given as; 0 for any other source."""
    if isinstance(source, np.ndarray):
        return source.size if source.dtype.kind == "f" else 0
    if is_tensor(source) and source.device.type == "cpu" and source.dtype.is_floating_point:
        return source.numel()
    return 0


# --- converted pictures -----------------------------------------------------------------------------------


class Converted:
    """Pixels that wait in the `Media` of what they were converted from, which hands them out once; None where
    they had to leave."""

    __slots__ = ("__weakref__", "pixels")

    def __init__(self, pixels: "np.ndarray[Any, np.dtype[np.uint8]]") -> None:
        self.pixels: np.ndarray[Any, np.dtype[np.uint8]] | None = pixels


class Kept:
    """Account of the pixels that wait, in the order in which they were put away.

    What has been handed out, or was dropped with its picture, is taken off when it is the oldest.

    Args:
        limit: bytes in all.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._waiting: deque[tuple[weakref.ref[Converted], int]] = deque()
        self._lock = threading.Lock()

    def keep(
        self, media: Media, pixels: "np.ndarray[Any, np.dtype[np.uint8]]", *, oldest_leave: bool
    ) -> None:
        """Put the pixels into their `Media` where there is room.

        Args:
            media: a PIL picture, or one in floats.
            pixels: of it.
            oldest_leave: make room, for a caller whose pictures fit and come next. Where many threads
                convert, those that come next are the oldest, and the pixels are not kept.
        """
        size = pixels.nbytes
        with self._lock:
            while self._waiting and (
                self._waiting[0][0]() is None or (oldest_leave and self.nbytes + size > self.limit)
            ):
                reference, freed = self._waiting.popleft()
                self.nbytes -= freed
                if (oldest := reference()) is not None:
                    oldest.pixels = None
            if self.nbytes + size > self.limit:
                return
            converted = Converted(pixels)
            self._waiting.append((weakref.ref(converted), size))
            self.nbytes += size
        media.__dict__["_converted"] = converted

    def forked(self) -> None:
        """Begin anew, in a fork, where a thread of the parent may have held the lock."""
        self.nbytes, self._lock = 0, threading.Lock()
        self._waiting.clear()


_kept = Kept(KEPT)
os.register_at_fork(after_in_child=_kept.forked)
