"""Question lists, weights of answers and prompts of others, or files of the user's own in their place.

`pinned` has the publisher's texts by address and hash. `published` reads one of them for a reward, takes a
file of the user's own where one is given, and puts what was read into the reward's fingerprint: two files of
one name may say different things.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from ..registry import record_network
from . import pinned
from .wants import noting

T = TypeVar("T")


class PublishedText(NamedTuple):
    """Identity of a text that a reward asks or computes by, for its fingerprint."""

    name: str
    fingerprint: str


def published(pin: pinned.Pin, read: Callable[[str], T], file: str | None = None) -> T:
    """What a published text says, as `read` reads it; its hash becomes part of the reward's fingerprint.

    Inside `wants.collecting` nothing is read and the answer is None: the reward that is made there cannot
    score, and must not look into it while it is made.

    Args:
        pin: the text.
        read: turns the text into what is needed of it; raises ValueError for one that is of another form.
        file: one of the user's own in its place, of the same form and in whatever words; a whole text, also
            where the pin names a string of a Python file.

    Raises:
        ValueError: the publisher's file is not on this machine (with the command that fetches it) or is not
            what was published; or the user's own is not there, or of another form.
    """
    if file is None:
        pinned.needed(pin)
    if noting():
        return cast(T, None)
    text = pin.text() if file is None else _own(Path(file).expanduser(), pin)
    try:
        value = read(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{pin.file if file is None else file}: {error}") from None
    record_network(PublishedText(pin.path, hashlib.sha256(text.encode()).hexdigest()[:16]))
    return value


def _own(file: Path, pin: pinned.Pin) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} cannot be read ({type(error).__name__}); it was to stand for {pin.path}"
        ) from None
