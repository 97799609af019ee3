"""Rules by which published evaluations call a GUI action right.

The same prediction is right under one and wrong under another: on a screen of 1080 x 2400 the area that a
click may hit is 16.5 % of the screen for UI-Genie and 1.1 % for Qwen. A rule here is its authors' with their
thresholds; what in their code is a fault rather than a rule (an empty text that matches, a crash, a step that
leaves the denominator) is not kept, and stands in the notes of `RULES`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from ...errors import Unscorable
from ...verifiers.action_names import OPPOSITE, POINTED
from ...verifiers.actions import Action, Point
from ...verifiers.boxes import Box, iou
from ...verifiers.spaces import Size
from ...verifiers.text import edit_distance, normalise, normalise_name
from .click import within
from .targets import Gold, Node


class Place(NamedTuple):
    """A click and what it is compared with, in fractions of the picture.

    Args:
        found: where it was clicked.
        box: the box that was given in place of a point.
        true: where it should be.
        gold: with boxes and elements.
        size: height and width of the picture in pixels; None where nothing says.
    """

    found: Point
    box: Box | None
    true: Point
    gold: Gold
    size: Size | None

    def apart(self) -> float:
        """Distance in fractions of the picture's sides."""
        return math.hypot(self.found.x - self.true.x, self.found.y - self.true.y)

    def pixels(self) -> float:
        height, width = self.known()
        return math.hypot((self.found.x - self.true.x) * width, (self.found.y - self.true.y) * height)

    def known(self) -> Size:
        """Size of the picture.

        Raises:
            Unscorable: "missing" where the rule counts pixels and nothing says how many there are.
        """
        if self.size is None:
            raise Unscorable('a rule in pixels needs meta["size"] = (height, width) or an image', "missing")
        return self.size


ROUNDING = 1e-9
"""Distance that arithmetic may add: 96 pixels are within 96."""


def at_most(value: float, limit: float) -> bool:
    return value <= limit + ROUNDING


def under(value: float, limit: float) -> bool:
    return value < limit - ROUNDING


Click = Callable[[Place], bool]
Words = Callable[[str, str], bool]

# --- places ---------------------------------------------------------------------------------------


def grown(box: Box, factor: float) -> Box:
    """Box whose sides are `factor` times as long, around the same centre."""
    x, y = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
    width, height = (box.x2 - box.x1) / 2 * factor, (box.y2 - box.y1) / 2 * factor
    return Box(x - width, y - height, x + width, y + height)


def near(share: float) -> Click:
    """Within a distance in fractions of the sides, inclusive."""
    return lambda place: at_most(place.apart(), share)


def in_boxes(place: Place, factor: float = 1.0) -> bool:
    return any(within(place.found, grown(box, factor)) for box in place.gold.boxes)


def _box_else_near(place: Place) -> bool:
    if place.gold.boxes:
        return in_boxes(place)
    return at_most(place.pixels(), 0.04 * max(place.known())) if place.size else at_most(place.apart(), 0.04)


def _odyssey(place: Place) -> bool:
    return in_boxes(place) or at_most(place.apart(), 0.14)


def _qwen(place: Place) -> bool:
    return in_boxes(place, 1.2) or at_most(place.pixels(), 0.04 * max(place.known()))


def _aitw(place: Place) -> bool:
    boxes = [grown(box, 2.4) for box in (*(node.box for node in place.gold.nodes), *place.gold.boxes)]
    shared = any(within(place.found, box) and within(place.true, box) for box in boxes)
    return shared or at_most(place.apart(), 0.14)


def _aitz(place: Place) -> bool:
    """The box that was given, 1.2 times as large, holds the point, or overlaps an element that does by half.

    A point that was given in place of a box is right in such an element.
    """
    holding = [grown(node.box, 1.2) for node in place.gold.nodes if within(place.true, grown(node.box, 1.2))]
    if place.box is None:
        return any(within(place.found, box) for box in holding)
    given = grown(place.box, 1.2)
    return within(place.true, given) or any(iou(given, box) > 0.5 for box in holding)


def smallest(point: Point, nodes: Sequence[Node]) -> Node | None:
    """Smallest element that a point lies in; None outside all."""
    holding = [node for node in nodes if within(point, node.box)]
    return min(
        holding, key=lambda node: (node.box.x2 - node.box.x1) * (node.box.y2 - node.box.y1), default=None
    )


def _a11y(place: Place) -> bool:
    node = smallest(place.true, place.gold.nodes)
    return node is not None and within(place.found, node.box)


def _gui_r1(place: Place) -> bool:
    if place.gold.boxes:
        return any(within(place.found, box, "strict") for box in place.gold.boxes)
    return under(place.pixels(), 140)


def _btl(place: Place) -> bool:
    inside = any(within(place.found, box, "strict") for box in place.gold.boxes)
    return inside and under(place.apart(), 0.14)


def _ui_r1(place: Place) -> bool:
    return at_most(place.pixels(), 1080 * 0.14)


def _genie(place: Place) -> bool:
    height, width = place.known()
    return at_most(place.pixels(), math.hypot(0.14 * width, 0.14 * height))


def _os_genesis(place: Place) -> bool:
    """Distances in its screen of 1080 x 2400, whatever the picture's."""
    x, y = (place.found.x - place.true.x) * 1080, (place.found.y - place.true.y) * 2400
    return at_most(math.hypot(x, y), math.hypot(0.14 * 1080, 0.14 * 2400))


# --- words ----------------------------------------------------------------------------------------

MAX_RATIO = 2000
"""Characters of two texts whose similarity is looked at."""


def same(found: str, true: str) -> bool:
    return normalise(found) == normalise(true)


def exactly(found: str, true: str) -> bool:
    return found == true


def contained(found: str, true: str) -> bool:
    """One in the other, in small letters; an empty text is in none."""
    a, b = normalise(found), normalise(true)
    return a == b or bool(a and b and (a in b or b in a))


def overlap(found: str, true: str) -> float:
    """F1 of the sets of words."""
    a, b = set(found.lower().split()), set(true.lower().split())
    common = len(a & b)
    return 2 * common / (len(a) + len(b)) if common else 0.0


def f1_from(least: float) -> Words:
    return lambda found, true: overlap(found, true) >= least or same(found, true)


def f1_above(least: float) -> Words:
    return lambda found, true: overlap(found, true) > least or same(found, true)


def first_word(found: str, true: str) -> bool:
    """OS-Atlas on AndroidControl looks at the first word alone."""
    return overlap(" ".join(found.split()[:1]), " ".join(true.split()[:1])) > 0.5 or found == true == ""


def anls(found: str, true: str) -> bool:
    longest = max(len(found), len(true))
    return longest == 0 or 1 - edit_distance(found[:MAX_RATIO], true[:MAX_RATIO]) / longest >= 0.5


def _odyssey_words(found: str, true: str) -> bool:
    a, b = found.strip(), true.strip()
    return a == b or bool(a and b and (a in b or b in a or anls(a, b)))


def ratio(a: str, b: str) -> float:
    """Share of two texts that is in both in this order: 2 lcs / (lengths), as `Levenshtein.ratio`."""
    a, b = a[:MAX_RATIO], b[:MAX_RATIO]
    if not a or not b:
        return float(a == b)
    places: dict[str, int] = {}
    for position, char in enumerate(a):
        places[char] = places.get(char, 0) | 1 << position
    full = (1 << len(a)) - 1
    row = full
    for char in b:
        met = row & places.get(char, 0)
        row = ((row + met) | (row - met)) & full
    return 2 * (len(a) - row.bit_count()) / (len(a) + len(b))


def _aitz_words(found: str, true: str) -> bool:
    return found == true or bool(
        found and true and (found in true or true in found or ratio(found, true) > 0.8)
    )


def ignored(found: str, true: str) -> bool:
    return True


# --- rules ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A published rule of a match.

    Args:
        click: of places, for everything that is done at one.
        words: of typed and answered text.
        app: of the name of an app that is opened.
        direction: "content" must be equal, or only the "axis", or it is "ignored".
        keys: keys must be equal; off, any key will do.
        status: the status of the end must be equal; off, any end will do.
        taps: a swipe of at most 0.04 of the sides is a tap, as in AITW's dual points.
        elements: a click on an element of the app's name opens it, and one on "back" goes back.
        note: where it is from, and what of its code is not kept.
    """

    click: Click
    words: Words = same
    app: Words = same
    direction: Literal["content", "axis", "ignored"] = "content"
    keys: bool = True
    status: bool = True
    taps: bool = False
    elements: bool = False
    note: str


RULES: Mapping[str, Rule] = {
    "box": Rule(
        click=_box_else_near,
        note="ours: in a box of the target (edges in), or within 0.04 of the longer side where it has none",
    ),
    "a11y": Rule(
        click=_a11y, words=exactly, app=exactly, elements=True,
        note="UGround on AndroidControl: the smallest element that holds the right point holds the click",
    ),
    "aitw": Rule(
        click=_aitw, words=ignored, direction="axis", status=False, taps=True,
        note="AITW, SeeClick: one element, 2.4 times as large, holds both points, or 0.14 of the sides",
    ),
    "aitz": Rule(
        click=_aitz, words=_aitz_words, app=_aitz_words, status=False,
        note="AITZ (CoAT): the box that is given, 1.2 times as large, holds the point; so does any large box",
    ),
    "odyssey": Rule(
        click=_odyssey, words=_odyssey_words, app=_odyssey_words, keys=False, status=False,
        note="GUI-Odyssey: in SAM2's box (edges in) or 0.14 of the sides; empty text matches in its code",
    ),
    "qwen": Rule(
        click=_qwen, words=contained, app=contained,
        note="Qwen2.5-VL, InfiGUI-R1: in the box 1.2 times as large, or 0.04 of the longer side in pixels",
    ),
    "ui_genie": Rule(
        click=_genie, words=f1_above(0.5), app=f1_above(0.5), status=False,
        note="UI-Genie: 0.14 of the diagonal in pixels; unparsed steps leave its denominators",
    ),
    "os_genesis": Rule(
        click=_os_genesis, words=f1_above(0.5), app=exactly,
        note="OS-Genesis: 0.14 of the diagonal of 1080 x 2400; any other action is equal to the letter",
    ),
    "gui_r1": Rule(
        click=_gui_r1, words=f1_from(0.5), app=f1_from(0.5), keys=False, status=False,
        note="GUI-R1 in training: strictly in the box, or under 140 pixels from the point",
    ),
    "gui_r1_eval": Rule(
        click=lambda place: under(place.apart(), 0.14), words=f1_from(0.5), app=f1_from(0.5),
        keys=False, status=False,
        note="GUI-R1 and UI-AGILE in evaluation: under 0.14 of the sides",
    ),
    "ui_r1": Rule(
        click=_ui_r1, words=ignored, app=ignored, direction="ignored", keys=False, status=False,
        note="UI-R1: 151.2 pixels (0.14 of 1080); other actions by type alone",
    ),
    "btl_ui": Rule(
        click=_btl, words=f1_from(0.5), app=f1_from(0.5), status=False,
        note="BTL-UI: strictly in the box, and under 0.14 of the sides from the point",
    ),
    "os_atlas": Rule(
        click=near(0.14), words=first_word, app=first_word, status=False,
        note="OS-Atlas on AndroidControl: 140 of 1000; of words the first one alone",
    ),
    "os_atlas_odyssey": Rule(
        click=near(0.14), words=f1_above(0.5), app=f1_above(0.5), status=False,
        note="OS-Atlas on GUI-Odyssey: 140 of 1000; words by F1",
    ),
    "ui_tars": Rule(
        click=near(0.14), words=first_word, app=first_word, status=False,
        note="UI-TARS on AndroidControl: OS-Atlas's, as its authors say (their issue 79) without code",
    ),
}  # fmt: skip
"""Name -> rule; the name stands beside every number."""


class Matched(NamedTuple):
    """An action against the right one.

    Args:
        type: the types are the same.
        place: it is where it should be; True where no place matters.
        words: text, app, direction, keys or status are right.
        pointed: the right action has a place.
    """

    type: bool
    place: bool
    words: bool
    pointed: bool

    @property
    def right(self) -> bool:
        return self.type and self.place and self.words


def best(found: Action, gold: Gold, rule: Rule, size: Size | None) -> Matched:
    """Match with the right action that fits best."""
    matches = [match(found, true, gold, rule, size) for true in gold.actions]
    return max(matches, key=lambda one: (one.right, one.type, one.place, one.words))


def match(found: Action, true: Action, gold: Gold, rule: Rule, size: Size | None) -> Matched:
    """Match of an action with the right one under a rule."""
    if rule.elements and found.type == "click" and found.point is not None:
        stand_in = _by_element(found.point, true, gold.nodes)
        if stand_in is not None:
            return stand_in
    found, true = _alike(found, true, rule), _alike(true, true, rule)
    pointed = true.type in POINTED and true.type != "drag" and true.point is not None
    if found.type != true.type:
        return Matched(False, False, False, pointed)
    place = True
    if pointed and true.point is not None:
        inside = found.point is not None and found.point.inside
        place = inside and found.point is not None and rule.click(
            Place(found.point, found.box, true.point, gold, size)
        )  # fmt: skip
    return Matched(True, place, _words(found, true, rule, gold, size), pointed)


def _words(found: Action, true: Action, rule: Rule, gold: Gold, size: Size | None) -> bool:
    if true.type in ("type", "answer"):
        return rule.words(found.text, true.text)
    if true.type == "open_app":
        return rule.app(normalise_name(found.app), normalise_name(true.app))
    if true.type == "key":
        return not rule.keys or found.keys == true.keys
    if true.type == "finish":
        return not rule.status or found.status == true.status
    if true.type == "scroll":
        sides = {found.direction, true.direction}
        across = sides <= {"left", "right"} or sides <= {"up", "down"}
        return {"content": len(sides) == 1, "axis": across, "ignored": True}[rule.direction]
    if true.type == "drag":
        ends = ((found.point, true.point), (found.point2, true.point2))
        return all(
            a is not None and b is not None and a.inside and rule.click(Place(a, None, b, gold, size))
            for a, b in ends
            if b is not None
        )
    return True


def _alike(action: Action, true: Action, rule: Rule) -> Action:
    """The action as the rule sees it: a drag where a scroll is right is one, and a short swipe is a tap."""
    start, end = action.point, action.point2
    if start is None or end is None:
        return action
    if (
        rule.taps
        and action.type in ("scroll", "drag")
        and math.hypot(end.x - start.x, end.y - start.y) <= 0.04
    ):
        return replace(action, type="click", point2=None, direction="")
    if action.type == "drag" and true.type == "scroll":
        x, y = end.x - start.x, end.y - start.y
        side = ("right" if x > 0 else "left") if abs(x) > abs(y) else ("down" if y > 0 else "up")
        return replace(action, type="scroll", direction=OPPOSITE[side])
    return action


def _by_element(point: Point, true: Action, nodes: Sequence[Node]) -> Matched | None:
    """Match of a click on an element that stands for another action: an app's icon, or "back"."""
    wanted = {"open_app": true.app, "back": "back"}.get(true.type, "")
    node = smallest(point, nodes) if wanted else None
    if node is None or normalise_name(node.text) != normalise_name(wanted):
        return None
    return Matched(True, True, True, False)
