"""Mathematics (`math`), and short answers of mixed kinds (`answer`): text, number, sequence or mathematics.

`answer` is for charts, puzzles and science; the target decides the kind of comparison. Nothing here guesses:
text is equal or not, and an answer that holds the truth among other things is wrong. Mathematics is compared
as in `verifiers.math`: as text, as numbers, then by computer algebra in processes that are killed, so nothing
hangs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import Unscorable
from ...limits import limits, most
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.algebra import Effort, Exceeded, decide, use_math_verify, why_unreadable
from ...verifiers.math import STAGES, answer_of, boxed_answer, settle, truth_of
from ...verifiers.numbers import WHOLE_TEXT, Likeness, Number, Relax, read_number, tidy
from ...verifiers.reading import stated_in, without_lead
from ...verifiers.response import Reading, Verdict, inside_box, segment, verified
from ...verifiers.spelling import items_of, quantity, scaled, spellings
from ...verifiers.text import normalise

Kind = Literal["auto", "text", "number", "sequence", "math"]
ANSWER_PARTS = ("text", "number", "math", "items")
"""Text, number and math are 1 for the kind by which a right answer was recognised; items is the share of a
sequence that is right."""
MAX_ANSWER = 4096
WORDS = 2
"""Words before an announced answer that are another answer, where more are reasoning."""
POWERS = {0xB2: "^2", 0xB3: "^3"}
SIGNS_OF_MATH = ("\\", "^", "=")


@dataclass(frozen=True, slots=True)
class Target:
    """A target, read once.

    Args:
        kind: of the comparison; never "auto".
        texts: the spellings that are right, as `normalise_text` gives them.
        number: of kind "number".
        items: of kind "sequence".
        expression: the target itself, for kind "math".
    """

    kind: Kind
    texts: frozenset[str] = frozenset()
    number: Number | None = None
    items: "tuple[Target, ...]" = ()
    expression: Any = None


YES = ("yes", "true", "correct", "\u662f", "\u5bf9", "\u6b63\u786e")
NO = ("no", "false", "incorrect", "\u5426", "\u9519", "\u9519\u8bef", "\u4e0d\u662f", "\u6ca1\u6709")


def target_of(
    target: Any, kind: Kind = "auto", aliases: Sequence[str] = (), reading: Reading = "clear"
) -> Target:
    """Read a target.

    Args:
        target: text, a number, a bool (yes or no), or a list of them.
        kind: "auto" takes a list for a sequence, what reads as a number for a number, text with a backslash,
            ^ or = for mathematics, and the rest for text.
        aliases: other spellings of a text that are right.
        reading: "clear" knows a text in all its `spellings`, and numbers with a scale ("3.2 million").

    Raises:
        Unscorable: "error", a fault of the data, when the target is empty or not of this kind.
    """
    clear = reading == "clear"
    if kind == "auto":
        kind = _kind(target)
        if clear and kind == "text" and isinstance(target, str) and scaled(target) is not None:
            return Target("number", spellings(target), scaled(target))
    if kind == "math":
        return Target("math", expression=target)
    if kind == "sequence":
        items = split_items(target) if isinstance(target, str) else target
        if not isinstance(items, list | tuple) or not 0 < len(items) <= limits().items:
            raise Unscorable(
                f"the target {str(target)[:80]!r} is no sequence; give a list of 1 to {most('items')}"
            )
        return Target("sequence", items=tuple(_item(item, reading) for item in items))
    number = read_number(target)
    if kind == "number":
        if number is None:
            raise Unscorable(
                f"the target {str(target)[:80]!r} is no number; correct it or choose another kind"
            )
        return Target("number", number=number)
    if isinstance(target, bool):
        aliases = (*aliases, *(YES if target else NO)) if clear else aliases
        target = "yes" if target else "no"
    texts = frozenset(normalise_text(str(text)) for text in (target, *aliases))
    if not isinstance(target, str | int | float) or "" in texts:
        raise Unscorable(f"the target {str(target)[:80]!r} is no text; give some that is not empty")
    if clear:
        texts = texts.union(*(spellings(str(text)) for text in (target, *aliases)))
    return Target("text", texts)


def compare(truth: Target, answer: str, likeness: Likeness, reading: Reading = "clear") -> Verdict:
    """Grade an answer: 1 when it is the target, else 0; for kinds other than "math".

    Raises:
        Unscorable: "unparsable" when the answer is empty, too long, or no number or sequence where one is
            expected.
    """
    if not answer.strip() or len(answer) > MAX_ANSWER:
        raise Unscorable(
            "the answer is empty" if not answer.strip() else "the answer is too long", "unparsable"
        )
    if truth.kind == "sequence":
        splits = [split_items(answer)]
        if reading == "clear":
            splits.append(items_of(without_lead(answer), len(truth.items)) or [])
        share = max(_share(truth.items, items, likeness, reading) for items in splits)
        noted("compared", "{} with {} item(s) in order: a share of {}", splits[0], len(truth.items), share)
        return answer_verdict(float(share == 1), items=share)
    if truth.kind == "number" and _number(answer, truth, reading) is None and not _spelled(answer, truth):
        raise Unscorable(f"{answer[:80]!r} is no number", "unparsable")
    right = float(_same(truth, answer, likeness, reading))
    noted("compared", f"{{}} as a {truth.kind}: " + ("the same" if right else "not the same"), answer)
    return answer_verdict(right, **{truth.kind: right})


def compare_all(truth: Target, text: str, likeness: Likeness) -> Verdict:
    """Grade the text of an answer in the clear reading: its last box, else every statement that it makes,
    all of which must be right.

    A word or a number before an announced answer ("red. The answer is blue") is a statement too.

    Raises:
        Unscorable: "unparsable", as `compare`.
    """
    if truth.kind == "number":
        text = text.translate(POWERS)  # NFKC, in which statements come, makes m/s\u00b2 m/s2
    boxed = boxed_answer(text) if truth.kind == "number" else inside_box(text)
    if boxed is not None:
        noted("box", "{} in the last box", boxed)
        return compare(truth, boxed, likeness)
    stated, beside = stated_in(text)
    beside = without_lead(beside)
    if beside and (
        _number(beside, truth, "clear") if truth.kind == "number" else len(beside.split()) <= WORDS
    ):
        stated = (*stated, beside)
    return min((compare(truth, one, likeness) for one in stated), key=lambda verdict: verdict.value)


def _share(truths: Sequence[Target], items: Sequence[str], likeness: Likeness, reading: Reading) -> float:
    """Share of a sequence that is right; 1 only when it is as long as the truth."""
    if not items:
        return 0.0
    hits = sum(_same(truth, item, likeness, reading) for truth, item in zip(truths, items, strict=False))
    return hits / max(len(items), len(truths))


def answer_verdict(value: float, **parts: float) -> Verdict:
    """A verdict with these parts and the others at 0."""
    return Verdict(value, {name: parts.get(name, 0.0) for name in ANSWER_PARTS})


def normalise_text(text: str) -> str:
    """Text in NFKC with single spaces, without case, outer quotes, \\text{} and closing full stop.

    Inner signs stay: a puzzle's strings are exact.
    """
    text = normalise(text)
    if whole := WHOLE_TEXT.fullmatch(text):
        text = whole[1].strip()
    if len(text) > 1 and text.endswith(".") and text[-2].isalnum():
        text = text[:-1]
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'`*":
        text = text[1:-1].strip()
    return text


def split_items(text: str) -> list[str]:
    """Split a sequence into its items: "a, b, c", "[a; b]", "a -> b" or "a b c", in the first of these ways
    that splits it."""
    text = tidy(text).strip()
    if len(text) > 2 and text[0] + text[-1] in ("[]", "()", "{}"):
        text = text[1:-1]
    for separator in (",", ";", "->"):
        if separator in text:
            return [item.strip().strip("\"'") for item in text.split(separator, limits().items)]
    return text.split(None, limits().items)


def _kind(target: Any) -> Kind:
    if isinstance(target, list | tuple):
        return "sequence"
    if read_number(target):
        return "number"
    if isinstance(target, str) and any(sign in target for sign in SIGNS_OF_MATH):
        return "math"
    return "text"


def _item(item: Any, reading: Reading) -> Target:
    return target_of(item, "number" if read_number(item) else "text", reading=reading)


def _same(truth: Target, answer: str, likeness: Likeness, reading: Reading) -> bool:
    if truth.number is None:
        return normalise_text(answer) in truth.texts or (reading == "clear" and _spelled(answer, truth))
    number = _number(answer, truth, reading)
    return _spelled(answer, truth) or (number is not None and likeness.same(truth.number, number))


def _spelled(answer: str, truth: Target) -> bool:
    return bool(truth.texts) and bool(spellings(answer) & truth.texts)


def _number(answer: str, truth: Target, reading: Reading) -> Number | None:
    return quantity(answer, truth.number) if reading == "clear" else read_number(answer)


KEYS = ("answer", "kind", "aliases")
"""Keys of a target that is a mapping."""


def _target_of_row(target: Any, kind: Kind, reading: Reading) -> Target:
    """Read the target of a row, which may be a mapping with a kind and aliases of its own."""
    if not isinstance(target, Mapping):
        return target_of(target, kind, reading=reading)
    # A table's missing cells come as None.
    given = {name: value for name, value in target.items() if value is not None}
    if unknown := sorted(set(given) - set(KEYS)):
        raise Unscorable(f"the target has {', '.join(unknown)}; it may have {', '.join(KEYS)}")
    if "answer" not in given:
        raise Unscorable("the target has no answer")
    return target_of(given["answer"], given.get("kind", kind), given.get("aliases", ()), reading)


@reward(
    "answer",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2505.18129",
    example={
        "response": "<think>The bar ends at 54.</think><answer>54 cm</answer>",
        "target": {"answer": "0.54 m", "kind": "number"},
    },
)
def answer(
    kind: Kind = "auto",
    tolerance: float = 1e-6,
    relax: Relax = "decimals",
    percent: Literal["value", "either"] = "value",
    units: Literal["optional", "required"] = "optional",
    deadline: float = 3.0,
    exceeded: Exceeded = "failed",
    workers: int = 0,
    bare: bool = False,
    reading: Reading = "clear",
) -> Any:
    """1 when the answer is the target, compared as its kind asks, else 0: charts, puzzles, science.

    The target is text, a number, a list (a sequence, in order), or {"answer": ..., "kind": ..., "aliases":
    [...]}, whose kind is that row's own. The answer is the content of `<answer>`, or of the last \\boxed{} in
    it. Text is compared without case and spacing, never by what it contains. `parts["items"]` is the share of
    a sequence that is right. ChartQA's relaxed accuracy is tolerance 0.05 with relax "integers"; relax "all"
    is as lenient as the original, for which 1950 is 2010.

    Args:
        kind: "text", "number", "sequence" or "math"; "auto" decides by each target. "math" needs
            mmreward[math], and so does a target in LaTeX.
        tolerance: relative to the target, for numbers.
        relax: which targets the tolerance is for. "decimals" leaves out those written as integers, "integers"
            leaves out years, "all" leaves out none.
        percent, units: as in the reward `math`.
        deadline, exceeded, workers: of the algebra, as in the reward `math`.
        bare: accept a response without answer tags whole.
        reading: "clear" takes off the dress of an answer (bold, "The answer is", an article) and reads
            numbers with a scale or a noun ("3.2 million", "10 people"); "strict" takes it as it stands.

    Raises:
        ValueError: an argument is out of range, or kind is "math" without math-verify.
    """
    likeness = Likeness(tolerance=tolerance, relax=relax, percent=percent, units=units)
    effort = Effort(deadline, exceeded, workers)
    if kind == "math":
        use_math_verify()

    async def verdict_of(sample: Sample) -> Verdict | Unscorable:
        truth = _target_of_row(sample.target, kind, reading)
        noted("target", f"{{}} is a {truth.kind}", sample.target)
        response = sample.response or ""
        try:
            if truth.kind != "math":
                text = segment(response, bare=bare, reading=reading).answer
                if reading == "clear":
                    return compare_all(truth, text, likeness)
                boxed = inside_box(text)
                return compare(truth, text if boxed is None else boxed, likeness, reading)
            known = truth_of(truth.expression)
            settled = settle(known, answer_of(response, bare=bare), likeness)
        except Unscorable as failure:
            if failure.status != "unparsable":
                raise
            return failure
        if not isinstance(settled, Verdict):
            use_math_verify()
            result = await decide(settled, effort)
            if isinstance(result, Unscorable):
                return result
            settled = result
        return answer_verdict(settled.value, math=settled.value)._replace(note=settled.note)

    async def score(sample: Sample) -> Score:
        result = await verdict_of(sample)

        def check() -> Verdict:
            if isinstance(result, Unscorable):
                raise result
            return result

        return verified(check, ANSWER_PARTS)

    return score


@reward(
    "math",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2505.18129",
    example={
        "response": "<think>Half of them.</think><answer>\\boxed{\\frac{2}{4}}</answer>",
        "target": "\\frac{1}{2}",
    },
)
def math(
    deadline: float = 3.0,
    exceeded: Exceeded = "failed",
    tolerance: float = 1e-6,
    percent: Literal["value", "either"] = "value",
    units: Literal["optional", "required"] = "optional",
    boxes: Literal["last", "agree"] = "last",
    only_boxed: bool = False,
    bare: bool = False,
    workers: int = 0,
) -> Any:
    """1 when the answer equals the target as text, as a number or by algebra (math-verify), else 0.

    The target is a number or text in plain notation or LaTeX; the answer is the content of the last \\boxed{}
    inside `<answer>`, else the one formula of a sentence ("Hence $x > 6$ is the solution.") or what follows
    "the final answer is", else all that is there. Case counts, words are compared as text, sets have no
    order, a vector or matrix is compared entry by entry, and an interval's ends must be right. A unit, a name
    ("AB ="), things that are counted ("12 apples") and number words may stand with the value; 5m is 5 times m
    unless the answer names a unit. Values that are exact on both sides are compared exactly. A decimal comma
    (3,75) is read where one number is due. Other prose, several numbers, an equation between numbers and what
    is too large to be computed (a tower of powers) are worth 0
    with `parts["parsed"]` 0; a target like that is an error of the data, with status "error", which
    `mmreward check` finds beforehand. Needs mmreward[math].

    Args:
        deadline: seconds that the algebra of one answer may take.
        exceeded: treatment of an answer whose algebra runs out of time or memory. "failed" gives the
            status "timeout" or "error" and no value; "wrong" gives 0, for policies that learn to write such.
        tolerance: relative to the target, for targets that are numbers but not integers.
        percent: "value" reads 50% as 0.5 alone, "either" also as 50.
        units: "optional" lets the answer leave out the target's unit, "required" does not. Another unit is
            converted, or wrong.
        boxes: with several boxes, "last" counts the last, and those that only a comma, "and" or "or" joins
            to it are one list with it ("\\boxed{2} and \\boxed{3}" is never 3); "agree" gives 0 unless all
            hold the same.
        only_boxed: an answer without \\boxed{} is none.
        bare: accept the last box after the thinking when there are no answer tags.
        workers: processes for algebra at most; 0 for one per core, up to 8. They are shared by all rewards
            that ask for the same number.

    Raises:
        ValueError: math-verify is not installed, or an argument is out of range.
    """
    likeness = Likeness(tolerance=tolerance, percent=percent, units=units)
    use_math_verify()
    effort = Effort(deadline, exceeded, workers)

    async def verdict_of(sample: Sample) -> Verdict | Unscorable:
        truth = truth_of(sample.target)
        try:
            answer = answer_of(sample.response or "", bare=bare, boxes=boxes, only_boxed=only_boxed)
            settled = settle(truth, answer, likeness)
        except Unscorable as failure:
            return failure
        return settled if isinstance(settled, Verdict) else await decide(settled, effort)

    async def score(sample: Sample) -> Score:
        result = await verdict_of(sample)

        def check() -> Verdict:
            if isinstance(result, Unscorable):
                raise result
            return result

        return verified(check, STAGES)

    async def target_problem(sample: Sample) -> str:
        return await why_unreadable(sample.target, effort)

    score.target_problem = target_problem  # type: ignore[attr-defined]  # for `mmreward check`
    return score
