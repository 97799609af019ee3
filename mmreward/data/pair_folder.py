"""A folder of preference pairs: metadata.jsonl with one line per pair, and the pictures or clips in media/.

It is what `datasets` calls an image folder (or video folder), so `load_dataset(FOLDER)` gives the columns
prompt, chosen, rejected, chosen_score, rejected_score, margin and so on. Each picture lies there once,
however many pairs it is in.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..files import whole_folder
from ..media import Media

METADATA = "metadata.jsonl"
HALVES = ("chosen", "rejected")
TEXT = "text"
"""Kind of a pair of responses, see `response_pairs`."""
ACTIONS = "actions"
"""Kind of a pair of action chunks, see `action_pairs`."""
PICTURE_MARKS: tuple[tuple[str, int, tuple[bytes, ...]], ...] = (
    (".png", 0, (b"\x89PNG",)),
    (".jpg", 0, (b"\xff\xd8\xff",)),
    (".gif", 0, (b"GIF8",)),
    (".webp", 8, (b"WEBP",)),
    (".avif", 8, (b"avif", b"avis")),
    (".tif", 0, (b"II*\x00", b"MM\x00*")),
    (".bmp", 0, (b"BM",)),
)
CLIP_MARKS: tuple[tuple[str, int, tuple[bytes, ...]], ...] = (
    (".gif", 0, (b"GIF8",)),
    (".webp", 8, (b"WEBP",)),
    (".avi", 8, (b"AVI ",)),
    (".mov", 4, (b"ftypqt", b"moov", b"mdat", b"wide", b"free", b"skip")),
    (".mp4", 4, (b"ftyp",)),
)
"""(ending, place, bytes there) by which the format of a file is recognised, the first that fits."""
EBML = b"\x1a\x45\xdf\xa3"
"""The beginning of Matroska and WebM, which say in their first bytes which of the two they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair:
    """Two pictures or clips for one prompt.

    Args:
        prompt: of both.
        chosen: the better one.
        rejected: the other.
        inputs: condition pictures of both.
        facts: further columns, such as chosen_score, rejected_score, margin, reward, group, chosen_id and
            rejected_id.
    """

    prompt: str
    chosen: Media
    rejected: Media
    inputs: tuple[Media, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tie(self) -> bool:
        """True where neither is better, whichever is called chosen: the column tie says so."""
        return self.facts.get("tie") is True


class Tied(Protocol):
    """Pair of pictures, clips or responses that says whether it is a tie."""

    @property
    def tie(self) -> bool: ...


P = TypeVar("P", bound=Tied)


def without_ties(pairs: Sequence[P], use: str) -> Sequence[P]:
    """The same pairs, for a use that learns from the better one.

    Raises:
        ValueError: one is a tie.
    """
    for number, pair in enumerate(pairs):
        if pair.tie:
            raise ValueError(
                f"pair {number} is a tie, from which {use} would learn a preference: write the pairs again "
                "without --ties"
            )
    return pairs


def write_pairs(folder: Path, pairs: Sequence[PreferencePair]) -> None:
    """Write the folder, which appears whole or not at all.

    Raises:
        ValueError: there is something at this place already.
        Unscorable: a picture cannot be read.
    """
    refuse_present(folder)
    inputs = any(pair.inputs for pair in pairs)
    with whole_folder(folder) as part:
        (part / "media").mkdir()
        lines = [json.dumps(_record(part, pair, inputs), ensure_ascii=False) for pair in pairs]
        (part / METADATA).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def refuse_present(folder: Path) -> None:
    """Raises ValueError where something lies at this place already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: give another folder, or remove it")


def read_pairs(folder: str | Path) -> list[PreferencePair]:
    """The pairs of a folder; pictures are read when they are looked at, but must be there.

    Of the columns only prompt, chosen_file_name and rejected_file_name are needed; tie, where it is there, is
    true or false.

    Raises:
        ValueError: no such folder, a line that is no pair, a pair without a prompt, or a file that is
            missing; the message names the line.
    """
    folder = Path(folder)
    return [pair_of(folder, record, where) for where, record in records_of(folder)]


def records_of(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Lines of a folder of pairs, of either kind, with the place of each for messages.

    Raises:
        ValueError: no such folder, one without pairs, or a line that is no object.
    """
    path = folder / METADATA
    if not path.is_file():
        raise ValueError(f"{folder} is no folder of pairs: it has no {METADATA}; `mmreward pairs` makes one")
    lines = path.read_text(encoding="utf-8").split("\n")
    numbered = [(f"{path}, line {number}", line) for number, line in enumerate(lines, start=1)]
    found = [(where, _record_of(line, where)) for where, line in numbered if line.strip()]
    if not found:
        raise ValueError(f"{path} has no pairs")
    return found


def _record(folder: Path, pair: PreferencePair, inputs: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": pair.prompt, "kind": pair.chosen.kind}
    row |= {f"{half}_file_name": stored(folder, getattr(pair, half)) for half in HALVES}
    if inputs:  # of some pair: every row has the same columns
        row["inputs_file_names"] = [stored(folder, media) for media in pair.inputs]
    return row | dict(pair.facts)


def stored(folder: Path, media: Media) -> str:
    """Path of a picture, relative to the folder; it is put there if it is not yet."""
    data, suffix = _encoded(media)
    place = Path("media") / f"{media.key}{suffix}"
    if not (folder / place).exists():
        (folder / place).write_bytes(data)
    return place.as_posix()


def _encoded(media: Media) -> tuple[bytes, str]:
    """Bytes and the ending of their true format, whatever the file was called.

    They stay as they are where the format is a common one; else PNG, or WEBP without loss for a clip.
    """
    content = media.content()
    if isinstance(content, bytes) and (suffix := ending_of(content, media.kind)):
        return content, suffix
    return media.lossless()


def ending_of(content: bytes, kind: str) -> str:
    """The ending of a file with this content; empty where its format is not a common one.

    Args:
        content: of the file.
        kind: "image" or "video"; a file that is both, such as a GIF, has the same ending.
    """
    if kind == "video" and content.startswith(EBML):
        return ".webm" if b"webm" in content[:64] else ".mkv"
    for suffix, offset, marks in CLIP_MARKS if kind == "video" else PICTURE_MARKS:
        if content.startswith(marks, offset):
            return suffix
    return ""


def _record_of(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{where} is {type(record).__name__}, not an object")
    if not isinstance(record.get("prompt"), str) or not record["prompt"].strip():
        raise ValueError(f"{where} has no prompt")
    if not isinstance(record.get("tie", False), bool):
        raise ValueError(f"{where}: tie is {record['tie']!r}, not true or false")
    return record


def pair_of(folder: Path, record: dict[str, Any], where: str) -> PreferencePair:
    """The pair of one of `records_of`, which is used up.

    Raises:
        ValueError: it is no pair of pictures or clips; `where` it is.
    """
    prompt, kind = record.pop("prompt"), record.pop("kind", "image")
    if kind == TEXT:
        raise ValueError(
            f"{where} is a pair of responses: pictures or clips are needed here; TRL's DPO takes it"
        )
    if kind == ACTIONS:
        raise ValueError(
            f"{where} is a pair of actions, for a robot's policy: pictures or clips are needed here"
        )
    halves = {half: media_of(folder, record.pop(f"{half}_file_name", None), kind, where) for half in HALVES}
    inputs = tuple(
        media_of(folder, name, "image", where) for name in record.pop("inputs_file_names", None) or ()
    )
    return PreferencePair(prompt=prompt, inputs=inputs, facts=record, **halves)


def media_of(folder: Path, name: Any, kind: Any, where: str) -> Media:
    """A picture or clip of a folder of pairs, by its name there.

    Raises:
        ValueError: it is no name, or nothing is there.
    """
    if not isinstance(name, str):
        raise ValueError(
            f"{where}: {name!r} is no file name; a pair has chosen_file_name, rejected_file_name"
        )
    if not (folder / name).is_file():
        raise ValueError(f"{where}: there is no file {folder / name}")
    return Media(folder / name, kind)
