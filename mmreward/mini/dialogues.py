"""Random dialogues about scenes, with hard negatives and as many yes as no.

Half of all captions fit their scene; the others differ in a colour, a shape, a number or a relation. This
file only samples: the questions and their true answers stand in `tasks.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from .tasks import (
    ARTIFACT,
    COUNT,
    ENDS,
    EXACT,
    LOCATE,
    LOCATE_ALL,
    MATCH,
    NARROW,
    PREFER,
    PRESENT,
    REASONED,
    RELATION,
    SIDE,
    VERDICT,
    WAYS,
    WHAT_COLOUR,
    WHAT_SHAPE,
    WHERE,
    WHICH_WAY,
    Dialogue,
    Kind,
    Noun,
    boxes,
    compare,
    critique_answer,
    critique_question,
    listen_question,
    prefer_listen_question,
    prefer_reasoning,
    reading_order,
    verdict_reasoning,
)
from .world import COLOURS, NUMBERS, OPPOSITE, RELATIONS, SHAPES, Caption, Scene, Thing, describe, holds

# --- captions that almost fit ------------------------------------------------------------------------------


def draw_caption(scene: Scene, rng: np.random.Generator, edits: int | None = None) -> Caption:
    """A caption of the scene after `edits` hard-negative changes (by default none in half of the draws)."""
    if edits is None:
        edits = 0 if rng.random() < 0.5 else int(rng.choice([1, 1, 1, 2, 3]))
    caption = describe(scene, rng, relations=0.6) if scene.things else None
    if caption is None:
        return Caption(((_random_kind(rng), int(rng.integers(1, 3))),))
    for _ in range(edits):
        caption = edit(caption, rng)
    return caption


def edit(caption: Caption, rng: np.random.Generator) -> Caption:
    """Change one thing: a colour, a shape, one more, one fewer, or the relation."""
    if caption.relation and rng.random() < 0.5:
        return Caption(caption.kinds, OPPOSITE[caption.relation])
    kinds = [kind for kind, number in caption.kinds for _ in range(number)]
    index = int(rng.integers(len(kinds)))
    colour, shape = kinds[index]
    change = rng.choice(["colour", "shape", "more", "fewer"])
    if change == "colour":
        kinds[index] = (_other(COLOURS, colour, rng), shape)
    elif (
        change == "shape" or (change == "fewer" and len(kinds) == 1) or (change == "more" and len(kinds) == 4)
    ):
        kinds[index] = (colour, _other(SHAPES, shape, rng))
    elif change == "more":
        kinds.append(kinds[index] if rng.random() < 0.5 else _random_kind(rng))
    else:
        del kinds[index]
    counted = tuple(Counter(kinds).items())
    plain = len(counted) == 2 and all(number == 1 for _, number in counted)
    return Caption(counted, caption.relation if plain else "")


def _other(names: Iterable[str], name: str, rng: np.random.Generator) -> str:
    return str(rng.choice([n for n in names if n != name]))


def _random_kind(rng: np.random.Generator) -> Kind:
    return str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES))


# --- dialogues ---------------------------------------------------------------------------------------------


def present(scene: Scene, rng: np.random.Generator) -> Dialogue | None:
    """Presence of a kind, a colour or a shape. Negatives mix a colour and a shape of the picture, or change
    one of the two."""
    here = sorted(scene.kinds)
    yes = rng.random() < 0.5
    if not here:
        noun = Noun(*_random_kind(rng))
        return Dialogue("present", PRESENT.format(noun=noun), "no")
    colour, shape = here[int(rng.integers(len(here)))]
    form = rng.choice(["kind", "colour", "shape"], p=[0.6, 0.2, 0.2])
    if form == "kind":
        noun = Noun(colour, shape) if yes else _absent_kind(here, rng)
    elif form == "colour":
        noun = (
            Noun(colour) if yes else Noun(colour=str(rng.choice([c for c in COLOURS if not _has(here, c)])))
        )
    else:
        absent = [s for s in SHAPES if not _has(here, s)]
        if not yes and not absent:
            return None
        noun = Noun(shape=shape) if yes else Noun(shape=str(rng.choice(absent)))
    return Dialogue("present", PRESENT.format(noun=noun), "yes" if yes else "no")


def _has(kinds: Iterable[Kind], name: str) -> bool:
    return any(name in kind for kind in kinds)


def _absent_kind(here: Sequence[Kind], rng: np.random.Generator) -> Noun:
    crossed = [(c, s) for c, _ in here for _, s in here if (c, s) not in here]
    if crossed and rng.random() < 0.5:
        return Noun(*crossed[int(rng.integers(len(crossed)))])
    near = [
        (c, s) for c in COLOURS for s in SHAPES if (_has(here, c) != _has(here, s)) and (c, s) not in here
    ]
    return Noun(*near[int(rng.integers(len(near)))])


def exact(scene: Scene, rng: np.random.Generator) -> Dialogue | None:
    """An exact number, two to four. Negatives are off by one where they can be."""
    if len(scene.things) < 2 and rng.random() < 0.8:
        return None
    yes = rng.random() < 0.5
    noun = _noun(scene, rng, 2 if yes else 1)
    if noun is None:
        return None
    number = noun.number(scene.things)
    if not yes:
        wrong = [n for n in (number - 1, number + 1) if 2 <= n <= 4]
        number = int(rng.choice(wrong))
    return Dialogue("exact", EXACT.format(number=NUMBERS[number], noun=noun), "yes" if yes else "no")


def _noun(scene: Scene, rng: np.random.Generator, least: int) -> Noun | None:
    """A class with at least `least` members in the picture; broad and narrow classes are equally likely."""
    forms: tuple[Callable[[Thing], Noun], ...] = (
        lambda t: Noun(),
        lambda t: Noun(colour=t.colour),
        lambda t: Noun(shape=t.shape),
        lambda t: Noun(t.colour, t.shape),
    )
    for index in map(int, rng.permutation(len(forms))):
        options = sorted({forms[index](t) for t in scene.things})
        options = [noun for noun in options if noun.number(scene.things) >= least]
        if options:
            return options[int(rng.integers(len(options)))]
    return None


def _unique(scene: Scene) -> list[tuple[Thing, Noun]]:
    """Every way to name one thing alone: by its colour, by its shape, by both."""
    named = [(t, n) for t in scene.things for n in (Noun(t.colour), Noun(shape=t.shape), Noun(*t.kind))]
    return [(thing, noun) for thing, noun in named if noun.number(scene.things) == 1]


def _two(scene: Scene, rng: np.random.Generator) -> tuple[tuple[Thing, Noun], tuple[Thing, Noun]] | None:
    """Two things and their names: mostly colour and shape, as prompts name them."""
    named = _unique(scene)
    if rng.random() < 0.6:
        named = [(thing, noun) for thing, noun in named if noun == thing.kind]
    named = [named[i] for i in rng.permutation(len(named))]
    others = [other for other in named if other[0] is not named[0][0]]
    return (named[0], others[0]) if others else None


def relation(scene: Scene, rng: np.random.Generator) -> Dialogue | None:
    """Relation of two things. Negatives swap the relation; now and then they name something absent."""
    pair = _two(scene, rng)
    if pair is None:
        return None
    (a, first), (b, second) = pair
    true = [
        r for r in RELATIONS if holds(r, a, b) and abs((a.x - b.x) if "of" in r else (a.y - b.y)) > NARROW
    ]
    if not true:
        return None
    name, yes = str(rng.choice(true)), rng.random() < 0.5
    if not yes and rng.random() < 0.2:
        second = _absent_kind(sorted(scene.kinds), rng)
        if rng.random() < 0.5:
            first, second = second, first
    elif not yes:
        name = OPPOSITE[name]
    question = RELATION.format(first=first, relation=name, second=second)
    return Dialogue("relation", question, "yes" if yes else "no")


def side(scene: Scene, rng: np.random.Generator) -> Dialogue | None:
    """The half of the picture that one thing lies in: a step towards `relation`."""
    found = _placed(scene, rng, list(ENDS))
    if found is None:
        return None
    noun, sides, true = found
    yes = rng.random() < 0.5
    question = SIDE.format(noun=noun, side=sides[true if yes else 1 - true])
    return Dialogue("side", question, "yes" if yes else "no")


def where(scene: Scene, rng: np.random.Generator) -> Dialogue | None:
    """The half of the picture that one thing lies in, as the answer itself."""
    found = _placed(scene, rng, list(ENDS))
    if found is None:
        return None
    noun, sides, true = found
    return Dialogue("where", WHERE.format(noun=noun, ends=ENDS[sides]), sides[true])


def _placed(
    scene: Scene, rng: np.random.Generator, axes: Sequence[tuple[str, str]]
) -> tuple[Noun, tuple[str, str], int] | None:
    """A thing of its own kind, an axis, and on which end of that axis it plainly lies."""
    named = _unique(scene)
    if not named:
        return None
    thing, noun = named[int(rng.integers(len(named)))]
    axis = int(rng.integers(2))
    at = (thing.x, thing.y)[axis]
    return None if abs(at - 0.5) <= NARROW else (noun, axes[axis], int(at > 0.5))


def which_way(scene: Scene, rng: np.random.Generator) -> Dialogue | None:
    """Direction of one thing from another, as the answer itself."""
    pair = _two(scene, rng)
    if pair is None:
        return None
    (a, first), (b, second) = pair
    axis = int(rng.integers(2))
    offset = (a.x - b.x, a.y - b.y)[axis]
    if abs(offset) <= NARROW:
        return None
    ways = list(WAYS)[axis]
    question = WHICH_WAY.format(first=first, ways=WAYS[ways], second=second)
    return Dialogue("which_way", question, ways[int(offset > 0)])


def match(scene: Scene, rng: np.random.Generator) -> Dialogue | None:
    """Agreement of the whole picture with a caption."""
    caption = draw_caption(scene, rng)
    answer = "yes" if compare(caption, scene.things).match else "no"
    return Dialogue("match", MATCH.format(caption=caption), answer)


def count(scene: Scene, rng: np.random.Generator) -> Dialogue | None:
    """Number of things of a class, now and then of an absent one."""
    draw = rng.random()
    if draw < 0.3 or not scene.things:
        noun: Noun | None = Noun()
    elif draw < 0.5:
        noun = _absent_kind(sorted(scene.kinds), rng)
    else:
        noun = _noun(scene, rng, int(rng.choice([1, 2])))
    if noun is None:
        return None
    return Dialogue("count", COUNT.format(noun=noun), str(noun.number(scene.things)))


def attribute(scene: Scene, rng: np.random.Generator) -> Dialogue | None:
    """The colour of the only circle, or the shape of the only red thing."""
    options = []
    for thing in scene.things:
        if Noun(shape=thing.shape).number(scene.things) == 1:
            options.append((WHAT_COLOUR.format(shape=thing.shape), thing.colour))
        if Noun(colour=thing.colour).number(scene.things) == 1:
            options.append((WHAT_SHAPE.format(colour=thing.colour), thing.shape))
    return Dialogue("attribute", *options[int(rng.integers(len(options)))]) if options else None


def locate_all(scene: Scene, rng: np.random.Generator) -> Dialogue | None:
    """Boxes of all things."""
    return Dialogue("locate_all", LOCATE_ALL, boxes(scene.things))


def locate(scene: Scene, rng: np.random.Generator) -> Dialogue | None:
    """Boxes of one kind, now and then of an absent one."""
    here = sorted(scene.kinds)
    noun = Noun(*here[int(rng.integers(len(here)))]) if here else Noun(*_random_kind(rng))
    if here and rng.random() < 0.2:
        noun = _absent_kind(here, rng)
    return Dialogue("locate", LOCATE.format(noun=noun), boxes(t for t in scene.things if t.kind == noun))


def verdict(scene: Scene, rng: np.random.Generator) -> Dialogue | None:
    """Agreement with a request, answered after reasoning."""
    caption = draw_caption(scene, rng)
    answer = "yes" if compare(caption, scene.things).match else "no"
    reasoning = verdict_reasoning(caption, scene.things)
    return Dialogue(
        "verdict", VERDICT.format(caption=caption), REASONED.format(reasoning=reasoning, answer=answer)
    )


def listen(scene: Scene, rng: np.random.Generator) -> Dialogue | None:
    """Verdict given another's reasoning, which in three cases of ten describes some other picture."""
    caption = draw_caption(scene, rng)
    answer = "yes" if compare(caption, scene.things).match else "no"
    seen = scene.things if rng.random() < 0.7 else _misread(scene.things, caption, rng)
    return Dialogue("listen", listen_question(caption, verdict_reasoning(caption, seen)), answer)


def _misread(things: Sequence[Thing], caption: Caption, rng: np.random.Generator) -> tuple[Thing, ...]:
    """Things a careless viewer might report: what was asked for, or the picture with one thing changed."""
    if rng.random() < 0.5 or not things:
        kinds = [kind for kind, number in caption.kinds for _ in range(number)]
    else:
        changed = edit(Caption(tuple(Counter(t.kind for t in reading_order(things)).items())), rng)
        kinds = [kind for kind, number in changed.kinds for _ in range(number)]
    along = caption.relation in ("right of", "below")
    places = [(1 - i if along else i) / 5 + 0.2 for i in range(len(kinds))]
    return tuple(Thing(*kind, at, at, 0.1) for kind, at in zip(kinds, places, strict=True))


def critic(scene: Scene, rng: np.random.Generator, level: float = 0.0) -> Dialogue:
    """The structured critique of `mmreward.rewards.judged.critique`."""
    caption = draw_caption(scene, rng)
    return Dialogue("critique", critique_question(caption), critique_answer(caption, scene.things, level))


def spoilt(level: float) -> Dialogue:
    """Presence of artifacts."""
    return Dialogue("artifact", ARTIFACT, "yes" if level > 0 else "no")


def preferable(
    first: Scene, second: Scene, rng: np.random.Generator
) -> tuple[Caption, Literal["1", "2"]] | None:
    """Request that one of two scenes fits better, and that scene's place; None where they fit alike."""
    caption = draw_caption(first if rng.random() < 0.5 else second, rng, edits=int(rng.random() < 0.3))
    one, two = (compare(caption, scene.things) for scene in (first, second))
    if (one.f1, not one.crossed) == (two.f1, not two.crossed):
        return None
    return caption, "1" if (one.f1, not one.crossed) > (two.f1, not two.crossed) else "2"


def prefer(first: Scene, second: Scene, rng: np.random.Generator, reasoned: bool) -> Dialogue | None:
    """Preference between two pictures; with `reasoned`, given another's reasoning (wrong in three cases of
    ten)."""
    chosen = preferable(first, second, rng)
    if chosen is None:
        return None
    caption, answer = chosen
    question = PREFER.format(prompt=caption)
    if not reasoned:
        reasoning = prefer_reasoning(caption, first.things, second.things)
        return Dialogue("prefer", question, REASONED.format(reasoning=reasoning, answer=answer))
    seen = (first.things, second.things) if rng.random() < 0.7 else (second.things, first.things)
    return Dialogue(
        "prefer_listen", prefer_listen_question(caption, prefer_reasoning(caption, *seen)), answer
    )


Single = Callable[[Scene, np.random.Generator], Dialogue | None]
FACTS: dict[str, Single] = {
    "present": present,
    "exact": exact,
    "relation": relation,
    "side": side,
    "where": where,
    "which_way": which_way,
    "match": match,
    "count": count,
    "attribute": attribute,
    "locate": locate,
    "locate_all": locate_all,
    "verdict": verdict,
    "listen": listen,
}
"""The tasks that ask for facts of one picture."""
BINARY = ("present", "exact", "relation", "match")
"""Those whose answer is yes or no about what is to be seen."""
