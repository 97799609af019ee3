"""Rewards of an episode's steps from the value of its states: potential-based shaping, progress, plain
values, and a success that must last.

Columns of environments side by side, as a vector environment has them; one environment is a column of one. A
value that is not known (nobody looked, or the judge failed) is NaN and never becomes a number. Knows neither
pictures nor environments; `adapters.gymnasium` puts them to use.

Source: Ng, Harada and Russell, "Policy invariance under reward transformations" (ICML 1999); the potential of
a terminal state is 0 (Grzes, AAMAS 2017), and that of a truncated one is kept, because learners bootstrap
there.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Kind = Literal["potential", "progress", "value"]
KINDS: tuple[Kind, ...] = ("potential", "progress", "value")
Unknown = Literal["hold", "zero"]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class StepShaping:
    """Rewards of steps from the values of their states, for `n` environments.

    - "potential": gamma * value after - value before, 0 in the place of the value after a step that
      terminates. It leaves the best policy what it is, if gamma is the learner's. A value nobody looked for
      is the one before, so that such a step earns (gamma - 1) * value.
    - "progress": value after - value before. Discounted, it is not neutral: it pays for arriving early, and
      for going back and forth where the judge is noisy.
    - "value": the value itself at steps that were looked at, 0 at the others. It pays for staying where the
      value is high.

    Nothing is paid before the first value of an episode is known.

    >>> one = StepShaping(1, gamma=0.9)
    >>> one.begin(np.array([True]), np.array([0.0]))
    >>> steps = [one.step(np.array([value]), np.array([value == 0.4])) for value in (0.2, 0.5, 0.4)]
    >>> [round(float(step[0]), 6) for step in steps]
    [0.18, 0.25, -0.5]

    Args:
        n: environments.
        kind: see above.
        gamma: the learner's discount, above 0 and at most 1.
        unknown: a value that was looked for and is not known: "hold" takes the one before, "zero" pays
            nothing for the step, which costs neutrality and shows in `residual`.
        zero: the value that is a potential of 0. What all values have in common pays (gamma - 1) of itself
            in every step, which changes no best policy but how long it takes to be learned: give about the
            value of a start, where it is far from 0.

    Raises:
        ValueError: an unknown kind, a gamma outside, or a zero that is not finite or of no potential.
    """

    def __init__(
        self,
        n: int,
        kind: Kind = "potential",
        *,
        gamma: float = 0.99,
        unknown: Unknown = "hold",
        zero: float = 0.0,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"shaping is one of {', '.join(KINDS)}, not {kind!r}")
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma is {gamma}: above 0 and at most 1, and the learner's own")
        if unknown not in ("hold", "zero"):
            raise ValueError(f"an unknown value may 'hold' or be 'zero', not {unknown!r}")
        if not np.isfinite(zero) or (zero and kind != "potential"):
            raise ValueError(f"zero is {zero}: a finite value, of a potential alone")
        self.kind, self.gamma, self.unknown, self.zero = kind, gamma, unknown, zero
        self.value: Floats = np.full(n, np.nan)
        """Value, less `zero`, of the state each environment is in; NaN until one is known."""
        self._first: Floats = np.full(n, np.nan)
        self._paid, self._discount = np.zeros(n), np.ones(n)

    def begin(self, which: Flags, values: Floats) -> None:
        """Start an episode in the environments of `which`, at states of these values (n,)."""
        self.value[which] = self._first[which] = values[which] - self.zero
        self._paid[which], self._discount[which] = 0.0, 1.0

    def step(
        self, values: Floats, terminated: Flags, *, live: Flags | None = None, looked: Flags | None = None
    ) -> Floats:
        """Rewards (n,) of one step.

        Args:
            values: of the states after it (n,); NaN where not known.
            terminated: (n,) the episode ended there by its own rules, not by a limit of time.
            live: (n,) environments that made a step; the others earn 0 and keep their value. Default: all.
            looked: (n,) where a value was asked for, so that NaN is a failure. Default: all.
        """
        # A step of one environment costs what its numpy calls do. To assign to a mask is a tenth of np.where,
        # and where all is known nothing is to be masked.
        live = np.ones(len(values), dtype=bool) if live is None else live
        after = values - self.zero if self.zero else values.copy()
        if (
            self.kind != "value"
            and False not in live.tolist()
            and True not in np.isnan(after + self.value).tolist()
        ):
            paid = self._paid_for(after, terminated)
            self._paid += self._discount * paid
            self._discount *= self.gamma
            self.value[:] = after
            return paid
        lost = np.isnan(after)
        after[lost] = self.value[lost]
        if self.kind == "value":
            seen = live if looked is None else looked & live
            paid = np.zeros(len(values))
            seen = seen if self.unknown == "hold" else seen & ~lost
            paid[seen] = after[seen]
        else:
            paid = self._paid_for(after, terminated)
        if self.unknown == "zero":
            failed = live & lost if looked is None else looked & live & lost
            # The potential after a step that terminates is 0, known or not.
            paid[failed & ~terminated if self.kind == "potential" else failed] = 0.0
        paid[np.isnan(paid) | ~live] = 0.0
        self._paid += self._discount * paid
        self._discount[live] *= self.gamma
        late = live & ~lost & np.isnan(self.value)  # the first value of the episode: it begins here
        self._first[late], self._discount[late] = after[late], 1.0
        self._first[late & terminated] = 0.0
        self.value[live] = after[live]
        return paid

    def _paid_for(self, after: Floats, terminated: Flags) -> Floats:
        """Progress or shaping of steps to states of these values."""
        if self.kind == "progress":
            return after - self.value
        paid = after.copy()
        paid[terminated] = 0.0
        paid *= self.gamma
        paid -= self.value
        return paid

    def residual(self, terminated: Flags) -> Floats:
        """What the episode's discounted shaping differs from gamma^T * last value - first value (n,): 0 for
        "potential", else the share of it that changes which policy is best. NaN where no value was known."""
        last = np.where(terminated, 0.0, self.value)
        return self._paid - (self._discount * last - self._first)


class Looked(NamedTuple):
    """State of a `Success` after a look: `on` (n,), and `now` (n,), which is True once in an episode."""

    on: Flags
    now: Flags


@dataclass(frozen=True)
class Threshold:
    """Rule of a success: on when `hits` of the last `window` values reach `enter`, off when the whole window
    is below `leave` (by default `enter`). One false alarm of a judge then ends no episode.

    Raises:
        ValueError: hits above the window, or leave above enter.
    """

    enter: float
    leave: float | None = None
    hits: int = 1
    window: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.hits <= self.window:
            raise ValueError(f"{self.hits} hits of a window of {self.window}: from 1 to the window")
        if self.leave is not None and self.leave > self.enter:
            raise ValueError(f"leave {self.leave} is above enter {self.enter}")


class Success:
    """Success of `n` environments by a `Threshold` over their latest values."""

    def __init__(self, n: int, rule: Threshold) -> None:
        self._rule = rule
        self._latest: Floats = np.full((n, rule.window), np.nan)
        self.on: Flags = np.zeros(n, dtype=bool)
        self._ever: Flags = np.zeros(n, dtype=bool)

    def begin(self, which: Flags) -> None:
        """Start an episode in the environments of `which`."""
        self._latest[which], self.on[which], self._ever[which] = np.nan, False, False

    def look(self, values: Floats) -> Looked:
        """Take in the values (n,) of one look; NaN is no look and changes nothing."""
        known = ~np.isnan(values)
        self._latest[known] = np.roll(self._latest, -1, axis=1)[known]
        self._latest[known, -1] = values[known]
        rule = self._rule
        high = (self._latest >= rule.enter).sum(axis=1) >= rule.hits
        leave = rule.enter if rule.leave is None else rule.leave
        low = (self._latest < leave).all(axis=1)  # False as long as the window is not full
        self.on = np.where(known, high | (self.on & ~low), self.on)
        now = self.on & ~self._ever
        self._ever |= self.on
        return Looked(self.on.copy(), now)
