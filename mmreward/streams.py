"""Video containers through PyAV: when each frame is shown, and the frames that are looked at, upright.

A clip is decoded frame by frame, and only the wanted frames become RGB, so that memory follows what is looked
at and not the clip's length. The display matrix of a phone's clip and pixels that are not square are applied.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import Unscorable
from .limits import checked_size, limits, most
from .reading import regular_file
from .seeking import Lost, Stamp, sought

if TYPE_CHECKING:
    from .media import Media

CONTAINERS = ("mov", "matroska", "webm", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "ivf", "m4v")
"""Demuxers that are used. Playlists, which name other files and hosts, are none of them."""
SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".3gp"),
    *(".flv", ".wmv", ".ogv", ".ivf"),
)
"""Endings of these containers' files."""
ONE_EACH = ("h264", "hevc", "vp9", "av1", "libdav1d", "libaom-av1", "mpeg4", "prores", "mjpeg")
"""Codecs of which every packet in MP4 or Matroska is one frame that is shown."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Part of a video file that holds several clips, such as the episodes of a LeRobot dataset.

    Args:
        path: of the file.
        start, stop: seconds from the file's first frame; the frame at `stop` is the next clip's.
    """

    path: Path
    start: float
    stop: float

    @property
    def name(self) -> str:
        """The file and the seconds, for messages."""
        return f"{self.path} {self.start:g}-{self.stop:g} s"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a clip, as the source of a picture; `engine.episodes` decodes several at once."""

    clip: "Media"
    number: int

    @property
    def name(self) -> str:
        """The frame and its clip, for messages."""
        return f"frame {self.number} of {self.clip!r}"


class Timeline(NamedTuple):
    """Frames of a clip and when they are shown.

    `times` are seconds from the first frame's; None where nothing says. `fps` is the rate, of a clip of
    varying rate its mean; None where nothing says. `counted` frames were decoded to be counted, as the file
    may tell of others.
    """

    size: tuple[int, int]
    frames: int
    times: tuple[float, ...] | None
    fps: float | None
    counted: bool = False

    @property
    def even(self) -> bool:
        """True where frame n is shown at n / fps, within a quarter of a frame."""
        return self.times is None or self.fps is None or _even(self.times, self.fps)


def timeline_of(size: tuple[int, int], times: Sequence[float], rate: float | None) -> Timeline:
    """Timeline of frames at these seconds; `rate` is what the file says, which is believed where it fits."""
    start = times[0] if times else 0.0
    shown = tuple(time - start for time in times)
    if len(shown) < 2 or shown[-1] <= 0:
        return Timeline(size, len(shown), shown, rate if len(shown) < 2 else None)
    mean = (len(shown) - 1) / shown[-1]
    return Timeline(size, len(shown), shown, rate if rate and _even(shown, rate) else mean)


def _even(times: Sequence[float], rate: float) -> bool:
    slack = 0.25 / rate + 1e-3
    return all(abs(time - number / rate) <= slack for number, time in enumerate(times))


class Shorter(Exception):  # noqa: N818 - reads as what it says at the raise
    """Raised where fewer frames could be decoded than the container's index names."""


def timeline(source: bytes | Cut, *, counted: bool = False) -> Timeline:
    """Size and times of all frames, without decoding more than the first where the container's index will do.

    Args:
        source: a whole file, or the part of one whose frames alone count.
        counted: decode all frames to count them, whatever the index says.

    Raises:
        Unscorable: damage, no pictures in it, or more frames than `Limits.clip_frames`.
    """
    cut = source if isinstance(source, Cut) else None
    with _opened(source) as (container, stream):
        rate = float(stream.average_rate) if stream.average_rate else None
        trusted = _is_indexed(container, stream) and not counted
        window = _window(container, stream, cut)
        packets = _packets(container, stream)
        if trusted:
            begun: list[Any] = []
            first = next(_decoded(_noted(packets, begun), None, window), None)
            stamps = _stamps(chain(begun, packets), cut, window)
            if first is not None and stamps is None:
                return timeline(source, counted=True)
            size = (0, 0) if first is None else _upright_size(stream, first)
            times = [float(one.pts * stream.time_base) for one in stamps or () if one.shown]
        else:
            size, times = (0, 0), []
            for number, frame in enumerate(_decoded(packets, cut, window)):
                _few(number + 1)
                size = size if number else _upright_size(stream, frame)
                times.append(frame.time if frame.time is not None else number / (rate or 1.0))
        if not times or size == (0, 0):
            raise Unscorable(
                "the video has no frames" if cut is None else f"there are no frames in {cut.name}"
            )
    return timeline_of(size, sorted(times), rate)._replace(counted=not trusted)


def frames(
    source: bytes | Cut, wanted: Sequence[int], found: Timeline
) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The frames of these numbers, uint8 RGB (T, H, W, 3), upright, in that order.

    Where there is an index, only what they need is decoded, from the key frame before each; see `seeking`.

    Args:
        source: as for `timeline`.
        wanted: numbers of frames in the order in which they are shown; one may come twice.
        found: from `timeline`.

    Raises:
        Unscorable: damage in what has to be decoded, or a size that changes between these frames.
        Shorter: the clip ends before the last wanted frame.
    """
    if not wanted:
        return np.empty((0, *found.size, 3), np.uint8)
    if not found.counted:
        with suppress(Lost, Unscorable):  # decoding in order says what is wrong, or what is not
            return _filled(source, wanted, found.size, _sought)
    return _filled(source, wanted, found.size, _in_order)


def _filled(
    source: bytes | Cut,
    wanted: Sequence[int],
    size: tuple[int, int],
    way: "Callable[[Any, Any, Cut | None, set[int]], Iterator[tuple[int, Any]]]",
) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    found = np.empty((len(wanted), *size, 3), np.uint8)
    places: dict[int, list[int]] = {}
    for place, number in enumerate(wanted):
        places.setdefault(number, []).append(place)
    cut = source if isinstance(source, Cut) else None
    with _opened(source) as (container, stream):
        convert = _converter()
        for number, frame in way(container, stream, cut, set(places)):
            picture = _upright(stream, frame, convert)
            if picture.shape[:2] != size:
                raise Unscorable(f"the frames have different sizes: {picture.shape[:2]} and {size}")
            found[places[number]] = picture
    return found


def _in_order(container: Any, stream: Any, cut: Cut | None, wanted: set[int]) -> Iterator[tuple[int, Any]]:
    """Those frames and their numbers, by decoding the clip from its beginning."""
    window = _window(container, stream, cut)
    for number, frame in enumerate(_decoded(_packets(container, stream), cut, window)):
        if number in wanted:
            yield number, frame
            wanted.discard(number)
        if not wanted:
            return
    raise Shorter


def _sought(container: Any, stream: Any, cut: Cut | None, wanted: set[int]) -> Iterator[tuple[int, Any]]:
    """Those frames and their numbers, by seeking.

    Raises:
        Lost: as `seeking.sought`, or they cannot be told by their times.
    """
    window = _window(container, stream, cut)
    packets = _stamps(_packets(container, stream), cut, window)
    if packets is None:
        raise Lost
    shown = sorted(stamp.pts for stamp in packets if stamp.shown)
    if max(wanted) >= len(shown):
        raise Lost
    numbers = {shown[number]: number for number in wanted}
    for frame in sought(container, stream, packets, numbers.keys()):
        yield numbers[frame.pts], frame


@contextmanager
def _opened(source: bytes | Cut) -> Iterator[tuple[Any, Any]]:
    """The container and its first stream of pictures. Of a cut's file no more is read than is looked at."""
    import av

    def refused(url: str, *_: Any) -> Any:
        raise Unscorable(f"the video names another file, {url[:80]!r}, which is not opened")

    # A title that is no UTF-8 is no damage; from 19 on av escapes it by itself and takes no such argument.
    titles: dict[str, Any] = (
        {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}
    )
    how: Any = {"container_options": {"format_whitelist": ",".join(CONTAINERS)}, "io_open": refused, **titles}
    with regular_file(source.path, "file_bytes") if isinstance(source, Cut) else io.BytesIO(source) as file:
        _complete(file)
        try:
            with av.open(file, mode="r", **how) as container:
                streams = [stream for stream in container.streams.video if not _is_cover(stream)]
                if not streams:
                    sound = " only sound" if container.streams.audio else " no pictures"
                    raise Unscorable(f"the video cannot be decoded: there is{sound} in it")
                if streams[0].codec_context is None:
                    raise Unscorable("the video cannot be decoded: FFmpeg knows no decoder for its codec")
                yield container, streams[0]
        except (av.error.FFmpegError, IndexError, ValueError) as error:
            if isinstance(error, Unscorable):
                raise
            from .stills import kind_of

            file.seek(0)
            known = kind_of(file.read(64))
            damaged = known.startswith("a clip")
            why = "it is cut off or damaged" if damaged else f"it is {known}" if known else error
            raise Unscorable(f"the video cannot be decoded: {why}") from None


SLACK = 1024
"""Bytes that a file may be shorter than it says: some writers count its header twice."""


def _complete(file: IO[bytes]) -> None:
    """Refuse a Matroska or AVI file that is shorter than it says. Their demuxers read what there is."""
    head = file.read(4096)
    end, size = _declared_end(head), file.seek(0, io.SEEK_END)
    file.seek(0)
    if end > size + SLACK:
        raise Unscorable(f"the video is cut off: it has {size} bytes of the {end} of which it tells")


def _declared_end(head: bytes) -> int:
    """Where a file says that it ends, or its first part; 0 where it does not say."""
    if head.startswith(b"RIFF"):
        return 8 + int.from_bytes(head[4:8], "little")
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return 0
    place, length = _ebml(head, 4)
    place += length
    if head[place : place + 4] != b"\x18\x53\x80\x67":  # the segment, which holds everything else
        return 0
    place, length = _ebml(head, place + 4)
    return place + length


def _ebml(head: bytes, place: int) -> tuple[int, int]:
    """Where an element of EBML begins, and its length; 0 for one that is unknown, as of a live recording."""
    width = 9 - head[place].bit_length() if place < len(head) else 9
    bits = 7 * width
    value = int.from_bytes(head[place : place + width]) & ((1 << bits) - 1)
    return place + width, 0 if value == (1 << bits) - 1 or width > 8 else value


def _is_cover(stream: Any) -> bool:
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _decoded(packets: Iterable[Any], cut: Cut | None, window: tuple[float, float]) -> Iterator[Any]:
    """Frames in the order in which they are shown, of a cut from its first to its last.

    Raises:
        Unscorable: a frame that the decoder had to make up in part, or a packet that is cut off.
    """
    number, (begin, end) = 0, window
    for packet in packets:
        if packet.is_corrupt:
            raise Unscorable(f"the video is damaged after frame {number}: data is missing")
        for frame in packet.decode():
            if frame.is_corrupt:
                raise Unscorable(f"the video is damaged: frame {number} could be decoded in part only")
            if cut is not None and frame.time is None:
                raise Unscorable(f"frames of {cut.path} have no times, so that no part of it can be cut out")
            if cut is not None and frame.time >= end:
                return
            if cut is None or frame.time >= begin:
                checked_size(frame.height, frame.width)
                yield frame
                number += 1


def _window(container: Any, stream: Any, cut: Cut | None) -> tuple[float, float]:
    """Times of a cut's first frame and of the next clip's, a quarter of a frame early, on the stream's clock;
    the container stands at the key frame before."""
    if cut is None:
        return 0.0, 0.0
    offset = float((stream.start_time or 0) * stream.time_base)
    slack = 0.25 / float(stream.average_rate) if stream.average_rate else 0.0
    begin, end = cut.start + offset - slack, cut.stop + offset - slack
    if begin > offset:
        container.seek(int(begin / stream.time_base), stream=stream, backward=True)
    return begin, end


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets from the first key frame on: of a clip that was cut before it, decoders make those up."""
    begun = False
    for packet in container.demux(stream):
        begun = begun or packet.is_keyframe or packet.is_corrupt
        if begun:
            yield packet


def _noted(packets: Iterable[Any], seen: list[Any]) -> Iterator[Any]:
    for packet in packets:
        seen.append(packet)
        yield packet


def _is_indexed(container: Any, stream: Any) -> bool:
    """True where each packet is one frame that is shown, and the container finds it without reading on."""
    return container.format.name.startswith(("mov", "matroska")) and stream.codec_context.name in ONE_EACH


def _stamps(packets: Iterable[Any], cut: Cut | None, window: tuple[float, float]) -> list[Stamp] | None:
    """Of all packets, in the order of decoding, of a cut from the key frame before it on; None where the file
    does not say when one is shown.

    Raises:
        Unscorable: a packet that is cut off, or more frames than `Limits.clip_frames`.
    """
    found: list[Stamp] = []
    count, (begin, end) = 0, window
    for packet in packets:
        # Packets come in the order of decoding: what follows is shown later still.
        if cut is not None and packet.dts is not None and packet.dts * packet.time_base >= end:
            break
        if packet.size and packet.is_corrupt:
            raise Unscorable(f"the video is damaged after packet {count}: data is missing")
        if packet.size:
            if packet.pts is None:
                return None
            inside = cut is None or begin <= float(packet.pts * packet.time_base) < end
            shown = inside and not packet.is_discard
            dts = packet.pts if packet.dts is None else packet.dts
            found.append(Stamp(packet.pts, dts, packet.is_keyframe, shown))
            count += shown
            _few(count)
    return found


def _few(count: int) -> None:
    if count > limits().clip_frames:
        raise Unscorable(f"the clip has more frames than the limit of {most('clip_frames')}")


# --- upright frames -------------------------------------------------------------------------------


def _matrix(frame: Any) -> tuple[float, float, float, float]:
    """(a, b, c, d) of the display matrix: x' = ax + cy, y' = bx + dy; the identity where there is none."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1.0, 0.0, 0.0, 1.0
    a, b, _, c, d = (float(value) for value in np.frombuffer(bytes(data), "<i4", 5))
    return a, b, c, d


def _shown_width(stream: Any, frame: Any) -> int:
    """Width in square pixels."""
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return max(1, round(frame.width * ratio)) if ratio and ratio > 0 else int(frame.width)


def _upright_size(stream: Any, frame: Any) -> tuple[int, int]:
    a, b, c, d = _matrix(frame)
    height, width = checked_size(frame.height, _shown_width(stream, frame))
    return (width, height) if abs(b) + abs(c) > abs(a) + abs(d) else (height, width)


def _converter() -> Any:
    """What makes frames RGB, for one clip. PyAV's own is each thread's from version 19 on, and kept: with the
    threads that it has, a process in which any thread has read a clip hangs in its next fork."""
    from av.video.reformatter import VideoReformatter

    return VideoReformatter().reformat


def _upright(stream: Any, frame: Any, convert: Any) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    _upright_size(stream, frame)  # which refuses one too large before it is made
    width = _shown_width(stream, frame)
    wide: Any = {"width": width, "height": frame.height, "interpolation": "BICUBIC"}
    pixels = convert(frame, format="rgb24", **(wide if width != frame.width else {})).to_ndarray()
    a, b, c, d = _matrix(frame)
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels = pixels.swapaxes(0, 1)
        across, down = c, b
    else:
        across, down = a, d
    upright: np.ndarray[Any, np.dtype[np.uint8]] = pixels[:, ::-1] if across < 0 else pixels
    return upright[::-1] if down < 0 else upright
