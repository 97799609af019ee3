"""From last hidden states to answers: label probabilities, log-likelihoods of continuations.

All prompts of a batch go through the head together: it is the largest matrix of a model (1 GB in
Qwen2.5-VL-7B), and would else be read once for each of them; and answers come off the device together.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from .answers import LogProb, Read, label_logprobs

LOGITS = 256 << 20
"""Bytes of log-probabilities that are held at once: 440 rows of a vocabulary of 152,000."""

Details = Sequence[tuple[tuple[str, ...], Sequence[Sequence[int]]]]
"""Of each prompt: its labels, and the tokens of each."""


def reads(head: torch.nn.Linear, states: torch.Tensor, details: Details) -> list[Read]:
    """Label probabilities of prompts, from the states (N, H) where their answers begin."""
    scores = _label_scores(head, states, details)
    return [
        Read(dict(zip(labels, row.softmax(0).tolist(), strict=True)), float(row.logsumexp(0).exp()))
        for (labels, _), row in zip(details, scores, strict=True)
    ]


def with_odds(head: torch.nn.Linear, states: torch.Tensor, details: Details) -> list[np.ndarray[Any, Any]]:
    """States (H,) in float32, each with the log-odds of its first label against each other one behind it."""
    scores = _label_scores(head, states, details)
    return [
        torch.cat([state, row[:1] - row[1:]]).numpy()
        for state, row in zip(states.float().cpu(), scores, strict=True)
    ]


def _label_scores(head: torch.nn.Linear, states: torch.Tensor, details: Details) -> list[torch.Tensor]:
    """Log-probabilities (labels,) of each prompt's labels, float32 on the CPU."""
    found: dict[int, torch.Tensor] = {}
    for rows in _parts([1] * len(states), head):
        logprobs = _logprobs(head, states[rows.start : rows.stop])
        alike: dict[tuple[str, ...], list[int]] = {}
        for row in rows:
            alike.setdefault(details[row][0], []).append(row)
        for labels in alike.values():
            own = logprobs if len(labels) == len(rows) else logprobs[[row - rows.start for row in labels]]
            scores = label_logprobs(own, details[labels[0]][1]).cpu()
            found.update(zip(labels, scores, strict=True))
    return [found[row] for row in range(len(states))]


def continuations(
    head: torch.nn.Linear, states: Sequence[torch.Tensor], tokens: Sequence[np.ndarray[Any, Any]]
) -> list[LogProb]:
    """Log-likelihood of each continuation, from the states (L, H) that predict its L tokens."""
    found = []
    for part in _parts([len(ids) for ids in tokens], head):
        logprobs = _logprobs(head, torch.cat([states[index] for index in part]))
        ids = torch.from_numpy(np.concatenate([tokens[index] for index in part])).to(logprobs.device)
        each = logprobs.gather(-1, ids[:, None])[:, 0]
        both, begin = torch.stack([each, logprobs.mean(-1)]).cpu(), 0
        for index in part:
            words = tuple(tokens[index].tolist())
            own, mean = both[:, begin : (begin := begin + len(words))]
            certainty = float(-mean.mean()) - math.log(logprobs.shape[-1])
            found.append(LogProb(float(own.sum()), len(words), tuple(own.tolist()), certainty, words))
    return found


def _logprobs(head: torch.nn.Linear, states: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = head(states)
    return logits.float().log_softmax(-1)


def _parts(lengths: Sequence[int], head: torch.nn.Linear) -> Iterator[range]:
    """Neighbours whose rows of log-probabilities fit `LOGITS` together; what alone is larger goes alone."""
    most = max(1, LOGITS // (4 * len(head.weight)))
    begin, rows = 0, 0
    for index, length in enumerate(lengths):
        if rows and rows + length > most:
            yield range(begin, index)
            begin, rows = index, 0
        rows += length
    if begin < len(lengths):
        yield range(begin, len(lengths))
