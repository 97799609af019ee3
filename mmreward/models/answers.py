"""What a vision-language model is asked and what it answers, wherever it runs. Imports no torch."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..media import Media

Pictures = Media | Sequence[Media] | None


class Ask(NamedTuple):
    """One user turn: pictures first, then text, so that questions about one picture share a prefix."""

    media: tuple[Media, ...]
    text: str
    system: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        return (*(media.key for media in self.media), self.text, self.system)

    @property
    def share(self) -> tuple[str, ...]:
        """Equal for asks that begin alike: with the same picture, or without one with the same text."""
        return (self.system, self.media[0].key if self.media else self.text)


class Sampling(NamedTuple):
    """How a text is written: at most so many tokens; temperature 0 is greedy."""

    max_tokens: int
    temperature: float
    seed: int


def sampling_of(max_tokens: int, temperature: float, seed: int) -> Sampling:
    """Raises ValueError for a limit below 1 or a temperature below 0."""
    if max_tokens < 1 or temperature < 0:
        raise ValueError(f"max_tokens {max_tokens} must be at least 1, temperature {temperature} at least 0")
    return Sampling(max_tokens, temperature, seed)


class Read(NamedTuple):
    """What a model would say first, among the labels.

    `probs` is renormalised over the labels; `mass` is the probability the labels had before that. A small
    mass means that the model wanted to say something else, and that `probs` means little.
    """

    probs: dict[str, float]
    mass: float

    @property
    def answer(self) -> str:
        return max(self.probs, key=lambda label: self.probs[label])


class Written(NamedTuple):
    """A model's words; `finished` is False when the token limit cut them off."""

    text: str
    finished: bool
    tokens: int


class LogProb(NamedTuple):
    """Log-probability of a continuation: the sum over its tokens, and how many there are.

    `each` holds every token's own. `certainty` is the self-certainty of the positions that predict them: the
    mean over tokens of KL(uniform || p) in nats, 0 for a uniform guess and without an upper bound. It takes
    the whole vocabulary, which a served model does not show: None there.
    """

    total: float
    tokens: int
    each: tuple[float, ...]
    certainty: float | None = None


def media_of(pictures: Pictures) -> tuple[Media, ...]:
    """One picture, several or none, as a tuple."""
    if pictures is None:
        return ()
    return (pictures,) if isinstance(pictures, Media) else tuple(pictures)
