"""Exercises for mini-vlm: true answers earn full marks, and a weakened model fewer."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from mmreward.assets import ASSETS
from mmreward.data.routing import Router
from mmreward.evals.studies.vlm_exam import (
    DIALOGUES,
    EXAMINED,
    LONGEST,
    USUAL,
    answers,
    draw_exercises,
    marked,
    probes,
    weaken,
    with_probes,
)
from mmreward.evals.studies.vlm_rl import VlmConfig

RECIPES = sorted((Path(__file__).parents[2] / "configs" / "vlm").glob("mini-*.yaml"))
EVERY = tuple(DIALOGUES)


@pytest.fixture(scope="module")
def model():
    return Qwen3VLForConditionalGeneration.from_pretrained(ASSETS / "mini-vlm")


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(ASSETS / "mini-vlm")


def test_the_true_answers_earn_full_marks(engine):
    exercises = draw_exercises(6, 3, EVERY)
    assert [one.task for one in exercises] == list(EVERY) * 6
    routed = Router(EXAMINED).score(engine, [one.sample(one.answer) for one in exercises])
    assert [total.value for total in routed.totals] == pytest.approx([1.0] * 24)
    exam = marked(exercises, routed.scores)
    assert {task: column.tolist() for task, column in exam.marks.items()} == {
        task: pytest.approx([1.0] * 6) for task in EVERY
    }
    shapes = [len(one.scene.things) for one in exercises if one.task == "locate_all"]
    assert exam.written["locate_all"].tolist() == exam.true["locate_all"].tolist() == shapes
    assert max(shapes) > 2 and set(exam.true) == {"locate", "locate_all"}


def test_spam_is_seen_in_the_number_of_boxes(engine):
    [one] = draw_exercises(1, 3, ["locate_all"])
    spam = one.answer[:-1] + ', {"bbox_2d": [0, 0, 10, 10], "label": "red circle"}' * 3 + "]"
    routed = Router(EXAMINED).score(engine, [one.sample(spam)])
    exam = marked([one], routed.scores)
    assert exam.marks["locate_all"] == pytest.approx(1.0)
    assert exam.written["locate_all"][0] == exam.true["locate_all"][0] + 3


def test_an_answer_that_cannot_be_read_hides_no_true_boxes(engine):
    [one] = draw_exercises(1, 3, ["locate_all"])
    exam = marked([one], Router(EXAMINED).score(engine, [one.sample("a cat")]).scores)
    assert exam.marks["locate_all"][0] == exam.written["locate_all"][0] == 0
    assert exam.true["locate_all"][0] == len(one.scene.things) > 0


def test_exercises_are_drawn_by_seed():
    assert draw_exercises(6, 3)[7].question == draw_exercises(3, 3)[7].question
    assert draw_exercises(1, 4)[0] != draw_exercises(1, 3)[0]
    assert {one.task for one in draw_exercises(2, 0)} == set(USUAL)


def test_probes_are_true_and_different_and_never_the_question_itself():
    exercises = draw_exercises(12, 5, EVERY)
    columns = with_probes(exercises, 3, seed=0)
    assert columns == with_probes(exercises, 3, seed=0) != with_probes(exercises, 3, seed=1)
    assert {len(column) for column in columns} == {3}
    said = set()
    for one, column in zip(exercises, columns, strict=True):
        questions = [entry["question"] for entry in column]
        assert len({one.question, *questions}) == 4
        for entry in column:
            said.add(entry["answer"])
            if entry["question"].startswith("How many shapes"):
                assert int(entry["answer"]) == len(one.scene.things)
            if entry["question"].startswith("Is there a ") and entry["answer"] == "yes":
                named = entry["question"].removeprefix("Is there a ").split("?")[0].split()
                assert any(set(named) - {"shape"} <= set(thing.kind) for thing in one.scene.things)
    assert {"yes", "no", "1", "2"} < said
    assert 0 < len(probes(exercises[0], 1000, [0])) < 64


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_pays_true_answers_in_full_and_has_room_for_them(engine, processor, path):
    config = VlmConfig.model_validate(yaml.safe_load(path.read_text()))
    exercises = draw_exercises(8, 1, config.tasks)
    samples = [replace(one.sample(one.answer), meta={"progress": 0.5}) for one in exercises]
    totals = Router(config.routes).score(engine, samples).totals
    assert [total.value for total in totals] == pytest.approx([1.0] * len(exercises))
    longest = max(len(processor.tokenizer(one.answer).input_ids) for one in exercises) + 1
    assert longest <= config.trainer["max_completion_length"]
    assert config.out == f"runs/vlm-{path.stem}"


def test_noise_makes_the_model_worse_and_answers_keep_their_order(engine, model, processor):
    exercises, router = draw_exercises(8, 5), Router(EXAMINED)

    def marks(batch):
        written = answers(model, processor, exercises, batch)
        samples = [one.sample(text) for one, text in zip(exercises, written, strict=True)]
        return written, sum(total.value for total in router.score(engine, samples).totals)

    written, before = marks(batch=64)
    assert marks(batch=3)[0] == written
    assert not model.training
    weaken(model, 1.5)
    assert marks(batch=64)[1] < before - 2
    assert set(LONGEST) == set(DIALOGUES)
