"""What should worry about metrics by source: a reward that rises where the evaluation does not, and jumps."""

import math
from collections.abc import Mapping, Sequence
from statistics import median

from .metrics import SOURCES

WATCHED = ("score", "failed", "unread", "length/mean", "groups/zero_variance")
TO_DEVIATION = 1.4826
"""From a median absolute deviation to the standard deviation of a normal distribution."""
LEAST = {"score": 0.02, "failed": 0.02, "unread": 0.02, "length/mean": 8.0, "groups/zero_variance": 0.05}
"""Deviation that is assumed at least, so that a quiet metric does not cry at a tremor."""


def gaps(training: Mapping[str, float], evaluation: Mapping[str, float]) -> dict[str, float]:
    """ "sources/SOURCE/gap": the training's score minus the evaluation's, for the sources that both have.

    A gap that grows while the score of the training rises is what gaming a reward looks like.
    """
    return {
        f"{name.removesuffix('/score')}/gap": value - evaluation[name]
        for name, value in training.items()
        if name.startswith(f"{SOURCES}/") and name.endswith("/score") and _depth(name, "score")
        if name in evaluation
    }


def jumps(history: Sequence[Mapping[str, float]], window: int = 10, limit: float = 4.0) -> dict[str, float]:
    """Watched metrics of the newest step that left what the steps before it span: name -> deviations.

    The measure is (newest - median) / deviation over the `window` steps before it, the deviation being robust
    and at least that of `LEAST`; a metric with fewer than `window` values before is not judged.

    Raises:
        ValueError: window below 2, or a limit that is not positive.
    """
    if window < 2 or not limit > 0:
        raise ValueError(f"window {window} must be at least 2 and limit {limit} above 0")
    found = {}
    for name, value in history[-1].items() if history else ():
        kind = next((kind for kind in WATCHED if name.endswith(f"/{kind}") and _depth(name, kind)), "")
        before = [line[name] for line in history[:-1] if math.isfinite(line.get(name, math.nan))][-window:]
        if kind and len(before) == window:
            middle = median(before)
            spread = TO_DEVIATION * median(abs(one - middle) for one in before)
            away = (value - middle) / max(spread, LEAST[kind])
            if abs(away) > limit:
                found[name] = away
    return found


def _depth(name: str, kind: str) -> bool:
    """Whether a name is "overall/KIND" or "sources/SOURCE/KIND" and no longer one with the same end."""
    block = name.removesuffix(f"/{kind}")
    return block.count("/") == (1 if block.startswith(f"{SOURCES}/") else 0)
