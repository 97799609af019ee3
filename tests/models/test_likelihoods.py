"""Answers of a batch through the head together are those of its prompts one by one."""

import math

import numpy as np
import pytest
import torch

from mmreward.models.vlms import likelihoods
from mmreward.models.vlms.answers import label_logprobs
from mmreward.models.vlms.likelihoods import continuations, reads, with_odds

WIDTH, VOCABULARY = 16, 50
DETAILS = [
    (("yes", "no"), [[3, 4], [7]]),
    (("a", "b", "c"), [[1], [2], [5, 6]]),
    (("yes", "no"), [[3, 4], [7]]),
    (("no", "yes"), [[7], [3, 4]]),
    (("yes", "no"), [[3, 4], [7]]),
]


@pytest.fixture
def head():
    torch.manual_seed(0)
    return torch.nn.Linear(WIDTH, VOCABULARY, bias=False).requires_grad_(False)


@pytest.fixture(params=[1, 2, 3, 100], ids=lambda rows: f"{rows} rows at once")
def room(request, monkeypatch):
    """Rows of log-probabilities that fit at once."""
    monkeypatch.setattr(likelihoods, "LOGITS", request.param * 4 * VOCABULARY)


def one_row(head, state):
    return head(state).log_softmax(-1)


def test_label_probabilities(head, room):
    states = torch.randn(len(DETAILS), WIDTH)
    for state, (labels, sets), read in zip(states, DETAILS, reads(head, states, DETAILS), strict=True):
        scores = label_logprobs(one_row(head, state), sets)
        assert list(read.probs) == list(labels) and sum(read.probs.values()) == pytest.approx(1)
        assert list(read.probs.values()) == pytest.approx(scores.softmax(0).tolist(), abs=1e-6)
        assert read.mass == pytest.approx(float(scores.exp().sum()), abs=1e-6)


def test_states_and_odds(head, room):
    states = torch.randn(len(DETAILS), WIDTH)
    for state, (_, sets), row in zip(states, DETAILS, with_odds(head, states, DETAILS), strict=True):
        scores = label_logprobs(one_row(head, state), sets)
        assert np.array_equal(row[:WIDTH], state.numpy())
        assert row[WIDTH:] == pytest.approx((scores[0] - scores[1:]).numpy(), abs=1e-6)


def test_continuations_of_unequal_lengths(head, room):
    lengths = (2, 1, 5, 1, 3)
    states = [torch.randn(length, WIDTH) for length in lengths]
    tokens = [np.random.default_rng(length).integers(0, VOCABULARY, length) for length in lengths]
    for state, ids, found in zip(states, tokens, continuations(head, states, tokens), strict=True):
        rows = [one_row(head, each) for each in state]
        each = [float(row[token]) for row, token in zip(rows, ids, strict=True)]
        uniform = math.log(VOCABULARY)
        assert found.each == pytest.approx(each, abs=1e-5)
        assert found.total == pytest.approx(sum(each), abs=1e-5)
        assert found.certainty == pytest.approx(
            np.mean([-float(row.mean()) - uniform for row in rows]), abs=1e-5
        )
        assert found.tokens == len(ids) and found.ids == tuple(ids.tolist())


def test_labels_of_many_rows_are_those_of_each():
    logprobs = torch.randn(2, 3, VOCABULARY).log_softmax(-1)
    sets = DETAILS[1][1]
    together = label_logprobs(logprobs, sets)
    assert together.shape == (2, 3, len(sets))
    assert torch.equal(together[1, 2], label_logprobs(logprobs[1, 2], sets))


def test_the_head_runs_once_for_a_batch_and_as_often_as_its_room_asks_for(head, monkeypatch):
    calls = []
    head.register_forward_hook(lambda module, given, out: calls.append(len(out)))
    states = torch.randn(len(DETAILS), WIDTH)
    reads(head, states, DETAILS)
    assert calls == [5]
    monkeypatch.setattr(likelihoods, "LOGITS", 2 * 4 * VOCABULARY)
    reads(head, states, DETAILS)
    assert calls == [5, 2, 2, 1]
