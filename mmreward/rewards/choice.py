"""Multiple choice: 1 for the option that is right, and nothing for naming several."""

from dataclasses import replace
from typing import Any

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.choice import PARTS, Select, judge, right_letters
from ..verifiers.options import chance, options_of
from ..verifiers.short import short_answer
from ..verifiers.verdict import verified


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
def choice(select: Select = "one", bare: bool = False, boxed: bool = False) -> Any:
    """The right option of a multiple-choice question, 0 or 1 (or in between for sets).

    `sample.meta["options"]` holds the options: texts in order, or letter -> text. Without it, only letters
    count. `sample.target` is a letter, an option's words, or several of them. An answer names an option by
    its letter ("B", "(b)", "B. cat", "the answer is B") or by exactly its words; one that names two where one
    is asked for ("A or B", "B, not C") is worth 0. `parts["chance"]` is what a blind guess earns, 0 where the
    options are not known; `parts["named"]` how many options the answer names.

    Args:
        select: "one" option; "all" right ones and no others, in any order; or the overlap of the two sets,
            "jaccard", by which naming every option earns nothing (the options must be known).
        bare: accept an answer without `<answer>` tags.
        boxed: the answer is inside a single `\\boxed{...}`.
    """

    async def score(sample: Sample) -> Score:
        options = options_of(sample.meta.get("options"))
        right = right_letters(sample.target, options, select)
        response = sample.response or ""
        judged = verified(
            lambda: judge(short_answer(response, bare=bare, boxed=boxed), right, options, select), PARTS
        )
        guess = chance(len(options or ()), len(right), select)
        return replace(judged, parts={**judged.parts, "chance": guess})

    return score
