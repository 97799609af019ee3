"""`mmreward tune CONFIG`: makes what a config describes, and trains.

The loader of generators is handed in, as this package knows no family of them.
"""

from collections.abc import Callable

from accelerate import PartialState

from ..assembly import engine_of
from ..config import EngineConfig
from ..loading import resolve
from .config import PreferenceConfig, TuneConfig
from .generator import Generator
from .prompts import load_pairs, load_prompts
from .trainer import Ended, Trainer

Loader = Callable[..., Generator]
"""`load(name, **options)`."""


def tune(config: TuneConfig, load: Loader, report: Callable[[str], None] = print) -> Ended:
    """Train as described; `accelerate launch` starts it in several processes.

    Raises:
        ValueError: parts of the config that do not go together, or do not exist.
    """
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
    generator = load(**{"device": device, **config.generator})
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
            pairs=pairs,
            evaluated=evaluated,
            report=report,
        )
        return trainer.run()
