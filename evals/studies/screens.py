"""The best of k clicks on the miniature's screens: `python -m mmreward.evals.studies.screens`.

An agent is asked to press an element, once greedily and k times by chance, and a judge of steps looks at each
candidate: the same model, asked in other words. Beside its choice stand one drawn by chance, and the best
that any choice could make of the k. Tasks have one press, or two, of which the second is on the page that the
first opens. Two models, each in the forms that it was taught:

- mini-vlm writes a box, whose centre is clicked, and is asked of the surroundings of a click whether the icon
  is there. It has never read a letter.
- mini-gui writes a click, and is asked if the mark where it was done is on the element.

Both do icons and, with `--texts`, windows of texts and arrangements that mini-gui was never trained on.
Figures: evals/gui.md.
"""

import argparse
import json
import random
import re
from asyncio import gather
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from PIL import Image

from mmreward import Engine, Media, Sample, Score, models
from mmreward.data.choosing import choose
from mmreward.errors import Unscorable
from mmreward.mini import gui, tasks
from mmreward.mini.screens import Device, ScreenTask, draw_task
from mmreward.mini.windows import marked
from mmreward.models.vlms.answers import VLM, probability_of_yes
from mmreward.monitor.intervals import mean_of, paired_change
from mmreward.registry import Reward
from mmreward.types import RewardInfo
from mmreward.verifiers.actions import WHOLE, Point, read_actions

AROUND = 0.2
"""Half the side of the surroundings of a click, in fractions of the screen."""
BOX = re.compile(r'"bbox_2d":\s*\[\s*(\d+),\s*(\d+),\s*(\d+),\s*(\d+)\s*\]')
NOWHERE = "I cannot see it."
WAYS = ("greedy", "chance", "judge", "any")
"""Agents: one greedy click; of the k one by chance, the judge's, and the right one where there is any."""


class Outcome(NamedTuple):
    """Success of a task by each way."""

    steps: int
    won: Mapping[str, float]


def clicked(answer: str) -> str:
    """A click at the centre of the first box of an answer; words that do nothing without one."""
    found = BOX.search(answer)
    if found is None:
        return NOWHERE
    left, top, right, bottom = (int(side) for side in found.groups())
    return json.dumps({"action": "click", "coordinate": [(left + right) // 2, (top + bottom) // 2]})


def point_in(words: str) -> Point | None:
    """The place of the one click of an answer; None where there is no click on the screen."""
    try:
        (action,) = read_actions(words, WHOLE)
    except (Unscorable, ValueError):
        return None
    return action.point if action.point is not None and action.point.inside else None


def surroundings(screen: Image.Image, point: Point) -> Image.Image:
    """The part of a screen around a click, enlarged to its size."""
    x, y = point
    width, height = screen.size
    left, top = (min(max(v - AROUND, 0.0), 1 - 2 * AROUND) for v in (x, y))
    right, bottom = left + 2 * AROUND, top + 2 * AROUND
    part = screen.crop(
        (round(left * width), round(top * height), round(right * width), round(bottom * height))
    )
    return part.resize(screen.size, Image.Resampling.BICUBIC)


class Forms(NamedTuple):
    """Words of a model as an agent and as a judge.

    Args:
        ask: for a press of {noun}.
        clicked: the click in its answer.
        look: what the judge sees of a click.
        judge: asks whether {noun} was clicked.
    """

    ask: str
    clicked: Callable[[str], str]
    look: Callable[[Image.Image, Point], Image.Image]
    judge: str


FORMS: Mapping[str, Forms] = {
    "mini-vlm": Forms(tasks.LOCATE, clicked, surroundings, tasks.PRESENT),
    gui.NAME: Forms(gui.PRESS, str, marked, gui.JUDGE),
}


def step_judge(vlm: VLM, look: Callable[[Image.Image, Point], Image.Image]) -> Reward:
    """Judge of a candidate click: probability of yes to the prompt about what it is shown of the click."""

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        point = point_in(sample.response or "")
        if point is None:
            return Score(0.0, {"parsed": 0.0})
        seen = look(Image.fromarray(sample.image.still()), point)
        return Score(await probability_of_yes(vlm, Media(seen), sample.prompt, 0.0), {"parsed": 1.0})

    info = RewardInfo(name="around", needs=("prompt", "response", "image"), range=(0.0, 1.0))
    return Reward(info=info, args={}, fn=score, networks=(vlm,))


def run_task(
    engine: Engine, vlm: VLM, task: ScreenTask, count: int, seed: int, forms: Forms = FORMS["mini-vlm"]
) -> Outcome:
    """One task by every way, each on a device of its own."""
    devices = {way: Device(task) for way in WAYS}
    judge, rng = step_judge(vlm, forms.look), random.Random(seed)
    for step, kind in enumerate(task.wanted):
        noun = " ".join(kind)
        for way, device in devices.items():
            if len(device.pressed) != step or device.lost:
                continue
            screen = device.picture()
            draws = 1 if way == "greedy" else count
            asked = _asked(
                vlm, Media(screen), forms.ask.format(noun=noun), draws, seed + 1000 * step, way == "greedy"
            )
            said = [forms.clicked(one) for one in engine.run(asked)]
            words = said[0]
            if way == "chance":
                words = rng.choice(said)
            elif way == "judge":
                question = forms.judge.format(noun=noun)
                found = choose(
                    [Sample(prompt=question, image=Media(screen), response=one) for one in said],
                    judge,
                    engine,
                )
                words = said[int(found.id)] if found.id else said[0]
            elif way == "any":
                words = next((one for one in said if _right(device, one, kind)), said[0])
            device.obey(words)
    return Outcome(len(task.wanted), {way: float(device.success) for way, device in devices.items()})


async def _asked(
    vlm: VLM, screen: Media, question: str, count: int, seed: int, greedy: bool
) -> Sequence[str]:
    said = await gather(
        *(
            vlm.write(screen, question, max_tokens=64, temperature=0.0 if greedy else 1.0, seed=seed + number)
            for number in range(count)
        )
    )
    return [one.text for one in said]


def _right(device: Device, words: str, kind: tuple[str, str]) -> bool:
    trial = Device(device.task, list(device.pressed))
    trial.obey(words)
    return trial.pressed[len(device.pressed) :] == [kind]


def study(count: int, k: int, seed: int, model: str = "mini-vlm", texts: bool = False) -> list[Outcome]:
    """Outcomes of `count` tasks of one press and as many of two, none of which a model was trained on."""
    with Engine("cpu") as engine:
        vlm = models.vlm(model)
        return [
            run_task(engine, vlm, draw_task(seed + number, steps, texts), k, seed + number, FORMS[model])
            for steps in (1, 2)
            for number in range(count)
        ]


def table(outcomes: Sequence[Outcome], k: int) -> str:
    """Success by the number of presses and the way, with intervals, and what the judge gains over chance."""
    lines = [
        "| presses | " + " | ".join(WAYS) + " | the judge over chance |",
        "|---|" + "---|" * (len(WAYS) + 1),
    ]
    for steps in sorted({one.steps for one in outcomes}):
        own = [one.won for one in outcomes if one.steps == steps]
        won = {way: [each[way] for each in own] for way in WAYS}
        cells = [f"{mean_of(won[way]).mean:.2f}" for way in WAYS]
        gain = paired_change(won["chance"], won["judge"], scale=100).signed(1)
        lines.append(f"| {steps} | {' | '.join(cells)} | {gain} |")
    return "\n".join([f"{k} candidates, {len(outcomes)} tasks", *lines])


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m mmreward.evals.studies.screens", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100, help="of one press, and of two")
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--seed", type=int, default=7_000_000)
    parser.add_argument("--model", choices=list(FORMS), default="mini-vlm", help="agent and judge")
    parser.add_argument("--texts", action="store_true", help="windows with texts, not icons")
    given: Any = parser.parse_args(words)
    print(table(study(given.tasks, given.k, given.seed, given.model, given.texts), given.k))


if __name__ == "__main__":
    main()
