"""Published texts, pinned: a prompt of a judge at its publisher's address, found in the file by its SHA-256.

A judge was trained on its publisher's exact words, which are the publisher's and stand nowhere in this
package. A `Pin` names the repository, the commit, the file and the hash of the text; the file is fetched once
(`mmreward fetch REWARD`) and read as data: nothing in it is run. Every literal of a Python file (a string, an
f-string, a sum of them) is hashed and the one that has the pinned hash is the text, so that a changed file is
noticed, and a moved line is not.
"""

import ast
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .wants import Want, note, noting

ADDRESS = "https://raw.githubusercontent.com/{repository}/{commit}/{path}"


@dataclass(frozen=True, slots=True)
class Pin:
    """Address and hash of one published text.

    Args:
        repository: OWNER/NAME at GitHub.
        commit: 40 hex digits.
        path: of the file in the repository.
        symbol: the text's name in a Python file, for people; empty where the whole file is the text.
        sha256: of the text in UTF-8, with `{}` in place of each value of an f-string.
    """

    repository: str
    commit: str
    path: str
    symbol: str
    sha256: str

    @property
    def url(self) -> str:
        return ADDRESS.format(repository=self.repository, commit=self.commit, path=self.path)

    @property
    def file(self) -> Path:
        """Place of the file on this machine."""
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "mmreward" / "published"
        return cache / self.repository / self.commit / self.path

    @property
    def title(self) -> str:
        return f"{self.repository}@{self.commit[:12]}:{self.path} ({self.symbol or 'the whole file'})"

    def text(self, file: Path | None = None) -> str:
        """The text, with `{name}` in place of each value of an f-string.

        Args:
            file: a copy of the publisher's file; the fetched one by default.

        Raises:
            ValueError: the file is not there, or holds no text of this hash.
        """
        place = self.file if file is None else file
        try:
            source = place.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            if file is not None:
                said = f"no file at {file}" if isinstance(error, FileNotFoundError) else f"{file}: {error}"
                raise ValueError(f"{said}; a copy of {self.title} was to be there") from None
            raise ValueError(
                f"the published text {self.title} is not on this machine ({type(error).__name__}): fetch it "
                f"with `curl -fL --create-dirs -o '{place}' '{self.url}'`"
            ) from None
        for literal in literals(source) if self.symbol else [Literal(source, source)]:
            if hashlib.sha256(literal.hashed.encode()).hexdigest() == self.sha256:
                return literal.text
        raise ValueError(
            f"{place} has no text with the SHA-256 {self.sha256[:12]}..., which {self.title} has"
        )


class Literal(NamedTuple):
    """A string in a Python file: as it is hashed, and with the names of an f-string's values."""

    hashed: str
    text: str


def needed(pin: Pin) -> bool:
    """Note a text that a reward reads (see `wants`); False while only names are asked for."""
    if noting():
        note(Want("url", pin.url, "published", to=str(pin.file)))
    return not noting()


def literals(source: str) -> Iterator[Literal]:
    """Strings, f-strings and sums of them in a Python file; nothing is evaluated.

    Raises:
        ValueError: it is no Python.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, RecursionError, ValueError) as error:
        raise ValueError(f"the file is no Python that can be read: {error}") from None
    for node in ast.walk(tree):
        if (found := _literal(node)) is not None:
            yield found


def _literal(node: ast.AST) -> Literal | None:
    if isinstance(node, ast.Constant):
        return Literal(node.value, node.value) if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        parts = [_literal(value) or _value(value) for value in node.values]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [_literal(side) for side in (node.left, node.right)]
        if None in sides:
            return None
        parts = [side for side in sides if side is not None]
    else:
        return None
    return Literal("".join(part.hashed for part in parts), "".join(part.text for part in parts))


def _value(node: ast.AST) -> Literal:
    inside = node.value if isinstance(node, ast.FormattedValue) else node
    return Literal("{}", f"{{{ast.unparse(inside)}}}")
