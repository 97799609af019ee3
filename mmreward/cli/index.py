"""Index of the rewards: the records that `mmreward list` chooses from and shows, kept between two calls.

Only importing the hundred files that declare rewards tells which there are, and that takes longer than all
else that `list` does. Their records are therefore kept in the user's cache (`~/.cache/mmreward`), beside the
name, size and time of every file of this package and of the table of parity, the times of the folders that
packages are installed into and the variables of `PLACES`. While these are the same, the records are read from
there; where anything differs, or the cache cannot be used, they are made anew. Where other packages offer
rewards, all are imported each time.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import fields
from fnmatch import fnmatchcase
from hashlib import blake2b
from importlib.metadata import version
from importlib.util import find_spec
from itertools import groupby
from math import inf
from pathlib import Path
from textwrap import wrap
from typing import Any

from ..errors import nearest
from ..files import whole_file
from ..registry import find, list_rewards, only_own
from ..types import Sample

Record = dict[str, Any]
GROUPS = ("pictures", "clips", "edits", "responses", "verifiers", "judges", "robots")
PACKAGE = Path(__file__).parents[1]
COPIES = 8
"""Copies of this package whose index is kept."""
PLACES = ("HOME", "TORCH_HOME", "XDG_CACHE_HOME")
"""Environment variables that decide where weights lie which a record names by their path."""


def records() -> list[Record]:
    """Facts of every reward, as `catalogue.record` has them, sorted by name; kept ones while they hold."""
    if not only_own():
        return _made()
    place, state = _place(), _state()
    with suppress(OSError, ValueError, TypeError, KeyError):  # none there, or not what was written
        kept = json.loads(place.read_text(encoding="utf-8"))
        if kept["state"] == state:
            return list(kept["records"])
    made = _made()
    with suppress(OSError):  # a cache that cannot be written costs time alone
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(place) as part:
            part.write_text(json.dumps({"state": state, "records": made}), encoding="utf-8")
        every = sorted(place.parent.glob("rewards-*.json"), key=lambda path: path.stat().st_mtime)
        for old in every[:-COPIES]:  # of copies that are no more, such as those of uvx
            old.unlink()
    return made


def _made() -> list[Record]:
    from .catalogue import record

    return [record(find(info.name)) for info in list_rewards()]


def _place() -> Path:
    """Place of the index: one for each copy of this package and each Python."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "mmreward" / f"rewards-{_hashed(str(PACKAGE), sys.version)}.json"


def _state() -> str:
    """Hash of what the records follow from: this package's files, what is installed, and `PLACES`."""
    files = sorted(
        (entry.path, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in _sources(str(PACKAGE))
    )
    with suppress(OSError):  # it was not installed
        page = parity_page().stat()
        files.append((str(parity_page()), page.st_size, page.st_mtime_ns))
    installed = [
        (path, Path(path).stat().st_mtime_ns)
        for path in sys.path
        if path.endswith("-packages") and Path(path).is_dir()
    ]
    places = [os.environ.get(name) for name in PLACES]
    return _hashed(version("mmreward"), repr(files), repr(installed), repr(places))


def parity_page() -> Path:
    """The table of parity, `evals/parity.md`, wherever that is installed; it may be missing."""
    found = find_spec("mmreward.evals")
    folders = found.submodule_search_locations if found is not None else None
    return Path(next(iter(folders or ()), PACKAGE / "evals")) / "parity.md"


def _sources(folder: str) -> Iterator["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                yield entry
            elif entry.name != "__pycache__" and entry.is_dir(follow_symlinks=False):
                yield from _sources(entry.path)


def _hashed(*words: str) -> str:
    return blake2b("\n".join(words).encode(), digest_size=16).hexdigest()


def chosen(glob: str, group: str, needs: Sequence[str], differentiable: bool) -> list[Record]:
    """Records by name, group, fields they read and gradient, sorted by group and name.

    Raises:
        ValueError: no such group, or nothing matches.
    """
    every = records()
    groups = {record[kind] for record in every for kind in ("group", "room")}
    for given, kind, known in (
        *((name, "field of a sample", [field.name for field in fields(Sample)]) for name in needs),
        *([(group, "group", sorted(groups))] if group else []),
    ):
        if given not in known:
            raise ValueError(f"no {kind} {given!r}; {nearest(given, known)}")
    found = [
        record
        for record in every
        if fnmatchcase(record["name"], glob)
        and (not group or group in (record["group"], record["room"]))
        and set(needs) <= set(record["fields"])
        and (record["differentiable"] or not differentiable)
    ]
    if not found:
        asked = " with these options" if group or needs or differentiable else ""
        raise ValueError(f"no reward matches {glob!r}{asked}; `mmreward list` shows them all")
    return sorted(found, key=_standing)


def _standing(record: Record) -> tuple[int, str, str]:
    """Where a reward stands in the list: own groups in their order, then other packages."""
    group = record["group"]
    return (GROUPS.index(group) if group in GROUPS else len(GROUPS)), group, record["name"]


COLUMNS = 100
"""Width that no line of the list exceeds, but where a single word does."""


def listed(found: Sequence[Record], *, weights: bool = False) -> Iterator[str]:
    """Lines of text: a heading for each group, and for each reward its summary, its range and what it needs,
    its size, speed and parity, and its licence; with one line for each of its weights where they are asked
    for, and their size on this machine."""
    width = max(len(record["name"]) for record in found) + 2
    for number, (group, members) in enumerate(groupby(found, lambda record: str(record["group"]))):
        if number:
            yield ""
        yield f"[{group}]"
        for record in members:
            first, *others = _lines(record, COLUMNS - width)
            yield f"{record['name']:<{width}}{first}"
            yield from (f"{'':<{width}}{line}" for line in others)
            if weights:
                yield from (f"{'':<{width}}{line}" for line in _weighed(record["name"]))


def _lines(record: Record, width: int) -> Iterator[str]:
    low, high = record["range"]
    low, high = -inf if low is None else low, inf if high is None else high
    facts = [f"[{low:g}, {high:g}]", record["arity"], f"needs {record['needs']}"]
    facts[1:1] = [] if record["higher_is_better"] else ["lower is better"]
    facts += ["differentiable"] if record["differentiable"] else []
    parity = record["parity"]
    said = f"parity {parity['value']:.1e}" if parity else "no parity figure"
    yield from wrap(record["summary"], width, break_long_words=False)
    yield from _flowed(facts, width)
    yield from _flowed([record["size"], record["speed"], said], width)
    yield from wrap(record["licence"], width, break_long_words=False, break_on_hyphens=False)


def _flowed(facts: Sequence[str], width: int) -> Iterator[str]:
    """Facts beside one another as far as they fit, none broken."""
    line = facts[0]
    for fact in facts[1:]:
        if len(line) + 2 + len(fact) > width:
            yield line
            line = fact
        else:
            line += f"  {fact}"
    yield line


def _weighed(name: str) -> Iterator[str]:
    """Weights of a reward with their size on this machine, where other places may be set by now."""
    from .catalogue import wants_of
    from .weights import size_here

    yield from (f"{want.name}: {size_here(want)}" for want in wants_of(find(name)))
