"""Tables of text that commands end with: a comparison of runs; the scores of a run are `monitor.tables`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..monitor.tables import aligned, ends
from ..types import Score

if TYPE_CHECKING:
    from mmreward.evals.report.compare import Comparison

NOTE = 160
"""Characters of a note that are printed."""
CHANGES = ("reward", "n", "before", "after", "change", "95 % interval", "better", "worse", "tied", "win rate")


def alone_table(scores: Mapping[str, Score]) -> str:
    """The scores of one sample: a line for each reward, with its note, or a failure's status and reason."""
    rows = [("reward", "score", "")]
    for name, score in scores.items():
        note = " ".join(score.note.split())
        rows.append((name, f"{score.value:.4g}" if score.ok else score.status, note[:NOTE]))
    return "\n".join(aligned(rows))


def comparison_table(found: Sequence["Comparison"]) -> str:
    """Comparisons: a block for each run, a line for each reward, then cautions and the largest moves."""
    lines: list[str] = []
    for run in dict.fromkeys(one.run for one in found):
        block = [one for one in found if one.run == run]
        if lines:
            lines.append("")
        lines.append(f"{run} against {block[0].first}")
        lines += aligned([CHANGES, *map(_change, block)])
        for one in block:
            lines += _remarks(one)
    return "\n".join(lines)


def _change(one: "Comparison") -> tuple[str, ...]:
    if not one.n:
        return (one.reward, "0", *["-"] * (len(CHANGES) - 2))
    figures = f"{one.before:.4g}", f"{one.after:.4g}", f"{one.change:+.4g}", ends(one.interval, "+")
    counts = str(one.better), str(one.worse), str(one.tied)
    return one.reward, str(one.n), *figures, *counts, f"{one.win_rate:.1%}"


def _remarks(one: "Comparison") -> Iterator[str]:
    for caution in one.cautions:
        yield f"  {one.reward}: {caution}"
    for label, moved in (("gained", one.gained), ("lost", one.lost)):
        if moved:
            yield f"  {one.reward}, {label} most: " + ", ".join(f"{name} ({by:+.3g})" for name, by in moved)
