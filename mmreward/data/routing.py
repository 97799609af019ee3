"""Routing: samples of many sources in one batch, each scored by the rewards of its source (V-Triune,
arXiv:2505.18129).

A `Route` is the rewards of one source and their roles; a `Router` finds the route of every sample and is
itself a reward, for `Engine.score`, trainers and `mmreward score`. All of it is checked before anything is
scored. The total is made by `compose`; nothing here knows how.
"""

import json
import math
from asyncio import gather
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import ValidationError

from ..compose import PARTS, Roles, shaped_ranges, shaping_mistakes, total_of
from ..config import RouteConfig, problems, without_nulls
from ..engine.engine import Engine
from ..errors import Unscorable, nearest
from ..evaluation import failure, score_one
from ..limits import limits, most
from ..loading import resolve
from ..registry import Fingerprinted, Reward
from ..tracing import heard, noted, within
from ..trust import of_row, of_text
from ..types import Arity, RewardInfo, Sample, Score, shortened

SUMMED = ("accuracy", "format", "extra")
ROLES = (*SUMMED, "gates", "soft_gates", "watch")
NO_SAMPLE = Sample()


@dataclass(frozen=True)
class Route:
    """Rewards with their roles.

    Args:
        source: for messages.
        rewards: by their name in this route.
        config: as it was described.
        roles: how the total is made of them.
    """

    source: str
    rewards: Mapping[str, Reward]
    config: RouteConfig
    roles: Roles

    def total(self, scores: Mapping[str, Score], sample: Sample = NO_SAMPLE) -> Score:
        """The total of one sample from the scores of its rewards; see `compose.combine`."""
        return self.totals([scores], [sample])[0]

    def totals(self, rows: Sequence[Mapping[str, Score]], samples: Sequence[Sample]) -> list[Score]:
        """The totals of several samples, whole groups of them where the route compares."""
        columns = {name: [row[name] for row in rows] for name in self.rewards}
        return total_of(columns, self.roles, samples)


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
        raise ValueError(_mistaken(source, problems(error, RouteConfig))) from None
    rewards, wrong = _loaded(config)
    if wrong:
        raise ValueError(_mistaken(source, wrong))
    config = _with_roles(config)
    roles = Roles(
        accuracy=config.accuracy,
        format=config.format,
        extra=config.extra,
        gates=config.gates,
        soft_gates=config.soft_gates,
        ranges={name: config.ranges.get(name, reward.info.range) for name, reward in rewards.items()},
        falling=frozenset(name for name, reward in rewards.items() if not reward.info.higher_is_better),
        shaping=config.shaping,
    )
    if wrong := list(_mistakes(rewards, config, roles)):
        raise ValueError(_mistaken(source, wrong))
    return Route(source, rewards, config, roles)


def _mistaken(source: str, wrong: Iterable[str]) -> str:
    return f"source {source!r}: " + "; ".join(wrong)


def _loaded(config: RouteConfig) -> tuple[dict[str, Reward], list[str]]:
    """The rewards, and the mistakes in those that cannot be made."""
    rewards: dict[str, Reward] = {}
    wrong: list[str] = []
    for name, args in config.rewards.items():
        try:
            rewards |= resolve({name: args})
        except (ValueError, TypeError) as error:  # TypeError: `columns` is no mapping
            wrong.append(f"rewards.{name}: {str(error).removeprefix(f'{name}: ')}")
    return rewards, wrong


def _with_roles(config: RouteConfig) -> RouteConfig:
    """The same; a single reward without any role is the accuracy."""
    unpaid = not (config.accuracy or config.format or config.extra or config.gates or config.soft_gates)
    if len(config.rewards) == 1 and unpaid and not config.watch:
        return config.model_copy(update={"accuracy": dict.fromkeys(config.rewards, 1.0)})
    return config


def _mistakes(rewards: Mapping[str, Reward], config: RouteConfig, roles: Roles) -> Iterator[str]:
    there = ", ".join(rewards)
    named = {key: getattr(config, key) for key in ROLES}
    for key, names in {**named, "ranges": config.ranges}.items():
        for name in names:
            if name not in rewards:
                yield f"{key}.{name}: no such reward in this route, which has {there}"
    summed = {name: weight for key in SUMMED for name, weight in named[key].items()}
    wrong = list(shaping_mistakes(config.shaping, rewards, summed))
    yield from wrong
    read = {name for step in config.shaping for name in step.reads}
    for name, reward in rewards.items():
        if reward.info.arity != "point":
            yield f"rewards.{name}: it compares samples ({reward.info.arity}); a route scores one at a time"
        if name not in read and not any(name in names for names in named.values()):
            yield f"rewards.{name}: no role; name it under {', '.join(named)}"
    # Before shaping, after the steps that measure, and after all; without shaping the three are one.
    shaping = () if wrong else config.shaping
    stages = [roles.ranges, *(shaped_ranges(roles.ranges, shaping, measures=only) for only in (True, False))]
    for name in roles.needed:
        for low, high in dict.fromkeys(ranges.get(name, (0.0, 1.0)) for ranges in stages):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                yield f"ranges.{name}: [{low:g}, {high:g}] cannot be brought to [0, 1]; give it a finite one"
    if not math.fsum(config.accuracy.values()) + math.fsum(config.format.values()) > 0:
        yield "accuracy, format: their weights sum to 0, so there is nothing to pay for"


NAME = "routed"
OWN = "route"
"""The key of `Sample.meta` under which a sample brings its own route."""
MOST_PROBLEMS = 20


class Routed(NamedTuple):
    """Scores of a batch: a total per sample, and by reward the scores behind each."""

    totals: list[Score]
    scores: list[Mapping[str, Score]]


class Router:
    """Scores samples of many sources, each by its own rewards and weights.

    A sample's own route in `meta["route"]` comes first: the name of a route that is declared here, or a
    mapping (or JSON of one) of rules and declared rewards, see `trust`. Then comes the source of exactly its
    name, then the first glob that matches. `reward` is all of this as one reward, 0 to 1, for
    `Engine.score`, trainers and `mmreward score`; `score` also returns what the totals are made of.

    Where shaping compares groups (see `compares`), the router is a group reward: every sample needs a group,
    and a timeout is for the whole group.

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
        self._declared: dict[str, list[Mapping[str, Any]]] = {}
        for route in self._routes.values():
            for name, args in route.config.rewards.items():
                way, ways = {"reward": name, **args}, self._declared.setdefault(name, [])
                if way not in ways:
                    ways.append(way)

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
            lines = [f"{problem} (sample {name!r})" for problem, name in wrong.items()]
            more = f"\n... and {len(lines) - MOST_PROBLEMS} more" if len(lines) > MOST_PROBLEMS else ""
            raise ValueError("\n".join(lines[:MOST_PROBLEMS]) + more)

    @property
    def compares(self) -> bool:
        """True where the total of a sample depends on the others of its group, by some route."""
        return any(route.roles.compares for route in self._routes.values())

    @property
    def loaded(self) -> list[Reward]:
        """Rewards of all declared routes."""
        return [reward for route in self._routes.values() for reward in route.rewards.values()]

    @property
    def reward(self) -> Reward:
        """The router as a reward, whose parts are `compose.PARTS` for every sample."""
        return self._as_reward({})

    def score(self, engine: Engine, samples: Sequence[Sample], *, timeout: float | None = None) -> Routed:
        """Score a mixed batch in one call of the engine; one without a route fails. See `Engine.score`."""
        samples = [
            shortened(sample) for sample in samples
        ]  # as rewards get them: scores are kept by identity
        scores: dict[int, Mapping[str, Score]] = {}
        totals = engine.score(samples, {NAME: self._as_reward(scores)}, timeout=timeout)[NAME]
        return _routed(samples, totals, scores)

    async def ascore(
        self, engine: Engine, samples: Sequence[Sample], *, timeout: float | None = None
    ) -> Routed:
        """`score` for servers and async trainers."""
        samples = [
            shortened(sample) for sample in samples
        ]  # as rewards get them: scores are kept by identity
        scores: dict[int, Mapping[str, Score]] = {}
        totals = (await engine.ascore(samples, {NAME: self._as_reward(scores)}, timeout=timeout))[NAME]
        return _routed(samples, totals, scores)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        """All that changes the numbers, by source: told once, and not for every request of a server."""
        return {source: _described(route) for source, route in self._routes.items()}

    @cached_property
    def _networks(self) -> tuple[Fingerprinted, ...]:
        """Networks of all routes: other weights behind one are another fingerprint, as of a reward alone."""
        return tuple(network for reward in self.loaded for network in reward.networks)

    def _as_reward(self, into: dict[int, Mapping[str, Score]]) -> Reward:
        """`into` gets the scores of each sample, by `id(sample)`."""

        async def scored(sample: Sample) -> tuple[Route, Mapping[str, Score]]:
            try:
                route = self.route(sample)
            except ValueError as error:
                raise Unscorable(str(error)) from None
            _note_route(route, sample)
            names = list(route.rewards)
            asked = [score_one(sample, route.rewards[name], name) for name in names]
            found = await gather(*asked) if len(asked) > 1 else [await one for one in asked]
            into[id(sample)] = scores = dict(zip(names, found, strict=True))
            return route, scores

        async def score(sample: Sample) -> Score:
            route, scores = await scored(sample)
            if route.roles.compares:
                raise Unscorable(
                    f"source {sample.source!r}: shaping of its own route compares groups, which the router's "
                    "routes alone can"
                )
            total = route.total(scores, sample)
            _note_total(route, total)
            return total

        async def member(sample: Sample) -> tuple[Route, Mapping[str, Score]]:
            with within(sample.id):
                return await scored(sample)

        async def score_group(samples: Sequence[Sample]) -> list[Score]:
            found = await gather(*map(member, samples), return_exceptions=True)
            totals = [failure(one, None) if isinstance(one, BaseException) else None for one in found]
            members: dict[int, tuple[Route, list[int]]] = {}
            for row, one in enumerate(found):
                if not isinstance(one, BaseException):
                    members.setdefault(id(one[0]), (one[0], []))[1].append(row)
            for route, rows in members.values():
                own = route.totals([into[id(samples[row])] for row in rows], [samples[row] for row in rows])
                for row, total in zip(rows, own, strict=True):
                    totals[row] = total
                    with within(samples[row].id):
                        _note_total(route, total)
            return [total for total in totals if total is not None]

        arity: Arity = "group" if self.compares else "point"
        info = RewardInfo(
            name=NAME,
            needs=(),
            range=(0.0, 1.0),
            arity=arity,
            paper="arXiv:2505.18129",
            summary="Every sample by the rewards of its source.",
        )
        fn = score_group if self.compares else score
        return Reward(info, {"routes": self._facts}, fn, networks=self._networks)

    def _own_route(self, sample: Sample) -> Route:
        given, source = sample.meta[OWN], sample.source
        try:
            given = of_text(given) if isinstance(given, str) else given
            # Data knows no reward without arguments that is null: Arrow puts one into rows that have none.
            described = without_nulls(given)
            key = json.dumps([source, described], sort_keys=True, default=str)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"source {source!r}: meta[{OWN!r}] {_reason(error)}") from None
        if isinstance(described, str):
            if described in self._routes:
                return self._routes[described]
            hint = nearest(described, self._routes)
            raise ValueError(f"source {source!r}: meta[{OWN!r}] names the route {described!r}: {hint}")
        if not isinstance(described, Mapping):
            raise ValueError(f"source {source!r}: meta[{OWN!r}] is {type(described).__name__}, not a mapping")
        if len(key) > limits().route_characters:
            raise ValueError(
                f"source {source!r}: meta[{OWN!r}] has more characters than {most('route_characters')}"
            )
        if key not in self._own:
            try:
                named = RouteConfig.model_validate(described).rewards
                described = {**described, "rewards": of_row(named, self._declared)}
            except ValidationError as error:
                raise ValueError(_mistaken(source, problems(error, RouteConfig))) from None
            except ValueError as error:
                raise ValueError(_mistaken(source, [str(error)])) from None
            if len(self._own) >= limits().routes:
                del self._own[next(iter(self._own))]
            self._own[key] = load_route(source, described)
        return self._own[key]


def _note_route(route: Route, sample: Sample) -> None:
    if heard():
        roles = {role: weights for role in ROLES if (weights := getattr(route.config, role))}
        noted("route", "{} for a row of source {}: {}", route.source, sample.source, roles)


def _note_total(route: Route, total: Score) -> None:
    """The sum as `compose.Roles` makes it."""
    if heard() and total.ok:
        a, f = math.fsum(route.roles.accuracy.values()), math.fsum(route.roles.format.values())
        means = " + ".join(
            f"{weight:g} x {name} {total.parts[name]:.4g}"
            for name, weight in (("accuracy", a), ("format", f))
            if weight
        )
        gate, extra = (f"{total.parts[name]:.4g}" for name in ("gate", "extra"))
        steps = ", ".join(type(step).__name__ for step in route.roles.shaping)
        shaped = f", its columns shaped by {steps} first: {total.value:.4g}" if steps else ""
        noted("total", f"gate {gate} x ({means}) / {a + f:g} + extra {extra}, held to [0, 1]{shaped}")


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"is no data: {error}"


def _routed(
    samples: Sequence[Sample], totals: Sequence[Score], scores: Mapping[int, Mapping[str, Score]]
) -> Routed:
    """Every total with all parts, those that a deadline or a missing route cut short too."""
    none = dict.fromkeys(PARTS, 0.0)
    whole = [total if total.parts else replace(total, parts=none) for total in totals]
    return Routed(whole, [scores.get(id(sample), {}) for sample in samples])


def _described(route: Route) -> dict[str, Any]:
    """All that changes a route's numbers, for the fingerprint; a route without shaping says nothing of it."""
    fingerprints = {name: reward.fingerprint for name, reward in route.rewards.items()}
    exclude = None if route.config.shaping else {"shaping"}
    described = route.config.model_dump(exclude=exclude)
    described["rewards"] = {name: _shown(args) for name, args in described["rewards"].items()}
    return {**described, "fingerprints": fingerprints}


def _shown(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments as results may store them: of an interpreter's environment the names alone."""
    python = args.get("python")
    if not isinstance(python, Mapping) or not isinstance(python.get("env"), Mapping):
        return args
    return {**args, "python": {**python, "env": sorted(map(str, python["env"]))}}
