"""A search's folder: pictures/, samples.jsonl, scores.parquet, history.jsonl; `mmreward report` shows it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...compose import combine
from ...data import read_rows
from ...media import Media
from ...registry import Reward
from ...results import Result, Results
from ...run import TOTAL, about_run
from ...types import Sample, Score
from ..selection import Selection
from .job import Found


def fresh(out: Path) -> Path:
    """The folder, made if it is not there.

    Raises:
        ValueError: it holds a run already.
    """
    if (out / "samples.jsonl").exists():
        raise ValueError(f"{out} holds a run already: give another folder, or remove it")
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    return out


def numbered(found: Sequence[Found]) -> list[Found]:
    """The same with an id for every shot: its prompt's, and its number."""
    return [
        replace(one, shots=[replace(shot, id=f"{shot.group}-{i:03d}") for i, shot in enumerate(one.shots)])
        for one in found
    ]


def write_samples(out: Path, found: Sequence[Found]) -> None:
    """The pictures, and a row for each with all that its rewards need."""
    lines = []
    for prompt, one in enumerate(found):
        for number, (shot, facts) in enumerate(zip(one.shots, one.facts, strict=True)):
            row = _row(out, shot, f"{prompt:05d}-{number:03d}")
            row |= {**facts, "chosen": number == one.best}
            lines.append(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    (out / "samples.jsonl").write_text("".join(lines), encoding="utf-8")


def write_scores(
    out: Path, found: Sequence[Found], rewards: Mapping[str, Reward], selection: Selection, title: str
) -> dict[str, list[Score]]:
    """Score every shot and write scores.parquet, with the weighted sum as "total".

    What the search has scored already comes out of the engine's cache.
    """
    shots = [shot for one in found for shot in one.shots]
    columns = selection.engine.score(shots, rewards, timeout=selection.timeout)
    selected = {name: columns[name] for name in selection.rewards}
    columns[TOTAL] = combine(selected, selection.recipe, [shot.group for shot in shots])
    path = out / "scores.parquet"
    results = Results(path, about_run(out / "samples.jsonl", rewards, path, title))
    prints = {name: reward.fingerprint for name, reward in rewards.items()}
    prints[TOTAL] = ",".join(prints[name] for name in selection.rewards)
    digests = {row.id: row.digest for row in read_rows(out / "samples.jsonl")}
    for name, column in columns.items():
        for shot, score in zip(shots, column, strict=True):
            digest = digests[shot.id] if name != TOTAL else ""
            results.add(Result.of(shot.id, name, score, prints[name], digest))
    results.finish((shot.id, name) for shot in shots for name in columns)
    return columns


def write_history(out: Path, found: Sequence[Found], problems: Mapping[str, str]) -> None:
    """A line per prompt; rows of the data that are none have a line with the problem."""
    records = [
        {
            "id": one.shots[0].group,
            "prompt": one.shots[0].prompt,
            "forwards": one.forwards,
            "best": None if one.best is None else one.shots[one.best].id,
            **one.history,
        }
        for one in found
    ]
    records += [{"id": name, "problem": problem} for name, problem in problems.items()]
    lines = "".join(json.dumps(record, ensure_ascii=False, default=str) + "\n" for record in records)
    (out / "history.jsonl").write_text(lines, encoding="utf-8")


def _row(out: Path, shot: Sample, stem: str) -> dict[str, Any]:
    row: dict[str, Any] = {"id": shot.id, "prompt": shot.prompt, "group": shot.group}
    for name in ("image", "video"):
        if (media := getattr(shot, name)) is not None:
            row[name] = _saved(out, media, stem)
    if shot.inputs:
        row["inputs"] = [_saved(out, media, f"{stem}-input{i}") for i, media in enumerate(shot.inputs)]
    for name in ("response", "target", "source"):
        if value := getattr(shot, name):
            row[name] = value
    return {**row, "meta": dict(shot.meta)}


def _saved(out: Path, media: Media, stem: str) -> str:
    """Where the media lies, relative to samples.jsonl; what comes from a file stays there."""
    if isinstance(media.source, Path):
        return str(media.source.resolve())
    if media.kind == "image":
        place = Path("pictures") / f"{stem}.png"
        media.picture().save(out / place)
        return place.as_posix()
    from PIL import Image

    place = Path("pictures") / f"{stem}.webp"
    first, *rest = (Image.fromarray(frame) for frame in media.array())
    duration = round(1000 / (media.fps or 16.0))
    first.save(out / place, save_all=True, append_images=rest, duration=duration, lossless=True)
    return place.as_posix()
