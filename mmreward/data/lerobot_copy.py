"""Scores written back into a copy of a LeRobot dataset (v3.0): a column of the data, its statistics, and the
progress file that LeRobot's tools read.

A score's parts `frame_N` are its values at frames of the episode; between them the column goes in straight
lines. A reward without such parts stands at the last frame, and the others are 0. An episode that has no
score is NaN throughout, and stands in the statistics with no frame: a failure never becomes a number.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import nearest
from ..files import whole_folder
from .lerobot import INFO, Dataset, dataset_at, episodes_of
from .results import Result

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["curve", "gain", "weight"]
KINDS: tuple[Kind, ...] = ("curve", "gain", "weight")
CHUNK = 50
"""Frames ahead over which a weight measures progress, LeRobot's default."""
KAPPA = 0.01
"""Progress over a chunk above which a frame counts whole."""
FRAME = re.compile(r"frame_(\d+)")
PROGRESS = "progress.parquet"
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
"""Of LeRobot's statistics, `q01` to `q99`."""
HUGGINGFACE = b"huggingface"
"""Key of the schema's metadata under which `datasets` keeps its own types."""


class Copied(NamedTuple):
    """Episodes that were written: with a score, and without one."""

    scored: int
    missing: int


@dataclass(frozen=True, slots=True)
class Curve:
    """Values of an episode at some of its frames.

    Args:
        values: frame -> value; empty where there is no score.
        end: the value is the episode's alone, and stands at its last frame.
    """

    values: Mapping[int, float]
    end: float | None = None

    def at_every(self, length: int, kind: Kind) -> NDArray[np.float32]:
        """One number for each frame: the curve, or what the next frame gains over it (0 at the last).

        Raises:
            ValueError: a value of a frame that the episode does not have.
        """
        if self.end is not None:
            whole = np.zeros(length, np.float32)
            whole[-1] = self.end
            return whole
        if not self.values:
            return np.full(length, np.nan, np.float32)
        frames = sorted(self.values)
        if frames[-1] >= length:
            raise ValueError(f"the score has a value of frame {frames[-1]}, and the episode {length} frames")
        curve = np.interp(np.arange(length), frames, [self.values[frame] for frame in frames])
        if kind == "gain":
            curve = np.append(np.diff(curve), 0.0)
        return curve.astype(np.float32)


def cloning_weights(
    gains: NDArray[np.float64], mean: float, deviation: float, kappa: float = KAPPA
) -> NDArray[np.float32]:
    """Weights of frames in behaviour cloning by the progress after them (RA-BC, arXiv:2509.25358).

    A gain above kappa counts 1 and one below 0 nothing; between, as it lies within two deviations of the
    mean. LeRobot gives a frame whose progress is unknown the weight 1; here it stays NaN.

    >>> gains = np.array([-0.01, 0, 0.005, 0.01, 0.02, np.nan])
    >>> [round(float(one), 4) for one in cloning_weights(gains, 0.005, 0.01)]
    [0.0, 0.375, 0.5, 0.625, 1.0, nan]
    """
    soft = np.clip((gains - (mean - 2 * deviation)) / (4 * deviation + 1e-6), 0.0, 1.0)
    found = np.where(gains > kappa, 1.0, np.where(gains < 0, 0.0, soft))
    return found.astype(np.float32)


def weights_of(curves: Mapping[int, NDArray[np.float32]], chunk: int) -> dict[int, NDArray[np.float32]]:
    """`cloning_weights` of the episodes of a dataset, by the mean and deviation of all their frames' gains.

    Args:
        curves: the value at each frame of each episode; NaN where unknown.
        chunk: frames ahead, or to the last one, over which a gain is.
    """
    gains = {}
    for number, curve in curves.items():
        ahead = np.minimum(np.arange(len(curve)) + chunk, len(curve) - 1)
        gains[number] = curve[ahead].astype(np.float64) - curve
    every = np.concatenate(list(gains.values()))
    known = every[~np.isnan(every)]
    mean = max(float(known.mean()), 0.0) if len(known) else 0.0
    deviation = max(float(known.std()), 1e-6) if len(known) else 1e-6
    return {number: cloning_weights(one, mean, deviation) for number, one in gains.items()}


def curves_of(results: Iterable[Result], reward: str) -> dict[str, Curve]:
    """The curves of a reward's scores by the rows' ids; failures have no values.

    Raises:
        ValueError: no score of this reward; names those there are.
    """
    found: dict[str, Curve] = {}
    names: set[str] = set()
    for result in results:
        names.add(result.reward)
        if result.reward != reward:
            continue
        score = result.score
        parts = {int(m[1]): float(v) for k, v in score.parts.items() if (m := FRAME.fullmatch(k))}
        if not score.ok:
            found[result.id] = Curve({})
        else:
            found[result.id] = Curve(parts) if parts else Curve({}, float(score.value))
    if not found:
        raise ValueError(f"there is no score of {reward!r}; {nearest(reward, sorted(names))}")
    return found


def write_back(
    root: Path,
    results: Iterable[Result],
    reward: str,
    out: Path,
    *,
    column: str = "",
    kind: Kind = "curve",
    chunk: int = CHUNK,
    replace: bool = False,
    link: bool = False,
) -> Copied:
    """Copy a dataset with a reward as a column, and write `progress.parquet` beside its data.

    Args:
        root: of the dataset; nothing in it is changed.
        results: scores whose ids are its rows', `episode_000003`.
        reward: whose scores.
        out: of the copy; nothing may be there.
        column: its name; by default `reward.NAME`.
        kind: "curve", the value at each frame; "gain", what the next frame's value is above it; "weight", of
            the frame in behaviour cloning, see `cloning_weights`.
        chunk: frames ahead over which a weight measures progress.
        replace: take the place of a column that is there, such as `next.reward`.
        link: videos are the same files under another name (hard links) and take no room; by default they are
            copied.

    Raises:
        ValueError: no such reward or kind, another version of the format, something at `out` or a column
            that is there, or scores that do not fit the episodes.
        OSError: a file that cannot be read or written.
    """
    found = dataset_at(root)
    if found.old:
        raise ValueError(f"{root} has version {found.version}, and is read only: convert it to v3.0 first")
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: frames ahead, 1 at least")
    if out.exists() or out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{out} is there already, or within the dataset: name a new folder")
    column = column or f"reward.{reward}"
    if (column in found.info["features"] and not replace) or "/" in column:
        raise ValueError(f"the column {column!r} is there, or has a slash: name another with --column")
    curves = curves_of(results, reward)
    episodes = list(episodes_of(found))
    named = {f"episode_{one['episode_index']:06d}": one for one in episodes}
    if not named.keys() & curves.keys():
        raise ValueError(f"the scores are of other rows: {root} has {', '.join(list(named)[:3])}, ...")
    values: dict[int, NDArray[np.float32]] = {}
    for name, one in named.items():
        curve = curves.get(name, Curve({}))
        if kind == "weight" and curve.end is not None:
            raise ValueError(f"{reward} gives one value an episode: weights are of values frame by frame")
        try:
            values[one["episode_index"]] = curve.at_every(int(one["length"]), kind)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    values = weights_of(values, chunk) if kind == "weight" else values
    with whole_folder(out) as part:
        _copy(found, part, link=link)
        _write_data(part, values, column)
        _describe(part, values, column)
        progress = {
            one["episode_index"]: curves.get(name, Curve({})).at_every(int(one["length"]), "curve")
            for name, one in named.items()
        }
        _write_progress(part, episodes, progress, reward)
    missing = sum(bool(np.isnan(one).all()) for one in values.values())
    return Copied(len(values) - missing, missing)


# --- files ------------------------------------------------------------------------------------------------


def _copy(found: Dataset, part: Path, *, link: bool) -> None:
    for file in sorted(found.root.rglob("*")):
        to = part / file.relative_to(found.root)
        if file.is_dir():
            to.mkdir(parents=True, exist_ok=True)
        elif link and file.suffix == ".mp4":
            os.link(file, to)
        elif not file.name.startswith("."):
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, to)


def _write_data(part: Path, values: Mapping[int, NDArray[np.float32]], column: str) -> None:
    """Put the column into the data files, each of which keeps its row groups."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in sorted((part / "data").glob("*/*.parquet")):
        fresh = file.with_suffix(".new")
        with pq.ParquetFile(file) as old:
            writer = None
            for number in range(old.num_row_groups):
                table = old.read_row_group(number)
                places = zip(
                    table["episode_index"].to_pylist(), table["frame_index"].to_pylist(), strict=True
                )
                numbers = pa.array([float(values[e][f]) for e, f in places], pa.float32())
                table = _with_column(table, column, numbers)
                writer = writer or pq.ParquetWriter(fresh, table.schema, compression="snappy")
                writer.write_table(table)
            if writer is not None:
                writer.close()
                fresh.replace(file)


def _with_column(table: "pa.Table", column: str, numbers: "pa.Array") -> "pa.Table":
    """The table with the column in the place of the one of its name, or at the end; `datasets`' own account
    of the columns, where there is one, has it too."""
    if column in table.column_names:
        table = table.set_column(table.column_names.index(column), column, numbers)
    else:
        table = table.append_column(column, numbers)
    metadata = dict(table.schema.metadata or {})
    if HUGGINGFACE in metadata:
        told = json.loads(metadata[HUGGINGFACE])
        told.setdefault("info", {}).setdefault("features", {})[column] = {
            "dtype": "float32",
            "_type": "Value",
        }
        metadata[HUGGINGFACE] = json.dumps(told).encode()
    return table.replace_schema_metadata(metadata)


def statistics(values: NDArray[np.float32]) -> dict[str, list[float]]:
    """LeRobot's statistics of a column of single numbers, of those that are numbers; only a count of 0 where
    none is."""
    known = values[~np.isnan(values)].astype(np.float64)
    if not len(known):
        return {"count": [0]}
    found = {"min": known.min(), "max": known.max(), "mean": known.mean(), "std": known.std()}
    found |= {f"q{round(100 * q):02d}": np.quantile(known, q) for q in QUANTILES}
    return {**{name: [float(one)] for name, one in found.items()}, "count": [len(known)]}


def _describe(part: Path, values: Mapping[int, NDArray[np.float32]], column: str) -> None:
    """Write the column into `meta/`: the description, the statistics of all and of each episode."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    info = json.loads((part / INFO).read_text(encoding="utf-8"))
    info["features"][column] = {"dtype": "float32", "shape": [1], "names": None}
    (part / INFO).write_text(json.dumps(info, indent=4, ensure_ascii=False), encoding="utf-8")
    file = part / "meta" / "stats.json"
    stats = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    stats[column] = statistics(np.concatenate(list(values.values())))
    file.write_text(json.dumps(stats, indent=4, ensure_ascii=False), encoding="utf-8")
    for place in sorted((part / "meta" / "episodes").glob("*/*.parquet")):
        table = pq.read_table(place)
        own = [statistics(values[number]) for number in table["episode_index"].to_pylist()]
        for name in ("min", "max", "mean", "std", "count", *(f"q{round(100 * q):02d}" for q in QUANTILES)):
            kind = pa.list_(pa.int64() if name == "count" else pa.float64())
            array = pa.array([one.get(name) for one in own], kind)
            key = f"stats/{column}/{name}"
            at = table.column_names.index(key) if key in table.column_names else None
            table = table.append_column(key, array) if at is None else table.set_column(at, key, array)
        pq.write_table(table, place)


def _write_progress(
    part: Path,
    episodes: Sequence[Mapping[str, Any]],
    values: Mapping[int, NDArray[np.float32]],
    reward: str,
) -> None:
    """Write the file that LeRobot's RA-BC weights and overlays read: one row a frame, NaN where unknown."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def rows() -> Iterator[tuple[int, int, int, float]]:
        start = 0
        for one in episodes:
            number = one["episode_index"]
            start = int(one.get("dataset_from_index", start))
            for frame, value in enumerate(values[number]):
                yield start + frame, number, frame, float(value)
            start += len(values[number])

    columns = list(zip(*rows(), strict=True))
    names = ("index", "episode_index", "frame_index")
    arrays = {name: pa.array(column, pa.int64()) for name, column in zip(names, columns, strict=False)}
    arrays["progress_sparse"] = pa.array(columns[3], pa.float32())
    table = pa.table(arrays).replace_schema_metadata({b"reward_model_path": f"mmreward/{reward}".encode()})
    pq.write_table(table, part / PROGRESS)
