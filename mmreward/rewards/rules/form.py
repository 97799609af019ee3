"""Form of a response: its tags (`format`), its length (`length`) and its repetition (`repetition`).

None of the three knows the content of the answer, so each is a small term beside an accuracy, or a gate. An
empty shell of tags, which peers pay in full, earns the least. Everything is linear in the text.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ...errors import Unscorable
from ...registry import reward
from ...shaping import Curve, LengthUnit, falling, length_of
from ...tracing import heard, noted
from ...types import Sample, Score
from ...verifiers.response import Verdict, inside_box, segment, verified

# --- tags -----------------------------------------------------------------------------------------

FORM_PARTS = ("think", "answer", "boxed", "thought")


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """Declared form of a response.

    Args:
        think: `<think>` ... `</think>` comes first.
        answer: `<answer>` ... `</answer>` comes last, and holds something.
        boxed: exactly one `\\boxed{...}`, which holds something: in the answer, or after the thinking where
            no answer tags are declared.
        min_think_chars: characters, spaces not counted, from which the thinking counts in full.
        prefilled: the template opens `<think>` in the prompt, so that the response only closes it.

    Raises:
        ValueError: nothing is declared, or a negative number, or `prefilled` without `think`.
    """

    think: bool | Literal["optional"] = True
    answer: bool = True
    boxed: bool = False
    min_think_chars: int = 32
    prefilled: bool = False

    def __post_init__(self) -> None:
        if not (self.think is True or self.answer or self.boxed):
            raise ValueError("a form without thinking, answer and box declares nothing")
        if self.min_think_chars < 0 or (self.prefilled and self.think is not True):
            raise ValueError("min_think_chars is at least 0, and prefilled needs think")


def grade_form(text: str, form: Form) -> Verdict:
    """Grade a form: the fraction of the declared items that are there, each exactly once and in its place.

    Items are the thinking's tags, the thinking itself (min(1, characters / min_think_chars), counted where
    min_think_chars is above 0), the answer's tags with something inside, and the box. Text beside the
    declared tags costs the item that it stands next to.
    """
    thought, body, think = _thinking(text, form)
    inside, answer = _answer(body) if form.answer else (body, False)
    content = inside_box(inside) if inside.count("\\boxed") + inside.count("\\fbox") == 1 else None
    size = len("".join(thought.split()))
    parts = {
        "think": float(think),
        "answer": float(answer),
        "boxed": float(form.boxed and bool(content)),
        "thought": min(1.0, size / form.min_think_chars) if form.min_think_chars and think else 0.0,
    }
    declared = [name for name in ("think", "answer", "boxed") if getattr(form, name) is True]
    if form.think is True and form.min_think_chars:
        declared.append("thought")
    if heard():
        _note_form(form, size, inside, content, parts, declared)
    lacking = [name for name in declared if parts[name] < 1]
    note = f"not as declared: {', '.join(lacking)}" if lacking else ""
    return Verdict(sum(parts[name] for name in declared) / len(declared), parts, note)


def _note_form(
    form: Form,
    size: int,
    inside: str,
    content: str | None,
    parts: Mapping[str, float],
    declared: Sequence[str],
) -> None:
    tags = {name: "its tags are " + ("" if parts[name] else "not ") + "as declared" for name in parts}
    noted("thinking", f"{size} characters without spaces; {tags['think']}")
    if form.answer:
        noted("answer", "{}; " + tags["answer"], inside)
    if form.boxed and content:
        noted("box", "{} in the only box", content)
    elif form.boxed:
        noted("box", "there is not one box with something in it")
    for name in declared:
        noted("item", f"{name} counts {parts[name]:.4g} of 1")


def _thinking(text: str, form: Form) -> tuple[str, str, bool]:
    """Thinking, text after it, and True where its tags are there as declared."""
    if not form.think or (form.think == "optional" and "think>" not in text):
        return "", text, False
    head, closed, body = text.partition("</think>")
    opened = 0 if form.prefilled else 1
    right = bool(closed) and text.count("<think>") == opened and text.count("</think>") == 1
    if not right or (opened and not head.lstrip().startswith("<think>")):
        return "", text, False
    return head.lstrip().removeprefix("<think>"), body, True


def _answer(body: str) -> tuple[str, bool]:
    """Content of the only answer, and True where it stands alone and is not empty."""
    text = body.strip()
    once = text.count("<answer>") == text.count("</answer>") == 1
    if not once or not text.startswith("<answer>") or not text.endswith("</answer>"):
        return "", False
    inside = text.removeprefix("<answer>").removesuffix("</answer>").strip()
    return inside, bool(inside)


# The formats of other projects with their defects, for comparison only; in linear time, unlike some of
# theirs.

ANSWER_AFTER_THINK = re.compile(r"</think>\s*<answer>")


def v_triune_format(text: str) -> float:
    """V-Triune (39bcf0d), of its mathverify verifier: 0.25 for each of four tags, with their line breaks.

    Defect: the order is not looked at, nor whether anything is inside.
    """
    tags = ("<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>")
    return sum(0.25 for tag in tags if text.count(tag) == 1)


def vlm_r1_format(text: str) -> float:
    """VLM-R1 (90052f4): 1 for thinking, spaces and an answer, from the first character to the last.

    Defect: both may be empty, and the tags may nest or repeat inside.
    """
    if not (text.startswith("<think>") and text.endswith("</answer>")):
        return 0.0
    joint = ANSWER_AFTER_THINK.search(text, len("<think>"))
    return float(joint is not None and joint.end() <= len(text) - len("</answer>"))


def trl_format(text: str) -> float:
    """TRL (`think_format_reward`): 1 for a text that opens with its only `<think>` and closes it.

    Defect: the thinking may be empty, and nothing need follow.
    """
    return float(text.startswith("<think>") and text.count("<think>") == 1 and "</think>" in text)


PEER_FORMATS: Mapping[str, Callable[[str], float]] = {
    "v_triune": v_triune_format,
    "vlm_r1": vlm_r1_format,
    "trl": trl_format,
}
Preset = Literal["declared", "v_triune", "vlm_r1", "trl"]


@reward(
    "format",
    needs=("response",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2505.18129",
    example={
        "response": "<think>The sign to the left reads exit, in white.</think>\n<answer>EXIT</answer>",
    },
)
def format_(
    think: bool | Literal["optional"] = True,
    answer: bool = True,
    boxed: bool = False,
    min_think_chars: int = 32,
    prefilled: bool = False,
    preset: Preset = "declared",
) -> Any:
    """The fraction of the declared items that are there, once and in order, 0 to 1.

    Items are the thinking's tags, enough thinking inside them, the answer's tags around something, and the
    box. An empty shell of tags earns less than a form that is filled. What the answer says does not matter
    here. Each item is one of `parts`; one that is not declared is 0.

    Args:
        think: `<think>` ... `</think>` comes first; "optional" lets it come, and asks for nothing.
        answer: `<answer>` ... `</answer>` comes last.
        boxed: exactly one `\\boxed{...}` in the answer, or after the thinking where `answer` is off.
        min_think_chars: characters, spaces not counted, from which the thinking counts in full; 0 does not
            look at it.
        prefilled: the template opens `<think>` in the prompt.
        preset: "declared" is the above; "v_triune", "vlm_r1" and "trl" compute what those do, defects
            included, for comparison, and take none of the other arguments.
    """
    form = Form(think=think, answer=answer, boxed=boxed, min_think_chars=min_think_chars, prefilled=prefilled)
    if preset != "declared" and form != Form():
        raise ValueError(f"the preset {preset!r} has its own form; leave the other arguments out")

    async def score(sample: Sample) -> Score:
        response = sample.response or ""
        if preset == "declared":
            verdict = grade_form(response, form)
        else:
            value = PEER_FORMATS[preset](response)
            noted("form", "{} gives it {}", preset, value)
            verdict = Verdict(
                value, dict.fromkeys(FORM_PARTS, 0.0), "" if value else f"not in {preset}'s form"
            )
        return Score(verdict.value, verdict.parts, note=verdict.note)

    return score


# --- length ---------------------------------------------------------------------------------------

LENGTH_PARTS = ("length", "over")


def grade_length(text: str, length: int, *, limit: int, span: int, curve: Curve = "cosine") -> Verdict:
    """Grade the length of a whole response by `falling`.

    Raises:
        Unscorable: "unparsable" when the text is empty, or `segment` finds it cut off or with two answers.
    """
    if not any(segment(text, bare=True)):
        raise Unscorable("the response is empty", "unparsable")
    value = falling(length, limit, span, curve)
    noted(
        "length", "{}; it counts in full to {} and not at all from {}: {}", length, limit - span, limit, value
    )
    return Verdict(value, {"length": float(length), "over": float(length > limit)})


@reward(
    "length",
    needs=("response",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2502.03373",
    example={
        "response": "<think>It has stripes.</think><answer>tiger</answer>",
        "meta": {"tokens": 320},
    },
)
def length(
    limit: int = 1024, span: int | None = None, curve: Curve = "cosine", unit: LengthUnit = "tokens"
) -> Any:
    """1 for a response short enough, falling to 0 at the limit, right or wrong.

    A short wrong answer must not be paid: combine it with a gate on the accuracy (`compose.Recipe`), or use
    `shaping.brevity`, where shortness helps only what is right. A response that is empty, is cut off,
    or has two answers is worth 0, however short. `parts["over"]` is 1 beyond the limit.

    Args:
        limit: length from which the value is 0.
        span: the lengths below the limit over which it falls; all of them where not given.
        curve: "cosine", or "linear" (with it, the value minus 1 is DAPO's soft overlong punishment).
        unit: of the length; "tokens" are taken from `sample.meta["tokens"]`, "words" are parted by spaces,
            or "characters".
    """
    fall = limit if span is None else span
    if not 0 < fall <= limit:
        raise ValueError(f"limit {limit} is positive, and span {span} between 1 and it")

    async def score(sample: Sample) -> Score:
        response = sample.response or ""
        size = length_of(response, sample.meta, unit)
        return verified(
            lambda: grade_length(response, size, limit=limit, span=fall, curve=curve), LENGTH_PARTS
        )

    return score


# --- repetition -----------------------------------------------------------------------------------

NgramUnit = Literal["words", "characters"]
REPETITION_PARTS = ("ngrams", "repeated")


class Ngrams(NamedTuple):
    """Number of n-grams of a sequence, and of different ones."""

    total: int
    unique: int


def ngrams(items: tuple[str, ...] | str, size: int) -> Ngrams:
    """Count the runs of `size` neighbours; a sequence that is shorter has none."""
    total = max(0, len(items) - size + 1)
    return Ngrams(total, len({items[at : at + size] for at in range(total)}))


def grade_repetition(text: str, *, size: int = 6, unit: NgramUnit = "words", allowed: float = 0.0) -> Verdict:
    """Grade repetition: 1 for a text in which no n-gram occurs twice, falling to 0 as all are the same.

    The value is min(1, unique / ((1 - allowed) * total)), where `allowed` is the share of repetition that
    costs nothing; 1 where the text is too short for one n-gram.

    Raises:
        Unscorable: "unparsable" when the text holds nothing.
    """
    lowered = text.casefold()
    items = tuple(lowered.split()) if unit == "words" else "".join(lowered.split())
    if not items:
        raise Unscorable("the response is empty", "unparsable")
    total, unique = ngrams(items, size)
    value = min(1.0, unique / ((1 - allowed) * total)) if total else 1.0
    noted("repetition", f"{{}} of {{}} runs of {{}} {unit} differ: {{}}", unique, total, size, value)
    return Verdict(value, {"ngrams": float(total), "repeated": float(total - unique)})


MAX_SIZE = 64


@reward(
    "repetition",
    needs=("response",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2502.03373",
    example={"response": "<think>A cat sits on a mat, a cat sits on a mat.</think><answer>cat</answer>"},
)
def repetition(size: int = 6, unit: NgramUnit = "words", allowed: float = 0.0) -> Any:
    """Different n-grams over all n-grams of the response, 0 to 1; the value minus 1 is the usual penalty.

    It does not look at right and wrong, and short responses repeat little: give it a small weight beside the
    accuracy. A response that is empty, is cut off, or has two answers is worth 0.

    Args:
        size: of an n-gram; 6 words in VLM-R1.
        unit: "words" are parted by spaces; "characters", spaces left out, for scripts that have none.
        allowed: the share of repeated n-grams that costs nothing, from 0 to below 1.
    """
    if not 1 <= size <= MAX_SIZE or not 0 <= allowed < 1:
        raise ValueError(f"size {size} lies in 1 to {MAX_SIZE}, and allowed {allowed} in [0, 1)")

    async def score(sample: Sample) -> Score:
        response = sample.response or ""

        def check() -> Verdict:
            segment(response, bare=True)
            return grade_repetition(response, size=size, unit=unit, allowed=allowed)

        return verified(check, REPETITION_PARTS)

    return score
