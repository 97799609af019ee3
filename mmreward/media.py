"""Media: one picture or clip, decoded when needed, named by its content. Knows nothing of models or
preprocessing.

Colour rules, the same for every reward: EXIF rotation is applied, alpha is laid over white, every other mode
becomes RGB. Float pixels are fractions of full scale and must lie in [0, 1]. A tensor on a GPU stays there.
"""

import hashlib
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, cast

import numpy as np

from . import errors
from .errors import Unscorable

if TYPE_CHECKING:
    import torch
    from PIL import Image

PNG_EXIF = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
"""One of these is in a PNG that says how it is rotated."""


class Media:
    """An image or a video that is opened only when something asks for its pixels.

    Args:
        source: a path, encoded bytes, a PIL image, an array (HWC, HW or THWC) or a tensor (CHW or TCHW).
            Arrays and tensors are uint8, or floats in [0, 1]. An `Unscorable` stands for what could not be
            read elsewhere, and is raised when the picture is looked at.
        kind: "image" or "video".
        fps: frames per second of a video whose source does not say, such as an array of frames.

    Raises:
        ValueError: unknown kind. Everything about the content raises `Unscorable` when it is first looked at.
    """

    def __init__(
        self, source: Any, kind: Literal["image", "video"] = "image", *, fps: float | None = None
    ) -> None:
        if kind not in ("image", "video"):
            raise ValueError(f"kind is 'image' or 'video', not {kind!r}")
        self.source = Path(source) if isinstance(source, str) else source
        self.kind = kind
        self.given_fps = fps

    def __repr__(self) -> str:
        what = self.source if isinstance(self.source, Path) else type(self.source).__name__
        return f"Media({what!s}, {self.kind!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Travels as its bytes or pixels, for a machine that has neither the file nor the device.

        The key and the size go along where they are known.

        Raises:
            Unscorable: the file cannot be read.
        """
        whole = self._encoded() if isinstance(self.source, Path | bytes) else self._array()
        known = {name: value for name, value in self.__dict__.items() if name != "_stack"}
        return {**known, "source": whole}

    @cached_property
    def key(self) -> str:
        """Hash of the content: of the encoded bytes when there are some, else of shape, type and pixels.

        Of a tensor on a GPU it is another hash, computed there; see `media_tensors.content_key`.
        """
        kind = self.kind if self.given_fps is None else f"{self.kind}{self.given_fps:g}"
        if _is_tensor(self.source) and self.source.device.type != "cpu":
            from .media_tensors import content_key

            return content_key(self.source, kind)
        digest = hashlib.blake2b(kind.encode(), digest_size=16)
        content = self.content()
        if isinstance(content, bytes):
            digest.update(content)
        else:
            pixels = np.ascontiguousarray(content)
            digest.update(f"{pixels.shape}{pixels.dtype}".encode())
            digest.update(pixels.data)
        return digest.hexdigest()

    def content(self) -> "bytes | np.ndarray[Any, np.dtype[Any]]":
        """The encoded bytes of a path or bytes, else the pixels as given, channels last; a `Media` of either is
        equal to this one."""
        return self._encoded() if isinstance(self.source, Path | bytes) else self._array()

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) after EXIF rotation, from the header or the shape alone where there is one."""
        if isinstance(self.source, Path | bytes) and not self._is_stream():
            with self._opened() as picture:
                width, height = picture.size
                if _may_be_rotated(picture) and picture.getexif().get(0x0112) in (5, 6, 7, 8):
                    width, height = height, width
            return _checked_size(height, width)
        if isinstance(self.source, Path | bytes):
            return _checked_size(*_stream_facts(self._encoded())[2:])
        if _is_tensor(self.source):
            shape = tuple(self.source.shape[-2:])
        else:
            whole = self._array()
            shape = whole.shape[:2] if self.kind == "image" else whole.shape[1:3]
        if len(shape) < 2:
            raise Unscorable(f"{self!r} has too few dimensions")
        return _checked_size(*shape)

    @cached_property
    def fps(self) -> float | None:
        """Frames per second of a video: as given, else as the file says; None where nothing does."""
        if self.kind == "image" or self.given_fps is not None or not isinstance(self.source, Path | bytes):
            return self.given_fps
        if self._is_stream():
            return _stream_facts(self._encoded())[1]
        with self._opened() as picture:
            duration = picture.info.get("duration")  # milliseconds of the first frame
        return 1000 / duration if duration else None

    @cached_property
    def frames(self) -> int:
        """Number of frames of a video, from the header where it says; 1 for an image."""
        if self.kind == "image":
            return 1
        if not isinstance(self.source, Path | bytes):
            return len(self.source) if _is_tensor(self.source) else len(self._array())
        if self._is_stream():
            return _stream_facts(self._encoded())[0] or len(self.array())
        with self._opened() as picture:
            return int(getattr(picture, "n_frames", 1))

    def picture(self) -> "Image.Image":
        """The image as RGB; of a video, its first frame."""
        from PIL import Image

        return Image.fromarray(self.array() if self.kind == "image" else self.array()[0])

    def array(self) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """uint8 RGB, (H, W, 3) or (T, H, W, 3)."""
        if not isinstance(self.source, Path | bytes):
            return _as_rgb(self._array(), self.kind)
        if self._is_stream():
            return _decode_stream(self._encoded())
        with self._opened() as picture:
            _checked_size(picture.height, picture.width)
            if self.kind == "image":
                return _rgb(picture)
            frames: list[Any] = []
            for index in range(min(getattr(picture, "n_frames", 1), errors.MAX_FRAMES)):
                _checked_clip(index + 1, picture.height, picture.width)
                picture.seek(index)
                frames.append(_rgb(picture))
            return np.stack(frames)

    def pixels(self) -> "torch.Tensor":
        """uint8 tensor, CHW or TCHW; a tensor's on its own device, and itself when it is uint8 with three
        channels."""
        import torch

        if _is_tensor(self.source):
            from .media_tensors import rgb

            return rgb(self.source, self.kind)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(self.array(), -1, -3)))

    def lossless(self) -> tuple[bytes, str]:
        """A file with exactly these pixels, and its ending: PNG, or WEBP without loss for a clip."""
        from PIL import Image

        file = io.BytesIO()
        if self.kind == "image":
            self.picture().save(file, "PNG")
            return file.getvalue(), ".png"
        first, *rest = (Image.fromarray(frame) for frame in self.array())
        duration = round(1000 / (self.fps or 16.0))  # whole milliseconds, so that of 24 frames a second is 42
        first.save(file, "WEBP", save_all=True, append_images=rest, duration=duration, lossless=True)
        return file.getvalue(), ".webp"

    def _encoded(self) -> bytes:
        if isinstance(self.source, bytes):
            return self.source
        try:
            return bytes(self.source.read_bytes())
        except FileNotFoundError:
            raise Unscorable(f"no file at {self.source}", "missing") from None
        except OSError as error:
            raise Unscorable(f"cannot read {str(self.source)[:200]}: {error.strerror}") from None

    def _is_stream(self) -> bool:
        """True where the bytes are a video container rather than something Pillow opens."""
        if self.kind != "video":
            return False
        head = self._encoded()[:16]
        return not head.startswith((b"GIF8", b"\x89PNG")) and head[8:12] != b"WEBP"

    @contextmanager
    def _opened(self) -> "Iterator[Image.Image]":
        import warnings

        from PIL import Image, UnidentifiedImageError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(self._encoded())) as picture:
                    yield picture
        except UnidentifiedImageError:
            raise Unscorable(f"{self!r} is not an image Pillow can read") from None
        except (Unscorable, MemoryError):
            raise
        except Exception as error:  # a decoder may raise anything on damaged bytes, struct.error for one
            raise Unscorable(f"{self!r} is broken: {error or type(error).__name__}") from None

    @cached_property
    def _stack(self) -> "np.ndarray[Any, Any]":
        """The frames of a video given one by one, each decoded once."""
        frames = [Media(frame).array() for frame in cast(Any, self.source)]
        if len(sizes := {frame.shape[:2] for frame in frames}) > 1:
            raise Unscorable(f"the frames have different sizes: {sorted(sizes)}")
        return np.stack(frames)

    def _array(self) -> "np.ndarray[Any, Any]":
        """Pixels of an in-memory source, channels last, not yet converted."""
        source = self.source
        if isinstance(source, np.ndarray):
            return source
        if _is_tensor(source):
            moved = source.detach().cpu()
            if moved.dtype.is_floating_point:
                moved = moved.float()
            array = np.asarray(moved.numpy())
            return np.moveaxis(array, -3, -1) if array.ndim >= 3 else array
        if hasattr(source, "getexif"):
            return _rgb(cast("Image.Image", source))
        if isinstance(source, list | tuple) and self.kind == "video" and source:
            return self._stack
        if isinstance(source, Unscorable):
            raise Unscorable(str(source), source.status)
        raise Unscorable(f"{type(source).__name__} is not a path, bytes, PIL image, array or tensor")


def _is_tensor(source: Any) -> "TypeGuard[torch.Tensor]":
    return hasattr(source, "detach")  # torch may not be imported


def _may_be_rotated(picture: "Image.Image") -> bool:
    """False where the bytes alone rule a rotation out: to look for one Pillow decodes the whole of a PNG."""
    data = cast(Any, picture).fp.getvalue()
    return picture.format != "PNG" or any(mark in data for mark in PNG_EXIF)


def _checked_size(height: int, width: int) -> tuple[int, int]:
    if height * width > errors.MAX_PIXELS:
        raise Unscorable(f"{width} x {height} pixels are more than the limit of {errors.MAX_PIXELS}")
    if height < 1 or width < 1:
        raise Unscorable(f"{width} x {height} pixels: the picture is empty")
    return height, width


def _checked_clip(frames: int, height: int, width: int) -> None:
    if frames * height * width > errors.MAX_CLIP_PIXELS:
        raise Unscorable(f"{frames} frames of {width} x {height} are above {errors.MAX_CLIP_PIXELS} pixels")


def _rgb(picture: "Image.Image") -> "np.ndarray[Any, np.dtype[np.uint8]]":
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright) // 257).astype(np.uint8))
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        over = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return np.asarray(upright.convert("RGB"))


def _as_rgb(array: "np.ndarray[Any, Any]", kind: str) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    dims = 3 if kind == "image" else 4
    if array.ndim == dims - 1:
        array = array[..., None]
    if array.ndim != dims or array.shape[-1] not in (1, 3, 4):
        raise Unscorable(f"shape {array.shape} is no {kind}: expected 1, 3 or 4 channels")
    if array.size == 0 or math.prod(array.shape[-3:-1]) > errors.MAX_PIXELS:
        raise Unscorable(f"shape {array.shape}: empty, or above {errors.MAX_PIXELS} pixels")
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating):
            raise Unscorable(f"pixels of type {array.dtype}: expected uint8 or floats in [0, 1]")
        if not np.isfinite(array).all():
            raise Unscorable("the pixels contain NaN or infinity")
        if array.min() < -errors.TOLERANCE or array.max() > 1 + errors.TOLERANCE:
            raise Unscorable(f"float pixels span {array.min():.3g} to {array.max():.3g}: expected [0, 1]")
        array = np.rint(array.clip(0, 1) * 255).astype(np.uint8)
    if array.shape[-1] == 4:
        alpha = array[..., 3:].astype(np.float32) / 255
        array = np.rint(array[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array


def _stream_facts(data: bytes) -> tuple[int, float | None, int, int]:
    """(frames or 0, frames per second, height, width) of a video container, without decoding it."""
    import av

    try:
        with av.open(io.BytesIO(data), mode="r") as container:
            stream = container.streams.video[0]
            rate = stream.average_rate
            return stream.frames, float(rate) if rate else None, stream.height, stream.width
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise Unscorable(f"the video cannot be decoded: {error}") from None


def _decode_stream(data: bytes) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    import av

    try:
        with av.open(io.BytesIO(data), mode="r") as container:
            frames: list[Any] = []
            for frame in container.decode(video=0):
                _checked_size(frame.height, frame.width)
                _checked_clip(len(frames) + 1, frame.height, frame.width)
                frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == errors.MAX_FRAMES:
                    break
    except Unscorable:
        raise
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise Unscorable(f"the video cannot be decoded: {error}") from None
    if not frames:
        raise Unscorable("the video has no frames")
    return np.stack(frames)
