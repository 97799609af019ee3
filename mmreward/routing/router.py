"""Mixed data through one engine call: every sample is scored as its source, or the sample itself, says."""

import json
from asyncio import gather
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ..config import RouteConfig, without_nulls
from ..engine import Engine
from ..failures import Unscorable
from ..registry import Reward
from ..scoring import score_one
from ..types import RewardInfo, Sample, Score
from .routes import PARTS, Route, load_route

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
