"""When to stop: a validation mean that no longer rises."""

import math
from collections.abc import Mapping
from typing import Any


class Plateau:
    """Watches a validation mean and says when it has stopped rising.

    Tuning on a reward goes on raising it long after the pictures have stopped getting better; watch a reward
    that is not trained on (RPO, arXiv:2407.12164, watches its own on held-out prompts).

    Args:
        patience: how many looks in a row may fail to improve on the best, at least 1.
        least: a rise below this is none.

    Raises:
        ValueError: `patience` below 1, or a negative or infinite `least`.
    """

    def __init__(self, patience: int = 3, least: float = 0.0) -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1, not {patience}")
        if not 0 <= least < math.inf:
            raise ValueError(f"least must be a number from 0 on, not {least}")
        self.patience = patience
        self.least = least
        self.best = -math.inf
        self.best_look = -1
        """The look, counted from 0, at which the mean was best; keep the weights of that one."""
        self._looks = 0

    def stop(self, mean: float) -> bool:
        """Take one more look; True when the last `patience` looks brought nothing better.

        Raises:
            ValueError: the mean is not a number, as when every score of the validation failed.
        """
        if not math.isfinite(mean):
            raise ValueError(f"the validation mean is {mean}: look at the scores' status before going on")
        if self.best_look < 0 or mean > self.best + self.least:
            self.best, self.best_look = mean, self._looks
        self._looks += 1
        return self._looks - 1 - self.best_look >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, as JSON can hold it; the settings are not part of it."""
        best = self.best if math.isfinite(self.best) else None
        return {"best": best, "best_look": self.best_look, "looks": self._looks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.best = -math.inf if state["best"] is None else state["best"]
        self.best_look, self._looks = state["best_look"], state["looks"]
