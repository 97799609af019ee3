"""Scorer: what all adapters share, from rewards, a Router or a YAML file to one total per response.

- `Scorer` scores a batch of rows, with an engine that it makes in the process that scores.
- `flat` is for trainers without a word for "not applicable": one row of floats per response, always with the
  same keys. `failed` says what they are paid for a score that failed.
- `LastBatch` lets several reward functions of one trainer share the scores of a batch.

Knows no trainer.
"""

import asyncio
import json
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from ..compose import PARTS, Recipe, total_of, weights_of
from ..config import Config, EngineConfig, config_at, load_config
from ..data.routing import Routed, Router
from ..engine.engine import Engine
from ..errors import FINE
from ..limits import set_limits
from ..loading import Rewards, resolve
from ..registry import Reward
from ..types import Sample, Score
from .rows import Batch

Given = Rewards | Router | Path | None
"""Rewards as `Engine.score` takes them, a Router, a YAML file as `mmreward score` reads it (its path ends in
.yaml or .yml), or nothing where every sample brings its own route."""
YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Composed:
    """Rewards and the recipe of their total; scores like a Router.

    Args:
        rewards: by name; pair and group rewards too, which need `Sample.group`.
        recipe: of the total.
    """

    rewards: Mapping[str, Reward]
    recipe: Recipe

    @property
    def loaded(self) -> list[Reward]:
        """The rewards."""
        return list(self.rewards.values())

    @property
    def compares(self) -> bool:
        """True where the total of a sample depends on the others of its group."""
        return self.recipe.compares or any(one.info.arity != "point" for one in self.rewards.values())

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
        if self.recipe.normalise == "group":  # a row without a group costs itself
            scores = {name: _in_groups(column, samples) for name, column in scores.items()}
        return Routed(total_of(scores, self.recipe, samples), rows)


def _in_groups(scores: Sequence[Score], samples: Sequence[Sample]) -> list[Score]:
    alone = Score.failed("missing", "the total compares the samples of a group, and this one has no group")
    pairs = zip(scores, samples, strict=True)
    return [alone if score.ok and sample.group is None else score for score, sample in pairs]


class Scorer:
    """Scores batches for a trainer. What is wrong with the rewards is said when it is made.

    The engine is made when the first batch comes, in the process that scores it, and again after a fork. A
    scorer can be pickled if its rewards are given by name, as a Router, or as a file; a loaded reward is a
    closure.

    Args:
        rewards: see `Given`. Of a file, `compose`, `engine` and `limits` apply too.
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
            rewards = config_at(str(rewards)).resolve()  # a worker of Ray has another working directory
        self._described = partial(Scorer, rewards, weights=weights, engine=engine, timeout=timeout)
        config = Config()
        if isinstance(rewards, Path):
            config = load_config(rewards)
            set_limits(config.limits)
            rewards = _of_file(config, str(rewards))
        self._plan = _plan(rewards, weights, config)
        for one in self._plan.loaded:
            one.make()  # and not in the first request of a server
        self._yours = engine if isinstance(engine, Engine) else None
        self._config = engine if isinstance(engine, EngineConfig) else config.engine
        self._timeout = timeout
        self._engine: Engine | None = None
        self._pid = 0
        self.late = 0
        """Deadlines that have passed since the last score; see `LATE`."""
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
        """The components of every total: `compose.PARTS`, or the rewards' names."""
        return PARTS if isinstance(self._plan, Router) else tuple(self._plan.rewards)

    @property
    def label(self) -> str:
        """A name for logs."""
        return "routed" if isinstance(self._plan, Router) else "+".join(self._plan.rewards)

    @property
    def compares(self) -> bool:
        """True where a reward, or the shaping of a total, looks at a whole group."""
        return self._plan.compares

    @property
    def light(self) -> bool:
        """True where all rewards are rules: none has a network, a judge, another interpreter, or a package
        whose release counts (`math` has math-verify, and processes of its own)."""
        return not any(one.networks or one.release for one in self._plan.loaded)

    def check_single(self) -> None:
        """Refuse a total that compares responses, of a trainer that hands over one at a time.

        Raises:
            ValueError: shaping or a z-score looks at whole groups.
        """
        if self._plan.compares if isinstance(self._plan, Router) else self._plan.recipe.compares:
            raise ValueError(
                f"the total of {self.label} compares the responses to one prompt, and this function gets one "
                "response: use the trainer's batch function"
            )

    @property
    def engine(self) -> Engine:
        """Yours, or this process's own."""
        if self._yours is not None:
            return self._yours
        with self._lock:
            if self._engine is None or self._pid != os.getpid():  # its threads do not survive a fork
                self._engine, self._pid = Engine.from_config(self._config), os.getpid()
            return self._engine

    def score(self, batch: Batch) -> Routed:
        """Totals and the scores behind them, in the batch's order; a row that is no sample has failed."""
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
    """True where a reward among these is loaded, and no description."""
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
) -> Composed | Router:
    if rewards is None or isinstance(rewards, Router):
        if weights is not None:
            raise ValueError("the weights of a Router are in its routes")
        return rewards or Router()
    resolved = resolve(rewards)
    if config.compose is not None and weights is None:
        recipe = config.compose.build()
    else:
        recipe = Recipe(weights=weights_of(resolved, weights or {}))
    recipe.check(resolved)
    return Composed(resolved, recipe)


def _whole(batch: Batch, scored: Routed) -> Routed:
    """The scores of the whole batch, with a failure in the place of every row that could not be read."""
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


Failed = float | Literal["raise"]
"""Pay for a score that failed: "raise", which ends the training, unless you name a number. That is paid like
any other, and only the key `failed` tells it from a wrong answer.

With "raise" too, a deadline that passes costs its own answer: these trainers know no missing score, so it is
paid 0 with `failed` 1 and a warning. `LATE` of them in a row, with no score between, end the training."""
LATE = 64
"""Deadlines that pass one after another before "raise" ends a training: the judge is gone, not the answer."""
OWN = ("score", "acc", "failed", "reward", "overall")
"""Keys that trainers or these adapters give a meaning to."""

log = logging.getLogger("mmreward.adapters")


def flat(
    scorer: Scorer, scored: Routed, failed: Failed, *, late: float | None = 0.0
) -> list[dict[str, float]]:
    """One row per response: score, acc (the accuracy, or the score where a total has none), the scorer's
    `names`, and failed (0 or 1).

    Args:
        scorer: what scored them.
        scored: the scores.
        failed: see `Failed`.
        late: with "raise", pay for a deadline that passed; None raises for it as for any other failure.

    Raises:
        RuntimeError: a score failed, and `failed` is "raise".
        ValueError: a reward has a name among `OWN`.
    """
    taken = [name for name in scorer.names if name in OWN]
    if taken:
        raise ValueError(f"rewards named {', '.join(taken)}: trainers use these keys; give them other names")
    pays: list[Failed] = [failed] * len(scored.totals)
    if failed == "raise" and late is not None:
        pays = [late if total.status == "timeout" else failed for total in scored.totals]
        for total in scored.totals:
            scorer.late = scorer.late + 1 if total.status == "timeout" else 0 if total.ok else scorer.late
        report_failures([total for total in scored.totals if total.status != "timeout"], failed)
        report_failures(
            [total for total in scored.totals if total.status == "timeout"],
            "raise" if scorer.late >= LATE else None,
        )
    else:
        report_failures(scored.totals, failed)
    rows = zip(scored.totals, scored.scores, pays, strict=True)
    return [_row(scorer.names, total, scores, pay) for total, scores, pay in rows]


def report_failures(totals: Sequence[Score], failed: Failed | None) -> None:
    """Log how many scores of a batch failed and why the first did, once per batch.

    Raises:
        RuntimeError: there are some, and `failed` is "raise".
    """
    bad = [total for total in totals if total.status not in FINE]
    if not bad:
        return
    message = f"{len(bad)} of {len(totals)} scores failed, the first: {bad[0].status}, {bad[0].note}"
    if failed == "raise":
        raise RuntimeError(message)
    log.warning(message)


def component(name: str, total: Score, scores: Mapping[str, Score]) -> float | None:
    """One component of a total: a reward's own score, else the total's part; None where there is none."""
    if name in scores:
        return scores[name].value if scores[name].ok else None
    return total.parts.get(name) if total.ok else None


def shared(rewards: Any, weights: Mapping[str, float] | None, timeout: float | None) -> Scorer:
    """The scorer of this process for these rewards: trainers that call a plain function know no state.

    Args:
        rewards: a Scorer, or its description (OmegaConf's containers are fine).
        weights: as `Scorer` takes them.
        timeout: the same.
    """
    if isinstance(rewards, Scorer):
        return rewards
    if isinstance(rewards, Router):
        raise ValueError("every call would make a Router its own engine: pass Scorer(router)")
    return _shared(json.dumps([_plain(rewards), _plain(weights), timeout], sort_keys=True))


@cache
def _shared(described: str) -> Scorer:
    rewards, weights, timeout = json.loads(described)
    given: Given = rewards
    return Scorer(given, weights=weights, timeout=timeout)


def _plain(given: Any) -> Any:
    if isinstance(given, Mapping):
        return {str(key): _plain(value) for key, value in given.items()}
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [_plain(value) for value in given]
    if isinstance(given, Path):
        return str(given)
    if given is not None and not isinstance(given, str | int | float | bool):
        raise ValueError(f"{given!r} is no description of a reward; pass a Scorer to use loaded ones")
    return given


def _row(names: Sequence[str], total: Score, scores: Mapping[str, Score], failed: Failed) -> dict[str, float]:
    value = total.value if total.ok or failed == "raise" else float(failed)
    accuracy = total.parts.get("accuracy", value) if total.ok else value
    parts = {name: component(name, total, scores) or 0.0 for name in names}
    return {"score": value, "acc": accuracy, **parts, "failed": float(not total.ok)}


T = TypeVar("T")


class LastBatch(Generic[T]):
    """The result of the last batch, which is known by the identity of its list of completions: trainers hand
    the same list to every function of a step, and a new one in the next."""

    def __init__(self) -> None:
        self._batch: Any = None  # held, so that no other list can get its identity
        self._result: T | None = None
        self._task: asyncio.Future[T] | None = None
        self._lock = threading.Lock()  # async GRPO calls sync functions in several threads; one computes

    def __reduce__(self) -> Any:
        return LastBatch, ()

    def get(self, batch: Any, compute: Callable[[], T]) -> T:
        with self._lock:
            if self._batch is not batch:
                self._result = compute()
                self._batch = batch
            assert self._result is not None, "nothing was computed"
            return self._result

    async def aget(self, batch: Any, compute: Callable[[], Awaitable[T]]) -> T:
        """On one event loop; the first caller starts the work, and all wait for it."""
        if self._batch is not batch or self._task is None:
            self._task = asyncio.ensure_future(compute())
            self._batch = batch
        return await self._task
