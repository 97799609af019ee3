"""A vision-language model behind an OpenAI-compatible chat server, with the methods of `vlms.VLM`. No torch.

vLLM, SGLang, `transformers serve` and OpenAI's own API work, each as far as it goes: what a server cannot do
is a typed failure that says so, and never a made-up number.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, cast

from ..engine import current
from .address import parse_address
from .answers import Ask, LogProb, Pictures, Read, Turn, Written, media_of, sampling_of
from .chat import json_schema
from .labels import check_labels
from .schema import check_schema, check_written
from .session import READING, SCORING, UNSHAPED, WRITING, Session


class ServedVLM:
    """Reads label probabilities, writes text and, on vLLM, scores given text, all over HTTP.

    Pictures are sent without loss. A video is refused: what a server makes of one differs from server to
    server. Every method raises `Unscorable` when the server cannot or will not answer: "timeout" when the
    deadline passed, "error" with the server's words otherwise.

    Args:
        weights: MODEL@URL, optionally with ?key=ENV_NAME&deadline=SECONDS&concurrency=N (see `Address`).
        dtype: the server decides; anything but the default is refused.
        min_pixels, max_pixels: pictures outside are resized before they are sent. The server's own limits
            apply after that.

    Raises:
        ValueError: see `parse_address`; a dtype.
    """

    read_pixels: None = None
    """What `vlms.VLM.read_pixels` is there: no server hands back a gradient."""

    def __init__(
        self,
        weights: str,
        *,
        dtype: str = "float32",
        min_pixels: int | None = None,
        max_pixels: int | None = None,
    ) -> None:
        self._address = parse_address(weights)
        if dtype != "float32":
            raise ValueError(
                f"dtype {dtype!r} cannot be chosen for {self._address.name}: the server decides (--dtype)"
            )
        if min_pixels is not None and max_pixels is not None and min_pixels > max_pixels:
            raise ValueError(f"min_pixels {min_pixels} is above max_pixels {max_pixels}")
        self._limits = min_pixels, max_pixels
        self._sessions: dict[asyncio.AbstractEventLoop, Session] = {}

    def __repr__(self) -> str:
        return f"ServedVLM({self.name!r})"

    @property
    def name(self) -> str:
        return self._address.name

    @cached_property
    def fingerprint(self) -> str:
        """The model's name, its server and what is sent; which weights the server runs cannot be known
        here."""
        fixed = [READING, WRITING, UNSHAPED, SCORING]
        facts = [type(self).__name__, self._address.model, self._address.url, fixed, self._limits]
        return hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()

    async def read(self, media: Pictures, question: str, labels: Sequence[str], *, system: str = "") -> Read:
        """Probabilities of the first answer token falling on each label (all one-token spellings of it).

        On vLLM they are exact. Other servers show the 20 likeliest tokens: then `mass` is what of the labels
        is visible there, and the read is answered only when what is not visible could change no probability
        by more than 0.001. A label is never given 0 for not being shown.

        Raises:
            ValueError: labels that cannot be told apart by one token.
            Unscorable: "unparsable" when the visible tokens do not settle it; see also the class.
        """
        check_labels(labels)
        ask = Ask(media_of(media), question, system)
        item, key = (ask, tuple(labels)), (ask.key, tuple(labels))
        return cast(Read, await current().submit(self, "read", item, key=key, share=ask.share))

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
    ) -> Written:
        """Generate an answer: greedily, or sampled at a temperature from a seed.

        How far a seed repeats an answer is the server's affair. `text` is the answer alone: a server with a
        reasoning parser keeps the reasoning back.

        Args:
            history: what was asked and answered before about the same pictures, which come with the first
                question.
            schema: a JSON schema the answer must fulfil. The server is asked to constrain the answer to it,
                and the answer is checked here as well.

        Raises:
            ValueError: a limit or temperature out of range; no valid schema.
            Unscorable: "unparsable" for a refusal, an empty answer, and one that breaks the schema or was cut
                off within it; see also the class.
        """
        ask = Ask(media_of(media), prompt, system, tuple(history))
        sampling = sampling_of(max_tokens, temperature, seed)
        if schema is not None:
            check_schema(schema)
        key = (ask.key, sampling, json.dumps(schema, sort_keys=True))
        item = (ask, sampling, schema)
        return cast(Written, await current().submit(self, "write", item, key=key, share=ask.share))

    async def logprob(
        self, media: Pictures, prompt: str, continuation: str, *, given: str = "", system: str = ""
    ) -> LogProb:
        """How probable the model finds `continuation` as the beginning of its answer, or right after `given`.

        vLLM only, and without `certainty`: no server shows its whole vocabulary.
        """
        ask = Ask(media_of(media), prompt, system)
        item, key = (ask, given, continuation), (ask.key, given, continuation)
        return cast(LogProb, await current().submit(self, "logprob", item, key=key, share=ask.share))

    # --- the engine's side ------------------------------------------------------------------------

    async def answer(self, op: str, item: Any) -> Any:
        session = self._session()
        if op == "read":
            return await session.read(*item)
        if op == "logprob":
            return await session.logprob(*item)
        ask, sampling, schema = item
        if schema is None:
            return await session.write(ask, sampling, None)
        words = await session.write(ask, sampling, json_schema(schema))
        check_written(words, schema)
        return words

    async def close(self) -> None:
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    def _session(self) -> Session:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            self._sessions[loop] = Session(self._address, *self._limits)
        return self._sessions[loop]
