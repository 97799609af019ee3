"""Limits: the one table of how much a picture, a text, a file or a request may hold before it is refused.

What is above a limit is refused from its header or its length, before memory is taken. The operator sets
limits, and data never does: in the YAML file of a run (`limits: {pixels: 200e6}`), in Python
(`set_limits(pixels=200e6)`), or by an environment variable, `MMREWARD_MAX_` and the name:
`MMREWARD_MAX_PIXELS=200e6`. What is set is for the whole process and those it starts from then on, which
inherit the environment. A message about a limit names its key, as in "(limits.pixels)".

Imports nothing of ours but `errors`, so that every other module may.
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar

from .errors import Unscorable, nearest

PREFIX = "MMREWARD_MAX_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Largest sizes that are accepted; all are numbers above 0.

    Args:
        pixels: of one picture or frame, upright. 64 Mpx take about 0.7 GB while they are decoded.
        clip_pixels: of the frames of one clip that are held at once (0.8 GB as RGB).
        frames: of one clip that are held at once. A model that looks at some of a clip's frames decodes only
            those, and may be given longer clips.
        clip_frames: in a clip altogether, whether they are looked at or not: half an hour at 60 a second.
        steps: of one trajectory: nine minutes at 30 a second.
        row_bytes: of one line of JSONL, and of one caption.
        rows_bytes: of rows that are held at once, with the pictures that stand in them: those that are read
            ahead are fewer where they are large; of a Parquet file a quarter is decoded at once, and one row
            that has more is refused.
        file_bytes: of one picture or clip, or of one data URL's content.
        text_characters: of prompt or response that are read, so that one row cannot stall the rest: a longer
            prompt is refused, and of a longer response the end is taken.
        target_characters: of all text in one target; numbers, as of a mask, are not counted.
        formula_characters: of one target that is mathematics.
        boxes: boxes, regions or time spans of one target; more are refused. Of a response as many are
            matched, and each one more counts as a false one: matching takes time with the third power of
            their number.
        corners: of all polygons of one target.
        mask_pixels: of one mask of a target.
        masks_pixels: of all masks of one target.
        items: of one target that is a sequence.
        questions: facts or probes of one row, each of which is asked.
        note_characters: of an exception's message that are kept in a note.
        config_bytes: of one YAML file.
        config_depth: mappings and lists inside one another in a YAML text.
        config_values: of a YAML text, each as often as an alias repeats it.
        route_characters: of a route that a row brings, as JSON.
        route_rewards: rewards in a route that a row brings.
        routes: different routes that rows bring and that are kept at once; the oldest goes.
        template_characters: that a chat template writes for one conversation.
        template_seconds: of processor time that a chat template takes for one conversation.
        answer_bytes: of one answer from a served model, unpacked.
        message_bytes: of the JSON in one message between processes.
        blob_bytes: of the pictures and arrays in one message between processes.
        body_bytes: of one request's body at the server. A response of 65,536 characters and a page of
            parameters need far less.
        bodies_bytes: of all bodies together that are being read, wait or are scored at the server, each
            beyond its first 64 KB.
        body_seconds: until a request's body must have come.
        requests: that are scored at once at the server; their scores share the engine's batches.
        waiting: requests that wait for their turn at the server; the next is asked to come again.
        request_rows: of one /get_reward at the server.
        connections: open at once to one worker of the server; the next is answered 503.
    """

    pixels: int = 1 << 26
    clip_pixels: int = 1 << 28
    frames: int = 4096
    clip_frames: int = 108_000
    steps: int = 16_384
    row_bytes: int = 1 << 26
    rows_bytes: int = 1 << 29
    file_bytes: int = 1 << 29
    text_characters: int = 65_536
    target_characters: int = 262_144
    formula_characters: int = 4096
    boxes: int = 1024
    corners: int = 16_384
    mask_pixels: int = 16_000_000
    masks_pixels: int = 64_000_000
    items: int = 1024
    questions: int = 64
    note_characters: int = 10_000
    config_bytes: int = 4 << 20
    config_depth: int = 64
    config_values: int = 1 << 18
    route_characters: int = 65_536
    route_rewards: int = 64
    routes: int = 1024
    template_characters: int = 16 << 20
    template_seconds: float = 2.0
    answer_bytes: int = 32 << 20
    message_bytes: int = 32 << 20
    blob_bytes: int = 4 << 30
    body_bytes: int = 8 << 20
    bodies_bytes: int = 128 << 20
    body_seconds: float = 20.0
    requests: int = 256
    waiting: int = 4096
    request_rows: int = 4096
    connections: int = 8192


KINDS: dict[str, Any] = {field.name: field.type for field in fields(Limits)}


class _Current:
    """The limits of this process; None until they are first asked for."""

    limits: ClassVar[Limits | None] = None


def limits() -> Limits:
    """The limits of this process: what was set, what the environment said when it was first asked, or the
    defaults.

    Raises:
        ValueError: an environment variable that is no positive number.
    """
    if _Current.limits is None:
        _Current.limits = Limits(**_of_environment())
    return _Current.limits


def most(name: str, unit: str = "") -> str:
    """A limit for a message, with the key that raises it: "1024 boxes (limits.boxes)"."""
    return f"{getattr(limits(), name):.15g} {unit}".rstrip() + f" (limits.{name})"


def set_limits(given: Mapping[str, Any] | None = None, /, **more: Any) -> None:
    """Set limits for this process and those it will start; the others stay as they are.

    Args:
        given: by name, as in a file's `limits:`.
        more: the same.

    Raises:
        ValueError: an unknown name, or what is no number above 0; the message names the key.
    """
    numbers = checked_limits({**(given or {}), **more})
    _Current.limits = replace(limits(), **numbers)
    os.environ.update({PREFIX + name.upper(): str(number) for name, number in numbers.items()})


@contextmanager
def limited(given: Mapping[str, Any] | None = None, /, **more: Any) -> Iterator[Limits]:
    """Limits as by `set_limits`, and as they were before on the way out; not for several threads at once."""
    before, environment = _Current.limits, {name: os.environ.get(PREFIX + name.upper()) for name in KINDS}
    try:
        set_limits(given, **more)
        yield limits()
    finally:
        _Current.limits = before
        for name, value in environment.items():
            os.environ.pop(PREFIX + name.upper(), None)
            if value is not None:
                os.environ[PREFIX + name.upper()] = value


def checked_limits(given: Any) -> dict[str, Any]:
    """The section `limits:` of a file, as numbers.

    Raises:
        ValueError: as `set_limits`.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"limits: it is {type(given).__name__}, not a mapping of names to numbers")
    unknown = [str(name) for name in given if name not in KINDS]
    if unknown:
        raise ValueError("; ".join(f"unknown key 'limits.{one}': {nearest(one, KINDS)}" for one in unknown))
    return {name: _number(name, value, f"limits.{name}") for name, value in given.items()}


def unknown_variables() -> list[tuple[str, str]]:
    """Environment variables that look like limits and are none, each with the nearest name there is."""
    names = [name.removeprefix(PREFIX).lower() for name in os.environ if name.startswith(PREFIX)]
    return [(PREFIX + name.upper(), nearest(name, KINDS)) for name in names if name not in KINDS]


def changed() -> dict[str, Any]:
    """Limits that are not the defaults."""
    usual = asdict(Limits())
    return {name: value for name, value in asdict(limits()).items() if value != usual[name]}


def _of_environment() -> dict[str, Any]:
    given = {name: os.environ.get(PREFIX + name.upper()) for name in KINDS}
    return {name: _number(name, value, PREFIX + name.upper()) for name, value in given.items() if value}


def _number(name: str, given: Any, where: str) -> int | float:
    """A limit as the kind of number it is: 200e6 and "200e6" are whole numbers."""
    try:
        number = float(given) if not isinstance(given, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    whole = KINDS[name] is int
    if not 0 < number < 1 << 60 or (whole and not number.is_integer()):
        raise ValueError(f"{where}={given!r} is no {'whole ' if whole else ''}number above 0")
    return int(number) if whole else number


def checked_size(height: int, width: int) -> tuple[int, int]:
    """The size of a picture or frame that has some pixels and not too many.

    Raises:
        Unscorable: none, or more than `Limits.pixels`.
    """
    if height * width > limits().pixels:
        raise Unscorable(f"{width} x {height} pixels are more than the limit of {most('pixels')}")
    if height < 1 or width < 1:
        raise Unscorable(f"{width} x {height} pixels: the picture is empty")
    return height, width


def checked_layout(shape: tuple[int, ...], kind: str, *, channels_last: bool) -> None:
    """Refuse pixels whose axes are not in the order of `Media`, or may as well be in another.

    Args:
        shape: as it was given.
        kind: "image" or "video".
        channels_last: true for arrays, (T, H, W, C); false for tensors, (T, C, H, W).

    Raises:
        Unscorable: the shape, with the order that is expected.
    """
    axes = "(H, W, C)" if channels_last else "(C, H, W)"
    if kind == "video":
        axes = axes.replace("(", "(T, ")
        if len(shape) == 3 and (shape[-1] in (3, 4) or shape[0] in (3, 4)):
            raise Unscorable(
                f"shape {shape} is one picture, no video: expected {axes}, so add an axis of frames"
            )
        if len(shape) == 4 and shape[0] == 3 and shape[-1 if channels_last else 1] in (1, 4):
            raise Unscorable(
                f"shape {shape} may be channels before frames: expected {axes}, and 3 frames as RGB"
            )
    dims = len(axes.split(","))
    if len(shape) == dims - 1:  # grey
        return
    if len(shape) != dims or shape[-1 if channels_last else -3] not in (1, 3, 4):
        raise Unscorable(f"shape {shape} is no {kind}: expected {axes} with 1, 3 or 4 channels")
