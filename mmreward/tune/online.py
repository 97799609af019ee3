"""A round of online training: draw samples with the policy, score them meanwhile, compare within groups,
update.

`Method` is the protocol of a training method on graded samples (`policy_gradient`, `forward_process`): the
loss of a micro-batch in parts, each back-propagated on its own, and what surrounds a round. `Online` does the
rest of a round.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Protocol, cast

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray

from ..generator import Generator
from ..sampling import encoded, filled
from ..types import Sample
from .advantages import Advantages, GroupOptions
from .aggregate import Embeddings, aggregate, favour_diverse, uncertain
from .config import TuneConfig
from .data import Row, draw_rows, share_out
from .grading import Grades, Grading
from .journal import Timeline
from .kernels import check, compressed, kernel
from .learner import Copy, Learner, TrainedWeights
from .losses import certainty, prefpaint_weight
from .rollout import Plan, Rollout, noisy_steps, roll_out
from .steps import selector

Metrics = dict[str, float]
RowLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Policy:
    """The network that is trained, and its weights: the current ones, copies, and the frozen reference."""

    generator: Generator
    weights: TrainedWeights


@dataclass(frozen=True)
class Term:
    """One part of a micro-batch's loss, after its forward passes.

    Args:
        loss: advantages (N,) and usable rows (N,) bool to the loss of each row (N,), 0 in rows that are not
            usable; called once, or once per reward where rewards have separate losses.
        extra: added whatever the advantages (N,), such as a divergence; None for nothing.
        metrics: to be averaged over the round.
    """

    loss: RowLoss
    extra: torch.Tensor | None
    metrics: Metrics


class Method(Protocol):
    """A loss on samples and their advantages."""

    updates: int
    """Optimiser steps per round."""
    whole_groups: bool
    """True for losses that compare the samples of a group: a micro-batch holds whole groups."""
    trajectories: bool
    """True for losses on stochastic steps, which are stored and replayed."""

    def before_round(self, current: Policy) -> Copy | None:
        """Weights of the policy that draws the samples; None for the current ones."""
        ...

    def terms(
        self, current: Policy, rollout: Rollout, plan: Plan, fresh: bool
    ) -> Sequence[Callable[[], Term]]:
        """The parts of one micro-batch's loss; each is run, and back-propagated, on its own.

        `fresh` says that the weights are still those that drew the samples.
        """
        ...

    def after_round(self, current: Policy, round: int) -> Metrics:
        """Once the round's updates are done."""
        ...

    def state(self) -> Mapping[str, Copy]:
        """Copies of weights that a checkpoint must hold."""
        ...

    def load_state(self, state: Mapping[str, Copy]) -> None:
        """Go on from the copies of a checkpoint."""
        ...


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Signal:
    """Training signal of a round, row by row (N,).

    Args:
        advantages: as `Online.advantages` gives them.
        weights: of the rows' losses, under the same names.
        penalised: rows that the divergence from the reference counts for.
    """

    advantages: Mapping[str, Advantages]
    weights: Mapping[str, NDArray[np.float64]]
    penalised: NDArray[np.bool_]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Rows that some of the advantages can use."""
        usable: NDArray[np.bool_] = np.any([one.usable for one in self.advantages.values()], axis=0)
        return usable


class Online:
    """Rounds of a `Method` on samples that are drawn anew each time.

    Args:
        config: of the run, with a weight for every reward.
        method: the loss.
        learner: weights and optimiser.
        grading: of the rewards that are optimised.
        prompts: of the training data.
        timeline: notes when what was under way.

    Raises:
        ValueError: a round that does not divide evenly, or micro-batches that cut groups of a method that
            compares them.
    """

    def __init__(
        self,
        config: TuneConfig,
        method: Method,
        learner: Learner,
        grading: Grading,
        prompts: Sequence[Sample],
        timeline: Timeline,
    ) -> None:
        self._config, self._method, self._learner = config, method, learner
        self._grading, self._prompts, self._timeline = grading, prompts, timeline
        self._policy = Policy(learner.generator, learner.weights)
        encoder = config.gardo.encoder if config.gardo else None
        self._embeddings = Embeddings(encoder, grading.rewards.values()) if encoder else None
        rollout = config.rollout
        if method.whole_groups and rollout.micro_batch % rollout.group:
            raise ValueError(
                f"{config.method.name} compares the samples of a group: rollout.micro_batch "
                f"({rollout.micro_batch}) must be a multiple of rollout.group ({rollout.group})"
            )
        self._shares(0)  # what does not fit is said before the first sample is drawn
        self.plan(0)

    def round(self, number: int) -> Metrics:
        """Draw, score, update. Returns what the round's line in the journal says."""
        plan = self.plan(number)
        shares = self._shares(number)
        sampling = self._method.before_round(self._policy)
        with self._learner.weights.using(sampling) if sampling else nullcontext():
            rollouts = [[self._draw(rows, plan) for rows in batches] for batches in shares]
        waited = time.perf_counter()
        grades = self._gather(self._grading.collect())
        self._timeline.add("wait", waited, time.perf_counter())
        grades.check(self._config.failures.budget)
        signal = self._signal(grades, np.array([row.group for row in self._rows(number)], dtype=np.int64))
        metrics = describe(grades, signal)
        begun = time.perf_counter()
        updates = [self._update(rollouts[i], signal, plan, fresh=i == 0) for i in range(len(rollouts))]
        metrics |= averaged(updates)
        metrics |= self._method.after_round(self._policy, number)
        self._timeline.add("update", begun, time.perf_counter())
        return metrics

    def plan(self, number: int) -> Plan:
        """Sampling plan of a round."""
        config, generator = self._config.rollout, self._learner.generator
        sigmas = check(generator.sigmas(config.steps).float())
        trained: frozenset[int] = frozenset()
        if self._method.trajectories:
            arguments = dict(config.selector)
            chosen = selector(arguments.pop("name", "all_but_last"), **arguments)
            trained = frozenset(chosen.steps(config.steps, number, self._config.seed))
            if config.compress is not None:
                sigmas = compressed(sigmas, max(trained) + 1, config.compress)
        return Plan(
            sigmas=sigmas,
            steps=config.steps,
            kernel=kernel(config.kernel.name, config.kernel.eta, config.kernel.density),
            stochastic=noisy_steps(trained, len(sigmas) - 1, config.stochastic == "all"),
            trained=trained,
            guidance=generator.guidance if config.guidance is None else config.guidance,
            solver=config.solver,
            dtype=DTYPES[config.dtype],
            seed=self._config.seed,
            round=number,
        )

    def advantages(self, grades: Grades, groups: NDArray[np.int64]) -> Mapping[str, Advantages]:
        """One set of advantages, under the name "", or one per reward where they have separate losses."""
        given = self._config.advantages
        weights = {name: self._config.weights[name] for name in grades.values}
        options = cast(GroupOptions, given.model_dump(exclude={"mode", "gates", "restandardise"}))
        if given.mode == "separate_loss":
            return aggregate(grades.values, weights, groups, mode="separate_loss", **options)
        joint = aggregate(
            grades.values,
            weights,
            groups,
            mode=given.mode,
            gates=given.gates,
            restandardise=given.restandardise,
            **options,
        )
        return {"": joint}

    def _signal(self, grades: Grades, groups: NDArray[np.int64]) -> Signal:
        advantages = self.advantages(grades, groups)
        if self._embeddings is not None:
            seen = self._embeddings.collect(self._learner.accelerator.num_processes)
            clip = self._config.advantages.clip
            advantages = {
                name: favour_diverse(one, seen, groups, clip=clip) for name, one in advantages.items()
            }
        weights = {name: self._weights(name, grades) for name in advantages}
        return Signal(advantages, weights, self._penalised(grades))

    def _weights(self, name: str, grades: Grades) -> NDArray[np.float64]:
        """Weights of the rows (N,) in the loss of this name: less where the reward was uncertain."""
        given = self._config.uncertainty
        if given is None or name not in ("", given.reward):
            return np.ones(len(grades.index))
        uncertainty = torch.from_numpy(grades.uncertainty)
        if given.weight == "ctrl_u":
            weight = certainty(uncertainty)
        else:
            bounds = {"least": given.least, "most": given.most}
            weight = prefpaint_weight(uncertainty, slope=given.slope, offset=given.offset, **bounds)
        return np.where(np.isfinite(grades.uncertainty), weight.numpy(), 1.0)

    def _rows(self, number: int) -> list[Row]:
        config = self._config.rollout
        return draw_rows(
            len(self._prompts),
            prompts=config.prompts,
            group=config.group,
            round=number,
            seed=self._config.seed,
            same_noise=config.same_noise,
        )

    def _shares(self, number: int) -> list[list[list[Row]]]:
        accelerator = self._learner.accelerator
        return share_out(
            self._rows(number),
            micro_batch=self._config.rollout.micro_batch,
            updates=self._method.updates,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )

    def _draw(self, rows: Sequence[Row], plan: Plan) -> Rollout:
        """Draw one micro-batch and hand it to the rewards, which work while the next one is drawn."""
        begun = time.perf_counter()
        generator = self._learner.generator
        samples = [
            replace(self._prompts[row.prompt], id=str(row.index), group=str(row.group)) for row in rows
        ]
        with self._learner.autocast():
            conditioning = encoded(generator, samples)
            rollout = roll_out(generator, conditioning, rows, plan)
        with torch.no_grad():
            pixels = generator.decode(rollout.final)
        finished = filled(samples, pixels, generator.fps)
        self._timeline.add("generate", begun, time.perf_counter())
        index = [row.index for row in rows]
        self._grading.begin(index, finished)
        if self._embeddings is not None:
            self._embeddings.see(index, pixels)
        return rollout

    def _gather(self, grades: Grades) -> Grades:
        if self._learner.accelerator.num_processes == 1:
            return Grades.join([grades])
        return Grades.join(gather_object([grades]))

    def _penalised(self, grades: Grades) -> NDArray[np.bool_]:
        """Rows (N,) that the divergence from the reference counts for: all of them, or those GARDO marks."""
        gate = self._config.gardo
        if gate is None or not gate.others:
            return np.ones(len(grades.index), dtype=bool)
        weights = {name: self._config.weights[name] for name in grades.values}
        proxy = np.sum([weights[name] * column for name, column in grades.values.items() if weights[name]], 0)
        return uncertain(proxy, [grades.values[name] for name in gate.others], share=gate.share)

    def _update(self, rollouts: Sequence[Rollout], signal: Signal, plan: Plan, *, fresh: bool) -> Metrics:
        """One optimiser step on this process's share of one of the round's updates."""
        usable = signal.usable
        rows = [row.index for rollout in rollouts for row in rollout.rows]
        # The mean is over the usable rows of all processes: failed rows are in no denominator, and the
        # gradient does not depend on how rows are spread over micro-batches and processes.
        total = self._total(int(usable[rows].sum()))
        if not total:
            return {"skipped_updates": 1.0}
        collected: list[Metrics] = []
        for rollout in rollouts:
            index = np.array([row.index for row in rollout.rows])
            if not usable[index].any() and not self._learner.sharded:  # sharded networks run in step
                continue
            terms = self._method.terms(self._policy, rollout, plan, fresh)
            for make in terms:
                with self._learner.autocast():
                    term = make()
                collected.append(term.metrics)
                loss = self._summed(term, index, signal) / (total * len(terms))
                torch.autograd.backward(loss)
        metrics = averaged(collected)
        metrics["grad_norm"] = self._learner.step()
        return metrics

    def _summed(self, term: Term, index: NDArray[np.int64], signal: Signal) -> torch.Tensor:
        device = self._learner.generator.device
        losses = [
            term.loss(
                torch.tensor(one.values[index], dtype=torch.float32, device=device),
                torch.tensor(one.usable[index], device=device),
            )
            * torch.tensor(signal.weights[name][index], dtype=torch.float32, device=device)
            for name, one in signal.advantages.items()
        ]
        if term.extra is not None:
            counted = signal.usable & signal.penalised
            losses.append(term.extra * torch.tensor(counted[index], device=device))
        return torch.stack(losses).sum()

    def _total(self, own: int) -> int:
        if self._learner.accelerator.num_processes == 1:
            return own
        return int(sum(gather_object([own])))


def describe(grades: Grades, signal: Signal) -> Metrics:
    """Metrics of a round: mean and spread of each reward, statuses, statistics of the groups, mean loss
    weights."""
    metrics: Metrics = {}
    for name, column in grades.values.items():
        fine = column[np.isfinite(column)]
        metrics[f"reward/{name}"] = float(fine.mean()) if len(fine) else float("nan")
        metrics[f"reward_std/{name}"] = float(fine.std()) if len(fine) else float("nan")
    for status, count in sorted(grades.statuses.items()):
        metrics[f"scores/{status}"] = float(count)
    for name, one in signal.advantages.items():
        prefix = f"advantages/{name}/" if name else "advantages/"
        metrics |= {prefix + key: value for key, value in one.stats.items()}
        metrics[f"{prefix}weight"] = float(signal.weights[name].mean())
    return metrics


def averaged(several: Iterable[Metrics]) -> Metrics:
    """The mean of each figure over those that have it."""
    columns: dict[str, list[float]] = {}
    for one in several:
        for name, value in one.items():
            columns.setdefault(name, []).append(value)
    return {name: fmean(values) for name, values in columns.items()}
