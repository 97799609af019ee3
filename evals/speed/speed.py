"""Speed of the engine beside the code its users would otherwise write, in one run: `mmreward bench`.

`bench` runs the workloads, holds their ratios against `BARS`, and prints a table, Markdown or JSON. What each
contender does, and what each figure means, is in evals/speed.md. Knows nothing of networks.
"""

import json
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import torch
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from mmreward import Engine

from .contest import Timing, Workload, contest, device_of, limit
from .inputs import SCALES, Checkpoints, texts
from .workloads import NAMES, Workloads

Rival = Literal["loop", "batches", "bare"]
TOLERANCE = 1e-4
"""Values may differ from the loop's by this much in float32; other types round more coarsely."""


@dataclass(frozen=True, slots=True)
class Bar:
    """The engine must be at least `times` as fast as the rival on workloads whose name matches."""

    workload: str
    rival: Rival
    times: float

    def __str__(self) -> str:
        if self.rival == "bare":
            return f"at least {self.times:.0%} of the bare forward's speed"
        return f"{self.times:g}x over {'the loop' if self.rival == 'loop' else 'batches'}"


BARS = (
    Bar("checklist K=8", "loop", 6.0),
    Bar("checklist K=8", "batches", 5.0),
    Bar("listener G=8", "loop", 4.0),
    Bar("visionreward K=30", "loop", 10.0),
    Bar("five CLIP rewards", "batches", 3.5),
    Bar("five rewards, three towers", "loop", 3.0),
    Bar("checklist K=8|listener G=8|five CLIP rewards|five rewards, three towers", "bare", 0.95),
)


@dataclass(frozen=True, slots=True)
class BarResult:
    """A bar, and the ratio that was measured."""

    bar: Bar
    measured: float

    @property
    def met(self) -> bool:
        return self.measured >= self.bar.times

    def __str__(self) -> str:
        measured = f"{self.measured:.0%}" if self.bar.rival == "bare" else f"{self.measured:.1f}x"
        return f"{self.bar}: {measured} {'met' if self.met else 'MISSED'}"


def ratio(timings: Mapping[str, Timing], rival: Rival) -> float:
    """Speed of the engine as a multiple of the rival's, by the medians."""
    return timings[rival].median / timings["engine"].median


def bar_results(workload: str, timings: Mapping[str, Timing]) -> list[BarResult]:
    """The bars of this workload, measured, as far as their rivals ran."""
    bars = (bar for bar in BARS if re.fullmatch(bar.workload, workload) and bar.rival in timings)
    return [BarResult(bar, ratio(timings, bar.rival)) for bar in bars]


def equal(timings: Mapping[str, Timing], tolerance: float = TOLERANCE) -> bool:
    """True when every contender computed the values of the loop."""
    return all(timing.difference <= tolerance for timing in timings.values())


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
bare forward's speed, and the largest difference of any value from the loop's, or where it did not run from
another rival's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The machine and the options of a comparison."""

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
class WorkloadResult:
    """One workload's timings; `limit` is the seconds the device's peak rate would take, None if unknown."""

    workload: str
    timings: Mapping[str, Timing]
    flops: int
    limit: float | None

    @property
    def bars(self) -> list[BarResult]:
        return bar_results(self.workload, self.timings)


def cells(line: WorkloadResult, tolerance: float) -> list[str]:
    """A workload's entries under COLUMNS; "-" under those of rivals that did not run."""
    timings = line.timings
    rivals = get_args(Rival)
    times = [f"{timings[name].median:.3f}" if name in timings else "-" for name in (*rivals, "engine")]
    apart = max(timing.difference for timing in line.timings.values())
    mark = "" if equal(line.timings, tolerance) else " MISSED"
    return [
        line.workload,
        *times,
        *(
            format(ratio(timings, name), ".0%" if name == "bare" else ".2f") if name in timings else "-"
            for name in rivals
        ),
        f"{apart:.1e}{mark}",
    ]


def table(lines: list[WorkloadResult], setting: Setting) -> Table:
    """The table for a terminal."""
    shown = Table(*COLUMNS, title=str(setting), box=None, padding=(0, 1, 0, 0))
    for line in lines:
        shown.add_row(*cells(line, setting.tolerance))
    return shown


def markdown(lines: list[WorkloadResult], setting: Setting) -> str:
    """The table for a document, then one line for each bar."""
    rows = [list(COLUMNS), ["---"] * len(COLUMNS), *(cells(line, setting.tolerance) for line in lines)]
    body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{setting}\n\n{body}\n\n" + "\n".join(f"- {text}" for text in notes(lines))


def notes(lines: list[WorkloadResult]) -> list[str]:
    """Every bar with met or MISSED, and the device's own limit where it is known."""
    found = [f"{line.workload}: {result}" for line in lines for result in line.bars]
    for line in lines:
        if line.limit is not None:
            engine = line.timings["engine"].median
            found.append(
                f"{line.workload}: {line.flops / 1e12:.2f} TFLOP, {line.flops / engine / 1e12:.1f} TFLOP/s; "
                f"the device's limit is {line.limit:.4f} s, {line.limit / engine:.0%} of it reached"
            )
    return found


def as_json(lines: list[WorkloadResult], setting: Setting) -> dict[str, Any]:
    """Everything measured: `workloads` by name, and the setting's fields beside it."""
    workloads = {
        line.workload: {
            **{name: timing.seconds for name, timing in line.timings.items()},
            "difference": {name: timing.difference for name, timing in line.timings.items()},
            "chosen": {name: timing.chosen for name, timing in line.timings.items()},
            "equal": equal(line.timings, setting.tolerance),
            "bars": [{"bar": str(v.bar), "measured": v.measured, "met": v.met} for v in line.bars],
            "flops": line.flops,
            "limit_seconds": line.limit,
        }
        for line in lines
    }
    return {"workloads": workloads, **asdict(setting)}


COARSE = 5e-2
"""Distance allowed in bfloat16 or float16, where equal sums rounded in another order differ."""


def bench(
    scale: str = "small",
    device: str = "auto",
    dtype: str = "float32",
    only: Sequence[str] = (),
    repeats: int = 3,
    out: Path | None = None,
    as_markdown: bool = False,
    against: Sequence[str] = (),
    pictures: int | None = None,
    words: int | None = None,
) -> bool:
    """Run the workloads, print the table, write the JSON; True when every contender computed the same.

    Args:
        scale: a key of SCALES.
        device: "auto", "cpu", "cuda", ...
        dtype: of all networks.
        only: names of the workloads to run, or how they begin; none means all.
        repeats: timed rounds, 3 or more for a figure worth quoting.
        out: where the JSON goes; written anew after each workload.
        as_markdown: print markdown instead of a table.
        against: rivals that run, "loop", "batches" or "bare"; none means all. Against one of them there is
            time for many rounds.
        pictures: of a judge's round, in place of the scale's: large networks on a slow machine.
        words: tokens of a critique, likewise.

    Raises:
        ValueError: no such scale, dtype, workload or rival, or less than one round, picture or word.
    """
    if scale not in SCALES or dtype not in ("float32", "bfloat16", "float16") or repeats < 1:
        raise ValueError(
            f"scale is one of {', '.join(SCALES)}, dtype float32, bfloat16 or float16, repeats 1 or more; "
            f"not {scale!r}, {dtype!r}, {repeats}"
        )
    given = {name: count for name, count in (("pictures", pictures), ("words", words)) if count is not None}
    if short := [name for name, count in given.items() if count < 1]:
        raise ValueError(f"{short[0]} is 1 or more, not {given[short[0]]}")
    size = SCALES[scale]
    size = replace(size, pictures=pictures or size.pictures, words=words or size.words)
    known = get_args(Rival)
    if unknown := sorted(set(against) - set(known)):
        raise ValueError(f"against is one of {', '.join(known)}, not {unknown[0]!r}")
    names = _chosen(NAMES, only)
    console = Console(stderr=as_markdown)
    disable_progress_bar()
    place = device_of(device)
    setting = _setting(
        ", ".join([scale, *(f"{count} {name}" for name, count in given.items())]), place, dtype
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="mmreward-bench-")))
        console.print(f"random weights of scale {scale}")
        places = Checkpoints(folder, size, texts(), getattr(torch, dtype))
        workloads = Workloads(folder / "media", places, size, place, dtype)
        engine = stack.enter_context(Engine(str(place)))
        lines: list[WorkloadResult] = []
        for name in names:
            console.print(f"timing {name}")
            workload = workloads.make(name)
            lines.append(_timed(workload, engine, repeats, place, dtype, against or known))
            if out is not None:  # a run that is cut short keeps what it has measured
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(as_json(lines, setting), indent=1) + "\n", encoding="utf-8")
    if as_markdown:
        print(markdown(lines, setting))
    else:
        console.print(table(lines, setting))
        for text in notes(lines):
            console.print(text, highlight=False)
    return all(equal(line.timings, setting.tolerance) for line in lines)


def _timed(
    workload: Workload,
    engine: Engine,
    repeats: int,
    device: torch.device,
    dtype: str,
    against: Sequence[str],
) -> WorkloadResult:
    settle = _settler(device)
    everyone = workload.contenders(engine)
    contenders = {name: parts for name, parts in everyone.items() if name in (*against, "engine")}
    timings = contest(
        contenders,
        repeats,
        reference=next(iter(contenders)),
        settle=settle,
        shares=workload.shares,
        once=workload.once,
    )
    flops = workload.counted()
    return WorkloadResult(workload.name, timings, flops, limit(flops, device, dtype))


def _settler(device: torch.device) -> Callable[[], None]:
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def _chosen(names: Sequence[str], only: Sequence[str]) -> list[str]:
    """The workloads named in full, and those that begin with what is no name."""
    wanted: set[str] = set()
    for prefix in only:
        found = {prefix} & set(names) or {name for name in names if name.startswith(prefix)}
        if not found:
            raise ValueError(f"no workload begins with {prefix!r}; there are {', '.join(names)}")
        wanted |= found
    return [name for name in names if not only or name in wanted]


def _setting(scale: str, device: torch.device, dtype: str) -> Setting:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    packages = ("mmreward", "torch", "transformers", "pillow")
    return Setting(
        command=" ".join(["mmreward", *sys.argv[1:]]),
        scale=scale,
        device=name,
        dtype=dtype,
        threads=torch.get_num_threads(),
        date=time.strftime("%Y-%m-%d"),
        versions={package: version(package) for package in packages},
        tolerance=TOLERANCE if dtype == "float32" else COARSE,
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
