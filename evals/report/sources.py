"""The page of a log of metrics by source: jumps, the newest figures in a table, curves of every source."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from mmreward.monitor.alarms import jumps
from mmreward.monitor.by_source import OVERALL, SOURCES, STEP, read_metrics

from .curves import Curve, figure
from .html import NAME_CHARS, number, render, text

Line = Mapping[str, float]

COLUMNS = {
    "n": "n",
    "score": "score",
    "accuracy": "accuracy",
    "failed": "failed",
    "unread": "not readable",
    "length/mean": "tokens",
    "groups/zero_variance": "groups without variance",
    "above_chance": "above chance",
}
"""Figure -> its head in the table."""
CURVES = {
    "score": ("score", "mean total"),
    "accuracy": ("accuracy", "0 to 1"),
    "format": ("format", "0 to 1"),
    "failed": ("failed scores", "share"),
    "unread": ("answers that could not be read", "share"),
    "groups/zero_variance": ("groups without variance", "share of groups"),
    "length/mean": ("length", "tokens"),
    "length/right/mean": ("length of what is right", "tokens"),
    "length/wrong/mean": ("length of what is wrong", "tokens"),
    "length/clip_ratio": ("cut off", "share"),
    "reflection/ratio": ("with reflection", "share"),
    "above_chance": ("above chance", "accuracy - chance"),
    "false_positives": ("paid though wrong", "share"),
    "false_negatives": ("not paid though right", "share"),
}
"""Figure -> its name on the page, and its unit."""
FAMILIES = ("iou/", "flag/", "component/", "perception/")
"""Figures that differ by source and are drawn under their own name."""


def sources_page(path: Path) -> str:
    """One HTML document.

    Raises:
        ValueError: the file holds no metrics, or a line that is none.
    """
    lines = read_metrics(path)
    names = sorted({name for line in lines for name in line if name != STEP})
    blocks = _blocks(names)
    if not blocks:
        raise ValueError(
            f"{path} holds no metrics by source: mmreward.monitor.by_source.append_metrics writes them"
        )
    heads = ("source", "step", *COLUMNS.values())
    return render(
        "sources.html",
        ("report.css", "training.css"),
        title=path.stem if path.stem != "metrics" else path.absolute().parent.name,
        steps=f"{len(lines):,}",
        first=f"{lines[0][STEP]:g}",
        last=f"{lines[-1][STEP]:g}",
        sources=f"{sum(block != OVERALL for block in blocks):,}",
        jumps=_jumps(lines),
        heads=heads,
        newest=[_newest(lines, block) for block in blocks],
        charts=[(_called(block), _figures(lines, block, names)) for block in blocks],
        file=path.name,
    )


def _blocks(names: Sequence[str]) -> list[str]:
    """Everything together first, then the sources by name."""
    found = {OVERALL for name in names if name.startswith(f"{OVERALL}/")}
    found |= {"/".join(name.split("/")[:2]) for name in names if name.startswith(f"{SOURCES}/")}
    return sorted(found, key=lambda block: (block != OVERALL, block))


def _called(block: str) -> str:
    return "all sources" if block == OVERALL else block.removeprefix(f"{SOURCES}/")


def _jumps(lines: Sequence[Line]) -> list[tuple[str, float, str]]:
    """(metric, value, deviations) of those that jumped at the newest step, the farthest first."""
    found = sorted(jumps(lines).items(), key=lambda item: -abs(item[1]))
    return [(name, lines[-1][name], f"{away:+.1f}") for name, away in found]


def _newest(lines: Sequence[Line], block: str) -> list[Markup | str]:
    """The newest values of a source, which may be older than the newest step."""
    seen = [line for line in lines if f"{block}/n" in line or f"{block}/score" in line]
    line = seen[-1] if seen else {}
    cells = [_cell(figure, line.get(f"{block}/{figure}", math.nan)) for figure in COLUMNS]
    return [text(_called(block), NAME_CHARS), f"{line[STEP]:g}" if line else number(math.nan), *cells]


def _cell(name: str, value: float) -> str:
    return f"{value:,.0f}" if name == "n" and math.isfinite(value) else number(value)


def _figures(lines: Sequence[Line], block: str, names: Sequence[str]) -> list[Markup]:
    """The curves of a source."""
    own = [name.removeprefix(f"{block}/") for name in names if name.startswith(f"{block}/")]
    wanted = {name: labels for name, labels in CURVES.items() if name in own}
    wanted |= {name: (name, "mean") for name in own if name.startswith(FAMILIES)}
    return [
        figure(
            Curve(
                name=called,
                x=[line[STEP] for line in lines],
                y=[line.get(f"{block}/{name}", math.nan) for line in lines],
                unit=unit,
                along="step",
                reach=(0.0,),
            )
        )
        for name, (called, unit) in wanted.items()
    ]
