"""Shapes world: scenes of one to four coloured shapes, their pictures and their captions.

This file knows nothing of networks and nothing of the oracle that reads pictures back (`oracle.py`).
Positions and sizes are fractions of the picture's side, so one scene can be drawn at any resolution.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 90, 230),
    "yellow": (240, 210, 40),
    "purple": (160, 60, 190),
    "cyan": (50, 200, 220),
}
SHAPES = ("circle", "square", "triangle")
BACKGROUND = (18, 18, 22)
NUMBERS = ("zero", "one", "two", "three", "four")
RELATIONS = ("left of", "right of", "above", "below")
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
RADIUS = (0.115, 0.175)
"""Smallest and largest half-extent of a shape, as a fraction of the side."""
SUPERSAMPLE = 8


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape: centre (x, y) and half-extent r in fractions of the side, y growing downwards."""

    colour: str
    shape: str
    x: float
    y: float
    r: float

    @property
    def kind(self) -> tuple[str, str]:
        return (self.colour, self.shape)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2) in fractions of the side; every shape fills its box."""
        return (self.x - self.r, self.y - self.r, self.x + self.r, self.y + self.r)


@dataclass(frozen=True, slots=True)
class Scene:
    """Shapes that do not touch, with optional extras that captions never mention."""

    things: tuple[Thing, ...]
    text: str = ""
    clutter: tuple[tuple[float, float, float, float], ...] = field(default=())
    """Thin grey strokes (x1, y1, x2, y2)."""

    @property
    def kinds(self) -> Counter[tuple[str, str]]:
        return Counter(thing.kind for thing in self.things)


def sample_scene(
    rng: np.random.Generator,
    kinds: Sequence[tuple[str, str]] | None = None,
    *,
    clutter: int = 0,
    text: str = "",
) -> Scene:
    """Sample a scene of the given kinds, or of one to four random ones, boxes 3 % of the side apart or
    more."""
    if kinds is None:
        count = int(rng.integers(1, 5))
        kinds = [(str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES))) for _ in range(count)]
    if not 1 <= len(kinds) <= 4:
        raise ValueError(f"a scene holds 1 to 4 shapes, not {len(kinds)}")
    while True:
        things = _place(rng, kinds)
        if things is not None:
            break
    strokes = []
    for _ in range(clutter):
        x, y, angle = rng.uniform(0.05, 0.95), rng.uniform(0.05, 0.95), rng.uniform(0, 2 * math.pi)
        strokes.append((x, y, x + 0.08 * math.cos(angle), y + 0.08 * math.sin(angle)))
    return Scene(things, text=text, clutter=tuple(strokes))


def _place(rng: np.random.Generator, kinds: Sequence[tuple[str, str]]) -> tuple[Thing, ...] | None:
    """Things of these kinds at places where they do not touch; None where no room was found."""
    things: list[Thing] = []
    for colour, shape in kinds:
        for _ in range(20):
            r = float(rng.uniform(*RADIUS))
            x, y = (float(v) for v in rng.uniform(r + 0.015, 1 - r - 0.015, size=2))
            if all(max(abs(x - o.x), abs(y - o.y)) > r + o.r + 0.03 for o in things):
                # Once a direction of motion. Without this draw every seed would give another scene, and the
                # committed weights and published figures belong to the scenes of their seeds.
                rng.uniform(0, 2 * math.pi)
                things.append(Thing(colour, shape, x, y, r))
                break
        else:
            return None
    return tuple(things)


def render(scene: Scene, size: int = 64) -> Image.Image:
    """Anti-aliased RGB picture of a scene, `size` x `size` pixels."""
    side = size * SUPERSAMPLE
    canvas = Image.new("RGB", (side, side), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for x1, y1, x2, y2 in scene.clutter:
        draw.line([(x1 * side, y1 * side), (x2 * side, y2 * side)], fill=(90, 90, 90), width=SUPERSAMPLE)
    for thing in scene.things:
        x1, y1, x2, y2 = (v * side for v in thing.box)
        colour = COLOURS[thing.colour]
        if thing.shape == "circle":
            draw.ellipse((x1, y1, x2, y2), fill=colour)
        elif thing.shape == "square":
            draw.rectangle((x1, y1, x2, y2), fill=colour)
        else:
            draw.polygon([(x1, y2), (x2, y2), ((x1 + x2) / 2, y1)], fill=colour)
    picture = canvas.resize((size, size), Image.Resampling.BOX)
    if scene.text:
        ImageDraw.Draw(picture).text((2, size - 11), scene.text, fill=(235, 235, 235))
    return picture


# --- words ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Caption:
    """Caption of a scene: the number of each kind, and at most one relation between two of the things."""

    kinds: tuple[tuple[tuple[str, str], int], ...]
    relation: str = ""
    """One of RELATIONS, between the first and the second kind; empty when the order does not matter."""

    @property
    def total(self) -> int:
        return sum(number for _, number in self.kinds)

    def __str__(self) -> str:
        phrases = [noun_phrase(colour, shape, number) for (colour, shape), number in self.kinds]
        if self.relation:
            return f"{phrases[0]} {self.relation} {phrases[1]}"
        return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def noun_phrase(colour: str, shape: str, number: int = 1) -> str:
    """Noun phrase of one to four things of a kind, such as "two red circles"."""
    return f"a {colour} {shape}" if number == 1 else f"{NUMBERS[number]} {colour} {shape}s"


def describe(scene: Scene, rng: np.random.Generator | None = None, relations: float = 0.0) -> Caption:
    """Caption of a scene. With a generator the kinds are shuffled, and two single shapes get a relation with
    probability `relations` (the one along the axis where they differ most)."""
    kinds = list(scene.kinds.items())
    if rng is not None:
        kinds = [kinds[i] for i in rng.permutation(len(kinds))]
        if len(scene.things) == 2 and len(kinds) == 2 and rng.random() < relations:
            first, second = (next(t for t in scene.things if t.kind == kind) for kind, _ in kinds)
            return Caption(tuple(kinds), relation_between(first, second))
    return Caption(tuple(kinds))


def relation_between(a: Thing, b: Thing) -> str:
    """Relation of `a` to `b` along the axis on which their centres differ most."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) >= abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def holds(relation: str, a: Thing, b: Thing) -> bool:
    """True when `a` lies left of / right of / above / below `b`, comparing centres on that axis alone."""
    return {"left of": a.x < b.x, "right of": a.x > b.x, "above": a.y < b.y, "below": a.y > b.y}[relation]


_PHRASE = re.compile(rf"\b(a|an|one|two|three|four) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})s?\b")
_RELATION = re.compile("|".join(RELATIONS))


def parse_caption(text: str) -> Caption:
    """Caption in a text of this world.

    Raises:
        ValueError: no shape is named.
    """
    lowered = text.lower()
    kinds: Counter[tuple[str, str]] = Counter()
    for number, colour, shape in _PHRASE.findall(lowered):
        kinds[colour, shape] += 1 if number in ("a", "an") else NUMBERS.index(number)
    if not kinds:
        raise ValueError(
            f"no shape named in {text[:80]!r}; expected a caption such as 'a red circle and two blue squares'"
        )
    relation = _RELATION.search(lowered)
    return Caption(tuple(kinds.items()), relation.group() if relation and len(kinds) == 2 else "")
