"""Corrections of an agent's actions as pairs for DPO: what a judge would have done in place of what was
proposed, where it marks its own higher (the reflux of MagicGUI-RMS).

The reward says so in `parts["keep"]`, 0 where the correction wins, and in its note, JSON with the `action`.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..engine.engine import Engine
from ..registry import Reward
from ..types import Sample, Score
from .columns import Columns
from .pair_folder import refuse_present
from .response_pairs import write_response_pairs
from .rows import read_rows


class Corrected(NamedTuple):
    """Rows that were judged, that failed, whose action stays, and that were corrected."""

    rows: int
    failed: int
    kept: int
    pairs: int


def correction_in(score: Score) -> str:
    """The action that should be done in the place of the proposed one; "" where that should stay.

    Raises:
        ValueError: the reward gives no corrections.
    """
    if "keep" not in score.parts:
        raise ValueError("this reward corrects nothing: its scores have no part 'keep', as magicgui's have")
    if score.parts["keep"] == 1.0 or score.parts.get("parsed") == 0.0:
        return ""
    try:
        return str(json.loads(score.note)["action"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"the note of a score names no action: {score.note[:80]!r}") from None


def correct_file(
    data: Path,
    out: Path,
    reward: Reward,
    engine: Engine,
    *,
    timeout: float | None = None,
    columns: Columns | None = None,
) -> Corrected:
    """Judge every row, and write a folder of pairs (see `response_pairs`) of corrected against proposed.

    Raises:
        ValueError: `out` is not empty, rows that cannot be read, a reward that corrects nothing, or no
            correction at all.
    """
    refuse_present(out)
    rows = [(row.id, row.sample) for row in read_rows(data, columns or {}) if row.sample is not None]
    name = reward.info.name
    scores = engine.score([sample for _, sample in rows], {name: reward}, timeout=timeout)[name]
    pairs: list[tuple[Sample, Sample]] = []
    facts: list[dict[str, Any]] = []
    for (row, sample), score in zip(rows, scores, strict=True):
        if not score.ok or not (action := correction_in(score)):
            continue
        pairs.append((replace(sample, response=action), sample))
        gain = score.parts.get("gain", 0.0)
        facts.append({"chosen_score": score.value + gain, "rejected_score": score.value, "margin": gain,
                      "reward": name, "rejected_id": row})  # fmt: skip
    failed = sum(not score.ok for score in scores)
    if not pairs:
        why = f": {failed} of {len(rows)} could not be judged" if failed else ""
        raise ValueError(f"no action was corrected, so nothing was written{why}")
    write_response_pairs(out, pairs, facts)
    return Corrected(len(rows), failed, len(rows) - failed - len(pairs), len(pairs))
