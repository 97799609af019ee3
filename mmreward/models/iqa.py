"""Quality measures of pictures by the package pyiqa (IQA-PyTorch), one picture at a time.

Some of its measures see their batch (LIQE's score of a picture moves with its neighbours, Q-Align takes one
picture alone), and some draw crops at random: here every picture is its own batch, after the same seed, so
that a picture has one number. Fetching weights, preprocessing and direction are pyiqa's. Op "measure".
"""

import math
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F

from ..engine.batching import Cost
from ..engine.engine import current
from ..errors import Unscorable, nearest
from ..media import Media
from .base import TorchNetwork
from .pictures import decoded, in_turn

OF_SETS = ("fid", "inception_score")
"""Parts of the names of measures that compare sets of pictures."""
OF_TEXT = {"clipscore": "`clipscore` of this package, with scale=clipscore/pyiqa"}
"""Measures that read a caption, and what takes their place."""
SEED = 123
"""pyiqa's own default."""


class Facts(NamedTuple):
    """Facts that pyiqa states of a measure: its range as it writes it, direction, and the need of a
    reference picture."""

    range: str
    lower_better: bool
    reference: bool

    @property
    def bounds(self) -> tuple[float, float]:
        """Ends of the range, unbounded where pyiqa writes "~", and of measures with a reference, whose
        written ends (0 and 1 of SSIM and LPIPS) pictures do pass."""
        ends = [end.strip() for end in self.range.split(",")]
        if self.reference or len(ends) != 2:
            return -math.inf, math.inf
        low, high = (_number(end) for end in ends)
        return -math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # "~", or "~100"
        return math.nan


class Measure(TorchNetwork):
    """One measure of pyiqa.

    Args:
        metric: its name there.
        longest: pixels of the longer side that larger pictures are scaled to, in float without antialiasing,
            as VBench does; 0 leaves them.

    Raises:
        ValueError: no such measure, or one of sets of pictures or of a caption.
    """

    def __init__(self, metric: str, longest: int = 0) -> None:
        self.metric, self.facts, self.longest = metric, facts_of(metric), longest
        scaled: dict[str, Any] = {"longest": longest} if longest else {}
        super().__init__(f"pyiqa:{metric}", version=_version(), **scaled)

    async def value(self, media: Media, reference: Media | None = None) -> float:
        """Its number of a picture, of one with a reference where it needs one.

        Raises:
            Unscorable: sizes that differ, or a picture that it cannot measure.
        """
        item = (media,) if reference is None else (media, reference)
        key = tuple(one.key for one in item)
        return cast(float, await current().submit(self, "measure", item, key=key))

    def build(self) -> torch.nn.Module:
        import pyiqa

        return cast(torch.nn.Module, pyiqa.create_metric(self.metric, device=torch.device("cpu")))

    def cost(self, op: str, item: Any) -> Cost:
        sides = [media.size for media in item]
        return Cost(sum(height * width for height, width in sides) // 256 + 1, 12 * sides[0][0] * sides[0][1])

    def prepare(self, op: str, items: list[Any]) -> Any:
        return in_turn([item[0] for item in items], lambda index: _ready(items[index], self.longest))

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        return [item if isinstance(item, Unscorable) else self._measured(item) for item in batch]

    def _measured(self, pixels: tuple[torch.Tensor, ...]) -> float | Unscorable:
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(SEED)
            try:
                given = self.module(*(one.to(self.device) for one in pixels))
            except (AssertionError, RuntimeError, ValueError) as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                reason = " ".join(str(error).split())[:200]
                return Unscorable(f"pyiqa's {self.metric} cannot measure it: {reason}")
        if isinstance(given, Mapping) or (isinstance(given, torch.Tensor) and given.numel() != 1):
            return Unscorable(
                f"pyiqa's {self.metric} gives several numbers of a picture, and none is its score"
            )
        value = float(given[0] if isinstance(given, list | tuple) else given)
        if not math.isfinite(value):
            return Unscorable(f"pyiqa's {self.metric} gives {value} of this picture")
        return value


def _ready(item: tuple[Media, ...], longest: int) -> tuple[torch.Tensor, ...] | Unscorable:
    """Pixels (1, 3, H, W) in [0, 1] of a picture and its reference."""
    try:
        pixels = tuple(_within(decoded(media)[None].float(), longest) / 255 for media in item)
    except Unscorable as error:
        return error
    shapes = [f"{one.shape[3]} x {one.shape[2]}" for one in pixels]
    if len(set(shapes)) > 1:
        return Unscorable(f"the picture is {shapes[0]} and its reference {shapes[1]}: give equal sizes")
    return pixels


def _within(pixels: torch.Tensor, longest: int) -> torch.Tensor:
    """Pixels whose longer side has so many at most; each side is truncated, as upstream."""
    height, width = pixels.shape[2:]
    if not longest or max(height, width) <= longest:
        return pixels
    scale = float(longest) / max(height, width)
    size = (int(scale * height), int(scale * width))
    return F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)


def facts_of(metric: str) -> Facts:
    """Facts of a measure, without its network.

    Raises:
        ValueError: as `Measure`.
    """
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    if metric not in DEFAULT_CONFIGS:
        raise ValueError(
            f"pyiqa has no measure {metric!r}: {nearest(metric, sorted(DEFAULT_CONFIGS), limit=3)}"
        )
    if any(part in metric for part in OF_SETS):
        raise ValueError(f"{metric} compares sets of pictures, and a reward looks at one")
    if metric in OF_TEXT:
        raise ValueError(f"pyiqa's {metric} reads a caption: take {OF_TEXT[metric]}")
    config = DEFAULT_CONFIGS[metric]
    return Facts(
        str(config.get("score_range", "~, ~")),
        bool(config.get("lower_better", False)),
        config.get("metric_mode") == "FR",
    )


def _version() -> str:
    try:
        return version("pyiqa")
    except PackageNotFoundError:  # imported from a folder that was never installed
        return "of no version"
