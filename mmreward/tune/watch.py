"""Looks at each evaluation for signs that the reward is gamed, and remembers which one was best."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from .alarms import Estimate, OverOptimisation
from .config import TuneConfig
from .diversity import across_groups, thumbnails
from .evaluation import Evaluated
from .textures import colourfulness, grid_energy, high_frequency, saturation

PATCHES = (8, 16)
"""Sizes of the grids that are looked for: a VAE's block and a transformer's patch."""
Texture = Callable[[torch.Tensor], torch.Tensor]


class Watch:
    """The alarm over a run's evaluations.

    Args:
        config: of the run; without `alarm` it looks and never stops.
        optimised: names of the rewards that are optimised.
        held_out: names of those that are not.
    """

    def __init__(self, config: TuneConfig, optimised: Sequence[str], held_out: Sequence[str]) -> None:
        self._weights = {name: config.weights.get(name, 1.0) for name in optimised}
        self._held_out = tuple(held_out)
        self._stops = config.alarm is not None and config.alarm.stop
        alarm = config.alarm
        self._alarm = (
            OverOptimisation(
                tolerance=alarm.tolerance,
                patience=alarm.patience,
                spread=alarm.spread,
                baseline=alarm.baseline,
                harmful={"diversity": "down", "grid_8": "up", "grid_16": "up"},
            )
            if alarm
            else OverOptimisation()
        )
        self._best = -math.inf
        self.improved = False
        """Whether the last evaluation was the best so far, by the held-out rewards where there are any."""
        self.stopped = False
        self.reason = ""

    def look(self, step: int, evaluated: Evaluated) -> dict[str, Any]:
        """Judge one evaluation; what the journal says of it."""
        summary = evaluated.summary()
        optimised = _total(summary, self._weights)
        held_out = {n: Estimate(summary[n]["mean"], summary[n]["sem"]) for n in self._held_out}
        monitors = measure(evaluated.pixels)
        verdict = self._alarm.update(step, optimised, held_out, monitors)
        worth = sum(each.mean for each in held_out.values()) if held_out else optimised.mean
        self.improved = worth > self._best
        self._best = max(self._best, worth) if math.isfinite(worth) else self._best
        if verdict.level == "alarm":
            self.reason = "; ".join(verdict.reasons)
            self.stopped = self.stopped or self._stops
        return {
            "optimised": optimised.mean,
            "monitors": monitors,
            "verdict": verdict.level,
            "reasons": list(verdict.reasons),
        }

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must remember, as JSON can hold it."""
        best = self._best if math.isfinite(self._best) else None
        return {"alarm": self._alarm.state_dict(), "best": best, "reason": self.reason}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._alarm.load_state_dict(state["alarm"])
        self._best = -math.inf if state["best"] is None else state["best"]
        self.reason = state["reason"]


def measure(pixels: torch.Tensor) -> dict[str, float]:
    """Textures and diversity of pixels (N, 3, H, W) in [0, 1]: means over the pictures."""
    textures: dict[str, Texture] = {
        "colourfulness": colourfulness,
        "saturation": saturation,
        "high_frequency": high_frequency,
    }
    for patch in PATCHES:
        if min(pixels.shape[-2:]) >= 4 * patch:
            textures[f"grid_{patch}"] = lambda shown, patch=patch: grid_energy(shown, patch)
    found = {name: float(texture(pixels).mean()) for name, texture in textures.items()}
    if len(pixels) > 1:
        found["diversity"] = across_groups(thumbnails(pixels), range(len(pixels)))
    return found


def _total(summary: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]) -> Estimate:
    """The weighted sum of the optimised rewards; their errors as if they were independent."""
    mean = sum(weight * summary[name]["mean"] for name, weight in weights.items())
    variance = sum((weight * summary[name]["sem"]) ** 2 for name, weight in weights.items())
    return Estimate(mean, math.sqrt(variance))
