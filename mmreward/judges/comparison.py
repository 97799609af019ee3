"""Comparisons: two pictures for one request, or two answers to one question about what is shown, in the order
a judge sees them, and the better one's place.

Made from preference pairs here, and from shapes world in `miniature`. Knows nothing of how a judge is asked.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from ..data.pair_folder import PreferencePair, without_ties
from ..data.response_pairs import ResponsePair
from ..media import Media
from ..types import Sample

Place = Literal["1", "2"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of two pictures or of two answers, as one question to a judge.

    Args:
        id: the same for both orders of a pair.
        request: the prompt that both pictures were made for, or the question that both answer.
        pictures: in the order they are shown; of answers, what the question is about.
        better: place of the better one.
        answers: in the order they are shown; None compares the pictures.
    """

    id: str
    request: str
    pictures: tuple[Media, ...]
    better: Place
    answers: tuple[str, str] | None = None

    @property
    def swapped(self) -> "Comparison":
        """The same two in the other order."""
        better: Place = "1" if self.better == "2" else "2"
        if self.answers is not None:
            return replace(self, answers=self.answers[::-1], better=better)
        return replace(self, pictures=self.pictures[::-1], better=better)

    def sample(self, question: str, response: str) -> Sample:
        """Sample of a judge's response to this comparison, for rewards that verify it."""
        return Sample(
            id=self.id, prompt=question, inputs=self.pictures, response=response, target=self.better
        )


def both_orders(compared: Iterable[Comparison]) -> list[Comparison]:
    """Every comparison and its other order, next to each other: a judge that always names the same place is
    right half the time, however the comparisons were chosen."""
    return [order for one in compared for order in (one, one.swapped)]


def comparisons(pairs: Iterable[PreferencePair]) -> list[Comparison]:
    """Comparisons of preference pairs, in an order that only a pair's content decides: no place is right more
    often.

    A judge trained on pairs whose better picture always comes first learns to say "1", and an evaluation that
    does the same cannot tell (R1-Reward's does).

    Raises:
        ValueError: a pair of clips, or a tie.
        Unscorable: a picture that cannot be read.
    """
    found = []
    for number, pair in enumerate(without_ties(list(pairs), "a judge")):
        if "video" in (pair.chosen.kind, pair.rejected.kind):
            raise ValueError(f"pair {number} is of clips; a comparison is of two pictures")
        given = Comparison(f"{number:06d}", pair.prompt, (pair.chosen, pair.rejected), "1")
        found.append(_placed(given, pair.chosen.digest, pair.rejected.digest))
    return found


def comparisons_of_answers(pairs: Iterable[ResponsePair]) -> list[Comparison]:
    """Comparisons of pairs of responses, likewise.

    Raises:
        ValueError: a pair about a clip, of equal responses, or a tie.
    """
    found = []
    for number, pair in enumerate(without_ties(list(pairs), "a judge")):
        if any(media.kind == "video" for media in pair.media):
            raise ValueError(f"pair {number} is about a clip; a comparison is about pictures")
        if pair.chosen == pair.rejected:
            raise ValueError(f"pair {number} has twice the same response: {pair.chosen[:60]!r}")
        given = Comparison(f"a-{number:06d}", pair.prompt, pair.media, "1", (pair.chosen, pair.rejected))
        found.append(_placed(given, pair.chosen, pair.rejected))
    return found


def _placed(given: Comparison, chosen: str, rejected: str) -> Comparison:
    content = "\0".join((given.request, *sorted((chosen, rejected))))
    first = hashlib.blake2b(content.encode("utf-8", "replace"), digest_size=1).digest()[0] % 2 == 0
    return given if first == (chosen < rejected) else given.swapped
