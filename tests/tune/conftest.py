"""A run of the toy generator, described and trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_generator import ToyGenerator

from mmreward import Engine, Sample, Score, load, reward
from mmreward.tune.config import TuneConfig
from mmreward.tune.trainer import Trainer

PROMPTS = [Sample(id=str(i), prompt=text) for i, text in enumerate(["a red sky", "a sea", "sand", "a red hat"])]


@pytest.fixture
def redness() -> Any:
    """How red a picture is, 0 to 1; differentiable."""

    def factory() -> Any:
        """How red."""

        async def score(sample: Sample) -> Score:
            assert sample.image is not None
            red, green, blue = np.asarray(sample.image.array(), dtype=np.float64).mean((0, 1)) / 255
            return Score(float((red - (green + blue) / 2 + 1) / 2))

        def score_tensor(pixels: torch.Tensor, prompts: Any) -> torch.Tensor:
            red, green, blue = pixels.mean((2, 3)).unbind(1)
            return (red - (green + blue) / 2 + 1) / 2

        return score, score_tensor

    reward("redness", needs=("image",), range=(0, 1), differentiable=True, uses_prompt=False)(factory)
    return load("redness")


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
        return Trainer(config, changes.pop("generator", None) or ToyGenerator(), engine, **{**given, **changes})

    return make
