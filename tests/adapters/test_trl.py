"""TRL at its real call site: one step of GRPOTrainer on the miniature, and what it logs about our rewards."""

import asyncio
import math
import pickle
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import pytest
from PIL import Image
from support.toys import toy

from mmreward import Score, Unscorable, assets
from mmreward.adapters import trl
from mmreward.data.routing import Router

BOX = '<answer>[{"bbox_2d": [100, 100, 400, 400], "label": "cat"}]</answer>'
TRUTH = [{"bbox_2d": [100, 100, 400, 400], "label": "cat"}]
ROUTES = {
    "counts": {"rewards": {"short": {}, "seen": {}}, "accuracy": {"short": 1.0}, "format": {"seen": 1.0}},
    "broken": {"rewards": {"no_target": {}}},
}


async def short(sample):
    """1 for an empty response, less for every character."""
    return Score(1.0 / (1.0 + len(sample.response)))


async def seen(sample):
    """1 where the picture, the question, the target and the progress have all come through."""
    facts = [
        sample.image is not None and sample.image.size == (64, 64),
        sample.prompt == "how many circles are there?",
        sample.target == "3",
        sample.meta["size"] == {"w": 64},  # and not {"w": 64, "h": None}
        0.0 <= sample.meta["progress"] <= 1.0,
    ]
    return Score(fmean(map(float, facts)))


async def no_target(sample):
    raise Unscorable("the target makes no sense")


@pytest.fixture
def toys():
    calls = []

    async def counted(sample):
        calls.append(sample.response)
        return await short(sample)

    toy(counted, "short", needs=("response",))
    toy(seen, "seen")
    toy(no_target, "no_target")
    return calls


@pytest.fixture
def trained(toys, tmp_path):
    """One step on two prompts, one of which nobody can score, with three kinds of reward functions."""
    pytest.importorskip("trl")
    from datasets import Dataset
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import GRPOConfig, GRPOTrainer

    folder = Path(assets.__file__).parent / "mini-vlm"

    question = [{"role": "user", "content": "how many circles are there?"}]
    rows = [
        {
            "prompt": question,
            "image": Image.new("RGB", (64, 64), colour),
            "source": source,
            "target": "3",
            "size": {"w": 64, "h": None if source == "counts" else 64},
        }
        for source, colour in (("counts", "red"), ("broken", "blue"))
    ]
    functions = [
        trl.reward(Router(ROUTES), name="total"),
        trl.reward({"short": {}}, name="later", asynchronous=True, metrics=False),
        *trl.components(Router(ROUTES), ["accuracy", "format"], name="part", metrics=False),
    ]
    config = GRPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        max_steps=1,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=8,
        temperature=2.0,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        seed=0,
    )
    trainer = GRPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(folder),
        processing_class=AutoProcessor.from_pretrained(folder),
        reward_funcs=functions,
        args=config,
        train_dataset=Dataset.from_list(rows),
    )
    toys.clear()
    trainer.train()
    for function in functions:
        function.grading.scorer.close()
    return trainer


@pytest.mark.filterwarnings("ignore")
def test_a_step_of_grpo(trained, toys):
    """Means by hand, failures left out, metrics by source, and one verification for two components."""
    logs, kept = trained._logs, trained.state.log_history[0]
    texts = [messages[-1]["content"] for messages in logs["completion"]]
    scorable = [not math.isnan(value) for value in logs["rewards"]["total"]]
    assert sorted(scorable) == [False, False, True, True]
    by_hand = [1.0 / (1.0 + len(text)) for text in texts]
    right = [value for value, able in zip(by_hand, scorable, strict=True) if able]
    assert kept["rewards/later/mean"] == pytest.approx(fmean(by_hand), abs=1e-6)
    assert kept["rewards/part/accuracy/mean"] == pytest.approx(fmean(right), abs=1e-6)
    assert (
        kept["rewards/part/format/mean"] == 1.0
    )  # picture, question, target, size and progress came through
    assert kept["rewards/total/mean"] == pytest.approx((fmean(right) + 1.0) / 2, abs=1e-6)
    assert kept["total/sources/counts/score"] == pytest.approx(kept["rewards/total/mean"], abs=1e-6)
    assert kept["total/sources/broken/status/error"] == 2.0
    assert kept["total/overall/failed"] == 0.5
    assert kept["total/sources/counts/length/mean"] > 0
    assert "later/overall/score" not in kept
    statuses = list(logs["extra"]["total/status"])
    assert statuses == ["ok" if able else "error" for able in scorable]
    assert any("the target makes no sense" in note for note in logs["extra"]["total/note"])
    # total: two rows, later: four, both components together: two
    assert len(toys) == 8


def told(completions, **columns):
    return {"prompts": ["find it"] * len(completions), "completions": completions, **columns}


def test_a_failure_is_none_and_a_bad_answer_is_zero():
    function = trl.reward({"iou": {}})
    assert function.__name__ == "iou"
    assert function(**told([BOX, "a cat", BOX], target=[TRUTH, TRUTH, "junk"])) == [1.0, 0.0, None]


def test_a_sum_of_rewards_with_weights(toys):
    function = trl.reward({"iou": {}, "short": {}}, weights={"iou": 2.0, "short": 0.5})
    assert function.__name__ == "iou+short"
    [value] = function(**told([BOX], target=[TRUTH]))
    assert value == pytest.approx(2.0 + 0.5 / (1 + len(BOX)))


def test_what_float32_cannot_hold_is_none():
    async def huge(sample):
        return Score(1e300)

    toy(huge, "huge", range=(0.0, math.inf))
    assert trl.reward("huge")(**told(["x"])) == [None]


def test_rows_bring_their_own_verifier():
    function = trl.reward()
    columns = {
        "verifier": ["iou", "nonsense", "iou"],
        "params": ['{"bare": false, "threshold": null}', None, "{"],
        "target_json": ['[{"bbox_2d": [100, 100, 400, 400], "label": "cat"}]'] * 3,
    }
    assert function(**told([BOX] * 3, **columns)) == [1.0, None, None]


def test_the_last_message_with_content_is_the_completion():
    turns = [
        [{"role": "assistant", "content": "no"}, {"role": "tool", "content": BOX}],
        [
            {
                "role": "assistant",
                "content": [{"type": "text", "text": BOX[:20]}, {"type": "text", "text": BOX[20:]}],
            }
        ],
        [{"role": "assistant", "content": BOX}, {"role": "assistant", "tool_calls": []}],
    ]
    assert trl.reward("iou")(**told(turns, target=[TRUTH] * 3)) == [0.0, 1.0, 1.0]


def test_columns_are_renamed_and_a_missing_one_is_an_error():
    function = trl.reward("iou", columns={"target": "boxes"})
    assert function(**told([BOX], boxes=[TRUTH])) == [1.0]
    with pytest.raises(ValueError, match="no column boxes in the data: there are target"):
        function(**told([BOX], target=[TRUTH]))


def test_a_function_travels_to_another_process(toys):
    """It is pickled as its description, with no engine, and functions that share scores go on sharing."""
    [accuracy, form] = trl.components(Router(ROUTES), ["accuracy", "format"])
    accuracy(**told(["x"], source=["broken"]))
    one, other = pickle.loads(pickle.dumps([accuracy, form]))
    assert one.grading is other.grading
    assert (one.__name__, other.__name__) == ("routed/accuracy", "routed/format")
    toys.clear()
    batch = told(["x"], source=["counts"], target=["3"], size=[{"w": 64}])
    state = SimpleNamespace(global_step=1, max_steps=4)
    assert one(**batch, trainer_state=state) == [0.5]
    assert other(**batch, trainer_state=state) == [pytest.approx(0.6)]  # no picture, another question
    assert toys == ["x"]


def test_a_loaded_reward_cannot_travel():
    with pytest.raises(TypeError, match="give its name and arguments"):
        pickle.dumps(trl.reward(toy(short, "short")))


def test_shared_scores_are_computed_again_for_the_next_batch(toys):
    [short_of] = trl.components({"short": {}}, ["short"])
    assert short_of(**told(["", "x"])) == [1.0, 0.5]
    assert short_of(**told(["x", ""])) == [0.5, 1.0]


def test_async_components_share_their_scores(toys):
    functions = trl.components({"short": {}, "seen": {}}, ["short", "seen"], asynchronous=True)
    batch = told(
        ["xyz"], size=[{"w": 64}], trainer_state=SimpleNamespace(global_step=3, max_steps=2), target=["3"]
    )

    async def both():
        return await asyncio.gather(*(function(**batch) for function in functions))

    assert asyncio.run(both()) == [[0.25], [pytest.approx(0.6)]]
    assert toys == ["xyz"]


@pytest.mark.parametrize(
    ("step", "total", "seen"), [(0, 4, 0.0), (1, 4, 0.25), (9, 4, 1.0), (1, -1, None), (1, 0, None)]
)
def test_progress_comes_from_the_trainer(step, total, seen):
    found = []

    async def look(sample):
        found.append(sample.meta.get("progress"))
        return Score(0.0)

    toy(look, "look")
    trl.reward("look")(**told(["x"], trainer_state=SimpleNamespace(global_step=step, max_steps=total)))
    assert found == [seen]


def test_groups_are_the_completions_of_one_prompt():
    """A group reward sees each group whole, by number or by equal questions about equal pictures."""

    async def rank(samples):
        return [Score(float(len(samples))) for _ in samples]

    toy(rank, "rank", arity="group", range=(0.0, 9.0))
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    pictures = [red, red.copy(), red.copy(), blue, blue.copy()]
    by_picture = trl.reward("rank")
    assert by_picture(**told(list("abcde"), image=pictures)) == [3.0, 3.0, 3.0, 2.0, 2.0]
    by_number = trl.reward("rank", num_generations=2)
    assert by_number(**told(list("abcd"), image=[red] * 4)) == [2.0, 2.0, 2.0, 2.0]
    assert by_picture(**told(list("abcd"), group=["x", "y", "x", "x"])) == [3.0, 1.0, 3.0, 3.0]


def test_several_pictures_of_a_question(toys):
    found = []

    async def look(sample):
        found.append((sample.image.size, len(sample.inputs)))
        return Score(0.0)

    toy(look, "look")
    pictures = [Image.new("RGB", (4, 2)), Image.new("RGB", (3, 3))]
    trl.reward("look")(**told(["x"], images=[pictures]))
    shown = [
        {"role": "user", "content": [{"type": "image", "image": pictures[1]}, {"type": "text", "text": "?"}]}
    ]
    trl.reward("look")(prompts=[shown], completions=["x"])
    assert found == [((2, 4), 1), ((3, 3), 0)]


def test_figures_are_those_of_source_metrics():
    logged = {}
    function = trl.reward("iou", name="boxes")
    function(
        **told([BOX, "no"], target=[TRUTH, TRUTH], source=["a/b", "c"], completion_ids=[[1, 2], [3]]),
        log_metric=logged.__setitem__,
    )
    assert logged["boxes/sources/a_b/score"] == 1.0
    assert logged["boxes/sources/c/unread"] == 1.0
    assert logged["boxes/overall/length/mean"] == 1.5
    assert all(math.isfinite(value) for value in logged.values())
