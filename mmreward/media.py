"""Media: one picture or clip, decoded when needed, named by its content. Knows nothing of models or
preprocessing.

Rules, the same for every reward: rotation (EXIF, a clip's display matrix) and pixels that are not square are
applied, alpha is laid over white, every other mode becomes RGB, 16 bits are scaled to 8. Float pixels are
fractions of full scale and must lie in [0, 1]. Frames have the times that the file gives them. A damaged
file raises `Unscorable`, also where a decoder would make pixels up. A tensor on a GPU stays there. `stills`
decodes pictures and animations, `streams` video containers.
"""

import hashlib
import io
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeGuard, TypeVar, cast

import numpy as np
import xxhash

from . import stills, streams
from .errors import Unscorable
from .limits import checked_layout, checked_size, limits, most
from .reading import Span, data_of_url, file_hash, read_regular
from .streams import Cut, Frame, Timeline

if TYPE_CHECKING:
    import torch
    from PIL import Image

Kind = Literal["image", "video"]
T = TypeVar("T")
SEED = secrets.randbits(64)
"""Of this process's keys. A fork has its parent's, and what travels keeps the key it was given."""
FILE_HASHES: dict[str, Callable[[], Any]] = {
    "key": partial(xxhash.xxh3_128, seed=SEED),
    "digest": partial(hashlib.blake2b, digest_size=16),
}
ENCODED = (Path, bytes, Span)
"""Sources that are a file's bytes, or say where these are."""
TRANSIENT = ("_stack", "_converted", "_examining")
"""What a `Media` keeps beside its source for a while, and leaves behind when it travels."""


class remembered(Generic[T]):  # noqa: N801 - a decorator, as `functools.cached_property` is
    """`functools.cached_property` without the lock that it has before Python 3.12: one for all instances,
    with which a file that stalls holds up every other. Two threads that ask at once compute it twice."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute = compute
        self.name = compute.__name__
        self.__doc__ = compute.__doc__

    def __get__(self, media: Any, owner: Any = None) -> T:
        if media is None:
            return cast(T, self)
        value = media.__dict__[self.name] = self.compute(media)
        return value


class Media:
    """An image or a video that is opened only when something asks for its pixels.

    >>> import numpy as np
    >>> Media(np.zeros((4, 6, 3), np.uint8)).size
    (4, 6)

    Args:
        source: a path of a regular file, a `reading.Span` or `streams.Cut` of one, a `Frame`, encoded bytes,
            a PIL image, an array (HWC, HW or THWC) or a tensor (CHW, HW or TCHW). Arrays and tensors are
            uint8, or floats in [0, 1]. A list of any of these is a video, frame by frame. An `Unscorable`
            stands for what could not be read elsewhere, and is raised when the picture is looked at.
        kind: "image" or "video". An animation (GIF, APNG, WebP, AVIF) is both: as an image, its first frame.
        fps: frames per second of a video, before what its file says; needed for an array of frames only.

    Raises:
        ValueError: unknown kind, or frames per second that are no number above 0. Everything about the
            content raises `Unscorable` when it is first looked at.
    """

    def __init__(self, source: Any, kind: Kind = "image", *, fps: float | None = None) -> None:
        if kind not in ("image", "video"):
            raise ValueError(f"kind is 'image' or 'video', not {kind!r}")
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f"fps is {fps!r}: a number above 0")
        self.source = Path(source) if isinstance(source, str) else source
        self.kind = kind
        self.given_fps = fps

    @classmethod
    def of(cls, value: Any, kind: Kind = "image", name: str = "") -> "Media":
        """Media of what stands for one: itself, a source, a data URL, or {"bytes": ...} as in `datasets`.

        Args:
            value: see above.
            kind: of a source.
            name: of the field, for the message; the kind by default.

        Raises:
            ValueError: anything else, such as a `Sample` or a number.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            data, path = value.get("bytes"), value.get("path")
            value = data if data is not None else path if path is not None else value
        if isinstance(value, str) and value.startswith("data:"):
            value = data_of_url(value, "file_bytes")
        if isinstance(value, bytearray | memoryview):
            value = bytes(value)
        several = isinstance(value, list | tuple) and kind == "video"
        if isinstance(value, str | Path | Span | Cut | Frame | bytes | np.ndarray | Unscorable) or several:
            return cls(value, kind)
        if is_tensor(value) or hasattr(value, "getexif"):
            return cls(value, kind)
        given = f"{value!r:.60}" if isinstance(value, int | float | Mapping | None) else type(value).__name__
        raise ValueError(
            f"{name or kind} is {given}, not a path or a picture: give a path, bytes, a PIL image, an array, "
            'a tensor or {"bytes": ...}'
        )

    def __repr__(self) -> str:
        source = self.source
        named = source.name if isinstance(source, Span | Cut | Frame) else type(source).__name__
        what = source if isinstance(source, Path) else named
        return f"Media({what!s}, {self.kind!r})"

    def _repr_png_(self) -> bytes | None:
        from .shown import png

        return png(self)

    def __getstate__(self) -> dict[str, Any]:
        """Travels as its bytes or pixels, for a machine that has neither the file nor the device.

        The key and the size go along where they are known.

        Raises:
            Unscorable: the file cannot be read.
        """
        whole = self._encoded() if isinstance(self.source, ENCODED) else self._array()
        known = {name: value for name, value in self.__dict__.items() if name not in TRANSIENT}
        return {**known, "source": whole}

    @remembered
    def key(self) -> str:
        """Name of the content within this process, 128 bits: equal media have equal keys, for caches.

        xxHash of the encoded bytes when there are some, else of shape, type, layout and pixels, under a seed
        that each process draws anew, so that nobody can construct two pictures with one key. Of a picture in
        floats it is that of the bytes that every reward sees of it. For what is stored there is `digest`. Of
        a tensor on a GPU it is another hash, computed there; see `media_tensors.content_key`.
        """
        return self.named(self.eight_bits())

    def named(self, eight_bits: "np.ndarray[Any, np.dtype[np.uint8]] | None") -> str:
        """The key, for one who has what `eight_bits` gives."""
        if is_tensor(self.source) and self.source.device.type != "cpu":
            from .media_tensors import content_key

            return content_key(self.source, self._named_kind)
        hashed = xxhash.xxh3_128(self._named_kind.encode(), seed=SEED)
        if eight_bits is not None:
            hashed.update(f"{cast(Any, self.source).dtype} in 8 bits".encode())
            if is_tensor(self.source) and eight_bits.flags.c_contiguous:
                hashed.update(b"channels first")
                self._feed(hashed.update, eight_bits)
            else:
                self._feed(hashed.update, self._array(eight_bits))
        elif is_tensor(self.source) and self.source.is_contiguous():
            import torch

            # With its channels where they are, as moving them costs more than the hash.
            hashed.update(f"channels first, {self.source.dtype}".encode())
            self._feed(hashed.update, self.source.detach().view(torch.uint8).numpy())
        else:
            self._feed_source(hashed.update, "key")
        return str(hashed.hexdigest())

    def eight_bits(self) -> "np.ndarray[Any, np.dtype[np.uint8]] | None":
        """The bytes that floats in memory become, in their own layout; None for any other source, a clip, and
        for floats that are no picture, which raise where they are looked at."""
        source = self.source
        try:
            if self.kind != "image":
                return None
            if isinstance(source, np.ndarray):
                return stills.quantised(source) if source.dtype.kind == "f" and source.size else None
            if is_tensor(source) and source.device.type == "cpu" and source.dtype.is_floating_point:
                return stills.quantised(source.detach().float().numpy()) if source.numel() else None
        except Unscorable:
            return None
        return None

    @property
    def digest(self) -> str:
        """Cryptographic hash of the content, the same in every process: for what is stored. Not remembered:
        it costs a hundred times what `key` does."""
        hashed = hashlib.blake2b(self._named_kind.encode(), digest_size=16)
        self._feed_source(hashed.update, "digest")
        return hashed.hexdigest()

    def _feed_source(self, update: Callable[[Any], None], name: str) -> None:
        """Feed what names the content: of a part of a clip, the clip and which part."""
        if isinstance(self.source, Frame):
            update(f"frame {self.source.number} of {getattr(self.source.clip, name)}".encode())
        elif isinstance(self.source, Cut):
            whole = file_hash(self.source.path, "file_bytes", FILE_HASHES[name])
            update(f"{self.source.start!r} to {self.source.stop!r} of {whole}".encode())
        else:
            self._feed(update, self.content())

    @property
    def _named_kind(self) -> str:
        return self.kind if self.given_fps is None else f"{self.kind}{self.given_fps:g}"

    @staticmethod
    def _feed(update: Callable[[Any], None], content: "bytes | np.ndarray[Any, Any]") -> None:
        if isinstance(content, bytes):
            update(content)
        else:
            pixels = np.ascontiguousarray(content)
            update(f"{pixels.shape}{pixels.dtype}".encode())
            update(pixels.data)

    def content(self) -> "bytes | np.ndarray[Any, np.dtype[Any]]":
        """Encoded bytes of a path or bytes, else the pixels as given, channels last: equal as a `Media`."""
        return self._encoded() if isinstance(self.source, ENCODED) else self._array()

    @remembered
    def size(self) -> tuple[int, int]:
        """(height, width) upright, from the header or the shape alone where there is one."""
        if isinstance(self.source, ENCODED):
            if self.kind == "video":
                return self.timeline.size
            with self._opened() as picture:
                return stills.upright_size(picture)
        if isinstance(self.source, Frame | Cut):
            return self.source.clip.size if isinstance(self.source, Frame) else self.timeline.size
        if is_tensor(self.source):
            shape = tuple(self.source.shape[-2:])
        elif hasattr(self.source, "getexif"):
            with stills.turn(self.source, repr(self)):
                return stills.upright_size(self.source)
        else:
            whole = self._array()
            shape = whole.shape[:2] if self.kind == "image" else whole.shape[1:3]
        if len(shape) < 2:
            raise Unscorable(f"{self!r} has too few dimensions")
        return checked_size(*shape)

    @remembered
    def timeline(self) -> Timeline:
        """Size, number and times of a video's frames; of an image, those of a video of one frame.

        Raises:
            Unscorable: damage, or more frames than `Limits.clip_frames`.
        """
        if isinstance(self.source, Cut):
            found = streams.timeline(self.source)
        elif self.kind == "image" or not isinstance(self.source, ENCODED):
            count = (
                1 if self.kind == "image" else len(self.source if is_tensor(self.source) else self._array())
            )
            found = Timeline(self.size, count, None, None)
        else:
            data = self._encoded()
            if stills.is_picture(data[:16]):
                with stills.opened(data, repr(self)) as picture:
                    found = stills.timeline(picture)
            else:
                found = streams.timeline(data)
        return found if self.given_fps is None else self._at(found, self.given_fps)

    @staticmethod
    def _at(found: Timeline, fps: float) -> Timeline:
        return found._replace(times=tuple(number / fps for number in range(found.frames)), fps=fps)

    @property
    def fps(self) -> float | None:
        """Frames per second of a video: as given, else as the file says, of a varying rate the mean; None
        where nothing does."""
        known = self.given_fps is not None or not isinstance(self.source, (*ENCODED, Cut))
        return self.given_fps if self.kind == "image" or known else self.timeline.fps

    @property
    def times(self) -> tuple[float, ...] | None:
        """Seconds at which a video's frames are shown, from the first; None where nothing says."""
        return None if self.kind == "image" else self.timeline.times

    @property
    def frames(self) -> int:
        """Number of frames of a video; 1 for an image."""
        return 1 if self.kind == "image" else self.timeline.frames

    def picture(self) -> "Image.Image":
        """The image as RGB; of a video, its first frame."""
        from PIL import Image

        return Image.fromarray(self.still())

    def still(self) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """uint8 RGB (H, W, 3) of the image, or of a video's first frame, decoded alone; as `array`."""
        return self.array() if self.kind == "image" else self.frames_at([0])[0]

    def array(self) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """uint8 RGB, (H, W, 3) or (T, H, W, 3) with all frames. Not to be written to: it may be the caller's
        own array, or memory that NumPy marks as read-only.

        Raises:
            Unscorable: damage, or more pixels or frames than `Limits` has: they are never dropped.
        """
        if not isinstance(self.source, ENCODED):
            return stills.rgb_of(self._array(self._waiting()), self.kind, not is_tensor(self.source))
        if self.kind == "video":
            return self.frames_at(range(self.frames))
        return stills.decoded(self._encoded(), repr(self))

    def reduced(self, least: tuple[int, int]) -> "np.ndarray[Any, np.dtype[np.uint8]] | None":
        """uint8 RGB (h, w, 3) of a JPEG file, decoded at the smallest scale with these rows and columns or
        more; None where that is the whole picture, and for other sources. See `stills.reduce`."""
        if self.kind != "image" or not isinstance(self.source, ENCODED):
            return None
        with self._opened() as picture:
            return stills.rgb(picture) if stills.reduce(picture, least) else None

    def frames_at(self, numbers: Sequence[int]) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """uint8 RGB (T, H, W, 3) of a video's frames of these numbers, from 0; no other takes memory, and
        where the file has an index only what these need is decoded.

        Raises:
            IndexError: a number below 0.
            Unscorable: damage, or more frames or pixels at once than `Limits` has.
        """
        if min(numbers, default=0) < 0:
            raise IndexError(f"frame {min(numbers)}: frames are numbered from 0")
        if not isinstance(self.source, (*ENCODED, Cut)):
            return self.array()[list(numbers)]
        (height, width), allowed = self.size, limits()
        if len(numbers) > allowed.frames:
            raise Unscorable(f"{len(numbers)} frames at once are more than the limit of {most('frames')}")
        if len(numbers) * height * width > allowed.clip_pixels:
            size = f"{len(numbers)} frames of {width} x {height}"
            raise Unscorable(
                f"{size} at once are above the limit of {most('clip_pixels', 'pixels')}: use fewer"
            )
        source = self.source if isinstance(self.source, Cut) else self._encoded()
        if isinstance(source, bytes) and stills.is_picture(source[:16]):
            with stills.opened(source, repr(self)) as picture:
                return stills.frames(picture, numbers)
        try:
            return streams.frames(source, numbers, self.timeline)
        except streams.Shorter:
            # The index counts frames that cannot be shown, as after a cut without decoding.
            found = streams.timeline(source, counted=True)
            self.__dict__["timeline"] = found if self.given_fps is None else self._at(found, self.given_fps)
            held = [min(number, found.frames - 1) for number in numbers]
            return streams.frames(source, held, found)

    def pixels(self) -> "torch.Tensor":
        """uint8 tensor, CHW or TCHW; a tensor's on its own device, and itself when it is uint8 with three
        channels."""
        import torch

        if is_tensor(self.source):
            from .media_tensors import rgb

            ready = self._waiting()
            return rgb(self.source if ready is None else torch.from_numpy(ready), self.kind)
        return torch.from_numpy(np.array(np.moveaxis(self.array(), -1, -3), order="C"))

    def lossless(self) -> tuple[bytes, str]:
        """A file with exactly these pixels, and its ending: PNG, or WEBP without loss for a clip."""
        from PIL import Image

        file = io.BytesIO()
        if self.kind == "image":
            self.picture().save(file, "PNG")
            return file.getvalue(), ".png"
        first, *rest = (Image.fromarray(frame) for frame in self.array())
        # Whole milliseconds, so that of 24 frames a second is 42; of a varying rate each frame's own.
        usual = max(1, round(1000 / (self.fps or 16.0)))
        duration: int | list[int] = usual
        if self.times is not None and not self.timeline.even:
            stamps = [round(1000 * time) for time in self.times]
            duration = [max(1, end - start) for start, end in pairwise(stamps)] + [usual]
        first.save(file, "WEBP", save_all=True, append_images=rest, duration=duration, lossless=True)
        return file.getvalue(), ".webp"

    def _encoded(self) -> bytes:
        if isinstance(self.source, bytes):
            return self.source
        if isinstance(self.source, Span):
            return self.source.read("file_bytes")
        return read_regular(self.source, "file_bytes")

    def _opened(self) -> "AbstractContextManager[Image.Image]":
        return stills.opened(self._encoded(), repr(self))

    @remembered
    def _stack(self) -> "np.ndarray[Any, Any]":
        """The frames of a video given one by one, each decoded once."""
        frames = [Media.of(frame).array() for frame in cast(Any, self.source)]
        if len(sizes := {frame.shape[:2] for frame in frames}) > 1:
            raise Unscorable(f"the frames have different sizes: {sorted(sizes)}")
        return np.stack(frames)

    def _waiting(self) -> "np.ndarray[Any, Any] | None":
        """What the key of a picture in memory was made of, where it waits; once, as its owner may change the
        picture."""
        converted = self.__dict__.pop("_converted", None)
        return converted.pixels if converted is not None else None

    def _array(self, ready: "np.ndarray[Any, Any] | None" = None) -> "np.ndarray[Any, Any]":
        """Pixels of an in-memory source, channels last, not yet converted; or of what it was converted to."""
        source = self.source
        if isinstance(source, np.ndarray):
            return source if ready is None else ready
        if isinstance(source, Frame):
            return cast("np.ndarray[Any, Any]", source.clip.frames_at([source.number])[0])
        if isinstance(source, Cut):
            return self.frames_at(range(self.frames))
        if is_tensor(source):
            array = ready
            if array is None:
                moved = source.detach().cpu()
                array = np.asarray((moved.float() if moved.dtype.is_floating_point else moved).numpy())
            checked_layout(array.shape, self.kind, channels_last=False)
            channels = array.ndim == (3 if self.kind == "image" else 4)
            return np.moveaxis(array, -3, -1) if channels else array
        if hasattr(source, "getexif"):
            ready = self._waiting() if ready is None else ready
            if ready is None:
                picture = cast("Image.Image", source)
                with stills.turn(picture, repr(self)):
                    ready = stills.rgb(picture)
            return ready
        if isinstance(source, list | tuple) and self.kind == "video" and source:
            return self._stack
        if isinstance(source, Unscorable):
            raise Unscorable(str(source), source.status)
        raise Unscorable(f"{type(source).__name__} is not a path, bytes, PIL image, array or tensor")


def is_tensor(source: Any) -> "TypeGuard[torch.Tensor]":
    return hasattr(source, "detach")  # torch may not be imported
