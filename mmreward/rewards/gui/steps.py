"""Training rewards of GUI steps by name: GUI-R1, UI-R1, InfiGUI-R1 and BTL-UI, with their formulas.

Each pays a form beside what is right. Not kept: GUI-R1's `eval` of the response, its containment of one word
in another (the letter "e" matched "hello"), and the stray character that makes BTL-UI's released form 0
always. Whether an action is right is in `rules`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from ...errors import Unscorable
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.actions import View, read_actions
from ...verifiers.boxes import Box, boxes_of, iou, to_unit
from ...verifiers.coordinates import items_of
from ...verifiers.lists import found_lists
from ...verifiers.response import Verdict, expect_one, read_aside, verified
from ...verifiers.spaces import Named, Size, Space, extent, space_of
from .grounding import FORM
from .rules import RULES, Matched, Rule, best, ignored
from .targets import Gold, gold_of, known_size, view_of

Parts = dict[str, float]
SAME_ROI = 0.5
"""IoU from which two regions of BTL-UI are one."""


class Step(NamedTuple):
    """A response beside the right action.

    Args:
        text: the whole response.
        gold: the right action.
        view: the picture in the response's coordinates.
        size: height and width of the picture as the model saw it; None where nothing says.
    """

    text: str
    gold: Gold
    view: View
    size: Size | None

    def matched(self, rule: Rule) -> Matched:
        """Match of the only action of the response.

        Raises:
            Unscorable: "unparsable" for none and for several.
        """
        found = best(
            expect_one(read_actions(self.text, self.view), "refuse", "action"), self.gold, rule, self.size
        )
        noted("match", "{}", found._asdict())
        return found


def _gui_r1(step: Step) -> Parts:
    found = step.matched(replace(RULES["gui_r1"], app=ignored))
    return {"accuracy": 0.8 * found.right, "format": 0.2 * _gui_r1_form(step.text)}


def _gui_r1_form(text: str) -> float:
    """1 for the tags and a list of {"action", "point": two integers, "input_text"} with its words."""
    if not FORM.fullmatch(text.strip()):
        return 0.0
    answer = text.partition("<answer>")[2].partition("</answer>")[0]
    lists = [found.value for found in found_lists(answer)]
    actions = lists[0] if len(lists) == 1 and isinstance(lists[0], list) else []
    return float(bool(actions) and all(map(_gui_r1_action, actions)))


def _gui_r1_action(action: Any) -> bool:
    if not isinstance(action, Mapping) or not {"action", "point", "input_text"} <= action.keys():
        return False
    name, point, words = action["action"], action["point"], action["input_text"]
    if not isinstance(name, str) or not isinstance(words, str) or not isinstance(point, list):
        return False
    if len(point) != 2 or not all(type(side) is int for side in point):
        return False
    if name == "scroll":
        return words in ("left", "right", "up", "down")
    return name not in ("type", "select", "open_app") or words != "no input text"


def _ui_r1(step: Step) -> Parts:
    found = step.matched(replace(RULES["box"], app=ignored, words=ignored, direction="ignored", keys=False))
    action = float(found.type)
    place = float(found.type and found.place)
    return {"action": action, "coordinate": place, "format": float(bool(FORM.fullmatch(step.text.strip())))}


def _infigui_r1(step: Step) -> Parts:
    if not FORM.fullmatch(step.text.strip()):
        raise Unscorable("the tags of thought and answer are missing, and nothing else counts", "unparsable")
    found = step.matched(RULES["box"])
    return {"format": 0.5, "type": 0.25 * found.type, "parameters": 0.25 * found.right}


def _btl_ui(step: Step) -> Parts:
    link, blink = (_between(step.text, tag) for tag in ("link", "blink"))
    rois = _regions(blink, step.view)
    found = step.matched(RULES["btl_ui"])
    seen = not step.gold.boxes or (
        rois is not None
        and _distinct(rois)
        and any(iou(roi, box) > SAME_ROI for roi in rois for box in step.gold.boxes)
    )
    formed = rois is not None and bool(link) and bool(_between(step.text, "think"))
    return {"format": 0.1 * formed, "blink": 0.3 * seen, "link": 0.6 * found.right}


def _between(text: str, tag: str) -> str:
    """Text in the only pair of such tags; "" for none or several."""
    if text.count(f"<{tag}>") != 1 or text.count(f"</{tag}>") != 1:
        return ""
    return text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0].strip()


def _regions(text: str, view: View) -> list[Box] | None:
    """Regions of interest in fractions of the picture; None where one cannot be read."""
    try:
        found = [one.value for one in found_lists(text)]
    except Unscorable:
        return None
    if len(found) != 1:
        return None
    boxes = boxes_of(items_of(found[0], 4, view.axes), y_first=view.axes.y_first)
    units = [to_unit(box, view.axes.width, view.axes.height) if box else None for box in boxes[:MAX_ROIS]]
    known = [unit for unit in units if unit is not None]
    return known if len(known) == len(boxes) else None


MAX_ROIS = 64


def _distinct(boxes: list[Box]) -> bool:
    """True where no two are one: where suppression at an IoU of 0.5 would leave all."""
    return not any(iou(a, b) >= SAME_ROI for at, a in enumerate(boxes) for b in boxes[:at])


Protocol = Literal["gui_r1", "ui_r1", "infigui_r1", "btl_ui"]
PROTOCOLS: Mapping[str, tuple[Callable[[Step], Parts], tuple[str, ...]]] = {
    "gui_r1": (_gui_r1, ("accuracy", "format")),
    "ui_r1": (_ui_r1, ("action", "coordinate", "format")),
    "infigui_r1": (_infigui_r1, ("format", "type", "parameters")),
    "btl_ui": (_btl_ui, ("format", "blink", "link")),
}
"""Name -> formula and the parts whose sum it is."""
RIGHT = {"gui_r1": 0.8, "ui_r1": 2.0, "infigui_r1": 1.0, "btl_ui": 0.6}
"""Name -> what the right action earns, its form aside; that of InfiGUI-R1 is a condition."""


@reward(
    "gui_step",
    needs=("response", "target"),
    optional=("image",),
    range=(0.0, 3.0),
    uses_prompt=False,
    paper="arXiv:2504.10458",
    example={
        "response": "<think>The field is on the left.</think>"
        "<answer>[{'action': 'click', 'point': [250, 260], 'input_text': 'no input text'}]</answer>",
        "target": {"action": {"type": "click"}, "boxes": [[100, 100, 400, 400]]},
    },
)
def gui_step(
    protocol: Protocol = "gui_r1", space: Named = "norm_1000", target_space: Named = "norm_1000"
) -> Any:
    """Training rewards of GUI steps by the name of their authors; the target is as for `gui_action`.

    - "gui_r1" (to 1): 0.8 for the right action (strictly in the box, or under 140 pixels of the picture as
      the model saw it; words by F1 of 0.5), 0.2 for `<think>`, `<answer>` and the keys action, point,
      input_text.
    - "ui_r1" (to 3): 1 for the type, 1 for a click in the box (and any other action of the right type), 1
      for the tags.
    - "infigui_r1" (to 1): nothing without the tags; then 0.5, and 0.25 each for type and parameters. The
      authors publish the formula without its weights, so these are ours.
    - "btl_ui" (to 1): 0.1 for the form `<blink>`, `<think>`, `<link>`; 0.3 for regions of interest of which
      one covers the element (IoU above 0.5) and no two are the same; 0.6 for the right action, strictly in
      the box and within 0.14 of its point.

    A response without one readable action is worth 0, form included; so are several actions.

    Args:
        protocol: one of these.
        space: of the response's coordinates, as in `click`.
        target_space: of `sample.target`.
    """
    formula, names = PROTOCOLS[protocol]
    response_space, truth_space = space_of(space), space_of(target_space)

    async def score(sample: Sample) -> Score:
        gold = await read_aside(lambda one: gold_of(one.target, truth_space, one), sample)
        view, size = view_of(response_space, sample), seen_size(response_space, sample)

        def check() -> Verdict:
            parts = formula(Step(sample.response or "", gold, view, size))
            return Verdict(sum(parts.values()), parts)

        return verified(check, names)

    score.right_value = RIGHT[protocol]  # type: ignore[attr-defined]  # for `mmreward check`
    return score


def seen_size(space: Space, sample: Sample) -> Size | None:
    """Height and width of the picture as the model saw it, where its coordinates are pixels of that."""
    return extent(space, sample) if space.unit in ("resized", "sent") else known_size(sample)
