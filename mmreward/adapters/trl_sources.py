"""Online scheduling of data sources in TRL's GRPO (after the Holistic Data Scheduler, arXiv:2606.24133).

    ScheduledGRPOTrainer(sources=Sources({"quality": 1.0, "progress": 0.5}), reward_funcs=..., ...)

Sources whose groups still teach something are drawn more often, those that are solved, hopeless or unreadable
less, and none below a floor. Needs TRL (`pip install mmreward[trl]`), 1.16 or later, as it stands on methods
that TRL does not call public.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.utils.data import Sampler
from transformers import TrainerCallback

from ..monitor.by_source import SOURCES, TIED
from ..tune.source_objectives import progress, quality
from ..tune.source_scheduler import SourceScheduler
from .rows import ALIASES
from .trl_stable import StableGRPOTrainer

OBJECTIVES = ("quality", "progress", "score")
STATE = "sources.json"
"""File of a checkpoint that holds the scheduler's state."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Settings of the scheduling of sources.

    Args:
        objectives: name -> weight. `quality`: a source's share of groups whose rewards differ, times that of
            completions with a reward, 0 to 1. `progress`: the rise of its mean reward since it was last
            drawn. `score`: its mean reward; with a negative weight hard sources are preferred. Rewards of
            all sources must share a scale for the last two.
        column: of the data set, which names a row's source; default: the first of `source`, `data_source`.
        rate: see `SourceScheduler`, as are the others.
        floor: the same.
        smoothing: the same.
        forget: the same.

    Raises:
        ValueError: an objective that is not there.
    """

    objectives: Mapping[str, float] = field(default_factory=lambda: {"quality": 1.0})
    column: str = ""
    rate: float = 0.1
    floor: float | None = None
    smoothing: float = 0.5
    forget: float = 0.02

    def __post_init__(self) -> None:
        for name in self.objectives:
            if name not in OBJECTIVES:
                raise ValueError(f"no objective {name!r} of sources: there are {', '.join(OBJECTIVES)}")


class SourceSampler(Sampler[int]):
    """Rows in the order TRL's `RepeatSampler` has, each generation batch filled by the scheduler's weights.

    Rows of a source are drawn without replacement until all have been, and then again; the sampler is as long
    as `RepeatSampler`. A data loader asks some batches ahead, so that new weights are seen one or two later.

    Args:
        sources: of every row.
        scheduler: of these sources.
        repeats: of a row within its batch, TRL's generations of one prompt.
        batch: different rows of one generation batch.
        again: times a batch is yielded.
        seed: of the shuffling; None leaves rows in their order.
    """

    def __init__(
        self,
        sources: Sequence[str],
        scheduler: SourceScheduler,
        *,
        repeats: int,
        batch: int,
        again: int,
        seed: int | None,
    ) -> None:
        self._scheduler, self._repeats, self._batch, self._again = scheduler, repeats, batch, again
        self._rows: dict[str, list[int]] = {source: [] for source in scheduler.sources}
        for row, source in enumerate(sources):
            self._rows[source].append(row)
        self._batches = len(sources) // batch
        self._random = None if seed is None else random.Random(seed)

    def __iter__(self) -> Iterator[int]:
        streams = {source: self._endless(rows) for source, rows in self._rows.items()}
        for _ in range(self._batches):
            counts = self._scheduler.counts(self._batch)
            chunk = [next(streams[source]) for source, number in counts.items() for _ in range(number)]
            if self._random is not None:
                self._random.shuffle(chunk)
            for _ in range(self._again):
                for row in chunk:
                    yield from [row] * self._repeats

    def __len__(self) -> int:
        return self._batches * self._batch * self._repeats * self._again

    def _endless(self, rows: Sequence[int]) -> Iterator[int]:
        order = list(rows)
        while True:
            if self._random is not None:
                self._random.shuffle(order)
            yield from order


class ScheduledGRPOTrainer(StableGRPOTrainer):
    """GRPOTrainer that draws its prompts by source, with weights that follow how much each still teaches.

    After every generation batch, over all processes, the objectives of each source in it are measured and the
    scheduler moves by one step. Logged: "sources/SOURCE/share", the weight of each. Checkpoints hold the
    scheduler's state, and a resumed run goes on from it.

    Args:
        *args: of GRPOTrainer, as are all other arguments.
        sources: see `Sources`.
        stable: with the guards of `StableGRPOTrainer`.

    Raises:
        ValueError: a data set that streams, that names no source or only one, an objective that is not there,
            or a number outside its range.
    """

    def __init__(
        self, *args: Any, sources: Sources | None = None, stable: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, stable=stable, **kwargs)
        given = sources or Sources()
        self._column, self._named = _sources_of(self.train_dataset, given.column)
        self.scheduler = SourceScheduler(
            sorted(set(self._named)),
            given.objectives,
            rate=given.rate,
            floor=given.floor,
            smoothing=given.smoothing,
            forget=given.forget,
        )
        self._scores: dict[str, float] = {}
        self.add_callback(_Saving(self.scheduler))

    def _get_train_sampler(self, dataset: Any = None) -> SourceSampler:
        return SourceSampler(
            self._named,
            self.scheduler,
            repeats=self.num_generations,
            batch=self.args.generation_batch_size // self.num_generations,
            again=self.num_iterations * self.args.steps_per_generation,
            seed=self.args.seed if self.shuffle_dataset else None,
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        state = Path(resume_from_checkpoint, STATE)
        if state.is_file():
            self.scheduler.load_state_dict(json.loads(state.read_text()))

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.model.training:
            named = gather_object([_name(row[self._column]) for row in inputs])
            totals = (rewards * self.reward_weights.to(rewards.device)).nansum(1)
            failed = rewards.isnan().all(1)
            values = torch.where(failed, torch.nan, totals).tolist()
            self._moved(figures_of(named, values, self.num_generations))
        return rewards

    def _moved(self, figures: Mapping[str, float]) -> None:
        scores = {name: value for name, value in figures.items() if name.endswith("/score")}
        found = {
            "quality": quality(figures),
            "progress": progress(self._scores, scores),
            "score": {name.split("/")[1]: value for name, value in scores.items()},
        }
        wanted = {name: found[name] for name in self.scheduler.objectives}
        for source, share in self.scheduler.update(wanted).items():
            self._metrics["train"][f"{SOURCES}/{source}/share"].append(share)
        self._scores |= scores


def figures_of(sources: Sequence[str], values: Sequence[float], generations: int) -> dict[str, float]:
    """Figures of a generation batch under `source_metrics`'s names: score, failed, groups/zero_variance.

    Args:
        sources: of every completion; the completions of a prompt are neighbours.
        values: their rewards, NaN where failed.
        generations: completions per prompt.
    """
    groups: dict[str, list[list[float]]] = {}
    for start in range(0, len(values), generations):
        groups.setdefault(sources[start], []).append(list(values[start : start + generations]))
    figures = {}
    for source, held in groups.items():
        scored = [[value for value in group if value == value] for group in held]
        every = [value for group in scored for value in group]
        figures[f"{SOURCES}/{source}/failed"] = 1 - len(every) / sum(map(len, held))
        still = [len(group) < 2 or max(group) - min(group) < TIED for group in scored]
        figures[f"{SOURCES}/{source}/groups/zero_variance"] = fmean(still)
        if every:
            figures[f"{SOURCES}/{source}/score"] = fmean(every)
    return figures


class _Saving(TrainerCallback):  # type: ignore[misc]
    """The scheduler's state, beside the trainer's in a checkpoint."""

    def __init__(self, scheduler: SourceScheduler) -> None:
        self._scheduler = scheduler

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir, f"checkpoint-{state.global_step}")
            (folder / STATE).write_text(json.dumps(self._scheduler.state_dict()))


def _sources_of(dataset: Any, column: str) -> tuple[str, list[str]]:
    """The column that names sources, and every row's source."""
    if not hasattr(dataset, "__len__"):
        raise ValueError("rows of a data set that streams cannot be drawn by source: load it whole")
    names = [column] if column else [name for name in ALIASES["source"] if name in dataset.column_names]
    if not names or names[0] not in dataset.column_names:
        raise ValueError(
            f"no column {' or '.join(names or ALIASES['source'])} in the data: there are "
            f"{', '.join(dataset.column_names)}"
        )
    return names[0], [_name(source) for source in dataset[names[0]]]


def _name(source: Any) -> str:
    """A source under the name that its figures have."""
    return str(source).replace("/", "_")
