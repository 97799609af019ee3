"""Responses of language models, taken apart: reasoning and answer, boxes, one answer of several, quotation
for a judge, and the score of a response that cannot be read.

Three promises hold for every function here. Only string searches, so a megabyte of adversarial text costs a
linear scan. A response that holds no answer is wrong and worth 0 (`verified`): were it a failure, a policy
would escape a bad mark by writing nonsense. What is not the response's fault (the target, a deadline, the
judge) stays a failure.

Which answer a response states, in whatever dress, is read in `reading`. Parsers of what stands inside an
answer are elsewhere: numbers in `numbers` and `numerals`, lists and boxes in `lists` and `markup`, and what
one reward alone reads in that reward's file.
"""

import re
from asyncio import to_thread
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

from ..errors import Unscorable
from ..tracing import heard, noted
from ..types import Sample, Score
from .text import nfkc

T = TypeVar("T")

# --- reasoning and answer -------------------------------------------------------------------------

MAX_BOXED = 4096
INLINE = 1 << 19
"""Characters of a response times objects of a target that are matched at once: some milliseconds."""
LONG, ITEM = 1 << 13, 32
"""Characters of a text that are read at once, which takes milliseconds; a list's item counts as so many."""
MAX_ANSWER = 2000
"""Characters; a question that asks for a letter, a number or a name has no longer answer."""


Reading = Literal["clear", "strict"]
"""Strictness of reading. "clear" takes every answer that is unambiguous, in whatever dress it comes; "strict"
takes the declared form alone, for those who train a form with a reward of correctness."""

TAG = re.compile(
    r"<[ \t]{0,3}([/\\]?)[ \t]{0,3}(think(?:ing)?|answer)[ \t]{0,3}(/?)[ \t]{0,3}>", re.IGNORECASE
)
REOPENED = re.compile(r"<answer>\s*(?=<answer>)")
LEFTOVERS = (
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "<|end|>", "<|return|>"),
    *(
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
        "<|im_start|>assistant",
        "<|im_start|>",
        "<end_of_turn>",
    ),
    *("</s>", "<s>", "<eos>", "<bos>", "<pad>", "[EOS]", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
)
"""Tokens of chat templates that a decoder leaves at the ends of a response."""
LEFT_BEGINS = frozenset(token[0] for token in LEFTOVERS)
LEFT_ENDS = frozenset(token[-1] for token in LEFTOVERS)
PLAIN_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


class Segments(NamedTuple):
    """Reasoning and final answer of a response, both stripped."""

    thought: str
    answer: str


def tidy_tags(text: str) -> str:
    """Text with the tags of reasoning and answer in their plain form.

    `< THINK >`, `</ answer >`, `<answer/>` (a closing tag), `<thinking>` and Kimi's triangles are such tags.
    """
    if text.count("<") == sum(map(text.count, PLAIN_TAGS)) and "\u25c1" not in text:
        return text
    if "\u25c1" in text:
        text = text.replace("\u25c1think\u25b7", "<think>").replace("\u25c1/think\u25b7", "</think>")
    return TAG.sub(
        lambda tag: f"<{'/' if tag[1] or tag[3] else ''}{'answer' if tag[2][0] in 'aA' else 'think'}>", text
    )


def without_leftovers(text: str) -> str:
    """Text without spaces, and without the tokens of chat templates that a decoder left at its ends."""
    text = text.strip()
    start, end = 0, len(text)
    while text[end - 1 : end] in LEFT_ENDS and text.endswith(LEFTOVERS, start, end):
        end -= next(len(token) for token in LEFTOVERS if text.endswith(token, start, end))
        while end > start and text[end - 1].isspace():
            end -= 1
    while text[start : start + 1] in LEFT_BEGINS and text.startswith(LEFTOVERS, start, end):
        start += next(len(token) for token in LEFTOVERS if text.startswith(token, start, end))
        while start < end and text[start].isspace():
            start += 1
    return text[start:end]


def segment(
    text: str, *, bare: bool = False, prefilled: bool = False, reading: Reading = "clear"
) -> Segments:
    """Split a response at its last `</think>` and take the answer from the `<answer>` tags after it.

    Tags may be spaced, in capitals, opened or closed twice on the spot, or lack the last closing one, and
    tokens of a chat template may be left at the end: the reward `format` looks at those.

    Args:
        text: the whole response. A template that opens `<think>` in the prompt leaves only the closing tag
            here.
        bare: take everything after the thinking when there are no answer tags.
        prefilled: the template opens `<think>` in the prompt, so a response that never closes it is cut off.
        reading: "strict" takes tags in their plain form alone, and leaves tokens where they are.

    Raises:
        Unscorable: "unparsable" when the thinking was never closed (cut off), when there are no answer tags
            and `bare` is off, or when there are several answers.
    """
    # The last closing tag: reasoning may quote tags, and what follows it is all that a reader gets to see.
    clear = reading == "clear"
    noted("response", "{} characters", len(text))
    before, closed, body = (tidy_tags(text) if clear else text).rpartition("</think>")
    if not closed and (prefilled or "<think>" in body):
        raise Unscorable("the reasoning was never closed: the response is cut off", "unparsable")
    thought = before.strip().removeprefix("<think>").strip()
    noted("reasoning", "{} characters before the last </think>" if closed else "none is marked", len(thought))
    if clear:
        body = REOPENED.sub("", without_leftovers(body))
        if body.count("<answer>") == 2 and "</answer>" not in body:  # the second one was to close the first
            body = body.removesuffix("<answer>")
    count = body.count("<answer>")
    if count > 1:
        raise Unscorable(f"{count} answers where one is expected", "unparsable")
    if count == 1:
        answer = body.partition("<answer>")[2].partition("</answer>")[0]
        answer = without_leftovers(answer) if clear else answer.strip()
        noted("answer", "{} inside <answer>", answer)
        return Segments(thought, answer)
    if not bare:
        raise Unscorable("there is no <answer> after the reasoning", "unparsable")
    # A template that opens the tag in the prompt leaves only the closing one here.
    answer = without_leftovers(body.removesuffix("</answer>")) if clear else body.strip()
    noted("answer", "{}, all that follows the reasoning, as there are no <answer> tags", answer)
    return Segments(thought, answer)


def spoken(response: str | None) -> str:
    """A whole response as a reward model reads it, which must say something behind its reasoning's end.

    Raises:
        Unscorable: "unparsable" when it is empty, or ends within `<think>`.
    """
    text = response or ""
    if not text.strip():
        raise Unscorable("the response is empty", "unparsable")
    if text.count("<think>") > text.count("</think>"):
        raise Unscorable("the response ends within its reasoning", "unparsable")
    return text


def reasoned(response: str) -> Segments:
    """Reasoning and answer of a response that must have both.

    Raises:
        Unscorable: "unparsable" when one of them is missing or empty; see also `segment`.
    """
    thought, answer = segment(response)
    if not thought:
        raise Unscorable("there is no reasoning before the answer", "unparsable")
    if not answer:
        raise Unscorable("the answer is empty", "unparsable")
    return Segments(thought, answer)


def inside_box(text: str) -> str | None:
    """Content of the last `\\boxed{...}` (or `\\fbox`), braces balanced; None where there is none.

    A backslash takes the next character out of the count. An expression of more than `MAX_BOXED` characters,
    or without its closing brace, is none.
    """
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    opening = text.find("{", start) if start >= 0 else -1
    if opening < 0 or text[start:opening].strip() not in ("\\boxed", "\\fbox"):
        return None
    closing = closing_brace(text, opening)
    return None if closing is None else text[opening + 1 : closing].strip()


def closing_brace(text: str, opening: int) -> int | None:
    """Position of the brace that closes the one at `opening`; None within `MAX_BOXED` characters."""
    depth, at, end = 0, opening, min(len(text), opening + MAX_BOXED)
    while at < end:
        if text[at] == "\\":
            at += 1
        elif text[at] in "{}":
            depth += 1 if text[at] == "{" else -1
            if not depth:
                return at
        at += 1
    return None


def short_answer(response: str, *, bare: bool = False, boxed: bool = False) -> str:
    """Final answer of a response that is to be short, in Unicode's NFKC form; it may be empty.

    The strict reading, of the declared form alone; `reading.read_answer` is the other one.

    Args:
        response: the whole text.
        bare: take what follows the reasoning where there are no answer tags.
        boxed: the answer is the content of the only `\\boxed{...}` in it.

    Raises:
        Unscorable: "unparsable" as `segment`, when the answer is longer than `MAX_ANSWER`, and when a box is
            asked for and there is none or more than one.
    """
    answer = segment(response, bare=bare, reading="strict").answer
    if boxed:
        count = answer.count("\\boxed") + answer.count("\\fbox")
        content = inside_box(answer) if count == 1 else None
        if content is None:
            raise Unscorable(f"one \\boxed{{...}} is expected, and there are {count}", "unparsable")
        answer = content
        noted("box", "{} in the only box", answer)
    return normalise_answer(answer)


def normalise_answer(answer: str) -> str:
    """Bring an answer of bounded length into NFKC form.

    Raises:
        Unscorable: "unparsable" when it is longer than `MAX_ANSWER`.
    """
    if len(answer) > MAX_ANSWER:
        raise Unscorable(f"the answer has {len(answer)} characters, more than {MAX_ANSWER}", "unparsable")
    return nfkc(answer).strip()


Several = Literal["refuse", "first", "last"]
"""Answer that counts where a response gives several and one is asked for."""


def expect_one(items: Sequence[T], several: Several, what: str) -> T:
    """Pick the only item, or the declared one of several; never the best of them, which would pay for
    guessing.

    Raises:
        Unscorable: "unparsable" for none, and for several unless one is declared.
    """
    if not items:
        raise Unscorable(f"no {what} where one is expected", "unparsable")
    if len(items) > 1 and several == "refuse":
        raise Unscorable(f"{len(items)} answers where one {what} is expected", "unparsable")
    if len(items) > 1:
        noted("counted", f"the {several} {what} of {len(items)}")
    return items[-1] if several == "last" else items[0]


# --- quotation for a judge ------------------------------------------------------------------------

OPENED, CLOSED = "<<<", ">>>"


def escaped(text: str) -> str:
    """Text whose special tokens are broken up: every `<|` becomes `< |`, so a tokenizer reads plain
    characters."""
    return text.replace("<|", "< |")


def quoted(text: str) -> str:
    """Quotation for a judge's prompt: the text between lines of marks that it cannot contain itself.

    A response may try to end the quotation, to close the judge's turn with a chat template's own token and
    answer in its place, or to name a picture's placeholder so that the prompt is refused and no bad mark is
    given.
    """
    inner = (
        escaped(text).replace("<<", "< <").replace(">>", "> >")
    )  # two at a time: replacing three leaves three of five
    return f"{OPENED}\n{inner.strip()}\n{CLOSED}"


def reply_of(response: str) -> str:
    """Reply as its reader sees it: the answer in its tags, or all that follows the thinking.

    Raises:
        Unscorable: "unparsable" when that is empty; see also `segment`.
    """
    reply = segment(response, bare=True).answer
    if not reply:
        raise Unscorable("the reply is empty", "unparsable")
    return reply


# --- the score of a response ----------------------------------------------------------------------


class Verdict(NamedTuple):
    """Judgement of a response that could be read.

    Args:
        value: 0 for wrong to 1 for right.
        parts: its components; a verifier gives every response the same names.
        note: the reason, in words.
    """

    value: float
    parts: Mapping[str, float]
    note: str = ""


def verified(check: Callable[[], Verdict], parts: Sequence[str]) -> Score:
    """Score of a response: the check's verdict, or 0 where it raises Unscorable("...", "unparsable").

    A response that holds no readable answer is wrong. Were it NaN, a policy would escape a bad mark by
    writing nonsense. Whatever is not the response's fault (a target that makes no sense, a deadline) is
    raised on, and stays a failure. `parsed` is 1 or 0, and every score has the same parts, as trainers that
    take their columns from the first sample need.

    Args:
        check: reads and judges the response.
        parts: the names of all parts of a verdict.
    """
    try:
        verdict = check()
    except Unscorable as failure:
        if failure.status != "unparsable":
            raise
        if heard():
            noted("unreadable", f"the reading ends here: {failure}")
        return Score(0.0, {"parsed": 0.0, **dict.fromkeys(parts, 0.0)}, note=str(failure))
    return Score(verdict.value, {"parsed": 1.0, **verdict.parts}, note=verdict.note)


async def verified_aside(
    check: Callable[[], Verdict], parts: Sequence[str], *, found: int, true: int
) -> Score:
    """`verified`, on a thread where matching is long: the loop is everybody's, and numpy and scipy let others
    run.

    Args:
        check: reads and judges the response.
        parts: the names of all parts of a verdict.
        found: characters of the response.
        true: objects in the target.
    """
    if found * true <= INLINE and found <= LONG:
        return verified(check, parts)
    return await to_thread(verified, check, parts)


async def read_aside(read: Callable[[Sample], T], sample: Sample) -> T:
    """What a reader makes of a sample's target, on a thread where that is long."""
    target = sample.target
    length = len(target) if isinstance(target, str | list | tuple) else 0
    if length * (1 if isinstance(target, str) else ITEM) <= LONG:
        return read(sample)
    return await to_thread(read, sample)


def read_or_wrong(read: Callable[[], T], parts: Sequence[str]) -> T | Score:
    """Result of `read`, or the score of 0 where it raises Unscorable("...", "unparsable").

    For rewards that ask a judge: a response that cannot be read is wrong before anyone is asked. The judge is
    asked outside of this, as what a judge fails to say must stay a failure (see `verified`).
    """
    found: list[T] = []

    def check() -> Verdict:
        found.append(read())
        return Verdict(0.0, dict.fromkeys(parts, 0.0))

    score = verified(check, parts)
    return found[0] if found else score
