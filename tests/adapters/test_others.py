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


CHAT = "<|im_start|>user\n{}where? a < b<|im_end|>\n<|im_start|>assistant\n"
SAID = "<think>\nhm <|image_pad|>\n</think>\n" + BOX


@pytest.mark.parametrize(
    ("written", "expanded"),
    [
        ("<|vision_start|><|image_pad|><|vision_end|>",) * 2,
        (
            "<|vision_start|><|image_pad|><|vision_end|>",
            "<|vision_start|>" + "<|image_pad|>" * 700 + "<|vision_end|>",
        ),
        ("<image>", "<image>" * 576),
        ("<image>\n", "<img>" + "<IMG_CONTEXT>" * 256 + "</img>\n"),
        ("<start_of_image>", "\n\n<start_of_image>" + "<image_soft_token>" * 256 + "<end_of_image>\n\n"),
        ("[IMG]", ("[IMG]" * 20 + "[IMG_BREAK]") * 20 + "[IMG_END]"),
        ("<image> and <image>: ", "<image>" * 576 + " and " + "<image>" * 64 + ": "),
    ],
)
@pytest.mark.parametrize("begin", ["", "<|begin_of_text|>"])
def test_openrlhf_finds_the_response_behind_image_tokens(written, expanded, begin):
    """The query is decoded from the processor's tokens; what a response says does not move its beginning."""
    prompt, query = CHAT.format(written), begin + CHAT.format(expanded)
    for said in (SAID, "<answer>1</answer>", "", SAID + CHAT.format(written) + "2", "  x"):
        assert response_of(query + said + "<|im_end|>", prompt) == said


def test_openrlhf_finds_the_response_behind_a_prompt_that_lost_its_beginning():
    prompt = CHAT.format("a long story, " * 20)
    assert response_of(prompt[100:] + SAID, prompt) == SAID
    assert response_of("another question" + SAID, prompt) is None
    assert response_of("<|im_start|>user\nwho?<|im_end|>\n<|im_start|>assistant\n" + SAID, prompt) is None


def test_openrlhf_scores_rows_with_pictures():
    function = reward({"iou": {}})
    prompt = CHAT.format("<|image_pad|>")
    query = CHAT.format("<|image_pad|>" * 300) + BOX + "<|im_end|>"
    label = json.dumps({"v": 1, "answer": TRUTH})
    assert function([query], [prompt], [label])["rewards"].tolist() == [1.0]


@pytest.mark.parametrize(
    "response",
    [
        "< think >" + "x " * 40 + "< /think > < answer >3< /answer >",
        "<think >" + "x " * 40 + "</ think ><Answer>3< / answer>",
    ],
)
def test_easyr1_closes_spaced_tags(response):
    rewards = {"answer": {"reward": "answer"}, "form": {"reward": "format"}}
    (row,) = easyr1.compute_score(inputs((response.replace("Answer", "answer"), "3")), rewards=rewards)
    assert (row["answer"], row["form"]) == (1.0, 1.0)


def test_a_deadline_of_one_answer_does_not_end_a_run(caplog):
    """It is told from a wrong answer by `failed`; other failures end the run, and so does a judge that is
    gone."""

    async def slow(sample):
        if sample.response == "slow":
            raise TimeoutError("too slow")
        if sample.response == "broken":
            raise ValueError("broken")
        return Score(float(sample.response == sample.target))

    toy(slow, "slow")
    options = {"rewards": {"slow": {}}}
    rows = easyr1.compute_score(inputs(("3", "3"), ("slow", "3")), **options)
    assert [(row["overall"], row["failed"]) for row in rows] == [(1.0, 0.0), (0.0, 1.0)]
    assert "timeout, too slow" in caplog.text
    with pytest.raises(RuntimeError, match="broken"):
        easyr1.compute_score(inputs(("broken", "3"), ("slow", "3")), **options)
    easyr1.compute_score(inputs(("3", "3")), **options)
    for _ in range(scorer.LATE - 1):
        easyr1.compute_score(inputs(("slow", "3")), **options)
    with pytest.raises(RuntimeError, match="timeout"):
        easyr1.compute_score(inputs(("slow", "3")), **options)
