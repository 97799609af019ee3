"""Evaluations also look at larger pictures: the same prompts and seeds, for the monitors alone."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from support import forked
from support.toy_generator import ToyGenerator
from support.train_toy import PROMPTS

from mmreward.generators.loading import footprint
from mmreward.monitor.pictures import measure
from mmreward.sampling import sample
from mmreward.search.guided import PixelTerm, RewardGuided
from mmreward.tune.config import EvaluationConfig, TuneConfig
from mmreward.tune.data import seed_of
from mmreward.tune.evaluation import Evaluated, Watch
from mmreward.tune.grading import Grades
from mmreward.tune.journal import lines
from mmreward.tune.plan import plan

TESTS = Path(__file__).parents[1]
SIZE = {"height": 32, "width": 64}
EVALUATION = {
    "prompts": {"data": "shapes-world"},
    "every": 2,
    "steps": 6,
    "batch": 2,
    "shown": 3,
    "larger": SIZE,
}


def larger(generator, number):
    """What a run measures on the larger pictures of the first prompts."""
    prompts = [one.prompt for one in PROMPTS[:number]]
    seeds = [seed_of(0, "evaluation", i) for i in range(number)]
    return measure(sample(generator.at(**SIZE), prompts, seeds, steps=6), range(number))


def test_a_run_measures_larger_pictures_of_the_averaged_weights(described, trainer, tmp_path):
    generator = ToyGenerator()
    run = trainer(described(rounds=2, evaluation=EVALUATION), generator=generator)
    run.run()
    first, last = lines(tmp_path / "run" / "evaluations.jsonl")
    assert "grid_8" in first["monitors_larger"], "it fits into these pictures, and not into the others"
    assert first["monitors_larger"] == pytest.approx(larger(ToyGenerator(), 3))
    with run.learner.averaged():
        assert last["monitors_larger"] == pytest.approx(larger(generator, 3))
    assert last["monitors_larger"] != pytest.approx(first["monitors_larger"])
    without = {name: value for name, value in EVALUATION.items() if name != "larger"}
    trainer(described(rounds=2, evaluation=without, out=str(tmp_path / "without"))).run()
    for one, other in zip((first, last), lines(tmp_path / "without" / "evaluations.jsonl"), strict=True):
        assert "monitors_larger" not in other
        assert {name: one[name] for name in ("monitors", "values")} == {
            name: other[name] for name in ("monitors", "values")
        }


@pytest.mark.timeout(240)
def test_processes_share_the_larger_pictures(described, tmp_path):
    """Three of them for two processes, over which the network is spread."""
    config = described(
        method={"name": "nft"}, rounds=1, evaluation=EVALUATION, shard=True, out=str(tmp_path / "two")
    )
    path = tmp_path / "two.json"
    path.write_text(config.model_dump_json())
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    done = forked.ranks(2, TESTS / "support" / "train_toy.py", path, env=environment)
    assert not any(one.returncode for one in done), done
    line = lines(tmp_path / "two" / "evaluations.jsonl")[0]
    assert line["monitors_larger"] == pytest.approx(larger(ToyGenerator(), 3), rel=1e-4)


def test_what_cannot_be_drawn_or_compared_is_refused_at_once(described, trainer, tmp_path):
    with pytest.raises(ValueError, match="33 x 64"):
        trainer(described(evaluation={**EVALUATION, "larger": {"height": 33, "width": 64}}))
    assert not (tmp_path / "run").exists()
    for number in (0, 1):
        with pytest.raises(ValidationError, match=f"at least two: shown is {number}"):
            EvaluationConfig.model_validate({**EVALUATION, "shown": number})
    with pytest.raises(ValidationError, match=r"larger\.width"):
        EvaluationConfig.model_validate({**EVALUATION, "larger": {"height": 64}})


def grid(strength):
    """Four noisy pictures of 64 x 64 with lines every 16 pixels."""
    pixels = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.5
    pixels[..., ::16] += strength
    pixels[..., ::16, :] += strength
    return pixels.clamp(0, 1)


def looked(config: TuneConfig, strengths):
    """What the watch says of pictures whose larger versions have such grids, and the others none."""
    watch = Watch(config, {})
    grades = Grades(np.arange(4), {"redness": np.linspace(0, 1, 4)}, np.full(4, np.nan))
    return [watch.look(i, Evaluated(grades, grid(0.0), grid(one))) for i, one in enumerate(strengths)]


def test_the_alarm_sees_a_grid_that_only_larger_pictures_have(described):
    config = described(
        weights={"redness": 1.0}, alarm={"baseline": 2, "patience": 2}, evaluation={**EVALUATION, "shown": 4}
    )
    found = looked(config, [0.0, 0.0, 0.4, 0.4])
    assert [one["verdict"] for one in found] == ["ok", "ok", "warn", "alarm"]
    assert any(reason.startswith("larger/grid_16 went up") for reason in found[-1]["reasons"])
    assert not any(reason.startswith("grid_16") for reason in found[-1]["reasons"])
    assert found[-1]["monitors_larger"]["grid_16"] > 3 > found[-1]["monitors"]["grid_16"]
    fading = looked(config, [0.4, 0.4, 0.0, 0.0])[-1]["reasons"]
    assert not any("larger/grid" in reason for reason in fading), "less of a grid is no harm"


def test_the_plan_says_how_many_and_how_large(described):
    given = {**EVALUATION, "prompts": {"data": "shapes-world", "count": 9}}
    for changes in ({}, {"shown": 16}):
        config = described(
            generator="mini-flow",
            rewards={"clipscore": {"weights": "mini-clip"}},
            evaluation={**given, **changes},
            prompts={"data": "shapes-world", "count": 9},
        )
        number = min(9, config.evaluation.shown)
        assert f"\n  {number} prompts also at height 32, width 64" in plan(config, footprint)
    plain = described(generator="mini-flow", rewards={"clipscore": {"weights": "mini-clip"}})
    assert "also at" not in plan(plain, footprint)


def test_a_guided_generator_guides_at_any_size():
    def mean_red(pixels, prompts):
        return pixels[:, 0].mean((1, 2))

    generator = ToyGenerator()
    terms = [PixelTerm(mean_red, 50.0)]
    guided = RewardGuided(generator, terms, highest=0.8, above="skip").at(**SIZE)
    expected = RewardGuided(generator.at(**SIZE), terms, highest=0.8, above="skip")
    latents = guided.noise([1, 2])
    assert guided.network is generator.network and latents.shape == (2, 3, 8, 16)
    for level in (0.5, 0.9):
        one, other = (each.velocity(latents, level, each.encode(["a", "b"])) for each in (guided, expected))
        assert torch.equal(one, other)
        plain = generator.velocity(latents, level, generator.encode(["a", "b"]))
        assert torch.equal(one, plain) == (level == 0.9)


def test_every_process_needs_a_prompt_to_evaluate_on(described, trainer):
    with pytest.raises(ValueError, match="0 prompts to evaluate on for 1 processes"):
        trainer(described(), evaluated=[])
