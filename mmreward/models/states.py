"""Preference heads on a Qwen-VL's states: the network that applies what `mmreward fit head` wrote.

The Qwen-VL is asked whether the picture or clip shows the prompt, or whether a response to the prompt is
right; its state where the answer would begin is the embedding of all that, and the head reads it
(`preferences.StateHead`). Where the fit trained a LoRA adapter,
the head's folder has it. Knows nothing of how heads are fitted.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ..engine.batching import Cost
from ..engine.engine import current
from ..errors import Unscorable
from ..media import Media
from .base import TorchNetwork
from .head_facts import ADAPTER, PROMPT, RESPONSE, HeadFacts, read_facts
from .preferences import Rated, check_encoder, read_head
from .vlms.answers import Ask
from .vlms.qwen import Item, QwenVL
from .vlms.vision import View
from .weights import content_of

YES_NO = ("yes", "no")
"""Labels whose odds an unfitted head ranks by."""
TURNS = ("<|im_start|>", "<|im_end|>")
VIEW = View()


def asked_of(network: QwenVL, question: str, media: Sequence[Media], prompt: str, response: str = "") -> Item:
    """The call that reads pictures or clips, their prompt, and a response where the question has a place."""
    text = filled(question, prompt, response)
    return Item(Ask(tuple(media), text), VIEW, (YES_NO, network.label_sets(YES_NO)))


def filled(question: str, prompt: str, response: str = "") -> str:
    """A question with prompt and response in their places; no value is searched for another's place."""
    values = {PROMPT: prompt, RESPONSE: response}
    pieces = re.split(f"({re.escape(PROMPT)}|{re.escape(RESPONSE)})", question)
    return "".join(values.get(piece, piece) for piece in pieces)


async def state_of(
    network: QwenVL, question: str, media: Sequence[Media], prompt: str, response: str = ""
) -> "np.ndarray[Any, Any]":
    """A reading, (D + 1,) float32; see `preferences.StateHead`.

    Raises:
        Unscorable: the picture is broken, or the prompt too long or with a token of the model's own; a
            response that begins or ends a turn, which could answer for itself.
    """
    for token in TURNS:
        if token in response:
            raise Unscorable(f"the response contains {token}, which begins or ends a turn")
    item = asked_of(network, question, media, prompt, response)
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

    async def read(self, media: Sequence[Media], prompt: str, response: str = "") -> Rated:
        """The reward of one picture or clip and its prompt; or of a response to a prompt about any."""
        reading = await state_of(self.body, self.facts.question, media, prompt, response)
        key = (*(one.key for one in media), prompt, response)
        value, doubt = await current().submit(self, "reading", reading, key=key)
        return Rated(value, doubt, False)

    def values_of(self, pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Differentiable rewards (N,) of float pixels (N, 3, H, W) in [0, 1] with N prompts, run where the
        pixels are; resizes in float."""
        texts = [filled(self.facts.question, prompt) for prompt in prompts]
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
