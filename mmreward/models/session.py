"""One served model on one event loop: its connections, what is known about its server, and its ops."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from ..failures import Unscorable
from ..media import Media
from .address import Address
from .answers import Ask, LogProb, Read, Sampling, Written
from .chat import Completion, Position, parse, request_messages, written
from .dataurls import data_url
from .labels import check_sets, spellings
from .once import Once
from .servertokens import chat_tail, continuation_ids, label_ids
from .transport import Refused, line_to
from .truncated import Seen, read_of

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
    "repetition_penalty": 1.0,
    "skip_special_tokens": False,
}
"""Where a server would otherwise apply the checkpoint's own generation config, which no reward asked for."""
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
    """The answer of /models."""

    data: list[Card]


@dataclass(frozen=True)
class Names:
    """What the spellings of each label are called in an answer; `ids` where the server tells tokens by id."""

    names: tuple[frozenset[str], ...]
    ids: tuple[int, ...] = ()


class Session:
    """Answers the ops of one served model. Owned by one event loop.

    Args:
        address: the model and its server.
        low, high: pixels between which pictures are brought; None leaves that side open.
    """

    def __init__(self, address: Address, low: int | None, high: int | None) -> None:
        self._address = address
        self._limits = low, high
        self._line = line_to(address)
        self._encoders = ThreadPoolExecutor(2, thread_name_prefix="mmreward-encode")
        self._known_dialect = Once[Dialect]()
        self._known_tail = Once[str]()
        self._known_names = Once[Names]()
        self._pictures = Once[str](PICTURES)
        self._showed = False
        self._silent = 0

    async def read(self, ask: Ask, labels: tuple[str, ...]) -> Read:
        names = await self._known_names.get(labels, lambda: self._learn_names(labels))
        if not self._showed and self._silent >= SILENT:
            raise self._no_logprobs()
        chosen = {"logprob_token_ids": names.ids, "return_tokens_as_token_ids": True} if names.ids else {}
        seen = self._seen(await self._complete(ask, READING | chosen))
        tokens = {token for token, _ in seen}
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

    async def _complete(self, ask: Ask, settings: dict[str, Any], said: str = "") -> Completion:
        """One chat completion; `said` is the beginning of the answer that the model is to continue."""

        async def body() -> dict[str, Any]:
            pictures = await asyncio.gather(*map(self._picture, ask.media))
            turns = request_messages(ask, pictures) + (
                [{"role": "assistant", "content": said}] if said else []
            )
            return {"model": self._address.model, "messages": turns, **settings}

        url, deadline = self._address.url + "/chat/completions", self._address.deadline
        return parse(Completion, await self._line.ask(url, body, deadline=deadline))

    async def _post_aside(self, path: str, fields: dict[str, Any]) -> bytes:
        """To the endpoints that vLLM keeps beside the API."""

        async def body() -> dict[str, Any]:
            return {"model": self._address.model, **fields}

        return await self._line.ask(self._address.root + path, body, deadline=self._address.deadline)

    async def _picture(self, media: Media) -> str:
        async def encode() -> str:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._encoders, data_url, media, *self._limits)

        return await self._pictures.get(media.key, encode)

    # --- what is learned about the server ---------------------------------------------------------

    async def _dialect(self) -> Dialect:
        return await self._known_dialect.get("", self._learn_dialect)

    async def _tail(self) -> str:
        return await self._known_tail.get("", lambda: chat_tail(self._post_aside))

    async def _learn_dialect(self) -> Dialect:
        """By who owns the models it lists. A server that lists none, or fails to (`transformers serve`
        without a cache folder does), is asked for nothing beyond OpenAI's own fields."""
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
