"""Scoring a data set into a file: what is computed again, what is kept, and groups that are seen whole."""

import json

import pytest
from support.toys import toy

from mmreward import Score
from mmreward.compose import Recipe
from mmreward.data import run
from mmreward.data.results import about, read
from mmreward.loading import resolve


@pytest.fixture
def place(tmp_path):
    return tmp_path / "data.jsonl", tmp_path / "scores.parquet"


def write(data, rows):
    data.write_text("\n".join(json.dumps(row) for row in rows))


async def length(sample):
    return Score(len(sample.prompt) / 100)


def ranked(calls):
    """A group reward that notes which groups it saw; a sample's value is its group's size."""

    async def score(samples):
        calls.append([sample.id for sample in samples])
        return [Score(len(samples) / 100) for _ in samples]

    return toy(score, "ranked", arity="group")


def test_a_group_is_seen_whole_however_the_rows_are_spread(place, engine, monkeypatch):
    monkeypatch.setattr(run, "CHUNK", 3)
    data, out = place
    calls = []
    write(data, [{"id": str(i), "prompt": "x", "group": str(i % 2)} for i in range(8)])
    run.score_file(data, resolve({"ranked": ranked(calls)}), out, engine)
    assert sorted(map(sorted, calls)) == [["0", "2", "4", "6"], ["1", "3", "5", "7"]]
    assert {row.value for row in read(out)} == {0.04}


def test_a_member_that_changed_means_its_whole_group_is_compared_again(place, engine):
    data, out = place
    calls = []
    rows = [{"id": str(i), "prompt": "x", "group": str(i % 2)} for i in range(4)]
    write(data, rows)
    reward = ranked(calls)
    run.score_file(data, resolve({"ranked": reward}), out, engine)
    calls.clear()
    rows[2]["prompt"] = "y"
    write(data, rows)
    summary = run.score_file(data, resolve({"ranked": reward}), out, engine)
    assert calls == [["0", "2"]] and summary.fresh == 2


def test_another_reward_in_the_same_file_stays(place, engine):
    data, out = place
    write(data, [{"id": "a", "prompt": "x"}, {"id": "b", "prompt": "xx"}])
    run.score_file(data, resolve({"first": toy(length, "first")}), out, engine)
    run.score_file(data, resolve({"second": toy(length, "second")}), out, engine)
    assert sorted((row.reward, row.id) for row in read(out)) == [
        ("first", "a"),
        ("first", "b"),
        ("second", "a"),
        ("second", "b"),
    ]
    assert set(about(out)["rewards"]) == {"first", "second"}


def test_a_total_of_an_earlier_run_is_not_left_beside_newer_scores(place, engine):
    data, out = place
    rewards = resolve({"first": toy(length, "first")})
    write(data, [{"id": "a", "prompt": "x"}])
    run.score_file(data, rewards, out, engine, recipe=Recipe(weights={"first": 2.0}))
    assert [row.value for row in read(out)] == [0.01, 0.02]
    run.score_file(data, rewards, out, engine)
    assert [row.reward for row in read(out)] == ["first"]


def test_the_summary_counts_failures_and_leaves_na_out(place, engine):
    async def picky(sample):
        return Score.failed("na" if sample.prompt == "x" else "unparsable", "because")

    data, out = place
    write(data, [{"id": "a", "prompt": "x"}, {"id": "b", "prompt": "y"}, {"id": "c"}])
    summary = run.score_file(data, resolve({"picky": toy(picky, "picky")}), out, engine)
    assert (summary.rows, summary.fresh, summary.failed) == (3, 3, 2)
    assert summary.failure_rate == pytest.approx(2 / 3)
