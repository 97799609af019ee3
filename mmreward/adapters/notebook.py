"""Scoring from a script or a notebook: `mmreward.score`, and the scores that it returns.

Samples and rewards are taken in any form that says what they are, and handed to an engine. The engine of a
device stays for the next call, so that weights are loaded once; it works inside a running event loop too.
"""

import threading
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from .. import shown
from ..data.failures import Group, grouped
from ..data.rows import is_media, read_rows, sample_of, unit_of
from ..engine.engine import Engine
from ..errors import Status, nearest
from ..media import Media
from ..monitor.intervals import Measured, mean_of
from ..monitor.tables import SCORES, score_rows, score_table, unit_note
from ..registry import Reward
from ..specs import Descriptions, rewards_of
from ..types import Sample, Score

SHOWN = 8
"""Reasons of failures that are shown."""


class ScoredSample(NamedTuple):
    """One row: its id, the sample (None where a row of a file is none), and its scores by reward."""

    id: str
    sample: Sample | None
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Scored:
    """Scores of some samples, as `mmreward.score` returns them.

    Iterated by row; `scored["math"]` is the list of one reward's scores, `scored[0]` the first row. Printed,
    it is a table with means, their intervals and the failures; a notebook shows the same.

    >>> import mmreward
    >>> scored = mmreward.score([{"response": "4", "target": "4"}], lambda sample: len(sample.response))
    >>> scored["lambda"][0].value
    1.0
    >>> for row in scored:
    ...     print(row.id, row.scores["lambda"].value)
    000000 1.0
    """

    ids: Sequence[str]
    samples: Sequence[Sample | None]
    columns: Mapping[str, Sequence[Score]]
    """By reward, a score for each row."""
    rewards: Mapping[str, Reward]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[ScoredSample]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, key: int) -> ScoredSample: ...
    @overload
    def __getitem__(self, key: str) -> Sequence[Score]: ...
    def __getitem__(self, key: int | str) -> "ScoredSample | Sequence[Score]":
        if isinstance(key, str):
            if key not in self.columns:
                raise KeyError(f"no scores of {key!r}: {nearest(key, self.columns)}")
            return self.columns[key]
        scores = {name: column[key] for name, column in self.columns.items()}
        return ScoredSample(self.ids[key], self.samples[key], scores)

    @cached_property
    def values(self) -> dict[str, list[float]]:
        """Values of each reward, NaN where a score failed."""
        return {name: [score.value for score in column] for name, column in self.columns.items()}

    @cached_property
    def means(self) -> dict[str, Measured]:
        """Mean of each reward with its interval, over the scores that did not fail."""
        return {name: mean_of(column, self._units) for name, column in self.values.items()}

    @cached_property
    def failures(self) -> list[Group]:
        """Failed scores by reward and reason, the most frequent first."""
        return grouped(self.ids, self.columns)

    def to_frame(self, *, parts: bool = False) -> Any:
        """A pandas table: a row for each sample, with id, prompt, and value, status and note of each reward.

        Args:
            parts: also a column for each part of a score, named REWARD.PART.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("to_frame makes a pandas table: pip install pandas") from None
        table: dict[str, list[Any]] = {
            "id": list(self.ids),
            "prompt": ["" if sample is None else sample.prompt for sample in self.samples],
        }
        for name, column in self.columns.items():
            table[name] = [score.value for score in column]
            table[f"{name}.status"] = [score.status for score in column]
            table[f"{name}.note"] = [score.note for score in column]
            for part in dict.fromkeys(part for score in column for part in score.parts) if parts else ():
                table[f"{name}.{part}"] = [score.parts.get(part) for score in column]
        return pandas.DataFrame(table)

    @property
    def _units(self) -> list[Hashable]:
        return [unit_of(sample) for sample in self.samples]

    @property
    def _statuses(self) -> dict[str, Counter[Status]]:
        return {name: Counter(score.status for score in column) for name, column in self.columns.items()}

    @property
    def _notes(self) -> list[str]:
        note = unit_note(self._units)
        left = len(self.failures) - SHOWN
        more = [f"{left} more reasons: see failures"] if left > 0 else []
        return [*([note] if note else []), *map(str, self.failures[:SHOWN]), *more]

    def __repr__(self) -> str:
        return "\n".join([score_table(self.values, self._statuses, self._units), *self._notes])

    def _repr_html_(self) -> str:
        return shown.table(SCORES, score_rows(self.values, self._statuses, self._units), self._notes)


def score(
    samples: Any,
    rewards: Descriptions,
    *,
    device: str = "auto",
    timeout: float | None = None,
    engine: Engine | None = None,
) -> Scored:
    """Score samples by rewards, in a script or a notebook.

    >>> import mmreward
    >>> rows = [{"response": "<answer>4</answer>", "target": "4"}, {"response": "It is 5.", "target": "4"}]
    >>> def brief(sample):
    ...     return len(sample.response) < 10
    >>> scored = mmreward.score(rows, ["math", "bare=math:bare=true", brief])
    >>> scored.means["math"].mean
    0.5
    >>> [score.value for score in scored["brief"]]
    [0.0, 1.0]

    Args:
        samples: a list of samples, each a `Sample`, a mapping of its fields (other keys go into `meta`), or a
            picture or clip: a path, a PIL image, an array, a tensor. Also one of these alone, an array or
            tensor of four dimensions (a batch of pictures), a pandas or polars table, a `datasets.Dataset`,
            or the path of a data set as `mmreward score` reads it.
        rewards: specs as on the command line ("clipscore:weights=mini-clip", "fast=clipscore:..."), loaded
            rewards, or functions that are given a `Sample` and return a number or a `Score`; one, a list, or
            a mapping from your names to these or to arguments.
        device: "auto", "cpu", "cuda", ...; where networks run.
        timeout: seconds one score may take.
        engine: one of your own instead of that of the device, which stays until the process ends.

    Raises:
        ValueError: something that is no sample or no reward; names its place or key. A sample that cannot be
            scored is no error: its scores have a status and a note.
    """
    chosen = rewards_of(rewards)
    rows = list(rows_of(samples))
    good = [sample for _, sample, _ in rows if sample is not None]
    found = (engine or engine_of(device)).score(good, chosen, timeout=timeout)
    columns: dict[str, list[Score]] = {}
    for name, column in found.items():
        fresh = iter(column)
        columns[name] = [
            next(fresh) if sample is not None else Score.failed("error", problem)
            for _, sample, problem in rows
        ]
    return Scored([one for one, _, _ in rows], [sample for _, sample, _ in rows], columns, chosen)


# --- what samples can be given as -----------------------------------------------------------------

Given = tuple[str, Sample | None, str]
"""Id, sample, and the reason where a row of a file is none."""


def rows_of(given: Any) -> Iterator[Given]:
    """Samples with their ids from whatever holds them; see `score`.

    Raises:
        ValueError: an item that is no sample, with its place and the key that is at fault.
    """
    if isinstance(given, str | Path) and not is_media(Path(given)):
        if not Path(given).exists():
            raise ValueError(f"no data at {given}: give a path, or a list of samples")
        yield from ((row.id, row.sample, row.problem) for row in read_rows(given))
        return
    for place, one in enumerate(_items(given)):
        yield _row(one, place)


def _items(given: Any) -> Iterable[Any]:
    for form, arguments in (("to_dicts", ()), ("to_dict", ("records",))):  # of polars, of pandas
        if hasattr(given, form) and hasattr(given, "columns"):
            records: list[dict[str, Any]] = getattr(given, form)(*arguments)
            return [{key: value for key, value in one.items() if not _is_nan(value)} for one in records]
    pixels = isinstance(given, np.ndarray) or hasattr(given, "detach")
    if pixels and given.ndim == 4:  # a batch of pictures; a clip is a Media
        return list(given)
    alone = pixels or isinstance(given, Sample | Media | Mapping | str | Path | bytes)
    return [given] if alone or hasattr(given, "getexif") or not isinstance(given, Iterable) else given


def _row(one: Any, place: int) -> Given:
    name = f"{place:06d}"
    try:
        if isinstance(one, Sample):
            return one.id or name, one, ""
        if isinstance(one, Mapping):
            own = one.get("id")
            sample = sample_of(one, Path(), name if own in (None, "") else str(own))
            return sample.id, sample, ""
        if isinstance(one, str | Path):
            return _of_file(Path(one))
        return name, _shown(Media.of(one), name), ""
    except ValueError as error:
        raise ValueError(f"samples[{place}]: {error}") from None


def _of_file(path: Path) -> Given:
    if not is_media(path):
        raise ValueError(f"{str(path)!r:.80} is no picture or clip; give a path, or Sample(prompt=...)")
    if not path.is_file():
        raise ValueError(f"no file at {path}")
    row = next(read_rows(path), None)
    if row is None or row.sample is None:
        raise ValueError(row.problem if row is not None else f"{path} is no picture or clip")
    return str(path), replace(row.sample, id=str(path)), ""


def _shown(media: Media, name: str) -> Sample:
    return Sample(id=name, video=media) if media.kind == "video" else Sample(id=name, image=media)


def _is_nan(value: Any) -> bool:
    """True for what a table has in the place of nothing."""
    return value is None or (isinstance(value, float) and value != value)


# --- engines that stay ----------------------------------------------------------------------------

_engines: dict[str, Engine] = {}
_lock = threading.Lock()


def engine_of(device: str) -> Engine:
    """The engine of a device for all calls of `score` in this process."""
    with _lock:
        if device not in _engines:
            _engines[device] = Engine(device)
        return _engines[device]
