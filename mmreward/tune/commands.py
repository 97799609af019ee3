"""`mmreward tune CONFIG`: makes what a config describes, and trains."""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from accelerate import PartialState

from ..assembly import engine_of
from ..config import EngineConfig
from ..loading import resolve
from .config import TuneConfig
from .generator import Generator
from .prompts import load_prompts
from .trainer import Ended, Trainer


def tune(config: TuneConfig, report: Callable[[str], None] = print) -> Ended:
    """Train as described; `accelerate launch` starts it in several processes.

    Raises:
        ValueError: parts of the config that do not go together, or do not exist.
    """
    rewards = resolve(config.rewards)
    held_out = resolve(config.held_out) if config.held_out else {}
    twice = rewards.keys() & held_out.keys()
    if twice:
        raise ValueError(f"{', '.join(sorted(twice))} cannot be both optimised and held out: rename one")
    prompts, evaluated = load_prompts(config.prompts), load_prompts(config.evaluation.prompts)
    device = str(PartialState().device)
    generator = load_generator({"device": device, **config.generator})
    engine = config.engine
    if engine.device == "auto" and engine.ray is None:
        engine = EngineConfig(**{**engine.model_dump(), "device": device})
    with engine_of(engine) as scorer:
        trainer = Trainer(
            config,
            generator,
            scorer,
            rewards=rewards,
            held_out=held_out,
            prompts=prompts,
            evaluated=evaluated,
            report=report,
        )
        return trainer.run()


def load_generator(given: dict[str, Any]) -> Generator:
    """A generator by name and options, from the package of generators, which builds on this one.

    Raises:
        ValueError: no such generator or option.
    """
    options = dict(given)
    if "name" not in options:
        raise ValueError("generator needs a name, such as mini-flow or a hub id")
    name = options.pop("name")
    for point in entry_points(group="mmreward.commands"):
        if point.name == "generator":
            made: Generator = point.load()(name, **options)
            return made
    raise ValueError("the package's generators are not installed; reinstall mmreward")
