"""A run of the toy generator, described and trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import train_toy
from support.toy_generator import ToyGenerator
from support.train_toy import PROMPTS

from mmreward import Engine
from mmreward.tune.config import TuneConfig
from mmreward.tune.trainer import Trainer


@pytest.fixture
def redness() -> Any:
    """How red a picture is, 0 to 1; differentiable."""
    return train_toy.redness()


@pytest.fixture
def described(tmp_path: Path) -> Callable[..., TuneConfig]:
    """The config of a small run, with changes."""

    def make(**changes: Any) -> TuneConfig:
        given: dict[str, Any] = {
            "generator": "toy",
            "prompts": {"data": "shapes-world"},
            "rewards": {"redness": {}},
            "method": {"name": "grpo"},
            "rollout": {"prompts": 2, "group": 8, "micro_batch": 8, "steps": 6},
            "lora": {"rank": 4},
            "ema": {"decay": 0.5, "every": 1},
            "optimiser": {"lr": 1e-2},
            "evaluation": {"prompts": {"data": "shapes-world"}, "every": 4, "steps": 6},
            "alarm": None,
            "rounds": 4,
            "checkpoint_every": 2,
            "out": str(tmp_path / "run"),
        }
        return TuneConfig.model_validate({**given, **changes})

    return make


@pytest.fixture
def trainer(redness: Any, engine: Engine) -> Callable[..., Trainer]:
    """The trainer of a config."""

    def make(config: TuneConfig, **changes: Any) -> Trainer:
        given: dict[str, Any] = {
            "rewards": {"redness": redness},
            "held_out": {},
            "prompts": PROMPTS,
            "evaluated": PROMPTS,
            "report": lambda line: None,
        }
        return Trainer(
            config, changes.pop("generator", None) or ToyGenerator(), engine, **{**given, **changes}
        )

    return make
