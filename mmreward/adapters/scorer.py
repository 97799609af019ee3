"""What every adapter calls: rewards, a Router or a YAML file on one side, one total per response on the
other. Knows no trainer."""

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..assembly import engine_of
from ..compose import Recipe, combine, weights_of
from ..config import Config, EngineConfig, load_config
from ..engine import Engine
from ..loading import Rewards, resolve
from ..registry import Reward
from ..routing.router import Routed, Router
from ..routing.routes import PARTS
from ..types import Sample, Score
from .rows import Batch

Given = Rewards | Router | Path | None
"""Rewards as `Engine.score` takes them, a Router, a YAML file as `mmreward score` reads it (its path ends in
.yaml or .yml), or nothing where every sample brings its own route."""
YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Sum:
    """Rewards and how their total is made; scores like a Router.

    Args:
        rewards: by name; pair and group rewards too, which need `Sample.group`.
        recipe: of the total.
    """

    rewards: Mapping[str, Reward]
    recipe: Recipe

    def score(self, engine: Engine, samples: Sequence[Sample], *, timeout: float | None = None) -> Routed:
        return self._routed(samples, engine.score(samples, self.rewards, timeout=timeout))

    async def ascore(
        self, engine: Engine, samples: Sequence[Sample], *, timeout: float | None = None
    ) -> Routed:
        return self._routed(samples, await engine.ascore(samples, self.rewards, timeout=timeout))

    def _routed(self, samples: Sequence[Sample], scores: Mapping[str, list[Score]]) -> Routed:
        rows: list[Mapping[str, Score]] = [
            {name: column[row] for name, column in scores.items()} for row in range(len(samples))
        ]
        if len(scores) == 1 and self.recipe == Recipe(weights=dict.fromkeys(scores, 1.0)):
            return Routed(next(iter(scores.values())), rows)  # its parts are worth more than a sum's
        return Routed(combine(scores, self.recipe, [sample.group for sample in samples]), rows)


class Scorer:
    """Scores batches for a trainer. What is wrong with the rewards is said when it is made.

    The engine is made when the first batch comes, in the process that scores it, and again after a fork. A
    scorer can be pickled if its rewards are given by name, as a Router, or as a file; a loaded reward is a
    closure.

    Args:
        rewards: see `Given`. Of a file, `compose` and `engine` apply too.
        weights: of a sum of several rewards; default: 1, or -1 where lower is better.
        engine: the engine's size, if there is no file or another is wanted than the file's; or an engine of
            yours, for several scorers that use the same weights. It stays yours to close, and in this
            process.
        timeout: seconds one score may take.

    Raises:
        ValueError: an unknown reward or argument, weights for a Router, or a file that has both rewards and
            routes.
    """

    def __init__(
        self,
        rewards: Given = None,
        *,
        weights: Mapping[str, float] | None = None,
        engine: EngineConfig | Engine | None = None,
        timeout: float | None = None,
    ) -> None:
        if isinstance(rewards, Path) or (isinstance(rewards, str) and rewards.endswith(YAML)):
            rewards = Path(str(rewards)).resolve()  # a worker of Ray has another working directory
        self._described = partial(Scorer, rewards, weights=weights, engine=engine, timeout=timeout)
        config = Config()
        if isinstance(rewards, Path):
            config = load_config(rewards)
            rewards = _of_file(config, str(rewards))
        self._plan = _plan(rewards, weights, config)
        self._yours = engine if isinstance(engine, Engine) else None
        self._config = engine if isinstance(engine, EngineConfig) else config.engine
        self._timeout = timeout
        self._engine: Engine | None = None
        self._pid = 0
        self._lock = threading.Lock()  # trainers that score in several threads share one engine

    def __reduce__(self) -> Any:
        if self._yours is not None:
            raise TypeError("an engine does not travel to another process: give its EngineConfig")
        if _loaded(self._described.args[0]):
            raise TypeError(
                "a loaded reward does not travel to another process: give its name and arguments, as in "
                "{'iou': {'threshold': 0.5}}"
            )
        return self._described, ()

    @property
    def names(self) -> tuple[str, ...]:
        """The components of every total: `routes.PARTS`, or the rewards' names."""
        return PARTS if isinstance(self._plan, Router) else tuple(self._plan.rewards)

    @property
    def label(self) -> str:
        """What it may be called in a log."""
        return "routed" if isinstance(self._plan, Router) else "+".join(self._plan.rewards)

    @property
    def compares(self) -> bool:
        """Whether a reward looks at a whole group."""
        return isinstance(self._plan, Sum) and any(
            reward.info.arity != "point" for reward in self._plan.rewards.values()
        )

    @property
    def engine(self) -> Engine:
        """Yours, or this process's own."""
        if self._yours is not None:
            return self._yours
        with self._lock:
            if self._engine is None or self._pid != os.getpid():  # its threads do not survive a fork
                self._engine, self._pid = engine_of(self._config), os.getpid()
            return self._engine

    def score(self, batch: Batch) -> Routed:
        """The totals and what they are made of, in the batch's order; a row that is no sample has failed."""
        return _whole(batch, self._plan.score(self.engine, batch.able, timeout=self._timeout))

    async def ascore(self, batch: Batch) -> Routed:
        """`score` for async trainers and servers."""
        return _whole(batch, await self._plan.ascore(self.engine, batch.able, timeout=self._timeout))

    def close(self) -> None:
        """Stop its own engine; the next batch makes another."""
        with self._lock:
            if self._engine is not None and self._pid == os.getpid():
                self._engine.close()
            self._engine = None


def _loaded(rewards: Given) -> bool:
    """Whether a reward among these is one already, and no description."""
    if rewards is None or isinstance(rewards, str | Path | Router | Reward):
        return isinstance(rewards, Reward)
    given = rewards.values() if isinstance(rewards, Mapping) else rewards
    return any(isinstance(one, Reward) for one in given)


def _of_file(config: Config, path: str) -> Rewards | Router:
    if config.routes and config.rewards:
        raise ValueError(f"{path} has rewards and routes; a trainer takes one total, so leave one out")
    return Router(config.routes) if config.routes else config.rewards


def _plan(
    rewards: Rewards | Router | None, weights: Mapping[str, float] | None, config: Config
) -> Sum | Router:
    if rewards is None or isinstance(rewards, Router):
        if weights is not None:
            raise ValueError("the weights of a Router are in its routes")
        return rewards or Router()
    resolved = resolve(rewards)
    if config.compose is not None and weights is None:
        recipe = config.compose.build()
    else:
        recipe = Recipe(weights=weights_of(resolved, weights or {}))
    unknown = [name for name in (*recipe.weights, *recipe.gates) if name not in resolved]
    if unknown:
        raise ValueError(f"compose: no reward named {', '.join(unknown)}; there are {', '.join(resolved)}")
    return Sum(resolved, recipe)


def _whole(batch: Batch, scored: Routed) -> Routed:
    """With a failure in the place of every row that could not be read."""
    if not batch.problems:
        return scored
    able = iter(zip(scored.totals, scored.scores, strict=True))
    rows = [
        (Score.failed("error", batch.problems[row], dict.fromkeys(PARTS, 0.0)), {})
        if row in batch.problems
        else next(able)
        for row in range(len(batch.samples))
    ]
    return Routed([total for total, _ in rows], [scores for _, scores in rows])
