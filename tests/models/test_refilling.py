"""Texts that take the room of those that have ended are those that each batch, and each row, gives alone."""

import asyncio

import numpy as np
import pytest
import torch

from mmreward import Engine, Media, models
from mmreward.engine.batching import Budget
from mmreward.models.vlms import refilling
from mmreward.models.vlms.answers import Sampling
from mmreward.models.vlms.asks import asked
from mmreward.models.vlms.decoding import Roomy, Start, Text, Writing, joined
from mmreward.models.vlms.qwen import Item
from mmreward.models.vlms.refilling import continuous

QUESTIONS = ["Is there a red circle?", "What is to be seen here, and where? " * 2, "?"]
STOPS = 9


@pytest.fixture
def network(vlm_folder, monkeypatch):
    """One of each family, with so many tokens that end a text that the lengths have a long tail."""
    found = models.vlm(vlm_folder).network
    stops = set(range(0, len(found.processor.tokenizer), STOPS))
    monkeypatch.setitem(found.__dict__, "_stops", stops)
    return found


class Waiting:
    """A feed of batches that are all there."""

    def __init__(self, batches):
        self.batches = list(batches)
        self.results = {}

    def take(self):
        return self.batches.pop(0) if self.batches else None

    def done(self, number, results):
        self.results[number] = results


def items_of(vlm, pictures, number):
    """So many questions, in fives about one picture, greedy and sampled."""
    found = []
    for place in range(number):
        seen = Media(pictures[place // 5 % 4])
        question = QUESTIONS[place % 3] + f" {place % 7}"
        sampling = Sampling(40, (0.0, 3.0, 3.0)[place % 3], place)
        found.append(Item(asked(seen, question, "", (), ()), vlm.view, sampling))
    return found


@pytest.fixture
def steps(network):
    """(rows, width) of each step of the language model in which one token of each row was written."""
    seen = []

    def note(module, args, kwargs):
        if kwargs.get("input_ids") is not None and kwargs["input_ids"].shape[1] == 1:
            seen.append(tuple(kwargs["attention_mask"].shape))

    hook = network.module.model.register_forward_pre_hook(note, with_kwargs=True)
    yield seen
    hook.remove()


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_texts_and_fewer_steps(network, steps, pictures, vlm_folder, monkeypatch, penalty):
    if not network.branches:
        assert not network.refills("write")
        return
    monkeypatch.setitem(network.__dict__, "_penalty", penalty)
    vlm = models.vlm(vlm_folder)
    items = items_of(vlm, pictures, 24)
    batches = [items[place : place + 6] for place in range(0, len(items), 6)]
    prepared = [network.prepare("write", batch) for batch in batches]
    apart = [network.forward("write", batch) for batch in prepared]
    plain, slots = len(steps), sum(rows for rows, _ in steps)
    steps.clear()
    feed = Waiting(prepared)
    network.forward_on("write", feed)
    assert [feed.results[number] for number in range(len(batches))] == apart
    lengths = [written.tokens for batch in apart for written in batch]
    assert max(lengths) > 3 * np.median(lengths), "no long tail"
    assert len(steps) < 0.75 * plain and sum(rows for rows, _ in steps) < 1.25 * slots
    longest = max(len(prompt.ids) for grove, _ in prepared for prompt in grove.prompts) + 40
    assert max(width for _, width in steps) <= longest + 40, "columns of rows that have ended are left"
    assert max(rows for rows, _ in steps) <= max(map(len, batches)) + 2


def test_through_the_engine_they_are_those_of_each_call_alone(network, pictures, vlm_folder, monkeypatch):
    vlm = models.vlm(vlm_folder)
    joins, usual = [], refilling.Decoder.join

    def join(decoder, texts, start):
        joins.append(len(decoder.live))
        usual(decoder, texts, start)

    monkeypatch.setattr(refilling.Decoder, "join", join)

    def call(number):
        picture, temperature = Media(pictures[number % 4]), (0.0, 3.0)[number % 2]
        return vlm.write(picture, QUESTIONS[number % 3], max_tokens=24, temperature=temperature, seed=number)

    async def every():
        return await asyncio.gather(*(call(number) for number in range(12)))

    with Engine("cpu", budget=Budget(items=4), cache_bytes=0) as engine:
        together = engine.run(every())
        assert any(joins) or not network.branches
        assert [engine.run(call(number)) for number in range(12)] == together


def test_rows_are_moved_to_the_left_and_keep_their_entries():
    def made(rows, lengths, width, first):
        values = torch.arange(first, first + rows * width, dtype=torch.float32)
        states = values.view(rows, 1, width, 1).expand(rows, 2, width, 3)
        mask = torch.zeros(rows, width, dtype=torch.long)
        for row, places in enumerate(lengths):
            mask[row, places] = 1
        cache = type("Layers", (), {"layers": [Roomy(states, -states)]})()
        return Start(torch.full((rows, 4), first), cache, mask, torch.full((4, rows), first))

    one = made(3, [[0, 1], [0, 2, 5], [0]], 6, 0)
    both = joined(one, torch.tensor([1, 2]), made(1, [[0, 1]], 2, 100))
    assert both.mask.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    (layer,) = both.cache.layers
    kept = [layer.keys[row, head, : both.mask[row].sum(), 0].tolist() for row in range(3) for head in (0, 1)]
    assert kept == 2 * [[6.0, 8.0, 11.0]] + 2 * [[12.0]] + 2 * [[100.0, 101.0]]
    own = both.mask[:, None].bool().expand(3, 2, 3)
    assert torch.equal(layer.values[own], -layer.keys[own])
    assert both.hidden[:, 0].tolist() == [0, 0, 100] and both.positions[0].tolist() == [0, 0, 100]


def test_what_waits_is_of_one_batch_and_families_come_in_together(monkeypatch):
    """Two batches may number different pictures alike, so their prompts are never computed as one."""

    class Counting:
        """A decoder of which each row writes its limit."""

        def __init__(self):
            self.rows, self.joins = [], []

        @property
        def live(self):
            return [row for row in self.rows if row.open]

        def join(self, texts, start):
            assert start == texts
            self.joins.append("".join(text.tag for text in texts))
            self.rows = self.live + [Writing(text, torch.Generator()) for text in texts]

        def write(self):
            for row in (live := self.live):
                row.ids.append(1)
            if not self.live:
                self.rows = []
            return [row for row in live if not row.open]

    def texts(names, lengths, shares):
        each = zip(names, lengths, shares, strict=True)
        return [
            Text(np.zeros(9, np.int64), Sampling(length, 0.0, 0), name, share) for name, length, share in each
        ]

    batches = [
        texts("abcd", (1, 2, 3, 9), (None,) * 4),
        texts("efgh", (9, 9, 9, 9), (1, 1, 2, 3)),
        texts("ij", (9, 9), (3, 3)),
        texts("klmn", (9, 9, 9, 9), (4, 4, 4, 4)),
    ]
    decoder, given = Counting(), list(batches)
    ended = continuous(decoder, lambda: batches.pop(0) if batches else [], lambda texts: texts)
    assert sorted(row.text.tag for row in ended) == list("abcdefghijklmn")
    assert decoder.joins[:3] == ["abcd", "ef", "g"], "e not before f has room"
    origin = {text.tag: number for number, batch in enumerate(given) for text in batch}
    assert all(len({origin[name] for name in join}) == 1 for join in decoder.joins)
