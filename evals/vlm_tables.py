"""What runs of `vlm_rl` say, in Markdown: one run with intervals over scenes, or several seeds together."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from .vlm_exam import Column, Exam, figure
from .vlm_tasks import Task


class Run(NamedTuple):
    """One training: its examinations in order, and how long all of it took."""

    seed: int
    exams: Sequence[Exam]
    minutes: float

    @property
    def ends(self) -> tuple[Exam, Exam]:
        return self.exams[0], self.exams[-1]


def gain(before: Column, after: Column) -> tuple[float, float]:
    """Points gained, and half the width of the paired 95 % interval."""
    difference = 100 * (after - before)
    return float(difference.mean()), 1.96 * float(difference.std(ddof=1)) / math.sqrt(len(difference))


def table(name: str, runs: Sequence[Run]) -> str:
    """One line per task, and one more where boxes are written."""
    return _one(name, runs[0]) if len(runs) == 1 else _several(name, runs)


def _one(name: str, run: Run) -> str:
    lines = [
        f"| {name}, {run.minutes:.1f} min | before | after | points (95 %) | n |",
        "|---|---|---|---|---|",
    ]
    first, last = run.ends
    for task, marks in first.marks.items():
        points, half = gain(marks, last.marks[task])
        lines.append(
            f"| {task}, {figure(task)} | {marks.mean():.3f} | {last.marks[task].mean():.3f} "
            f"| {points:+.1f} ({points - half:+.1f} to {points + half:+.1f}) | {len(marks)} |"
        )
    return "\n".join([*lines, *(f"{line} |  | {n} |" for line, n in _boxes([run]))])


def _several(name: str, runs: Sequence[Run]) -> str:
    seeds = ", ".join(str(run.seed) for run in runs)
    minutes = fmean(run.minutes for run in runs)
    lines = [
        f"| {name}, seeds {seeds}, {minutes:.1f} min each | before | after | points by seed | points | n |",
        "|---|---|---|---|---|---|",
    ]
    for task in runs[0].exams[0].marks:
        points = [gain(first.marks[task], last.marks[task])[0] for first, last in (run.ends for run in runs)]
        before, after = (_mean(task, [run.ends[end] for run in runs]) for end in (0, 1))
        by_seed = ", ".join(f"{value:+.1f}" for value in points)
        lines.append(
            f"| {task}, {figure(task)} | {before:.3f} | {after:.3f} | {by_seed} "
            f"| {fmean(points):+.1f} (sd {float(np.std(points, ddof=1)):.1f}) "
            f"| {len(runs)} x {len(runs[0].exams[0].marks[task])} |"
        )
    return "\n".join([*lines, *(f"{line} |  |  | {len(runs)} x {n} |" for line, n in _boxes(runs))])


def _mean(task: Task, exams: Sequence[Exam]) -> float:
    return fmean(float(exam.marks[task].mean()) for exam in exams)


def _boxes(runs: Sequence[Run]) -> list[tuple[str, int]]:
    """How many boxes were written before and after, and how many there are; and the number of scenes."""
    lines = []
    for task, true in runs[0].exams[0].true.items():
        before, after = (fmean(float(run.ends[end].written[task].mean()) for run in runs) for end in (0, 1))
        lines.append(
            (f"| {task}, boxes written of {true.mean():.2f} | {before:.2f} | {after:.2f}", len(true))
        )
    return lines
