"""Answers of a reward of this suite: the benchmark's rows go through `mmreward score`'s own machinery.

Rows are written beside the scores, so that the run resumes, its failures are typed, and `mmreward report`
shows it like any other.
"""

import json
from collections.abc import Mapping, Sequence
from os.path import relpath
from pathlib import Path
from typing import Any

from mmreward.data import results
from mmreward.data.run import Progress, score_file
from mmreward.engine.engine import Engine
from mmreward.errors import Unscorable
from mmreward.files import whole_file
from mmreward.registry import Reward
from mmreward.trajectories import with_media
from mmreward.types import FIELDS_OF_MEDIA, Score

from .benchmark import Answers, Benchmark, Failed, Item

MEDIA = tuple(name for name, _ in FIELDS_OF_MEDIA)


def scored_answers(
    benchmark: Benchmark,
    items: Sequence[Item],
    labels: Path,
    name: str,
    reward: Reward,
    out: Path,
    engine: Engine,
    *,
    timeout: float | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Answers:
    """Score the rows of all items into `out`, where what is there already stays, and read the answers.

    An item is invalid where the score of one of its rows failed, with its status and note.

    Args:
        benchmark: whose items they are.
        items: to answer.
        labels: the file or folder that paths in rows are relative to.
        name: that the reward's scores are stored under.
        reward: answers.
        out: a results file; the rows go into OUT.rows.jsonl.
        engine, timeout, retry_failed, progress: see `data.run.score_file`.

    Raises:
        ValueError: the benchmark gives a reward nothing to score; or as `score_file`.
    """
    if benchmark.rows is None or benchmark.scored is None:
        raise ValueError(f"{benchmark.name} measures files of predictions alone: leave --reward out")
    results.check_ending(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    root = labels if labels.is_dir() else labels.parent
    data = out.with_name(out.name + ".rows.jsonl")
    names: dict[str, list[str]] = {}
    with whole_file(data) as part, part.open("w", encoding="utf-8") as file:
        for item in items:
            rows = benchmark.rows(item, reward)
            names[item.id] = [
                item.id if len(rows) == 1 else f"{item.id}#{place}" for place in range(len(rows))
            ]
            for row, record in zip(names[item.id], rows, strict=True):
                placed = {"id": row, **_moved(record, root, out.parent)}
                file.write(json.dumps(placed, ensure_ascii=False) + "\n")
    score_file(
        data, {name: reward}, out, engine,
        timeout=timeout, retry_failed=retry_failed, title=benchmark.name, progress=progress,
    )  # fmt: skip
    ours = relpath(data, out.parent)
    # A JSONL or CSV file of results keeps no data set of rows that are its own.
    scores = {one.id: one.score for one in results.read(out) if one.reward == name and one.data in ("", ours)}
    valid: dict[str, Any] = {}
    invalid: dict[str, Failed] = {}
    for item in items:
        given = [scores[row] for row in names[item.id]]
        try:
            valid[item.id] = _answered(benchmark, item, given, reward)
        except Unscorable as error:
            invalid[item.id] = Failed(error.status, str(error))
    return Answers(source=name, valid=valid, invalid=invalid)


def _answered(benchmark: Benchmark, item: Item, scores: Sequence[Score], reward: Reward) -> Any:
    for score in scores:
        if not score.ok:
            raise Unscorable(score.note, score.status)
    assert benchmark.scored is not None
    return benchmark.scored(item, scores, reward)


def _moved(record: Mapping[str, Any], root: Path, here: Path) -> dict[str, Any]:
    """The record with its media relative to another folder."""
    moved = dict(record)
    for field in (*MEDIA, "inputs"):
        if field in moved:
            moved[field] = _placed(moved[field], root, here)
    if "steps" in moved:
        steps = with_media(moved["steps"], lambda value, _: _placed(value, root, here))
        moved["steps"] = list(steps)
    return moved


def _placed(value: Any, root: Path, here: Path) -> Any:
    if isinstance(value, list | tuple):
        return [_placed(one, root, here) for one in value]
    if isinstance(value, Mapping):  # by view
        return {name: _placed(one, root, here) for name, one in value.items()}
    if isinstance(value, str) and not value.startswith("data:"):
        return Path(relpath(root / value, here)).as_posix()
    return value
