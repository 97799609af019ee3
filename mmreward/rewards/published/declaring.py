"""Declaration of a published judge: its prompt, what it is shown, its grammar, and how marks become a value.

A family's file declares a `Judge` and registers a reward whose function is `judged(...)`. The prompt is the
publisher's (`words="published"`: found by its hash in the file at its address, see `models.pinned`), ours
(`words="own"`), or a file's. A grammar reads one text into `Marks`, or `PairMarks` of two candidates, and
raises `Unscorable` for everything else; it never guesses. Several votes are several samples of one prompt:
their prefix is computed once, and their spread is `parts["uncertainty"]`.
"""

from asyncio import gather
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean, pstdev
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from ...engine.clips import chosen
from ...errors import Unscorable
from ...media import Media
from ...models.vlms.answers import Turn, Writer, shown_to
from ...reading import aside
from ...tracing import noted
from ...types import Sample, Score
from ..judged.likelihood import reply_of
from .wording import Prompt, Wording, values_of

M = TypeVar("M", "Marks", "PairMarks")

# --- what is shown ----------------------------------------------------------------------------------------

Look = Callable[[Sequence[Sample]], Sequence[Media]]


def picture(place: int = 0) -> Look:
    """The picture of a sample."""

    def look(samples: Sequence[Sample]) -> Sequence[Media]:
        if (found := samples[place].image) is None:
            raise Unscorable("there is no image", "missing")
        return (found,)

    return look


def source() -> Look:
    """The picture that was edited: the first of `inputs`, the same for both of a pair."""

    def look(samples: Sequence[Sample]) -> Sequence[Media]:
        if not all(sample.inputs for sample in samples):
            raise Unscorable("there is no source picture: it is the first of `inputs`", "missing")
        first = samples[0].inputs[0]
        if any(sample.inputs[0].key != first.key for sample in samples):
            raise Unscorable("the two pictures of a pair were edited from different sources")
        return (first,)

    return look


def answered() -> Look:
    """Pictures or clip of the question that was answered, the same for both of a pair; there may be none."""

    def look(samples: Sequence[Sample]) -> Sequence[Media]:
        first, *others = [shown_to(sample) for sample in samples]
        if any([media.key for media in other] != [media.key for media in first] for other in others):
            raise Unscorable("the two responses of a pair are to different pictures")
        return first

    return look


def clip(place: int = 0) -> Look:
    """The clip of a sample, of which the model takes its own frames."""

    def look(samples: Sequence[Sample]) -> Sequence[Media]:
        return (_video(samples[place]),)

    return look


def frames(count: int, rule: Literal["floor", "ends"], place: int = 0) -> Look:
    """So many frames of a clip as pictures; a shorter clip has frames twice, as its judge was trained.

    Args:
        count: of frames, N of the clip's T.
        rule: "floor" takes frame floor(n * T / N), which is never the last; "ends" floor of N numbers evenly
            spaced from 0 to T - 1.
    """

    def numbers(total: int) -> list[int]:
        if total < 1:
            raise Unscorable("the video has no frames")
        if rule == "floor":
            return [number * total // count for number in range(count)]
        return [number * (total - 1) // (count - 1) for number in range(count)]

    def look(samples: Sequence[Sample]) -> Sequence[Media]:
        return chosen(_video(samples[place]), numbers)

    return look


def _video(sample: Sample) -> Media:
    if sample.video is None:
        raise Unscorable("there is no video", "missing")
    return sample.video


# --- marks ------------------------------------------------------------------------------------------------


class Marks(NamedTuple):
    """Reading of one judgement: marks by aspect on the judge's scale (None where it says N/A), the final mark
    that the judge itself states, words about what contradicts itself, and each mark's place in the text."""

    scores: Mapping[str, float | None]
    final: float | None = None
    contradiction: str = ""
    spans: Mapping[str, tuple[int, int]] = {}

    @property
    def parts(self) -> dict[str, float]:
        return {name: mark for name, mark in self.scores.items() if mark is not None}


class PairMarks(NamedTuple):
    """Reading of one comparison: marks of both by aspect, the verdict ("1", "2", "" for a tie, None where the
    form has none), and words about what contradicts itself."""

    first: Mapping[str, float | None]
    second: Mapping[str, float | None]
    verdict: str | None = None
    contradiction: str = ""

    @property
    def parts(self) -> dict[str, float]:
        """Difference of the two by aspect: it is negated, and no more, in the other order."""
        return {
            name: mark - other
            for name, mark in self.first.items()
            if mark is not None and (other := self.second.get(name)) is not None
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge(Generic[M]):
    """One form of a published judge.

    Args:
        prompt: its words.
        shows: what it looks at, in order; before the text, unless the template has `<image>`.
        grammar: reading of what it wrote.
        aggregate: value of its marks.
    """

    prompt: Prompt
    shows: tuple[Look, ...]
    grammar: Callable[[str], M]
    aggregate: Callable[[M], float]


class Options(NamedTuple):
    """Options of every published judge, as its factory has them."""

    max_tokens: int
    temperature: float
    seed: int
    votes: int = 1
    contradictions: Literal["fail", "keep"] = "fail"

    def checked(self) -> "Options":
        """These.

        Raises:
            ValueError: several votes at temperature 0, which are one; no votes.
        """
        if self.votes < 1:
            raise ValueError(f"votes is {self.votes}; a judge is asked at least once")
        if self.votes > 1 and self.temperature <= 0:
            raise ValueError(f"{self.votes} votes at temperature 0 are one and the same: set temperature=0.7")
        return self


async def judged(
    vlm: Writer, judge: Judge[M], wording: Wording, samples: Sequence[Sample], options: Options
) -> Score:
    """Score of a sample, or of the first of a pair, by a judge's votes.

    Raises:
        Unscorable: "missing" without what the judge is shown; with the status of the first that failed where
            half of the votes or more did.
    """
    media, text, places = await shown(judge, wording, samples)

    async def vote(number: int) -> tuple[M, float, str]:
        words = await written(vlm, media, text, wording, options, options.seed + number, places)
        marks = judge.grammar(words)
        noted("marks", "{}", marks.parts or marks)
        parts = dict(marks.parts)
        if marks.contradiction and options.contradictions == "fail":
            reason = f"the judgement contradicts itself: {marks.contradiction}: {words[-200:]}"
            raise Unscorable(reason, "unparsable", parts)
        return marks, judge.aggregate(marks), words

    cast = await gather(*(vote(number) for number in range(options.votes)), return_exceptions=True)
    score = counted(cast, options)
    # One vote on a pair says nothing of itself; the engine adds what the other order says.
    return replace(score, parts={"uncertainty": 0.0, **score.parts}) if len(samples) > 1 else score


async def judged_answers(
    vlm: Writer, judge: Judge[PairMarks], wording: Wording, samples: Sequence[Sample], options: Options
) -> Score:
    """Score of the first of two responses, of which the judge reads what follows the reasoning.

    A response that is empty or was cut off loses to one that is not, without a question to the judge.

    Raises:
        Unscorable: "unparsable" where both are so; see also `judged`.
    """
    replies = [_reply(sample) for sample in samples]
    if not any(replies):
        raise Unscorable("both responses are empty or cut off", "unparsable")
    if not all(replies):
        return Score(float(bool(replies[0])), {"uncertainty": 0.0}, note="the other is empty or cut off")
    shown_ = [replace(one, response=reply) for one, reply in zip(samples, replies, strict=True)]
    return await judged(vlm, judge, wording, shown_, options)


def _reply(sample: Sample) -> str:
    try:
        return reply_of(sample.response or "")
    except Unscorable:
        return ""


def counted(cast: Sequence[Any], options: Options) -> Score:
    """Score of votes, each (marks, value, words) or the exception that it ended in."""
    for vote in cast:
        if isinstance(vote, BaseException) and not isinstance(vote, Unscorable):
            raise vote
    valid = [vote for vote in cast if not isinstance(vote, BaseException)]
    if 2 * len(valid) <= len(cast):
        first = next(vote for vote in cast if isinstance(vote, Unscorable))
        if len(cast) == 1:
            raise first
        said = f"{len(cast) - len(valid)} of {len(cast)} votes failed, the first so: {first}"
        raise Unscorable(said, first.status, first.parts)
    values = [value for _, value, _ in valid]
    read = [marks.parts for marks, _, _ in valid]
    parts = {name: fmean(one[name] for one in read) for name in read[0] if all(name in one for one in read)}
    if options.contradictions == "keep":
        parts["contradiction"] = fmean(bool(marks.contradiction) for marks, _, _ in valid)
    if len(cast) > 1:
        parts |= {"votes": float(len(valid)), "uncertainty": pstdev(values)}
    return Score(fmean(values), parts, note=valid[0][2])


async def shown(
    judge: Judge[M], wording: Wording, samples: Sequence[Sample]
) -> tuple[tuple[Media, ...], str, tuple[int, ...]]:
    """Pictures, text, and the places of the pictures in it.

    Raises:
        Unscorable: "missing" without what the judge is shown; a pair of two requests.
    """
    if len({sample.prompt for sample in samples}) > 1:
        raise Unscorable("the two of a pair were made for different requests")
    look = partial(_looked, judge.shows, samples)
    media = await aside(look) if any(sample.video is not None for sample in samples) else look()
    text, places = wording.filled(values_of(samples))
    if places and len(places) != len(media):
        raise Unscorable(f"the words have {len(places)} places for {len(media)} pictures")
    return media, text, places


def _looked(shows: Sequence[Look], samples: Sequence[Sample]) -> tuple[Media, ...]:
    return tuple(media for look in shows for media in look(samples))


async def written(
    vlm: Writer,
    media: Sequence[Media],
    text: str,
    wording: Wording,
    options: Options,
    seed: int,
    places: Sequence[int] = (),
    history: Sequence[Turn] = (),
) -> str:
    """A judge's whole text.

    Raises:
        Unscorable: "unparsable" when it was cut off; see also `VLM.write`.
    """
    said = await vlm.write(
        media,
        text,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        seed=seed,
        system=wording.system,
        history=history,
        places=places,
    )
    if not said.finished:
        raise Unscorable(f"cut off after {said.tokens} tokens: {said.text[:200]}", "unparsable")
    return said.text


# --- from marks to a value --------------------------------------------------------------------------------


def mean_between(low: float, high: float) -> Callable[[Marks], float]:
    """Mean of the marks that apply, mapped from [low, high] to [0, 1]."""

    def aggregate(marks: Marks) -> float:
        if not marks.parts:
            raise Unscorable("no aspect applies", "na")
        return (fmean(marks.parts.values()) - low) / (high - low)

    return aggregate


def final_between(low: float, high: float) -> Callable[[Marks], float]:
    """The final mark, mapped from [low, high] to [0, 1]."""

    def aggregate(marks: Marks) -> float:
        assert marks.final is not None, "the grammar demands one"
        return (marks.final - low) / (high - low)

    return aggregate


def by_sum(marks: PairMarks) -> float:
    """1 where the first has the larger sum of marks, 0 where the second has, 0.5 where they are equal."""
    if not marks.parts:
        raise Unscorable("no aspect applies to both", "na")
    difference = sum(marks.parts.values())
    return 0.5 if abs(difference) < 1e-9 else float(difference > 0)


def by_verdict(marks: PairMarks) -> float:
    """1 for the verdict "1", 0 for "2", 0.5 for a tie."""
    return 0.5 if not marks.verdict else float(marks.verdict == "1")


def by_share(marks: PairMarks) -> float:
    """Mean over aspects of the share that the first has of the two marks' sum, which is 1."""
    if not marks.first:
        raise Unscorable("there are no marks", "missing")
    return fmean(mark for mark in marks.first.values() if mark is not None)
