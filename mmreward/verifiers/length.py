"""How long a response is, and what it loses by that."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from ..failures import Unscorable
from .answer import segment
from .verdict import Verdict

PARTS = ("length", "over")

Unit = Literal["tokens", "words", "characters"]
Curve = Literal["cosine", "linear"]


def length_of(text: str, meta: Mapping[str, Any], unit: Unit) -> int:
    """The response's length; tokens are counted by whoever has the tokenizer, in `meta["tokens"]`.

    Raises:
        Unscorable: "missing" when tokens are wanted and not given, or given as no whole number of at least 0.
    """
    if unit == "words":
        return len(text.split())
    if unit == "characters":
        return len(text)
    tokens = meta.get("tokens")
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
        raise Unscorable(
            f'meta["tokens"] is {tokens!r}: give the number of tokens of the response, or count its words',
            "missing",
        )
    return tokens


def falling(length: float, limit: float, span: float, curve: Curve = "cosine") -> float:
    """1 up to limit - span, 0 from limit on, and falling in between: half a cosine wave, or a straight line.

    Clamped, so a response beyond the limit gains nothing back. With span = limit and "cosine" it is the
    cosine of arXiv:2502.03373 on [0, 1]; with "linear" it is DAPO's soft overlong punishment
    (arXiv:2503.14476) plus 1, span being its cache.
    """
    over = min(max((length - limit + span) / span, 0.0), 1.0)
    return 1 - over if curve == "linear" else (1 + math.cos(math.pi * over)) / 2


def judge(text: str, length: int, *, limit: int, span: int, curve: Curve = "cosine") -> Verdict:
    """`falling` of the length of a whole response.

    Raises:
        Unscorable: "unparsable" when the text is empty, or `segment` finds it cut off or with two answers.
    """
    if not any(segment(text, bare=True)):
        raise Unscorable("the response is empty", "unparsable")
    return Verdict(
        falling(length, limit, span, curve), {"length": float(length), "over": float(length > limit)}
    )
