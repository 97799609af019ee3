"""The training loop: a run from its first round to its last, with evaluations, checkpoints, the journal and
the alarm.

`tune` makes what a config describes, and trains (`mmreward tune CONFIG`); the loader of generators is handed
in, as this package knows no family of them. `Trainer` is the loop. The rounds themselves are in `online`,
`gradient` and `offline`.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from accelerate import Accelerator, PartialState
from PIL import Image
from pydantic import ValidationError

from ..compose import Recipe, weights_of
from ..config import EngineConfig
from ..data.pair_folder import PreferencePair
from ..engine.engine import Engine
from ..files import sole_writer
from ..generator import Generator
from ..limits import set_limits
from ..loading import resolve
from ..progress import Display, duration, loading
from ..registry import Reward
from ..sampling import media
from ..types import Sample
from . import journal
from .config import (
    D3poConfig,
    ForwardProcessConfig,
    GradientConfig,
    PolicyConfig,
    PreferenceConfig,
    TuneConfig,
)
from .data import load_pairs, load_prompts
from .evaluation import Evaluated, Evaluation, Watch
from .forward_process import ForwardProcess
from .gradient import Gradient
from .grading import Grading
from .journal import Journal, Timeline, seconds
from .learner import Copy, Learner, TrainedWeights, write_weights
from .offline import Offline
from .online import Method, Metrics, Online
from .plan import check_trackers
from .policy_gradient import D3po, PolicyGradient

Report = Callable[[str], None]

LEVELS = ("ok", "warn", "alarm")
"""Verdicts of an evaluation, as trackers see them: 0, 1, 2."""
LENGTH = ("rounds", "minutes", "checkpoint_every")
"""Settings that may differ when a run goes on."""


class Rounds(Protocol):
    """One kind of round: `Online`, `Gradient` or `Offline`."""

    def round(self, number: int) -> Metrics: ...


@dataclass(frozen=True)
class Ended:
    """End of a run: rounds done, the reason, and the folder of its weights."""

    rounds: int
    reason: str
    weights: Path


class Trainer:
    """Trainer of a generator, as a config describes it. In the folder of a stopped run it goes on from there.

    Args:
        config: of the run.
        generator: gets LoRA layers in place.
        engine: where rewards run.
        rewards: to optimise.
        held_out: to measure only.
        prompts: to train on.
        pairs: to train on instead, for offline methods.
        evaluated: prompts to evaluate on.
        report: called with one line per round and evaluation.
        display: shows what is under way between these lines.
        accelerator: the process group; a new one unless given.

    Raises:
        ValueError: parts of the config that do not go together.
    """

    def __init__(
        self,
        config: TuneConfig,
        generator: Generator,
        engine: Engine,
        *,
        rewards: Mapping[str, Reward],
        held_out: Mapping[str, Reward],
        prompts: Sequence[Sample],
        pairs: Sequence[PreferencePair] = (),
        evaluated: Sequence[Sample],
        report: Report = print,
        display: Display | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        check_trackers(config.trackers)
        config = config.model_copy(update={"weights": weights_of(rewards, config.weights)})
        Recipe(weights=config.weights, shaping=config.shaping or ()).check(rewards)
        self._config, self._folder = config, Path(config.out)
        self._accelerator = accelerator or Accelerator(
            mixed_precision=config.precision,
            cpu=generator.device.type == "cpu",
            log_with=list(config.trackers) or None,
            project_dir=str(self._folder),
        )
        self._main = self._accelerator.is_main_process
        self._report = report if self._main else _silent
        self._display = display if self._main else None
        self._took: list[float] = []
        lora = config.lora
        weights = TrainedWeights(
            generator,
            rank=lora.rank if lora else 0,
            alpha=lora.alpha if lora else None,
            targets=lora.targets if lora else None,
            seed=config.seed,
            checkpointing=config.checkpointing,
        )
        self.learner = Learner(
            generator, weights, config.optimiser, config.ema, self._accelerator, shard=config.shard
        )
        self._timeline = Timeline()
        self._rounds, self._method = self._kind_of_rounds(engine, rewards, prompts, pairs)
        self._evaluation = Evaluation(config, self.learner, engine, {**rewards, **held_out}, evaluated)
        self._watch = Watch(config, held_out)
        self._evaluated = evaluated
        self._journal = Journal(self._folder, writes=self._main)
        self._best: Copy = {}

    def run(self) -> Ended:
        """Train until the rounds or minutes are over, or the alarm or the early stop ends it; save weights
        that diffusers loads.

        Raises:
            ValueError: the folder holds a run with other settings, or another run writes to it.
            TooManyFailuresError: see `FailureConfig`.
            RatioError: see `policy_gradient.check_ratio`.
            FloatingPointError: a gradient that is not finite.
        """
        if not self._main:
            return self._train()
        self._folder.mkdir(parents=True, exist_ok=True)
        with sole_writer(self._folder):
            return self._train()

    def _train(self) -> Ended:
        done, spent = self._begin()
        reason, begun = self._watch.stopped or "all rounds done", time.perf_counter() - spent
        if done == 0:
            self._evaluate(0)
        while done < self._config.rounds and not self._watch.stopped:
            self._round(done)
            done += 1
            elapsed = time.perf_counter() - begun
            over = self._config.minutes is not None and elapsed > 60 * self._config.minutes
            if done % self._config.evaluation.every == 0 or done == self._config.rounds or over:
                self._evaluate(done)
            last = done == self._config.rounds or over or bool(self._watch.stopped)
            if done % self._config.checkpoint_every == 0 or last:
                self._save(done, elapsed)
            if self._watch.stopped:
                reason = self._watch.stopped
                break
            if self._agreed(over):
                reason = f"{self._config.minutes:g} minutes are over"
                break
        return self._finish(done, reason, time.perf_counter() - begun)

    def _kind_of_rounds(
        self,
        engine: Engine,
        rewards: Mapping[str, Reward],
        prompts: Sequence[Sample],
        pairs: Sequence[PreferencePair],
    ) -> tuple[Rounds, Method | None]:
        config = self._config
        given = config.method
        if isinstance(given, GradientConfig):
            return Gradient(config, given, self.learner, rewards, prompts, self._timeline), None
        if isinstance(given, PreferenceConfig):
            return Offline(config, given, self.learner, pairs, self._timeline), None
        method: Method
        match given:
            case D3poConfig():
                method = D3po(given)
            case PolicyConfig():
                method = PolicyGradient(given)
            case ForwardProcessConfig():
                method = ForwardProcess(given, self.learner.weights.copy())
        doubt = config.uncertainty
        source = (doubt.reward, doubt.part) if doubt else None
        shaping = config.shaping or ()
        grading = Grading(engine, rewards, config.failures.timeout, self._timeline, source, shaping)
        return Online(config, method, self.learner, grading, prompts, self._timeline), method

    def _begin(self) -> tuple[int, float]:
        """Rounds done before, and the seconds they took."""
        description = self._config.model_dump_json(indent=1)
        self._same_run(description)
        restored = journal.restore(self._folder / "checkpoints", self.learner, self._report)
        self._journal.begin(description, restored.rounds if restored else 0)
        if self._config.trackers:
            self._accelerator.init_trackers("mmreward", config={"run": description})
        if restored is None:
            return 0, 0.0
        if self._method is not None:
            self._method.load_state(restored.copies)
        self._best = dict(restored.copies.get("best", {}))
        self._watch.load_state_dict(restored.state["watch"])
        self._report(f"going on after round {restored.rounds}")
        return restored.rounds, float(restored.state["seconds"])

    def _same_run(self, description: str) -> None:
        """Refuse to go on with another run's weights; how long it lasts may change."""
        path = self._folder / "config.json"
        if not path.exists():
            return
        before, now = _completed(path.read_text(encoding="utf-8")), json.loads(description)
        changed = [key for key in now if key not in LENGTH and before.get(key) != now[key]]
        if changed:
            raise ValueError(
                f"{self._folder} holds a run with other settings ({', '.join(changed)}): choose another "
                "`out`, or remove the folder to start anew"
            )

    def _show_phase(self, words: str) -> None:
        if self._display is not None:
            self._display.phase(words)

    def _place(self, number: int, done: int) -> str:
        """ "round 7 of 100, 41 min left", by the rounds and evaluations of this session."""
        rounds = self._config.rounds
        if not self._took or done >= rounds:
            return f"round {number} of {rounds}"
        left = (rounds - done) * math.fsum(self._took) / len(self._took)
        return f"round {number} of {rounds}, {duration(left)} left"

    def _round(self, number: int) -> None:
        begun = time.perf_counter()
        self._show_phase(self._place(number + 1, number))
        metrics = self._rounds.round(number)
        spans = self._timeline.take()
        metrics["seconds"] = time.perf_counter() - begun
        for what in ("generate", "score", "wait", "update"):
            metrics[f"seconds/{what}"] = seconds(spans, what)
        self._journal.write("rounds", {"round": number, **metrics})
        self._journal.write_json("timeline", [(what, a - begun, b - begun) for what, a, b in spans])
        if self._config.trackers:
            self._accelerator.log(metrics, step=number)
        shown = [name for name in metrics if name.startswith(("reward/", "preference/"))]
        figures = "  ".join(f"{name.partition('/')[2]} {metrics[name]:.4f}" for name in shown)
        self._took.append(metrics["seconds"])
        self._report(f"{self._place(number + 1, number + 1)}: {figures}  ({metrics['seconds']:.1f} s)")

    def _evaluate(self, done: int) -> None:
        self._show_phase(f"evaluating after {done} of {self._config.rounds} rounds")
        evaluated = self._evaluation.run()
        verdict = self._watch.look(done, evaluated)
        summary = evaluated.summary()
        values = {name: column.tolist() for name, column in evaluated.grades.values.items()}
        line = {"round": done, "rewards": summary, "values": values, **verdict}
        if evaluated.shared is not None:
            line["prompts"] = evaluated.shared
        self._journal.write("evaluations", line)
        if self._config.trackers:
            logged = {f"evaluation/{k}": v["mean"] for k, v in summary.items()}
            alarm = LEVELS.index(str(verdict["verdict"])) if verdict["verdict"] in LEVELS else 0
            self._accelerator.log({**logged, "evaluation/alarm": alarm}, step=done)
        self._show(done, evaluated)
        if self._watch.improved or not self._best:
            self._best = self._candidate()
        means = "  ".join(
            f"{name} {one.mean:.4f} +- {one.margin:.4f} (n = {one.units})"
            for name, one in evaluated.measured().items()
        )
        self._report(f"evaluation after {done} rounds, 95 % over prompts: {means}  [{verdict['verdict']}]")

    def _show(self, done: int, evaluated: Evaluated) -> None:
        shown = self._config.evaluation.shown
        pictures: list[Image.Image] = [one.picture() for one in media(evaluated.pixels[:shown])]
        self._journal.write_grid(done, pictures)
        for tracker in self._accelerator.trackers if pictures else ():
            if hasattr(tracker, "log_images"):  # not all can
                shape = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                shown_as = {"evaluation/pictures": np.stack([np.asarray(one) for one in pictures])}
                tracker.log_images(shown_as, step=done, **shape)
        if done == 0:
            self._journal.write_json("prompts", [sample.prompt for sample in self._evaluated[:shown]])

    def _candidate(self) -> Copy:
        average = self.learner.average
        if average is None:
            return self.learner.weights.copy()
        return {name: tensor.clone() for name, tensor in average.copy.items()}

    def _save(self, done: int, elapsed: float) -> None:
        if self._main:
            copies = dict(self._method.state()) if self._method is not None else {}
            state: dict[str, Any] = {"watch": self._watch.state_dict(), "seconds": elapsed}
            journal.save(
                self._folder / "checkpoints", self.learner, done, copies | {"best": self._best}, state
            )
        self._accelerator.wait_for_everyone()

    def _agreed(self, over: bool) -> bool:
        """True in all processes once the time is over in any, so that all stop in the same round."""
        if self._accelerator.num_processes == 1:
            return over
        from accelerate.utils import gather_object

        return any(gather_object([over]))

    def _finish(self, done: int, reason: str, elapsed: float) -> Ended:
        """Save the averaged weights; of a run that was stopped, those of its best evaluation."""
        final = self._best if self._watch.stopped else self._candidate()
        target = self._folder / "weights"
        if self._main:
            with self.learner.weights.using(final):
                self.learner.weights.save(target)
            write_weights(final, self._folder / "weights.safetensors")
            ended = {"rounds": done, "seconds": elapsed, "reason": reason, "watch": self._watch.reason}
            self._journal.write_json("ended", ended)
        if self._config.trackers:
            self._accelerator.end_training()
        self._accelerator.wait_for_everyone()
        self._report(f"{reason}; weights in {target}")
        return Ended(done, reason, target)


def _completed(description: str) -> Any:
    """A run's description, with the defaults of settings that are newer than the run."""
    try:
        return json.loads(TuneConfig.model_validate_json(description).model_dump_json())
    except ValidationError:  # of another version: it is compared as it stands
        return json.loads(description)


def _silent(line: str) -> None:
    pass


Loader = Callable[..., Generator]
"""`load(name, **options)`."""


def tune(config: TuneConfig, load: Loader, report: Report = print, display: Display | None = None) -> Ended:
    """Train as described; `accelerate launch` starts it in several processes, whose first writes.

    Args:
        config: of the run.
        load: makes the generator.
        report: called with one line per round and evaluation.
        display: shows what is under way between these lines.

    Raises:
        ValueError: parts of the config that do not go together, or do not exist; or another run writes to
            the folder.
    """
    set_limits(config.limits)
    check_trackers(config.trackers)
    if PartialState().is_main_process and Path(config.out).is_dir():
        with sole_writer(Path(config.out)):  # said now, and not after minutes of loading
            pass
    rewards = resolve(config.rewards)
    held_out = resolve(config.held_out) if config.held_out else {}
    twice = rewards.keys() & held_out.keys()
    if twice:
        raise ValueError(f"{', '.join(sorted(twice))} cannot be both optimised and held out: rename one")
    offline = isinstance(config.method, PreferenceConfig)
    pairs = load_pairs(config.prompts) if offline else []
    prompts = [] if offline else load_prompts(config.prompts)
    evaluated = load_prompts(config.evaluation.prompts)
    device = str(PartialState().device)
    with loading(str(config.generator["name"])):
        generator = load(**{"device": device, **config.generator})
    engine = config.engine
    if engine.device == "auto" and engine.ray is None:
        engine = EngineConfig(**{**engine.model_dump(), "device": device})
    with Engine.from_config(engine) as scorer:
        trainer = Trainer(
            config,
            generator,
            scorer,
            rewards=rewards,
            held_out=held_out,
            prompts=prompts,
            pairs=pairs,
            evaluated=evaluated,
            report=report,
            display=display,
        )
        return trainer.run()
