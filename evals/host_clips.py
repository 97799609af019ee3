"""A long clip's cost for the frames that a reward looks at, for `host`: reading it, finding the frames and
making them RGB, beside the library calls of somebody who knows where its key frames are, and beside decoding
the clip from its beginning. Knows nothing of networks.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from rich.table import Table

from mmreward import Media

SIZE = (1080, 1920)
RATE = 30
SECONDS = 60
GROUPS = (60, 300)
"""Frames from one key frame to the next: two seconds, and ten."""
LOOKED_AT = (1, 8, 32, 120)
"""Frames that are looked at; the last as many as a judge reads, two a second."""
ROUNDS = 3
"""The least of them counts."""
BAR = 1.2
"""Times the bare calls, where a reward looks at several frames."""

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class ClipCost(NamedTuple):
    """Milliseconds of processor time of all threads: of the bare calls, of ours, and of decoding in order."""

    bare: float
    ours: float
    in_order: float

    @property
    def ratio(self) -> float:
        return self.ours / self.bare


def film(path: Path, group: int, size: tuple[int, int], seconds: int) -> None:
    """Write an H.264 clip of a picture that moves, with frames between others (B) as x264 puts them.

    One group is encoded, and its packets are written again and again.
    """
    import av

    height, width = size
    random = np.random.default_rng(group)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16), dtype=np.uint8))
    scene = np.asarray(coarse.resize((2 * width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = random.integers(-5, 6, size, dtype=np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "g": str(group)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        packets = []
        for number in range(group):
            at = width * number // group
            planes[:height] = (scene[:, at : at + width] + np.roll(grain, 7 * number, 1)).clip(0, 255)
            packets += stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p"))
        packets += stream.encode()
        kept: list[Any] = [(bytes(one), one.pts, one.dts, one.is_keyframe) for one in packets]
        for start in range(0, seconds * RATE, group):
            for data, pts, dts, key in kept:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, RATE)
                packet.pts, packet.dts, packet.is_keyframe = start + pts, start + dts, key
                container.mux(packet)


def bare(path: Path, wanted: Sequence[int], group: int) -> Pixels:
    """The frames by PyAV alone: seek to the key frame before them, decode as far as needed, make them RGB."""
    import av

    found: list[Pixels] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for _, numbers in groupby(wanted, lambda number: number // group):
            left = list(numbers)
            container.seek(_stamp(stream, left[0]), stream=stream)
            found += _converted(container.decode(stream), [_stamp(stream, number) for number in left])
    return np.stack(found)


def in_order(path: Path, wanted: Sequence[int]) -> Pixels:
    """The frames by PyAV alone, decoding the clip from its beginning."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return np.stack(
            list(_converted(container.decode(stream), [_stamp(stream, number) for number in wanted]))
        )


def ours(path: Path, wanted: Sequence[int]) -> Pixels:
    """The frames of a `Media` that nobody has looked at."""
    return Media(path, "video").frames_at(wanted)


def _stamp(stream: Any, number: int) -> Any:
    return round(number / RATE / stream.time_base)


def _converted(frames: Iterator[Any], stamps: list[int]) -> Iterator[Pixels]:
    left = set(stamps)
    for frame in frames:
        if frame.pts in left:
            left.discard(frame.pts)
            yield frame.to_ndarray(format="rgb24")
        if not left:
            return


def measure(size: tuple[int, int] = SIZE, seconds: int = SECONDS) -> dict[tuple[int, int], ClipCost]:
    """Least costs of the rounds by (group, frames looked at); the ways take turns.

    Raises:
        RuntimeError: two ways disagree about a pixel.
    """
    rows: dict[tuple[int, int], ClipCost] = {}
    with TemporaryDirectory(prefix="mmreward-clips-") as folder:
        for group in GROUPS:
            path = Path(folder) / f"{group}.mp4"
            film(path, group, size, seconds)
            total = seconds * RATE
            for count in LOOKED_AT:
                wanted = [int(total * (place + 0.5) / count) for place in range(count)]
                slow, pixels = _timed(partial(in_order, path, wanted))  # once: it is long, and sets no bar
                ways = partial(bare, path, wanted, group), partial(ours, path, wanted)
                rounds = []
                for _ in range(ROUNDS):
                    timed = [_timed(way) for way in ways]
                    if not all(np.array_equal(pixels, one) for _, one in timed):
                        raise RuntimeError(f"the ways disagree about {count} frames of {path.name}")
                    rounds.append([spent for spent, _ in timed])
                least = [min(column) for column in zip(*rounds, strict=True)]
                rows[group, count] = ClipCost(least[0], least[1], slow)
    return rows


def _timed(way: Callable[[], Pixels]) -> tuple[float, Pixels]:
    begun = time.process_time()
    pixels = way()
    return 1e3 * (time.process_time() - begun), pixels


def complaints(rows: dict[tuple[int, int], ClipCost]) -> list[str]:
    """The bars that are missed, in words. A single frame has none: that a clip's first frame is decoded too,
    for its size, is most of its cost."""
    return [
        f"{count} frames, key frames every {group}: {row.ratio:.2f} times the bare calls, bar {BAR}"
        for (group, count), row in rows.items()
        if count > 1 and row.ratio > BAR
    ]


def table(rows: dict[tuple[int, int], ClipCost]) -> Table:
    """The costs for a terminal."""
    shown = Table("key frame every", "looked at", "bare ms", "ours ms", "ratio", "in order ms", "times")
    for (group, count), row in rows.items():
        figures = (f"{row.bare:.0f}", f"{row.ours:.0f}", f"{row.ratio:.2f}", f"{row.in_order:.0f}")
        shown.add_row(f"{group / RATE:g} s", f"{count}", *figures, f"{row.in_order / row.ours:.1f}")
    return shown
