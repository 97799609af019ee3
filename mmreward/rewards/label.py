"""Classification: 1 for the class's name, exactly, after or without thinking."""

from dataclasses import replace
from typing import Any

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.label import PARTS, judge, known_labels, names_of
from ..verifiers.short import bounded, short_answer
from ..verifiers.verdict import verified


@reward(
    "label",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2503.16188",
    example={
        "response": "<think>Orange, with stripes.</think><answer>Tiger cat</answer>",
        "target": ["tiger_cat", "tiger-striped cat"],
        "meta": {"labels": ["tabby", "tiger cat", "lynx"]},
    },
)
def label(thinking: bool = True, bare: bool = False) -> Any:
    """The name of the class, exactly: 0 or 1.

    `sample.target` is the label, a list of its names, or {"label": ..., "aliases": [...]}. Case, spacing,
    underscores and surrounding punctuation do not matter; everything else does, so a list of several labels
    is worth 0. `sample.meta["labels"]`, where given, lists all classes: `parts["known"]` is then whether the
    answer names any of them, and `parts["chance"]` what a blind guess earns (else 0).

    Args:
        thinking: the label is what the `<answer>` tags after the reasoning hold. Without (CLS-RL's
            No-Thinking-RL), the whole response is the label, and tags make it wrong.
        bare: with thinking, accept an answer without `<answer>` tags.
    """

    async def score(sample: Sample) -> Score:
        names = names_of(sample.target)
        labels = known_labels(sample.meta.get("labels"), names)
        response = sample.response or ""

        def answer() -> str:
            return short_answer(response, bare=bare) if thinking else bounded(response)

        judged = verified(lambda: judge(answer(), names, labels), PARTS)
        guess = 1 / len(labels) if labels else 0.0
        return replace(judged, parts={**judged.parts, "chance": guess})

    return score
