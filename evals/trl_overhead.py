"""What TRL's training pays for our reward function: `python -m mmreward.evals.trl_overhead`.

GRPO on mini-vlm with the routes of a recipe. Every step also calls a reward function of TRL's own, so that
both see the same completions under the same load; what TRL then does with the figures that ours logged is
timed by doing it once more. Prints a line of Markdown, and exits with 1 above the bar of 2 percent.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration
from transformers import TrainerCallback as Callback
from trl import GRPOTrainer
from trl.rewards import think_format_reward

from mmreward import Engine
from mmreward.config import load_yaml
from mmreward.models import ASSETS

from .vlm_rl import VlmConfig, trainer_of

BAR = 0.02
CONFIG = Path(__file__).parents[1] / "configs" / "vlm-mini-dynamic.yaml"


class Times(NamedTuple):
    """Seconds of wall clock, and of processor time over all threads."""

    wall: float
    busy: float

    def __sub__(self, other: "Times") -> "Times":
        return Times(self.wall - other.wall, self.busy - other.busy)

    def __add__(self, other: object) -> "Times":
        assert isinstance(other, Times)
        return Times(self.wall + other.wall, self.busy + other.busy)


def now() -> Times:
    return Times(time.perf_counter(), time.process_time())


class Step(NamedTuple):
    """One training step and what its parts took."""

    whole: Times
    ours: Times
    trivial: Times
    logging: Times

    @property
    def share(self) -> Times:
        """What ours adds to the step with the trivial function alone, as a share of that step."""
        own = self.ours + self.logging
        rest = self.whole - own
        added = own - self.trivial
        return Times(added.wall / rest.wall, added.busy / rest.busy)


class Timed:
    """A reward function that remembers how long its last call took, and which figures it logged."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__name__ = function.__name__
        self._function = function
        self.took = Times(0.0, 0.0)
        self.logged: dict[str, float] = {}

    def __call__(self, log_metric: Callable[[str, float], None], **told: Any) -> Any:
        self.logged.clear()

        def log(name: str, value: float) -> None:
            self.logged[name] = value
            log_metric(name, value)

        begun = now()
        paid = self._function(log_metric=log, **told)
        self.took = now() - begun
        return paid


class Clock(Callback):  # type: ignore[misc]
    """Collects the steps; the first ones warm up and do not count."""

    def __init__(self, ours: Timed, trivial: Timed, warm: int) -> None:
        self._ours, self._trivial, self._warm = ours, trivial, warm
        self._begun = Times(0.0, 0.0)
        self.trainer: GRPOTrainer | None = None
        self.steps: list[Step] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._begun = now()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        whole = now() - self._begun
        assert self.trainer is not None, "the clock belongs to no trainer"
        begun = now()
        collected(self.trainer, self._ours.logged)
        logging = now() - begun
        if state.global_step > self._warm:
            self.steps.append(Step(whole, self._ours.took, self._trivial.took, logging))


def collected(trainer: GRPOTrainer, logged: dict[str, float]) -> list[float]:
    """TRL's mean over processes of every figure: one tensor and one gathering each."""
    means = []
    for value in logged.values():
        pair = torch.tensor([value, 1.0], device=trainer.accelerator.device)
        total, number = trainer.accelerator.gather(pair).view(-1, 2).sum(dim=0).tolist()
        means.append(total / number)
    return means


def measured(config: VlmConfig, steps: int, warm: int = 2) -> list[Step]:
    """Train so many steps after the warm ones."""
    model = Qwen3VLForConditionalGeneration.from_pretrained(ASSETS / "mini-vlm")
    processor = AutoProcessor.from_pretrained(ASSETS / "mini-vlm")
    given = config.trainer | {"max_steps": steps + warm, "reward_weights": [1.0, 0.0]}
    with tempfile.TemporaryDirectory() as folder, Engine("cpu") as engine:
        config = config.model_copy(update={"trainer": given, "out": folder})
        trainer = trainer_of(config, model, processor, engine, beside=[think_format_reward])
        ours, trivial = (Timed(function) for function in trainer.reward_funcs)
        trainer.reward_funcs = [ours, trivial]
        clock = Clock(ours, trivial, warm)
        clock.trainer = trainer
        trainer.add_callback(clock)
        trainer.train()
    return clock.steps


def line(steps: Sequence[Step], completions: int) -> str:
    """A row of Markdown with medians over steps, and the worst step."""

    def median(values: Sequence[float]) -> float:
        return statistics.median(values)

    whole, ours, trivial, logging = (
        median([getattr(step, name).wall for step in steps])
        for name in ("whole", "ours", "trivial", "logging")
    )
    walls, busy = ([getattr(step.share, name) for step in steps] for name in ("wall", "busy"))
    return (
        "| completions | step | our function | TRL's logging of it | a trivial function "
        "| added, wall | added, processor | worst step | n |\n|---|---|---|---|---|---|---|---|---|\n"
        f"| {completions} | {whole:.2f} s | {1e3 * ours:.1f} ms | {1e3 * logging:.1f} ms "
        f"| {1e3 * trivial:.1f} ms | {median(walls):.2%} | {median(busy):.2%} | {max(walls):.2%} "
        f"| {len(steps)} steps |"
    )


def main() -> bool:
    """Print the line; True when the median is within the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("config", type=Path, nargs="?", default=CONFIG, help="a recipe of vlm_rl")
    parser.add_argument("--steps", type=int, default=10, help="that count; two more warm up")
    given = parser.parse_args()
    config = load_yaml(given.config, VlmConfig)
    torch.set_num_threads(1)
    steps = measured(config, given.steps)
    print(line(steps, config.trainer["per_device_train_batch_size"]))
    return (
        max(statistics.median([getattr(step.share, kind) for step in steps]) for kind in Times._fields) <= BAR
    )


if __name__ == "__main__":
    sys.exit(not main())
