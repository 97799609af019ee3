"""Which tokens count as which label when a model's first word is read.

Models differ in casing and leading space ("Yes", " yes", "YES"); taking one spelling and treating the others
as absent turns a confident answer into a wrong number. A label therefore stands for all its one-token
spellings.
"""

from collections.abc import Sequence
from typing import Any

import torch


def label_sets(tokenizer: Any, tail: str, labels: Sequence[str]) -> list[list[int]]:
    """Token ids of each label's spellings, as they come right after `tail` (the end of the chat prompt).

    Raises:
        ValueError: fewer than two labels, a label without a one-token spelling, or two labels sharing a
            token.
    """
    if len(set(labels)) < 2:
        raise ValueError(f"labels must be two or more different words, not {list(labels)}")
    before = tokenizer.encode(tail, add_special_tokens=False)
    sets: list[list[int]] = []
    for label in labels:
        spellings = {space + word for word in spelled(label) for space in ("", " ")}
        ids = set()
        for spelling in spellings:
            whole = tokenizer.encode(tail + spelling, add_special_tokens=False)
            if (
                whole[: len(before)] == before
                and len(whole) == len(before) + 1
                and whole[-1] != tokenizer.unk_token_id
            ):
                ids.add(whole[-1])
        if not ids:
            raise ValueError(
                f"label {label!r} is not one token for this model; use a shorter word, or `logprob`"
            )
        sets.append(sorted(ids))
    for i, first in enumerate(sets):
        for j in range(i):
            if set(first) & set(sets[j]):
                raise ValueError(
                    f"labels {labels[j]!r} and {labels[i]!r} share a token, so they cannot be told apart"
                )
    return sets


def spelled(label: str) -> tuple[str, ...]:
    """The casings of a label; a single letter keeps its own ("A" is a choice, "a" an article)."""
    return (label,) if len(label) == 1 else (label, label.lower(), label.upper(), label.capitalize())


def label_logprobs(logprobs: torch.Tensor, sets: Sequence[Sequence[int]]) -> torch.Tensor:
    """Log-probability of each label: logsumexp over its tokens. (V,) -> (labels,), float32."""
    return torch.stack([logprobs[list(ids)].logsumexp(0) for ids in sets])
