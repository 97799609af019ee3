"""How the samples of one source are scored, and what their total is made of. Checked before anything is
scored."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..config import RouteConfig, problems
from ..loading import resolve
from ..registry import Reward
from ..types import Score

PARTS = ("accuracy", "format", "gate", "extra", "parsed")
"""Parts of every total, whatever its route: trainers take their columns from the first sample."""

ROLES = ("accuracy", "format", "extra", "gates", "soft_gates", "watch")


@dataclass(frozen=True)
class Route:
    """Rewards with their roles.

    The total is gate * (a * accuracy + f * format) / (a + f) + sum of weight * extra, held to [0, 1]. The
    accuracy is the weighted mean of its rewards and `a` the sum of their weights; so for the format. Every
    reward is brought to [0, 1], 1 being good, by its declared range or by `ranges`, so that no source weighs
    more than another because of its scale.

    A hard gate (`gates`) is 0 below its threshold, which is on the reward's own scale, and 1 from it on; a
    soft gate (`soft_gates`) multiplies by the value, but by no less than its floor, as PEARL's weights do
    (arXiv:2511.18437). What is watched is scored and reported, and never paid.

    Args:
        source: for messages.
        rewards: by their name in this route.
        config: their roles.
        ranges: of every reward that is paid, (low, high).
    """

    source: str
    rewards: Mapping[str, Reward]
    config: RouteConfig
    ranges: Mapping[str, tuple[float, float]]

    @property
    def paid(self) -> tuple[str, ...]:
        """Rewards without which there is no total."""
        roles = (self.config.accuracy, self.config.format, self.config.gates, self.config.soft_gates)
        weighed = [name for name, weight in self.config.extra.items() if weight]
        return tuple(dict.fromkeys([*(name for role in roles for name in role), *weighed]))

    def total(self, scores: Mapping[str, Score]) -> Score:
        """The total of one sample from the scores of its rewards; it fails as the first that is paid does.

        Every total has the parts `PARTS`, all finite; what a route lacks is 0 there (its gate is 1), and so
        are the parts of a failure.
        """
        bad = [name for name in self.paid if not scores[name].ok]
        if bad:
            first = scores[bad[0]]
            return Score.failed(first.status, f"{bad[0]}: {first.note}", dict.fromkeys(PARTS, 0.0))
        accuracy, a = self._mean(scores, self.config.accuracy)
        form, f = self._mean(scores, self.config.format)
        shut = [name for name, least in self.config.gates.items() if scores[name].value < least]
        gate = 0.0 if shut else 1.0
        for name, floor in self.config.soft_gates.items():
            gate *= max(floor, self._unit(name, scores[name]))
        extra = math.fsum(w * self._unit(name, scores[name]) for name, w in self.config.extra.items() if w)
        value = gate * (a * accuracy + f * form) / (a + f) + extra
        parsed = min((scores[name].parts.get("parsed", 1.0) for name in self.config.accuracy), default=1.0)
        parts = dict(zip(PARTS, (accuracy, form, gate, extra, parsed), strict=True))
        note = f"gate shut: {', '.join(shut)}" if shut else ""
        return Score(min(max(value, 0.0), 1.0), parts, note=note)

    def _mean(self, scores: Mapping[str, Score], weights: Mapping[str, float]) -> tuple[float, float]:
        """(weighted mean of the unit values, sum of the weights)."""
        whole = math.fsum(weights.values())
        summed = math.fsum(weight * self._unit(name, scores[name]) for name, weight in weights.items())
        return (summed / whole if whole else 0.0), whole

    def _unit(self, name: str, score: Score) -> float:
        low, high = self.ranges[name]
        share = min(max((score.value - low) / (high - low), 0.0), 1.0)
        return share if self.rewards[name].info.higher_is_better else 1.0 - share


def load_route(source: str, described: RouteConfig | Mapping[str, Any]) -> Route:
    """Make a route and check all of it.

    Raises:
        ValueError: an unknown reward, argument, column or key, a value of the wrong type, a weight for a
            reward that is not there, a reward without a role, one that is paid and has no finite range, or
            accuracy and format that weigh nothing. The message names the source and every such key.
    """
    try:
        config = described if isinstance(described, RouteConfig) else RouteConfig.model_validate(described)
    except ValidationError as error:
        raise ValueError(_told(source, problems(error, RouteConfig))) from None
    rewards, wrong = _loaded(config)
    if wrong:
        raise ValueError(_told(source, wrong))
    config = _with_roles(config)
    route = Route(source, rewards, config, {})
    paid = [name for name in route.paid if name in rewards]
    ranges = {name: config.ranges.get(name, rewards[name].info.range) for name in paid}
    if wrong := list(_mistakes(route, ranges)):
        raise ValueError(_told(source, wrong))
    return Route(source, rewards, config, ranges)


def _told(source: str, wrong: Any) -> str:
    return f"source {source!r}: " + "; ".join(wrong)


def _loaded(config: RouteConfig) -> tuple[dict[str, Reward], list[str]]:
    """The rewards, and what is wrong with those that cannot be made."""
    rewards: dict[str, Reward] = {}
    wrong: list[str] = []
    for name, args in config.rewards.items():
        try:
            rewards |= resolve({name: args})
        except ValidationError as error:
            wrong += [
                f"rewards.{name}.{'.'.join(map(str, one['loc']))}: {one['msg']}, got {one['input']!r}"
                for one in error.errors()
            ]
        except (ValueError, TypeError) as error:  # TypeError: `columns` is no mapping
            wrong.append(f"rewards.{name}: {error}")
    return rewards, wrong


def _with_roles(config: RouteConfig) -> RouteConfig:
    """The same; a single reward without any role is the accuracy."""
    unpaid = not (config.accuracy or config.format or config.extra or config.gates or config.soft_gates)
    if len(config.rewards) == 1 and unpaid and not config.watch:
        return config.model_copy(update={"accuracy": dict.fromkeys(config.rewards, 1.0)})
    return config


def _mistakes(route: Route, ranges: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    config, there = route.config, ", ".join(route.rewards)
    roles = {key: getattr(config, key) for key in ROLES}
    for key, names in {**roles, "ranges": config.ranges}.items():
        for name in names:
            if name not in route.rewards:
                yield f"{key}.{name}: no such reward in this route, which has {there}"
    for name, reward in route.rewards.items():
        if reward.info.arity != "point":
            yield f"rewards.{name}: it compares samples ({reward.info.arity}); a route scores one at a time"
        if not any(name in names for names in roles.values()):
            yield f"rewards.{name}: no role; name it under {', '.join(roles)}"
    for name, (low, high) in ranges.items():
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            yield f"ranges.{name}: [{low:g}, {high:g}] cannot be brought to [0, 1]; give it a finite one"
    if not math.fsum(config.accuracy.values()) + math.fsum(config.format.values()) > 0:
        yield "accuracy, format: their weights sum to 0, so there is nothing to pay for"
