"""What a vision-language model is asked and what it answers, wherever it runs. Imports no torch."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..media import Media

Pictures = Media | Sequence[Media] | None


class Turn(NamedTuple):
    """An earlier question, and what was answered."""

    question: str
    answer: str


class Ask(NamedTuple):
    """A question, and the turns before it. Pictures come first, then text, so that questions about one
    picture share a prefix."""

    media: tuple[Media, ...]
    text: str
    system: str = ""
    history: tuple[Turn, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        return (*(media.key for media in self.media), self.text, self.system, self.history)

    @property
    def said(self) -> str:
        """All text there is, to be measured and searched."""
        return "\n".join([self.system, *(text for turn in self.history for text in turn), self.text])

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


def messages(ask: Ask, pictures: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The conversation; `pictures` are the parts that stand for the media, before the first text."""
    questions = [*(turn.question for turn in ask.history), ask.text]
    said: list[dict[str, Any]] = []
    if ask.system:
        said.append({"role": "system", "content": [{"type": "text", "text": ask.system}]})
    for place, question in enumerate(questions):
        shown = list(pictures) if place == 0 else []
        said.append({"role": "user", "content": [*shown, {"type": "text", "text": question}]})
        if place < len(ask.history):
            answer = {"type": "text", "text": ask.history[place].answer}
            said.append({"role": "assistant", "content": [answer]})
    return said


def media_of(pictures: Pictures) -> tuple[Media, ...]:
    """One picture, several or none, as a tuple."""
    if pictures is None:
        return ()
    return (pictures,) if isinstance(pictures, Media) else tuple(pictures)
