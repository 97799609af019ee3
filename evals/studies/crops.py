"""Small shapes with and without a crop tool: `python -m mmreward.evals.studies.crops`.

mini-vlm is asked what shape the red (or any) object of a picture is, where the objects are a third of the
smallest size it was trained on. Once it answers at once; once it answers after calls of the tool `crop` in
the loop that judges with tools run in (`rewards.published.looking`).

mini-vlm cannot write calls. A fixed rule writes them from what it says of what it has seen: it crops the
four corners, then the four corners of the one for which "is there a red shape?" is likeliest, and answers
about the best of these. What is shown is what looking closer is worth to a judge, and not that this one would
do so. The control crops as often, at corners chosen without a look. Figures: evals/judges.md.
"""

import argparse
import json
from asyncio import gather
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mmreward import Engine, Media, Sample, models
from mmreward.mini import tasks, world
from mmreward.mini.world import Scene, Thing
from mmreward.models.vlms.answers import VLM, YES_NO, Turn, Written
from mmreward.monitor.intervals import mean_of, paired_change
from mmreward.rewards.published.looking import equipment
from mmreward.rewards.published.tools import case_of

CORNERS = ((0, 0, 600, 600), (400, 0, 1000, 600), (0, 400, 600, 1000), (400, 400, 1000, 1000))
SIDE = 512
"""Pixels of a picture; a model that is shown all of it sees `mini.vlm_build.SIDE`."""
RADII = (0.035, 0.055)
"""Half-extents of the shapes; the smallest that mini-vlm was trained on is `mini.world.RADIUS[0]`, 0.115."""
MOST = 3


class Case(NamedTuple):
    """A picture and the shape that is asked about."""

    picture: Media
    thing: Thing


def cases(number: int, seed: int) -> list[Case]:
    """Pictures of three small shapes of different colours, of which the first is asked about."""
    rng = np.random.default_rng(seed)
    found: list[Case] = []
    while len(found) < number:
        colours = rng.permutation(list(world.COLOURS))[:MOST]
        things: list[Thing] = []
        for colour in colours:
            r = float(rng.uniform(*RADII))
            x, y = (float(v) for v in rng.uniform(r + 0.01, 1 - r - 0.01, size=2))
            if all(max(abs(x - one.x), abs(y - one.y)) > r + one.r + 0.03 for one in things):
                things.append(Thing(str(colour), str(rng.choice(world.SHAPES)), x, y, r))
        if len(things) == MOST:
            found.append(Case(Media(world.render(Scene(tuple(things)), SIDE)), things[0]))
    return found


class Corners:
    """Writer of the calls: by what a model says of each corner, or without a look.

    Args:
        vlm: the model.
        thing: what is asked about.
        looks: False takes corners unseen.
    """

    def __init__(self, vlm: VLM, thing: Thing, looks: bool) -> None:
        self.vlm, self.looks = vlm, looks
        self.looked_for = tasks.PRESENT.format(noun=f"{thing.colour} shape")
        self.question = tasks.WHAT_SHAPE.format(colour=thing.colour)

    async def write(
        self, media: Any, prompt: str, *, history: Sequence[Turn] = (), **_: Any
    ) -> Written:  # fmt: skip
        crops = [picture for turn in history for picture in turn.shown]
        if len(crops) < 2 * len(CORNERS):
            level, corner = divmod(len(crops), len(CORNERS))
            place = f"observation_{await self._best(crops) + 1}" if level else "original_image"
            arguments = {"image": place, "bbox_2d": list(CORNERS[corner])}
            call = json.dumps({"name": "crop", "arguments": arguments})
            return Written(f"<tool_call>{call}</tool_call>", True, 1)
        best = crops[len(CORNERS) + await self._best(crops[len(CORNERS) :])]
        read = await self.vlm.read(best, self.question, world.SHAPES)
        return Written(read.answer, True, 1)

    async def _best(self, crops: Sequence[Media]) -> int:
        if not self.looks:
            # Of the content, so that the four calls within one corner agree on it.
            return int(crops[0].digest, 16) % len(CORNERS)
        read = await gather(*(self.vlm.read(one, self.looked_for, YES_NO) for one in crops[: len(CORNERS)]))
        return int(np.argmax([one.probs["yes"] for one in read]))


async def answered(vlm: VLM, asked: Sequence[Case]) -> Mapping[str, list[float]]:
    """1 for each right answer: at once, after crops, and after as many without a look."""
    equipped = equipment(("crop",), 2 * len(CORNERS), 100, 3600.0)
    assert equipped is not None

    async def at_once(case: Case) -> float:
        question = tasks.WHAT_SHAPE.format(colour=case.thing.colour)
        return float((await vlm.read(case.picture, question, world.SHAPES)).answer == case.thing.shape)

    async def cropped(case: Case, looks: bool) -> float:
        writer = Corners(vlm, case.thing, looks)
        looking = equipped.on(writer, case_of(Sample(), (case.picture,)))
        said = await looking.write(case.picture, writer.question)
        return float(said.text == case.thing.shape)

    return {
        "at once": list(await gather(*map(at_once, asked))),
        "after crops": list(await gather(*(cropped(case, True) for case in asked))),
        "after crops without a look": list(await gather(*(cropped(case, False) for case in asked))),
    }


def table(right: Mapping[str, Sequence[float]]) -> str:
    """Markdown: shares of right answers with their intervals, and the gain of crops."""
    lines = ["| mini-vlm on small shapes | right (95 %) |", "|---|---|"]
    for name, values in right.items():
        found = mean_of(values)
        low, high = found.interval or (np.nan, np.nan)
        lines.append(f"| {name} | {found.mean:.3f} ({low:.3f} to {high:.3f}) |")
    before = right["at once"]
    for name in list(right)[1:]:
        points = paired_change(before, right[name], scale=100).signed(1)
        lines.append(f"\n{name} against at once: {points} points.")
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 where crops do not raise the share of right answers beyond chance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with Engine("cpu") as engine:
        right = engine.run(answered(models.vlm("mini-vlm"), cases(given.pictures, given.seed)))
    print(table(right))
    gain = paired_change(right["at once"], right["after crops"]).interval
    return 0 if gain is not None and gain.low > 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
