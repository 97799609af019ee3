"""Exercises for mini-vlm: true answers earn full marks, and a weakened model fewer."""

import pytest
from mmreward.evals.vlm_rl import EXAMINED, gain
from mmreward.evals.vlm_tasks import ASKED, answers, exercises, weaken
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from mmreward.models import ASSETS
from mmreward.routing import Router


@pytest.fixture(scope="module")
def model():
    return Qwen3VLForConditionalGeneration.from_pretrained(ASSETS / "mini-vlm")


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(ASSETS / "mini-vlm")


def test_the_true_answers_earn_full_marks(engine):
    asked = exercises(6, 3)
    assert [one.task for one in asked] == list(ASKED) * 6
    totals = Router(EXAMINED).score(engine, [one.sample(one.answer) for one in asked]).totals
    assert [total.value for total in totals] == pytest.approx([1.0] * 18)
    assert exercises(6, 3)[7].question == asked[7].question and exercises(1, 4)[0] != asked[0]


def test_noise_makes_the_model_worse_and_answers_keep_their_order(engine, model, processor):
    asked, router = exercises(8, 5), Router(EXAMINED)

    def marks(batch):
        written = answers(model, processor, asked, batch)
        samples = [one.sample(text) for one, text in zip(asked, written, strict=True)]
        return written, sum(total.value for total in router.score(engine, samples).totals)

    written, before = marks(batch=64)
    assert marks(batch=3)[0] == written
    assert not model.training
    weaken(model, 1.5)
    assert marks(batch=64)[1] < before - 2


def test_points_are_paired():
    import numpy as np

    points, half = gain(np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0, 1.0]))
    assert points == 50 and half == pytest.approx(1.96 * 100 * np.std([1, 0, 0, 1], ddof=1) / 2)
