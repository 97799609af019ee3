"""Comparisons drawn from shapes world, and the rationales of one who knows the scenes.

They stand where a stronger model's do elsewhere: a cold start, and what a teacher is taught.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmreward import Media
from mmreward.judges.asking import Asking
from mmreward.judges.comparison import Comparison
from mmreward.judges.rationales import Rationale
from mmreward.mini import dialogues, world
from mmreward.mini.tasks import REASONED, compare, faithfulness, prefer_reasoning
from mmreward.mini.tasks import Comparison as Compared

CRITERIA = ("colour", "shape", "number", "place")
"""Of shapes world, for judges that think twice."""


class Drawn(NamedTuple):
    """A comparison and the truth about it."""

    comparison: Comparison
    caption: world.Caption
    scenes: tuple[world.Scene, world.Scene]

    def told(self, asking: Asking) -> Rationale:
        """What one who knows the scenes would answer."""
        first, second = self.scenes
        reasoning = prefer_reasoning(self.caption, first.things, second.things)
        answer = REASONED.format(reasoning=reasoning, answer=self.comparison.better)
        turns = (answer,) if asking.turns == 1 else (self._noted(), answer)
        return Rationale(self.comparison, turns, self.comparison.better, "kept")

    def _noted(self) -> str:
        found = [compare(self.caption, scene.things) for scene in self.scenes]
        wrong = {name for one in found for name in _criteria(one)}
        named = ", ".join([name for name in CRITERIA if name in wrong][:3])
        first, second = (faithfulness(self.caption, scene.things).rstrip(".") for scene in self.scenes)
        return f"Look at: {named}\nPicture 1: {first}\nPicture 2: {second}"


def draw(number: int, seed: int) -> list[Drawn]:
    """Pairs of fresh scenes and a request that one of them fits better."""
    rng = np.random.default_rng(seed)
    drawn: list[Drawn] = []
    while len(drawn) < number:
        scenes = world.sample_scene(rng), world.sample_scene(rng)
        chosen = dialogues.preferable(*scenes, rng)
        if chosen is not None:
            caption, better = chosen
            pictures = (Media(world.render(scenes[0])), Media(world.render(scenes[1])))
            drawn.append(
                Drawn(Comparison(f"{seed}-{len(drawn):06d}", str(caption), pictures, better), caption, scenes)
            )
    return drawn


def comparisons(drawn: Sequence[Drawn]) -> list[Comparison]:
    """Without the truth."""
    return [one.comparison for one in drawn]


def _criteria(found: Compared) -> list[str]:
    """In what a picture is not as asked."""
    missing, extra = found.missing, found.extra
    colours: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    for kinds, sign in ((missing, 1), (extra, -1)):
        for (colour, shape), number in kinds.items():
            colours[colour] += sign * number
            shapes[shape] += sign * number
    facts = {
        "colour": any(colours.values()),
        "shape": any(shapes.values()),
        "number": missing.total() != extra.total(),
        "place": found.crossed,
    }
    crosswise = ["colour", "shape"] if missing else []  # a red circle and a blue square the other way round
    return [name for name, wrong in facts.items() if wrong] or crosswise
