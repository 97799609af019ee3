"""A folder of pairs of responses, for DPO of a vision-language model: `mmreward pairs --responses`.

metadata.jsonl has one line per pair with prompt, chosen and rejected in words, and `images_file_names`; the
pictures lie in media/, each once. `datasets.load_dataset(FOLDER)` gives the columns prompt, images, chosen
and rejected, which TRL's DPOTrainer takes. Clips have `videos_file_names` in the same way, which `datasets`
gives as names. Candidates of an agent's next step have `steps` beside them, what was done before, with the
names of its pictures.

`mmreward fit head` reads such folders, too, and looks at a pair's halves by `halves_of`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..files import whole_folder
from ..media import Media
from ..models.vlms.answers import shown_to
from ..trajectories import with_media
from ..types import Sample
from .pair_folder import (
    METADATA,
    TEXT,
    PreferencePair,
    media_of,
    pair_of,
    records_of,
    refuse_present,
    stored,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsePair:
    """Two responses to one question.

    Args:
        prompt: the question.
        chosen: the better response.
        rejected: the other.
        media: pictures and clips that the question is about; none of a question in words alone.
        facts: further columns, such as margin and tie.
    """

    prompt: str
    chosen: str
    rejected: str
    media: tuple[Media, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tie(self) -> bool:
        """True where neither is better, whichever is called chosen: the column tie says so."""
        return self.facts.get("tie") is True


AnyPair = PreferencePair | ResponsePair


class Half(NamedTuple):
    """One half of a pair, as a model is shown it; a response is empty where the halves are pictures."""

    media: tuple[Media, ...]
    prompt: str
    response: str = ""


def halves_of(pair: AnyPair) -> tuple[Half, Half]:
    """The chosen half of a pair and the rejected one."""
    if isinstance(pair, ResponsePair):
        return Half(pair.media, pair.prompt, pair.chosen), Half(pair.media, pair.prompt, pair.rejected)
    return Half((pair.chosen,), pair.prompt), Half((pair.rejected,), pair.prompt)


def read_any_pairs(folder: str | Path) -> Sequence[AnyPair]:
    """The pairs of a folder, of pictures and clips or of responses, all of one kind.

    Raises:
        ValueError: as `pair_folder.read_pairs`; or a pair of responses without one of them, with steps of an
            agent before it, or among others.
    """
    folder = Path(folder)
    records = records_of(folder)
    if all(record.get("kind") != TEXT for _, record in records):
        return [pair_of(folder, record, where) for where, record in records]
    return [_pair(folder, record, where) for where, record in records]


def read_response_pairs(folder: str | Path) -> list[ResponsePair]:
    """The pairs of a folder of responses; pictures are read when they are looked at, but must be there.

    Raises:
        ValueError: as `read_any_pairs`, and of pairs of pictures.
    """
    return [_pair(Path(folder), record, where) for where, record in records_of(Path(folder))]


def _pair(folder: Path, record: dict[str, Any], where: str) -> ResponsePair:
    prompt = record.pop("prompt")
    kind = record.pop("kind", "image" if "chosen_file_name" in record else TEXT)
    if kind != TEXT:
        raise ValueError(
            f"{where} is a pair of {kind}s among pairs of responses, or in their place: give each a folder"
        )
    if record.get("steps"):
        raise ValueError(f"{where} has steps before its responses: an agent's pairs are not read here")
    words = {half: record.pop(half, None) for half in ("chosen", "rejected")}
    for half, text in words.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where} has no {half}, a response in words")
    names = [(kind, record.pop(f"{kind}s_file_names", None) or ()) for kind in ("image", "video")]
    media = tuple(media_of(folder, name, kind, where) for kind, given in names for name in given)
    return ResponsePair(prompt=prompt, media=media, facts=record, **words)


def write_response_pairs(
    folder: Path, pairs: Sequence[tuple[Sample, Sample]], facts: Sequence[Mapping[str, Any]]
) -> None:
    """Write the folder, which appears whole or not at all.

    Args:
        folder: a new one.
        pairs: chosen and rejected, which answer one question about the same pictures.
        facts: further columns of each.

    Raises:
        ValueError: there is something at this place already.
        Unscorable: a picture cannot be read.
    """
    refuse_present(folder)
    kinds = {media.kind for chosen, _ in pairs for media in shown_to(chosen)}
    before = any(chosen.steps for chosen, _ in pairs)
    with whole_folder(folder) as part:
        (part / "media").mkdir()
        lines = [
            json.dumps(
                _record(part, chosen, rejected, sorted(kinds), before) | dict(told), ensure_ascii=False
            )
            for (chosen, rejected), told in zip(pairs, facts, strict=True)
        ]
        (part / METADATA).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _record(
    folder: Path, chosen: Sample, rejected: Sample, kinds: Sequence[str], before: bool
) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": chosen.prompt, "kind": TEXT}
    for kind in kinds:  # of some pair: every row has the same columns
        names = [stored(folder, media) for media in shown_to(chosen) if media.kind == kind]
        row[f"{kind}s_file_names"] = names
    if before:
        row["steps"] = with_media(chosen.steps, lambda media, _: stored(folder, media))
    return row | {"chosen": chosen.response, "rejected": rejected.response}
