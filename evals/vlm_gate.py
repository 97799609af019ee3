"""Perception probes about shapes world: what else is true of the picture of an exercise.

Drawn beside the exercises, never with their random state: a run with a gate trains on the same pictures and
questions as one without.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from mmreward.mini import dialogues

from .vlm_tasks import Exercise

PROBED: tuple[dialogues.Single, ...] = (dialogues.present, dialogues.count, dialogues.attribute)
"""Kinds of probes in turn: one word or number each, as mini-vlm can say them."""
DRAWS = 64
"""Questions drawn for one exercise at most: a small picture has few."""


def probes(one: Exercise, number: int, seed: Sequence[int]) -> list[dict[str, str]]:
    """`number` different sub-questions about the picture with their answers, or as many as there are.

    The exercise's own question is none of them.
    """
    found: dict[str, str] = {}
    for question, answer in _drawn(one, seed):
        if len(found) == number:
            break
        if question != one.question:
            found.setdefault(question, answer)
    return [{"question": question, "answer": answer} for question, answer in found.items()]


def _drawn(one: Exercise, seed: Sequence[int]) -> Iterator[tuple[str, str]]:
    rng = np.random.default_rng(seed)
    for draw in range(DRAWS):
        dialogue = PROBED[draw % len(PROBED)](one.scene, rng)
        if dialogue is not None:  # not every question fits every scene
            yield dialogue.question, dialogue.answer


def with_probes(asked: Sequence[Exercise], number: int, seed: int) -> list[list[dict[str, str]]]:
    """The probes of each exercise, a column of the data set; the same for the same seed."""
    return [probes(one, number, (seed, row)) for row, one in enumerate(asked)]
