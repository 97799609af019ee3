"""Outcomes of responses: what metrics by source are computed from, and flags of suspicious forms.

An `Outcome` is one scored response with the trainer's numbers. `hack_flags` marks forms that pay where a
verifier is careless: flags for monitoring, never a score. They are string searches, so a megabyte of text
costs a linear scan.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data.routing import Routed
from ..types import Sample, Score


def hack_flags(response: str) -> tuple[str, ...]:
    """Flags of a response, among `FLAGS`."""
    thought, _, body = response.rpartition("</think>")
    _, opened, rest = body.partition("<answer>")
    answer, closed, after = rest.partition("</answer>")
    found = {
        "blank_response": not response.strip(),
        "empty_answer": bool(opened and not answer.strip()),
        "several_answers": body.count("<answer>") > 1,
        "answer_in_thought": "<answer>" in thought,
        "unclosed_answer": bool(opened and not closed),
        "text_after_answer": bool(after.strip()),
    }
    return tuple(flag for flag in FLAGS if found[flag])


FLAGS = (
    "blank_response",
    "empty_answer",
    "several_answers",
    "answer_in_thought",
    "unclosed_answer",
    "text_after_answer",
)


UNKNOWN = "unknown"
"""The source of a sample without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One response with its scores.

    Args:
        source: data source of its prompt.
        total: the total score; its parts as `data.routing.PARTS`, where it has any.
        scores: the scores that the total is made of, by reward.
        id: of the sample.
        prompt: the text of the question.
        response: the text of the answer.
        length: of the response, in tokens.
        prompt_length: of the prompt, in tokens.
        group: the responses to one prompt have the same.
        flags: of hacks, see `hack_flags`.
        chance: expected accuracy of a blind guess, from 0 to 1, where that is known (1 / options).
        truth: True or False where a person checked whether it is right.
        figures: of the trainer, such as advantage, return and value.
    """

    source: str
    total: Score
    scores: Mapping[str, Score] = field(default_factory=dict)
    id: str = ""
    prompt: str = ""
    response: str = ""
    length: int | None = None
    prompt_length: int | None = None
    group: str | None = None
    flags: tuple[str, ...] = ()
    chance: float | None = None
    truth: bool | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """The part "accuracy", or the total's value where that part is absent or no number."""
        accuracy = self.total.parts.get("accuracy", math.nan)
        return accuracy if math.isfinite(accuracy) else self.total.value

    @property
    def unread(self) -> bool:
        """True where the answer could not be read."""
        if not self.total.ok:
            return self.total.status == "unparsable"
        return self.total.parts.get("parsed", 1.0) == 0.0


def outcomes_of(
    samples: Sequence[Sample],
    routed: Routed,
    lengths: Sequence[int] | None = None,
    prompt_lengths: Sequence[int] | None = None,
) -> list[Outcome]:
    """Outcomes of a routed batch, one per sample.

    `meta["chance"]` and `meta["truth"]` of a sample are taken over, the truth if it is true or false, 1 or 0.

    Args:
        samples: as they were scored.
        routed: what `Router.score` returned.
        lengths: tokens of each response.
        prompt_lengths: tokens of each prompt.

    Raises:
        ValueError: the lengths are not one per sample.
    """
    nothing: list[int | None] = [None] * len(samples)
    rows = zip(
        samples, routed.totals, routed.scores, lengths or nothing, prompt_lengths or nothing, strict=True
    )
    return [
        Outcome(
            source=sample.source or UNKNOWN,
            total=total,
            scores=scores,
            id=sample.id,
            prompt=sample.prompt,
            response=sample.response or "",
            length=length,
            prompt_length=prompt_length,
            group=sample.group,
            flags=hack_flags(sample.response or ""),
            chance=sample.meta.get("chance"),
            truth=_truth(sample),
        )
        for sample, total, scores, length, prompt_length in rows
    ]


def _truth(sample: Sample) -> bool | None:
    """The checked truth, also as numpy or Arrow give it; a text of that name belongs to the data instead."""
    truth: Any = sample.meta.get("truth")
    return bool(truth) if isinstance(truth, bool | int | float | np.bool_) and truth in (0, 1) else None
