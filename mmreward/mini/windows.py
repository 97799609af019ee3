"""Windows of the miniature: pages of buttons, fields and lists with a text on each, drawn by Pillow alone.

    from mmreward.mini.windows import draw_window, marked
    page = draw_window(np.random.default_rng(3))
    marked(page.picture(), page.things[0].centre)    # with a cross where a click was done

A text is a word and a digit, such as "tab4", in Pillow's own bitmap font, so that a page looks the same with
every build of Pillow. Two elements of a page may have the same text where their kinds differ, and often share
the word or the digit: who presses the right one has read all of it. `HELD_OUT` are the texts and the
arrangements that no training draws: `draw_window(rng, held_out=True)` draws from these alone.

Places are in pixels of a page of 64 x 64. Nothing here knows of networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIZE = 64
"""Pixels of a side."""
KINDS = ("button", "field", "row")
WORDS = ("add", "cut", "get", "map", "new", "run", "set", "tab")
LABELS = tuple(f"{word}{digit}" for word in WORDS for digit in range(10))
BANDS = ("wide", "pair", "left", "right")
"""What stands in a band of a page: an element over all of it, two, or one on a side."""
ARRANGEMENTS = tuple(bands for number in (2, 3) for bands in product(BANDS, repeat=number))
HEIGHT, PITCH, LETTER = 13, 16, 6
"""Pixels of an element, least ones from band to band, and of the advance of a letter."""
MARK = (255, 0, 255)
LISTED, REPEATED, ALIKE = 0.6, 0.3, 0.5
"""Chances that a column of a page is a list, that a text stands twice on it, and that two texts share the
word or the digit."""


class Pool(NamedTuple):
    """Texts and arrangements that pages are drawn from."""

    labels: tuple[str, ...]
    arrangements: tuple[tuple[str, ...], ...]


def _held_out(label: str) -> bool:
    return (WORDS.index(label[:-1]) + int(label[-1])) % 5 == 0


HELD_OUT = Pool(tuple(label for label in LABELS if _held_out(label)), ARRANGEMENTS[2::5])
"""A fifth of both: every word and every digit is among the others too, but not together."""
TAUGHT = Pool(
    tuple(label for label in LABELS if label not in HELD_OUT.labels),
    tuple(bands for bands in ARRANGEMENTS if bands not in HELD_OUT.arrangements),
)


@dataclass(frozen=True, slots=True)
class Element:
    """A button, a field or a row of a list; its corners in pixels, both within it."""

    role: str
    label: str
    left: int
    top: int
    width: int

    @property
    def kind(self) -> tuple[str, str]:
        """What an instruction calls it: ("button", "tab4")."""
        return (self.role, self.label)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(x1, y1, x2, y2) in fractions of the side."""
        return (
            self.left / SIZE,
            self.top / SIZE,
            (self.left + self.width) / SIZE,
            (self.top + HEIGHT) / SIZE,
        )

    @property
    def x(self) -> float:
        """Of the centre, in fractions of the side."""
        return (self.left + self.width / 2) / SIZE

    @property
    def y(self) -> float:
        """Of the centre, in fractions of the side."""
        return (self.top + HEIGHT / 2) / SIZE

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x, self.y)

    @property
    def text_left(self) -> int:
        """Pixel at which the text begins: in the middle of a button, at the left of the others."""
        return self.left + ((self.width - LETTER * len(self.label)) // 2 if self.role == "button" else 3)


@dataclass(frozen=True, slots=True)
class Window:
    """A page of elements that do not touch."""

    things: tuple[Element, ...]

    def picture(self, size: int = SIZE) -> Image.Image:
        """The page; larger ones have larger pixels, for a text of another size would be another one."""
        canvas = Image.new("RGB", (SIZE, SIZE), (28, 30, 36))
        draw = ImageDraw.Draw(canvas)
        listed = [thing for thing in self.things if thing.role == "row"]
        if listed:
            first, last = listed[0], listed[-1]
            corners = (first.left, first.top, first.left + first.width - 1, last.top + HEIGHT - 1)
            draw.rectangle(corners, fill=(214, 214, 206))
        font = ImageFont.load_default_imagefont()
        for number, thing in enumerate(self.things):
            right, bottom = thing.left + thing.width - 1, thing.top + HEIGHT - 1
            ink = (235, 235, 235)
            if thing.role == "button":
                draw.rounded_rectangle((thing.left, thing.top, right, bottom), 3, fill=(40, 90, 190))
            elif thing.role == "field":
                draw.rectangle((thing.left, thing.top, right, bottom), fill=(10, 10, 12), outline=(150,) * 3)
            else:
                ink = (20, 20, 20)
                if number and thing is not listed[0]:
                    draw.line((thing.left, thing.top - 1, right, thing.top - 1), fill=(120, 120, 120))
            draw.text((thing.text_left, thing.top + 1), thing.label, font=font, fill=ink)
        return canvas if size == SIZE else canvas.resize((size, size), Image.Resampling.NEAREST)


def marked(picture: Image.Image, point: tuple[float, float]) -> Image.Image:
    """The picture of a page with a cross where something was clicked; `point` in fractions of the side."""
    copy = picture.copy()
    width, height = copy.size
    x, y = (min(int(v * side), side - 1) for v, side in zip(point, (width, height), strict=True))
    reach, draw = 2 * width // SIZE, ImageDraw.Draw(copy)
    draw.line((x - reach, y, x + reach, y), fill=MARK, width=max(1, width // SIZE))
    draw.line((x, y - reach, x, y + reach), fill=MARK, width=max(1, width // SIZE))
    return copy


def draw_window(rng: np.random.Generator, held_out: bool = False) -> Window:
    """A page of 2 to 6 elements, no two of which have the same kind and text.

    Args:
        rng: of everything on it.
        held_out: texts and arrangement are among those that no training draws.
    """
    pool = HELD_OUT if held_out else TAUGHT
    bands = pool.arrangements[int(rng.integers(len(pool.arrangements)))]
    slack = SIZE - PITCH * len(bands) - 2
    gaps = np.sort(rng.integers(0, slack + 1, len(bands)))
    tops = [2 + PITCH * number + int(gap) for number, gap in enumerate(gaps)]
    places = [(side, top) for band, top in zip(bands, tops, strict=True) for side in _sides(band)]
    listed = _list(rng, bands, tops)
    widths = {
        side: int(rng.integers(*(40, 61) if side == "wide" else (29, 32)))
        for side in ("wide", "left", "right")
    }
    lefts = {
        "wide": int(rng.integers(2, SIZE - 1 - widths["wide"])),
        "left": int(rng.integers(0, 32 - widths["left"])),
        "right": int(rng.integers(32, SIZE + 1 - widths["right"])),
    }
    things: list[Element] = []
    for place in places:
        side, top = place
        role = "row" if place in listed else KINDS[int(rng.integers(2))]
        label = _label(rng, role, things, pool.labels)
        things.append(Element(role, label, lefts[side], top, widths[side]))
    return Window(tuple(things))


def _sides(band: str) -> tuple[str, ...]:
    return ("left", "right") if band == "pair" else (band,)


def _list(rng: np.random.Generator, bands: Sequence[str], tops: Sequence[int]) -> set[tuple[str, int]]:
    """Places of the rows of a list: one side of bands that follow each other; at most one list on a page."""
    found = [
        [(side, tops[number]), (side, tops[number + 1])]
        for number in range(len(bands) - 1)
        for side in _sides(bands[number])
        if side in _sides(bands[number + 1])
    ]
    if not found or rng.random() >= LISTED:
        return set()
    return set(found[int(rng.integers(len(found)))])


def _label(rng: np.random.Generator, role: str, things: Sequence[Element], labels: Sequence[str]) -> str:
    """A text for the next element: another's own, one that is alike, or any."""
    taken = {thing.label for thing in things if thing.role == role}
    if things:
        other = things[int(rng.integers(len(things)))]
        if rng.random() < REPEATED and other.label not in taken:
            return other.label
        if rng.random() < ALIKE:
            near = [one for one in labels if one[:-1] == other.label[:-1] or one[-1] == other.label[-1]]
            near = [one for one in near if one not in taken and one != other.label]
            if near:
                return near[int(rng.integers(len(near)))]
    free = [one for one in labels if one not in taken]
    return free[int(rng.integers(len(free)))]
