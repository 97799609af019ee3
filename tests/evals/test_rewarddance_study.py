"""RewardDance on the miniature: the trainer's reads, its losses, a short training, the exam and its table."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmreward import Engine, Score, load, models
from mmreward.evals.studies.rewarddance import WRITTEN, run, table
from mmreward.judges import assent
from mmreward.judges.assent import Assent, AssentPlan, asks_against, asks_alone
from mmreward.judges.comparison import both_orders
from mmreward.judges.miniature import sample_comparisons
from mmreward.models.vlms.answers import YES_NO


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture(scope="module")
def compared():
    return [one.comparison for one in sample_comparisons(3, seed=8)]


def test_the_trainer_reads_what_the_reward_reads(engine, compared):
    asks = [*asks_against(both_orders(compared[:1])), *asks_alone(compared[:1])]
    with torch.no_grad():
        logs = Assent("mini-vlm", half=False)(asks)
    vlm = models.vlm("mini-vlm")
    for ask, (yes, no) in zip(asks, logs.exp().tolist(), strict=True):
        read = engine.run(vlm.read(ask.media, ask.text, YES_NO))
        assert (yes, no) == pytest.approx([read.probs[word] * read.mass for word in YES_NO], abs=1e-5)


def test_the_losses_are_those_of_the_paper(compared):
    logs = torch.tensor([[0.7, 0.2], [0.1, 0.8]]).log()
    pair = both_orders(compared[:1])
    right = [0.7 if pair[0].better == "2" else 0.2, 0.1 if pair[1].better == "2" else 0.8]
    want = -sum(map(math.log, right)) / 2
    assert float(assent.loss_against(logs, pair)) == pytest.approx(want, abs=1e-6)
    terry = -math.log(1 / (1 + math.exp(-(0.7 - 0.1))))
    small = -(math.log(0.7) + math.log(0.8)) / 2
    assert float(assent.loss_alone(logs, 0.0)) == pytest.approx(terry, abs=1e-6)
    assert float(assent.loss_alone(logs, 0.1)) == pytest.approx(terry + 0.1 * small, abs=1e-6)


def test_better_and_worse_stand_in_turn(compared):
    asks = asks_alone(compared)
    for one, better, worse in zip(compared, asks[::2], asks[1::2], strict=True):
        assert better.media[0].key == one.pictures[int(one.better) - 1].key != worse.media[0].key


def test_a_written_verdict_is_right_in_half_of_the_orders_where_it_goes_by_the_place(engine, compared):
    async def always_first(first, second):
        return Score(1.0)

    reward = replace(load("preference", **WRITTEN), fn=always_first)
    assert engine.run(assent.verdicts(reward, compared)).tolist() == [0.5] * 3


def test_a_short_training_is_left_for_the_recipe_and_not_done_again(tmp_path):
    plan = AssentPlan(steps=2, batch=2)
    said = run([4], tmp_path, 6, 3, plan, "")
    assert "| seed 4 |" in said and "written verdict, mini-vlm" in said and "Training took" in said
    loaded = load("rewarddance_group", judge=str(tmp_path / "4" / "judge"))
    assert loaded.fingerprint != load("rewarddance_group", judge="mini-vlm").fingerprint
    again = run([4], tmp_path, 6, 3, plan, "")
    assert again == said.split("\n\nTraining took")[0]


def test_no_comparisons_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="no comparisons"):
        assent.train_assent("mini-vlm", [], AssentPlan(), tmp_path)


def test_the_table_has_an_interval_over_seeds():
    exam = {name: np.array([1.0, 0.5, 1.0]) for name in ("right", "margin", "alone")}
    worse = {name: np.array([0.5, 0.5, 0.5]) for name in exam}
    said = table({"it": np.array([0.5, 0.0, 0.5])}, worse, {"seed 0": exam, "seed 1": worse}, [])
    assert "| before | seed 0 | seed 1 | mean (95 %) |" in said and "0.667 (" in said
    assert "seed 0, each order, against the written verdict of it: +50.0" in said
