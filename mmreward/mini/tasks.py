"""Questions about shapes world that the mini-vlm knows, word for word, and their true answers.

Answers come from the scene, never from pixels. Rewards, evaluation and the demo take their questions from
here; the choice of questions in training is made in `dialogues.py`. This file knows nothing of networks or
tokens.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..rewards.judged import asking, critique, listener
from ..rewards.learned import artifact
from .world import COLOURS, NUMBERS, RELATIONS, SHAPES, Caption, Thing, holds, noun_phrase

# --- questions -------------------------------------------------------------------------------------------

COMMON = """
able about across add after again all almost alone along also always am an and animal another any anything
are area around as ask asked at away back background bad based be because been before behind below beside
best better between big bird bit black body book both bottom box boy brief bright bring brown build but by
call camera can car cat center centre certain change check child city clean clear close cloud cold color
colors colour colours come compare complete contain contains corner correct could count cover create
critique dark day describe description desk detail did different do does dog done door down draw drawing
drawn each early easy edge eight either else empty end enough even evening every exactly example except
explain eye face fact far few field find fine first fish five flower follow following food for found four
from front full game garden get girl give given go good grade grass gray great grey ground group grow had
half hand happy hard has have he head help her here high hill him his hold horse house how human i idea if
image images important in inside instead into is it its judge just keep kind know lake large last late least
leave left less let letter light like line list little long look low made main make man many mark match
matches may me mean medium middle might mine more morning most mountain move much must my name near need
never new next nice night nine no none nor not note now number object objects of off old on once only open
or orange order other our out outside over own page paint painting paper part people perfect person photo
photograph picture pictures piece pink place plain plane plant please point position possible present
problem prompt put quality question quick quickly rate rather read real reason reasoning red request
response result right river road room round row rule same say scene scale score second see seen seven shade
shape short should show side simple single six size sky small smooth snow so some someone something soon
special stand star start step still stone street strong style subject such sun sure table take tall task
tell ten text than that the their them then there these they thing things think this those three through
time to together too top tree true try turn two type under up upon us use user very video view visible want
was water way we well were what when where whether which while white who whole why wide will wind window
with within without woman wood word words work world worst would write wrong year yes yet you young your
false thumbs realistic cartoon digital art sharp blurry blur noise noisy texture
"""
"""Common English words that the mini-vlm's tokenizer knows beside its tasks' own; it is trained on none."""

Kind = tuple[str, str]

PRESENT = "Is there a {noun}? Answer yes or no."
EXACT = "Are there {number} {noun}s? Answer yes or no."
RELATION = "Is the {first} {relation} the {second}? Answer yes or no."
SIDE = "Is the {noun} in the {side} half of the picture? Answer yes or no."
WHERE = "Is the {noun} {ends}? Answer with one word."
ENDS = {("left", "right"): "on the left or on the right", ("top", "bottom"): "at the top or at the bottom"}
WHICH_WAY = "Is the {first} {ways} the {second}? Answer with one word."
WAYS = {("left", "right"): "left or right of", ("above", "below"): "above or below"}
MATCH = "Does this picture match the prompt: {caption}? Answer yes or no."
COUNT = "How many {noun}s are there? Answer with one number."
WHAT_COLOUR = "What colour is the {shape}? Answer with one word."
WHAT_SHAPE = "What shape is the {colour} object? Answer with one word."
LOCATE_ALL = "Locate every shape. Answer with a JSON list of bbox_2d and label."
LOCATE = "Locate the {noun}. Answer with a JSON list of bbox_2d and label."
ARTIFACT = artifact.QUESTION
VERDICT = "Does this picture match the request: {caption}? Think first, then answer yes or no."
PREFER = asking.QUESTION
REASONED = "<think>{reasoning}</think><answer>{answer}</answer>"

LOW, HIGH = 1, 4
"""The critique's scale."""
STEPS = 64
"""Boxes are given in 64ths of the side, written as 0 to 1000."""
DAMAGE = (
    (0.0, "is clean"),
    (0.55, "has slight artifacts"),
    (0.78, "has clear artifacts"),
    (1.0, "has heavy artifacts"),
)
"""Largest level of corruption (`corrupt.corrupt`) for each score from HIGH down to LOW, and how it is put."""
NARROW = 0.06
"""Centres closer than this along an axis are not asked about."""


class Dialogue(NamedTuple):
    """One question about a picture (or two pictures) and the answer that follows the assistant's header."""

    task: str
    question: str
    answer: str


class Noun(NamedTuple):
    """A class of things; an empty field means any."""

    colour: str = ""
    shape: str = ""

    def __str__(self) -> str:
        return f"{self.colour} {self.shape or 'shape'}".strip()

    def number(self, things: Sequence[Thing]) -> int:
        return sum(self.colour in ("", t.colour) and self.shape in ("", t.shape) for t in things)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Differences between a picture and a caption, as multisets of kinds."""

    shown: Counter[Kind]
    missing: Counter[Kind]
    extra: Counter[Kind]
    crossed: bool
    """All is there, but the relation does not hold."""

    @property
    def f1(self) -> float:
        hits = self.shown.total()
        return 2 * hits / (2 * hits + self.missing.total() + self.extra.total())

    @property
    def match(self) -> bool:
        return not self.missing and not self.extra and not self.crossed

    @property
    def score(self) -> int:
        """From LOW to HIGH."""
        return max(LOW, LOW + round((HIGH - LOW) * self.f1) - self.crossed)


def reading_order(things: Iterable[Thing]) -> tuple[Thing, ...]:
    """Top to bottom, then left to right."""
    return tuple(sorted(things, key=lambda t: (t.y, t.x)))


def compare(caption: Caption, things: Sequence[Thing]) -> Comparison:
    """Comparison of a caption with the things a picture shows."""
    seen, asked = Counter(t.kind for t in reading_order(things)), Counter(dict(caption.kinds))
    crossed = False
    if caption.relation:
        (first, _), (second, _) = caption.kinds
        pairs = [(a, b) for a in things for b in things if a.kind == first and b.kind == second]
        crossed = not all(holds(caption.relation, a, b) for a, b in pairs)
    return Comparison(asked & seen, asked - seen, seen - asked, crossed)


# --- words for scenes --------------------------------------------------------------------------------------


def listing(kinds: Counter[Kind]) -> str:
    """'a red circle and two blue squares', in the counter's order; 'nothing' when empty."""
    return str(Caption(tuple((+kinds).items()))) if +kinds else "nothing"


def describe_scene(things: Sequence[Thing]) -> str:
    """Description of the things of a picture, in reading order."""
    return listing(Counter(t.kind for t in reading_order(things)))


def faithfulness(caption: Caption, things: Sequence[Thing]) -> str:
    """Sentence on the faithfulness of a picture: 'shows a red circle; missing a blue square; not asked for
    ...'"""
    found = compare(caption, things)
    parts = [f"shows {listing(found.shown)}"]
    if found.missing:
        parts.append(f"missing {listing(found.missing)}")
    if found.extra:
        parts.append(f"not asked for {listing(found.extra)}")
    if found.crossed:
        parts.append(_crossed(caption))
    return "; ".join(parts) + "."


def _crossed(caption: Caption) -> str:
    (first, _), (second, _) = caption.kinds
    return f"the {' '.join(first)} is not {caption.relation} the {' '.join(second)}"


def boxes(things: Iterable[Thing]) -> str:
    """The JSON list of boxes, 0 to 1000 in steps of 1/64."""
    rows = [
        {
            "bbox_2d": [round(min(max(round(v * STEPS), 0), STEPS) * 1000 / STEPS) for v in t.box],
            "label": " ".join(t.kind),
        }
        for t in reading_order(things)
    ]
    return json.dumps(rows)


def quality(level: float) -> tuple[int, str]:
    """The score for a level of corruption and the sentence that justifies it."""
    index = next(i for i, (limit, _) in enumerate(DAMAGE) if level <= limit)
    return HIGH - index, f"the picture {DAMAGE[index][1]}."


def verdict_reasoning(caption: Caption, things: Sequence[Thing]) -> str:
    """The chain of thought of `VERDICT`; it states facts and leaves the verdict itself to the answer."""
    found = compare(caption, things)
    facts = [
        f"Missing: {listing(found.missing)}." if found.missing else "",
        f"Not asked for: {listing(found.extra)}." if found.extra else "",
        f"But {_crossed(caption)}." if found.crossed else "",
    ]
    conclusion = " ".join(filter(None, facts)) or "Nothing is missing and nothing is extra."
    return f"The picture shows {describe_scene(things)}. The request asks for {caption}. {conclusion}"


def prefer_reasoning(caption: Caption, first: Sequence[Thing], second: Sequence[Thing]) -> str:
    """The chain of thought of `PREFER`."""
    return f"Picture 1 {faithfulness(caption, first)} Picture 2 {faithfulness(caption, second)}"


def checklist(caption: Caption) -> list[tuple[str, str]]:
    """Questions and answers that are all right for a picture that shows the caption, and for no other.

    For every kind: is it there, and how many; then how many shapes in all, and the relation if there is one.
    """
    items = []
    for (colour, shape), number in caption.kinds:
        noun = Noun(colour, shape)
        items.append((PRESENT.format(noun=noun), "yes"))
        items.append((COUNT.format(noun=noun), str(number)))
    items.append((COUNT.format(noun=Noun()), str(caption.total)))
    if caption.relation:
        first, second = (Noun(*kind) for kind, _ in caption.kinds)
        items.append((RELATION.format(first=first, relation=caption.relation, second=second), "yes"))
    return items


def listen_question(caption: Caption, reasoning: str) -> str:
    """Prompt of the `listener` reward for `VERDICT` and this reasoning."""
    asked = VERDICT.format(caption=caption).split("?")[0] + "?"
    return listener.PROMPT.format(prompt=asked, reasoning=reasoning, labels="yes or no")


def critique_question(caption: Caption) -> str:
    """Prompt of the `critique` reward."""
    aspects = "\n".join(f"- {name}: {text}" for name, text in critique.ASPECTS.items())
    return critique.PROMPT.format(prompt=caption, low=LOW, high=HIGH, aspects=aspects)


def critique_answer(caption: Caption, things: Sequence[Thing], level: float) -> str:
    """True critique of a picture with these things, spoilt at this level."""
    grade, remark = quality(level)
    blocks = ((faithfulness(caption, things), compare(caption, things).score), (remark, grade))
    return "\n".join(
        f"## {name}\nJustification: {why}\nScore: {score}"
        for name, (why, score) in zip(critique.ASPECTS, blocks, strict=True)
    )


def prefer_listen_question(caption: Caption, reasoning: str) -> str:
    """Prompt of the `listener` reward for `PREFER` and this reasoning."""
    asked = PREFER.format(prompt=caption).split("?")[0] + "?"
    return listener.PROMPT.format(prompt=asked, reasoning=reasoning, labels="1 or 2")


# --- vocabulary --------------------------------------------------------------------------------------------


def words() -> list[str]:
    """Texts that together hold every word of this world's dialogues, and some common English."""
    nouns = [noun_phrase(c, s, n) for c in COLOURS for s in SHAPES for n in (1, 2)]
    templates = [
        PRESENT,
        EXACT,
        RELATION,
        MATCH,
        COUNT,
        WHAT_COLOUR,
        WHAT_SHAPE,
        LOCATE_ALL,
        LOCATE,
        VERDICT,
        PREFER,
    ]
    thing = Thing("red", "circle", 0.5, 0.5, 0.1)
    other = Caption(((("red", "circle"), 1), (("blue", "square"), 1)), "left of")
    talk = [
        verdict_reasoning(other, (thing,)),
        verdict_reasoning(Caption(((thing.kind, 1),)), (thing,)),
        verdict_reasoning(other, (thing, Thing("blue", "square", 0.1, 0.5, 0.1))),
        prefer_reasoning(other, (), (thing, thing)),
    ]
    asked = [
        critique.PROMPT,
        *critique.ASPECTS,
        *critique.ASPECTS.values(),
        artifact.QUESTION,
        listener.PROMPT,
    ]
    sentences = [text for _, text in DAMAGE]
    return [
        *nouns,
        *templates,
        *talk,
        *asked,
        *sentences,
        *NUMBERS,
        *RELATIONS,
        "nothing shapes yes no user assistant system",
        COMMON,
    ]
