"""Networks that look at a picture and its prompt together, and give one number; op "pair".

A dual encoder embeds either alone, and its pictures can be kept for other prompts; here text attends to the
picture, or the picture to the text, so that nothing but the pair has a value. `PairScorer` does what all of
them share: pictures prepared as for a dual encoder, prompts of one padded length, and the same with a
gradient.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch

from ..engine.batching import Cost
from ..engine.engine import current
from ..media import Media
from .base import TorchNetwork
from .pictures import prepared
from .pixels import Group, Recipe, to_input
from .weights import known_backend, placed


class Read(NamedTuple):
    """The number of a pair; `truncated` when the prompt was longer than the network reads."""

    value: float
    truncated: bool


class Tokens(NamedTuple):
    """Prompts as tensors (N, length), in the module's order, and which of them were cut."""

    tensors: tuple[torch.Tensor, ...]
    cut: list[bool]


class PairScorer(TorchNetwork):
    """One number of a picture and a prompt.

    Its module takes normalised pixels (N, 3, height, width) and the tensors of as many prompts, and returns
    (N,) in float32.

    Args:
        weights: a published file, by path or OWNER/NAME/FILE.
        dtype: of the encoders.
        resize: see `mmreward.models.clip`.
        length: tokens of a prompt, for the size of a batch.

    Raises:
        ValueError: no such dtype or resize.
    """

    def __init__(self, weights: str, *, dtype: str, resize: str, length: int, **options: Any) -> None:
        known_backend(resize)
        super().__init__(placed(weights), dtype=dtype, resize=resize, **options)
        self.name, self.resize, self.length = weights, resize, length
        self._runs_on = self.device

    @property
    @abstractmethod
    def recipe(self) -> Recipe:
        """Preprocessing of a picture."""

    @abstractmethod
    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Prompts as the module takes them, on the CPU."""

    async def read(self, media: Media, prompt: str) -> Read:
        """The number of one picture and prompt."""
        return cast(Read, await current().submit(self, "pair", (media, prompt), key=(media.key, prompt)))

    def values_of(self, pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Differentiable numbers (N,), float32, of float pixels (N, 3, H, W) in [0, 1] with N prompts.

        Runs where the pixels are: the weights are moved there. Always resizes as "tensor" does, the only way
        with a gradient.
        """
        if self.device != pixels.device:
            self.load(str(pixels.device))
        whole = [Group(list(range(len(pixels))), pixels)]
        return self._run(to_input(whole, self.recipe), self.tokenize(prompts))

    def _run(self, pixels: torch.Tensor, tokens: Tokens) -> torch.Tensor:
        texts = [tensor.to(self.device) for tensor in tokens.tensors]
        return cast(torch.Tensor, self.module(pixels.to(self.dtype), *texts))

    def load(self, device: str) -> None:
        super().load(device)
        self._runs_on = self.device

    def cost(self, op: str, item: Any) -> Cost:
        height, width = item[0].size
        return Cost(256 + self.length, 3 * height * width)

    def prepare(self, op: str, items: list[Any]) -> Any:
        looks = [(media, self.resize) for media, _ in items]
        return prepared(looks, self.recipe, self._runs_on), self.tokenize([prompt for _, prompt in items])

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Read]:
        pictures, tokens = batch
        values = self._run(pictures.on(self.device, self.recipe), tokens).cpu().tolist()
        return [Read(value, cut) for value, cut in zip(values, tokens.cut, strict=True)]
