"""Handle of a vision-language model in this process: read labels, write text, score a given continuation.

The network is shared with every handle of the same weights; limits on pictures and clips belong to the
handle.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from ...engine.engine import current
from .answers import (
    Ask,
    LogProb,
    Pictures,
    Read,
    Readings,
    Turn,
    Written,
    asked,
    note_answer,
    sampling_of,
)
from .constrained import check_schema, check_written
from .qwen import Item, QwenVL
from .vision import View

if TYPE_CHECKING:
    import torch


class LocalVLM:
    """A Qwen-family network with limits on pictures and clips; an `answers.VLM`.

    Args:
        network: the weights; handles that differ only in their limits share them.
        view: limits on pictures and clips.
    """

    def __init__(self, network: QwenVL, view: View = View()) -> None:  # noqa: B008 - immutable
        self.network = network
        self.view = view
        self.name = network.name

    @property
    def fingerprint(self) -> str:
        """Hash of the weights, their dtype and the limits."""
        facts = f"{self.network.fingerprint} {self.view.facts}"
        return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()

    def make(self) -> None:
        """Load the processor, see `Reward.make`."""
        self.network.make()

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text within a prompt. Needs the tokenizer alone, not the weights."""
        with self.network.processing:
            return len(self.network.processor.tokenizer.encode(text, add_special_tokens=False))

    async def read(
        self,
        media: Pictures,
        question: str,
        labels: Sequence[str],
        *,
        system: str = "",
        places: Sequence[int] = (),
    ) -> Read:
        """Probabilities of the first answer token falling on each label (all one-token spellings of it).

        Questions about one picture or clip that run together share everything up to where they differ.

        Raises:
            ValueError: labels that this tokenizer cannot tell apart by one token.
        """
        ask = asked(media, question, system, places=places)
        detail = (tuple(labels), self.network.label_sets(tuple(labels)))
        read = cast(Read, await self._submit("read", ask, detail, tuple(labels)))
        note_answer(ask, read)
        return read

    def read_pixels(
        self, pixels: "torch.Tensor", questions: Sequence[Sequence[str]], labels: Sequence[str]
    ) -> Readings:
        """Label probabilities as `read` gives them, differentiable with respect to the pictures.

        Runs where the pixels are: the weights are moved there. Resizes in float where `read` resizes 8-bit
        values: equal for pictures that need no resizing, within rounding to 1/255 for others.

        Args:
            pixels: float (N, 3, H, W) in [0, 1].
            questions: for each picture as many questions, Q.
            labels: as for `read`.

        Raises:
            ValueError: not one list of questions per picture, lists of unequal length, labels that this
                tokenizer cannot tell apart, or a question that contains a picture's token.
        """
        if len(questions) != len(pixels) or len({len(asked) for asked in questions}) != 1:
            raise ValueError(f"{len(pixels)} pictures need as many lists of equally many questions")
        scores = self.network.read_pixels(pixels, questions, self.view, tuple(labels))
        return Readings(scores.softmax(-1), scores.logsumexp(-1).exp())

    def logprob_pixels(
        self, pixels: "torch.Tensor", questions: Sequence[str], continuation: str
    ) -> "list[torch.Tensor]":
        """Log-probabilities of a continuation's tokens as `logprob` gives them, one vector per picture,
        differentiable with respect to the pictures.

        Args:
            pixels: as for `read_pixels`, where they run and resize as well.
            questions: one for each picture.
            continuation: as for `logprob`.

        Raises:
            ValueError: not one question per picture.
            Unscorable: as `logprob`.
        """
        if len(questions) != len(pixels):
            raise ValueError(f"{len(pixels)} pictures need as many questions, not {len(questions)}")
        return self.network.logprob_pixels(pixels, questions, self.view, continuation)

    async def write(
        self,
        media: Pictures,
        prompt: str,
        *,
        max_tokens: int = 512,
        temperature: float = 0.0,
        seed: int = 0,
        system: str = "",
        history: Sequence[Turn] = (),
        schema: Mapping[str, Any] | None = None,
        places: Sequence[int] = (),
    ) -> Written:
        """Generate an answer: greedily, or sampled at a temperature from a seed of its own.

        Equal arguments give equal words, alone or in any batch (up to float rounding).

        Args:
            history: what was asked and answered before about the same pictures, which come with the first
                question; a turn may bring more for the question after it.
            places: where the pictures stand within the text, as for `answers.asked`.
            schema: a JSON schema the answer must fulfil. It is checked when the answer is there; only a
                served model is held to it while it writes.

        Raises:
            ValueError: a limit or temperature out of range; no valid schema.
            Unscorable: "unparsable" when the answer breaks the schema, or was cut off within it.
        """
        if schema is not None:
            check_schema(schema)
        sampling = sampling_of(max_tokens, temperature, seed)
        ask = asked(media, prompt, system, history, places)
        written = cast(Written, await self._submit("write", ask, sampling, sampling))
        note_answer(ask, written)
        if schema is not None:
            check_written(written, schema)
        return written

    async def logprob(
        self,
        media: Pictures,
        prompt: str,
        continuation: str,
        *,
        given: str = "",
        system: str = "",
        places: Sequence[int] = (),
        open: bool = False,
    ) -> LogProb:
        """Log-probability of `continuation` as the beginning of the answer, or right after `given`.

        Args:
            given: what the answer begins with; it is read and not scored.
            open: the question's turn is not ended, and the continuation follows its text there.

        Raises:
            Unscorable: the continuation is empty, or its first token would merge with the prompt's last. One
                that merges with the end of `given` is scored.
        """
        ask = asked(media, prompt, system, places=places, open=open)
        detail = (given, continuation)
        scored = cast(LogProb, await self._submit("logprob", ask, detail, detail))
        note_answer(ask, scored, continuation)
        return scored

    async def _submit(self, op: str, ask: Ask, detail: Any, key: Any) -> Any:
        item = Item(ask, self.view, detail)
        share = (ask.share, self.view)
        return await current().submit(self.network, op, item, key=(ask.key, self.view, key), share=share)
