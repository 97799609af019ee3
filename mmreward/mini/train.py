"""Train one of the miniature's models: `python -m mmreward.mini.train flow|clip|vlm|artifact|robot|gui`.

It only dispatches: each target is `mmreward.mini.<name>.train(out, scale, seed)`. A run that was cut short
goes on from its checkpoint under `<out>/.checkpoints`; delete that to start again.
"""

import argparse
import importlib
from pathlib import Path

from ..assets import ASSETS

TARGETS = ("flow", "clip", "vlm", "artifact", "robot", "gui")


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m mmreward.mini.train", description=__doc__)
    parser.add_argument("model", choices=TARGETS)
    parser.add_argument("--out", type=Path, default=ASSETS, help="folder the model's own folder goes into")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full training to do")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: all)")
    given = parser.parse_args(arguments)
    if given.scale <= 0:
        parser.error(f"--scale must be above 0, not {given.scale}")
    if given.threads:
        import torch

        torch.set_num_threads(given.threads)
    module = importlib.import_module(f"mmreward.mini.{given.model}")
    module.train(given.out, given.scale, given.seed)


if __name__ == "__main__":
    main()
