"""Columns to samples, and the scorer behind every adapter."""

import json
import math
import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.toys import toy

from mmreward import Score
from mmreward.adapters.rows import batch_of, opened, share, spoken
from mmreward.adapters.scorer import LastBatch, Scorer
from mmreward.config import without_nulls
from mmreward.data.routing import Router

TRUTH = [{"bbox_2d": [100, 100, 400, 400], "label": "cat"}]
BOX = f"<answer>{json.dumps(TRUTH)}</answer>"


def only(row, **columns):
    batch = batch_of([row], columns)
    assert not batch.problems, batch.problems
    return batch.samples[0]


def test_nulls_of_arrow_are_not_there():
    assert without_nulls({"a": None, "b": [{"c": None, "d": 0}], "e": ""}) == {"b": [{"d": 0}], "e": ""}
    sample = only(
        {"response": "x", "route": {"rewards": {"iou": {"space": None}}, "gates": None}, "junk": None}
    )
    assert dict(sample.meta) == {"route": {"rewards": {"iou": {}}}}


def test_where_the_target_and_the_source_are_looked_for():
    assert only({"answer": "3", "data_source": "s"}).target == "3"
    sample = only({"target": "1", "answer": "2", "solution": "3"})
    assert (sample.target, sample.meta["answer"], sample.meta["solution"]) == ("1", "2", "3")
    assert only({"target": "1", "answer": "2"}, target="answer").target == "2"
    assert only({"target_json": "[1, 2]"}).target == [1, 2]


def test_trainers_columns_that_resemble_ours_are_no_mistake():
    assert only({"prompt_id": "7", "step": 3, "targets": 1}).meta["prompt_id"] == "7"


def test_a_row_that_makes_no_sense_costs_itself():
    deep = []
    for _ in range(5000):
        deep = [deep]
    rows = [
        {"response": "x"},
        {"response": 3},
        {"meta": "{"},
        {"verifier": "iou", "params": "[]"},
        {"target": deep},
    ]
    batch = batch_of(rows)
    assert sorted(batch.problems) == [1, 2, 3, 4]
    assert "response is int" in batch.problems[1]
    assert "meta is not JSON" in batch.problems[2]
    assert len(batch.able) == 1
    totals = Scorer().score(batch).totals
    assert [total.status for total in totals] == ["error"] * 5
    assert "params is list" in totals[3].note


def test_the_envelope():
    told = {"v": 1, "answer": "3", "verifier": "math", "size": [1, 2]}
    columns = {"answer": "3", "verifier": "math", "size": [1, 2]}
    assert opened(json.dumps(told)) == opened(told) == columns
    for plain in ("3", "{3}", '{"answer": 3}', '{"v": 1}', 3, None, "{" * 100_000):
        assert opened(plain) == {"target": plain}
    with pytest.raises(ValueError, match="version 9, not 1"):
        opened({"v": 9, "answer": ""})
    assert only({"ground_truth": told, "answer": "of the data"}).target == "3"


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ("text", "text"),
        ([{"role": "assistant", "content": "a"}, {"role": "tool", "content": "t"}], "a"),
        ([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": None}], "a"),
        ([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": ""}], ""),
        (
            [
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "a"}, {"type": "image", "text": None}],
                }
            ],
            "a",
        ),
        ([], ""),
    ],
)
def test_what_was_said_last(messages, text):
    assert spoken(messages, "assistant") == text


@pytest.mark.parametrize(
    ("step", "total", "found"),
    [
        (1, 4, {"progress": 0.25}),
        (5, 4, {"progress": 1.0}),
        (1, 0, {}),
        (1, -1, {}),
        (None, 4, {}),
        (1, None, {}),
    ],
)
def test_progress(step, total, found):
    assert share(step, total) == found


def test_records_of_v_triune_are_read_as_they_are():
    record = {
        "data_source": "det",
        "prompt": [{"role": "user", "content": "<image>find the cat"}],
        "reward_model": {"ground_truth": BOX, "verifier": "detection", "format_ratio": 0.0, "answer": None},
        "extra_info": {"id": "9"},
        "response": BOX,
    }
    sample = only(record)
    assert (sample.source, sample.target, sample.prompt) == ("det", TRUTH, "find the cat")
    assert sample.meta["route"]["accuracy"] == {"iou": 1.0}


# --- the scorer -----------------------------------------------------------------------------------------


@pytest.fixture
def same():
    async def check(sample):
        return Score(float(sample.response == sample.target))

    return toy(check, "same")


def test_a_file_of_routes_and_one_of_rewards(tmp_path, monkeypatch, same):
    routes, rewards, both = (tmp_path / f"{name}.yaml" for name in ("routes", "rewards", "both"))
    routes.write_text("routes: {s: {rewards: {same: {}}}}")
    rewards.write_text("rewards: {same: , twice: {reward: same}}\ncompose: {weights: {same: 2, twice: 0.5}}")
    both.write_text("rewards: {same: }\nroutes: {s: {rewards: {same: {}}}}")
    batch = batch_of([{"response": "x", "target": "x", "source": "s"}])
    for given, value, names in ((str(routes), 1.0, "accuracy"), (rewards, 2.5, "same")):
        scorer = Scorer(given)
        assert scorer.score(batch).totals[0].value == value
        assert scorer.names[0] == names
        scorer.close()
    monkeypatch.chdir(tmp_path)
    relative = Scorer("routes.yaml")
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(relative)).names == relative.names
    with pytest.raises(ValueError, match="has rewards and routes"):
        Scorer(both)


@pytest.mark.parametrize(
    ("given", "options", "told"),
    [
        ("nope", {}, "no reward named 'nope'"),
        ({"iou": {"treshold": 0.5}}, {}, "did you mean 'threshold'"),
        ({"iou": {}}, {"weights": {"uoi": 1.0}}, "weights of uoi"),
        (Router(), {"weights": {"a": 1.0}}, "the weights of a Router are in its routes"),
        ("missing.yaml", {}, "no config at .*missing.yaml"),
    ],
)
def test_mistakes_are_told_before_a_training(given, options, told):
    with pytest.raises(ValueError, match=told):
        Scorer(given, **options)


def test_a_single_reward_keeps_its_parts_and_a_lower_is_better_one_its_sign():
    async def cost(sample):
        return Score(0.25, {"steps": 3.0})

    toy(cost, "cost", higher_is_better=False)
    toy(cost, "gain")
    batch = batch_of([{"response": "x"}])
    for name, value in (("cost", -0.25), ("gain", 0.25)):
        scorer = Scorer(name)
        [total] = scorer.score(batch).totals
        scorer.close()
        assert total.value == value
    assert total.parts == {"steps": 3.0}


def test_a_fork_makes_its_own_engine(same):
    """Threads do not survive a fork; a scorer that has been used before goes on in the child."""
    scorer = Scorer({"same": {}})
    batch = batch_of([{"response": "x", "target": "x"}])
    assert scorer.score(batch).totals[0].value == 1.0
    parent = scorer.engine
    assert scorer.engine is parent
    child = os.fork()
    if child == 0:
        own = scorer.engine is not parent
        os._exit(0 if own and scorer.score(batch).totals[0].value == 1.0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    scorer.close()


def test_an_engine_of_yours_is_shared_stays_open_and_stays_here(engine, same):
    one, other = Scorer({"same": {}}, engine=engine), Scorer("iou", engine=engine)
    assert one.engine is other.engine is engine
    batch = batch_of([{"response": "x", "target": "x"}])
    for scorer in (one, other):
        scorer.score(batch)
        scorer.close()
    assert one.score(batch).totals[0].value == 1.0
    with pytest.raises(TypeError, match="an engine does not travel"):
        pickle.dumps(one)


def test_functions_called_from_several_threads_share_their_result():
    """Async GRPO calls synchronous functions so."""
    last, computed, batch = LastBatch(), [], ["a"]

    def compute():
        time.sleep(0.05)
        computed.append(1)
        return len(computed)

    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(last.get, batch, compute) for _ in range(8)]
    assert {call.result() for call in calls} == {1}
    assert last.get(["a"], compute) == 2  # equal, but of another step


def test_a_router_travels_as_its_description():
    router = pickle.loads(pickle.dumps(Router({"a*": {"rewards": {"iou": {"threshold": 0.5}}}})))
    [sample] = batch_of([{"source": "ab"}]).samples
    assert router.route(sample).rewards["iou"].args["threshold"] == 0.5
    assert (
        router.reward.fingerprint
        == Router({"a*": {"rewards": {"iou": {"threshold": 0.5}}}}).reward.fingerprint
    )


def test_the_adapters_import_neither_torch_nor_a_trainer():
    code = (
        "import sys, mmreward\n"
        "assert not any(name.startswith('mmreward.adapters') for name in sys.modules)\n"
        "from mmreward.adapters import easyr1, ms_swift, openrlhf, trl, verl\n"
        "print([m for m in ('torch', 'trl', 'verl', 'swift', 'openrlhf', 'fastapi') if m in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "columns",
    [
        {"prompt": [{"role": "user", "content": [None]}]},
        {"prompt": [{"role": "user", "content": 5}]},
        {"prompt": [None]},
        {"prompt": 5},
        {"prompt": ["hello"]},
        {"prompt": "p", "images": 5},
        {"prompt": "p", "images": "a.png"},
        {"prompt": "p", "meta": 5},
        {"prompt": "p", "verifier": 5},
        {"prompt": "p", "inputs": 5},
    ],
)
def test_a_column_of_another_form_costs_its_row(columns):
    batch = batch_of([columns, {"prompt": "p", "response": "x"}])
    assert set(batch.problems) == {0} and batch.samples[1].response == "x"
    assert next(iter(columns)) in batch.problems[0] or list(columns)[-1] in batch.problems[0]


def test_pictures_and_messages_in_arrays_are_read():
    """As verl stores columns of objects."""
    import numpy as np
    from PIL import Image

    pictures = np.empty(2, dtype=object)
    pictures[:] = [Image.new("RGB", (2, 3)), Image.new("RGB", (4, 5))]
    messages = np.empty(1, dtype=object)
    messages[:] = [{"role": "user", "content": "what?"}]
    (sample,) = batch_of([{"prompt": messages, "images": pictures}]).samples
    assert sample.prompt == "what?" and sample.image.size == (3, 2) and sample.inputs[0].size == (5, 4)


@pytest.mark.parametrize(
    ("step", "total"), [(10**400, 2), (2, 10**400), (math.nan, 2), (1, math.inf), (1, math.nan)]
)
def test_a_step_that_is_no_number_is_no_progress(step, total):
    assert share(step, total) in ({}, {"progress": 0.0})
