"""PEARL's gate: what a group's perception probes say about whether its answers are worth learning from.

A right answer from a policy that saw nothing is luck. Pure functions over the scores of the reward `probes`
and of an accuracy; a failed score counts in no mean. Source: https://github.com/MiliLab/PEARL
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ..types import Score
from .grouping import group_means


@dataclass(frozen=True, slots=True)
class PerceptionRates:
    """Shares of the samples both of whose scores worked, 0 to 1; NaN where there are none.

    Args:
        consistent: the answer and all probes right.
        lucky: the answer right and no probe.
        all_right: all probes right.
    """

    consistent: float
    lucky: float
    all_right: float


def trim(
    probes: Mapping[str, float], *, above: float = 0.01, skip: float = 0.3, multiple: int = 1, seed: int = 0
) -> list[str]:
    """The prompts worth an expensive rollout: those whose mean probe accuracy is above `above`.

    A prompt whose probes all failed is kept: that says nothing about the policy.

    Args:
        probes: prompt -> mean probe accuracy, see `grouping.group_means`.
        above: PEARL takes 0.01.
        skip: probability that all prompts are kept, so that hard ones are not lost for good; PEARL's 0.3.
        multiple: keep a multiple of so many, leaving out the last ones; PEARL takes 32 for its batches.
        seed: of the draw, one per round.

    Raises:
        ValueError: a probability outside [0, 1], or a multiple below 1.
    """
    if not 0 <= skip <= 1 or multiple < 1:
        raise ValueError(f"skip {skip} is a probability and multiple {multiple} at least 1")
    spared = random.Random(f"{seed}").random() < skip
    kept = [prompt for prompt, mean in probes.items() if spared or math.isnan(mean) or mean > above]
    return kept[: len(kept) - len(kept) % multiple]


def probe_weights(
    probes: Sequence[Score], groups: Sequence[str | None], *, floor: float = 0.5
) -> list[float]:
    """What to multiply each sample's advantage by: max(floor, mean probe accuracy of its group).

    1 for a group whose probes all failed.

    Raises:
        ValueError: a floor outside [0, 1], or as `grouping.by_group`.
    """
    if not 0 <= floor <= 1:
        raise ValueError(f"floor is {floor}; it lies in [0, 1]")
    means = group_means(probes, groups)
    return [1.0 if math.isnan(mean := means[str(group)]) else max(floor, mean) for group in groups]


def mix_filter(
    answers: Mapping[str, float], probes: Mapping[str, float], *, low: float = 0.01, high: float = 0.99
) -> list[str]:
    """The prompts there is something to learn from: mean accuracy or mean probe accuracy within (low, high).

    Args:
        answers: prompt -> mean accuracy of its answers, see `grouping.group_means`.
        probes: prompt -> mean probe accuracy; NaN lies in no interval.
        low, high: open ends; PEARL takes 0.01 and 0.99.

    Raises:
        ValueError: prompts that only one of the two has, or low not below high.
    """
    if set(answers) != set(probes):
        odd = sorted(set(answers) ^ set(probes))
        raise ValueError(f"answers and probes are of the same prompts; only one has {', '.join(odd[:5])}")
    if not low < high:
        raise ValueError(f"low {low} must be below high {high}")
    return [prompt for prompt, mean in answers.items() if low < mean < high or low < probes[prompt] < high]


def perception_rates(
    answers: Sequence[Score], probes: Sequence[Score], *, right: float = 0.5
) -> PerceptionRates:
    """What PEARL logs of a batch.

    Args:
        answers: accuracy of every sample; from `right` up it counts as right.
        probes: its probe accuracy; 1 is all right, 0 none.
        right: see `answers`.

    Raises:
        ValueError: columns of unequal length.
    """
    both = [(a.value >= right, p.value) for a, p in zip(answers, probes, strict=True) if a.ok and p.ok]
    if not both:
        return PerceptionRates(math.nan, math.nan, math.nan)
    return PerceptionRates(
        consistent=fmean(good and share == 1 for good, share in both),
        lucky=fmean(good and share == 0 for good, share in both),
        all_right=fmean(share == 1 for _, share in both),
    )
