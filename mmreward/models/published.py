"""Published texts: question lists, coefficients and prompts that others released, by address and hash.

They are their publishers' words and are not kept here. A `Pin` names one file of a repository at a commit,
and where the text is a string of a Python file, its name there. `mmreward fetch REWARD` brings the file to
this machine; nothing in it is executed, and a text of another hash is refused.
"""

import ast
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from ..registry import record_network
from .wants import Want, note, noting

T = TypeVar("T")


class Pin(NamedTuple):
    """One published text.

    Args:
        repository: OWNER/NAME on GitHub.
        commit: 40 hexadecimal digits.
        path: of the file in the repository.
        sha256: of the file's bytes, or of the string's, in UTF-8.
        symbol: name of the string in a Python file; empty where the file itself is the text.
    """

    repository: str
    commit: str
    path: str
    sha256: str
    symbol: str = ""

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"

    @property
    def place(self) -> Path:
        """Where `mmreward fetch` puts the file: two of one name from different places do not meet."""
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        parts = (self.repository.replace("/", "--"), self.commit[:12], *self.path.split("/"))
        return cache.joinpath("mmreward", "published", *parts)

    @property
    def want(self) -> Want:
        return Want("url", self.url, "published", to=str(self.place))


class Text(NamedTuple):
    """Identity of a text that a reward asks or computes by, for its fingerprint."""

    name: str
    fingerprint: str


def published(pin: Pin, read: Callable[[str], T], file: str | None = None) -> T:
    """What a published text says, as `read` reads it; its hash becomes part of the reward's fingerprint.

    Inside `wants.collecting` nothing is read and the answer is None: the reward that is made there cannot
    score, and must not look into it while it is made.

    Args:
        pin: the text.
        read: turns the text into what is needed of it; raises ValueError for one that is of another form.
        file: one of the user's own in its place, of the same form and in whatever words; a whole text, also
            where the pin names a string of a Python file.

    Raises:
        ValueError: the file is not on this machine, with the command that fetches it; or it is not what was
            published; or the user's own is not there, or of another form.
    """
    if noting():
        if file is None:
            note(pin.want)
        return cast(T, None)
    place = pin.place if file is None else Path(file).expanduser()
    try:
        content = place.read_bytes()
    except OSError as error:
        if file is not None:
            raise ValueError(
                f"{file} cannot be read ({type(error).__name__}); it was to stand for {pin.path}"
            ) from None
        raise ValueError(
            f"{pin.path} of {pin.repository} is not on this machine: `mmreward fetch REWARD` brings it, or "
            f"`curl -fL --create-dirs -o '{place}' '{pin.url}'`"
        ) from None
    try:
        text = content.decode()
        if file is None:
            text = _symbol(text, pin.symbol) if pin.symbol else text
            _check(text, pin, place)
        value = read(text)
    except (ValueError, SyntaxError, RecursionError) as error:
        raise ValueError(f"{place}: {error}") from None
    # The text's own hash and not the name of the file: two files of one name may say different things.
    record_network(Text(pin.path, hashlib.sha256(text.encode()).hexdigest()[:16]))
    return value


def _check(text: str, pin: Pin, place: Path) -> None:
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != pin.sha256:
        raise ValueError(
            f"this is not what {pin.repository} published at {pin.commit[:12]} (sha256 {found[:12]}, not "
            f"{pin.sha256[:12]}): delete it and fetch it again"
        )


def _symbol(source: str, symbol: str) -> str:
    """A string that is assigned to a name at the top of a Python file, joined as Python joins literals."""
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == symbol for target in targets):
            value = ast.literal_eval(cast(ast.Assign, node).value)
            if isinstance(value, str):
                return value
            raise ValueError(f"{symbol} is {type(value).__name__}, not a text")
    raise ValueError(f"there is no {symbol} in it")
