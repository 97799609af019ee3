"""Mathematical answers compared with their truth: as text, as numbers, and only then by computer algebra.

The first two stages are here, and settle most answers in microseconds: an answer is tidied (`latex`), read
into a tree (`expressions`), and its leaves are compared as text, as quantities (`numbers`) and by exact
arithmetic. What they leave is an `Open` question, screened (`sizes`) and spelled so that math-verify's known
faults cannot be used; `algebra` decides it in a process that can be killed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from ..errors import Unscorable
from ..limits import limits, most
from ..tracing import noted
from .arithmetic import exact
from .declared import final_words, formula_of_sentence, framed, side_by_side, unit_behind
from .equality import same
from .expressions import Node, Tree, leaves, shown, sides_of, tree_of, with_leaves, worked_out
from .latex import alternatives_as_list, braces_match, comparison_key, has_words, tidy
from .numbers import Likeness, Number, read_quantity
from .response import Verdict, inside_box, segment
from .sizes import MAX_DEPTH, depth_of, too_large
from .units import UNITS, Unit, split_unit, unit_of

STAGES = ("exact", "numeric", "symbolic")
"""Parts of a verdict: 1 for the stage by which a right answer was recognised."""
MAX_BOXES = 64
MAX_DECIMALS = 40
CACHED = 4096
"""Truths that are kept: a group of answers shares one."""
NUMBERED = re.compile(r"\d ?_")
JUXTAPOSED = re.compile(r"\d \d")
AFTER_BOX = re.compile(r"\s*(\\?%|.{1,40}?)\s*\.?\s*\Z")
APPROXIMATE = re.compile(
    r"\A(?:\\approx|\\sim|approximately|approx\.?|\u7ea6\u4e3a?|\u5927\u7ea6)\s?|\s?(?:\\text\s?\{\s?)?\((?:approx(?:\.|imately)?|rounded)\)\s?\}?\Z",
    re.IGNORECASE,
)
DECIMAL_COMMA = re.compile(r"-?(?:0,\d+|[1-9]\d*,(?:\d{1,2}|\d{4,}))(?: ?[^\d,.;()\[\]]{1,24})?", re.ASCII)
"""3,14 and 0,125, but not 1,125 or "3, 14": no number of thousands, and no list as models write one. Read so
where one number is due."""
CHOICE = re.compile(
    r"(?:(?:option|choice|answer)\s?)?\(?([A-J])(?:\)|\s?[.:)]|\Z)\s*(.*)\Z", re.IGNORECASE | re.DOTALL
)
LETTERS = re.compile(r"\\text\s?\{([^{}]*)\}")
LONE_LETTER = re.compile(r"(?<![A-Za-z])[A-J](?![A-Za-z])")
QUANTITY_OR_PRODUCT = re.compile(r"\A(.*[\d})])([A-Za-z])\Z")
SPELLINGS = (
    (re.compile(r"(?<![A-Za-z\\])exp ?\(([^()]*)\)"), r"e^{\1}"),
    (re.compile(r"\\log ?_ ?\{?(\w+)\}? ?(\d+(?:\.\d+)?|[A-Za-z])"), r"\\log_{\1}(\2)"),
    (re.compile(r"(?<![A-Za-z\\])C ?\((\d+), ?(\d+)\)"), r"\\binom{\1}{\2}"),
    (re.compile(r"\{?(\w+) ?\\choose ?(\w+)\}?"), r"\\binom{\1}{\2}"),
    (re.compile(r"\{([^{}]*)\\over(?![A-Za-z])([^{}]*)\}"), r"\\frac{\1}{\2}"),
    (re.compile(r"(?:\{\})?[_^] ?\{?(\d+)\}? ?\\?C ?_ ?\{?(\d+)\}?"), r"\\binom{\1}{\2}"),
    (re.compile(r"(?<![A-Za-z\d\\])(\d+) ?C ?_? ?(\d+)"), r"\\binom{\1}{\2}"),
    (re.compile(r"(\d) (?=[A-Za-z](?![A-Za-z]))"), r"\1"),
    (re.compile(r"(?<![A-Za-z\\])(sin|cos|tan|cot|sec|csc|ln|log)(?![A-Za-z])"), r"\\\1 "),
)
LEFT_OVER = re.compile(r"\$[^$\d]*\$|\\boxed")
DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s?\^ ?\{? ?\\circ ?\}?")
CIRCULAR = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
SYMBOL = re.compile(r"\\[A-Za-z]+|[A-Za-z]")
GREEK = (
    " alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi"
    " chi psi omega "
)
SPARE = "kqvwujhnmlpzyxtsrgfcba"
"""Letters that stand in for others, those least likely to be in use first; not d, e, i and o, which mean
something."""


@dataclass(frozen=True, slots=True)
class Truth:
    """A true answer, read once.

    Args:
        text: tidied.
        key: for comparison as text.
        tree: what it consists of.
        words: True for text, where only equal text is right.
        quantity: the same as a quantity, where the letter at its end may be a unit or a variable (5m); only
            an answer with a unit is compared with it.
    """

    text: str
    key: str
    tree: Tree
    words: bool
    quantity: str = ""


class Open(NamedTuple):
    """Two expressions, or trees of them, that only computer algebra can compare, the truth first."""

    gold: Tree
    answer: Tree


def truth_of(target: Any) -> Truth:
    """Read a target: a number, or text in plain notation or LaTeX, which may be boxed.

    Raises:
        Unscorable: "error", a fault of the data, when it is empty, no text, unbalanced, or too large to be
            computed with.
    """
    if isinstance(target, bool) or not isinstance(target, str | int | float):
        raise Unscorable(f"the target {str(target)[:80]!r} is {type(target).__name__}; give text or a number")
    given = str(target)
    if len(given) > limits().formula_characters:
        raise Unscorable(f"the target has {len(given)} characters; the limit is {most('formula_characters')}")
    truth = _truth_of(given)
    noted("target", "{} is " + ("text" if truth.words else "the expression {}"), target, truth.text)
    return truth


@lru_cache(CACHED)
def _truth_of(given: str) -> Truth:
    text = (
        tidy(_all_boxed(given) or boxed_answer(given) or given)
        if "\\boxed" in given or "\\fbox" in given
        else tidy(formula_of_sentence(given) or given)
    )
    text = APPROXIMATE.sub("", text)
    if not text or "\\boxed{}" in text:
        raise Unscorable(f"the target {given[:80]!r} is empty; leave the row out or give the true answer")
    if depth_of(text) > MAX_DEPTH:
        raise Unscorable(f"the target {given[:80]!r} cannot be read: brackets nest deeper than {MAX_DEPTH}")
    tree = _without_chain(tree_of(_radians(text)))
    words = False
    for leaf in leaves(tree):
        listing = alternatives_as_list(leaf)
        if read_quantity(leaf):
            continue
        bare = _spelled(split_unit(listing)[0])
        if has_words(bare) or JUXTAPOSED.search(bare):
            words = True
        elif exact(bare) is None and (
            reason := too_large(bare) or ("" if braces_match(bare) else "unbalanced braces")
        ):
            raise Unscorable(f"the target {given[:80]!r} cannot be compared with anything: {reason}")
    return Truth(text, comparison_key(text), tree, words, _as_quantity(text))


def boxed_answer(text: str) -> str | None:
    """Content of the last box, with the percent sign or unit that stands after it: \\boxed{50}\\%."""
    boxed = inside_box(text)
    if boxed is None:
        return None
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    at = text.find(boxed, start) + len(boxed)
    after = AFTER_BOX.match(text[text.find("}", at) + 1 :]) if boxed else None
    unit = unit_behind(after[1]) if after else ""
    if "$" not in unit and (unit.lstrip("\\") == "%" or (unit and unit_of(tidy(unit)))):
        return f"{boxed} {unit}"
    return boxed


def _all_boxed(text: str) -> str | None:
    """Contents of several boxes, of a truth that has them all, as a list."""
    boxes = [*_boxes(text)][::-1]
    if len(boxes) < 2:
        return None
    rest = text
    for box in boxes:
        rest = rest.replace(box, "", 1)
    # Answers beside each other, not one after another: nothing but connectives and names between them.
    rest = re.sub(
        r"\\(?:boxed|fbox)\s?\{\s*\}|\\q?quad|\\(?:text|mathrm)|\\[\[\]()]|\band\b|\w+ ?=|[\s$,;.{}]",
        "",
        rest,
    )
    return " , ".join(boxes) if not rest else None


def _without_chain(tree: Tree) -> Tree:
    """Truth of "2\\sqrt{3} \\approx 3.46": the exact side."""
    if isinstance(tree, Node) and tree.kind == "equation":
        return tree._replace(items=[_without_chain(item) for item in tree.items])
    return tree.items[0] if isinstance(tree, Node) and tree.kind == "chain" else tree


def _as_quantity(text: str) -> str:
    """5m as five metres; "" for what does not end in a letter that is a unit."""
    found = QUANTITY_OR_PRODUCT.match(text)
    return f"{found[1]} \\text{{{found[2]}}}" if found and found[2] in UNITS else ""


def answer_of(
    response: str, *, bare: bool = False, boxes: Literal["last", "agree"] = "last", only_boxed: bool = False
) -> str:
    """Read the answer of a response, tidied: the last `\\boxed{}` inside `<answer>`, with those that are
    joined to it; else what the text declares (see `declared`); else all of it.

    Args:
        response: the whole response.
        bare: take the text after the thinking where there are no answer tags; only a box counts there.
        boxes: "last" takes the last of several boxes; those joined to it by a comma or "and" are one list
            with it. "agree" asks that all hold the same.
        only_boxed: an answer without a box is none.

    Raises:
        Unscorable: "unparsable" when there is no answer, none that is not empty, or boxes disagree.
    """
    tagged = "<answer>" in response.rpartition("</think>")[2]
    text = framed(segment(response, bare=bare).answer)
    boxed = boxed_answer(text)
    if boxed is None and (only_boxed or not tagged):
        raise Unscorable("there is no \\boxed{} answer", "unparsable")
    if boxes == "agree" and len({comparison_key(tidy(box)) for box in _boxes(text)}) > 1:
        raise Unscorable("several boxed answers that disagree", "unparsable")
    if boxed is None:
        declared = formula_of_sentence(text) or final_words(text)
        answer = declared or text
        noted("box", "there is none: {} " + ("is what the text declares" if declared else "is read"), answer)
    else:
        joined = side_by_side(text)
        answer = joined or boxed
        noted("box", "{} in the " + ("boxes side by side" if joined else "last box"), answer)
    if len(answer) > 4096:
        raise Unscorable(f"an answer of {len(answer)} characters", "unparsable")
    answer = tidy(answer)
    if not answer:
        raise Unscorable("the answer is empty", "unparsable")
    noted("tidied", "{}", answer)
    return answer


def settle(truth: Truth, answer: str, likeness: Likeness) -> Verdict | Open:
    """Judge as text and as numbers; what remains open is fit for computer algebra.

    Raises:
        Unscorable: "unparsable" when the answer is prose, malformed, an equation where the truth is none, or
            too large to be computed with.
    """
    answer = APPROXIMATE.sub("", answer)
    if comparison_key(answer) == truth.key:
        noted("as text", "{} is the target", answer)
        return stage_verdict("exact")
    noted("as text", "{} is not {}", answer, truth.text)
    if isinstance(truth.tree, str) and DECIMAL_COMMA.fullmatch(answer) and read_quantity(truth.tree):
        answer = answer.replace(",", ".", 1)
        noted("decimal comma", "read as {}", answer)
    if len(truth.key) == 1 and truth.key in "ABCDEFGHIJ" and (choice := _choice(answer)):
        noted("as a choice", "{} with {}", choice, truth.key)
        return stage_verdict("exact" if choice == truth.key else "")
    if truth.words or (len(comparison_key(answer)) == 1 and len(truth.key) == 1):
        noted("settled", "only the same text is right")
        return stage_verdict("")
    if depth_of(answer) > MAX_DEPTH:
        raise Unscorable(f"{answer[:80]!r} is no answer: brackets nest deeper than {MAX_DEPTH}", "unparsable")
    if LEFT_OVER.search(answer):
        raise _no_answer(answer, "delimiters that do not match")
    tree, gold = tree_of(_radians(answer)), truth.tree
    if len(sides_of(truth.text)) == 1:
        tree = worked_out(tree)
    for part in leaves(tree):
        if not read_quantity(part):
            _screened(part)
    if truth.quantity and _unit_named(tree):
        gold = tree_of(truth.quantity)
    leaf = _Leaf(likeness)
    result = same(gold, tree, leaf)
    if result is not None:
        noted("as numbers", "the answer is " + ("equal" if result else "not equal"))
        return stage_verdict("numeric" if result else "")
    return leaf.question(gold, tree)


def algebraic(truth: Truth) -> Tree | None:
    """What algebra would be given of a truth; None for text, and for what is settled without."""
    known = (read_quantity(leaf) or exact(_plain_leaf(leaf)) is not None for leaf in leaves(truth.tree))
    if truth.words or all(known):
        return None
    tree = truth.tree
    if isinstance(tree, Node) and tree.kind == "equation" and isinstance(tree.items[0], str):
        tree = tree.items[0]
    return with_leaves(tree, _plain_leaf)


class _Leaf:
    """Comparator of leaves by text, quantities and exact arithmetic; prepares the others for algebra."""

    def __init__(self, likeness: Likeness) -> None:
        self._likeness = likeness
        self._unknown: list[tuple[str, str]] = []

    def __call__(self, gold: str, answer: str) -> bool | None:
        known, given = read_quantity(gold), read_quantity(answer)
        if known and not given and known.unit:
            given = read_quantity(answer, letters=True)
        if known and given:
            same = self._likeness.same(known, given)
            noted("quantities", "{} with {}: " + ("equal" if same else "not equal"), answer, gold)
            return same
        if comparison_key(gold) == comparison_key(answer):
            return True
        pair = self._pair(gold, known, answer, given)
        if pair is None:
            return False
        if NUMBERED.findall(pair[1]) != NUMBERED.findall(pair[0]):
            return False
        values = [exact(text) for text in pair]
        if values[0] is not None and values[1] is not None:
            numbers = [
                Number(value, value.denominator == 1 and "." not in text, rounded="." in text)
                for value, text in zip(values, pair, strict=True)
                if value is not None
            ]
            same = self._likeness.same(numbers[0], numbers[1])
            noted("arithmetic", "{} with {}: " + ("equal" if same else "not equal"), values[1], values[0])
            return same
        noted("left open", "{} with {} is for algebra", *pair[::-1])
        self._unknown.append(pair)
        return None

    def question(self, gold: Tree, answer: Tree) -> Open:
        """What algebra is asked: both trees with leaves that leave nothing to guess."""
        if len(self._unknown) == 1 and _single(gold) and _single(answer):
            return _apart(*self._unknown[0])
        return _apart(with_leaves(gold, _plain_leaf), with_leaves(answer, _plain_leaf))

    def _pair(
        self, gold: str, known: Number | None, answer: str, given: Number | None
    ) -> tuple[str, str] | None:
        """Both without units, in the truth's unit; None for another unit, or none where one is required."""
        known_text, known_unit = (latex_of(known), known.unit) if known else split_unit(gold)
        text, unit = (latex_of(given), given.unit) if given else split_unit(_screened(answer))
        if len(sides_of(answer)) > 1 and len(sides_of(gold)) == 1:
            raise _no_answer(answer, "an equation, and the true answer is none")
        if known_unit and unit and known_unit != unit:
            if known_unit.kind != unit.kind:
                return None
            scale = unit.size / known_unit.size
            if comparison_key(text) == comparison_key(known_text):
                return None
            text = f"\\frac{{{scale.numerator}}}{{{scale.denominator}}} \\cdot ({text})"
        if unit == UNITS["degrees"] and not known_unit and "\\pi" in known_text:
            text = f"\\frac{{\\pi}}{{180}} \\cdot ({text})"
        if known_unit and not unit and self._likeness.units == "required":
            return None
        return _spelled(known_text), _spelled(text)


def _single(tree: Tree) -> bool:
    return isinstance(tree, str) or (tree.kind == "equation" and isinstance(tree.items[0], str))


def _plain_leaf(text: str) -> str:
    number = read_quantity(text)
    return latex_of(number) if number else _spelled(split_unit(text)[0])


def _unit_named(tree: Tree) -> Unit | None:
    text = shown(tree.items[0]) if isinstance(tree, Node) and tree.kind == "equation" else shown(tree)
    number = read_quantity(text)
    return number.unit if number else split_unit(text)[1]


def _choice(answer: str) -> str | None:
    """Letter of "Option B", "(B) 12" or "B. 12"; None where it is none, or names another letter too."""
    found = CHOICE.match(" ".join(LETTERS.sub(r" \1 ", answer.replace("\\textbf", "\\text")).split()))
    if found is None or LONE_LETTER.search(found[2]) or (found[2] and "=" in found[2]):
        return None
    return found[1].upper() if found[1].isupper() else None


def stage_verdict(stage: str) -> Verdict:
    """Verdict of a right answer, recognised by this stage; of a wrong one for ""."""
    return Verdict(float(bool(stage)), {name: float(name == stage) for name in STAGES})


def latex_of(number: Number) -> str:
    """A number in LaTeX that leaves nothing to guess: no percent sign, unit, currency or separator."""
    value, digits = number.value, 0
    while value.denominator != 1 and digits < MAX_DECIMALS:
        value, digits = value * 10, digits + 1
    if value.denominator != 1:
        return f"\\frac{{{number.value.numerator}}}{{{number.value.denominator}}}"
    whole = f"{abs(value.numerator):0{digits + 1}d}"
    text = f"{whole[:-digits]}.{whole[-digits:]}" if digits else whole
    return f"-{text}" if value < 0 else text


def _boxes(text: str) -> Iterator[str]:
    """Contents of the boxes, the last first."""
    for _ in range(MAX_BOXES):
        boxed = inside_box(text)
        if boxed is None:
            return
        yield boxed
        text = text[: max(text.rfind("\\boxed"), text.rfind("\\fbox"))]


def _no_answer(answer: str, reason: str) -> Unscorable:
    return Unscorable(f"{answer[:80]!r} is no answer: {reason}", "unparsable")


def _screened(answer: str) -> str:
    """Answer with alternatives as a list, if it may be handed to computer algebra."""
    text = alternatives_as_list(answer)
    reason, bare = "", _spelled(split_unit(text)[0])
    if has_words(bare):
        reason = "words where mathematics is expected"
    elif "$" in text or "\\boxed" in text or not braces_match(text):
        reason = "delimiters or braces that do not match"
    elif JUXTAPOSED.search(bare):  # math-verify adds them up
        reason = "numbers side by side"
    elif exact(bare) is None:
        reason = too_large(bare)
    if reason:
        raise _no_answer(answer, reason)
    return text


def _spelled(text: str) -> str:
    """Expression in the spelling that algebra reads: binomials, logarithms, percent."""
    for pattern, spelling in SPELLINGS:
        text = pattern.sub(spelling, text)
    if text.endswith("%"):
        text = f"\\frac{{{text[:-1]}}}{{100}}"
    return text


def _radians(text: str) -> str:
    """Text with degrees inside sines and their kin in radians, as those are no unit of the whole."""
    return DEGREES.sub(r"{\\frac{\1\\pi}{180}}", text) if CIRCULAR.search(text) else text


def _apart(gold: Tree, answer: Tree) -> Open:
    """Give a capital another letter where its small letter is in use too, as math-verify lowers all."""
    used = {
        found
        for tree in (gold, answer)
        for text in (*leaves(tree), shown(tree))
        for found in SYMBOL.findall(text)
    }
    names = {name for name in used if len(name) == 1 or f" {name[1:].lower()} " in GREEK}
    clashing = sorted(name for name in names if name.lower() in names and name != name.lower())
    spare = (letter for letter in SPARE if letter not in used and letter.upper() not in used)
    other = dict(zip(clashing, spare, strict=False))

    def renamed(text: str) -> str:
        return SYMBOL.sub(lambda found: other.get(found[0], found[0]), text)

    return Open(with_leaves(gold, renamed), with_leaves(answer, renamed))
