"""Label probabilities from the likeliest tokens a chat server shows, and a vLLM server's tokenizer.

A server shows some tokens of the first position with their log-probabilities: exactly the asked ones, or the
top k. What is not among the top k has at most the probability of the k-th, and never simply none: `read_of`
answers only when all that is hidden could change no label's probability noticeably.

The second part asks vLLM which token ids a label or a continuation has there. Knows nothing of requests
beyond a function that posts one; imports no torch.
"""

import math
from asyncio import gather
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from ...errors import Unscorable
from ..vlms.answers import Read, check_sets, continuation_span, sole_token, spellings
from .chat import parse

# --- label probabilities --------------------------------------------------------------------------

MAX_SHIFT = 1e-3
"""A read is answered when all that is not visible could move no label's probability by more than this."""

ROUNDING = 1e-5
"""By how much the visible probabilities may together be too high, as servers compute and print them."""


class Seen(NamedTuple):
    """Visible token: its name in the answer, and its probability."""

    token: str
    prob: float


def read_of(
    seen: Sequence[Seen], labels: Sequence[str], names: Sequence[frozenset[str]], *, whole_words: bool
) -> Read:
    """Label probabilities, renormalised over what is visible of the labels; `mass` is their visible
    probability.

    Args:
        seen: the visible tokens; when a label's spelling is missing, the likeliest of all tokens.
        labels: two or more.
        names: for each label, the names of its spellings in `seen`.
        whole_words: True when every name is known to be one token. Otherwise a visible beginning of a label
            that is not visible itself ("red" for "red circle") counts as possibly being that label.

    Raises:
        Unscorable: "unparsable" when no label is visible, or when the invisible rest could move a label's
            probability by more than MAX_SHIFT. "error" when the numbers are no probabilities.
    """
    total = math.fsum(prob for _, prob in seen)
    if not seen or total > 1.01:
        raise Unscorable(
            f"the visible tokens have a probability of {total:.3f} together: the server must report raw "
            "log-probabilities (vLLM: --logprobs-mode raw_logprobs)"
        )
    visible = [math.fsum(prob for token, prob in seen if token in spelled) for spelled in names]
    tokens = {token for token, _ in seen}
    lacking = sum(len(spelled - tokens) for spelled in names)
    rest = max(0.0, 1.0 - total) + ROUNDING
    # Two bounds on what the hidden spellings have together. `seen` are the k likeliest tokens, so none that
    # is hidden is likelier than the least of them; and all hidden tokens together have no more than what is
    # left of one. The smaller bound holds. Counting a hidden spelling as 0 would turn a peaked distribution
    # over other words into a confident answer.
    unseen = min(lacking * min(prob for _, prob in seen), rest) if lacking else 0.0
    if not whole_words:
        absent = [spelled for spelled, prob in zip(names, visible, strict=True) if prob == 0.0]
        unseen += math.fsum(prob for token, prob in seen if _begins(token, absent))
    mass = math.fsum(visible)
    # With V visible and U unseen, a label with v of V has a true share between v / (V + U) and
    # (v + U) / (V + U): neither differs from v / V by more than U / (V + U).
    shift = unseen / (mass + unseen) if mass + unseen > 0 else 1.0
    if mass == 0.0 or shift > MAX_SHIFT:
        hidden = [label for label, prob in zip(labels, visible, strict=True) if prob == 0.0]
        raise Unscorable(
            f"the top {len(seen)} tokens do not settle it: they hold {mass:.4f} of the labels' probability "
            f"({', '.join(hidden) or 'some spellings'} not visible) and up to {unseen:.4f} outside; "
            "a vLLM server with logprob_token_ids reads labels exactly",
            "unparsable",
        )
    return Read({label: prob / mass for label, prob in zip(labels, visible, strict=True)}, mass)


def _begins(token: str, names: Sequence[frozenset[str]]) -> bool:
    word = token.strip()
    return bool(word) and any(
        name.strip().startswith(word) and name.strip() != word for spelled in names for name in spelled
    )


# --- the server's tokenizer -----------------------------------------------------------------------

Post = Callable[[str, dict[str, Any]], Awaitable[bytes]]
"""Posts a JSON body to a path and returns the answer's bytes."""


class Tokenized(BaseModel):
    tokens: list[int]


class Detokenized(BaseModel):
    prompt: str


async def chat_tail(post: Post) -> str:
    """Text that the server's chat template puts between the user's last word and the answer.

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
    """Token ids of each label's one-token spellings after `tail`; the rule of `answers.label_sets`.

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
        Unscorable: as `answers.continuation_span`.
    """
    texts = dict.fromkeys((tail, tail + given, tail + given + continuation))
    encoded = dict(zip(texts, await gather(*(_encode(post, text) for text in texts)), strict=True))
    prompt, before, whole = (encoded[text] for text in (tail, tail + given, tail + given + continuation))
    return whole, continuation_span(prompt, before, whole, continuation)


async def _encode(post: Post, text: str) -> list[int]:
    return parse(Tokenized, await post("/tokenize", {"prompt": text, "add_special_tokens": False})).tokens


async def _decode(post: Post, ids: Sequence[int]) -> str:
    return parse(Detokenized, await post("/detokenize", {"tokens": list(ids)})).prompt
