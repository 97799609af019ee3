"""Weights on this machine, in words: where they lie, at which revision, how large and with which hash."""

from collections.abc import Iterator
from pathlib import Path
from re import fullmatch
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models.wants import Want


def described(want: "Want", reward: str) -> Iterator[str]:
    """Lines about one of a reward's weights: its name and whether it is here, and the files that are.

    The hash of a file of the hub is the one that its cache names it by: SHA-256 of what is stored as a large
    file. Others are not hashed.
    """
    from ..models.fetching import cached_files, fetched

    if want.kind == "package":
        yield f"in the wheel of {want.name}"
    elif want.kind == "server":
        yield f"{want.name}, behind a server"
    elif want.kind in ("url", "archive") and fetched(want):
        yield f"{want.name}, at {want.to}"
    elif want.kind in ("local", "absent"):
        yield f"{want.name}{'' if Path(want.name).exists() else ', where nothing is'}"
    elif not fetched(want):
        yield f"{want.name}, not on this machine: mmreward fetch {reward}"
    else:
        revision, files = cached_files(want)
        yield f"{want.name} at revision {revision}"
        for file in files:
            blob = file.resolve()
            known = fullmatch(r"[0-9a-f]{64}", blob.name) is not None
            yield f"  {file.name}  {size_of(blob.stat().st_size)}{f'  sha256 {blob.name}' if known else ''}"


def size_here(want: "Want") -> str:
    """Size of one of a reward's weights on this machine, or that it is not here."""
    from ..models.fetching import cached_files, fetched

    if want.kind == "package":
        return "in its wheel" if fetched(want) else "not installed"
    if want.kind == "server":
        return "behind a server"
    if not fetched(want):
        return "not here"
    if want.kind in ("hub", "hub file", "open_clip"):
        files = cached_files(want)[1]
    else:
        place = Path(want.to or want.name)
        files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return size_of(sum(file.stat().st_size for file in files))


def size_of(nbytes: int | None) -> str:
    """Bytes in decimal units, as the hub shows them."""
    if nbytes is None:
        return "not said"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes} B"
