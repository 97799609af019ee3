"""Which tokens count as which label when a model's first word is read.

Models differ in casing and leading space ("Yes", " yes", "YES"); taking one spelling and treating the others
as absent turns a confident answer into a wrong number. A label therefore stands for all its one-token
spellings.
"""

from collections.abc import Collection, Hashable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def label_sets(tokenizer: Any, tail: str, labels: Sequence[str]) -> list[list[int]]:
    """Token ids of each label's spellings, as they come right after `tail` (the end of the chat prompt).

    Raises:
        ValueError: fewer than two labels, a label without a one-token spelling, or two labels sharing a
            token.
    """
    check_labels(labels)
    before = tokenizer.encode(tail, add_special_tokens=False)
    sets: list[list[int]] = []
    for label in labels:
        wholes = (tokenizer.encode(tail + text, add_special_tokens=False) for text in spellings(label))
        ids = {token for whole in wholes if (token := sole_token(before, whole)) is not None}
        sets.append(sorted(ids - {tokenizer.unk_token_id}))
    check_sets(labels, sets)
    return sets


def check_labels(labels: Sequence[str]) -> None:
    """Raises ValueError for fewer than two labels."""
    if len(set(labels)) < 2:
        raise ValueError(f"labels must be two or more different words, not {list(labels)}")


def sole_token(before: Sequence[int], whole: Sequence[int]) -> int | None:
    """The one token by which `whole` continues `before`; None when it is not one, or changes what was
    before."""
    extends = len(whole) == len(before) + 1 and list(whole[:-1]) == list(before)
    return whole[-1] if extends else None


def check_sets(labels: Sequence[str], sets: Sequence[Collection[Hashable]]) -> None:
    """Raises ValueError for a label without a token, and for two labels that share one."""
    for label, ids in zip(labels, sets, strict=True):
        if not ids:
            raise ValueError(
                f"label {label!r} is not one token for this model; use a shorter word, or `logprob`"
            )
    for i, first in enumerate(sets):
        for j in range(i):
            if set(first) & set(sets[j]):
                raise ValueError(
                    f"labels {labels[j]!r} and {labels[i]!r} share a token, so they cannot be told apart"
                )


def spelled(label: str) -> tuple[str, ...]:
    """The casings of a label; a single letter keeps its own ("A" is a choice, "a" an article)."""
    return (label,) if len(label) == 1 else (label, label.lower(), label.upper(), label.capitalize())


def spellings(label: str) -> list[str]:
    """All casings, with and without a leading space."""
    return sorted({space + word for word in spelled(label) for space in ("", " ")})


def label_logprobs(logprobs: "torch.Tensor", sets: Sequence[Sequence[int]]) -> "torch.Tensor":
    """Log-probability of each label: logsumexp over its tokens. (V,) -> (labels,), float32."""
    import torch

    return torch.stack([logprobs[list(ids)].logsumexp(0) for ids in sets])
