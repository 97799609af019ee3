"""Questions to a vision-language model: an `Ask` with its pictures, earlier turns, and its chat messages.

A first question's pictures come before its text or at places within it. A later question has those that its
`Turn` brought, such as what a tool cut out of a picture. `answers` has the other half, and the protocol.

Imports no torch, and knows nothing of networks or sockets.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...media import Media
from ...types import Sample

Pictures = Media | Sequence[Media] | None


class Turn(NamedTuple):
    """An earlier question and its answer, and pictures that the question after it shows."""

    question: str
    answer: str
    shown: tuple[Media, ...] = ()
    at: int = 0
    """Characters of the question after this answer that stand before `shown`."""


class Ask(NamedTuple):
    """A question, and the turns before it. Pictures come first, then text, so that questions about one
    picture share a prefix; a published prompt may have them within its text, at `places`."""

    media: tuple[Media, ...]
    text: str
    system: str = ""
    history: tuple[Turn, ...] = ()
    places: tuple[int, ...] = ()
    """Characters of the text before each picture or clip, in rising order; empty puts all of them first."""
    open: bool = False
    """True where the text is left open, so that what follows is in the person's own words."""
    later: tuple[tuple[int, int], ...] = ()
    """For each turn of the history, how many of the last of `media` the question after it shows, and after
    how many characters; empty where the first question shows all."""

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal questions about pictures of equal content."""
        own = (*(media.key for media in self.media), self.text, self.system, self.history, self.places)
        return (*own, *self.later, *(["open"] if self.open else []))

    @property
    def words(self) -> str:
        """System message, history and question as one text, to be measured and searched."""
        return "\n".join([self.system, *(text for turn in self.history for text in turn[:2]), self.text])

    @property
    def share(self) -> tuple[str, ...]:
        """Equal for asks that begin alike: with the same picture, or without one with the same text."""
        if self.media and self.places and self.places[0]:
            return (self.system, self.text[: self.places[0]])
        return (self.system, self.media[0].key if self.media else self.text)


def asked(
    pictures: Pictures,
    text: str,
    system: str = "",
    history: Sequence[Turn] = (),
    places: Sequence[int] = (),
    open: bool = False,
) -> Ask:
    """A question, checked.

    Raises:
        ValueError: places that are not one for each picture, not in order, outside the text, or given with a
            history; later pictures outside of their question.
    """
    media, at = media_of(pictures), tuple(places)
    if at and (
        len(at) != len(media) or history or list(at) != sorted(at) or not 0 <= at[0] <= at[-1] <= len(text)
    ):
        raise ValueError(
            f"places {list(at)} are no rising places of {len(media)} pictures in a first question of "
            f"{len(text)} characters"
        )
    if not any(turn.shown for turn in history):
        return Ask(media, text, system, tuple(history), at, open)
    following = [*(turn.question for turn in history[1:]), text]
    for turn, question in zip(history, following, strict=True):
        if not 0 <= turn.at <= len(question):
            raise ValueError(f"a picture after {turn.at} characters of a question of {len(question)}")
    later = tuple((len(turn.shown), turn.at) for turn in history)
    media += tuple(picture for turn in history for picture in turn.shown)
    said = tuple(Turn(turn.question, turn.answer) for turn in history)
    return Ask(media, text, system, said, at, open, later)


def media_of(pictures: Pictures) -> tuple[Media, ...]:
    """One picture, several or none, as a tuple."""
    if pictures is None:
        return ()
    return (pictures,) if isinstance(pictures, Media) else tuple(pictures)


def shown_to(sample: Sample) -> tuple[Media, ...]:
    """The media that policy and judge see: the image or clip, then the inputs. Adapters put a prompt's first
    picture into the image and the others into the inputs."""
    return (*(() if sample.shown is None else (sample.shown,)), *sample.inputs)


Parts = Sequence[Mapping[str, Any]]
"""Parts of a message that stand for one picture or clip."""


def messages(ask: Ask, pictures: Sequence[Parts]) -> list[dict[str, Any]]:
    """Chat messages of a question; `pictures` are the parts that stand for the media, in their order: before
    the first text or at its places, and within later texts where they were shown there."""
    questions = [*(turn.question for turn in ask.history), ask.text]
    chat: list[dict[str, Any]] = []
    if ask.system:
        chat.append({"role": "system", "content": [{"type": "text", "text": ask.system}]})
    used = len(ask.media) - sum(number for number, _ in ask.later)
    for place, question in enumerate(questions):
        if place == 0:
            shown, places = pictures[:used], ask.places or (0,) * used
        elif ask.later:
            number, at = ask.later[place - 1]
            shown, places = pictures[used : used + number], (at,) * number
            used += number
        else:
            shown, places = (), ()
        chat.append({"role": "user", "content": _laid(question, shown, places)})
        if place < len(ask.history):
            answer = {"type": "text", "text": ask.history[place].answer}
            chat.append({"role": "assistant", "content": [answer]})
    return chat


def _laid(text: str, pictures: Sequence[Parts], places: Sequence[int]) -> list[Mapping[str, Any]]:
    """Pictures and the pieces of text between them, none of which is empty unless it is all there is."""
    content: list[Mapping[str, Any]] = []
    end = 0
    for picture, place in zip(pictures, places, strict=True):
        if place > end:
            content.append({"type": "text", "text": text[end:place]})
        content.extend(picture)
        end = place
    if end < len(text) or not content or not any(places):
        content.append({"type": "text", "text": text[end:]})
    return content
