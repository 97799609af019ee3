"""Critics and writers of `refine`: complaints about a picture from its scores, and better prompts from those.

- A critic is a reward whose `parts` are the dimensions it judges (`critique`: aspects on the judge's scale;
  `checklist`: questions, 1 for the right answer); a reward without parts has its value as its only dimension.
  Nothing here knows a reward's inside beyond its parts.
- A wish is what a checklist question wanted the picture to show, in words that may stand in a prompt: rules,
  no model.
- A writer gets a prompt, its picture and the critique, and gives a better prompt: a rule (`emphasise`) or a
  model (`vlm_writer`). It is given the original prompt every time, so that revisions of revisions do not
  wander off, and its text is checked by `bounded`. It raises `Unscorable` when it has nothing to offer.
"""

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from .. import models
from ..errors import Unscorable
from ..media import Media
from ..registry import Reward
from ..rewards.judged.checklist import checks_of
from ..types import ABOUT, Sample, Score
from ..verifiers.thoughts import after_thinking

# --- critics ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Critic:
    """A reward that criticises.

    Args:
        reward: of arity "point".
        threshold: a dimension below it is a complaint; on the dimensions' own scale, which for `critique` is
            from its `low` to its `high`, for `checklist` 0 to 1.

    Raises:
        ValueError: a reward that compares samples, or a threshold that is no number.
    """

    reward: Reward
    threshold: float = 1.0

    def __post_init__(self) -> None:
        name = self.reward.info.name
        if self.reward.info.arity != "point":
            raise ValueError(f"{name} compares samples; a critic looks at one picture at a time")
        if not math.isfinite(self.threshold):
            raise ValueError(f"the threshold of {name} is {self.threshold}; give a finite number")


class Complaint(NamedTuple):
    """One dimension below its threshold."""

    dimension: str
    value: float
    wish: str
    """The missing thing in words that may stand in a prompt; empty when no rule gives any."""


@dataclass(frozen=True, slots=True)
class Critique:
    """Scores of one picture by all critics, and their complaints."""

    scores: Mapping[str, Score]
    complaints: tuple[Complaint, ...]

    @property
    def failed(self) -> dict[str, Score]:
        """The critics that failed, by name; a critic that does not apply to the picture ("na") has not."""
        return {name: score for name, score in self.scores.items() if not score.ok and score.status != "na"}

    @property
    def satisfied(self) -> bool:
        """True when some critic gave a score, none failed and none complains."""
        scored = any(score.ok for score in self.scores.values())
        return scored and not self.failed and not self.complaints

    @property
    def words(self) -> str:
        """The critics' notes, a line each."""
        return "\n".join(score.note for score in self.scores.values() if score.ok and score.note)


def critique_of(sample: Sample, scores: Mapping[str, Score], critics: Mapping[str, Critic]) -> Critique:
    """Critique of the sample's picture from its scores, one per critic."""
    wishes = wishes_of(sample)
    complaints = []
    for name, critic in critics.items():
        if scores[name].ok:
            marks = {part: mark for part, mark in scores[name].parts.items() if part not in ABOUT}
            dimensions = marks or {name: scores[name].value}
            complaints += [
                Complaint(dimension, value, wishes.get(dimension, ""))
                for dimension, value in dimensions.items()
                if value < critic.threshold
            ]
    return Critique(scores, tuple(complaints))


# --- wishes -------------------------------------------------------------------------------------------------

NUMBERS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COUNTED = re.compile(r"how many (?P<what>.+?) (?:are|is) (?:there|visible|shown)\b", re.IGNORECASE)
PRESENT = re.compile(r"(?:is|are) there (?P<what>.+?)\?", re.IGNORECASE)
STATED = re.compile(r"(?:is|are) (?P<what>the .+?)\?", re.IGNORECASE)
PLACE = re.compile(r"\s+(?:in|on) (?:the|this) (?:picture|image|photo|clip|video)$", re.IGNORECASE)
ARTICLE = re.compile(r"\bthe\s+", re.IGNORECASE)


def wish_of(question: str, answer: str) -> str:
    """Wish behind a question: "a red circle" of "Is there a red circle?" and "yes"; empty without a rule.

    No wish is made of questions whose right answer is "no" or 0: naming what must not be there puts it into
    the picture.
    """
    if answer.isdecimal() and 0 < int(answer) < len(NUMBERS) and (found := COUNTED.match(question)):
        what = found["what"].removesuffix("s") if answer == "1" else found["what"]
        return f"{NUMBERS[int(answer)]} {what}"
    if answer == "yes" and (found := PRESENT.match(question) or STATED.match(question)):
        article = "a " if question.lower().startswith("is") else ""
        return ARTICLE.sub(article, PLACE.sub("", found["what"]))
    return ""


def wishes_of(sample: Sample) -> dict[str, str]:
    """Wishes of the sample's own checklist by the entry's name; empty when it has none."""
    if "checklist" not in sample.meta:
        return {}
    try:
        checks = checks_of(sample, {})
    except Unscorable:  # the critic fails on it, and its score says why
        return {}
    return {name: wish_of(check.question, check.answer) for name, check in checks.items()}


# --- writers ------------------------------------------------------------------------------------------------

INSTRUCTION = """A text-to-image model was given this prompt:
{current}
The picture it drew was meant to show:
{original}
What is wrong with the picture:
{complaints}
Write a better prompt for the same picture. Keep everything that was meant to be shown, add nothing that \
contradicts it, and stress what went wrong. Answer with the prompt alone, on one line."""
PREAMBLE = re.compile(r"^(?:(?:the |a )?(?:revised|better|new|improved|final)? ?prompt\s*(?:is)?:)\s*", re.I)
QUOTES = "\"'`*\u201c\u201d \t"
COMMON = frozenset(["a", "an", "the", "and", "or", "of", "in", "on", "at", "with", "to", "is", "are", "one"])
"""Words without a meaning of their own, left out of `content_words`."""
JOINT = re.compile(r",\s*(?:and\s+)?|\s+and\s+")


class RevisionRequest(NamedTuple):
    """Input of a writer: the prompt, its picture, and the critique."""

    original: str
    current: str
    """The prompt of the criticised picture."""
    picture: Media | None
    critique: Critique


Writer = Callable[[RevisionRequest], Awaitable[str]]
"""From a request to a prompt; runs inside an engine."""


def emphasise(style: Literal["lead", "append"] = "lead") -> Writer:
    """Rule-based writer: stress those parts of the original prompt that failed checklist questions asked for.

    "lead" moves them to the front and changes no word; a prompt that is one phrase stays as it is. "append"
    repeats them at the end, which a small model takes for more things to draw: over 48 prompts on mini-flow
    the pictures kept were right by the oracle in 0.85 with "lead", 0.71 with "append" and 0.77 without
    revisions, at one seed. Three seeds of 16 other prompts found no difference between "lead" and none
    (evals/tuning.md).

    Raises:
        ValueError: another style.
    """
    if style not in ("lead", "append"):
        raise ValueError(f"style is 'lead' or 'append', not {style!r}")

    async def write(request: RevisionRequest) -> str:
        wishes = [complaint.wish for complaint in request.critique.complaints]
        # A wish that names what the original does not would change what is asked for.
        wishes = [
            wish
            for wish in dict.fromkeys(wishes)
            if (words := content_words(wish)) and words <= content_words(request.original)
        ]
        if not wishes:
            raise Unscorable("no complaint says what in the prompt to stress", "na")
        return (
            _lead(request.original, wishes)
            if style == "lead"
            else f"{request.original}, {' and '.join(wishes)}"
        )

    return write


def vlm_writer(
    model: str,
    *,
    see: bool = True,
    max_tokens: int = 256,
    temperature: float = 0.0,
    seed: int = 0,
    dtype: str = "float32",
) -> Writer:
    """Writer that is a language model: it reads the critique and writes the prompt.

    Args:
        model: a hub id, a folder or MODEL@URL for a served one, as for `models.vlm`. (mini-vlm writes the
            sentences of its own world only.)
        see: show it the picture as well.
        max_tokens: its text is cut off there; then the revision has failed.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling.
        dtype: of a local model.
    """
    vlm = models.vlm(model, dtype=dtype)

    async def write(request: RevisionRequest) -> str:
        text = INSTRUCTION.format(
            current=request.current, original=request.original, complaints=complaints_of(request.critique)
        )
        written = await vlm.write(
            request.picture if see else None, text, max_tokens=max_tokens, temperature=temperature, seed=seed
        )
        if not written.finished:
            raise Unscorable(f"cut off after {written.tokens} tokens: {written.text[:200]}", "unparsable")
        return answer_of(written.text)

    return write


def complaints_of(critique: Critique) -> str:
    """The complaints, a line each, and then the critics' notes."""
    lines = [
        f"- {complaint.dimension} (score {complaint.value:g})"
        + (f": it should show {complaint.wish}" if complaint.wish else "")
        for complaint in critique.complaints
    ]
    return "\n".join([*lines, critique.words] if critique.words else lines)


def answer_of(text: str) -> str:
    """The last line of an answer that has words in it, without thoughts, preamble and quotation marks.

    Raises:
        Unscorable: "unparsable" for thinking without an end.
    """
    lines = [line.strip(QUOTES) for line in after_thinking(text).splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    return PREAMBLE.sub("", last).strip(QUOTES)


def bounded(text: str, original: str, *, max_chars: int, keep_words: float) -> str:
    """The text with its white space tidied, if it may replace the original prompt.

    Raises:
        Unscorable: "unparsable" when it is empty, "out_of_range" when it has more than `max_chars` characters
            or less than the share `keep_words` of the original's words.
    """
    tidy = " ".join(text.split())
    if not tidy:
        raise Unscorable("the writer wrote nothing", "unparsable")
    if len(tidy) > max_chars:
        raise Unscorable(f"the revision has {len(tidy)} characters, above {max_chars}", "out_of_range")
    words = content_words(original)
    kept = len(words & content_words(tidy)) / len(words) if words else 1.0
    if kept < keep_words:
        raise Unscorable(f"the revision keeps {kept:.0%} of the prompt's words: {tidy[:200]}", "out_of_range")
    return tidy


def content_words(text: str) -> frozenset[str]:
    """The words that carry meaning, in lower case and without a plural's s."""
    words = re.findall(r"[^\W_]+", text.lower())
    return frozenset(word.removesuffix("s") for word in words if word not in COMMON)


def _lead(original: str, wishes: list[str]) -> str:
    """The original's phrases, those that hold a wish first; it is a list of phrases, or stays as it is."""
    phrases = [phrase.strip() for phrase in JOINT.split(original) if phrase.strip()]
    first = [
        phrase for phrase in phrases if any(content_words(wish) <= content_words(phrase) for wish in wishes)
    ]
    rest = [phrase for phrase in phrases if phrase not in first]
    if not first or not rest:
        raise Unscorable("the prompt is one phrase: nothing to move to its front", "na")
    ordered = [*first, *rest]
    return ", ".join(ordered[:-1]) + " and " + ordered[-1]
