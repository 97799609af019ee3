"""Declarations of a mathematical answer: boxes that stand side by side, the last words of a solution, and one
formula in a sentence.

`\\boxed{2} and \\boxed{3}` is the list 2, 3 and never its last box alone, which would pay a policy for naming
two values where one is right. Boxes that hold the same value are one answer.

A sentence is read where it has one formula in mathematical delimiters, words that name or introduce it
before, and nothing, or "is the answer", behind. Words that change or doubt the formula ("less than", "not",
"I think") make it none, and so does a second formula or a number outside. Whole solutions are read at "the
final answer is", whose every mention must agree.

All is linear in the text: expressions see bounded pieces.
"""

import re
from itertools import pairwise
from typing import NamedTuple

from .arithmetic import exact
from .latex import comparison_key, tidy
from .response import closing_brace

MAX_BOXES = 64
MAX_JOINT = 80
"""Characters between two boxes of one list."""
MAX_SENTENCE = 400
JOINT = re.compile(
    r"(?:[\s$,;&]|\\[\[\]()]|\\q?quad(?![A-Za-z])|\\[,;:! ]|\\(?:text|mathrm)\s?\{\s*(?:,|and|or)?\s*\}"
    r"|\b(?:and|or)\b)*"
)
JOINS = re.compile(r"(?<!\\)[,;]|\band\b|\bor\b")
NAMED = re.compile(
    r"(?P<name>(?<![A-Za-z\\])(?:[A-Za-z]|\\[A-Za-z]{2,12})(?:_(?:\w|\{\w{1,12}\}))?)\s*=\s*(?:\$|\\[(\[])?\s*\Z"
)
"""A name before a box: "x = \\boxed{2}"."""
PERCENT = re.compile(r"\\?%|per ?cent|pct", re.IGNORECASE)


GLM = ("<|begin_of_box|>", "<|end_of_box|>")


class Frame(NamedTuple):
    """A frame around an answer: its place in the text, and what is inside."""

    start: int
    end: int
    content: str


def framed(text: str) -> str:
    """Text with GLM's marks of an answer as boxes, where each that opens is closed."""
    opening, closing = GLM
    if opening not in text or text.count(opening) != text.count(closing):
        return text
    return text.replace(opening, "\\boxed{").replace(closing, "}")


def box_before(text: str, end: int) -> Frame | None:
    """Last box that begins before `end`; None where that one is open or has no braces."""
    start = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
    opening = text.find("{", start, start + 16) if start >= 0 else -1
    if opening < 0 or text[start:opening].strip() not in ("\\boxed", "\\fbox"):
        return None
    closing = closing_brace(text, opening)
    if closing is None or closing >= end:
        return None
    return Frame(start, closing + 1, text[opening + 1 : closing].strip())


def side_by_side(text: str) -> str | None:
    """Contents of the boxes that end a text as one list, "2 , 3"; None where there are not two.

    Nothing but commas, connectives and names ("and x = ") stands between them. Boxes of the same value, which
    say one answer twice, are no list.
    """
    if text.count("\\boxed") + text.count("\\fbox") < 2:
        return None
    last = box_before(text, len(text))
    run: list[Frame] = [last] if last else []
    while run and len(run) <= MAX_BOXES:
        before = box_before(text, run[0].start)
        if before is None or run[0].start - before.end > MAX_JOINT:
            break
        between = text[before.end : run[0].start]
        if not JOINS.search(between) or not JOINT.fullmatch(NAMED.sub("", between)):
            break
        run.insert(0, before)
    contents = [tidy(box.content) for box in run]
    if len(run) < 2 or not all(contents) or _one_value(contents):
        return None
    names = [NAMED.search(text[max(0, box.start - MAX_JOINT) : box.start]) for box in run]
    if all(names) and not any("=" in content for content in contents):
        contents = [f"{name['name']} = {one}" for name, one in zip(names, contents, strict=True) if name]
    return " , ".join(contents)


def _one_value(contents: list[str]) -> bool:
    if len({comparison_key(one) for one in contents}) == 1:
        return True
    values = {exact(one) for one in contents}
    return len(values) == 1 and None not in values


def unit_behind(after: str) -> str:
    """Words behind a box without the delimiter that closes its formula or theirs; "%" for per cent, pct."""
    bare = re.sub(r"\A\s*(?:\${1,2}|\\[)\]])\s*", "", after).strip().removesuffix(".").strip()
    bare = re.sub(r"(?<!\\)(?:\${1,2}|\\[)\]])\Z", "", bare).strip()
    return "\\%" if PERCENT.fullmatch(bare) else bare


# --- sentences ------------------------------------------------------------------------------------

FORMULA = re.compile(
    r"\$\$(?P<a>[^$]+)\$\$|\$(?P<b>[^$]+)\$|\\\((?P<c>.+?)\\\)|\\\[(?P<d>.+?)\\\]", re.DOTALL
)
BEFORE = re.compile(
    r"(?:[A-Za-z][A-Za-z',-]{0,24}[ \n]){0,12}?"
    r"(?:(?:is|are|be|equals|that|get|gets|obtain|obtains|have|find|finds|conclude|therefore|thus|hence|so),?"
    r"|[A-Za-z]{1,24}:)[ \n]*",
    re.IGNORECASE,
)
BEHIND = re.compile(
    r"[ \n]*(?:(?:is|are) (?:the|our|my) (?:(?:final|correct|full|general|required) ){0,2}"
    r"(?:answers?|solutions?|solution set|result|value))?[ \n]*[.!]?[ \n]*(?:I hope it is correct\.?)?[ \n]*",
    re.IGNORECASE,
)
DOUBT = re.compile(
    r"n't\b|\b(?:not|no|none|never|neither|either|or|nor|cannot|except|unless|if|whether|but|maybe|perhaps"
    r"|possibly|probably|might|may|could|would|should|think|guess|believe|assume|suppose|try|almost|about"
    r"|approximately|roughly|wrong|incorrect|false|other|another|others|one|two|three|four|five|six|seven|eight"
    r"|nine|ten|half|twice|double|minus|plus|negative|positive|opposite|inverse|reciprocal|less|more|greater"
    r"|smaller|larger|fewer|below|above|beyond|least|most|between|example|instance|previous|first|second)\b",
    re.IGNORECASE,
)
"""Words with which a formula is not what the sentence states, or not all of it."""
FINAL = re.compile(
    r"(?:(?:\A|(?<=\n)|(?<=[.!] ))[#*_> ]{0,4}final answer[*_ ]{0,3}:[*_ ]{0,3}\s{0,3})?"
    r"\bthe final answer is\b:?"
    r"|(?:\A|(?<=\n)|(?<=[.!] ))[#*_> ]{0,4}final answer[*_ ]{0,3}:[*_]{0,3}",
    re.IGNORECASE,
)
HOPE = re.compile(r"(?<=[\s.$])I hope it is correct\.?\s*\Z", re.IGNORECASE)
MAX_FINAL = 16


def formula_of_sentence(text: str) -> str | None:
    """The one formula that a sentence states, as "Therefore $x \\ge 5$ is the solution."; else None."""
    if len(text) > MAX_SENTENCE:
        return None
    found = FORMULA.search(text)
    if found is None:
        return None
    before, behind = text[: found.start()], text[found.end() :]
    if not BEFORE.fullmatch(before) or DOUBT.search(before) or not BEHIND.fullmatch(behind):
        return None
    return next(inside for inside in found.groups() if inside).strip()


def final_words(text: str) -> str | None:
    """Answer that a solution gives in its last words: "The final answer is $12$. I hope it is correct.", or
    "Final answer: 12" at the start of a line or sentence.

    None where there is none, where it is longer than a sentence or denied, and where two disagree.
    """
    found = list(FINAL.finditer(text)) if "inal answer" in text.casefold() else []
    if not 0 < len(found) <= MAX_FINAL:
        return None
    last = text[found[-1].end() :]
    if len(last) > MAX_SENTENCE:
        return None
    answer = _stated(HOPE.sub("", last))
    for mention, following in pairwise(found):
        earlier = text[mention.end() : following.start()][:MAX_SENTENCE].lstrip()
        stated = FORMULA.match(earlier) or re.match(r"[^\s]+", earlier)
        if stated is None or comparison_key(_stated(stated[0])) != comparison_key(answer):
            return None
    denied = any(DOUBT.search(text[max(0, one.start() - 24) : one.start()]) for one in found)
    return None if denied or not answer else answer


def _stated(text: str) -> str:
    return tidy(text.strip().rstrip(".").strip())
