"""Trackers of experiments for runs of scores: TensorBoard, W&B and trackio, all three kept on this machine or
sent away as they are set up to.

`check_trackers` refuses, before a run, one that would log nothing. `track` logs a finished run: mean,
interval and failures of every reward, means by source, a table of the samples at both ends with their
pictures, and an alarm where too many scores failed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from ..data.columns import Columns
from ..data.rows import read_rows
from ..data.run import Summary
from ..errors import Unscorable, nearest
from .intervals import mean_of

PROJECT = "mmreward"
ENDS = 8
"""Samples at each end of each reward that stand in the table."""
MOST = 64
"""Rows of the table."""
SIDE = 256
"""Longest side of a picture in it."""


class Tracker(Protocol):
    """One tracker during one run."""

    def numbers(self, figures: Mapping[str, float]) -> None:
        """Log figures."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log samples; a cell is a text, a number, a PIL picture or None."""

    def alarm(self, title: str, words: str) -> None:
        """Raise an alarm."""

    def end(self) -> None:
        """Finish, so that all is written."""


@dataclass
class TensorBoard:
    """Event files in a folder beside the results: scalars, pictures, the table and alarms as text."""

    folder: Path
    title: str

    def __post_init__(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(self.folder))

    def numbers(self, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, 0)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import numpy as np

        shown = [[cell if isinstance(cell, str | int | float) else "" for cell in row] for row in rows]
        lines = ["| " + " | ".join(map(_cell, line)) + " |" for line in (columns, *shown)]
        lines.insert(1, "|" + "---|" * len(columns))
        self._writer.add_text("samples", "\n".join(lines), 0)
        for row in rows:
            for cell in row:
                if hasattr(cell, "convert"):
                    pixels = np.asarray(cell.convert("RGB"))
                    self._writer.add_image(f"samples/{row[0]}", pixels, 0, dataformats="HWC")

    def alarm(self, title: str, words: str) -> None:
        self._writer.add_text("alarm", f"**{title}** {words}", 0)

    def end(self) -> None:
        self._writer.close()


@dataclass
class Logged:
    """W&B or trackio, which have one interface for this."""

    module: Any
    title: str
    begin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.module.init(project=PROJECT, name=self.title, **self.begin)

    def numbers(self, figures: Mapping[str, float]) -> None:
        self.module.log(dict(figures))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        data = [[self._shown(cell) for cell in row] for row in rows]
        self.module.log({"samples": self.module.Table(columns=list(columns), data=data)})

    def alarm(self, title: str, words: str) -> None:
        self.module.alert(title=title, text=words)

    def end(self) -> None:
        self.module.finish()

    def _shown(self, cell: Any) -> Any:
        return self.module.Image(cell) if hasattr(cell, "convert") else cell


def _tensorboard(out: Path, title: str) -> Tracker:
    return TensorBoard(out.with_name(f"{out.stem}.tensorboard"), title)


def _wandb(out: Path, title: str) -> Tracker:
    import wandb

    return Logged(wandb, title, {"dir": str(out.parent)})


def _trackio(out: Path, title: str) -> Tracker:
    import trackio

    return Logged(trackio, title, {"embed": False})


TRACKERS: Mapping[str, Callable[[Path, str], Tracker]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}
"""Name, which is its package's too, -> what begins a run of it."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are not there, before anything is scored.

    Raises:
        ValueError: no such tracker, or its package is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"trackers: nothing is called {name!r}: {nearest(name, TRACKERS)}")
        try:
            version(name)  # a folder of this name, such as W&B leaves behind, can be imported as well
        except PackageNotFoundError:
            raise ValueError(
                f"trackers: {name} is not installed: pip install {name}, or leave it out"
            ) from None


def track(
    names: Sequence[str],
    summary: Summary,
    data: Path,
    out: Path,
    *,
    columns: Columns | None = None,
    most_failures: float = 1.0,
) -> None:
    """Log a finished run of scores with every tracker.

    Args:
        names: of trackers, see `TRACKERS`.
        summary: of the run.
        data: its data set, read again for the samples that are shown.
        out: its results file, whose name is the run's.
        columns: as the data set was read.
        most_failures: the share of failed scores above which there is an alarm.

    Raises:
        ValueError: see `check_trackers`.
    """
    check_trackers(names)
    if not names:
        return
    heads, rows = samples_of(summary, data, columns)
    for name in names:
        tracker = TRACKERS[name](out, out.stem)
        tracker.numbers(figures_of(summary))
        tracker.table(heads, rows)
        if summary.failure_rate > most_failures:
            reasons = "; ".join(str(group) for group in summary.failures[:3])
            words = f"{summary.failed} of {summary.failure_rate:.1%}: {reasons}"
            tracker.alarm("scores failed", words)
        tracker.end()


def figures_of(summary: Summary) -> dict[str, float]:
    """Figures of a run by name: "score/NAME/mean", ".../low", ".../failed", "source/SOURCE/NAME", ..."""
    found: dict[str, float] = {"run/rows": summary.rows, "run/failed": summary.failure_rate}
    for name, values in summary.values.items():
        one = mean_of(values, summary.units)
        found[f"score/{name}/mean"] = one.mean
        if one.interval is not None:
            found |= {f"score/{name}/low": one.interval.low, f"score/{name}/high": one.interval.high}
        counts = summary.statuses[name]
        found |= {f"failed/{name}/{status}": n for status, n in counts.items() if status != "ok"}
        for source in sorted(set(summary.sources)):
            if source:
                own = [v for v, its in zip(values, summary.sources, strict=True) if its == source]
                found[f"source/{source}/{name}"] = _mean(own)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def samples_of(summary: Summary, data: Path, columns: Columns | None) -> tuple[list[str], list[list[Any]]]:
    """Heads and rows of the table: the samples at both ends of each reward, with picture and prompt."""
    wanted: dict[int, None] = {}
    for values in summary.values.values():
        known = sorted((value, index) for index, value in enumerate(values) if math.isfinite(value))
        for _, index in (*known[:ENDS], *known[-ENDS:]):
            wanted[index] = None
    chosen = set(list(wanted)[:MOST])
    rows = []
    for index, row in enumerate(read_rows(data, columns)):
        if index in chosen and row.sample is not None:
            scores = [values[index] for values in summary.values.values()]
            told = [value if math.isfinite(value) else None for value in scores]
            rows.append([row.id, _picture(row.sample), row.sample.prompt, row.sample.response or "", *told])
    return ["id", "picture", "prompt", "response", *summary.values], rows


def _picture(sample: Any) -> Any:
    """The sample's picture or first frame, small; None without one that can be opened."""
    media = sample.image or sample.video
    if media is None:
        return None
    try:
        picture = media.picture()
    except Unscorable:  # its score says so
        return None
    picture.thumbnail((SIDE, SIDE))
    return picture


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _cell(value: Any) -> str:
    words = f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(words.split()).replace("|", "\\|")
