"""Pieces of the grammars of published judges: a mark, a verdict, a list of marks in JSON.

Every reader is strict in one direction: dress (bold, `3/4`, full-width digits, brackets, a remark without
digits) is taken off, and whatever leaves a choice (two numbers, two verdicts, a condition) is a typed
failure.
Pure string work, linear in the text.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import Unscorable
from ...verifiers.response import TAG, Segments, segment
from ...verifiers.text import nfkc
from ...verifiers.thoughts import after_thinking, broken_tag, unthought

LONGEST = 40_000
"""Characters of a judgement that are read: several times the longest that is asked for."""
NUMBER = re.compile(r"([+-]?\d{1,6}(?:\.\d{1,18})?)(?:\s*(?:/|out of)\s*(\d{1,6}(?:\.\d{1,6})?))?\.?")
NOT_APPLICABLE = ("n/a", "na", "not applicable", "none")
ANSWERED = re.compile(r"<[ \t]{0,3}[/\\][ \t]{0,3}answer[ \t]{0,3}>", re.IGNORECASE)
UNSURE = re.compile(
    r"(?:(?<!\d)[:=]|[:=](?!\d))[*_`\[ ]*(\d[\d.]{0,8} {0,3}(?:\bor\b|\bto\b|-|~) {0,3}\d[\d.]{0,8})"
    r"[*_`\]).\s]*\Z"
)
""" "3-4" and "3 or 4" at the end of a line, behind whatever is left of a label; no time of day."""
MINUS = str.maketrans(dict.fromkeys("\u2212\u2010\u2011\u2012\u2013", "-"))
ORNAMENT = "*_`\u00a0 \t"


def body_of(text: str) -> str:
    """Text after the thinking.

    Raises:
        Unscorable: "unparsable" when it is too long, or the thinking has no end (see `verifiers.thoughts`);
            "missing" when nothing follows it.
    """
    body = _reply(text)
    if not body.strip():
        raise Unscorable("the judgement is empty", "missing")
    return body


def answered_of(text: str) -> Segments:
    """Reasoning, and the answer in its tags behind it.

    Raises:
        Unscorable: "unparsable" for a text that is too long, for thinking without an end, for an answer whose
            tags are there twice, of which one may be the reasoning's, and for a tag of an answer that is
            broken; see also `response.segment`.
    """
    body, found = _reply(text), segment(text)
    if (closed := len(ANSWERED.findall(unthought(text, body)))) > 1:
        raise Unscorable(f"the answer is closed {closed} times: which one it is cannot be told", "unparsable")
    if (broken := broken_tag(TAG.sub("", body), ("answer",))) is not None:
        raise Unscorable(f"a tag of the answer is broken, near {broken!r}", "unparsable")
    return found


def certain(body: str) -> str:
    """The same text, where no line ends in two numbers to choose from.

    A judge that marks "Final Score: 3", and then "Fnal Score: 3 or 4", has not decided, though only one of
    the lines has the label that is asked for.

    Raises:
        Unscorable: "unparsable" for such a line.
    """
    for line in body.splitlines():
        plain = nfkc(line[-200:]).translate(MINUS).casefold()
        if (found := UNSURE.search(plain)) is not None:
            raise Unscorable(f"the mark {found[1]!r} leaves a choice: {line.strip()[:80]!r}", "unparsable")
    return body


def _reply(text: str) -> str:
    if len(text) > LONGEST:
        raise Unscorable(f"the judgement has {len(text)} characters; {LONGEST} are read", "unparsable")
    return after_thinking(text)


def mark_of(words: str, low: float, high: float, name: str, *, optional: bool = False) -> float | None:
    """The one mark that these words are; None for N/A.

    Args:
        words: what stands after "Score:".
        low, high: the scale.
        name: of the aspect, for messages.
        optional: the aspect may be N/A.

    Raises:
        Unscorable: "missing" for no words, "unparsable" for anything but one number, "out_of_range".
    """
    bare = nfkc(words[:200]).translate(MINUS).casefold().strip(ORNAMENT)
    bare = re.sub(r"\s*\([^()\d]*\)$", "", bare).strip(ORNAMENT)
    if bare[:1] == "[" and bare[-1:] == "]":
        bare = bare[1:-1].strip(ORNAMENT)
    if not bare:
        raise Unscorable(f"{name} has no score", "missing")
    if bare.rstrip(".") in NOT_APPLICABLE:
        if not optional:
            raise Unscorable(f"{name} always applies, and is {words.strip()[:20]!r}", "unparsable")
        return None
    found = NUMBER.fullmatch(bare)
    if found is None or (found[2] and float(found[2]) != high):
        raise Unscorable(f"{name} has the score {words.strip()[:40]!r}, which is no number", "unparsable")
    mark = float(found[1])
    if not low <= mark <= high:
        raise Unscorable(f"{name} has the score {mark:g}, outside {low:g} to {high:g}", "out_of_range")
    return mark


def labelled(
    text: str, labels: Sequence[str], low: float, high: float, *, suffix: str = ""
) -> dict[str, float]:
    """Marks on lines of the form LABEL SUFFIX: MARK, one for each label.

    Args:
        text: the judgement's body.
        labels: at the beginnings of lines, with any dress before.
        suffix: pattern between a label and its colon.

    Raises:
        Unscorable: "missing" where a label has none, "unparsable" where two differ; see also `mark_of` and
            `certain`.
    """
    known = {" ".join(label.casefold().split()): label for label in labels}
    names = "|".join(re.escape(name) for name in known)
    line = re.compile(rf"[\s#*>\-]*(?:\(?\d+[.)]\s*)?({names})[ *]*{suffix}[ *]*[:=](.*)", re.IGNORECASE)
    found: dict[str, float] = {}
    for written in nfkc(certain(text)).splitlines():
        if (match := line.fullmatch(written[:400])) is None:
            continue
        label = known[" ".join(match[1].casefold().split())]
        mark = mark_of(match[2], low, high, label)
        assert mark is not None, "N/A is refused"
        if found.setdefault(label, mark) != mark:
            raise Unscorable(f"{label} has two scores, {found[label]:g} and {mark:g}", "unparsable")
    if absent := [label for label in labels if label not in found]:
        raise Unscorable(f"no score for {', '.join(absent)} in: {text.strip()[:200]}", "missing")
    return {label: found[label] for label in labels}


# --- verdicts ---------------------------------------------------------------------------------------------

LEAD = (
    r"(?:(?:so|thus|therefore|hence|overall|finally|in conclusion|conclusion|answer|verdict|judge?ment"
    r"|final (?:conclusion|judge?ment|verdict|answer|decision)|my (?:judge?ment|verdict))"
    r"\s*[:,]?\s+(?:is\s*:?\s*)?){0,3}"
)
REST = re.compile(r"\b(?:or|if|unless|maybe|perhaps|possibly|although|though|but|however)\b|\bnot\W*$")


def verdict_in(text: str, noun: str) -> str:
    """Verdict of a judgement in words: "1", "2", or "" for a tie, as UnifiedReward gives it.

    A sentence that begins with the verdict states it ("Therefore, Image 2 is better, as ..."); verdicts
    inside other sentences are remarks. Two different ones, or one with a condition, are none.

    Args:
        text: the judgement's body.
        noun: "image", "video" or "answer".

    Raises:
        Unscorable: "missing" without one, "unparsable" for a hedge.
    """
    better = (
        rf"(?:the\s+)?{noun}\s+([12])\s+is\s+(?:(?:slightly|much|clearly)\s+)?(?:the\s+)?better"
        rf"(?:\s+(?:one|{noun}))?"
    )
    either = rf"(?:either\s+)?(?:the\s+)?{noun}\s+[12]\s*(?:\bor\b|/)\s*(?:the\s+)?(?:{noun}\s+)?[12]"
    equal = rf"(?:both\s+{noun}s|they|the\s+two\s+{noun}s)\s+are\s+equally\s+good"
    quote = r"[\s#*>\"'\u201c\u2018\-]*"
    stated = re.compile(rf"{quote}{LEAD}{quote}(?:{better}|({equal}))\b(.*)", re.IGNORECASE | re.DOTALL)
    # As the subject of a sentence, finished or not, or right before "is better". "There is no dog in image 1
    # or image 2" is a remark, and so is what begins with "whether".
    undecided = re.compile(
        rf"(?:^|[.!?:>])\W{{0,8}}{LEAD}\W{{0,8}}{either}|^(?!.*\b(?:whether|if|which)\b).*{either}\W+(?:\w+\W+)?better",
        re.IGNORECASE | re.DOTALL,
    )
    plain = nfkc(text).replace("*", "")
    found: list[str] = []
    for sentence in re.split(r"(?<=[.!?])[\"'\u201d\u2019]?\s+|\n+", plain):
        match = stated.fullmatch(sentence[:1000])
        rest = match[3].casefold() if match else ""
        if undecided.search(sentence[:1000]) or REST.search(rest) or re.search(rf"{better}|{equal}", rest):
            raise Unscorable(f"the verdict {sentence.strip()[:80]!r} leaves a choice", "unparsable")
        if match is None:
            continue
        found.append("" if match[2] else match[1])
    if not found:
        raise Unscorable(f"no verdict on the two {noun}s in: {text.strip()[-200:]}", "missing")
    if len(set(found)) > 1:
        raise Unscorable(f"two verdicts on the {noun}s in: {text.strip()[-200:]}", "unparsable")
    return found[0]


TIE = ""
"""Verdict that neither is better."""
FIRST, SECOND = ("1", "one", "first", "a"), ("2", "two", "second", "b")
NOUNS = "image|picture|video|clip|answer|response|candidate|option"
OPEN = re.compile(
    r"(?<!\d)1 {1,3}or {1,3}(?:(?:answer|response) {0,3})?2 {0,3}\}"
    r"|\{ {0,3}(?:(?:answer|response) {0,3})?1 {1,3}or\b",
    re.IGNORECASE,
)
"""A choice in braces, or behind one that is lost: no answer in a box, whatever the macro is called."""
PLACES = "|".join((*FIRST, *SECOND))
NAMED = re.compile(
    rf"(?:overall judge?ment ?:? )?(?:the )?(?:(?:{NOUNS}) )?({PLACES})(?: (?:{NOUNS}|one))?"
    r"(?: (?:is|fits|wins)(?: it)?(?: the)?(?: better| best)?(?: one)?)?"
)
TIED = re.compile(rf"tie|equal|a=b|both (?:{NOUNS})s are equally good|(?:they|both|the two) are equally good")


def preferred(answer: str) -> str:
    """Verdict of a final answer: "1", "2", or TIE where it says that neither is better.

    The answer must say that and nothing else: "2", "B", "the second image", "Image 2 is better"
    (UnifiedReward), "Overall Judgment: Answer 2 is better" (ARM-Thinker), "Both images are equally good".
    Upper and lower case, markdown and a final stop make no difference.

    Raises:
        Unscorable: "unparsable" for anything else, such as both, a hedge or a negation.
    """
    bare = " ".join(answer[:200].replace("*", " ").replace("`", " ").lower().split()).strip(" .!:\"'()")
    if len(answer) <= 200:
        if found := NAMED.fullmatch(bare):
            return "1" if found[1] in FIRST else "2"
        if TIED.fullmatch(bare):
            return TIE
    raise Unscorable(f"the answer {bare[:60]!r} does not name one of the two", "unparsable")


# --- JSON -------------------------------------------------------------------------------------------------

LISTED = re.compile(r'(?<!\\)"score"\s*:\s*(\[[^\[\]{}"]{0,200}\])')
BROKEN = re.compile(
    r'(?<!\\)"[^":\n]{0,12}:[^\[\]":,\n]{0,12}\[[^\[\]{}\d]{0,40}\d|^[^\[\]\n]{0,400}\d[ \t]*\][ \t}]*$',
    re.MULTILINE,
)
"""A list of numbers behind what is left of a key, or a line that ends one which it does not begin."""
FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)


def json_marks(text: str, count: int, low: float, high: float) -> list[float]:
    """Marks of {"reasoning": ..., "score": [...]}, the grammar of VIEScore and EditScore.

    Judges break the JSON (a comma before the brace, as the prompt itself has it; bare quotes in the
    reasoning). Then the one list after "score" is read; an escaped quote is the reasoning's.

    Raises:
        Unscorable: "missing" without a list, "unparsable" for two, another number of marks, or what is none,
            "out_of_range".
    """
    body = text.strip()
    if (fenced := FENCE.fullmatch(body)) is not None:
        body = fenced[1]
    listed = _whole(body)
    if listed is None:
        found = {match[1] for match in LISTED.finditer(body)}
        if not found:
            raise Unscorable(f"no list of scores in: {body[:200]}", "missing")
        if len(found) > 1:
            raise Unscorable(f"two lists of scores: {', '.join(sorted(found))[:80]}", "unparsable")
        # One that lost its key, a bracket or its end may be the judgement, too.
        if (other := BROKEN.search(body.replace(known := next(iter(found)), ""))) is not None:
            said = other[0].strip()[-60:]
            raise Unscorable(f"{known} is the score, and beside it is {said!r}", "unparsable")
        try:
            listed = json.loads(found.pop())
        except (ValueError, RecursionError) as error:
            raise Unscorable(
                f"the list of scores is no JSON ({error}): {body[-200:]}", "unparsable"
            ) from None
    if not isinstance(listed, list) or len(listed) != count:
        raise Unscorable(f"the score is {str(listed)[:60]}, not a list of {count} numbers", "unparsable")
    return [json_mark(mark, low, high, "a score") for mark in listed]


def json_mark(mark: Any, low: float, high: float, name: str) -> float:
    """A mark that JSON has as a number.

    Raises:
        Unscorable: "unparsable" for anything else, "out_of_range".
    """
    if type(mark) is not int and not (type(mark) is float and math.isfinite(mark)):
        raise Unscorable(f"{name} is {str(mark)[:40]!r}, which is no number", "unparsable")
    if not low <= mark <= high:  # before it is made a float, which a whole number may be too large for
        raise Unscorable(f"{name} is {str(mark)[:20]}, outside {low:g} to {high:g}", "out_of_range")
    return float(mark)


def _whole(body: str) -> Any:
    """The score of a body that is one JSON object; None for any other.

    Raises:
        Unscorable: "unparsable" when it has two.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if sum(name == "score" for name, _ in pairs) > 1:
            raise Unscorable("the JSON has two scores", "unparsable")
        return dict(pairs)

    try:
        value = json.loads(body, object_pairs_hook=once, parse_constant=str)
    except Unscorable:
        raise
    except (ValueError, RecursionError):
        return None
    return value.get("score") if isinstance(value, dict) else None


def object_in(body: str) -> Mapping[str, Any]:
    """The one JSON object that a judgement is, in a fence or without.

    Raises:
        Unscorable: "unparsable" for anything else, or an object with a field twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise Unscorable("the JSON has a field twice", "unparsable")
        return dict(pairs)

    if (fenced := FENCE.fullmatch(bare := body.strip())) is not None:
        bare = fenced[1]
    try:
        found = json.loads(bare, object_pairs_hook=once, parse_constant=str)
    except Unscorable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unscorable(f"the judgement is no JSON ({error}): {bare[:200]}", "unparsable") from None
    if not isinstance(found, Mapping):
        raise Unscorable(f"the judgement is {bare[:40]!r}, no object", "unparsable")
    return found
