"""Preference pairs from groups of rollouts, by more than the answer (after VerIPO, arXiv:2505.19000).

Training on answers alone lets reasoning and answer drift apart, and DPO on "right against wrong" does not
mend it. Here the chosen rollout is always right, consistent and free of repetition, and every flaw is
contrasted by itself. Knows no model: the values of a rollout come from rewards.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from .pairs import BEST_AGAINST_WORST, Candidate, Counts, Pair, Rules, choose_pairs

Flaw = Literal["wrong", "inconsistent", "repetitive"]
FLAWS: tuple[Flaw, ...] = get_args(Flaw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A response and its values by rewards, each 0 to 1 and NaN where it failed.

    Args:
        id: names it; must be unique.
        group: of the rollouts that answer one prompt.
        text: the response.
        accuracy: of its answer.
        consistency: of its reasoning with its answer, such as the reward `consistency`.
        repetition: share of it that repeats itself; higher is worse.
    """

    id: str
    group: str
    text: str
    accuracy: float
    consistency: float
    repetition: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Thresholds from which a rollout counts as right, as consistent, and as repetitive.

    Raises:
        ValueError: a limit outside [0, 1].
    """

    right: float = 0.5
    consistent: float = 0.5
    repetitive: float = 0.3

    def __post_init__(self) -> None:
        for name in ("right", "consistent", "repetitive"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it lies in [0, 1]")


USUAL = Limits()


def flaw_of(rollout: Rollout, limits: Limits = USUAL) -> Flaw | None:
    """The first flaw of wrong, inconsistent, repetitive; None for a sound rollout.

    Raises:
        ValueError: a reward failed, so nothing can be said.
    """
    if not is_judged(rollout):
        raise ValueError(f"a reward failed on rollout {rollout.id!r}")
    if rollout.accuracy < limits.right:
        return "wrong"
    if rollout.consistency < limits.consistent:
        return "inconsistent"
    return "repetitive" if rollout.repetition > limits.repetitive else None


def is_judged(rollout: Rollout) -> bool:
    """True where no reward failed on it."""
    return all(map(math.isfinite, (rollout.accuracy, rollout.consistency, rollout.repetition)))


def contrast_pairs(
    rollouts: Iterable[Rollout],
    rules: Rules = BEST_AGAINST_WORST,
    *,
    limits: Limits = USUAL,
    keep_solved: float = 0.0,
) -> dict[Flaw, tuple[list[Pair], Counts]]:
    """For every flaw the pairs of a sound rollout and one with that flaw, in the form of `pairs`.

    Rollouts of one text count once. `Counts.failed` are rollouts on which a reward failed; they take no part.

    Args:
        rollouts: of any number of prompts.
        rules: how pairs are chosen among the sound and the flawed rollouts of a prompt, which score 1 and 0.
        limits: thresholds of the flaws.
        keep_solved: share of the prompts all of whose rollouts are right that is kept. They teach nothing
            about the answer, and consistency can be learned elsewhere; VerIPO keeps 0.2. Which ones does not
            depend on order.

    Raises:
        ValueError: a share outside [0, 1].
    """
    if not 0 <= keep_solved <= 1:
        raise ValueError(f"keep_solved is {keep_solved}; it is a share from 0 to 1")
    groups: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        groups.setdefault(rollout.group, []).append(rollout)
    kept = [
        rollout
        for group, members in groups.items()
        if not _solved(members, limits) or _draw(group) < keep_solved
        for rollout in members
    ]
    return {flaw: choose_pairs(_candidates(kept, flaw, limits), rules) for flaw in FLAWS}


def _solved(members: Sequence[Rollout], limits: Limits) -> bool:
    return all(member.accuracy >= limits.right for member in members if not math.isnan(member.accuracy))


def _candidates(rollouts: Sequence[Rollout], flaw: Flaw, limits: Limits) -> list[Candidate]:
    """Sound rollouts, those with the flaw, and those on which a reward failed, to be counted."""
    found = []
    for rollout in rollouts:
        if not is_judged(rollout):
            score = math.nan
        elif (own := flaw_of(rollout, limits)) in (None, flaw):
            score = float(own is None)
        else:
            continue
        content = hashlib.blake2b(rollout.text.encode("utf-8", "replace"), digest_size=16).hexdigest()
        found.append(Candidate(rollout.id, (rollout.group,), score, content))
    return found


def _draw(group: str) -> float:
    """A number in [0, 1) that only the group's name decides."""
    digest = hashlib.blake2b(group.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
