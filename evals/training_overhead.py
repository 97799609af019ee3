"""Overhead of training beyond the networks: `python -m mmreward.evals.training_overhead [tune|trl]`.

`tune` (the default): a round of Flow-GRPO on mini-flow, whose reward costs nothing, against the same
forwards, backwards, decodes and optimiser step in a bare loop. Both run in turn in one process on one thread;
the ratio of their times is printed round by round. Exits with 1 above the bar of 5 percent. Then one round
with a real judge, and when drawing and scoring were under way.

`trl [CONFIG] [--steps N]`: GRPO of TRL's on mini-vlm with the routes of a recipe. Every step also calls a
reward function of TRL's own, so that both see the same completions under the same load; what TRL then does
with the figures that ours logged is timed by doing it once more. Prints a line of Markdown, and exits with 1
above the bar of 2 percent. This one needs `mmreward[trl]`.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate import Accelerator
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration
from transformers import TrainerCallback as Callback

from mmreward import Engine, Sample, Score, load
from mmreward.assets import ASSETS
from mmreward.compose import weights_of
from mmreward.config import load_yaml
from mmreward.generators.mini_flow import MiniFlow
from mmreward.registry import Reward
from mmreward.sampling import encoded, media
from mmreward.tune.config import PolicyConfig, TuneConfig
from mmreward.tune.data import load_prompts
from mmreward.tune.grading import Grading
from mmreward.tune.journal import Timeline, seconds
from mmreward.tune.learner import Learner, TrainedWeights
from mmreward.tune.online import Online
from mmreward.tune.policy_gradient import PolicyGradient
from mmreward.types import RewardInfo

if TYPE_CHECKING:
    from trl import GRPOTrainer

    from .studies.vlm_rl import VlmConfig

# --- tune: a round of Flow-GRPO against a bare loop ---------------------------------------------------------

ROUNDS = 6
TUNE_BAR = 0.05
TUNE_CONFIG = TuneConfig.model_validate(
    {
        "generator": "mini-flow",
        "prompts": {"data": "shapes-world", "count": 64, "seed": 1},
        "rewards": {"oracle": {}},
        "method": {"name": "grpo"},
        "rollout": {"prompts": 6, "group": 12, "micro_batch": 24, "steps": 8, "guidance": 1.0},
        "lora": {"rank": 16},
        "ema": None,
        "evaluation": {"prompts": {"data": "shapes-world", "count": 8}},
        "out": "unused",
    }
)


async def free(sample: Sample) -> Score:
    """A score that takes no time, different from row to row."""
    return Score(hash(sample.id) % 97 / 97)


FREE = Reward(RewardInfo(name="free", needs=("image",), range=(0, 1)), {}, free)


def bare(learner: Learner, samples: list[Sample], number: int) -> None:
    """The network evaluations and the optimiser step of a round, without rewards, advantages or a loss."""
    generator, rollout = learner.generator, TUNE_CONFIG.rollout
    sigmas = generator.sigmas(rollout.steps)
    kept = []
    for start in range(0, len(samples), rollout.micro_batch):
        rows = samples[start : start + rollout.micro_batch]
        conditioning = encoded(generator, rows)
        latents = generator.noise(range(number, number + len(rows)))
        with torch.no_grad():
            for now, after in itertools.pairwise(sigmas):
                kept.append((latents, now, conditioning))
                latents = latents + (after - now) * generator.velocity(latents, now, conditioning)
            media(generator.decode(latents))
        kept.pop()  # the last step is not trained
    for latents, now, conditioning in kept:
        torch.autograd.backward(generator.velocity(latents, now, conditioning).square().mean())
    learner.step()


def timed(function: Any, *arguments: Any) -> float:
    """Seconds of wall clock of one call."""
    begun = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begun


def overhead(online: Online, learner: Learner, samples: list[Sample]) -> float:
    """Median over rounds of (round / bare loop) - 1; a first pair warms up."""
    ratios = []
    for number in range(ROUNDS + 1):
        pair = timed(online.round, number), timed(bare, learner, samples, number)
        if number:
            print(f"round {pair[0]:.2f} s, bare loop {pair[1]:.2f} s: {pair[0] / pair[1] - 1:+.1%}")
            ratios.append(pair[0] / pair[1])
    return statistics.median(ratios) - 1


def online_training(
    engine: Engine, learner: Learner, rewards: Mapping[str, Reward]
) -> tuple[Online, Timeline]:
    """Flow-GRPO on these rewards, and the clock of its rounds."""
    timeline = Timeline()
    method = PolicyGradient(PolicyConfig(name="grpo"))
    grading = Grading(engine, rewards, None, timeline)
    config = TUNE_CONFIG.model_copy(update={"weights": weights_of(rewards, {})})
    return Online(config, method, learner, grading, load_prompts(config.prompts), timeline), timeline


def lanes(timeline: Timeline, width: int = 72) -> str:
    """A round's activities as rows of characters over one clock."""
    spans = timeline.take()
    first, last = min(a for _, a, _ in spans), max(b for _, _, b in spans)
    lines = []
    for what in ("generate", "score", "wait", "update"):
        row = [" "] * width
        for _, a, b in (span for span in spans if span[0] == what):
            for cell in range(int((a - first) / (last - first) * width), width):
                if first + cell / width * (last - first) >= b:
                    break
                row[cell] = "#"
        lines.append(f"{what:<9}|{''.join(row)}| {seconds(spans, what):5.2f} s")
    return "\n".join(lines)


def tune() -> bool:
    """Print every round's ratio and a round's lanes; True when the overhead is within the bar."""
    torch.set_num_threads(1)
    generator = MiniFlow()
    learner = Learner(
        generator,
        TrainedWeights(generator, rank=16),
        TUNE_CONFIG.optimiser,
        TUNE_CONFIG.ema,
        Accelerator(cpu=True),
    )
    rows = TUNE_CONFIG.rollout.prompts * TUNE_CONFIG.rollout.group
    samples = (load_prompts(TUNE_CONFIG.prompts) * rows)[:rows]
    with Engine("cpu") as engine:
        found = overhead(online_training(engine, learner, {"free": FREE})[0], learner, samples)
        print(f"median overhead {found:+.1%}, bar {TUNE_BAR:.0%}\n")
        judged = {"checklist": load("checklist", judge="mini-vlm", soft=True)}
        online, timeline = online_training(engine, learner, judged)
        online.round(0)
        timeline.take()
        online.round(1)
        print(lanes(timeline))
    return found <= TUNE_BAR


# --- trl: a step of TRL's GRPO with and without our reward function -----------------------------------------

TRL_BAR = 0.02
TRL_CONFIG = Path(__file__).parents[1] / "configs" / "vlm" / "mini-dynamic.yaml"


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
    """The clocks' readings; differences of two have a meaning."""
    return Times(time.perf_counter(), time.process_time())


class Step(NamedTuple):
    """One training step: the times of all of it and of its parts."""

    whole: Times
    ours: Times
    trivial: Times
    logging: Times

    @property
    def share(self) -> Times:
        """Time that ours adds to the step with the trivial function alone, as a share of that step."""
        own = self.ours + self.logging
        rest = self.whole - own
        added = own - self.trivial
        return Times(added.wall / rest.wall, added.busy / rest.busy)


class Timed:
    """A reward function with the time of its last call, and the figures which that call logged."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__name__ = function.__name__
        self._function = function
        self.took = Times(0.0, 0.0)
        self.logged: dict[str, float] = {}

    def __call__(self, log_metric: Callable[[str, float], None], **given: Any) -> Any:
        self.logged.clear()

        def log(name: str, value: float) -> None:
            self.logged[name] = value
            log_metric(name, value)

        begun = now()
        rewards = self._function(log_metric=log, **given)
        self.took = now() - begun
        return rewards


class Clock(Callback):  # type: ignore[misc]
    """The measured steps of a training; the first ones warm up and are left out."""

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


def collected(trainer: "GRPOTrainer", logged: dict[str, float]) -> list[float]:
    """TRL's mean over processes of every figure: one tensor and one gathering each."""
    means = []
    for value in logged.values():
        pair = torch.tensor([value, 1.0], device=trainer.accelerator.device)
        total, number = trainer.accelerator.gather(pair).view(-1, 2).sum(dim=0).tolist()
        means.append(total / number)
    return means


def measured(config: "VlmConfig", steps: int, warm: int = 2) -> list[Step]:
    """`steps` measured steps of a training, after `warm` ones."""
    from trl.rewards import think_format_reward

    from .studies.vlm_rl import trainer_of

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


def trl(config: Path, steps: int) -> bool:
    """Print the line; True when the median is within the bar."""
    from .studies.vlm_rl import VlmConfig

    recipe = load_yaml(config, VlmConfig)
    torch.set_num_threads(1)
    found = measured(recipe, steps)
    print(line(found, recipe.trainer["per_device_train_batch_size"]))
    shares = ([getattr(step.share, kind) for step in found] for kind in Times._fields)
    return bool(max(map(statistics.median, shares)) <= TRL_BAR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.set_defaults(run=lambda given: tune())
    commands = parser.add_subparsers(metavar="[tune|trl]")
    commands.add_parser("tune", help="Flow-GRPO on mini-flow (the default)")
    of_trl = commands.add_parser("trl", help="TRL's GRPO on mini-vlm")
    of_trl.add_argument("config", type=Path, nargs="?", default=TRL_CONFIG, help="a recipe of vlm_rl")
    of_trl.add_argument("--steps", type=int, default=10, help="that count; two more warm up")
    of_trl.set_defaults(run=lambda given: trl(given.config, given.steps))
    given = parser.parse_args()
    sys.exit(not given.run(given))


if __name__ == "__main__":
    main()
