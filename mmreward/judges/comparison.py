"""Comparisons: two pictures for one request, in the order a judge sees them, and the better one's place.

Made from preference pairs here, and from shapes world in `miniature`. Knows nothing of questions or answers.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..data.pair_folder import PreferencePair, without_ties
from ..media import Media
from ..types import Sample

Place = Literal["1", "2"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of two pictures, as one question to a judge.

    Args:
        id: the same for both orders of a pair.
        request: the prompt that both pictures were made for.
        pictures: in the order they are shown.
        better: place of the better one.
    """

    id: str
    request: str
    pictures: tuple[Media, Media]
    better: Place

    @property
    def swapped(self) -> "Comparison":
        """The same pictures in the other order."""
        first, second = self.pictures
        return Comparison(self.id, self.request, (second, first), "1" if self.better == "2" else "2")

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
        chosen, rejected = pair.chosen.digest, pair.rejected.digest
        content = "\0".join((pair.prompt, *sorted((chosen, rejected))))
        first = hashlib.blake2b(content.encode("utf-8", "replace"), digest_size=1).digest()[0] % 2 == 0
        given = Comparison(f"{number:06d}", pair.prompt, (pair.chosen, pair.rejected), "1")
        found.append(given if first == (chosen < rejected) else given.swapped)
    return found
