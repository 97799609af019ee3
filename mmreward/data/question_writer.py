"""Questions written into a data set: `mmreward questions`.

For each prompt once, by the grammar of `captions`, or by a language model that answers in JSON and whose
questions are asked back about the prompt's own words. Rows go out as JSONL with `checklist`, `probes` and
`facts` in `meta`; a row whose prompt got none goes out as it was, and is counted with the reason.
"""

import json
import os
from asyncio import gather
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..engine.engine import Engine
from ..errors import Unscorable
from ..files import whole_file
from ..media import Media
from ..models.vlms.answers import YES_NO
from ..trajectories import with_media
from ..types import Sample, lacking, oversized
from .captions import parse_scene
from .columns import Columns
from .questions import (
    Question,
    Written,
    check_questions,
    columns_of,
    probes_of,
    questions_of,
    read_questions,
    without,
)
from .rows import Row, read_rows

if TYPE_CHECKING:
    from ..models.vlms.answers import VLM

WRITE = """A picture is going to be drawn for this request:
{prompt}

Write questions that somebody who sees only the picture can answer, and that together say whether it shows \
what was asked for: one for each object, each attribute, each number and each relation that the request \
names, and nothing that it does not name.

Answer with JSON alone: {{"questions": [...]}}. Each question has
- "name": a short name of its own,
- "kind": "object", "attribute", "count", "relation" or "other",
- "question": the question, ending with "Answer yes or no." or, where it begins with "How many", with \
"Answer with one number.",
- "answer": the right answer for a picture that shows what was asked for: "yes", "no", or one digit,
- "parents": names of the questions without which this one makes no sense, such as whether there is a dog \
for the colour of the dog; [] for none,
- "fact": the same as a short statement."""
ASKED_BACK = "A picture shows exactly this: {prompt}\n{question}"
COLUMNS = ("checklist", "probes", "facts")
CHUNK = 256
"""Prompts that are with the model together."""
SHOWN = 5
"""Reasons that a summary shows."""


class Outcome(NamedTuple):
    """Columns of a prompt; or the reason why it has none. `dropped` counts its questions that were not
    answered right about the prompt itself."""

    columns: Mapping[str, Any] | None
    reason: str = ""
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class QuestionSummary:
    """Counts of a data set: rows written, prompts with questions, the questions, those that were dropped, and
    the reason of each prompt without, and of each row that is none."""

    rows: int
    prompts: int
    questions: int
    dropped: int
    unasked: tuple[str, ...]
    problems: tuple[str, ...]
    out: Path

    @property
    def failure_rate(self) -> float:
        """Share of the prompts, and of rows that are none, without questions."""
        failed = len(self.unasked) + len(self.problems)
        return failed / max(failed + self.prompts, 1)

    def __str__(self) -> str:
        dropped = f", {self.dropped} dropped that the prompt itself does not answer" if self.dropped else ""
        lines = [
            f"{self.rows} rows, {self.prompts} prompts with {self.questions} questions{dropped}",
            f"without questions: {len(self.unasked)} prompts; no rows: {len(self.problems)}",
            *(f"  {reason}" for reason in (*self.unasked, *self.problems)[:SHOWN]),
            f"-> {self.out}",
        ]
        return "\n".join(lines)


def write_questions(
    data: Path,
    out: Path,
    engine: Engine,
    *,
    writer: "VLM | None" = None,
    exact: bool = False,
    ask_back: bool = True,
    columns: Columns | None = None,
) -> QuestionSummary:
    """Write a data set's rows with the questions of their prompts to the new file `out`.

    Args:
        data: as `mmreward score` reads it; paths of pictures are rewritten for the place of `out`, and what
            lies in a table or tar is written as a data URL.
        out: ends in .jsonl.
        engine: runs the writer.
        writer: a language model, of which no picture is asked; None for the grammar.
        exact: of the grammar: a and an ask for exactly one.
        ask_back: of a writer: ask it every question about the prompt's words, and drop what it answers
            otherwise than it wrote, with all that depends on it.
        columns: see `read_rows`.

    Raises:
        ValueError: data that cannot be read, another ending, a file that is there, a row that already has
            questions, or one with steps, which JSONL cannot hold.
    """
    if out.suffix != ".jsonl":
        raise ValueError(f"{out}: questions are written to a file that ends in .jsonl")
    if out.exists():
        raise ValueError(f"{out} is there already: give another name, or remove it")
    if exact and writer is not None:
        raise ValueError("exact belongs to the grammar; a writer decides itself what is counted")
    rows = list(read_rows(data, columns))
    samples = [row.sample for row in rows if row.sample is not None]
    for sample in samples:
        _refuse(sample)
    reasons = {sample.prompt: _unusable(sample) for sample in samples}
    prompts = [prompt for prompt, reason in reasons.items() if not reason]
    outcomes = {prompt: Outcome(None, reason) for prompt, reason in reasons.items() if reason}
    if writer is None:
        outcomes |= {prompt: _by_grammar(prompt, exact) for prompt in prompts}
    else:
        for start in range(0, len(prompts), CHUNK):
            some = prompts[start : start + CHUNK]
            found = engine.run(_all_written(writer, some, ask_back))
            outcomes |= dict(zip(some, found, strict=True))
    unwritten = _write_rows(out, samples, outcomes)
    return _summary(rows, outcomes, unwritten, out)


def _refuse(sample: Sample) -> None:
    if there := [name for name in COLUMNS if name in sample.meta]:
        raise ValueError(f"row {sample.id} has {there[0]} already: take it out of the data first")


def _unusable(sample: Sample) -> str:
    reason = lacking(sample, ("prompt",)) or oversized(sample)
    return f"row {sample.id}: {reason}" if reason else ""


# --- one prompt ---------------------------------------------------------------------------------------------


def _by_grammar(prompt: str, exact: bool) -> Outcome:
    try:
        graph = parse_scene(prompt)
        questions = check_questions(questions_of(graph, exact=exact))
    except Unscorable as error:
        return Outcome(None, f"{error}; a --writer may")
    return Outcome(columns_of(questions, probes_of(graph, exact=exact)))


async def _all_written(writer: "VLM", prompts: Sequence[str], ask_back: bool) -> list[Outcome]:
    return await gather(*(_written(writer, prompt, ask_back) for prompt in prompts))


async def _written(writer: "VLM", prompt: str, ask_back: bool) -> Outcome:
    """Questions of one prompt by a model; its failures are the prompt's."""
    try:
        answer = await writer.write(
            None, WRITE.format(prompt=prompt), max_tokens=2048, schema=Written.model_json_schema()
        )
        questions = read_questions(answer.text)
        if not ask_back:
            return Outcome(columns_of(questions))
        right = await gather(*(_confirmed(writer, prompt, one) for one in questions))
    except Unscorable as error:
        return Outcome(None, f"{prompt[:80]!r}: {error.status}, {error}")
    kept = without(questions, [one.name for one, good in zip(questions, right, strict=True) if not good])
    if not kept:
        return Outcome(None, f"{prompt[:80]!r}: the prompt answers none of its questions", len(questions))
    return Outcome(columns_of(kept), dropped=len(questions) - len(kept))


async def _confirmed(writer: "VLM", prompt: str, one: Question) -> bool:
    choices = tuple("0123456789") if one.answer.isdecimal() else YES_NO
    read = await writer.read(None, ASKED_BACK.format(prompt=prompt, question=one.question), choices)
    return read.answer == one.answer


# --- rows out -----------------------------------------------------------------------------------------------


def _write_rows(out: Path, samples: Sequence[Sample], outcomes: Mapping[str, Outcome]) -> list[str]:
    """Write the rows; the reason of each that cannot be written."""
    out.parent.mkdir(parents=True, exist_ok=True)
    unwritten = []
    with whole_file(out) as part, part.open("w", encoding="utf-8") as file:
        for sample in samples:
            try:
                record = _record(sample, out.absolute().parent, outcomes[sample.prompt].columns or {})
                line = json.dumps(record, ensure_ascii=False)
            except (Unscorable, TypeError, ValueError) as error:
                unwritten.append(f"row {sample.id} cannot be written as JSON: {error}")
            else:
                file.write(line + "\n")
    return unwritten


def _record(sample: Sample, folder: Path, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Row of a sample, of which empty fields are left out.

    Raises:
        Unscorable: a picture in a table or tar that cannot be read, or a clip there.
    """
    fields: dict[str, Any] = {
        "id": sample.id,
        "prompt": sample.prompt,
        "image": placed(sample.image, folder),
        "video": placed(sample.video, folder),
        "response": sample.response,
        "inputs": [placed(media, folder) for media in sample.inputs] or None,
        "steps": with_media(sample.steps, lambda media, _: placed(media, folder)) or None,
        "target": sample.target,
        "source": sample.source or None,
        "group": sample.group,
        "meta": {**sample.meta, **columns} or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def placed(media: Media | None, folder: Path) -> str | None:
    """Path of a file as seen from a folder; a data URL of what is in no file of its own."""
    if media is None:
        return None
    if isinstance(media.source, Path):
        return Path(os.path.relpath(media.source.absolute(), folder)).as_posix()
    from ..models.served.chat import data_url

    return data_url(media)


def _summary(
    rows: Sequence[Row], outcomes: Mapping[str, Outcome], unwritten: Sequence[str], out: Path
) -> QuestionSummary:
    asked = [one for one in outcomes.values() if one.columns is not None]
    return QuestionSummary(
        rows=sum(row.sample is not None for row in rows) - len(unwritten),
        prompts=len(asked),
        questions=sum(len(one.columns["checklist"]) for one in asked if one.columns is not None),
        dropped=sum(one.dropped for one in outcomes.values()),
        unasked=tuple(one.reason for one in outcomes.values() if one.columns is None),
        problems=(*(f"row {row.id}: {row.problem}" for row in rows if row.sample is None), *unwritten),
        out=out,
    )
