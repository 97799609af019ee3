"""WebPRMBench: published rows, verdicts in words, pairs and states, and what the place of a response does."""

import json

import pytest

from mmreward import Unscorable
from mmreward.evals.benchmarks import benchmark
from mmreward.evals.benchmarks.benchmark import measured
from mmreward.evals.benchmarks.predictions import read_predictions

BENCH = benchmark("webprmbench")
SOURCES = ("mind2web_cross_task", "mind2web_cross_website", "webarena", "workarena")


@pytest.fixture
def labels(tmp_path):
    rows = [
        {
            "state_idx": state,
            "pair_idx": pair,
            "expected": 1 + (state + pair) % 2,
            "prompt": "p",
            "source_name": source,
        }
        for source in SOURCES
        for state in range(2)
        for pair in range(4)
    ]
    (tmp_path / "test.json").write_text(json.dumps(rows))
    return tmp_path


def found(folder, said):
    items = BENCH.read(folder)
    path = folder / "p.jsonl"
    rows = [{"id": item.id, **said(item)} for item in items]
    path.write_text("\n".join(map(json.dumps, rows)))
    items = BENCH.read(folder / "test.json")
    return measured(BENCH, items, read_predictions(path, BENCH, items), draws=100)


def test_pairs_and_states(labels):
    """One pair of a state lost is the state lost: 31 of 32 pairs, 7 of 8 states."""
    result = found(labels, lambda item: {"choice": 3 - item.gold if item.id == "webarena/0/0" else item.gold})
    assert result.line("pairwise").strict == pytest.approx(31 / 32)
    assert result.line("best of n").strict == pytest.approx(7 / 8)
    assert result.line("best of n/sources").strict == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert result.line("best of n/environments").strict == pytest.approx((1 + 0.5 + 1) / 3)
    assert result.lines[0].units == 8 and any("4600 are published" in words for words in result.cautions)
    assert {row[0]: row[4] for row in result.tables[0].rows}["webarena"] == 0.5


def test_a_judge_of_places_wins_half_and_no_state(labels):
    result = found(labels, lambda item: {"raw_text": "<think>2 is good</think><answer>Response 1</answer>"})
    assert result.line("pairwise").strict == 0.5 and result.line("best of n").strict == 0.0
    assert result.line("won as first").strict == 1.0 and result.line("won as second").strict == 0.0
    assert result.line("first").valid == 1.0


def test_an_undecided_judge_has_lost(labels):
    result = found(labels, lambda item: {"raw_text": "Both 1 and 2 are fine."})
    assert result.coverage == 0.0 and result.line("pairwise").strict == 0.0


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("<answer>Response 2</answer>", 2), ("I like 2.\n\nBetter: 1", 1),
        ("<Answer> 1 </Answer>", 1), ("2", 2),
        ("<answer>[[2]]</answer>", 2), ("<think>1 or 2</think>\nResponse 2 is better.", 2),
    ],
)  # fmt: skip
def test_a_verdict_in_words(text, choice):
    assert BENCH.answer({"raw_text": text}, None) == choice


@pytest.mark.parametrize("text", ["", "neither", "1 or 2", "12", "<answer>3</answer>", "<answer></answer>"])
def test_words_without_a_verdict(text):
    with pytest.raises(Unscorable):
        BENCH.answer({"raw_text": text}, None)


def test_labels_that_are_none(tmp_path):
    good = {"state_idx": 0, "pair_idx": 0, "expected": 1, "prompt": "p", "source_name": "webarena"}
    for rows, words in (
        ([{**good, "expected": 3}], "not 1 or 2"),
        ([{"state_idx": 0}], "has no source_name"),
        ([good, good], "there twice"),
    ):
        (tmp_path / "test.json").write_text(json.dumps(rows))
        with pytest.raises(ValueError, match=words):
            BENCH.read(tmp_path)
