"""Vision-language model behind an OpenAI-compatible chat server; satisfies `answers.VLM`.

vLLM, SGLang, `transformers serve` and OpenAI's own API work, each as far as it goes: what a server cannot do
is a typed failure that says so, and never a made-up number.

`ServedVLM` is the handle that rewards hold; a `Session` answers its calls on one event loop, and learns once
which server it talks to and what that server's tokenizer makes of the labels. Imports no torch.
"""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

from pydantic import BaseModel

from ...engine.cache import SingleFlight
from ...engine.clips import spread
from ...engine.engine import current
from ...errors import Unscorable
from ...media import Media
from ..vlms.answers import (
    Ask,
    LogProb,
    Parts,
    Pictures,
    Read,
    Sampling,
    Turn,
    Written,
    asked,
    check_labels,
    check_sets,
    note_answer,
    sampling_of,
    spellings,
)
from ..vlms.constrained import check_schema, check_written
from .address import Address, parse_address
from .chat import (
    Completion,
    Position,
    clip_part,
    data_url,
    json_schema,
    parse,
    picture_part,
    request_messages,
    written,
)
from .http import Refused, line_to, reach
from .tokens import Seen, chat_tail, continuation_ids, label_ids, read_of

TOP = 20
"""Tokens a server is asked to show at a position; OpenAI's limit and vLLM's default."""
SILENT = 3
"""Answers without log-probabilities, and none with them, after which a server is not asked for more."""
PICTURES = 64 << 20
"""Bytes of encoded pictures kept for the next question about them."""

READING: dict[str, Any] = {
    "max_completion_tokens": 1,
    "temperature": 0.0,
    "logprobs": True,
    "top_logprobs": TOP,
}
WRITING: dict[str, Any] = {"top_p": 1.0}
UNSHAPED: dict[str, Any] = {
    "top_k": -1,
    "min_p": 0.0,
    "skip_special_tokens": False,
}
"""Overrides of the checkpoint's own generation config, which a server would apply and no reward asked for.
The repetition penalty is left to it, as local models follow theirs."""
SCORING: dict[str, Any] = {
    "max_completion_tokens": 1,
    "temperature": 0.0,
    "add_generation_prompt": False,
    "continue_final_message": True,
    "prompt_logprobs": 1,
    "return_token_ids": True,
}

Dialect = Literal["vllm", "sglang", "plain"]


class Card(BaseModel):
    owned_by: str = ""


class Cards(BaseModel):
    """Answer of /models."""

    data: list[Card]


@dataclass(frozen=True)
class Names:
    """Names of each label's spellings in an answer; `ids` where the server reports tokens by id."""

    names: tuple[frozenset[str], ...]
    ids: tuple[int, ...] = ()


class Session:
    """Connection to one served model, which answers its ops. Owned by one event loop.

    Args:
        address: the model and its server.
        low, high: pixels between which pictures are brought; None leaves that side open.
    """

    def __init__(self, address: Address, low: int | None, high: int | None) -> None:
        self._address = address
        self._limits = low, high
        self._line = line_to(address)
        self._encoders = ThreadPoolExecutor(2, thread_name_prefix="mmreward-encode")
        self._known_dialect = SingleFlight[Dialect]()
        self._known_tail = SingleFlight[str]()
        self._known_names = SingleFlight[Names]()
        self._pictures = SingleFlight[str](PICTURES)
        self._showed = False
        self._silent = 0

    async def read(self, ask: Ask, labels: tuple[str, ...]) -> Read:
        names = await self._known_names.get(labels, lambda: self._learn_names(labels))
        if not self._showed and self._silent >= SILENT:
            raise self._no_logprobs()
        chosen = {"logprob_token_ids": names.ids, "return_tokens_as_token_ids": True} if names.ids else {}
        seen = self._seen(await self._complete(ask, READING | chosen))
        tokens = {token for token, _ in seen}
        # A server that ignores `logprob_token_ids` may show a few tokens that are no top list to reason from.
        if names.ids and len(seen) < TOP and not all(spelled <= tokens for spelled in names.names):
            raise Unscorable("the server reports neither the tokens it was asked for nor the likeliest ones")
        return read_of(seen, labels, names.names, whole_words=bool(names.ids))

    async def write(self, ask: Ask, sampling: Sampling, response_format: dict[str, Any] | None) -> Written:
        body: dict[str, Any] = {
            **WRITING,
            "max_completion_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": sampling.seed,
        }
        if await self._dialect() != "plain":
            body |= UNSHAPED
        if response_format is not None:
            body["response_format"] = response_format
        return written(await self._complete(ask, body))

    async def logprob(self, ask: Ask, given: str, continuation: str) -> LogProb:
        if await self._dialect() != "vllm":
            raise Unscorable(
                "of the chat servers only vLLM gives the log-probability of a given text (prompt_logprobs)"
            )
        whole, span = await continuation_ids(self._post_aside, await self._tail(), given, continuation)
        completion = await self._complete(ask, SCORING, given + continuation)
        ids, rows = completion.prompt_token_ids, completion.prompt_logprobs
        if ids is None or rows is None or len(ids) != len(rows):
            raise Unscorable("the server gives no log-probabilities of the prompt's tokens")
        if ids[-len(whole) :] != whole:
            raise Unscorable("the server's chat template changes an answer that is given to it")
        picked = [(row or {}).get(token) for token, row in zip(ids[-span:], rows[-span:], strict=True)]
        each = tuple(one.logprob for one in picked if one is not None)
        if len(each) < span:
            raise Unscorable("the server leaves out the log-probability of a token of the continuation")
        return LogProb(sum(each), span, each)

    async def close(self) -> None:
        self._encoders.shutdown(wait=False, cancel_futures=True)
        await self._line.close()

    # --- requests ---------------------------------------------------------------------------------

    async def _complete(self, ask: Ask, settings: dict[str, Any], begun: str = "") -> Completion:
        """One chat completion; `begun` is the beginning of the answer that the model is to continue."""

        async def body() -> dict[str, Any]:
            pictures = await asyncio.gather(*map(self._parts, ask.media))
            turns = request_messages(ask, pictures) + (
                [{"role": "assistant", "content": begun}] if begun else []
            )
            return {"model": self._address.model, "messages": turns, **settings}

        url, deadline = self._address.url + "/chat/completions", self._address.deadline
        return parse(Completion, await self._line.ask(url, body, deadline=deadline))

    async def _post_aside(self, path: str, fields: dict[str, Any]) -> bytes:
        """Bytes of an answer of the endpoints that vLLM keeps beside the API."""

        async def body() -> dict[str, Any]:
            return {"model": self._address.model, **fields}

        return await self._line.ask(self._address.root + path, body, deadline=self._address.deadline)

    async def _parts(self, media: Media) -> Parts:
        """A picture, or a clip as the address says: its file, or its evenly spaced frames."""
        clips = self._address.clips
        if media.kind == "image" or not clips:
            return [picture_part(await self._picture(media))]
        loop = asyncio.get_running_loop()
        if clips == "video":
            return [await loop.run_in_executor(self._encoders, clip_part, media)]
        shots = await loop.run_in_executor(self._encoders, spread, media, int(clips))
        return [picture_part(url) for url in await asyncio.gather(*map(self._picture, shots))]

    async def _picture(self, media: Media) -> str:
        async def encode() -> str:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._encoders, data_url, media, *self._limits)

        return await self._pictures.get(media.key, encode)

    # --- facts about the server, learned once -----------------------------------------------------

    async def _dialect(self) -> Dialect:
        return await self._known_dialect.get("", self._learn_dialect)

    async def _tail(self) -> str:
        return await self._known_tail.get("", lambda: chat_tail(self._post_aside))

    async def _learn_dialect(self) -> Dialect:
        """Dialect by the owner of the models it lists. A server that lists none, or fails to (`transformers
        serve` without a cache folder does), is asked for nothing beyond OpenAI's own fields."""
        url, deadline = self._address.url + "/models", self._address.deadline
        try:
            cards = parse(Cards, await self._line.ask(url, deadline=deadline, tries=2))
        except Unscorable as failure:
            if failure.status == "timeout" or (isinstance(failure, Refused) and failure.code in (401, 403)):
                raise
            return "plain"
        owners = {card.owned_by for card in cards.data}
        return "vllm" if "vllm" in owners else "sglang" if "sglang" in owners else "plain"

    async def _learn_names(self, labels: tuple[str, ...]) -> Names:
        if await self._dialect() == "vllm":
            try:
                sets = await label_ids(self._post_aside, await self._tail(), labels)
            except Refused:  # a gateway that forwards only the API itself
                pass
            else:
                names = tuple(frozenset(f"token_id:{one}" for one in ids) for ids in sets)
                return Names(names, tuple(one for ids in sets for one in ids))
        names = tuple(frozenset(spellings(label)) for label in labels)
        check_sets(labels, names)
        return Names(names)

    def _seen(self, completion: Completion) -> list[Seen]:
        logprobs = completion.choices[0].logprobs
        if logprobs is None or not logprobs.content:
            self._silent += 1
            raise self._no_logprobs()
        self._showed = True
        first: Position = logprobs.content[0]
        return [Seen(one.token, one.prob) for one in first.top_logprobs or [first]]

    def _no_logprobs(self) -> Unscorable:
        return Unscorable(
            f"{self._address.name} reports no log-probabilities, so labels cannot be read there: vLLM does "
            "(exactly, by logprob_token_ids), and SGLang and OpenAI's non-reasoning models do (the top "
            f"{TOP}); `transformers serve` does not"
        )


class ServedVLM:
    """Handle of a served model: label probabilities, text and, on vLLM, log-likelihoods, all over HTTP.

    Pictures are sent without loss. A video is refused unless the address says how to send it: as its file
    (`?clips=video`, of which the server chooses the frames) or as so many evenly spaced frames
    (`?clips=8`). Every method raises `Unscorable` when the server cannot or will not answer: "timeout" when
    the deadline passed, "error" with the server's words otherwise.

    Args:
        weights: MODEL@URL, optionally with ?key=ENV_NAME&deadline=SECONDS&concurrency=N&clips=8, see
            `Address`.
        dtype: the server decides; anything but the default is refused.
        min_pixels, max_pixels: pictures outside are resized before they are sent. The server's own limits
            apply after that.

    Raises:
        ValueError: see `parse_address`; a dtype.
    """

    count_tokens = read_pixels = None
    """None: the tokenizer is the server's, and no server returns a gradient; see `answers.VLM`."""

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

    def check(self) -> None:
        """Look for the server; see `http.reach`.

        Raises:
            Unavailable: nobody is at its address.
        """
        reach(self._address)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the model's name, its server and the fixed request fields; the weights that the server runs
        cannot be known here."""
        fixed = [READING, WRITING, UNSHAPED, SCORING]
        facts = [type(self).__name__, self._address.model, self._address.url, fixed, self._limits]
        facts += [self._address.clips] if self._address.clips else []
        return hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).hexdigest()

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

        On vLLM they are exact. Other servers show the 20 likeliest tokens: then `mass` is what of the labels
        is visible there, and the read is answered only when what is not visible could change no probability
        by more than 0.001. A label is never given 0 for not being shown.

        Raises:
            ValueError: labels that cannot be told apart by one token.
            Unscorable: "unparsable" when the visible tokens do not settle it; see also the class.
        """
        check_labels(labels)
        ask = asked(media, question, system, places=places)
        item, key = (ask, tuple(labels)), (ask.key, tuple(labels))
        answer = cast(Read, await current().submit(self, "read", item, key=key, share=ask.share))
        note_answer(ask, answer)
        return answer

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
        """Generate an answer: greedily, or sampled at a temperature from a seed.

        How far a seed repeats an answer is the server's affair. `text` is the answer alone: a server with a
        reasoning parser keeps the reasoning back.

        Args:
            history: what was asked and answered before about the same pictures, which come with the first
                question; a turn may bring more for the question after it.
            places: where the pictures stand within the text, as for `answers.asked`.
            schema: a JSON schema the answer must fulfil. The server is asked to constrain the answer to it,
                and the answer is checked here as well.

        Raises:
            ValueError: a limit or temperature out of range; no valid schema.
            Unscorable: "unparsable" for a refusal, an empty answer, and one that breaks the schema or was cut
                off within it; see also the class.
        """
        ask = asked(media, prompt, system, history, places)
        sampling = sampling_of(max_tokens, temperature, seed)
        if schema is not None:
            check_schema(schema)
        key = (ask.key, sampling, json.dumps(schema, sort_keys=True))
        item = (ask, sampling, schema)
        answer = cast(Written, await current().submit(self, "write", item, key=key, share=ask.share))
        note_answer(ask, answer)
        return answer

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

        vLLM only, without `certainty` (no server shows its whole vocabulary), and for no `open` question.
        """
        if open:
            raise Unscorable(
                f"{self.name} is served, and a chat server ends the turn that is to be left open"
            )
        ask = asked(media, prompt, system, places=places)
        item, key = (ask, given, continuation), (ask.key, given, continuation)
        answer = cast(LogProb, await current().submit(self, "logprob", item, key=key, share=ask.share))
        note_answer(ask, answer, continuation)
        return answer

    # --- the engine's side ------------------------------------------------------------------------

    async def answer(self, op: str, item: Any) -> Any:
        """Answer of one call, on the running loop's session."""
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
        """Close the running loop's session, if there is one."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    def _session(self) -> Session:
        loop = asyncio.get_running_loop()
        if loop not in self._sessions:
            self._sessions[loop] = Session(self._address, *self._limits)
        return self._sessions[loop]
