"""How many tokens at the end of a text are a continuation's, where tokens may reach across its beginning."""

from collections.abc import Sequence
from itertools import takewhile

from ..failures import Unscorable


def continuation_span(
    prompt: Sequence[int], before: Sequence[int], whole: Sequence[int], continuation: str
) -> int:
    """Tokens of `whole` from the first that the continuation brought or changed.

    One that reaches back into what the answer was given to begin with counts as the continuation's.

    Args:
        prompt: of the chat up to where the answer begins.
        before: of the prompt and what the answer begins with.
        whole: of all that and the continuation.
        continuation: for the message.

    Raises:
        Unscorable: the continuation is empty, or a token reaches back into the prompt.
    """
    kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, whole, strict=False)))
    if kept < len(prompt) or kept == len(whole) or list(whole[: len(prompt)]) != list(prompt):
        raise Unscorable(f"continuation {continuation[:40]!r} does not begin with a token of its own")
    return len(whole) - kept
