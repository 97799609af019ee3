"""verl as it calls: keywords, one sample or a batch, and columns made from the keys of the first sample."""

import asyncio
import copy
import inspect
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support.toys import toy

from mmreward import Score
from mmreward.adapters import verl
from mmreward.adapters.scorer import Scorer, _shared, shared
from mmreward.data.routing import Router

BOX = '<answer>[{"bbox_2d": [100, 100, 400, 400], "label": "cat"}]</answer>'
TRUTH = [{"bbox_2d": [100, 100, 400, 400], "label": "cat"}]
ROWS = [  # source, response, ground truth, extra_info
    ("own", BOX, TRUTH, {"verifier": "iou", "params": {"threshold": 0.5}, "index": 7}),
    ("own", "nothing", TRUTH, {"verifier": "iou", "params": {}}),
    ("own", BOX, "junk", {"verifier": "iou"}),
    ("unknown", BOX, TRUTH, None),
    ("own", BOX, json.dumps({"v": 1, "answer": TRUTH, "verifier": "iou", "params": {}}), {}),
]
KEYS = ["score", "acc", "accuracy", "format", "gate", "extra", "parsed", "failed"]


class Decoder:
    """A tokenizer of characters."""

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return "".join(chr(int(one)) for one in ids)


class Protos(list):
    """Stands for DataProto: slices are protos, items have tensors and the rest."""

    def __getitem__(self, which):
        return Protos(super().__getitem__(which)) if isinstance(which, slice) else super().__getitem__(which)


def protos(rows, **more):
    width = max(len(response) for _, response, _, _ in rows)
    items = Protos()
    for source, response, truth, extra in rows:
        padding = [0] * (width - len(response))
        batch = {
            "responses": torch.tensor([ord(letter) for letter in response] + padding),
            "attention_mask": torch.tensor([1, 1] + [1] * len(response) + padding),
        }
        told = {"data_source": source, "reward_model": {"ground_truth": truth}, **more}
        if extra is not None:
            told["extra_info"] = extra
        items.append(SimpleNamespace(batch=batch, non_tensor_batch=told))
    return items


async def naive(data, function, decoder):
    """What the reward loop's naive manager does with one sample, its writing into extra_info included."""
    item = data[0]
    responses = item.batch["responses"]
    length = item.batch["attention_mask"][-responses.shape[-1] :].sum()
    extra = item.non_tensor_batch.get("extra_info", {})
    extra["num_turns"], extra["rollout_reward_scores"] = None, {}
    told = {
        "data_source": item.non_tensor_batch["data_source"],
        "solution_str": decoder.decode(responses[:length], skip_special_tokens=True),
        "ground_truth": item.non_tensor_batch["reward_model"]["ground_truth"],
        "extra_info": extra,
        "reward_router_address": None,
        "reward_model_tokenizer": None,
    }
    if inspect.iscoroutinefunction(function):
        result = await function(**told)
    else:
        result = await asyncio.get_running_loop().run_in_executor(None, lambda: function(**told))
    return {"reward_score": result["score"], "reward_extra_info": dict(result)}


def columns_of(outputs):
    """As the loop makes its columns: keys of the first sample, one array each."""
    keys = list(outputs[0]["reward_extra_info"])
    return {key: np.array([one["reward_extra_info"][key] for one in outputs]) for key in keys}


@pytest.fixture(autouse=True)
def fresh_scorers():
    yield
    _shared.cache_clear()


@pytest.mark.parametrize("function", [verl.compute_score, verl.compute_score_async])
def test_the_reward_loop(function):
    """All samples have the same keys, all columns are floats, and failures are told apart."""
    configured = partial(function, rewards=None, failed=-1.0)
    data = protos(copy.deepcopy(ROWS))

    async def loop():
        return await asyncio.gather(
            *(naive(data[i : i + 1], configured, Decoder()) for i in range(len(data)))
        )

    columns = columns_of(asyncio.run(loop()))
    assert list(columns) == KEYS
    assert all(column.dtype == np.float64 and np.isfinite(column).all() for column in columns.values())
    assert columns["score"].tolist() == [1.0, 0.0, -1.0, -1.0, 1.0]
    assert columns["failed"].tolist() == [0.0, 0.0, 1.0, 1.0, 0.0]
    assert columns["parsed"].tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]
    assert "reward" not in columns


def test_async_is_seen_through_a_partial():
    """verl binds reward_kwargs with a partial before it looks."""
    assert inspect.iscoroutinefunction(partial(verl.compute_score_async, rewards="iou"))


def test_the_batch_manager():
    """One call with lists, numpy's where verl has them."""
    sources, responses, truths, extras = (list(column) for column in zip(*ROWS, strict=True))
    results = verl.compute_score_batch(
        data_sources=np.array(sources, dtype=object),
        solution_strs=responses,
        ground_truths=truths,
        extra_infos=np.array(extras, dtype=object),
        failed=0.0,
    )
    alone = [
        verl.compute_score(data_source=a, solution_str=b, ground_truth=c, extra_info=d, failed=0.0)
        for a, b, c, d in ROWS
    ]
    assert results == alone
    assert [list(one) for one in results] == [KEYS] * len(ROWS)


def test_extra_info_is_left_as_it_is():
    extra = {"verifier": "iou", "params": {"threshold": 0.5}, "step": 1, "total_steps": 2}
    before = copy.deepcopy(extra)
    verl.compute_score("own", BOX, TRUTH, extra)
    assert extra == before


def test_extra_info_fills_the_sample():
    found = {}

    async def look(sample):
        found.update(sample.meta, source=sample.source, target=sample.target, prompt=sample.prompt)
        return Score(1.0)

    toy(look, "look")
    extra = {"step": 1, "total_steps": 4, "size": [10, 20], "prompt": "where?", "answer": "of the data set"}
    assert verl.compute_score("s", "x", "3", extra, rewards={"look": {}})["look"] == 1.0
    assert found["progress"] == 0.25
    assert found["size"] == [10, 20]
    assert (found["source"], found["target"], found["prompt"]) == ("s", "3", "where?")


def test_sums_and_what_a_failure_becomes():
    options = {"rewards": {"iou": {}, "loose": {"reward": "iou", "labels": "ignore"}}, "weights": {"iou": 3}}
    wrong_label = BOX.replace("cat", "dog")
    assert verl.compute_score("s", wrong_label, TRUTH, **options) == {
        "score": 1.0,
        "acc": 1.0,
        "iou": 0.0,
        "loose": 1.0,
        "failed": 0.0,
    }
    assert verl.compute_score("s", BOX, "junk", **options, failed=0.25)["score"] == 0.25
    with pytest.raises(RuntimeError, match="1 of 1 scores failed, the first: error, iou"):
        verl.compute_score("s", BOX, "junk", **options)


def test_a_reward_may_not_take_a_key_of_verls():
    with pytest.raises(ValueError, match="rewards named reward: trainers use these keys"):
        verl.compute_score("s", BOX, TRUTH, rewards={"reward": {"reward": "iou"}})


def test_one_engine_for_all_calls_of_a_process(tmp_path):
    """Also where verl calls from a pool of threads, and however the configuration's containers look."""
    path = tmp_path / "routes.yaml"
    path.write_text('routes: {"*": {rewards: {iou: {}}}}\n')
    assert shared(path, None, None) is shared(str(path), None, None)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(verl.compute_score, "s", BOX, TRUTH, rewards=str(path)) for _ in range(64)]
    assert {call.result()["score"] for call in calls} == {1.0}
    router = Router({"*": {"rewards": {"iou": {}}}})
    with pytest.raises(ValueError, match=r"pass Scorer\(router\)"):
        verl.compute_score("s", BOX, TRUTH, rewards=router)
    scorer = Scorer(router)
    assert verl.compute_score("s", BOX, TRUTH, rewards=scorer)["score"] == 1.0
    scorer.close()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
def test_our_manager_hands_on_pictures_and_prompts(nested, swapped):
    """In both layouts of the configuration, and both orders in which versions of verl pass arguments."""
    found = {}

    async def look(sample):
        found.update(image=sample.image.size, prompt=sample.prompt, response=sample.response)
        return Score(0.5)

    toy(look, "look")
    config = {"custom_reward_function": {"path": None, "reward_kwargs": {"rewards": {"look": {}}}}}
    config = {"reward": config} if nested else config
    arguments = (config, None, Decoder()) if swapped else (config, Decoder(), None)
    manager = verl.RewardManager(*arguments, reward_router_address=None, reward_model_tokenizer=None)
    data = protos(
        [("s", "hi", "3", {})],
        raw_prompt=[{"role": "user", "content": "<image>where?"}],
        multi_modal_data={"images": [Image.new("RGB", (4, 2))]},
    )
    result = asyncio.run(manager.run_single(data[0:1]))
    assert result == {
        "reward_score": 0.5,
        "reward_extra_info": {"score": 0.5, "acc": 0.5, "look": 0.5, "failed": 0.0},
    }
    assert found == {"image": (2, 4), "prompt": "where?", "response": "hi"}


def test_a_wrong_reward_kwarg_is_an_error():
    config = {"custom_reward_function": {"reward_kwargs": {"reward": "iou"}}}
    with pytest.raises(TypeError, match="reward"):
        verl.RewardManager(config, Decoder())


def test_our_manager_scores_the_last_output_of_a_trajectory():
    """As verl's agent loop batches them: unequal prompts and responses, padded on the right."""
    found = []

    async def look(sample):
        found.append((sample.response, sample.meta["tokens"], sample.meta["tool"], sample.meta["index"]))
        return Score(1.0)

    toy(look, "look")
    manager = verl.RewardManager(
        {"reward": {"custom_reward_function": {"reward_kwargs": {"rewards": {"look": {}}}}}}, Decoder()
    )
    data = Protos()
    for prompt, response in (([1], "long first answer"), ([1] * 9, "last")):
        mask = [1] * (len(prompt) + len(response)) + [0] * (18 - len(prompt) - len(response))
        batch = {
            "responses": torch.tensor([*map(ord, response), *[0] * (17 - len(response))]),
            "attention_mask": torch.tensor(mask),
        }
        told = {"data_source": "s", "reward_model": {"ground_truth": "3"}, "extra_info": {"index": 1}}
        told |= {"tool_extra_fields": {"tool": "zoom"}, "response_len": len(response)}
        data.append(SimpleNamespace(batch=batch, non_tensor_batch=told))
    assert asyncio.run(manager.run_single(data))["reward_score"] == 1.0
    assert found == [("last", 4, "zoom", 1)]


def test_scores_stand_at_the_last_token():
    batch = {
        "prompts": torch.zeros(3, 2, dtype=torch.long),
        "responses": torch.zeros(3, 4, dtype=torch.long),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]]),
    }
    assembled = verl.RewardManager.assemble_rm_scores(SimpleNamespace(batch=batch), [0.5, 1.0, 0.25])
    assert assembled.tolist() == [[0, 0.5, 0, 0], [0, 0, 0, 1.0], [0.25, 0, 0, 0]]
    assert assembled.dtype == torch.float32


@pytest.mark.parametrize(
    "config", [{}, {"reward": {}}, {"reward": None}, {"reward": {"custom_reward_function": None}}]
)
def test_a_manager_without_parameters_takes_the_routes_of_the_rows(config):
    manager = verl.RewardManager(config, Decoder())
    data = protos([("own", BOX, TRUTH, {"verifier": "iou"})])
    result = asyncio.run(manager.run_single(data))
    assert result["reward_score"] == 1.0
