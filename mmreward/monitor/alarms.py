"""Alarms on training: over-optimisation of a reward, jumps and gaps in metrics by source, and the end of
improvement.

`OverOptimisation` compares the optimised reward with rewards that are not optimised.
https://arxiv.org/abs/2210.10760 shows the shape: the optimised reward keeps rising while the quality it
stands for turns and falls. `gaps` and `jumps` do the same for metrics by source: a reward that rises where
the evaluation does not, and steps out of line. `Plateau` stops a run whose validation mean no longer rises.
Fed with numbers once per evaluation; knows neither rewards nor pixels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, stdev
from typing import Any, Literal, NamedTuple

from .by_source import SOURCES

Level = Literal["ok", "warn", "alarm"]


class Estimate(NamedTuple):
    """Estimate of a mean over an evaluation's samples, with its standard error; NaN where it was not
    measurable.

    `values` are the samples', NaN where one failed. Give them when every evaluation has the same prompts and
    noise: two evaluations are then compared sample by sample, which sees smaller changes.
    """

    mean: float
    stderr: float
    values: tuple[float, ...] = ()


class Verdict(NamedTuple):
    """Verdict on an evaluation: a level, and the reasons in words; no reasons where all is well."""

    level: Level
    reasons: tuple[str, ...]


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and standard error of independent values without the failed ones (NaN).

    Pictures of one prompt are not independent: give the means of the prompts. Fewer than two values that
    worked give NaN.
    """
    usable = [value for value in values if math.isfinite(value)]
    if len(usable) < 2:
        return Estimate(math.nan, math.nan)
    return Estimate(fmean(usable), stdev(usable) / math.sqrt(len(usable)))


@dataclass(kw_only=True)
class OverOptimisation:
    """Alarm on over-optimisation in one run. Deterministic: equal evaluations give equal verdicts, also
    resumed.

    It warns at once and raises the alarm after `patience` evaluations in a row when

    - a held-out reward is more than `tolerance` standard errors (of the difference) below its best, and the
      optimised reward is above what it was then; or
    - a monitor is more than `spread` times its usual variation away from its baseline.

    It only warns when both rewards fall (the run goes wrong, but not by over-optimisation), when something
    could not be measured, and when a monitor was constantly 0 in its baseline.

    Args:
        tolerance: in standard errors. The best of many noisy means is too good, hence not 2.
        patience: evaluations in a row.
        spread: in standard deviations of the baseline.
        baseline: number of first evaluations that make a monitor's baseline; at least 2.
        least_variation: variation assumed at least, as a share of the baseline, since few evaluations can
            agree by chance.
        harmful: monitor -> the direction that counts, "up" or "down"; both for one that is not named.
    """

    tolerance: float = 3.0
    patience: int = 3
    spread: float = 3.0
    baseline: int = 4
    least_variation: float = 0.1
    harmful: Mapping[str, Literal["up", "down"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.patience < 1 or self.baseline < 2:
            raise ValueError(
                f"patience must be at least 1 and baseline 2, not {self.patience}, {self.baseline}"
            )
        if min(self.tolerance, self.spread, self.least_variation) < 0:
            raise ValueError("tolerance, spread and least_variation must not be negative")
        if wrong := set(self.harmful.values()) - {"up", "down"}:
            raise ValueError(f'harmful directions are "up" and "down", not {sorted(wrong)}')
        self._best: dict[str, _Best] = {}
        self._first: dict[str, list[float]] = {}
        self._streaks: dict[str, int] = {}

    def update(
        self,
        step: int,
        optimised: Estimate,
        held_out: Mapping[str, Estimate],
        monitors: Mapping[str, float] = {},
    ) -> Verdict:
        """Judge one evaluation and remember it.

        Args:
            step: of the training, for the reasons.
            optimised: the reward that is trained on.
            held_out: rewards that are not; one that is missing here is not judged this time.
            monitors: textures, diversity, KL, ...

        Raises:
            ValueError: a standard error that is negative or infinite.
        """
        for name, given in {"the optimised reward": optimised, **held_out}.items():
            if given.stderr < 0 or math.isinf(given.stderr):
                raise ValueError(f"the standard error of {name} is {given.stderr}")
        found = [self._judge_reward(step, name, value, optimised) for name, value in held_out.items()]
        found += [self._judge_monitor(name, value) for name, value in monitors.items()]
        reasons = tuple(finding.reason for finding in found if finding.level != "ok")
        levels = {finding.level for finding in found}
        return Verdict("alarm" if "alarm" in levels else "warn" if "warn" in levels else "ok", reasons)

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered, as JSON can hold it; the settings are not part of it."""
        return {
            "best": {name: list(best) for name, best in self._best.items()},
            "first": {name: list(values) for name, values in self._first.items()},
            "streaks": dict(self._streaks),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ValueError: not such a state.
        """
        if set(state) != {"best", "first", "streaks"}:
            raise ValueError(f"a state has best, first and streaks, not {', '.join(sorted(state))}")
        self._best = {name: _Best(*best) for name, best in state["best"].items()}
        self._first = {name: list(values) for name, values in state["first"].items()}
        self._streaks = dict(state["streaks"])

    def _judge_reward(self, step: int, name: str, now: Estimate, optimised: Estimate) -> "_Finding":
        if not all(map(math.isfinite, (now.mean, now.stderr, optimised.mean, optimised.stderr))):
            return _Finding("warn", f"{name} was not compared at step {step}: a reward could not be measured")
        best = self._best.get(name)
        if best is None or now.mean > best.mean:
            self._best[name] = _Best(now.mean, now.stderr, step, optimised.mean, list(now.values))
            return self._count(f"held-out {name}", "")
        fall = best.mean - now.mean
        error = _error(best, now)
        if fall == 0 or fall <= self.tolerance * error:
            return self._count(f"held-out {name}", "")
        fell = f"held-out {name} fell from {best.mean:.4g} (step {best.step}) to {now.mean:.4g}" + (
            f", {fall / error:.1f} standard errors" if error else ""
        )
        if optimised.mean <= best.optimised:
            self._streaks[f"held-out {name}"] = 0
            return _Finding("warn", f"{fell}, and the optimised reward is no higher than then")
        rose = f"while the optimised reward rose from {best.optimised:.4g} to {optimised.mean:.4g}"
        return self._count(f"held-out {name}", f"{fell}, {rose}")

    def _judge_monitor(self, name: str, value: float) -> "_Finding":
        if not math.isfinite(value):
            return _Finding("warn", f"{name} could not be measured")
        first = self._first.setdefault(name, [])
        if len(first) < self.baseline:
            first.append(value)
            return _Finding("ok", "")
        usual = fmean(first)
        variation = max(stdev(first), self.least_variation * abs(usual))
        if variation == 0 and value != usual:
            return _Finding(
                "warn", f"{name} left {usual:.4g}, but its baseline shows no variation to judge by"
            )
        direction = "up" if value > usual else "down"
        if abs(value - usual) <= self.spread * variation or self.harmful.get(name, direction) != direction:
            return self._count(f"monitor {name}", "")
        times = abs(value - usual) / variation
        moved = f"{name} went {direction} from {usual:.4g} to {value:.4g}"
        return self._count(f"monitor {name}", f"{moved}, {times:.1f} times its usual variation")

    def _count(self, key: str, reason: str) -> "_Finding":
        """Count evaluations in a row with a reason to worry; one without starts again at 0."""
        streak = self._streaks.get(key, 0) + 1 if reason else 0
        self._streaks[key] = streak
        if not reason:
            return _Finding("ok", "")
        level: Level = "alarm" if streak >= self.patience else "warn"
        return _Finding(level, f"{reason} ({streak} in a row)")


class _Best(NamedTuple):
    """A held-out reward's best evaluation, and what the optimised reward was then."""

    mean: float
    stderr: float
    step: int
    optimised: float
    values: list[float]


def _error(best: _Best, now: Estimate) -> float:
    """Standard error of the difference: sample by sample where both have their values."""
    if len(best.values) != len(now.values):
        return math.hypot(best.stderr, now.stderr)
    moved = [a - b for a, b in zip(now.values, best.values, strict=True) if math.isfinite(a - b)]
    return stdev(moved) / math.sqrt(len(moved)) if len(moved) > 1 else math.hypot(best.stderr, now.stderr)


class _Finding(NamedTuple):
    level: Level
    reason: str


# --- metrics by source --------------------------------------------------------------------------------------


WATCHED = ("score", "failed", "unread", "length/mean", "groups/zero_variance")
TO_DEVIATION = 1.4826
"""From a median absolute deviation to the standard deviation of a normal distribution."""
LEAST = {"score": 0.02, "failed": 0.02, "unread": 0.02, "length/mean": 8.0, "groups/zero_variance": 0.05}
"""Deviation that is assumed at least, so that a quiet metric does not cry at a tremor."""


def gaps(training: Mapping[str, float], evaluation: Mapping[str, float]) -> dict[str, float]:
    """Gaps "sources/SOURCE/gap": the training's score minus the evaluation's, for the sources that both have.

    A gap that grows while the score of the training rises is what gaming a reward looks like.
    """
    return {
        f"{name.removesuffix('/score')}/gap": value - evaluation[name]
        for name, value in training.items()
        if name.startswith(f"{SOURCES}/") and name.endswith("/score") and _depth(name, "score")
        if name in evaluation
    }


def jumps(history: Sequence[Mapping[str, float]], window: int = 10, limit: float = 4.0) -> dict[str, float]:
    """Jumps: watched metrics of the newest step outside the range of the steps before it, name -> deviations.

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
    """True for "overall/KIND" and "sources/SOURCE/KIND", and not for longer names with the same end."""
    block = name.removesuffix(f"/{kind}")
    return block.count("/") == (1 if block.startswith(f"{SOURCES}/") else 0)


# --- the end of improvement ---------------------------------------------------------------------------------


class Plateau:
    """Early stopping by a validation mean that has stopped rising.

    Tuning on a reward goes on raising it long after the pictures have stopped getting better; watch a reward
    that is not trained on (RPO, arXiv:2407.12164, watches its own on held-out prompts).

    Args:
        patience: looks in a row that may fail to improve on the best, at least 1.
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
