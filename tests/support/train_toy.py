"""Trains the toy generator as a config in JSON says: `python train_toy.py CONFIG`; for several processes, and
for one that can be killed."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from support.toy_generator import ToyGenerator

from mmreward import Engine, Sample, Score, load, reward
from mmreward.tune.config import PreferenceConfig, TuneConfig
from mmreward.tune.data import load_pairs
from mmreward.tune.trainer import Trainer

PROMPTS = [
    Sample(id=str(i), prompt=text) for i, text in enumerate(["a red sky", "a sea", "sand", "a red hat"])
]


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


def main(path: str, die_after: str = "") -> None:
    """Train; with `die_after`, end like a killed process when that round is reported."""

    def report(line: str) -> None:
        if die_after and line.startswith(f"round {die_after} of "):
            os._exit(9)

    torch.set_num_threads(1)
    print(f"one of {Accelerator(cpu=True).num_processes} processes")
    config = TuneConfig.model_validate_json(Path(path).read_text())
    with Engine("cpu") as engine:
        Trainer(
            config,
            ToyGenerator(),
            engine,
            rewards={"redness": redness()},
            held_out={},
            prompts=PROMPTS,
            pairs=load_pairs(config.prompts) if isinstance(config.method, PreferenceConfig) else (),
            evaluated=PROMPTS,
            report=report,
        ).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
