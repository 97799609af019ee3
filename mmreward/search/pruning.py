"""Step pruning: a judge looks at half-finished samples, and those without potential are abandoned.

Source: PARM, Guo et al. 2025 (arXiv:2501.13926), there for masked generation and with a judge that answers
one sampled word. Here the judge gives probabilities (`VlmJudge`: P(yes) from the first answer token, never
sampled), all paths of all prompts are judged together, and of a prompt whose paths were all abandoned the
least bad one is finished after all.
"""

from asyncio import gather
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from ..engine.engine import Engine
from ..evaluation import failure
from ..media import Media
from ..models.vlms.answers import VLM, YES_NO, check_mass
from ..types import Score
from .job import RewardFn, Scores
from .particles import Counted, Floats, Particles, normalised, values_of
from .sampler import Rows, Sampler, derive, spread


class Judge(Protocol):
    """Two questions about what a path is expected to become, answered with P(yes) in [0, 1]."""

    def clarity(self, media: Sequence[Any], prompts: Rows) -> Scores:
        """P(it is clear enough to be judged at all)."""
        ...

    def potential(self, media: Sequence[Any], prompts: Rows) -> Scores:
        """P(it can still become what the prompt asks for)."""
        ...


def prune(
    sampler: Sampler,
    judge: Judge,
    reward: RewardFn,
    *,
    paths: int = 8,
    checks: int | Sequence[int] = 4,
    clear: float = 0.5,
    keep: float = 0.5,
    seed: int = 0,
    batch: int = 64,
) -> list[Particles]:
    """Samples of every prompt, without those that a judge gave up on the way.

    At each check the expected samples of the living paths are decoded. The clarity of a path is judged until
    it is clear; the potential of a path that is clear, now or since earlier, is judged at every check, and
    below `keep` the path is abandoned. The survivors are ranked by the reward: `Particles.best`. Where none
    survives, the path whose potential was highest when it was abandoned is taken up from there and finished.

    A verdict that failed decides nothing: the path is neither clear nor abandoned by it. `Particles` holds
    the finished paths only, evenly weighted; `details` has "abandoned", "survivors" (0 when the least bad
    path had to be taken) and "no_verdict" (verdicts that failed).

    Costs at most paths * steps * `sampler.forwards` network evaluations per prompt.

    Args:
        sampler: an ODE will do.
        judge: looks at the checks; its verdicts count as calls.
        reward: ranks what is finished.
        paths: per prompt.
        checks: how many, evenly spread and before the finished sample; or the states to check.
        clear, keep: probabilities from which a path is clear, and from which it is kept.
        seed: of everything random.
        batch: rows per call of the network.

    Raises:
        ValueError: an argument out of its range.
    """
    if paths < 1:
        raise ValueError(f"paths must be at least 1, not {paths}")
    indices = spread(sampler.steps, checks + 1)[:-1] if isinstance(checks, int) else tuple(checks)
    if wrong := [index for index in indices if not 0 <= index < sampler.steps]:
        raise ValueError(f"state {wrong[0]} cannot be checked; states 0 to {sampler.steps - 1} can")
    run = Counted(sampler, batch)
    walk = _Paths(run, paths, seed)
    verdicts = _Verdicts(run, judge, len(walk.prompts), clear, keep)
    alive = np.arange(len(walk.prompts))
    for i in range(sampler.steps):
        walk.predict(alive, i)
        if i in indices:
            alive = verdicts.survivors(alive, walk, i)
        walk.step(alive, i)
    fallen = _least_bad(walk.prompts, alive, verdicts.potential)
    for i in range(sampler.steps):
        rows = fallen[walk.level[fallen] == i]
        walk.predict(rows, i)
        walk.step(rows, i)
    return _finished(run, reward, walk, alive, fallen, verdicts)


class _Paths:
    """States of all prompts' paths, each at a level of its own."""

    def __init__(self, run: Counted, paths: int, seed: int) -> None:
        self._run, self._seed = run, seed
        self.prompts, self._slots = np.divmod(np.arange(run.sampler.prompts * paths), paths)
        self.states = run.sampler.start(derive(seed, self.prompts, self._slots, 0))
        self._predicted: dict[int, torch.Tensor] = {}
        """Output of the network by row; a path that was abandoned keeps its last."""
        self.level = np.zeros(len(self.prompts), dtype=np.int64)
        self._seen = np.full(len(self.prompts), -1)
        """Level of the last prediction."""

    def predict(self, rows: Rows, i: int) -> None:
        fresh = rows[self._seen[rows] != i]
        if len(fresh):
            predicted = self._run.predict(self.states[fresh], i, self.prompts[fresh])
            self._predicted.update(zip(fresh.tolist(), predicted, strict=True))
            self._seen[fresh] = i

    def clean(self, rows: Rows, i: int) -> torch.Tensor:
        return self._run.sampler.clean(self.states[rows], self._predictions(rows), i)

    def step(self, rows: Rows, i: int) -> None:
        if len(rows):
            seeds = derive(self._seed, self.prompts[rows], self._slots[rows], i + 1)
            self.states[rows] = self._run.sampler.step(self.states[rows], self._predictions(rows), i, seeds)
            self.level[rows] = i + 1

    def _predictions(self, rows: Rows) -> torch.Tensor:
        return torch.stack([self._predicted[row] for row in rows.tolist()])


class _Verdicts:
    """Verdicts of the judge on every path."""

    def __init__(self, run: Counted, judge: Judge, number: int, clear: float, keep: float) -> None:
        self._run, self._judge, self._least_clear, self._keep = run, judge, clear, keep
        self._clear = np.zeros(number, dtype=bool)
        self.potential = np.full(number, np.nan)
        """The last verdict on potential; NaN without one."""
        self.failed = np.zeros(number, dtype=np.int64)

    def survivors(self, rows: Rows, walk: _Paths, i: int) -> Rows:
        """The rows that go on after the check at states `i`."""
        if not len(rows):
            return rows
        media = self._run.decode(walk.clean(rows, i), walk.prompts[rows])
        unclear = np.flatnonzero(~self._clear[rows])
        clarity = self._answers(self._judge.clarity, media, rows, unclear, walk.prompts)
        self._clear[rows[unclear]] = clarity >= self._least_clear  # NaN is not
        judged = np.flatnonzero(self._clear[rows])
        potential = self._answers(self._judge.potential, media, rows, judged, walk.prompts)
        self.potential[rows[judged]] = np.where(np.isnan(potential), self.potential[rows[judged]], potential)
        return np.delete(rows, judged[potential < self._keep])

    def _answers(
        self, question: RewardFn, media: Sequence[Any], rows: Rows, picked: Rows, prompts: Rows
    ) -> Floats:
        verdicts = self._run.score(question, [media[k] for k in picked], prompts[rows[picked]])
        values = values_of(verdicts)
        self.failed[rows[picked]] += np.isnan(values)
        return values


def _least_bad(prompts: Rows, alive: Rows, potential: Floats) -> Rows:
    """For every prompt without a living path, the abandoned one with the highest potential."""
    fallen = [
        int(rows[np.nanargmax(potential[rows])])
        for prompt in np.setdiff1d(prompts, prompts[alive])
        for rows in [np.flatnonzero(prompts == prompt)]
    ]
    return np.array(fallen, dtype=np.int64)


def _finished(
    run: Counted, reward: RewardFn, walk: _Paths, alive: Rows, fallen: Rows, verdicts: _Verdicts
) -> list[Particles]:
    rows = np.sort(np.concatenate([alive, fallen]))
    media = run.decode(walk.states[rows], walk.prompts[rows])
    scores = run.score(reward, media, walk.prompts[rows])
    found = []
    for prompt in range(run.sampler.prompts):
        own = walk.prompts == prompt
        picked = np.flatnonzero(own[rows])
        survivors = int(own[alive].sum())
        kept = [scores[k] for k in picked]
        found.append(
            Particles(
                latents=walk.states[rows[picked]],
                media=[media[k] for k in picked],
                scores=kept,
                log_weights=normalised(np.where(np.isnan(values_of(kept)), -np.inf, 0.0)),
                spent=run.spent(prompt),
                details={
                    "abandoned": float(own.sum() - survivors),
                    "survivors": float(survivors),
                    "no_verdict": float(verdicts.failed[own].sum()),
                },
            )
        )
    return found


class Question(NamedTuple):
    """A yes/no question; {prompt} is filled in, and `good` is the answer that speaks for the sample."""

    text: str
    good: str = "yes"


CLARITY = Question("Is this picture clear enough to tell what it shows? Answer yes or no.")
POTENTIAL = Question("Does this picture match the prompt: {prompt}? Answer yes or no.")


class VlmJudge:
    """P(good) / (P(yes) + P(no)) of one question per verdict, 0 to 1 (see `pruning.Judge`).

    Args:
        engine: runs the model.
        vlm: `models.vlm(...)`, local or served.
        prompts: the texts, in the order of the sampler's prompts.
        clarity, potential: the questions. A small model knows only those it was trained on.
        min_mass: a verdict is "unparsable" when yes and no have less probability than this together.

    Raises:
        ValueError: a question whose good answer is neither yes nor no.
    """

    def __init__(
        self,
        engine: Engine,
        vlm: VLM,
        prompts: Sequence[str],
        *,
        clarity: Question = CLARITY,
        potential: Question = POTENTIAL,
        min_mass: float = 0.5,
    ) -> None:
        for question in (clarity, potential):
            if question.good not in YES_NO:
                raise ValueError(f"the good answer to {question.text!r} is yes or no, not {question.good!r}")
        self._engine, self._vlm, self._prompts = engine, vlm, prompts
        self._clarity, self._potential, self._min_mass = clarity, potential, min_mass

    def clarity(self, media: Sequence[Any], prompts: Rows) -> list[Score]:
        return self._engine.run(self._verdicts(self._clarity, media, prompts))

    def potential(self, media: Sequence[Any], prompts: Rows) -> list[Score]:
        return self._engine.run(self._verdicts(self._potential, media, prompts))

    async def _verdicts(self, question: Question, media: Sequence[Media], prompts: Rows) -> list[Score]:
        texts = [question.text.replace("{prompt}", self._prompts[prompt]) for prompt in prompts]
        return await gather(
            *(self._verdict(one, text, question.good) for one, text in zip(media, texts, strict=True))
        )

    async def _verdict(self, media: Media, text: str, good: str) -> Score:
        try:
            read = await self._vlm.read(media, text, YES_NO)
            parts = {"mass": read.mass}
            check_mass(read, self._min_mass, parts=parts)
            return Score(read.probs[good], parts)
        except Exception as error:  # this row's verdict says so
            return failure(error, None)
