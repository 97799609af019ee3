"""A vLLM server's own tokenizer, asked over HTTP: which token ids a label or a continuation has there."""

from asyncio import gather
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pydantic import BaseModel

from ..failures import Unscorable
from .chat import parse
from .labels import check_sets, sole_token, spellings
from .span import continuation_span

Post = Callable[[str, dict[str, Any]], Awaitable[bytes]]
"""Sends a JSON body to a path and gives back the answer's bytes."""


class Tokenized(BaseModel):
    tokens: list[int]


class Detokenized(BaseModel):
    prompt: str


async def chat_tail(post: Post) -> str:
    """What the server's chat template puts between the user's last word and the answer.

    Raises:
        Refused: the server has no such endpoints.
    """
    question: dict[str, Any] = {"messages": [{"role": "user", "content": "?"}], "add_generation_prompt": True}
    ids = parse(Tokenized, await post("/tokenize", question)).tokens
    _, found, tail = (await _decode(post, ids)).rpartition("?")
    if not found:
        raise Unscorable("the server's chat template does not show the user's words")
    return tail


async def label_ids(post: Post, tail: str, labels: Sequence[str]) -> list[list[int]]:
    """Token ids of each label's one-token spellings after `tail`; the rule of `labels.label_sets`.

    Raises:
        ValueError: a label without a one-token spelling, or two labels sharing a token.
    """
    before = await _encode(post, tail)

    async def token(spelling: str) -> int | None:
        found = sole_token(before, await _encode(post, tail + spelling))
        # The token for unknown words stands for any spelling and spells none.
        known = found is not None and (await _decode(post, [found])).strip() == spelling.strip()
        return found if known else None

    async def tokens(label: str) -> list[int]:
        found = await gather(*map(token, spellings(label)))
        return sorted({one for one in found if one is not None})

    sets = await gather(*map(tokens, labels))
    check_sets(labels, sets)
    return sets


async def continuation_ids(post: Post, tail: str, given: str, continuation: str) -> tuple[list[int], int]:
    """The token ids of tail, given text and continuation together, and how many are the continuation's.

    Raises:
        Unscorable: as `span.continuation_span`.
    """
    texts = dict.fromkeys((tail, tail + given, tail + given + continuation))
    encoded = dict(zip(texts, await gather(*(_encode(post, text) for text in texts)), strict=True))
    prompt, before, whole = (encoded[text] for text in (tail, tail + given, tail + given + continuation))
    return whole, continuation_span(prompt, before, whole, continuation)


async def _encode(post: Post, text: str) -> list[int]:
    return parse(Tokenized, await post("/tokenize", {"prompt": text, "add_special_tokens": False})).tokens


async def _decode(post: Post, ids: Sequence[int]) -> str:
    return parse(Detokenized, await post("/detokenize", {"tokens": list(ids)})).prompt
