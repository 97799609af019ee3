"""Preference heads on a Qwen-VL's states: the network that applies what `mmreward fit head` wrote.

The Qwen-VL is asked whether the picture or clip shows the prompt; its state where the answer would begin is
the embedding of both, and the head reads it (`preferences.StateHead`). Where the fit trained a LoRA adapter,
the head's folder has it. Knows nothing of how heads are fitted.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ..engine.batching import Cost
from ..engine.engine import current
from ..media import Media
from .base import TorchNetwork
from .head_facts import ADAPTER, HeadFacts, read_facts
from .preferences import Rated, check_encoder, read_head
from .vlms.answers import Ask
from .vlms.qwen import Item, QwenVL
from .vlms.vision import View
from .weights import content_of

YES_NO = ("yes", "no")
"""Labels whose odds an unfitted head ranks by."""
VIEW = View()


def asked_of(network: QwenVL, question: str, media: Media, prompt: str) -> Item:
    """The call that reads a picture or clip and its prompt."""
    text = question.replace("{prompt}", prompt)
    return Item(Ask((media,), text), VIEW, (YES_NO, network.label_sets(YES_NO)))


async def state_of(network: QwenVL, question: str, media: Media, prompt: str) -> "np.ndarray[Any, Any]":
    """A reading, (D + 1,) float32; see `preferences.StateHead`.

    Raises:
        Unscorable: the picture is broken, or the prompt too long or with a token of the model's own.
    """
    item = asked_of(network, question, media, prompt)
    key, share = (item.ask.key, VIEW, "state"), (item.ask.share, VIEW)
    found = await current().submit(network, "state", item, key=key, share=share)
    return cast("np.ndarray[Any, Any]", found)


class FittedStates(TorchNetwork):
    """Qwen-VL with a preference head that was fitted on it; op "reading", float32.

    Args:
        folder: that `write_head` wrote.
        encoder: the Qwen-VL, by name.
        dtype: of it.

    Raises:
        ValueError: no such folder, no head in it, or one that was fitted on other weights.
    """

    def __init__(self, folder: str, encoder: str, *, dtype: str) -> None:
        facts: HeadFacts = read_facts(folder)
        adapter = str(Path(folder) / ADAPTER) if facts.adapted else ""
        if adapter and not Path(adapter).is_dir():
            raise ValueError(f"{folder} is no fitted head: it has no folder {ADAPTER}, which its facts name")
        self.body = body_of(encoder, dtype, adapter)
        super().__init__(folder, body=self.body.fingerprint)
        self.content = content_of(self.source)  # now, as it is read: the folder may be written again
        self._head, self.facts = read_head(Path(self.source))
        check_encoder(self.facts, self.source, encoder, self.body.source)

    def build(self) -> torch.nn.Module:
        # Again: of a model on the hub, the content was not known before it had been downloaded.
        check_encoder(self.facts, self.source, self.body.name, self.body.source)
        return self._head

    async def read(self, media: Media, prompt: str) -> Rated:
        """The reward of one picture or clip and its prompt."""
        reading = await state_of(self.body, self.facts.question, media, prompt)
        value, doubt = await current().submit(self, "reading", reading, key=(media.key, prompt))
        return Rated(value, doubt, False)

    def values_of(self, pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Differentiable rewards (N,) of float pixels (N, 3, H, W) in [0, 1] with N prompts, run where the
        pixels are; resizes in float."""
        texts = [self.facts.question.replace("{prompt}", prompt) for prompt in prompts]
        readings = self.body.state_pixels(pixels, texts, VIEW, YES_NO)
        if self.device != readings.device:
            self.load(str(readings.device))
        return cast(torch.Tensor, self.module(readings, readings[:, :0]).mean)

    def cost(self, op: str, item: Any) -> Cost:
        return Cost(1, item.nbytes)

    def prepare(self, op: str, items: list[Any]) -> Any:
        return torch.from_numpy(np.stack(items))

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        readings = batch.to(self.device)
        values = self.module(readings, readings[:, :0])
        doubts = self.module.uncertainty(values)
        return list(zip(values.mean.cpu().tolist(), doubts.cpu().tolist(), strict=True))


def body_of(name: str, dtype: str, adapter: str = "") -> QwenVL:
    """The Qwen-VL of this name, shared with `models.vlm`."""
    from . import _qwen

    return _qwen(name, dtype, adapter)
