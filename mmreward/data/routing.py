"""How the samples of one source are scored, and what their total is made of. Checked before anything is
scored."""

# FOLDED mmreward/routing/router.py: Mixed data through one engine call: every sample is scored as its source, or the sample itself, says.

import json
import math
from asyncio import gather
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from pydantic import ValidationError

from ..config import RouteConfig, problems, without_nulls
from ..engine.engine import Engine
from ..errors import Unscorable
from ..loading import resolve
from ..registry import Reward
from ..scoring import score_one
from ..types import RewardInfo, Sample, Score

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


NAME = "routed"
OWN = "route"
"""The key of `Sample.meta` under which a sample brings its own route."""
MOST_PROBLEMS = 20


class Routed(NamedTuple):
    """What a batch earned: a total per sample, and the scores each total is made of, by reward."""

    totals: list[Score]
    scores: list[Mapping[str, Score]]


class Router:
    """Scores samples of many sources, each by its own rewards and weights (V-Triune, arXiv:2505.18129).

    A sample's own route in `meta["route"]` (a mapping, or the same as JSON) comes first, then the source of
    exactly its name, then the first glob that matches. `reward` is all of this as one reward, 0 to 1, for
    `Engine.score`, trainers and `mmreward score`; `score` also tells what the totals are made of.

    Args:
        sources: source or glob -> `config.RouteConfig`, or the mapping that describes one.

    Raises:
        ValueError: whatever is wrong with any of them, naming source and key.
    """

    def __init__(self, sources: Mapping[str, RouteConfig | Mapping[str, Any]] | None = None) -> None:
        self._routes: dict[str, Route] = {}
        self._own: dict[str, Route] = {}
        wrong = []
        for source, described in (sources or {}).items():
            try:
                self._routes[source] = load_route(source, described)
            except ValueError as error:
                wrong.append(str(error))
        if wrong:
            raise ValueError("\n".join(wrong))

    def __reduce__(self) -> Any:
        """Travels as its description: loaded rewards are closures."""
        return Router, ({source: route.config for source, route in self._routes.items()},)

    def route(self, sample: Sample) -> Route:
        """The route of a sample.

        Raises:
            ValueError: its source is not known, or its own route is wrong.
        """
        if sample.meta.get(OWN) is not None:
            return self._own_route(sample)
        if sample.source in self._routes:
            return self._routes[sample.source]
        for glob, route in self._routes.items():
            if fnmatchcase(sample.source, glob):
                return route
        known = ", ".join(self._routes) or "none"
        raise ValueError(
            f"source {sample.source!r}: no route; there are {known}, and meta[{OWN!r}] is not set"
        )

    def check(self, samples: Iterable[Sample]) -> None:
        """Look up the route of every sample, to be called before a training.

        Raises:
            ValueError: what is wrong, each mistake once and with the first sample that has it.
        """
        wrong: dict[str, str] = {}
        for sample in samples:
            try:
                self.route(sample)
            except ValueError as error:
                wrong.setdefault(str(error), sample.id)
        if wrong:
            told = [f"{problem} (sample {name!r})" for problem, name in wrong.items()]
            more = f"\n... and {len(told) - MOST_PROBLEMS} more" if len(told) > MOST_PROBLEMS else ""
            raise ValueError("\n".join(told[:MOST_PROBLEMS]) + more)

    @property
    def reward(self) -> Reward:
        """The router as a reward, whose parts are `routes.PARTS` for every sample."""
        return self._as_reward({})

    def score(self, engine: Engine, samples: Sequence[Sample], *, timeout: float | None = None) -> Routed:
        """Score a mixed batch in one call of the engine; one without a route fails. See `Engine.score`."""
        scores: dict[int, Mapping[str, Score]] = {}
        totals = engine.score(samples, {NAME: self._as_reward(scores)}, timeout=timeout)[NAME]
        return _routed(samples, totals, scores)

    async def ascore(
        self, engine: Engine, samples: Sequence[Sample], *, timeout: float | None = None
    ) -> Routed:
        """`score` for servers and async trainers."""
        scores: dict[int, Mapping[str, Score]] = {}
        totals = (await engine.ascore(samples, {NAME: self._as_reward(scores)}, timeout=timeout))[NAME]
        return _routed(samples, totals, scores)

    def _as_reward(self, into: dict[int, Mapping[str, Score]]) -> Reward:
        """`into` gets the scores of each sample, by `id(sample)`."""

        async def score(sample: Sample) -> Score:
            try:
                route = self.route(sample)
            except ValueError as error:
                raise Unscorable(str(error)) from None
            names = list(route.rewards)
            found = await gather(*(score_one(sample, route.rewards[name]) for name in names))
            into[id(sample)] = scores = dict(zip(names, found, strict=True))
            return route.total(scores)

        info = RewardInfo(
            name=NAME,
            needs=(),
            range=(0.0, 1.0),
            paper="arXiv:2505.18129",
            summary="Every sample by the rewards of its source.",
        )
        described = {source: _described(route) for source, route in self._routes.items()}
        return Reward(info, {"routes": described}, score)

    def _own_route(self, sample: Sample) -> Route:
        given, source = sample.meta[OWN], sample.source
        try:
            # Data knows no reward without arguments that is null: Arrow puts one into rows that have none.
            described = without_nulls(json.loads(given) if isinstance(given, str) else given)
            key = json.dumps([source, described], sort_keys=True, default=str)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"source {source!r}: meta[{OWN!r}] is not JSON: {error}") from None
        if not isinstance(described, Mapping):
            raise ValueError(f"source {source!r}: meta[{OWN!r}] is {type(described).__name__}, not a mapping")
        if key not in self._own:
            self._own[key] = load_route(source, described)
        return self._own[key]


def _routed(
    samples: Sequence[Sample], totals: Sequence[Score], scores: Mapping[int, Mapping[str, Score]]
) -> Routed:
    """A total that a deadline or a missing route cut short has all parts too."""
    none = dict.fromkeys(PARTS, 0.0)
    whole = [total if total.parts else replace(total, parts=none) for total in totals]
    return Routed(whole, [scores.get(id(sample), {}) for sample in samples])


def _described(route: Route) -> dict[str, Any]:
    """What changes a route's numbers, for the fingerprint."""
    made_of = {name: reward.fingerprint for name, reward in route.rewards.items()}
    return {**route.config.model_dump(), "fingerprints": made_of}
