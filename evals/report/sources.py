"""The page of a log of metrics by source: the newest figures in a table, then curves of every source."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmreward.monitor.alarms import jumps
from mmreward.monitor.by_source import OVERALL, SOURCES, STEP, read_metrics

from .curves import Curve, figure
from .html import NAME_CHARS, TEXT_CHARS, count, framed, made_by, number, table, text

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
"""Figure -> what it is called, and its unit."""
FAMILIES = ("iou/", "flag/", "component/", "perception/")
"""Figures that differ by source and are drawn as they are called."""


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
    title = path.stem if path.stem != "metrics" else path.absolute().parent.name
    sections = [_header(title, lines, blocks), _verdict(lines), _newest(lines, blocks)]
    sections += [_curves(lines, block, names) for block in blocks]
    sections.append(f"<footer><p>Log: <code>{text(path.name)}</code>.</p><p>{made_by()}.</p></footer>")
    return framed(title, "\n".join(sections), ("report.css", "training.css"))


def _blocks(names: Sequence[str]) -> list[str]:
    """Everything together first, then the sources by name."""
    found = {OVERALL for name in names if name.startswith(f"{OVERALL}/")}
    found |= {"/".join(name.split("/")[:2]) for name in names if name.startswith(f"{SOURCES}/")}
    return sorted(found, key=lambda block: (block != OVERALL, block))


def _called(block: str) -> str:
    return "all sources" if block == OVERALL else block.removeprefix(f"{SOURCES}/")


def _header(title: str, lines: Sequence[Line], blocks: Sequence[str]) -> str:
    sources = sum(block != OVERALL for block in blocks)
    first, last = lines[0][STEP], lines[-1][STEP]
    facts = [
        ("steps", f"{len(lines):,}"),
        ("from", f"{first:g}"),
        ("to", f"{last:g}"),
        ("sources", f"{sources:,}"),
    ]
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f'<header><h1 dir="auto">{text(title)}</h1><dl class="facts">{shown}</dl></header>'


def _verdict(lines: Sequence[Line]) -> str:
    """What jumped at the newest step."""
    found = jumps(lines)
    if not found:
        return ""
    said = "".join(
        f"<li><b>{text(name, NAME_CHARS)}</b> {number(lines[-1][name])}: {away:+.1f} deviations</li>"
        for name, away in sorted(found.items(), key=lambda item: -abs(item[1]))
    )
    heading = f"{count(len(found), 'figure')} left what the ten steps before span"
    listed = f'<ul class="reasons">{said}</ul>'
    return f'<section class="verdict warn"><h2 id="jumps">{heading}</h2>{listed}</section>'


def _newest(lines: Sequence[Line], blocks: Sequence[str]) -> str:
    """The newest value of every source, which may be older than the newest step."""
    rows = []
    for block in blocks:
        seen = [line for line in lines if f"{block}/n" in line or f"{block}/score" in line]
        line = seen[-1] if seen else {}
        cells = [_cell(figure, line.get(f"{block}/{figure}", math.nan)) for figure in COLUMNS]
        step = f"{line[STEP]:g}" if line else number(math.nan)
        rows.append([text(_called(block), NAME_CHARS), step, *cells])
    caption = "The newest step of each source. Scores are means of those that worked; shares are of all."
    body = table(caption, ("source", "step", *COLUMNS.values()), rows)
    return f'<section><h2 id="newest">By source</h2>{body}</section>'


def _cell(name: str, value: float) -> str:
    return f"{value:,.0f}" if name == "n" and math.isfinite(value) else number(value)


def _curves(lines: Sequence[Line], block: str, names: Sequence[str]) -> str:
    own = [name.removeprefix(f"{block}/") for name in names if name.startswith(f"{block}/")]
    wanted = {name: told for name, told in CURVES.items() if name in own}
    wanted |= {name: (name, "mean") for name in own if name.startswith(FAMILIES)}
    figures = "".join(
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
    )
    return (
        f'<section><h2>{text(_called(block), TEXT_CHARS)}</h2><div class="curves">{figures}</div></section>'
    )
