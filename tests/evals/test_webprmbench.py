"""WebPRMBench: published rows, verdicts in words, pairs and states, and what the place of a response does."""

import json

import pytest
from support.judgements import arbitrated
from support.robot_judges import Judge, use

from mmreward import Engine, Unscorable, load
from mmreward.evals.benchmarks import benchmark
from mmreward.evals.benchmarks.benchmark import measured
from mmreward.evals.benchmarks.predictions import read_predictions
from mmreward.evals.benchmarks.scored import scored_answers

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


# --- rewards ------------------------------------------------------------------------------------------------


def asked(first, second, tree="[2] button 'Pay'", before="{THOUGHT: look, ACTION: click('1')}"):
    """A row's prompt, with the published headings in our own words."""
    said = "".join(
        f"[The Begin of Response {place}]\n\nTHOUGHT:\nI go on.\n\nACTION:\n{one}\n\n"
        f"[The End of Response {place}]\n\n"
        for place, one in enumerate((first, second), 1)
    )
    return (
        f"Judge.\n#### Evaluation Criteria ####\n1. Is it there?\n\n#### Intent ####\nBuy a pen.\n\n"
        f"#### AXTREE ####\nNote: [bid] is an id.\n{tree}\n\n"
        f"#### Trajectory ####\nNote: before.\n{before}\n\n"
        "#### start url ####\nhttp://s/\n\n#### current url ####\nThe URL provides clues about it.\n"
        "http://s/cart\n\n"
        f"#### Assistant Responses ####\n{said}\n### Output Instructions ###\n<Answer>Response 1</Answer>\n"
    )


@pytest.fixture
def prompted(tmp_path):
    """Two states with four pairs each; the right action is click('2')."""
    rows = []
    for state, source in enumerate(("webarena", "workarena")):
        for pair in range(4):
            expected = 1 + (state + pair) % 2
            said = ["click('2')", f"click('{pair + 3}')"][:: 1 if expected == 1 else -1]
            text = asked(*said)
            prompt = text if state else [{"role": "user", "content": text}]
            rows.append({"state_idx": state, "pair_idx": pair, "expected": expected, "prompt": prompt,
                         "source_name": source})  # fmt: skip
    (tmp_path / "test.json").write_text(json.dumps(rows))
    return tmp_path


def wanting(number):
    """A judge that prefers the response that clicks a number."""

    def said(seen, prompt):
        first, _ = (line for line in prompt.splitlines() if line.startswith("Response "))
        return arbitrated(1 if f"'{number}'" in first else 2)

    return said


def judged(folder, monkeypatch, said):
    judge = use(monkeypatch, Judge(said))
    items = BENCH.read(folder / "test.json")
    reward = load("webarbiter", words="own")
    with Engine("cpu") as engine:
        answers = scored_answers(
            BENCH, items, folder / "test.json", "webarbiter", reward, folder / "s.parquet", engine
        )
    return judge, measured(BENCH, items, answers, draws=100)


def test_a_reward_is_measured_on_the_published_rows(prompted, monkeypatch):
    judge, result = judged(prompted, monkeypatch, wanting(2))
    assert result.coverage == 1.0 and result.line("best of n").strict == 1.0
    assert len(judge.calls) == 16, "both orders of eight pairs"
    prompt = judge.calls[0][1]
    for words in ("asked: Buy a pen.\n", "at http://s/ and is at http://s/cart.", "\n[2] button 'Pay'\n>>>",
                  "{THOUGHT: look, ACTION: click('1')}", "Its thought: I go on."):  # fmt: skip
        assert words in prompt
    assert "Note:" not in prompt and "clues" not in prompt and "Judge." not in prompt


def test_a_reward_that_goes_by_the_place_is_undecided(prompted, monkeypatch):
    _, result = judged(prompted, monkeypatch, lambda *_: arbitrated(1))
    assert result.coverage == 0.0 and result.line("pairwise").strict == 0.0


def test_a_prompt_of_another_form_is_refused(labels):
    (item, *_) = BENCH.read(labels)
    with pytest.raises(ValueError, match="no #### intent ####"):
        BENCH.rows(item, None)
    item.facts["prompt"] = asked("a", "b").replace("[The Begin of Response 2]", "[Response 2]")
    with pytest.raises(ValueError, match=r"no .The Begin of Response 1. and 2"):
        BENCH.rows(item, None)
