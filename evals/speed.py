"""The engine against what its users would otherwise write, side by side in one run: `mmreward bench`.

What each contender does, and what each figure means, is in speed.md beside this file.
"""

import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from mmreward import Engine

from .bench_bars import TOLERANCE, equal
from .bench_contest import contest
from .bench_limits import count, limit
from .bench_samples import texts
from .bench_scales import SCALES
from .bench_table import Line, Setting, as_json, markdown, notes, table
from .bench_tasks import resolve_device
from .bench_weights import save_all
from .bench_workloads import Workload
from .bench_workshop import NAMES, Workshop

COARSE = 5e-2
"""How far values may lie apart in bfloat16 or float16, where equal sums rounded in another order differ."""


def bench(
    scale: str = "small",
    device: str = "auto",
    dtype: str = "float32",
    only: Sequence[str] = (),
    repeats: int = 3,
    out: Path | None = None,
    as_markdown: bool = False,
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

    Raises:
        ValueError: no such scale, dtype or workload, or less than one round.
    """
    if scale not in SCALES or dtype not in ("float32", "bfloat16", "float16") or repeats < 1:
        raise ValueError(
            f"scale is one of {', '.join(SCALES)}, dtype float32, bfloat16 or float16, repeats 1 or more; "
            f"not {scale!r}, {dtype!r}, {repeats}"
        )
    names = _chosen(NAMES, only)
    console = Console(stderr=as_markdown)
    disable_progress_bar()
    place = resolve_device(device)
    setting = _setting(scale, place, dtype)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="mmreward-bench-")))
        console.print(f"drawing random weights of scale {scale}")
        places = save_all(folder, SCALES[scale], texts(), getattr(torch, dtype))
        workshop = Workshop(folder / "media", places, SCALES[scale], place, dtype)
        engine = stack.enter_context(Engine(str(place)))
        lines: list[Line] = []
        for name in names:
            console.print(f"timing {name}")
            lines.append(_run(workshop.make(name), engine, repeats, place, dtype))
            if out is not None:  # a run that is cut short keeps what it has measured
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(as_json(lines, setting), indent=1) + "\n", encoding="utf-8")
    if as_markdown:
        print(markdown(lines, setting))
    else:
        console.print(table(lines, setting))
        for text in notes(lines):
            console.print(text, highlight=False)
    return all(equal(line.outcomes, setting.tolerance) for line in lines)


def _run(workload: Workload, engine: Engine, repeats: int, device: torch.device, dtype: str) -> Line:
    settle = _settler(device)
    outcomes = contest(workload.contenders(engine), repeats, reference="loop", settle=settle)
    flops = sum(count(task.bare(workload.draw(0), 1)) for task in workload.tasks)
    return Line(workload.name, outcomes, flops, limit(flops, device, dtype))


def _settler(device: torch.device) -> Callable[[], None]:
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def _chosen(names: Sequence[str], only: Sequence[str]) -> list[str]:
    """The workloads named in full, and those that begin with what is no name."""
    wanted: set[str] = set()
    for asked in only:
        found = {asked} & set(names) or {name for name in names if name.startswith(asked)}
        if not found:
            raise ValueError(f"no workload begins with {asked!r}; there are {', '.join(names)}")
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
