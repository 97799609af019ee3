"""A folder of pairs of action chunks, for DPO of a robot's policy (NORA-1.5): `mmreward pairs --actions`.

Rows are candidates from one moment: equal in group, prompt, pictures and states, each with its own `action`
in every step. metadata.jsonl has one line per pair with the prompt, `chosen` and `rejected` as lists of
actions, and `images_file_names`: what the first step shows (or the row's image), then the given pictures,
such as the goal. They lie in media/, each once, so that `datasets.load_dataset(FOLDER)` gives the columns
prompt, images, chosen and rejected. The first step's state is the column `state`, where there is one.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import whole_folder
from ..media import Media
from ..trajectories import column, seen_in
from ..types import Sample
from .pair_folder import ACTIONS, METADATA, refuse_present, stored


def write_action_pairs(
    folder: Path, pairs: Sequence[tuple[Sample, Sample]], facts: Sequence[Mapping[str, Any]]
) -> None:
    """Write the folder, which appears whole or not at all.

    Args:
        folder: a new one.
        pairs: chosen and rejected, from one moment.
        facts: further columns of each.

    Raises:
        ValueError: there is something at this place already.
        Unscorable: a picture cannot be read.
    """
    refuse_present(folder)
    known = any(_state_of(chosen) is not None for chosen, _ in pairs)
    with whole_folder(folder) as part:
        (part / "media").mkdir()
        lines = [
            json.dumps(_record(part, chosen, rejected, known) | dict(told), ensure_ascii=False)
            for (chosen, rejected), told in zip(pairs, facts, strict=True)
        ]
        (part / METADATA).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _record(folder: Path, chosen: Sample, rejected: Sample, known: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": chosen.prompt, "kind": ACTIONS}
    row["images_file_names"] = [stored(folder, media) for media in (*_seen(chosen), *chosen.inputs)]
    if known:  # of some pair: every row has the same columns
        row["state"] = _state_of(chosen)
    return row | {
        half: column(one.steps, "action") for half, one in (("chosen", chosen), ("rejected", rejected))
    }


def _seen(sample: Sample) -> list[Media]:
    """What was seen before the first action: one picture for each view."""
    first = [seen.media for seen in seen_in(sample.steps[:1])]
    return first or ([] if sample.image is None else [sample.image])


def _state_of(sample: Sample) -> Any:
    return column(sample.steps[:1], "state")[0]
