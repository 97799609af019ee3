"""mmreward: rewards for images, video and vision-language output. Importing it does not import torch."""

from .engine.engine import Engine
from .errors import Unscorable
from .loading import load
from .media import Media
from .registry import Reward, list_rewards, reward
from .types import RewardInfo, Sample, Score

__all__ = [
    "Engine",
    "Media",
    "Reward",
    "RewardInfo",
    "Sample",
    "Score",
    "Unscorable",
    "list_rewards",
    "load",
    "reward",
]


def __getattr__(name: str) -> str:
    """`mmreward.__version__`, read when it is asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("mmreward")
    raise AttributeError(f"module 'mmreward' has no attribute {name!r}")
