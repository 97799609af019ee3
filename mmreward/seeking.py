"""Frames of a video by seeking: from the key frame before each wanted frame on, and no other.

For containers with an index, of codecs with one frame in each packet. Frames are told by their time stamps:
one that seeking cannot give is missed, and never another one given in its place. `streams.frames` then
decodes the clip from its beginning, and so it does where anything on the way is damaged.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

DROPPABLE = ("h264",)
"""Codecs whose frames that no other refers to may be left out. In HEVC "non-reference" is said within one
temporal layer, and those above may refer to it."""


class Lost(Exception):  # noqa: N818 - reads as what it says at the raise
    """Raised where a frame cannot be had by seeking."""


class Stamp(NamedTuple):
    """A packet's times, in units of its stream.

    Args:
        key: decoding may begin with it.
        shown: it is a frame of the clip, and not only what an edit list or a cut needs before its first.
    """

    pts: int
    dts: int
    key: bool
    shown: bool


class Stretch(NamedTuple):
    """Packets to be decoded one after another, from a key frame on, by their places in the file."""

    first: int
    last: int


def stretches(packets: list[Stamp], wanted: Collection[int]) -> list[Stretch]:
    """What has to be decoded for the frames of these time stamps, in the order of the file.

    Args:
        packets: in the order of the file, the first a key frame.
        wanted: time stamps of shown ones.

    Raises:
        Lost: two packets have one time, or frames are shown before the first key frame.
    """
    if len({stamp.pts for stamp in packets}) < len(packets):
        raise Lost
    if any(stamp.shown and stamp.pts < packets[0].pts for stamp in packets):
        raise Lost  # decoders leave out what is shown before the first key frame, and count on from there
    keys = [place for place, stamp in enumerate(packets) if stamp.key]
    found: list[Stretch] = []
    for place in (place for place, stamp in enumerate(packets) if stamp.pts in wanted):
        at = bisect_right(keys, place) - 1
        while packets[keys[at]].pts > packets[place].pts:  # shown before a key frame, it may refer past it
            at -= 1
        first = keys[at]
        while found and first <= found[-1].last:
            first = min(first, found.pop().first)
        found.append(Stretch(first, place))
    return found


def sought(container: Any, stream: Any, packets: list[Stamp], wanted: Collection[int]) -> Iterator[Any]:
    """The frames of these time stamps, in the order in which they are decoded.

    Raises:
        Lost: one cannot be had so, or only in part.
    """
    left = set(wanted)
    decoder = stream.codec_context
    droppable = decoder.name in DROPPABLE
    for stretch in stretches(packets, wanted):
        for packet in _from(container, stream, packets[stretch.first]):
            if packet.is_corrupt:
                raise Lost
            if droppable:
                decoder.skip_frame = "DEFAULT" if packet.pts in left else "NONREF"
            yield from _wanted(packet.decode(), left)
            if packet.pts == packets[stretch.last].pts:
                break
        yield from _wanted(decoder.decode(None), left)  # what waits for its turn
    if left:
        raise Lost


def _from(container: Any, stream: Any, key: Stamp) -> Iterator[Any]:
    """Packets from this key frame on, or from one before it."""
    for stamp in (key.pts, key.dts):  # containers keep either in their index
        container.seek(stamp, stream=stream, backward=True)
        packets = container.demux(stream)
        first = next(packets, None)
        if first is not None and first.is_keyframe and first.pts is not None and first.pts <= key.pts:
            yield first
            yield from packets
            return
    raise Lost


def _wanted(frames: Iterable[Any], left: set[int]) -> Iterator[Any]:
    for frame in frames:
        if frame.is_corrupt:
            raise Lost
        if frame.pts in left:
            left.discard(frame.pts)
            yield frame
