"""A folder of pairs of responses, for DPO of a vision-language model: `mmreward pairs --responses`.

metadata.jsonl has one line per pair with prompt, chosen and rejected in words, and `images_file_names`; the
pictures lie in media/, each once. `datasets.load_dataset(FOLDER)` gives the columns prompt, images, chosen
and rejected, which TRL's DPOTrainer takes. Clips have `videos_file_names` in the same way, which `datasets`
gives as names. Candidates of an agent's next step have `steps` beside them, what was done before, with the
names of its pictures.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..files import whole_folder
from ..media import Media
from ..models.vlms.answers import shown_to
from ..trajectories import with_media
from ..types import Sample
from .pair_folder import METADATA, TEXT, media_of, refuse_present, stored


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


class ResponsePair(NamedTuple):
    """Two responses to one question about what is shown."""

    prompt: str
    shown: tuple[Media, ...]
    chosen: str
    rejected: str


def read_response_pairs(folder: str | Path) -> list[ResponsePair]:
    """The pairs of a folder; pictures are read when they are looked at, but must be there.

    Raises:
        ValueError: no such folder, or a line that is no pair of responses; the message names the line.
    """
    path = Path(folder) / METADATA
    if not path.is_file():
        raise ValueError(f"{folder} has no {METADATA}; `mmreward pairs --responses` makes such a folder")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            texts = [row[key] for key in ("prompt", "chosen", "rejected")]
        except (ValueError, KeyError, TypeError):
            texts = []
        if len(texts) != 3 or not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"{path}, line {number} has no prompt, chosen and rejected in words")
        shown = tuple(
            media_of(Path(folder), name, kind, f"{path}, line {number}")
            for kind in ("image", "video")
            for name in row.get(f"{kind}s_file_names") or ()
        )
        found.append(ResponsePair(texts[0], shown, texts[1], texts[2]))
    return found


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
