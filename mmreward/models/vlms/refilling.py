"""Texts of many batches, written in one: those that wait take the room of those that have ended.

A batch is as long as its longest text, and texts are of very different lengths. Where the next batch of the
same network waits already, its prompts are computed as soon as a quarter of the room is free, and their rows
join the others (`Decoder.join`). Words do not change by that: each row depends on its own states and seed.
transformers' own continuous batching (5.24) takes ids and places in a line alone, so no pictures and no
M-RoPE, and has one seed for all.

Knows the engine's `Feed`, and nothing of chats.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import takewhile
from typing import Any

from ...engine.batching import Feed
from .decoding import LIVE, Decoder, Start, Text, Writing
from .prompts import Grove


def refilled(
    feed: Feed,
    decoder: Decoder,
    start: Callable[[Grove], Start],
    pad: int,
    written: Callable[[list[int], bool], Any],
) -> None:
    """Write every text that the feed has and that comes meanwhile; a batch is done with its last text.

    Args:
        feed: of batches (grove, items), whose items' details are samplings.
        decoder: without rows.
        start: computes a grove's prompts.
        pad: id of padding.
        written: the result of a row that has ended, of its ids and whether it ended by itself.
    """
    groves: dict[int, Grove] = {}
    results: dict[int, list[Any]] = {}
    left: list[int] = []
    """Texts of each batch that are being written or wait."""

    def more() -> list[Text]:
        if (batch := feed.take()) is None:
            return []
        number, (grove, items) = len(left), batch
        groves[number], results[number] = grove, [None] * len(items)
        left.append(len(items))
        pairs = enumerate(zip(grove.prompts, items, strict=True))
        return [Text(prompt.ids, item.detail, (number, at), prompt.share) for at, (prompt, item) in pairs]

    def begun(texts: Sequence[Text]) -> Start:
        # Of one batch, as more is asked for when none waits: what marks a picture's tokens is a batch's own.
        grove = groves[texts[0].tag[0]]
        if len(texts) == len(grove.prompts):
            return start(grove)
        return start(Grove.of([grove.prompts[text.tag[1]] for text in texts], pad))

    for row in continuous(decoder, more, begun):
        number, at = row.text.tag
        results[number][at] = written(row.ids, row.stopped)
        left[number] -= 1
        if not left[number]:
            feed.done(number, results.pop(number))
            del groves[number]  # and the pictures of its prompts


def continuous(
    decoder: Decoder,
    more: Callable[[], Sequence[Text]],
    start: Callable[[Sequence[Text]], Start],
) -> Iterator[Writing]:
    """Rows as they end, while texts that wait take the room of those that have ended.

    As much is written at once as the largest batch that came takes alone, in entries of the cache, each row
    padded to the longest. Others are let in when a quarter of that is free: to let one in copies the cache.
    Those whose prompts share a beginning come in together, as apart each would compute it, unless they are
    more than half of what is written at once.

    Args:
        decoder: without rows.
        more: the next batch that waits, empty if none does; asked when there is room.
        start: prompts computed, from which writing goes on.
    """
    waiting: deque[Text] = deque()
    most = 0
    while True:
        live = [row.text for row in decoder.live]
        if not waiting and _load(live) <= LIVE * most:
            waiting.extend(more())
            most = max(most, _load(waiting))
        chosen: list[Text] = []
        if not live or _load(live) <= LIVE * most:
            while family := _family(waiting, most):
                if _load([*live, *chosen, *family]) > most:
                    break
                chosen += family
                for _ in family:
                    waiting.popleft()
        if chosen:
            decoder.join(chosen, start(chosen))
        if not decoder.rows:
            return
        yield from decoder.write()


def _family(waiting: Collection[Text], most: int) -> list[Text]:
    """The texts that come in together next."""
    first = next(iter(waiting), None)
    if first is None or first.share is None:
        return [] if first is None else [first]
    alike = list(takewhile(lambda text: text.share == first.share, waiting))
    return alike if _load(alike) <= most / 2 else [first]


def _load(texts: Collection[Text]) -> int:
    return max((text.tokens for text in texts), default=0) * len(texts)
