"""Scene graphs of simple captions by a grammar: objects with their numbers and attributes, and one relation.

It reads lists of noun phrases ("a red circle, two blue squares and a dog"), and one phrase in relation to
another ("a photo of a cat left of a small wooden chair"). What it does not know for sure it refuses: a wrong
graph would ask a picture for what nobody wanted. Knows no model and no picture.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import Unscorable
from ..verifiers.numerals import UNITS

# fmt: off
COLOURS = frozenset({
    "beige", "black", "blue", "brown", "cyan", "gold", "golden", "gray", "green", "grey", "magenta", "maroon",
    "navy", "orange", "pink", "purple", "red", "silver", "tan", "teal", "turquoise", "violet", "white",
    "yellow",
})
SHADES = frozenset({"bright", "dark", "deep", "light", "pale"})
"""Words that belong to the colour after them."""
ATTRIBUTES = COLOURS | {
    "big", "circular", "clear", "curved", "dotted", "empty", "fluffy", "furry", "giant", "glass", "huge",
    "large", "leather", "little", "long", "metal", "metallic", "old", "open", "oval", "plastic",
    "rectangular", "round", "rubber", "shiny", "short", "small", "smooth", "spotted", "square", "stone",
    "striped", "tall", "thick", "thin", "tiny", "transparent", "triangular", "wide", "wooden", "young",
}
NOUNS_IN_ING = frozenset({
    "awning", "building", "ceiling", "clothing", "duckling", "earring", "king", "painting", "pudding",
    "railing", "ring", "sling", "string", "swing", "wing",
})
"""Words on -ing that are things; any other may be a verb."""
STRAY = frozenset({
    "a", "about", "after", "against", "all", "along", "among", "an", "any", "are", "around", "as", "at",
    "background", "be", "before", "being", "between", "both", "bottom", "but", "by", "center", "centre",
    "corner", "down", "each", "edge", "either", "every", "few", "for", "foreground", "from", "has", "have",
    "having", "he", "her", "his", "in", "into", "is", "it", "its", "just", "left", "less", "many", "middle",
    "more", "most", "neither", "no", "none", "nor", "not", "of", "off", "on", "only", "onto", "or", "other",
    "our", "out", "over", "right", "same", "several", "she", "side", "some", "than", "that", "the", "their",
    "them", "there", "they", "this", "those", "through", "to", "top", "towards", "two", "up", "very", "was",
    "were", "where", "which", "while", "who", "whose", "with", "without", "you", "your",
})
"""Words that show a phrase to be more than a noun with its attributes."""
IRREGULAR = {
    "brownies": "brownie", "buses": "bus", "calves": "calf", "children": "child", "cookies": "cookie",
    "elves": "elf", "feet": "foot", "geese": "goose", "heroes": "hero", "hooves": "hoof", "knives": "knife",
    "leaves": "leaf", "lenses": "lens", "loaves": "loaf", "magpies": "magpie", "mangoes": "mango",
    "men": "man", "mice": "mouse", "neckties": "necktie", "octopuses": "octopus", "people": "person",
    "potatoes": "potato", "scarves": "scarf", "shelves": "shelf", "smoothies": "smoothie", "teeth": "tooth",
    "tomatoes": "tomato", "volcanoes": "volcano", "wolves": "wolf", "women": "woman", "zombies": "zombie",
}
INVARIABLE = frozenset({"aircraft", "bison", "deer", "fish", "scissors", "sheep", "skis"})
# fmt: on
PLURALS = {one: many for many, one in IRREGULAR.items()}
RELATIONS = {
    "to the left of": "left of",
    "on the left of": "left of",
    "left of": "left of",
    "to the right of": "right of",
    "on the right of": "right of",
    "right of": "right of",
    "above": "above",
    "below": "below",
    "beneath": "below",
    "underneath": "under",
    "under": "under",
    "on top of": "on top of",
    "in front of": "in front of",
    "behind": "behind",
    "next to": "next to",
    "beside": "next to",
    "near": "near",
    "inside": "inside",
    "on": "on",
}
LARGEST = len(UNITS) - 1
FRAME = re.compile(
    r"(?:(?:a|an|the) )?(?:photo|photograph|picture|image|painting|drawing|rendering|illustration) of "
    r"|there (?:is|are) "
)
RELATION = re.compile(rf" (?:is |are )?({'|'.join(sorted(RELATIONS, key=len, reverse=True))}) ")
JOINT = re.compile(r", (?:and )?| and ")
WORD = re.compile(r"[a-z]+(?:[-'][a-z]+)*")
DIGITS = re.compile(r"[1-9]\d?")
PAIR = re.compile(r"a (?:pair|couple) of ")


class Entity(NamedTuple):
    """So many things of a kind.

    Args:
        noun: in the singular.
        attributes: in the order of the caption.
        number: of them.
        stated: False where the caption says a, an or the.
    """

    noun: str
    attributes: tuple[str, ...] = ()
    number: int = 1
    stated: bool = False

    @property
    def name(self) -> str:
        """Attributes and noun, such as "red circle"."""
        return " ".join((*self.attributes, self.noun))


class Relation(NamedTuple):
    """Relation of the first entity to the second, by their places; `words` is one of `RELATIONS`' values."""

    first: int
    words: str
    second: int


class SceneGraph(NamedTuple):
    """What a caption asks for: entities, each kind once, and at most one relation."""

    entities: tuple[Entity, ...]
    relation: Relation | None = None


def parse_scene(caption: str) -> SceneGraph:
    """Scene graph of a simple caption.

    Raises:
        Unscorable: "na" where the grammar does not read it, with the words it stopped at.
    """
    text = " ".join(caption.casefold().split()).strip(" .!")
    if framed := FRAME.match(text):
        text = text[framed.end() :]
    if not text:
        raise _unread(caption, "there is no phrase")
    sides = RELATION.split(text)
    if len(sides) == 1:
        return SceneGraph(_merged([_entity(phrase, caption) for phrase in JOINT.split(text)]))
    if len(sides) > 3:
        raise _unread(caption, f"{sides[1]!r} and {sides[3]!r} are two relations")
    first, words, second = sides
    if joined := next((side for side in (first, second) if JOINT.search(side)), None):
        raise _unread(caption, f"{joined!r} is a list in a relation")
    entities = _entity(first, caption), _entity(second, caption)
    if entities[0].name == entities[1].name:
        raise _unread(caption, f"{words!r} relates {entities[0].name!r} to itself")
    return SceneGraph(entities, Relation(0, RELATIONS[words], 1))


def plural(noun: str) -> str:
    """Plural of a noun, of which the last word changes."""
    *before, last = noun.split(" ")
    if last in INVARIABLE:
        many = last
    elif last in PLURALS:
        many = PLURALS[last]
    elif re.search(r"(?:s|x|z|ch|sh)$", last):
        many = last + "es"
    elif re.search(r"[^aeiou]y$", last):
        many = last[:-1] + "ies"
    else:
        many = last + "s"
    return " ".join((*before, many))


def _singular(noun: str, caption: str) -> str:
    *before, last = noun.split(" ")
    if last in INVARIABLE:
        one = last
    elif last in IRREGULAR:
        one = IRREGULAR[last]
    elif last.endswith("ies") and len(last) > 4:
        one = last[:-3] + "y"
    elif re.search(r"(?:ss|x|zz|ch|sh)es$", last):
        one = last[:-2]
    elif re.search(r"[^s]s$", last):
        one = last[:-1]
    else:
        raise _unread(caption, f"{noun!r} is no plural")
    return " ".join((*before, one))


def _entity(phrase: str, caption: str) -> Entity:
    number, stated, rest = _counted(phrase, caption)
    words = rest.split(" ")
    for word in words:
        if not WORD.fullmatch(word) or word in STRAY or word in UNITS:
            raise _unread(caption, f"{word!r} is no part of a noun in {phrase!r}")
        if word.endswith("ing") and word not in NOUNS_IN_ING:
            raise _unread(caption, f"{word!r} may be a verb in {phrase!r}")
    attributes: list[str] = []
    while len(words) > 1:
        if words[0] in SHADES and words[1] in COLOURS and len(words) > 2:
            attributes.append(f"{words[0]} {words[1]}")
            words = words[2:]
        elif words[0] in ATTRIBUTES:
            attributes.append(words.pop(0))
        else:
            break
    noun = " ".join(words)
    if noun in COLOURS - {"orange"} or len(words) > 3:
        raise _unread(caption, f"{noun!r} is no noun")
    return Entity(_singular(noun, caption) if number > 1 else noun, tuple(attributes), number, stated)


def _counted(phrase: str, caption: str) -> tuple[int, bool, str]:
    """Number of a phrase, whether it is stated, and the words after it."""
    if pair := PAIR.match(phrase):
        return 2, True, phrase[pair.end() :]
    first, _, rest = phrase.partition(" ")
    if not rest:
        raise _unread(caption, f"{phrase!r} has no number, and no a or an")
    if first in ("a", "an", "the"):
        return 1, False, rest
    value = UNITS.index(first) if first in UNITS else int(first) if DIGITS.fullmatch(first) else 0
    if not 1 <= value <= LARGEST:
        raise _unread(caption, f"{phrase!r} has no number up to {LARGEST}, and no a or an")
    return value, True, rest


def _merged(entities: Sequence[Entity]) -> tuple[Entity, ...]:
    """Each kind once: "a dog and a dog" are two."""
    kinds: dict[str, Entity] = {}
    for one in entities:
        if (known := kinds.get(one.name)) is not None:
            one = known._replace(number=known.number + one.number, stated=True)
        kinds[one.name] = one
    return tuple(kinds.values())


def _unread(caption: str, reason: str) -> Unscorable:
    return Unscorable(f"the grammar does not read {caption[:80]!r}: {reason}", "na")
