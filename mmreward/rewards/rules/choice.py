"""Multiple choice: the reward `choice`, its targets and what a blind guess is worth.

Which options an answer names is read in `options`, without looking at the target.
"""

from collections.abc import Set
from dataclasses import replace
from math import comb
from typing import Any, Literal

from ...errors import Unscorable
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.reading import Answers, agreed, read_answer
from ...verifiers.response import Reading, Verdict, verified
from .options import Options, letters_named, options_of

Select = Literal["one", "all", "jaccard"]
PARTS = ("correct", "named")


def chance(options: int, right: int, select: str) -> float:
    """Mean score of a blind guess: a letter for "one", else a set drawn from all that are not empty; 0 when
    the number of options is not known (0).

    The set of all options earns nothing under "jaccard" unless all are right, as in `grade_choice`.
    """
    if not options:
        return 0.0
    if select == "one":
        return 1 / options
    sets: int = 2**options - 1
    if select == "all":
        return 1 / sets
    wrong = options - right
    worth: float = sum(
        comb(right, hits) * comb(wrong, misses) * hits / (right + misses)
        for hits in range(right + 1)
        for misses in range(wrong + 1)
        if hits + misses
    )
    return (worth - (right / options if wrong else 0.0)) / sets


def right_letters(target: Any, options: Options | None, select: Select = "one") -> Set[str]:
    """Read the letters of a target: "B", "(B)", an option's words, or several ("A, C" or a list of such).

    Raises:
        Unscorable: it names no option, or several where one is asked for; "missing" for "jaccard" without
            known options, as nobody could tell that an answer lists them all.
    """
    if select == "jaccard" and options is None:
        raise Unscorable('select="jaccard" needs the options, in meta["options"]', "missing")
    given = list(target) if isinstance(target, list | tuple | set | frozenset) else [target]
    right: set[str] = set()
    for item in given:
        try:
            right |= letters_named(item if isinstance(item, str) else "", options, several=select != "one")
        except Unscorable as failure:
            raise Unscorable(f"the target {target!r} names no option of the question") from failure
    if not right:
        raise Unscorable("the target names no option")
    if select == "one" and len(right) > 1:
        raise Unscorable(f"the target {target!r} names {len(right)} options; give select='all' or 'jaccard'")
    return right


def grade_choice(
    answer: str | Answers,
    right: Set[str],
    options: Options | None,
    select: Select = "one",
    reading: Reading = "clear",
) -> Verdict:
    """Grade an answer: 1 for the right options and no others.

    With "jaccard" a set earns |named and right| / |named or right|, but naming every option earns nothing
    unless all are right. `parts["named"]` is the number of options named; order and repetition do not
    matter.

    Raises:
        Unscorable: "unparsable", as `letters_named`.
    """
    several = select != "one"
    answers = Answers((answer,)) if isinstance(answer, str) else answer

    def read(text: str) -> Set[str]:
        return letters_named(text, options, several=several, reading=reading)

    def beside(text: str) -> Set[str]:
        found = read(text)
        if len(found) > 1 and not several:  # a discussion of the options, before the answer is announced
            raise Unscorable("no single option is named", "unparsable")
        return found

    named = agreed(answers, read, beside)
    correct = float(named == right)
    noted("compared", "named {}, right {}: " + ("the same" if correct else "not the same"), named, right)
    if select == "jaccard":
        noted("overlap", "{} of {} are named and right", len(named & right), len(named | right))
    parts = {"correct": correct, "named": float(len(named))}
    if select == "one" and len(named) > 1:
        return Verdict(0.0, parts, f"names {len(named)} options where one is asked for")
    everything = options is not None and len(named) == len(options)
    if select != "jaccard" or everything:
        return Verdict(correct, parts)
    return Verdict(len(named & right) / len(named | right), parts)


@reward(
    "choice",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2504.07615",
    example={
        "response": "<think>It has whiskers.</think><answer>(B) cat</answer>",
        "target": "B",
        "meta": {"options": ["dog", "cat", "horse", "cow"]},
    },
)
def choice(
    select: Select = "one", bare: bool = False, boxed: bool = False, reading: Reading = "clear"
) -> Any:
    """The right option of a multiple-choice question, 0 or 1 (or in between for sets).

    `sample.meta["options"]` holds the options: texts in order, or letter -> text. Without it, only letters
    count. `sample.target` is a letter, an option's words, or several of them. An answer names an option by
    its letter ("B", "(b)", "B. cat", "the answer is B") or by its words; one that names two where one is
    asked for ("A or B", "B, not C") is worth 0. `parts["chance"]` is the mean score of a blind guess, 0
    where the options are not known; `parts["named"]` the number of options the answer names.

    Args:
        select: "one" option; "all" right ones and no others, in any order; or the overlap of the two sets,
            "jaccard", by which naming every option earns nothing (the options must be known).
        bare: accept an answer without `<answer>` tags.
        boxed: the answer is inside `\\boxed{...}`.
        reading: "clear" reads an unambiguous answer in whatever dress (LaTeX, bold, headings, reasoning
            before "Answer: B"); "strict" takes it as it stands, and an option's words exactly.
    """

    async def score(sample: Sample) -> Score:
        options = options_of(sample.meta.get("options"))
        right = right_letters(sample.target, options, select)
        noted("target", "{} is option {} of {}", sample.target, right, options or "options not known")
        response = sample.response or ""
        judged = verified(
            lambda: grade_choice(
                read_answer(response, bare=bare, boxed=boxed, reading=reading),
                right,
                options,
                select,
                reading,
            ),
            PARTS,
        )
        guess = chance(len(options or ()), len(right), select)
        return replace(judged, parts={**judged.parts, "chance": guess})

    return score
