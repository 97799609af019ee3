"""LeRobot datasets (v3.0 and v2.1) as records: an episode a row, its cameras as views of its steps.

Read with Arrow alone, in the format of `meta/info.json`. A frame is found by its time in the camera's file,
which in v3.0 holds many episodes, and nothing is decoded before a reward looks at it. The row's id is
`episode_000003`, its prompt the episode's task. Every camera is also a column of its feature's name, for
`--map video=observation.images.top`; of one camera alone the clip is `video` without being told.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import nearest
from ..media import Media
from ..reading import decoded_text, read_regular
from ..streams import Cut, Frame
from . import parquet
from .texts import Refused, json_lines

INFO = Path("meta", "info.json")
VERSIONS = ("v3.0", "v2.1", "v2.0")
COLUMNS = {"action": "action", "next.reward": "reward", "next.done": "done", "timestamp": "time"}
"""Columns of a dataset -> keys of a step."""
STATE = "observation.state"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEOS = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
OLD_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
OLD_VIDEOS = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def is_lerobot(folder: Path) -> bool:
    """True for the root of a LeRobot dataset, by its `meta/info.json`."""
    return (folder / INFO).is_file()


@dataclass(frozen=True, slots=True)
class Dataset:
    """Description of a LeRobot dataset; `dataset_at` reads it.

    Args:
        root: its folder.
        version: of its format.
        fps: frames a second of all its cameras.
        cameras: features that are pictures or clips, depth left out.
        videos: those of them that lie in video files.
        info: `meta/info.json` as it stands.
    """

    root: Path
    version: str
    fps: float
    cameras: tuple[str, ...]
    videos: frozenset[str]
    info: Mapping[str, Any]

    @property
    def old(self) -> bool:
        """True for one episode a file."""
        return self.version != "v3.0"

    def path(self, template: str, usual: str, **values: Any) -> Path:
        """A file by a template of the description.

        Raises:
            ValueError: a template with another key, or one that leaves the dataset.
        """
        written = str(self.info.get(template) or usual)
        try:
            found = PurePosixPath(written.format(**values))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise ValueError(f"{self.root / INFO}: {template} is {written!r}: {error}") from None
        if found.is_absolute() or ".." in found.parts:
            raise ValueError(f"{self.root / INFO}: {template} is {written!r}, which leaves the dataset")
        return self.root / found

    def view(self, camera: str) -> str:
        """The name of a camera as a view: what follows `observation.images.`."""
        return camera.removeprefix("observation.").removeprefix("images.")


def dataset_at(root: Path) -> Dataset:
    """Description of the LeRobot dataset in a folder.

    Raises:
        ValueError: no description, or of a version that is not read.
    """
    text = decoded_text(read_regular(root / INFO, "config_bytes"), str(root / INFO))
    try:
        info = json.loads(text)
        version, fps = str(info["codebase_version"]), float(info["fps"])
        features = {str(name): dict(about) for name, about in info["features"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{root / INFO} describes no LeRobot dataset: {error!r}") from None
    if version not in VERSIONS:
        raise ValueError(f"{root / INFO}: version {version!r} is not read; {nearest(version, VERSIONS)}")
    if not fps > 0:
        raise ValueError(f"{root / INFO}: fps is {fps:g}")
    kinds = {name: about.get("dtype") for name, about in features.items()}
    deep = {name for name, about in features.items() if _is_depth(about)}
    cameras = tuple(name for name, kind in kinds.items() if kind in ("video", "image") and name not in deep)
    videos = frozenset(name for name in cameras if kinds[name] == "video")
    return Dataset(root, version, fps, cameras, videos, info)


def _is_depth(about: Mapping[str, Any]) -> bool:
    facts = {**(about.get("info") or {}), **(about.get("video_info") or {})}
    return bool(facts.get("video.is_depth_map") or facts.get("is_depth_map"))


def records_of(root: Path) -> Iterator[Any]:
    """The episodes of a dataset as records; a ValueError in the place of one whose parts do not agree.

    Raises:
        ValueError: as `dataset_at`.
        OSError: a file that is missing or damaged.
    """
    found = dataset_at(root)
    return _records(found)


def _records(found: Dataset) -> Iterator[Any]:
    tasks = tasks_of(found)
    frames = _Frames(found)
    for episode in episodes_of(found):
        name = f"episode_{episode['episode_index']:06d}"
        try:
            yield _record(found, episode, frames.of(episode), tasks, name)
        except ValueError as error:
            yield Refused(str(error), name)


def episodes_of(found: Dataset) -> Iterator[dict[str, Any]]:
    """What the dataset says of its episodes, in order, without their statistics."""
    if found.old:
        yield from _checked(json_lines(found.root / "meta" / "episodes.jsonl"))
        return
    for file in sorted((found.root / "meta" / "episodes").glob("*/*.parquet")):
        for one in _checked(parquet.records_of(file)):
            yield {key: value for key, value in one.items() if not key.startswith("stats/")}


def _checked(records: Iterator[Any]) -> Iterator[dict[str, Any]]:
    for one in records:
        if isinstance(one, ValueError):
            raise one
        if not isinstance(one, dict) or not isinstance(one.get("episode_index"), int):
            raise ValueError(f"an episode without an episode_index: {one!r:.80}")
        yield one


def tasks_of(found: Dataset) -> dict[int, str]:
    """Texts of the tasks by their number."""
    if found.old:
        file = found.root / "meta" / "tasks.jsonl"
        records = list(json_lines(file)) if file.is_file() else []
    else:
        file = found.root / "meta" / "tasks.parquet"
        records = list(parquet.records_of(file)) if file.is_file() else []
    texts = {}
    for one in records:
        # The text is the index of a data frame, and has its name only since some release.
        text = one.get("task", one.get("__index_level_0__")) if isinstance(one, dict) else None
        if isinstance(text, str) and isinstance(one.get("task_index"), int):
            texts[one["task_index"]] = text
    return texts


class _Frames:
    """Rows of the data files, which are read once and in order, an episode at a time."""

    def __init__(self, found: Dataset) -> None:
        self.found = found
        self.file = Path()
        self.rows: Iterator[Any] = iter(())
        self.next: Any = None

    def of(self, episode: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The rows of an episode, in order.

        Raises:
            ValueError: a row that cannot be read, or fewer or more than the description says.
        """
        file = self._file_of(episode)
        if file != self.file:
            self.file, self.rows, self.next = file, iter(parquet.records_of(file)), None
        wanted = episode["episode_index"]
        rows: list[Mapping[str, Any]] = []
        while True:
            row = self.next if self.next is not None else next(self.rows, None)
            self.next = None
            if row is None:
                break
            if isinstance(row, ValueError):
                raise ValueError(f"{file.name}: {row}")
            if row.get("episode_index") != wanted:
                if rows or row.get("episode_index", 0) > wanted:
                    self.next = row
                    break
                continue  # of an episode that the description leaves out
            rows.append(row)
        if (said := episode.get("length")) is not None and said != len(rows):
            raise ValueError(f"{file.name} has {len(rows)} frames of episode {wanted}, which has {said}")
        return rows

    def _file_of(self, episode: Mapping[str, Any]) -> Path:
        found, number = self.found, episode["episode_index"]
        if found.old:
            chunk = number // int(found.info.get("chunks_size") or 1000)
            return found.path("data_path", OLD_DATA, episode_chunk=chunk, episode_index=number)
        chunk, file = _place(episode, "data")
        return found.path("data_path", DATA, chunk_index=chunk, file_index=file)


def _place(episode: Mapping[str, Any], what: str) -> tuple[int, int]:
    chunk, file = episode.get(f"{what}/chunk_index"), episode.get(f"{what}/file_index")
    if not isinstance(chunk, int) or not isinstance(file, int):
        raise ValueError(f"nothing says in which file of {what} episode {episode['episode_index']} is")
    return chunk, file


def clip_of(found: Dataset, episode: Mapping[str, Any], camera: str) -> Media:
    """An episode as one camera's clip.

    Raises:
        ValueError: nothing says where it is.
    """
    number = episode["episode_index"]
    if found.old:
        chunk = number // int(found.info.get("chunks_size") or 1000)
        values = {"episode_chunk": chunk, "video_key": camera, "episode_index": number}
        return Media(found.path("video_path", OLD_VIDEOS, **values), "video")
    chunk, file = _place(episode, f"videos/{camera}")
    start, stop = (episode.get(f"videos/{camera}/{end}_timestamp") for end in ("from", "to"))
    if not isinstance(start, int | float) or not isinstance(stop, int | float) or not start < stop:
        raise ValueError(f"episode {number} is from {start} to {stop} s of {camera}'s file")
    path = found.path("video_path", VIDEOS, video_key=camera, chunk_index=chunk, file_index=file)
    return Media(Cut(path, float(start), float(stop)), "video")


def _record(
    found: Dataset,
    episode: Mapping[str, Any],
    rows: list[Mapping[str, Any]],
    tasks: Mapping[int, str],
    name: str,
) -> dict[str, Any]:
    clips = {camera: clip_of(found, episode, camera) for camera in found.cameras if camera in found.videos}
    steps = []
    for number, row in enumerate(rows):
        seen = {
            found.view(camera): Media(Frame(clips[camera], number)) if camera in clips else row[camera]
            for camera in found.cameras
            if camera in clips or row.get(camera) is not None
        }
        step = {key: row[column] for column, key in COLUMNS.items() if row.get(column) is not None}
        if row.get(STATE) is not None:
            step["state"] = row[STATE]
        steps.append({"observation": seen, **step} if seen else step)
    said = episode.get("tasks")
    texts = [str(one) for one in said] if isinstance(said, list | tuple) else []
    numbers = dict.fromkeys(int(row.get("task_index") or 0) for row in rows)
    texts = texts or [tasks[number] for number in numbers if number in tasks]
    meta: dict[str, Any] = {"episode_index": episode["episode_index"], "fps": found.fps, "tasks": texts}
    if rows and rows[-1].get("next.success") is not None:
        meta["success"] = any(bool(row.get("next.success")) for row in rows)
    record = {"id": name, "prompt": "; ".join(texts), "steps": steps, "source": found.root.name, "meta": meta}
    return {**record, **clips, **({"video": next(iter(clips.values()))} if len(clips) == 1 else {})}
