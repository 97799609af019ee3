"""Reward code written by a language model from a task and a few labelled episodes: `mmreward design` (after
Auto MC-Reward, arXiv:2312.09238).

Three roles in turn. A designer writes `def reward(steps, task)`. A critic, who has not seen the conversation,
says whether that code is about the task. An analyst, which is no model, runs it over episodes that succeeded
and failed and says which failures it pays most. What they found goes to the designer, who tries again; the
draft that tells success from failure best is kept. Half of the episodes are never shown, and say what it is
worth.

The code is checked and runs confined from the first draft on (`isolation.confined`). It is written to a file
for somebody to read: nothing loads it by itself.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from ..data.columns import Columns
from ..data.rows import read_rows
from ..engine.engine import Engine
from ..files import whole_file
from ..loading import load
from ..models.vlms.asks import Turn
from ..rewards.robot.code import plain, read_code
from ..types import Sample, Score

if TYPE_CHECKING:
    from ..models.vlms.answers import VLM

FEWEST = 2
"""Episodes of success, and of failure, in each half."""
SHOWN = 600
"""Characters of a step that the designer is shown."""
BLOCK = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)```", re.DOTALL)
DESIGN = """An agent is to learn this task: {task}

Write the reward in Python: one function `def reward(steps, task)`. `steps` is the list of an episode's \
steps so far, dictionaries with these keys; the first step of one episode:
{example}
Return a list with one number for each step: dense, higher where the step brings the task nearer to its end, \
and highest where it is done. Do not pay for what can be repeated for nothing.

Only plain functions, loops and expressions are run, with `math` there already: no import, no class, no \
file, no name that begins with an underscore. A key may be missing in some steps. Answer with one block of \
code."""
CRITIC = """This function is to reward an agent for this task: {task}

{source}

The first step of an episode, as the function is given it:
{example}

Does it pay for the task, for all of it, and for nothing else? Look for keys that are not there, wrong \
signs, numbers that never change, and rewards that an agent can collect without doing the task. Answer with \
OK alone, or with a short list of what is wrong."""


@dataclass(frozen=True, slots=True)
class Designing:
    """How code is designed.

    Args:
        rounds: drafts at most, 1 at least.
        label: key of `meta`, or "target", that says whether an episode succeeded: true or false, or a number.
        right: numbers from here up are success.
        critic: ask the critic.
        temperature, max_tokens: of the model.
        seed: of the model, and of which episodes are held out.
        side, seconds: as for the reward `code`.

    Raises:
        ValueError: a number out of range.
    """

    rounds: int = 4
    label: str = "success"
    right: float = 0.5
    critic: bool = True
    temperature: float = 0.7
    max_tokens: int = 2048
    seed: int = 0
    side: int = 0
    seconds: float = 2.0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}: 1 at least")


class Draft(NamedTuple):
    """Code, what is wrong with it ("" for nothing), and its AUROC on the episodes that were shown."""

    source: str
    problem: str
    auroc: float | None = None


@dataclass(frozen=True, slots=True)
class DesignSummary:
    """Summary of a design: each draft's figure or fault, and the AUROC of the one that was kept, on episodes
    that were shown and that were not."""

    drafts: tuple[str, ...]
    kept: int
    shown: float
    held_out: float | None
    episodes: tuple[int, int]
    """Held out: successes and failures."""
    out: Path

    def __str__(self) -> str:
        lines = [f"draft {number}: {said}" for number, said in enumerate(self.drafts, 1)]
        good, bad = self.episodes
        found = "undefined" if self.held_out is None else f"{self.held_out:.3f}"
        lines += [
            f"kept draft {self.kept + 1}: AUROC {self.shown:.3f} where it was written, {found} on "
            f"{good} successes and {bad} failures that were held out",
            f"-> {self.out}: read it before an agent is paid by it",
        ]
        return "\n".join(lines)


def design(
    data: Path,
    out: Path,
    engine: Engine,
    model: "VLM",
    task: str = "",
    how: Designing | None = None,
    *,
    columns: Columns | None = None,
) -> DesignSummary:
    """Let a model write reward code and write the best draft to the new file `out`.

    Args:
        data: as `mmreward score` reads it: episodes with steps, some of which succeeded.
        out: ends in .py.
        engine: runs the model and the code.
        model: writes; no picture is shown to it.
        task: in words; "" for the prompt that all episodes have.
        how: see there.
        columns: see `read_rows`.

    Raises:
        ValueError: data that cannot be read, too few successes or failures, several tasks and none named, an
            `out` that is there, or no draft that ran.
        Unscorable: the model gave no answer.
    """
    how = how or Designing()
    if out.suffix != ".py":
        raise ValueError(f"{out} does not end in .py")
    if out.exists():
        raise ValueError(f"{out} is there already: give the code another name")
    samples = [row.sample for row in read_rows(data, columns) if row.sample is not None and row.sample.steps]
    shown, hidden = _halves(samples, [_succeeded(sample, how) for sample in samples], how.seed)
    task = task or _task(samples)
    with TemporaryDirectory() as folder:
        room = _Room(engine, model, task, how, Path(folder) / "draft.py", _example(samples[0]))
        drafts = room.drafts(shown)
        ran = [number for number, draft in enumerate(drafts) if draft.auroc is not None]
        if not ran:
            raise ValueError(f"no draft of {model.name} could be used; the last: {drafts[-1].problem}")
        best = max(ran, key=lambda number: drafts[number].auroc or 0.0)
        measured = room.measured(drafts[best].source, hidden)[1]
    kept = drafts[best]
    assert kept.auroc is not None
    held = [label for _, label in hidden]
    said = f"Reward code for: {' '.join(task.split())[:200]}"
    by = f"Written by {model.name}; AUROC {kept.auroc:.3f} where it was written, {measured} held out."
    with whole_file(out) as part:
        part.write_text(f"# {said}\n# {by}\n{kept.source.rstrip()}\n", encoding="utf-8")
    return DesignSummary(
        drafts=tuple(_said(draft) for draft in drafts),
        kept=best,
        shown=kept.auroc,
        held_out=measured,
        episodes=(sum(held), len(held) - sum(held)),
        out=out,
    )


def _said(draft: Draft) -> str:
    figure = "" if draft.auroc is None else f"AUROC {draft.auroc:.3f}"
    problem = " ".join(draft.problem.split())[:120]
    return "; ".join(part for part in (figure, problem) if part)


def code_of(text: str) -> str:
    """The code in what a model wrote: its last block, or all of it where it has none."""
    blocks = BLOCK.findall(text)
    return (blocks[-1] if blocks else text).strip() + "\n"


def auroc(good: Sequence[float], bad: Sequence[float]) -> float | None:
    """Probability that a success has a higher value than a failure, ties 0.5; None where there is none.

    >>> auroc([2.0, 1.0], [1.0, 0.0])
    0.875
    """
    if not good or not bad:
        return None
    wins = sum((one > other) + 0.5 * (one == other) for one in good for other in bad)
    return wins / (len(good) * len(bad))


# --- episodes -----------------------------------------------------------------------------------------------

Labelled = tuple[Sample, bool]


def _succeeded(sample: Sample, how: Designing) -> bool:
    found = sample.target if how.label == "target" else sample.meta.get(how.label)
    if not isinstance(found, bool | int | float):
        raise ValueError(f"row {sample.id!r} has {found!r} in {how.label!r}: true, false or a number")
    return bool(found) if isinstance(found, bool) else found >= how.right


def _halves(
    samples: Sequence[Sample], labels: Sequence[bool], seed: int
) -> tuple[list[Labelled], list[Labelled]]:
    """Episodes to show and to hold out, half of the successes and half of the failures each."""
    halves: tuple[list[Labelled], list[Labelled]] = ([], [])
    for wanted, name in ((True, "successes"), (False, "failures")):
        found = [(sample, label) for sample, label in zip(samples, labels, strict=True) if label is wanted]
        if len(found) < 2 * FEWEST:
            raise ValueError(
                f"there are {len(found)} {name} with steps; it takes {2 * FEWEST}, half held out"
            )
        Random(seed).shuffle(found)
        for place, one in enumerate(found):
            halves[place % 2].append(one)
    return halves


def _task(samples: Sequence[Sample]) -> str:
    tasks = {sample.prompt.strip() for sample in samples}
    if len(tasks) != 1 or not all(tasks):
        raise ValueError(f"the episodes have {len(tasks - {''})} tasks: say which with --task")
    return tasks.pop()


def _example(sample: Sample) -> str:
    return json.dumps(plain(sample.steps)[0])[:SHOWN]


# --- the three roles ----------------------------------------------------------------------------------------


class _Room:
    """Designer, critic and analyst of one task."""

    def __init__(
        self, engine: Engine, model: "VLM", task: str, how: Designing, file: Path, example: str
    ) -> None:
        self.engine, self.model, self.task, self.how, self.file = engine, model, task, how, file
        pixels = ', "pixels": rows of [red, green, blue]' if how.side else ""
        self.example = example + pixels

    def drafts(self, episodes: Sequence[Labelled]) -> list[Draft]:
        question = DESIGN.format(task=self.task, example=self.example)
        history: list[Turn] = []
        drafts: list[Draft] = []
        for number in range(self.how.rounds):
            said = self._write(question, number, history)
            history.append(Turn(question, said))
            source = code_of(said)
            fault, value = self.measured(source, episodes)
            if not fault and self.how.critic:
                asked = CRITIC.format(task=self.task, source=source, example=self.example)
                opinion = self._write(asked, number).strip()
                fault = "" if opinion.upper().rstrip(".!") == "OK" else f"A reviewer says: {opinion[:1500]}"
            drafts.append(Draft(source, fault, value))
            if value == 1.0 and not fault:
                break
            question = self._feedback(drafts[-1], episodes)
        return drafts

    def _write(self, question: str, number: int, history: Sequence[Turn] = ()) -> str:
        how = self.how
        asked = self.model.write(
            None,
            question,
            max_tokens=how.max_tokens,
            temperature=how.temperature,
            seed=how.seed + number,
            history=history,
        )
        return self.engine.run(asked).text

    def scores(self, source: str, episodes: Sequence[Labelled]) -> list[Score]:
        """Of the code on episodes.

        Raises:
            ValueError: code that is refused.
        """
        self.file.write_text(source, encoding="utf-8")
        read_code(str(self.file))
        reward = load("code", file=str(self.file), side=self.how.side, seconds=self.how.seconds)
        return self.engine.score([sample for sample, _ in episodes], reward, check=False)["code"]

    def measured(self, source: str, episodes: Sequence[Labelled]) -> tuple[str, float | None]:
        """What is wrong with code, and its AUROC; None where it is refused or any episode fails."""
        try:
            scores = self.scores(source, episodes)
        except ValueError as error:
            return str(error).removeprefix(f"{self.file}: "), None
        failed = [score.note for score in scores if not score.ok]
        if failed:
            return f"It fails on {len(failed)} of {len(scores)} episodes, such as: {failed[0]}", None
        values = [(score.value, label) for score, (_, label) in zip(scores, episodes, strict=True)]
        good, bad = ([value for value, label in values if label is wanted] for wanted in (True, False))
        return "", auroc(good, bad)

    def _feedback(self, draft: Draft, episodes: Sequence[Labelled]) -> str:
        found = [draft.problem] if draft.problem else []
        if draft.auroc is not None:
            scores = self.scores(draft.source, episodes)
            ranked = sorted(zip(scores, episodes, strict=True), key=lambda one: one[0].value)
            worst = next(one for one in reversed(ranked) if not one[1][1])
            least = next(one for one in ranked if one[1][1])
            found.append(
                f"A success is above a failure in {draft.auroc:.0%} of pairs. The failure that is paid most "
                f"gets {worst[0].value:g}: {_told(worst[1][0])}\nThe success that is paid least gets "
                f"{least[0].value:g}: {_told(least[1][0])}"
            )
        return "\n".join([*found, "Write the whole function again, better. Answer with one block of code."])


def _told(sample: Sample) -> str:
    """First and last step of an episode."""
    steps: list[Mapping[str, Any]] = [*plain(sample.steps)]
    ends = f"{json.dumps(steps[0])[:SHOWN]} ... {json.dumps(steps[-1])[:SHOWN]}"
    return f"{len(steps)} steps, {ends}"
