"""Inputs of scores: digests by which a stored score is known to belong to a row as it is now.

A score keeps two digests of its row. `input` is quick: the row's columns, and size and time of its files.
`content` reads the files, and is compared only where the quick one differs: of a data set that was copied,
the times have changed and the pictures have not. A score that compares samples keeps those of its whole
group.
"""

import hashlib
import json
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import Unscorable
from ..media import Media
from ..reading import Span
from ..streams import Cut, Frame
from ..trajectories import with_media
from ..types import Sample
from .results import TOTAL, Result
from .rows import Row, file_of

READ_WHOLE = 32 << 20
"""Bytes up to which a file is read whole; of a larger one its length, beginning, middle and end count."""
SLICE = 1 << 20
READERS = 4
OURS = re.compile(r"[0-9a-f]{16}")
"""The form of a quick digest."""


class Standing(NamedTuple):
    """Stored scores, sorted by whether their row is still what was scored."""

    kept: list[Result]
    changed: int
    """Scores of rows that have changed since."""
    gone: int
    """Scores of ids that the data set does not have."""


class Inputs:
    """Digests of the rows of a data set, or of a chunk of it that holds its groups whole.

    Args:
        rows: each id once. Only what a digest may need is kept of them.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._quick: dict[str, str] = {}
        self._groups: dict[str, str | None] = {}
        self._samples: dict[str, Sample] = {}
        self._members: dict[str | None, list[str]] = {}
        self._contents: dict[str, str] = {}
        self._files: dict[Path | Span, str] = {}
        self._joined: dict[tuple[str | None, bool], str] = {}
        for row in rows:
            group = row.sample.group if row.sample is not None else None
            self._quick[row.id], self._groups[row.id] = row.digest, group
            self._members.setdefault(group, []).append(row.id)
            if row.sample is not None and not _is_held(row.sample):
                self._samples[row.id] = row.sample
            elif row.sample is not None:
                self._contents[row.id] = self._content_of(row.sample)

    def __contains__(self, name: str) -> bool:
        return name in self._quick

    def quick(self, name: str, compares: bool = False) -> str:
        """The quick digest of a row's score.

        Args:
            name: the row's id.
            compares: of a score that depends on the row's whole group.
        """
        if not compares or not (name in self._samples or name in self._contents):  # a row that is no sample
            return self._quick[name]
        return self._of_group(self._groups[name], read=False)

    def content(self, name: str, compares: bool = False) -> str:
        """The digest that reads the files; empty where one of them cannot be read."""
        if not compares:
            if name not in self._contents and name in self._samples:
                self._contents[name] = self._content_of(self._samples[name])
            return self._contents.get(name, "")
        return self._of_group(self._groups[name], read=True)

    def read(self, names: Iterable[str]) -> None:
        """Read the files of these rows now, several at a time."""
        missing = [name for name in dict.fromkeys(names) if name not in self._contents]
        with ThreadPoolExecutor(READERS, thread_name_prefix="mmreward-digest") as readers:
            list(readers.map(self.content, missing))

    def sort(self, stored: Iterable[Result]) -> Standing:
        """The stored scores whose rows are still as they were.

        A score without a digest of ours, which another program wrote, is taken as it is. A total that was
        stored without one is as good as the scores beside it.
        """
        kept: list[Result] = []
        stale: set[tuple[str, str]] = set()
        gone = 0
        for result in stored:
            if result.id not in self:
                gone += 1
            elif self._is_current(result):
                kept.append(result)
            else:
                stale.add(result.key)
        stale -= {result.key for result in kept}  # the other score of this id is of another data set
        ids = {name for name, _ in stale}
        good = [r for r in kept if not (r.reward == TOTAL and not r.input and r.id in ids)]
        return Standing(good, len(stale) + len(kept) - len(good), gone)

    def _is_current(self, result: Result) -> bool:
        name = result.id
        if not OURS.fullmatch(result.input):
            return True
        if result.input in (self.quick(name), self.quick(name, compares=True)):
            return True
        if not result.content:
            return False
        return result.content in (self.content(name), self.content(name, compares=True))

    def _of_group(self, group: str | None, *, read: bool) -> str:
        if (group, read) not in self._joined:
            members = self._members[group]
            digests = [self.content(one) if read else self._quick[one] for one in members]
            lines = [f"{name} {digest}" for name, digest in zip(members, digests, strict=True)]
            joined = hashlib.blake2b("\n".join(lines).encode("utf-8", "replace"), digest_size=8).hexdigest()
            self._joined[group, read] = joined if all(digests) or not read else ""
        return self._joined[group, read]

    def _content_of(self, sample: Sample) -> str:
        steps = with_media(sample.steps, lambda *_: True)
        facts = replace(sample, id="", image=None, video=None, inputs=(), steps=(), group=None)
        digest = hashlib.blake2b(_text(facts, steps).encode("utf-8", "replace"), digest_size=16)
        for place, media in sample.media():
            found = self._of_media(media)
            if not found:
                return ""
            kind = "input" if place.startswith("inputs") else place
            digest.update(f"{kind} {media.kind} {media.given_fps} {found}".encode())
        return digest.hexdigest()

    def _of_media(self, media: Media) -> str:
        source = media.source
        if isinstance(source, Frame):
            clip = self._of_media(source.clip)
            return f"{source.number} of {clip}" if clip else ""
        if isinstance(source, Cut):
            file = self._of_media(Media(source.path))
            return f"{source.start!r} to {source.stop!r} of {file}" if file else ""
        if isinstance(source, bytes):
            return hashlib.blake2b(source, digest_size=16).hexdigest()
        if isinstance(source, Path | Span):
            if source not in self._files:
                self._files[source] = _of_file(source) if isinstance(source, Path) else _of_span(source)
            return self._files[source]
        try:
            return media.digest
        except Unscorable:
            return ""


def _is_held(sample: Sample) -> bool:
    """True where media lie in memory: their row's quick digest covers them, and they need not be kept."""
    return any(file_of(media) is None for _, media in sample.media())


def _of_file(path: Path) -> str:
    """Hash of a regular file; empty where it cannot be read."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            return ""
        with path.open("rb") as file:
            if facts.st_size <= READ_WHOLE:
                return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            digest = hashlib.blake2b(str(facts.st_size).encode(), digest_size=16)
            for start in (0, facts.st_size // 2, facts.st_size - SLICE):
                file.seek(start)
                digest.update(file.read(SLICE))
            return digest.hexdigest()
    except (OSError, ValueError):
        return ""


def _of_span(span: Span) -> str:
    """Hash of a member of a tar; empty where it cannot be read."""
    try:
        return hashlib.blake2b(span.read("file_bytes"), digest_size=16).hexdigest()
    except Unscorable:
        return ""


def _text(sample: Sample, steps: Sequence[Any]) -> str:
    facts = [sample.prompt, sample.response, sample.source, sample.target, steps, sample.meta]
    try:
        return json.dumps(facts, sort_keys=True, default=_named)
    except (TypeError, ValueError, RecursionError):  # keys of several types, or a circle
        return repr(facts)


def _named(value: Any) -> Any:
    """Stand-in for a value that JSON has no form for."""
    if isinstance(value, bytes):
        return hashlib.blake2b(value, digest_size=16).hexdigest()
    if isinstance(value, Mapping):
        return dict(value)
    try:
        return Media(value).digest
    except (Unscorable, OSError, ValueError):
        return str(value)
