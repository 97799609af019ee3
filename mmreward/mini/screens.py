"""Screens of the miniature: a tiny GUI of icons, or of windows with texts to be read, without any package.

    from mmreward.mini.screens import Device, draw_task
    device = Device(draw_task(seed=3))                  # icons of shapes world; texts=True: `windows`
    device.picture()                      # what is to be seen
    device.perform(read_actions(...)[0])  # an Action of verifiers.actions

A task names one element to press, or two in order, of which the second is on the page that the first opens.
Pressing another element leads to a page of no use, and pressing nothing does nothing. What was pressed
decides: success is that the right elements were pressed, in order, and no other one. `rows` gives each step
as a row for the rewards `click` and `gui_action`, in the coordinates 0 to 1000. The elements of windows are
of texts and arrangements that mini-gui was never trained on, unless a task is drawn with `held_out=False`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from ..errors import Unscorable
from ..verifiers.actions import WHOLE, Action, read_actions
from .windows import Element, Window, draw_window
from .world import COLOURS, SHAPES, Scene, Thing, render, sample_scene

SIZE = 64
"""Pixels of a side."""
LEAST, MOST = 2, 4
"""Icons on a page."""
DONE = Scene(())
"""The page after the last right press: empty."""
Page = Scene | Window
KINDS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)


@dataclass(frozen=True, slots=True)
class ScreenTask:
    """What is to be pressed.

    Args:
        pages: the first page, and those that the right presses open.
        wanted: the element of each page that is right.
        lost: the page that a wrong press opens.
    """

    pages: tuple[Page, ...]
    wanted: tuple[tuple[str, str], ...]
    lost: Page

    @property
    def goal(self) -> str:
        """The task in words: "Press the red circle, then the blue square."."""
        return f"Press {', then '.join(f'the {role} {name}' for role, name in self.wanted)}."

    def thing(self, step: int) -> Thing | Element:
        """The element that is right in a step."""
        return next(thing for thing in self.pages[step].things if thing.kind == self.wanted[step])


def draw_task(seed: int, steps: int = 1, texts: bool = False, held_out: bool = True) -> ScreenTask:
    """The task of a seed.

    Args:
        seed: of its elements and their places.
        steps: presses, 1 or 2.
        texts: on windows, not with icons.
        held_out: the texts and arrangements of windows are those that no training draws.

    Raises:
        ValueError: another number of presses.
    """
    if steps not in (1, 2):
        raise ValueError(f"a task has 1 or 2 presses, not {steps}")
    rng = np.random.default_rng([seed, steps])
    pages = [draw_window(rng, held_out) if texts else _page(rng) for _ in range(steps + 1)]
    wanted = [page.things[int(rng.integers(len(page.things)))].kind for page in pages[:steps]]
    return ScreenTask(tuple(pages[:steps]), tuple(wanted), pages[steps])


def _page(rng: np.random.Generator) -> Scene:
    """A page of icons, no two of which are alike."""
    chosen = rng.permutation(len(KINDS))[: int(rng.integers(LEAST, MOST + 1))]
    return sample_scene(rng, [KINDS[number] for number in chosen])


def asked(goal: str, pressed: Sequence[tuple[str, str]]) -> str:
    """What an agent is asked that has pressed something on the way to a goal: "Done: the red circle. Press
    the red circle, then the blue square."."""
    done = f"Done: {', '.join(f'the {role} {name}' for role, name in pressed)}. " if pressed else ""
    return done + goal


@dataclass(slots=True)
class Device:
    """A device on which a task is done.

    Args:
        task: to do.
        pressed: elements that were pressed, in order.
    """

    task: ScreenTask
    pressed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def page(self) -> Page:
        """What is on the screen."""
        right = len(self.pressed)
        if self.pressed != list(self.task.wanted[:right]):
            return self.task.lost
        return DONE if self.success else self.task.pages[right]

    @property
    def success(self) -> bool:
        """True where the right elements were pressed, in order, and no other one."""
        return self.pressed == list(self.task.wanted)

    @property
    def lost(self) -> bool:
        """True where a wrong element was pressed: the task cannot be done any more."""
        return self.page is self.task.lost

    def picture(self, size: int = SIZE) -> Image.Image:
        """The screen."""
        return self.page.picture(size) if isinstance(self.page, Window) else render(self.page, size)

    def obey(self, words: str) -> None:
        """Perform the one action of an agent's answer, in parts of the whole screen; an answer that cannot be
        read, has several or lies beside the screen does nothing."""
        try:
            actions = read_actions(words, WHOLE)
            if len(actions) == 1:
                self.perform(actions[0])
        except Unscorable:
            return

    def perform(self, action: Action) -> bool:
        """Do an action; True where an element was pressed.

        Raises:
            Unscorable: "unparsable" for what is no click on the screen.
        """
        if action.type != "click" or action.point is None or not action.point.inside:
            raise Unscorable(f"this device does no {action.type} beside its screen", "unparsable")
        x, y = action.point
        for thing in self.page.things:
            left, top, right, bottom = thing.box
            if left <= x <= right and top <= y <= bottom and not self.success and not self.lost:
                self.pressed.append(thing.kind)
                return True
        return False


def rows(tasks: Sequence[ScreenTask], size: int = SIZE) -> list[dict[str, Any]]:
    """Each step of each task as a row: `image`, `prompt`, and `target`, the right click and its box, in the
    coordinates 0 to 1000; `steps` are the right presses before it."""
    found: list[dict[str, Any]] = []
    for number, task in enumerate(tasks):
        device = Device(task)
        before: list[dict[str, Any]] = []
        for step in range(len(task.wanted)):
            thing = task.thing(step)
            box = [round(1000 * side, 1) for side in thing.box]
            point = [round(1000 * thing.x, 1), round(1000 * thing.y, 1)]
            target = {"action": {"type": "click", "point": point}, "boxes": [box]}
            picture = device.picture(size)
            found.append({"id": f"{number}-{step}", "prompt": task.goal, "image": picture,
                          "steps": tuple(before), "target": target, "box": box})  # fmt: skip
            before.append({"observation": picture, "action": {"type": "click", "point": point}})
            device.pressed.append(thing.kind)
    return found
