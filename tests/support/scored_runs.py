"""Runs of scores as `mmreward score` leaves them: a results file, its data set and its pictures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmreward.data import results
from mmreward.types import Score

RANGES = {"quality": [0.0, 1.0], "oracle": [0.0, 1.0], "free": [None, None]}


def make_run(
    folder: Path,
    columns: Mapping[str, Sequence[Score]],
    rows: Sequence[Mapping[str, Any]] | None = None,
    suffix: str = ".parquet",
    **about: Any,
) -> Path:
    """A results file and its data set, with one sample per score."""
    number_of = len(next(iter(columns.values())))
    given = rows or [{} for _ in range(number_of)]
    data = [{"id": f"s{i}", "prompt": f"prompt {i}", **row} for i, row in enumerate(given)]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    stored = [
        results.Result.of(str(data[i]["id"]), name, score, f"print-{name}", "")
        for name, scores in columns.items()
        for i, score in enumerate(scores)
    ]
    rewards = {
        name: {"reward": name, "args": {}, "range": RANGES.get(name, [0.0, 1.0]), "higher_is_better": True}
        for name in columns
    }
    facts = {"title": "A run", "data": "samples.jsonl", "rewards": rewards, **about}
    results.write(folder / f"scores{suffix}", stored, facts)
    return folder / f"scores{suffix}"


def picture(folder: Path, size: tuple[int, int] = (64, 64)) -> str:
    name = f"{size[0]}x{size[1]}.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(
        folder / name
    )
    return name


def oks(*values: float) -> list[Score]:
    return [Score(value) for value in values]
