"""A clip that ends early, written anew: the frames up to one, at their times.

The frames are decoded and encoded again, as a cut without decoding may show frames beyond it, or fewer.
"""

from fractions import Fraction
from pathlib import Path

from ..engine.clips import numbers
from ..errors import Unscorable
from ..files import whole_file
from ..media import Media

TICKS = 90_000
"""Units of time in a second, as of MPEG."""
QUALITY = "12"
"""Constant rate factor of H.264: hardly to be told from the source."""
RATE = 10
"""Frames per second of a clip that does not say."""
LEAST = 2
"""Frames of a clip, as models of video need."""


def cut(clip: Media, last: int, out: Path) -> None:
    """Write the frames of a clip up to number `last` to an .mp4 file, which appears whole or not at all.

    Args:
        clip: to be cut.
        last: number of the last frame, 1 at least.
        out: of the new clip; its folder is there.

    Raises:
        Unscorable: the clip is damaged, has no such frame, or holds too much at once (see `limits`).
    """
    import av

    if not LEAST - 1 <= last < clip.frames:
        raise Unscorable(f"a clip of {clip.frames} frames has no end at frame {last}")
    pictures = clip.frames_at(range(last + 1))
    height, width = pictures.shape[1:3]
    times = clip.times or tuple(number / (clip.fps or RATE) for number in range(clip.frames))
    with whole_file(out) as part, av.open(str(part), mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(clip.fps or RATE).limit_denominator(1001))
        stream.width, stream.height = width, height
        # Halved colour needs even sides.
        stream.pix_fmt = "yuv420p" if height % 2 == width % 2 == 0 else "yuv444p"
        stream.options = {"crf": QUALITY}
        stream.codec_context.time_base = Fraction(1, TICKS)
        for picture, time in zip(pictures, times, strict=False):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def looks(clip: Media, fps: float, most: int) -> list[int]:
    """Numbers of the frames that stand for a clip: one in 1/fps seconds from the first on, and the last;
    evenly spaced where these are more than `most`.

    Raises:
        Unscorable: the clip has no frame, or cannot be opened.
    """
    total = clip.frames
    if total < 1:
        raise Unscorable("the clip has no frames")
    times = clip.times or tuple(number / (clip.fps or RATE) for number in range(total))
    found, due = [], 0.0
    for number, time in enumerate(times[:total]):
        if time - times[0] >= due - 1e-6:
            found.append(number)
            due = time - times[0] + 1 / fps
    if found[-1] != total - 1:
        found.append(total - 1)
    return found if len(found) <= most else numbers(total, most)
