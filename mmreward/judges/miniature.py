"""Comparisons sampled from shapes world, and true rationales for them.

They stand in for a stronger model's rationales elsewhere: a cold start for a judge, and what a teacher
learns.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

from ..media import Media
from ..mini import dialogues, world
from ..mini.tasks import REASONED, compare, critique_answer, faithfulness, prefer_reasoning
from ..mini.tasks import Comparison as Compared
from ..rewards.judged.asking import Asking
from .comparison import Comparison, Place
from .rationales import Rationale

CRITERIA = ("colour", "shape", "number", "place")
"""Criteria of shapes world, for judges that are asked in two turns."""
SHOWN = "What does the picture show?"


class MiniatureComparison(NamedTuple):
    """Comparison of two pictures of shapes world, with the caption and the scenes behind it."""

    comparison: Comparison
    caption: world.Caption
    scenes: tuple[world.Scene, world.Scene]

    def true_rationale(self, asking: Asking) -> Rationale:
        """Reasoning and verdict written from the scenes themselves, in the form that `asking` asks for."""
        first, second = self.scenes
        reasoning = prefer_reasoning(self.caption, first.things, second.things)
        answer = REASONED.format(reasoning=reasoning, answer=self.comparison.better)
        turns = (answer,) if asking.turns == 1 else (self._first_turn(), answer)
        return Rationale(self.comparison, turns, self.comparison.better, "kept")

    def true_critiques(self) -> str:
        """Critiques of both pictures and the request again, in the layout of `projection.QUESTION`."""
        parts = [critique_answer(self.caption, scene.things, 0.0) for scene in self.scenes]
        heads = ("# Picture 1", "# Picture 2", "# Better request")
        return "\n".join(f"{head}\n{text}" for head, text in zip(heads, (*parts, self.caption), strict=True))

    def _first_turn(self) -> str:
        """Criteria that matter here, and what is wrong with each picture."""
        found = [compare(self.caption, scene.things) for scene in self.scenes]
        wrong = {name for one in found for name in _criteria(one)}
        named = ", ".join([name for name in CRITERIA if name in wrong][:3])
        first, second = (faithfulness(self.caption, scene.things).rstrip(".") for scene in self.scenes)
        return f"Look at: {named}\nPicture 1: {first}\nPicture 2: {second}"


def sample_comparisons(number: int, seed: int) -> list[MiniatureComparison]:
    """Comparisons of fresh scenes for a request that one of them fits better; equal seeds, equal
    comparisons."""
    rng = np.random.default_rng(seed)
    sampled: list[MiniatureComparison] = []
    while len(sampled) < number:
        scenes = world.sample_scene(rng), world.sample_scene(rng)
        chosen = dialogues.preferable(*scenes, rng)
        if chosen is not None:
            caption, better = chosen
            pictures = (Media(world.render(scenes[0])), Media(world.render(scenes[1])))
            comparison = Comparison(f"{seed}-{len(sampled):06d}", str(caption), pictures, better)
            sampled.append(MiniatureComparison(comparison, caption, scenes))
    return sampled


class MiniatureAnswers(NamedTuple):
    """Comparison of two answers to what a picture of shapes world shows, with the scene behind it."""

    comparison: Comparison
    scene: world.Scene
    captions: tuple[world.Caption, world.Caption]

    def true_rationale(self, asking: Asking) -> Rationale:
        """Reasoning and verdict written from the scene itself."""
        first, second = (faithfulness(caption, self.scene.things) for caption in self.captions)
        reasoning = f"Answer 1: the picture {first} Answer 2: the picture {second}"
        answer = REASONED.format(reasoning=reasoning, answer=self.comparison.better)
        return Rationale(self.comparison, (answer,), self.comparison.better, "kept")


def sample_answers(number: int, seed: int) -> list[MiniatureAnswers]:
    """Comparisons of two answers about a fresh scene, one of which is right; equal seeds, equal ones."""
    rng = np.random.default_rng(seed)
    sampled: list[MiniatureAnswers] = []
    while len(sampled) < number:
        scene, other = world.sample_scene(rng), world.sample_scene(rng)
        true, false = world.describe(scene), world.describe(other)
        better: Place = "1" if rng.random() < 0.5 else "2"
        if compare(false, scene.things).score == compare(true, scene.things).score:
            continue
        captions = (true, false) if better == "1" else (false, true)
        picture = (Media(world.render(scene)),)
        answers = (f"{captions[0]}.", f"{captions[1]}.")
        comparison = Comparison(f"a-{seed}-{len(sampled):06d}", SHOWN, picture, better, answers)
        sampled.append(MiniatureAnswers(comparison, scene, captions))
    return sampled


def _criteria(found: Compared) -> list[str]:
    """Criteria by which a picture is not as its caption asks."""
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
