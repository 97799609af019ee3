"""Looks at each evaluation: is the reward gamed, does it still rise, and which one was best?"""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch

from ..registry import Reward
from .alarms import Estimate, OverOptimisation
from .config import TuneConfig
from .evaluation import Evaluated
from .monitors import HARMFUL, LARGER, measure
from .plateau import Plateau

T = TypeVar("T")


class Watch:
    """The alarm over a run's evaluations.

    Args:
        config: of the run, with a weight for every reward; without `alarm` it looks and never stops.
        held_out: rewards that are not optimised; one of which less is better counts negatively.
    """

    def __init__(self, config: TuneConfig, held_out: Mapping[str, Reward]) -> None:
        self._weights = config.weights
        self._signs = {name: 1 if one.info.higher_is_better else -1 for name, one in held_out.items()}
        self._stops = config.alarm is not None and config.alarm.stop
        alarm = config.alarm
        self._alarm = (
            OverOptimisation(
                tolerance=alarm.tolerance,
                patience=alarm.patience,
                spread=alarm.spread,
                baseline=alarm.baseline,
                harmful=HARMFUL | _larger(HARMFUL),
            )
            if alarm
            else OverOptimisation()
        )
        early = config.early_stop
        self._plateau = Plateau(early.patience, early.least) if early else None
        self._best = -math.inf
        self.improved = False
        """Whether the last evaluation was the best so far, by the held-out rewards where there are any."""
        self.stopped = ""
        """Why the run must end here, and be left with the weights of its best evaluation; empty to go on."""
        self.reason = ""
        """What the alarm said last."""

    def look(self, step: int, evaluated: Evaluated) -> dict[str, Any]:
        """Judge one evaluation; what the journal says of it."""
        summary = evaluated.summary()
        optimised = _total(summary, self._weights)
        held_out = {
            name if sign > 0 else f"minus {name}": Estimate(
                sign * summary[name]["mean"],
                summary[name]["sem"],
                tuple((sign * evaluated.grades.values[name]).tolist()),
            )
            for name, sign in self._signs.items()
        }
        monitors = {"monitors": _measured(evaluated.pixels)}
        watched = monitors["monitors"]
        if evaluated.larger is not None:
            monitors["monitors_larger"] = _measured(evaluated.larger)
            watched = watched | _larger(monitors["monitors_larger"])
        verdict = self._alarm.update(step, optimised, held_out, watched)
        worth = sum(each.mean for each in held_out.values()) if held_out else optimised.mean
        self.improved = worth > self._best
        self._best = max(self._best, worth) if math.isfinite(worth) else self._best
        if verdict.level == "alarm":
            self.reason = "; ".join(verdict.reasons)
            if self._stops:
                self.stopped = f"stopped by the alarm: {self.reason}"
        if self._plateau is not None and math.isfinite(worth) and self._plateau.stop(worth):
            self.stopped = self.stopped or f"no rise in {self._plateau.patience} evaluations"
        return {
            "optimised": optimised.mean,
            "worth": worth,
            **monitors,
            "verdict": verdict.level,
            "reasons": list(verdict.reasons),
        }

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must remember, as JSON can hold it."""
        best = self._best if math.isfinite(self._best) else None
        plateau = self._plateau.state_dict() if self._plateau is not None else None
        return {
            "alarm": self._alarm.state_dict(),
            "plateau": plateau,
            "best": best,
            "reason": self.reason,
            "stopped": self.stopped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._alarm.load_state_dict(state["alarm"])
        if self._plateau is not None:
            self._plateau.load_state_dict(state["plateau"])
        self._best = -math.inf if state["best"] is None else state["best"]
        self.reason, self.stopped = state["reason"], state["stopped"]


def _measured(pixels: torch.Tensor) -> dict[str, float]:
    """The monitors of pictures of different prompts."""
    return measure(pixels, range(len(pixels)))


def _larger(monitors: Mapping[str, T]) -> dict[str, T]:
    """Under the names that they have in larger pictures."""
    return {f"{LARGER}{name}": value for name, value in monitors.items()}


def _total(summary: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]) -> Estimate:
    """The weighted sum of the optimised rewards; their errors as if they were independent."""
    mean = sum(weight * summary[name]["mean"] for name, weight in weights.items())
    variance = sum((weight * summary[name]["sem"]) ** 2 for name, weight in weights.items())
    return Estimate(mean, math.sqrt(variance))
