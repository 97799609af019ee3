"""Questions that a prompt asks of its picture, with what each depends on: from a scene graph by rules, or as
a model wrote them, checked.

A question knows its parents, without which it makes no sense: no colour of a circle where there is no
circle (after DSG, arXiv:2310.18235). `columns_of` puts them where rewards look: `checklist`, `probes` and
`facts` in `meta`. Wordings are those that mini-vlm knows. Knows no model.
"""

import json
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import Unscorable
from ..limits import limits, most
from ..verifiers.numerals import UNITS
from .captions import COLOURS, Entity, SceneGraph, plural

Form = TypeVar("Form", bound=BaseModel)
Kind = Literal["object", "attribute", "count", "relation", "other"]
PRESENT = "Is there {noun}? Answer yes or no."
COUNT = "How many {nouns} are there? Answer with one number."
EXACT = "Are there {number} {nouns}? Answer yes or no."
RELATED = "{verb} the {first} {words} the {second}? Answer yes or no."
WHAT_COLOUR = "What colour is the {noun}? Answer with one word."
WHICH_WAY = "Is the {first} {ways} the {second}? Answer with one word."
WAYS = {
    "left of": ("left", "left or right of"),
    "right of": ("right", "left or right of"),
    "above": ("above", "above or below"),
    "below": ("below", "above or below"),
}
"""Relation -> its word, and the choice it is one of."""
LONGEST = 400
"""Characters of a question, a name or a fact."""


class Question(BaseModel):
    """One question.

    Args:
        name: unique among a prompt's.
        kind: what it asks about.
        question: with how to answer it.
        answer: the right one: yes, no, or a number from 0 to 9.
        parents: names of questions that must be answered rightly for this one to make sense.
        fact: the same as a clause; "" for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=LONGEST)
    kind: Kind
    question: str = Field(min_length=1, max_length=LONGEST)
    answer: str
    parents: tuple[str, ...] = ()
    fact: str = Field(default="", max_length=LONGEST)


# --- by rules -----------------------------------------------------------------------------------------------


def questions_of(graph: SceneGraph, *, exact: bool = False) -> list[Question]:
    """Questions of a scene graph: is each noun there, then with each attribute, how many, and the relation.

    Args:
        graph: of a caption.
        exact: a and an ask for exactly one; otherwise only numbers that the caption states are asked about.
    """
    asked: dict[str, Question] = {}
    last: list[str] = []
    for entity in graph.entities:
        parent = ""
        for begin in range(len(entity.attributes), -1, -1):
            part = entity._replace(attributes=entity.attributes[begin:])
            parent = _add(asked, _present(part, parent))
        last.append(parent)
        if entity.stated or exact:
            _add(asked, _count(entity, parent))
    if graph.relation is not None:
        first, second = (graph.entities[place] for place in (graph.relation.first, graph.relation.second))
        _add(asked, _related(first, graph.relation.words, second, (last[0], last[1])))
    return list(asked.values())


def _add(asked: dict[str, Question], one: Question) -> str:
    return asked.setdefault(one.name, one).name


def _present(entity: Entity, parent: str) -> Question:
    kind: Kind = "attribute" if parent else "object"
    return Question(
        name=f"{kind}: {entity.name}",
        kind=kind,
        question=PRESENT.format(noun=_with_article(entity.name)),
        answer="yes",
        parents=(parent,) if parent else (),
        fact=f"there is {_with_article(entity.name)}.",
    )


def _count(entity: Entity, parent: str) -> Question:
    nouns, number = plural(entity.name), UNITS[entity.number]
    few = entity.number < 10
    verb, shown = ("is", entity.name) if entity.number == 1 else ("are", nouns)
    return Question(
        name=f"count: {number} {shown}",
        kind="count",
        question=COUNT.format(nouns=nouns) if few else EXACT.format(number=number, nouns=nouns),
        answer=str(entity.number) if few else "yes",
        parents=(parent,),
        fact=f"there {verb} {number} {shown}.",
    )


def _related(first: Entity, words: str, second: Entity, parents: tuple[str, str]) -> Question:
    names = [one.name if one.number == 1 else plural(one.name) for one in (first, second)]
    verb = "is" if first.number == 1 else "are"
    return Question(
        name=f"relation: {names[0]} {words} {names[1]}",
        kind="relation",
        question=RELATED.format(verb=verb.capitalize(), first=names[0], words=words, second=names[1]),
        answer="yes",
        parents=parents,
        fact=f"the {names[0]} {verb} {words} the {names[1]}.",
    )


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def probes_of(graph: SceneGraph, *, exact: bool = False) -> list[dict[str, Any]]:
    """Probes of a scene graph, for the reward `probes`: open questions, which "yes" to all does not answer.

    Numbers, the colour of what there is one kind of, and which way a relation goes; where there is none of
    them, whether each thing is there.
    """
    found: list[dict[str, Any]] = []
    nouns = [entity.noun for entity in graph.entities]
    for entity in graph.entities:
        if entity.stated or exact:
            answers = [str(entity.number), UNITS[entity.number]]
            found.append({"question": COUNT.format(nouns=plural(entity.name)), "answer": answers})
        colours = [word for word in entity.attributes if word.split(" ")[-1] in COLOURS]
        if len(colours) == 1 and entity.number == 1 and nouns.count(entity.noun) == 1:
            found.append({"question": WHAT_COLOUR.format(noun=entity.noun), "answer": colours[0]})
    relation = graph.relation
    if relation is not None and relation.words in WAYS:
        first, second = graph.entities[relation.first], graph.entities[relation.second]
        if first.number == second.number == 1:
            word, ways = WAYS[relation.words]
            text = WHICH_WAY.format(first=first.name, ways=ways, second=second.name)
            found.append({"question": text, "answer": word})
    return found or [
        {"question": PRESENT.format(noun=_with_article(one.name)), "answer": "yes"} for one in graph.entities
    ]


# --- as written by a model ----------------------------------------------------------------------------------


class Written(BaseModel):
    """The object that a writer answers with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: tuple[Question, ...] = Field(min_length=1)


def read_questions(text: str) -> list[Question]:
    """Questions in a writer's answer: one JSON object, alone or in one code fence.

    Raises:
        Unscorable: "unparsable" for anything else, and as `check_questions`.
    """
    return check_questions(json_answer(text, Written).questions)


def json_answer(text: str, form: type[Form]) -> Form:
    """What a writer answered as one JSON object, alone or in one code fence.

    Raises:
        Unscorable: "unparsable" for anything else.
    """
    body = text.rpartition("</think>")[2].strip()
    if body.startswith("```") and body.endswith("```") and body.count("```") == 2:
        body = body.removeprefix("```").removesuffix("```").strip().removeprefix("json")
    try:
        return form.model_validate(json.loads(body, parse_constant=_no_number), strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the answer"
        raise Unscorable(f"the writer's {where}: {first['msg']}", "unparsable") from None
    except (ValueError, RecursionError) as error:
        raise Unscorable(f"the writer's answer is not JSON: {error}", "unparsable") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def check_questions(questions: Sequence[Question]) -> list[Question]:
    """The same questions, parents before children.

    Raises:
        Unscorable: "unparsable" for too many, two of one name or wording, an answer that no checklist can
            read, a count without a number, a parent that is not there, or questions that wait for each other.
    """

    def refused(reason: str) -> Unscorable:
        return Unscorable(f"the writer's questions: {reason}", "unparsable")

    if len(questions) > limits().questions:
        raise refused(f"{len(questions)} of them; a prompt has {most('questions')} at most")
    by_name: dict[str, Question] = {}
    wordings: set[str] = set()
    for one in questions:
        wording = " ".join(one.question.casefold().split())
        if not one.name.strip() or not wording or "?" not in wording:
            raise refused(f"{one.question[:80]!r} is no question")
        if one.name in by_name or wording in wordings:
            raise refused(f"{one.name[:80]!r} is there twice")
        number = len(one.answer) == 1 and one.answer in "0123456789"
        if not number and one.answer not in ("yes", "no"):
            raise refused(f"the answer {one.answer[:40]!r} is not yes, no or a number from 0 to 9")
        if number != wording.startswith("how many"):
            raise refused(f"{one.question[:80]!r} is not answered by {one.answer!r}")
        by_name[one.name] = one
        wordings.add(wording)
    for one in questions:
        if lost := [parent for parent in one.parents if parent not in by_name]:
            raise refused(f"{one.name[:80]!r} depends on {lost[0][:80]!r}, which is not there")
    try:
        ordered = list(TopologicalSorter({one.name: one.parents for one in questions}).static_order())
    except CycleError as error:
        raise refused(f"{error.args[1][0][:80]!r} depends on itself") from None
    return [by_name[name] for name in ordered]


def without(questions: Sequence[Question], dropped: Sequence[str]) -> list[Question]:
    """The questions that are left, in their order, without some and all that depend on them."""
    gone = set(dropped)
    for one in questions:  # parents come first
        if gone.intersection(one.parents):
            gone.add(one.name)
    return [one for one in questions if one.name not in gone]


# --- into a row ---------------------------------------------------------------------------------------------


def columns_of(
    questions: Sequence[Question], probes: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """`checklist`, `probes` and `facts` of a row's `meta`.

    Args:
        questions: parents before children.
        probes: default the questions themselves.
    """
    entries = []
    for one in questions:
        entry: dict[str, Any] = {"name": one.name, "question": one.question, "answer": one.answer}
        if one.parents:
            entry["parents"] = list(one.parents)
        entries.append(entry)
    own = [{"question": one.question, "answer": one.answer} for one in questions]
    facts = [one.fact for one in questions if one.fact]
    return {
        "checklist": entries,
        "probes": [dict(probe) for probe in probes] if probes is not None else own,
        **({"facts": facts} if facts else {}),
    }
