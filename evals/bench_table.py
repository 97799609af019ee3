"""The outcome of a speed comparison as a table for people, as markdown, and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from .bench_bars import Verdict, equal, ratio, verdicts
from .bench_contest import Outcome

COLUMNS = (
    "workload",
    "loop s",
    "batch s",
    "bare s",
    "engine s",
    "x loop",
    "x batch",
    "of bare",
    "differ",
)
"""Median seconds of each contender, how many times as fast as the first two the engine is, its share of the
bare forward's speed, and the largest difference of any value from the loop's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where and how a comparison ran."""

    command: str
    scale: str
    device: str
    dtype: str
    threads: int
    date: str
    versions: Mapping[str, str]
    tolerance: float

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        place = f"{self.device}, {self.threads} threads, {self.dtype}, scale {self.scale}"
        return f"{place}; {versions}; {self.date}"


@dataclass(frozen=True, slots=True)
class Line:
    """One workload's outcome; `limit` is the seconds the device's peak rate would take, None if unknown."""

    workload: str
    outcomes: Mapping[str, Outcome]
    flops: int
    limit: float | None

    @property
    def verdicts(self) -> list[Verdict]:
        return verdicts(self.workload, self.outcomes)


def cells(line: Line, tolerance: float) -> list[str]:
    """The line's entries under COLUMNS."""
    times = [f"{line.outcomes[name].median:.3f}" for name in ("loop", "batches", "bare", "engine")]
    apart = max(outcome.difference for outcome in line.outcomes.values())
    mark = "" if equal(line.outcomes, tolerance) else " MISSED"
    return [
        line.workload,
        *times,
        f"{ratio(line.outcomes, 'loop'):.2f}",
        f"{ratio(line.outcomes, 'batches'):.2f}",
        f"{ratio(line.outcomes, 'bare'):.0%}",
        f"{apart:.1e}{mark}",
    ]


def table(lines: list[Line], setting: Setting) -> Table:
    """For a terminal."""
    made = Table(*COLUMNS, title=str(setting), box=None, padding=(0, 1, 0, 0))
    for line in lines:
        made.add_row(*cells(line, setting.tolerance))
    return made


def markdown(lines: list[Line], setting: Setting) -> str:
    """For a document: the table, then one line for each bar."""
    rows = [list(COLUMNS), ["---"] * len(COLUMNS), *(cells(line, setting.tolerance) for line in lines)]
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{setting}\n\n{body}\n\n" + "\n".join(f"- {text}" for text in notes(lines))


def notes(lines: list[Line]) -> list[str]:
    """Every bar with met or MISSED, and the device's own limit where it is known."""
    found = [f"{line.workload}: {verdict}" for line in lines for verdict in line.verdicts]
    for line in lines:
        if line.limit is not None:
            engine = line.outcomes["engine"].median
            found.append(
                f"{line.workload}: {line.flops / 1e12:.2f} TFLOP, {line.flops / engine / 1e12:.1f} TFLOP/s; "
                f"the device's limit is {line.limit:.4f} s, {line.limit / engine:.0%} of it reached"
            )
    return found


def as_json(lines: list[Line], setting: Setting) -> dict[str, Any]:
    """Everything measured: `workloads` by name, and the setting's fields beside it."""
    workloads = {
        line.workload: {
            **{name: outcome.seconds for name, outcome in line.outcomes.items()},
            "difference": {name: outcome.difference for name, outcome in line.outcomes.items()},
            "chosen": {name: outcome.chosen for name, outcome in line.outcomes.items()},
            "equal": equal(line.outcomes, setting.tolerance),
            "bars": [{"bar": str(v.bar), "measured": v.measured, "met": v.met} for v in line.verdicts],
            "flops": line.flops,
            "limit_seconds": line.limit,
        }
        for line in lines
    }
    return {"workloads": workloads, **asdict(setting)}
