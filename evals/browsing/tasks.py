"""Tasks in a browser with functional checks, in WebArena's form: what the pages say in the end decides.

A task is {task_id, intent, start_url, eval}, and `eval` has `eval_types`, all of which must hold:

- "string_match": the answer, by `reference_answers`: {"exact_match": text} or {"must_include": [texts]};
- "url_match": the address in the end holds `reference_url`;
- "program_html": for each of `program_html`, {"url": "last" or an address, "locator": JavaScript,
  "required_contents": {"exact_match": ..., "must_include": [...]}}, the value of the locator.

The agent succeeds only where it says that it is done; a task whose checks hold before its first action counts
as nobody's success. What the agent says is read by `verifiers.actions`, and what it cannot be read from costs
a step.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmreward.errors import Unscorable
from mmreward.files import whole_file
from mmreward.rewards.gui.candidates import candidate_of
from mmreward.rewards.gui.targets import view_of
from mmreward.types import Sample
from mmreward.verifiers.actions import read_actions
from mmreward.verifiers.spaces import Named, space_of
from mmreward.verifiers.text import normalise

from .browser import Browser
from .recording import ELEMENTS

SITE = "__SITE__"
"""Stands in addresses for that of the site."""
KINDS = ("string_match", "url_match", "program_html")
MAX_STEPS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task.

    Args:
        id: its number or name.
        intent: what is to be done, in words.
        start: address of the first page.
        checks: WebArena's `eval`.
    """

    id: str
    intent: str
    start: str
    checks: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an agent is given.

    Args:
        intent: what is to be done.
        screenshot: the screen as PNG.
        width, height: of the screen.
        said: what the agent said before.
        url: address of the page.
        tree: the page as text, its accessibility tree.
        elements: what can be hit, as `recording` lists it: name, role, x, y, width, height.
        steps: what was done, as `Outcome.steps`.
    """

    intent: str
    screenshot: bytes
    width: int
    height: int
    said: tuple[str, ...]
    url: str = ""
    tree: str = ""
    elements: tuple[Mapping[str, Any], ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()


Agent = Callable[[Seen], str]


class AgentError(ValueError):
    """Raised by an agent that gives no words: the task ends there, and failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a task.

    Args:
        success: all checks hold, and the agent said that it is done; never where they held before.
        holds: all checks hold in the end, whatever the agent said.
        before: they held before its first action.
        done: it said that it is done.
        answer: what it answered.
        steps: {"observation": picture, "action": facts in fractions, "thought", "url", "axtree", "said": all
            words, "note": why nothing was done}, as `Sample.steps` has them. Words that are no one action
            stand in its place.
        trouble: why the agent gave no more words; "" where it always did.
    """

    task: Task
    success: bool
    holds: bool
    before: bool
    done: bool
    answer: str
    steps: tuple[Mapping[str, Any], ...]
    trouble: str = ""


def write_rows(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write trajectories as JSONL rows that `mmreward score` reads, pictures relative to the file.

    `success`, `holds`, `done`, `answer` and `trouble` go into `meta`, as columns of their own.
    """
    with whole_file(path) as part, part.open("w", encoding="utf-8") as file:
        for one in outcomes:
            steps = [
                {**step, "observation": Path(os.path.relpath(step["observation"], path.parent)).as_posix()}
                for step in one.steps
            ]
            facts: dict[str, Any] = {
                "success": one.success, "holds": one.holds, "done": one.done, "answer": one.answer,
            }  # fmt: skip
            facts |= {"trouble": one.trouble} if one.trouble else {}
            row = {"id": one.task.id, "prompt": one.task.intent, "steps": steps, **facts}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_tasks(path: Path, site: str = "") -> list[Task]:
    """The tasks of a JSON list.

    Args:
        path: of the file.
        site: address that stands for `__SITE__`.

    Raises:
        ValueError: a task without its fields, or a check of an unknown kind.
    """
    found = json.loads(path.read_text(encoding="utf-8").replace(SITE, site.rstrip("/")))
    if not isinstance(found, list):
        raise ValueError(f"{path} is no list of tasks")
    return [_task(one, f"{path}, task {number}") for number, one in enumerate(found)]


def _task(given: Any, where: str) -> Task:
    if not isinstance(given, Mapping) or not {"task_id", "intent", "start_url", "eval"} <= given.keys():
        raise ValueError(f"{where} has no task_id, intent, start_url and eval")
    kinds = given["eval"].get("eval_types") or []
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds:
        raise ValueError(f"{where}: eval_types are some of {', '.join(KINDS)}, not {unknown or 'none'}")
    return Task(
        id=str(given["task_id"]),
        intent=str(given["intent"]),
        start=str(given["start_url"]),
        checks=given["eval"],
    )


def holds(browser: Browser, task: Task, answer: str) -> bool:
    """True where all checks of a task hold on the pages as they are."""
    checks = task.checks
    for kind in checks["eval_types"]:
        if kind == "string_match" and not _matches(answer, checks["reference_answers"]):
            return False
        if kind == "url_match" and str(checks["reference_url"]) not in browser.url:
            return False
        if kind == "program_html" and not all(_program(browser, one) for one in checks["program_html"]):
            return False
    return True


def _program(browser: Browser, check: Mapping[str, Any]) -> bool:
    if check.get("url", "last") != "last":
        browser.open(str(check["url"]))
    value = browser.evaluate(str(check["locator"]))
    return _matches("" if value is None else str(value), check["required_contents"])


def _matches(text: str, wanted: Mapping[str, Any]) -> bool:
    """True where a text is what is wanted; an empty one never is, unless that is wanted word for word."""
    given = normalise(text)
    if "exact_match" in wanted:
        return given == normalise(str(wanted["exact_match"]))
    parts: Sequence[Any] = wanted["must_include"]
    return bool(parts) and all(normalise(str(part)) in given for part in parts)


def run_task(
    browser: Browser,
    task: Task,
    agent: Agent,
    folder: Path,
    *,
    space: Named = "pixel",
    max_steps: int = MAX_STEPS,
) -> Outcome:
    """Let an agent do a task.

    Args:
        browser: whose screen it sees; storage of the page is emptied before.
        task: to do.
        agent: gives its next words for what it sees.
        folder: for the screenshots, "TASK-STEP.png".
        space: of the agent's coordinates.
        max_steps: after which the task ends.
    """
    browser.open(task.start)
    browser.evaluate("localStorage.clear(), sessionStorage.clear()")
    browser.open(task.start)
    before = holds(browser, task, "")
    if not before and "program_html" in task.checks["eval_types"]:
        browser.open(task.start)
    about = Sample(meta={"size": (browser.height, browser.width)})
    view = view_of(space_of(space), about)
    folder.mkdir(parents=True, exist_ok=True)
    steps: list[dict[str, Any]] = []
    said: list[str] = []
    done, answer, trouble = False, "", ""
    while len(steps) < max_steps and not done:
        picture = folder / f"{task.id}-{len(steps):02d}.png"
        seen = seen_now(browser, task, said, steps)
        picture.write_bytes(seen.screenshot)
        try:
            words = agent(seen)
        except AgentError as failure:
            trouble = str(failure)
            break
        said.append(words)
        step: dict[str, Any] = {"observation": str(picture), "action": words, "url": seen.url,
                                "axtree": seen.tree, "said": words}  # fmt: skip
        steps.append(step)
        try:
            step["thought"] = candidate_of(words).thought
            actions = read_actions(words, view)
            if len(actions) != 1:
                raise Unscorable(f"{len(actions)} actions in one step", "unparsable")
            step["action"] = actions[0].facts()
            browser.perform(actions[0])
        except Unscorable as failure:
            step["note"] = str(failure)
            continue
        if actions[0].type in ("answer", "finish"):
            done, answer = actions[0].status in ("", "success"), actions[0].text
            break
    kept = holds(browser, task, answer)
    return Outcome(
        task=task, success=kept and done and not before, holds=kept, before=before, done=done,
        answer=answer, steps=tuple(steps), trouble=trouble,
    )  # fmt: skip


def seen_now(
    browser: Browser, task: Task, said: Sequence[str] = (), steps: Sequence[Mapping[str, Any]] = ()
) -> Seen:
    """What an agent is given of the page as it is."""
    return Seen(
        intent=task.intent, screenshot=browser.screenshot(), width=browser.width, height=browser.height,
        said=tuple(said), url=browser.url, tree=browser.tree(), elements=tuple(browser.evaluate(ELEMENTS)),
        steps=tuple(steps),
    )  # fmt: skip
