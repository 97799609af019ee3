"""mmreward: rewards for images, video and vision-language output.

>>> import mmreward
>>> scored = mmreward.score([{"response": "<answer>4</answer>", "target": "4"}], "math")
>>> print(scored)
reward  scored  mean  95 % interval  lowest  highest  failed
math    1/1     1     -              1       1        -

Samples may also be `Sample`s, pictures or paths; rewards several, with arguments as on the command line, or
plain functions. `mmreward.list_rewards()` says what there is, `help(mmreward.load)` what a reward takes, and
`mmreward --help` what the command line does. Importing this does not import torch.
"""

from typing import TYPE_CHECKING, Any

from .engine.engine import Engine
from .errors import Unscorable
from .loading import load
from .media import Media
from .registry import Reward, list_rewards, reward
from .types import RewardInfo, Sample, Score

if TYPE_CHECKING:
    from .adapters.notebook import Scored, score

__all__ = [
    "Engine",
    "Media",
    "Reward",
    "RewardInfo",
    "Sample",
    "Score",
    "Scored",
    "Unscorable",
    "list_rewards",
    "load",
    "reward",
    "score",
]
DOOR = ("Scored", "score")
"""Names that are imported when they are asked for, as they stand above the rest."""
ROOMS = ("adapters", "compose", "data", "models", "monitor", "shaping")
"""Modules that are imported when asked for, so that `mmreward.compose.combine` works as it stands."""


def __getattr__(name: str) -> Any:
    """`mmreward.__version__`, and the names of `DOOR` and `ROOMS`, read when they are asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("mmreward")
    if name in DOOR:
        from .adapters import notebook

        return getattr(notebook, name)
    if name in ROOMS:
        from importlib import import_module

        return import_module(f"mmreward.{name}")
    raise AttributeError(f"module 'mmreward' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *ROOMS, "__version__"})
