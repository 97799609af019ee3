"""EasyR1, ms-swift and OpenRLHF as they load and call a reward."""

import importlib.util
import inspect
import json
import pickle
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.toys import toy

from mmreward import Score
from mmreward.adapters import easyr1, scorer
from mmreward.adapters.ms_swift import orm
from mmreward.adapters.openrlhf import response_of, reward

BOX = '<answer>[{"bbox_2d": [100, 100, 400, 400], "label": "cat"}]</answer>'
TRUTH = [{"bbox_2d": [100, 100, 400, 400], "label": "cat"}]
ENVELOPE = json.dumps({"v": 1, "verifier": "iou", "answer": TRUTH, "params": {}, "source": "boxes"})


@pytest.fixture(autouse=True)
def fresh_scorers():
    yield
    scorer._shared.cache_clear()


def inputs(*pairs):
    return [
        {"response": response, "response_length": len(response), "ground_truth": truth}
        for response, truth in pairs
    ]


def test_easyr1_loads_the_file_and_takes_means_of_all_keys():
    """The file is executed on its own, the options are bound, and the keys of all samples become metrics."""
    spec = importlib.util.spec_from_file_location("custom_reward_fn", easyr1.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (module.REWARD_NAME, module.REWARD_TYPE) == ("mmreward", "batch")
    function = partial(module.compute_score, failed=0.0)
    scores = function(inputs((BOX, ENVELOPE), ("?", ENVELOPE), (BOX, "a plain answer without a route")))
    assert [one["overall"] for one in scores] == [1.0, 0.0, 0.0]
    metrics = {key: [one[key] for one in scores] for key in scores[0]}
    assert {"overall", "accuracy", "format", "failed"} <= set(metrics)
    assert np.mean(metrics["failed"]) == pytest.approx(1 / 3)
    assert all(np.isfinite(np.mean(column)) for column in metrics.values())
    assert module.compute_one(inputs((BOX, ENVELOPE))[0]) == scores[0]


def test_easyr1_with_plain_answers():
    async def same(sample):
        return Score(float(sample.response == sample.target))

    toy(same, "same")
    scores = easyr1.compute_score(inputs(("3", "3"), ("4", "3")), rewards={"same": {}})
    assert scores[0] == {"overall": 1.0, "accuracy": 1.0, "format": 0.0, "same": 1.0, "failed": 0.0}
    assert scores[1]["overall"] == 0.0
    with pytest.raises(RuntimeError, match="not 1"):
        old = json.dumps({"v": 2, "answer": "3"})
        easyr1.compute_score(inputs(("3", old)), rewards={"same": {}})


def test_ms_swift_makes_an_instance_and_passes_columns():
    """ms-swift instantiates by the signature of __init__, calls with completions first, and None is a NaN."""
    found = {}

    async def look(sample):
        found.update(prompt=sample.prompt, progress=sample.meta["progress"])
        return Score(float(sample.response == sample.target))

    toy(look, "look", needs=("target",))
    kind = orm({"look": {}}, columns={"target": "solution"}, name="Looked")
    outcome = kind(args=SimpleNamespace())
    assert type(outcome).__name__ == "Looked"
    messages = [
        [{"role": "user", "content": "how many?"}, {"role": "assistant", "content": answer}]
        for answer in "345"
    ]
    state = SimpleNamespace(global_step=1, max_steps=2)
    values = outcome(["3", "4", "5"], messages=messages, solution=["3", "3", None], trainer_state=state)
    assert values == [1.0, 0.0, None]
    assert found == {"prompt": "how many?", "progress": 0.5}


def test_openrlhf_reads_queries_with_special_tokens():
    function = reward({"iou": {}}, failed=-1.0)
    prompt = "<|im_start|>user\nwhere?<|im_end|>\n<|im_start|>assistant\n"
    label = json.dumps({"v": 1, "answer": TRUTH})
    queries = [prompt + BOX + "<|im_end|>\n<|endoftext|>", prompt + "no<|im_end|>", "cut off " + BOX]
    told = function(queries, [prompt] * 3, [label] * 3, extra="ignored")
    assert torch.equal(told["rewards"], torch.tensor([1.0, 0.0, -1.0]))
    assert torch.equal(told["scores"], torch.tensor([1.0, 0.0, 0.0]))
    assert {name: column.tolist() for name, column in told["extra_logs"].items()} == {
        "iou": [1.0, 0.0, 0.0],
        "failed": [0.0, 0.0, 1.0],
    }


def test_openrlhf_function_is_one_that_ray_can_ship():
    """A plain function, not an object, over nothing that cannot be pickled."""
    function = reward({"iou": {}})
    assert inspect.isfunction(function)
    held = {name: pickle.loads(pickle.dumps(cell.cell_contents)) for name, cell in cells(function)}
    assert held["scorer"].names == ("iou",)


def cells(function):
    return zip(function.__code__.co_freevars, function.__closure__, strict=True)


@pytest.mark.parametrize(
    ("query", "response"),
    [
        ("pa<|im_end|>", "a"),
        ("pa</s></s>\n", "a"),
        ("pa b ", "a b "),
        ("p", ""),
        ("p<|im_end|>a", "<|im_end|>a"),
    ],
)
def test_only_special_tokens_at_the_end_are_dropped(query, response):
    assert response_of(query, "p") == response
