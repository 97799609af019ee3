"""Shaping from a YAML file to what each trainer is given."""

import asyncio
import json
import math
from types import SimpleNamespace

import pytest
from support.toys import toy

from mmreward import Sample, Score
from mmreward.adapters import easyr1, scorer, trl, verl
from mmreward.adapters.ms_swift import orm
from mmreward.adapters.openrlhf import reward
from mmreward.data.routing import PARTS, Router

COMPOSE = """
rewards: {same: , deep: }
compose:
  weights: {same: 1.0}
  shaping: [{name: trusted, accuracy: same, thinking: deep}]
"""
ROUTES = """
routes:
  trust:
    rewards: {same: , deep: }
    accuracy: {same: 1.0}
    shaping: [{name: trusted, accuracy: same, thinking: deep}]
  short:
    rewards: {same: }
    shaping: [{name: length_shares, accuracy: same, weight: 0.2}]
  plain:
    rewards: {same: }
"""
RESPONSES = ["right .2", "right .4", "wrong .9", "wrong .7"]
TRUST = math.exp(0.3 - 0.8)
SCALE = 0.3 * math.exp(-0.25)
WORTH = [float(text[0] == "r") + TRUST * SCALE * float(text[6:]) for text in RESPONSES]
"""By hand: mean thinking of right answers 0.3 and of wrong ones 0.8, a quarter of the training done."""


async def same(sample):
    return Score(float(sample.response.split()[0] == sample.target))


async def deep(sample):
    return Score(float(sample.response.split()[1]))


@pytest.fixture(autouse=True)
def toys():
    toy(same, "same", needs=("response", "target"))
    toy(deep, "deep", needs=("response",))
    yield
    scorer._shared.cache_clear()


@pytest.fixture
def files(tmp_path):
    for name, text in (("compose", COMPOSE), ("routes", ROUTES)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def trl_batch(**columns):
    number = len(RESPONSES)
    return {
        "prompts": ["left or right?"] * number,
        "completions": RESPONSES,
        "target": ["right"] * number,
        "completion_ids": [[1] * length for length in (5, 9, 7, 5)],
        "trainer_state": SimpleNamespace(global_step=1, max_steps=4),
        **{name: [value] * number for name, value in columns.items()},
    }


def test_trl_with_compose_and_with_routes(files):
    """Neighbours with one prompt are a group, and the trainer says how far training is."""
    assert trl.reward(str(files / "compose.yaml"))(**trl_batch()) == pytest.approx(WORTH)
    routed = trl.reward(str(files / "routes.yaml"))
    assert routed(**trl_batch(source="trust")) == pytest.approx([worth / 1.3 for worth in WORTH])
    assert routed(**trl_batch(source="plain")) == [1.0, 1.0, 0.0, 0.0]
    short = [1 + 0.2 * 0.5, 1 - 0.2 * 0.5, 0.0, 0.0]  # wrong: 0 at most, the third is of middle length
    assert routed(**trl_batch(source="short")) == pytest.approx([(worth + 0.1) / 1.2 for worth in short])


def test_trl_components_and_metrics_keep_the_measured_accuracy(files):
    accuracy, gate = trl.components(str(files / "routes.yaml"), ["accuracy", "gate"])
    assert accuracy(**trl_batch(source="trust")) == [1.0, 1.0, 0.0, 0.0]
    assert gate(**trl_batch(source="trust")) == [1.0] * 4


def test_without_progress_a_score_fails_and_does_not_guess(files):
    batch = {**trl_batch(), "trainer_state": None}
    assert trl.reward(str(files / "compose.yaml"))(**batch) == [None] * 4


def verl_rows(**extra):
    told = {"step": 1, "total_steps": 4, "group": "q", **extra}
    return ["trust"] * 4, RESPONSES, ["right"] * 4, [told] * 4


@pytest.mark.parametrize("name", ["compose", "routes"])
def test_verl_scores_whole_batches_and_refuses_single_responses(files, name):
    path = str(files / f"{name}.yaml")
    scale = 1.3 if name == "routes" else 1.0
    rows = verl.compute_score_batch(*verl_rows(), rewards=path)
    assert [row["score"] * scale for row in rows] == pytest.approx(WORTH)
    if name == "routes":
        assert [row["acc"] for row in rows] == [1.0, 1.0, 0.0, 0.0]
    first = [column[0] for column in verl_rows()]
    with pytest.raises(ValueError, match="compares the responses to one prompt"):
        verl.compute_score(*first, rewards=path)
    with pytest.raises(ValueError, match="batch function"):
        asyncio.run(verl.compute_score_async(*first, rewards=path))
    config = {"custom_reward_function": {"reward_kwargs": {"rewards": path}}}
    with pytest.raises(ValueError, match="batch function"):
        verl.RewardManager(config, SimpleNamespace(decode=None))


def test_a_row_without_a_group_costs_itself(files):
    sources, responses, truths, extras = verl_rows()
    extras = [{key: value for key, value in extras[0].items() if key != "group"}, *extras[1:]]
    path = str(files / "compose.yaml")
    rows = verl.compute_score_batch(sources, responses, truths, extras, rewards=path, failed=-1.0)
    assert [row["failed"] for row in rows] == [1.0, 0.0, 0.0, 0.0] and rows[0]["score"] == -1.0


def test_easyr1_openrlhf_and_ms_swift(files):
    path = str(files / "compose.yaml")
    label = json.dumps({"v": 1, "answer": "right", "group": "q", "step": 1, "total_steps": 4})
    inputs = [{"response": text, "response_length": 5, "ground_truth": label} for text in RESPONSES]
    assert [row["overall"] for row in easyr1.compute_score(inputs, rewards=path)] == pytest.approx(WORTH)
    with pytest.raises(ValueError, match="batch function"):
        easyr1.compute_one(inputs[0], rewards=path)
    remote = reward(path)(queries=[f"Q{text}" for text in RESPONSES], prompts=["Q"] * 4, labels=[label] * 4)
    assert remote["rewards"].tolist() == pytest.approx(WORTH)
    batch = trl_batch()
    assert orm(path)()(**{key: batch[key] for key in batch if key != "prompts"}) == pytest.approx(WORTH)


def test_easyr1_knows_the_length_of_a_response(tmp_path):
    declared = tmp_path / "declared.yaml"
    declared.write_text("routes: {declared: {rewards: {same: }}}")
    route = {"rewards": {"same": {}}, "shaping": [{"name": "length_scaled", "accuracy": "same", "limit": 10}]}
    label = json.dumps({"v": 1, "answer": "right", "route": route})
    inputs = [{"response": "right .2", "response_length": n, "ground_truth": label} for n in (0, 5, 10)]
    values = [row["overall"] for row in easyr1.compute_score(inputs, rewards=str(declared))]
    assert values == pytest.approx([1.0, 1.25 / 1.5, 1.0 / 1.5])


def test_a_router_that_compares_is_a_group_reward(engine, files):
    from mmreward.config import load_config

    router = Router(load_config(files / "routes.yaml").routes)
    assert router.reward.info.arity == "group" and router.compares
    samples = [
        Sample(
            id=str(row), source=source, response=text, target="right", group=group, meta={"progress": 0.25}
        )
        for source, group in (("trust", "a"), ("plain", "a"), ("plain", None), ("nowhere", "a"))
        for row, text in enumerate(RESPONSES)
    ]
    routed = router.score(engine, samples)
    totals = routed.totals
    assert [total.value * 1.3 for total in totals[:4]] == pytest.approx(WORTH)
    assert [total.value for total in totals[4:8]] == [1.0, 1.0, 0.0, 0.0]  # of the same group
    assert {total.status for total in totals[8:12]} == {"missing"}
    assert {total.status for total in totals[12:]} == {"error"} and "no route" in totals[12].note
    assert {tuple(total.parts) for total in totals} == {PARTS}
    assert routed.scores[0] == {"same": Score(1.0), "deep": Score(0.2)}


def test_a_samples_own_route_cannot_compare_in_a_router_that_does_not(engine):
    route = {
        "rewards": {"same": {}},
        "shaping": [{"name": "length_shares", "accuracy": "same", "weight": 0.2}],
    }
    sample = Sample(
        source="own", response="right", target="right", group="a", meta={"route": route, "tokens": 3}
    )
    [total] = Router({"declared": {"rewards": {"same": {}}}}).score(engine, [sample]).totals
    assert total.status == "error" and "shaping of its own route compares groups" in total.note


def test_routes_without_shaping_have_the_fingerprint_they_had():
    described = Router({"a": {"rewards": {"same": {}}}}).reward.args["routes"]["a"]
    assert "shaping" not in described
    shaped = {"rewards": {"same": {}}, "shaping": [{"name": "length_scaled", "accuracy": "same", "limit": 9}]}
    prints = {Router({"a": {**shaped, **change}}).reward.fingerprint for change in ({}, {"shaping": []})}
    assert len(prints) == 2
