"""Samples in tar files, as webdataset writes them: members of one key, side by side, are one row.

The key of a member is its name up to the first dot of its last part; what follows says what it holds:

- `000001.jpg`, `000001.mp4`: the picture or clip. `000001.txt`: the prompt. `000001.json`: other fields.
- `000001.source.png`, `.input.png`, `.condition.png`, also numbered (`.input_2.png`): pictures of `inputs`.
- `000001.response.txt`, `000001.other.png`: the column of that name, which `--map` takes fields from.

The id of a row is `shard/key`, whatever its JSON says. Headers alone are read at first, one after another;
media are read from where they lie when they are looked at. Nothing is unpacked, a name in the archive is no
path, and links and devices are passed over. The archive is plain: a compressed one cannot be read by offset.
"""

import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from .. import stills, streams
from ..errors import Unscorable
from ..reading import Span, decoded_text
from ..trajectories import with_media
from .texts import Refused, Skipped, parsed

BLOCK = tarfile.BLOCKSIZE
HEADER = 1 << 20
"""Bytes of a long name or an extended header that are read at most."""
HEADERS = 16
"""Headers of one member, at most."""
MEMBERS = 1024
"""Members of one sample, at most."""
LONG_NAME, LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
CONDITION = re.compile(r"(source|inputs?|condition)[._-]?\d*")
"""Names of pictures that are among the `inputs` of a sample."""
MEDIA = ("image", "video", "inputs")


class Member(NamedTuple):
    """A regular file of an archive."""

    key: str
    name: str
    """What follows the key, in lower case: "jpg", "source.png"."""
    span: Span


class Damaged(ValueError):  # noqa: N818 - an archive is what the word says
    """Reason why the rest of an archive cannot be read, and the key of the member that is damaged."""

    def __init__(self, reason: str, key: str = "") -> None:
        super().__init__(reason)
        self.key = key


def records_of(path: Path, shard: str, skipped: Skipped) -> Iterator[Any]:
    """The records of an archive, in order. What is cut off or damaged is one refused record, the last.

    Args:
        path: of the archive.
        shard: what the ids of its rows begin with.
        skipped: counts the members that are of no row.
    """
    held: list[Member] = []
    try:
        for member in members(path, skipped):
            if held and member.key != held[0].key:
                yield from _whole(held, shard, skipped)
                held = []
            if len(held) <= MEMBERS:
                held.append(member)
    except Damaged as error:
        key = held[0].key if held else ""
        if error.key and key != error.key:
            yield from _whole(held, shard, skipped)
        # Where nothing says whose the lost bytes are, the sample before them may lack members.
        yield Refused(str(error), f"{shard}/{error.key or key or '?'}")
    else:
        yield from _whole(held, shard, skipped)


def members(path: Path, skipped: Skipped) -> Iterator[Member]:
    """The regular files of an archive that have a key, in order.

    Raises:
        Damaged: it is none, or ends before its end is marked.
        OSError: it cannot be opened; names it.
    """
    if not path.is_file():
        raise Damaged(f"{path.name} is no regular file")
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        first = True
        while (header := _header(file, path.name, first)) is not None:
            first = False
            folder, _, last = header.name.rpartition("/")
            stem, dot, rest = last.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            start = file.tell()
            if header.isreg() or header.type not in tarfile.SUPPORTED_TYPES:  # of others no bytes follow
                if start + header.size > size:
                    have = f"{size - start} of {header.size} bytes"
                    raise Damaged(f"{path.name} is cut off: {header.name[:80]!r} has {have}", key)
                file.seek(start + _blocks(header.size))
            if not header.isreg():
                skipped[
                    "folders in a tar" if header.isdir() else "links, devices or sparse files in a tar"
                ] += 1
            elif not stem or not dot or "__MACOSX" in folder.split("/"):
                skipped["hidden or without an ending in a tar"] += 1
            else:
                yield Member(key, rest.lower(), Span(path, start, header.size, f"{path.name}/{key}.{rest}"))


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


# --- headers --------------------------------------------------------------------------------------


def _header(file: IO[bytes], name: str, first: bool) -> tarfile.TarInfo | None:
    """The header of the next member, with the name and size that extended headers give; None at the end."""
    given: dict[str, str] = {}
    for _ in range(HEADERS):
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            whole = "is cut off: the mark of its end is missing" if not first else "is no tar file"
            raise Damaged(f"{name} {whole}")
        if not any(block):
            return None
        try:
            found = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            what = "is no tar file, or a compressed one: unpack it with gunzip" if first else "is damaged"
            raise Damaged(f"{name} {what} ({error})") from None
        if found.size < 0:
            raise Damaged(f"{name} is damaged: a member of {found.size} bytes")
        if found.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, LONG_NAME, LONG_LINK):
            text = _text_of(file, found, name)
            if found.type == LONG_NAME:
                given["path"] = text.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            elif found.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                given |= _extended(text, name)
            continue
        return _as_given(found, given, name)
    raise Damaged(f"{name} is damaged: more than {HEADERS} headers of one member")


def _text_of(file: IO[bytes], header: tarfile.TarInfo, name: str) -> bytes:
    if header.size > HEADER:
        raise Damaged(f"{name} is refused: a header of {header.size} bytes; the limit is {HEADER}")
    text = file.read(_blocks(header.size))[: header.size]
    if len(text) < header.size:
        raise Damaged(f"{name} is cut off in a header")
    return text


def _extended(text: bytes, name: str) -> dict[str, str]:
    """The pairs of a pax header: LENGTH KEY=VALUE and a line feed, one after another."""
    pairs = {}
    while text:
        length, space, _ = text.partition(b" ")
        size = int(length) if length.isdigit() and len(length) < 8 else 0
        key, equals, value = text[len(length) + 1 : size - 1].partition(b"=")
        if not space or not equals or size > len(text) or text[size - 1 : size] != b"\n":
            raise Damaged(f"{name} is damaged: an extended header that makes no sense")
        pairs[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        text = text[size:]
    return pairs


def _as_given(header: tarfile.TarInfo, given: dict[str, str], name: str) -> tarfile.TarInfo:
    if header.type == tarfile.GNUTYPE_SPARSE:
        raise Damaged(f"{name}: {header.name[:80]!r} is a sparse member, which is not read")
    header.name = given.get("path", header.name).encode("utf-8", "replace").decode()
    if "size" in given:
        if not given["size"].isdecimal() or len(given["size"]) > 18:
            raise Damaged(f"{name} is damaged: a member of {given['size'][:20]!r} bytes")
        header.size = int(given["size"])
    if any(key.startswith("GNU.sparse") for key in given):
        header.type = b"?"  # its bytes are not those of the file
    return header


# --- samples --------------------------------------------------------------------------------------


def _whole(held: list[Member], shard: str, skipped: Skipped) -> Iterator[Any]:
    """The record of one key; none where no member is of a known kind."""
    if not held:
        return
    name = f"{shard}/{held[0].key}"
    try:
        record = _record(held, skipped)
    except (ValueError, Unscorable) as error:
        yield Refused(str(error), name)
    else:
        if record:
            yield {**record, "id": name}


def _record(held: list[Member], skipped: Skipped) -> dict[str, Any]:
    if len(held) > MEMBERS:
        raise ValueError(f"{held[0].key} has more than {MEMBERS} members")
    described: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    inputs: dict[str, Span] = {}
    for _, name, span in sorted(held, key=lambda member: member.name):
        column, _, ending = name.rpartition(".")
        if name == "json":
            described = parsed(_text(span), span.name)
            if not isinstance(described, dict):
                raise ValueError(f"{span.name} is {type(described).__name__}, not an object")
        elif f".{ending}" in stills.SUFFIXES + streams.SUFFIXES:
            kind = _kind(f".{ending}", span)
            if CONDITION.fullmatch(column) and kind == "image":
                inputs[column] = span
            else:
                _put(columns, column or kind, span, span.name)
        elif ending == "txt":
            _put(columns, column or "prompt", _text(span), span.name)
        elif ending == "json":
            _put(columns, column, parsed(_text(span), span.name), span.name)
        else:
            skipped[f"of another kind in a tar (.{ending[:20]})"] += 1
    if inputs:
        ordered = sorted(inputs, key=lambda one: (re.sub(r"\d", "", one), int("0" + re.sub(r"\D", "", one))))
        _put(columns, "inputs", [inputs[one] for one in ordered], held[0].span.name)
    record = {**described, **columns}
    for field in MEDIA:
        values = record.get(field)
        for value in values if isinstance(values, list) else [values]:
            _check_held(value, held[0].key, field)
    if isinstance(record.get("steps"), list):
        with_media(record["steps"], lambda value, name: _check_held(value, held[0].key, name))
    return record


def _check_held(value: Any, key: str, field: str) -> None:
    """Refuse a picture that is neither a member of the tar nor in the row itself: a path, above all."""
    held = value is None or isinstance(value, Span)
    if not held and not (isinstance(value, str) and value.startswith("data:")):
        raise ValueError(f"the JSON of {key} names a file as {field}: in a tar it is a member")


def _put(columns: dict[str, Any], column: str, value: Any, name: str) -> None:
    if column in columns:
        raise ValueError(f"{name}: another member of this key is its {column} too")
    columns[column] = value


def _text(span: Span) -> str:
    return decoded_text(span.read("row_bytes"), span.name).strip()


def _kind(suffix: str, span: Span) -> str:
    """The field of a picture or clip; an animation is a clip, by its first bytes."""
    if suffix in streams.SUFFIXES:
        return "video"
    if suffix == ".gif":
        data = span.read("file_bytes")
        return "video" if stills.is_animated(data, io.BytesIO(data)) else "image"
    return "video" if stills.is_animated(span.head(1 << 16)) else "image"
