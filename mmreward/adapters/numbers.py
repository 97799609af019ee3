"""For trainers without a word for "not applicable": one flat row of floats per response, always with the same
keys."""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..routing.router import Routed, Router
from ..types import Score
from .scorer import Given, Scorer

Failed = float | Literal["raise"]
"""What becomes of a score that failed: "raise", which ends the training, unless you name a number. That is
paid like any other, and only the key `failed` tells it from a wrong answer."""
OWN = ("score", "acc", "failed", "reward", "overall")
"""Keys that trainers or these adapters give a meaning to."""

log = logging.getLogger("mmreward.adapters")


def flat(scorer: Scorer, scored: Routed, failed: Failed) -> list[dict[str, float]]:
    """One row per response: score, acc (the accuracy, or the score where a total has none), the scorer's
    `names`, and failed (0 or 1).

    Raises:
        RuntimeError: a score failed, and `failed` is "raise".
        ValueError: a reward has a name among `OWN`.
    """
    taken = [name for name in scorer.names if name in OWN]
    if taken:
        raise ValueError(f"rewards named {', '.join(taken)}: trainers use these keys; give them other names")
    tell_failures(scored.totals, failed)
    rows = zip(scored.totals, scored.scores, strict=True)
    return [_row(scorer.names, total, scores, failed) for total, scores in rows]


def tell_failures(totals: Sequence[Score], failed: Failed | None) -> None:
    """Log how many scores of a batch failed and why the first did, once per batch.

    Raises:
        RuntimeError: there are some, and `failed` is "raise".
    """
    bad = [total for total in totals if total.status not in ("ok", "na")]
    if not bad:
        return
    told = f"{len(bad)} of {len(totals)} scores failed, the first: {bad[0].status}, {bad[0].note}"
    if failed == "raise":
        raise RuntimeError(told)
    log.warning(told)


def component(name: str, total: Score, scores: Mapping[str, Score]) -> float | None:
    """One component of a total: a reward's own score, else the total's part; None where there is none."""
    if name in scores:
        return scores[name].value if scores[name].ok else None
    return total.parts.get(name) if total.ok else None


def shared(rewards: Any, weights: Mapping[str, float] | None, timeout: float | None) -> Scorer:
    """The scorer of this process for these rewards: trainers that call a plain function know no state.

    Args:
        rewards: a Scorer, or its description (OmegaConf's containers are fine).
        weights: as `Scorer` takes them.
        timeout: the same.
    """
    if isinstance(rewards, Scorer):
        return rewards
    if isinstance(rewards, Router):
        raise ValueError("every call would make a Router its own engine: pass Scorer(router)")
    return _shared(json.dumps([_plain(rewards), _plain(weights), timeout], sort_keys=True))


@cache
def _shared(described: str) -> Scorer:
    rewards, weights, timeout = json.loads(described)
    given: Given = rewards
    return Scorer(given, weights=weights, timeout=timeout)


def _plain(given: Any) -> Any:
    if isinstance(given, Mapping):
        return {str(key): _plain(value) for key, value in given.items()}
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [_plain(value) for value in given]
    if isinstance(given, Path):
        return str(given)
    if given is not None and not isinstance(given, str | int | float | bool):
        raise ValueError(f"{given!r} is no description of a reward; pass a Scorer to use loaded ones")
    return given


def _row(names: Sequence[str], total: Score, scores: Mapping[str, Score], failed: Failed) -> dict[str, float]:
    value = total.value if total.ok or failed == "raise" else float(failed)
    accuracy = total.parts.get("accuracy", value) if total.ok else value
    parts = {name: component(name, total, scores) or 0.0 for name in names}
    return {"score": value, "acc": accuracy, **parts, "failed": float(not total.ok)}
