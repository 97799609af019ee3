"""Instructions under which a clip of success deserves a lower label, asked of two models.

After the counterfactual relabelling of RoboReward (arXiv:2601.00675), in words of our own: a model that sees
the clip says what is there and what happened; a writer, which sees nothing, makes commands for the labels
from 1 to 4 of it; rules that need no model check them; and a verifier, which sees the clip, is asked of each
whether the clip deserves the label, and whether the command was fulfilled before anything moved. What fails
goes back to the writer with its reason. `negatives` runs this over a data set.
"""

import hashlib
from asyncio import gather
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from ..errors import Unscorable
from ..media import Media
from ..models.vlms.answers import probability_of_yes
from .questions import json_answer

if TYPE_CHECKING:
    from ..models.vlms.answers import VLM

LABELS = (1, 2, 3, 4)
RUBRIC = {
    1: "nothing that the command asks for was brought any nearer",
    2: "a small part of it was brought nearer, far from enough",
    3: "clear progress was made, but a main requirement or several requirements are not met",
    4: "nearly everything is as it was asked for, and one minor requirement is not met",
    5: "every requirement is met",
}
"""End-of-episode labels: the last state alone counts, not how it was reached or how long it took."""
WORDS = 25
"""Words that a command has fewer of."""
MASS = 0.5
"""Smallest probability of yes and no together that is believed."""

PLAN = """These are pictures of one clip, in order of time; the last one is its end. Somebody was told: \
{command}
Say as JSON alone what can be seen: {{"objects": [...], "main": "...", "happened": "..."}}. "objects" are \
short names of all things that can be seen, such as "red cup"; "main" is the one of them that the command is \
mostly about; "happened" says in one or two sentences what was done and how things stand at the end."""
WRITE = """A clip shows this. Things that can be seen: {objects}. What happened: {happened}
It was made for this command: {command}
Write other commands for the same clip, for each of these labels one:
{labels}
Each command is one sentence in plain ASCII that tells somebody to do something, of fewer than {words} \
words. It names only things that can be seen, differs from the command above, and is not fulfilled yet when \
the clip begins. For label 1 it is about another thing than {main}; for labels 3 and 4 it is about {main}, \
of which label 3 breaks the main relation or several details and label 4 one minor detail.{rejected}
Answer with JSON alone: {{"commands": [{{"label": 1, "command": "...", "object": "..."}}, ...]}}, where \
"object" is the thing in the list above that the command is mostly about."""
REJECTED = "\nThese were tried and are not good:\n{lines}"
VERIFY = """These are pictures of one clip, in order of time; the last one is its end. The command is: \
{command}
Judge by the last picture alone. Is it true that {rubric}? Answer yes or no."""
BEGINNING = "The command is: {command}\nIs it fulfilled already in this picture? Answer yes or no."


class Plan(BaseModel):
    """What a clip shows."""

    model_config = ConfigDict(extra="forbid", strict=True)

    objects: list[str]
    main: str
    happened: str


class Command(BaseModel):
    """A command for one label."""

    model_config = ConfigDict(extra="forbid", strict=True)

    label: int
    command: str
    object: str


class Commands(BaseModel):
    """The writer's answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    commands: list[Command]


class Accepted(NamedTuple):
    """A command that was verified: by which attempt, and the verifier's probabilities that the clip deserves
    the label and that the command was fulfilled at the beginning."""

    label: int
    command: str
    attempt: int
    deserved: float
    fulfilled: float


class Relabelled(NamedTuple):
    """Commands by label, the plan they were written from, and why each label without one has none."""

    accepted: dict[int, Accepted]
    plan: Plan
    rejected: dict[int, str]


def prompts_digest() -> str:
    """Hash of everything that models are asked here."""
    words = repr((PLAN, WRITE, REJECTED, VERIFY, BEGINNING, RUBRIC))
    return hashlib.blake2b(words.encode(), digest_size=8).hexdigest()


async def relabelled(
    frames: Sequence[Media],
    command: str,
    labels: Sequence[int],
    writer: "VLM",
    verifier: "VLM",
    *,
    tries: int = 3,
    threshold: float = 0.5,
    seed: int = 0,
) -> Relabelled:
    """Commands for which a clip deserves these labels, each accepted by the verifier.

    Args:
        frames: of the clip, in order, the last one among them.
        command: that the clip fulfils.
        labels: from 1 to 4.
        writer: looks once at the clip, and writes.
        verifier: looks at every command's clip.
        tries: times that the writer is asked; from the second on it is told what was wrong, and sampled.
        threshold: probability of yes from which the verifier accepts a label, and below which it must hold
            that the command is not fulfilled at the beginning.
        seed: of the sampling.

    Raises:
        Unscorable: the plan cannot be read, or names no object beside the main one.
    """
    asked = PLAN.format(command=command)
    said = await writer.write(tuple(frames), asked, max_tokens=512, schema=Plan.model_json_schema())
    plan = checked_plan(json_answer(said.text, Plan))
    accepted: dict[int, Accepted] = {}
    rejected: dict[int, str] = {}
    bad: list[str] = []
    for attempt in range(1, tries + 1):
        missing = [label for label in labels if label not in accepted]
        if not missing:
            break
        try:
            found = await _commands(plan, command, missing, bad, writer, attempt, seed)
        except Unscorable as error:
            rejected |= dict.fromkeys(missing, f"{error.status}: {error}")
            continue
        good = {}
        for label in missing:
            others = [one.command for one in accepted.values()]
            reason = rule_broken(found.get(label), label, command, plan, others)
            if reason:
                rejected[label] = reason
            else:
                good[label] = found[label]
        judged = await gather(*(_judged(frames, one, verifier) for one in good.values()))
        for (label, one), verdict in zip(good.items(), judged, strict=True):
            if isinstance(verdict, str):
                rejected[label] = verdict
            elif verdict[0] < threshold:
                rejected[label] = f"the clip does not deserve label {label} for {one.command!r}"
            elif verdict[1] >= threshold:
                rejected[label] = f"{one.command!r} is fulfilled when the clip begins"
            else:
                accepted[label] = Accepted(label, one.command.strip(), attempt, *verdict)
                rejected.pop(label, None)
        bad += [rejected[label] for label in missing if label in rejected]
    return Relabelled(accepted, plan, rejected)


async def deserves(frames: Sequence[Media], command: str, label: int, verifier: "VLM") -> float:
    """The verifier's probability that a clip deserves a label for a command.

    Raises:
        Unscorable: it says neither yes nor no.
    """
    question = VERIFY.format(command=command, rubric=RUBRIC[label])
    return await probability_of_yes(verifier, tuple(frames), question, MASS)


async def _commands(
    plan: Plan,
    command: str,
    labels: Sequence[int],
    bad: Sequence[str],
    writer: "VLM",
    attempt: int,
    seed: int,
) -> Mapping[int, Command]:
    prompt = WRITE.format(
        objects=", ".join(plan.objects),
        happened=plan.happened,
        command=command,
        labels="\n".join(f"- label {label}: {RUBRIC[label]}" for label in labels),
        words=WORDS,
        main=plan.main,
        rejected=REJECTED.format(lines="\n".join(f"- {one}" for one in bad)) if bad else "",
    )
    said = await writer.write(
        None, prompt, max_tokens=512, temperature=0.0 if attempt == 1 else 0.7, seed=seed + attempt,
        schema=Commands.model_json_schema(),
    )  # fmt: skip
    return {one.label: one for one in json_answer(said.text, Commands).commands}


async def _judged(frames: Sequence[Media], one: Command, verifier: "VLM") -> tuple[float, float] | str:
    """Probabilities of the label and of being fulfilled at the beginning; or why there are none."""
    question = BEGINNING.format(command=one.command)
    try:
        return await deserves(frames, one.command, one.label, verifier), await probability_of_yes(
            verifier, frames[0], question, MASS
        )
    except Unscorable as error:
        return f"the verifier: {error.status}, {error}"


# --- rules that need no model -------------------------------------------------------------------------------


def checked_plan(plan: Plan) -> Plan:
    """The plan, whose main object is one of several.

    Raises:
        Unscorable: "unparsable" where it is not: then nothing else can be asked for.
    """
    names = _names(plan)
    if _plain(plan.main) not in names:
        raise Unscorable(f"the main object {plan.main[:40]!r} is none of those that are seen", "unparsable")
    if len(names) < 2:
        raise Unscorable("one object alone is seen: nothing else can be asked for", "na")
    return plan


def rule_broken(one: Command | None, label: int, command: str, plan: Plan, others: Sequence[str] = ()) -> str:
    """The rule that a command breaks, in words for its writer; empty for none.

    Args:
        one: the command, None where there is none.
        label: that it is for.
        command: that the clip fulfils.
        plan: what can be seen.
        others: commands of the clip that were accepted.
    """
    if one is None:
        return f"there was no command for label {label}"
    text = one.command.strip()
    if not text or not text.isascii() or "\n" in text:
        return f"{text[:80]!r} is no sentence in plain ASCII"
    if len(text.split()) >= WORDS:
        return f"{text[:80]!r}... has {len(text.split())} words, not fewer than {WORDS}"
    if _plain(text) in {_plain(each) for each in (command, *others)}:
        return f"{text!r} is a command of this clip already"
    if _plain(one.object) not in _names(plan):
        return f"{one.object[:40]!r}, which {text!r} is about, cannot be seen"
    if _plain(one.object).split()[-1] not in _plain(text).split():
        return f"{text!r} does not name {one.object!r}"
    is_main = _plain(one.object) == _plain(plan.main)
    if label == 1 and is_main:
        return f"{text!r} is about {plan.main!r}; label 1 is about another thing"
    if label in (3, 4) and not is_main:
        return f"{text!r} is not about {plan.main!r}, as label {label} is"
    return ""


def _names(plan: Plan) -> set[str]:
    return {_plain(name) for name in plan.objects} - {""}


def _plain(text: str) -> str:
    """Words in small letters without the marks between them."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())


def provenance(one: Accepted, found: Relabelled) -> dict[str, Any]:
    """What a row says of where its command comes from."""
    return {
        "attempt": one.attempt,
        "deserved": round(one.deserved, 6),
        "fulfilled_before": round(one.fulfilled, 6),
        "plan": found.plan.model_dump(),
    }
