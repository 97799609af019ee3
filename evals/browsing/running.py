"""Runs of a set of tasks: one browser, one agent, a folder with what became of each.

The folder appears with the first task and holds `trajectories.jsonl`, whole after every task, `shots/`, and,
where an agent chose among candidates, `candidates.jsonl`.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmreward.data.pair_folder import refuse_present
from mmreward.files import whole_file
from mmreward.verifiers.spaces import Named, space_of

from .agents import BestOf
from .browser import Browser
from .tasks import MAX_STEPS, Agent, Outcome, Task, read_tasks, run_task, write_rows

TRAJECTORIES, SHOTS, CANDIDATES = "trajectories.jsonl", "shots", "candidates.jsonl"


def run_tasks(
    browser: Browser,
    tasks: Path,
    site: str,
    agent: Agent,
    out: Path,
    *,
    space: Named = "pixel",
    max_steps: int = MAX_STEPS,
    told: Callable[[str], Any] = lambda line: None,
) -> list[Outcome]:
    """Let an agent do every task of a file, and write what became of it.

    Args:
        browser: whose pages it sees.
        tasks: the file, see `tasks.read_tasks`.
        site: address that stands for `__SITE__`.
        agent: gives its next words for what it sees.
        out: a new folder.
        space: of the agent's coordinates.
        max_steps: after which a task ends.
        told: is given a line about each task.

    Raises:
        ValueError: `out` is not empty, there is no such space, or a task is none, or is there twice.
    """
    refuse_present(out)
    space_of(space)
    found = read_tasks(tasks, site)
    check_names(found, tasks)
    out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for task in found:
        begun = len(agent.chosen) if isinstance(agent, BestOf) else 0
        outcomes.append(run_task(browser, task, agent, out / SHOTS, space=space, max_steps=max_steps))
        write_rows(outcomes, out / TRAJECTORIES)
        if isinstance(agent, BestOf):
            for step, record in enumerate(agent.chosen[begun:]):
                record |= {"task": task.id, "step": step}
            _write(out / CANDIDATES, agent.chosen)
        told(line_of(outcomes[-1]))
    return outcomes


def check_names(tasks: Sequence[Task], file: Path) -> None:
    """Raises ValueError for a task's name that is there twice, or is no name of a file."""
    seen: set[str] = set()
    for task in tasks:
        if task.id in seen or Path(task.id).name != task.id or not task.id.strip("."):
            said = "is there twice" if task.id in seen else "is no name of a file"
            raise ValueError(f"{file}: the task_id {task.id!r} {said}")
        seen.add(task.id)


def line_of(outcome: Outcome) -> str:
    """What became of a task, in a line."""
    if outcome.success:
        why = ""
    elif outcome.trouble:
        why = f": the agent gave no words ({outcome.trouble})"
    elif outcome.before:
        why = ": its checks hold before anything is done"
    elif outcome.holds:
        why = ": its checks hold, and the agent did not say so"
    elif outcome.done:
        why = ": the agent says that it is done, and it is not"
    else:
        why = ": it is not done"
    word = "succeeded" if outcome.success else "failed"
    return f"{outcome.task.id}: {word} after {len(outcome.steps)} steps{why}"


def _write(path: Path, records: Sequence[Any]) -> None:
    with whole_file(path) as part:
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
