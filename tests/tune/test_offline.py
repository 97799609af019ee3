"""Training on preference pairs: it raises what the pairs prefer, and nothing but the pairs decides how."""

import math
import os
from pathlib import Path

import pytest
import torch
from support import forked
from support.toy_generator import ToyGenerator
from support.train_toy import PROMPTS

from mmreward import Media
from mmreward.data.pair_folder import PreferencePair, read_pairs, write_pairs
from mmreward.progress import Display
from mmreward.sampling import media, sample
from mmreward.tune.config import TuneConfig
from mmreward.tune.data import KnownLatents
from mmreward.tune.journal import lines
from mmreward.tune.learner import read_weights
from mmreward.tune.plan import plan
from mmreward.tune.trainer import tune

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def drawn():
    """24 pairs of what the toy draws untrained, the redder one chosen."""
    prompts = [PROMPTS[i % 4].prompt for i in range(24)]
    pixels = [sample(ToyGenerator(), prompts, [100 * k + i for i in range(24)]) for k in (1, 2)]
    halves = list(zip(*map(media, pixels), strict=True))
    redder = [
        float((a - b).mean((1, 2)) @ torch.tensor([1, -0.5, -0.5])) > 0 for a, b in zip(*pixels, strict=True)
    ]
    return [
        PreferencePair(prompt=prompt, chosen=pair[not first], rejected=pair[first])
        for prompt, pair, first in zip(prompts, halves, redder, strict=True)
    ]


@pytest.fixture
def offline(described):
    """The config of an offline run, with changes."""

    def make(*, method=None, **changes):
        small = {"name": "flow_dpo", "batch": 8, "micro_batch": 4}
        return described(rollout={}, method={**small, **(method or {})}, **changes)

    return make


def rounds(run):
    return lines(run._folder / "rounds.jsonl")


@pytest.mark.parametrize(
    "method",
    [
        {"name": "flow_dpo", "beta": 20.0, "sft": 0.1},
        {"name": "diffusion_dpo", "beta": 20.0, "times": {"name": "grid", "number": 2}},
        {"name": "ipo", "beta": 1.0},
        {"name": "flow_rpo", "beta": 20.0},
        {"name": "hinge", "beta": 10.0, "space": "epsilon", "times": {"name": "logit_normal", "number": 2}},
    ],
    ids=lambda method: method["name"],
)
def test_every_method_raises_what_the_pairs_prefer(offline, trainer, drawn, method):
    config = offline(
        method=method,
        rounds=20,
        evaluation={"prompts": {"data": "shapes-world"}, "every": 20},
        lora={"rank": 8},
    )
    run = trainer(config, pairs=drawn)
    run.run()
    means = [e["rewards"]["redness"]["mean"] for e in lines(run._folder / "evaluations.jsonl")]
    assert means[-1] > means[0] + 0.02, means
    journal = rounds(run)
    assert journal[0]["preference/accuracy"] == 0.5 and journal[0]["deviation"] == 0
    late = [line["preference/accuracy"] for line in journal[-8:]]
    assert sum(late) / len(late) > 0.6 and journal[-1]["deviation"] > 0
    assert journal[-1]["preference/margin"] > 0


@pytest.mark.parametrize(("name", "scale"), [("flow_dpo", 50.0), ("diffusion_dpo", 2500.0)])
def test_the_scales_are_those_of_the_papers(offline, trainer, drawn, name, scale):
    run = trainer(offline(method={"name": name, "batch": 1, "micro_batch": 1}, rounds=3), pairs=drawn)
    run.run()
    first, *others = rounds(run)
    assert first["preference/loss"] == pytest.approx(math.log(2))
    for line in others:
        expected = math.log1p(math.exp(-scale * line["preference/margin"]))
        assert line["preference/margin"] != 0 and line["preference/loss"] == pytest.approx(expected, rel=1e-3)


def test_the_two_of_a_pair_are_noised_alike(offline, trainer, drawn):
    same = [PreferencePair(prompt=p.prompt, chosen=p.chosen, rejected=p.chosen) for p in drawn]
    run = trainer(offline(rounds=2), pairs=same)
    run.run()
    for line in rounds(run):
        assert line["preference/margin"] == 0 and line["grad_norm"] < 1e-5 < line["chosen_error"]


def weights_of(run):
    run.run()
    return read_weights(run._folder / "weights.safetensors")


def test_micro_batches_and_memory_do_not_change_the_training(offline, trainer, drawn, tmp_path):
    found = [
        weights_of(trainer(offline(method=method, out=str(tmp_path / str(n))), pairs=drawn))
        for n, method in enumerate([{}, {"cache_bytes": 0}, {"micro_batch": 8}])
    ]
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name])
        torch.testing.assert_close(tensor, found[2][name], atol=1e-4, rtol=0)


def test_a_run_that_was_stopped_ends_with_the_same_weights(offline, trainer, drawn, tmp_path):
    whole = weights_of(trainer(offline(out=str(tmp_path / "whole")), pairs=drawn))
    halves = offline(out=str(tmp_path / "halves"))
    trainer(halves.model_copy(update={"rounds": 2}), pairs=drawn).run()
    again = weights_of(trainer(halves, pairs=drawn, generator=ToyGenerator()))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_all_pairs_are_met_before_one_comes_again(offline, trainer, drawn):
    run = trainer(offline(), pairs=drawn)
    met = [row.prompt for number in range(3) for rows in run._rounds._share(number) for row in rows]
    assert sorted(met) == list(range(24))


@pytest.mark.timeout(240)
def test_two_processes_do_what_one_does(offline, trainer, drawn, tmp_path):
    write_pairs(tmp_path / "pairs", drawn)
    config = offline(prompts={"data": str(tmp_path / "pairs")}, rounds=3, out=str(tmp_path / "one"))
    one = weights_of(trainer(config, pairs=read_pairs(tmp_path / "pairs")))
    path = tmp_path / "two.json"
    path.write_text(config.model_copy(update={"out": str(tmp_path / "two")}).model_dump_json())
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    done = forked.ranks(2, TESTS / "support" / "train_toy.py", path, env=environment)
    assert not any(one.returncode for one in done), done
    assert sum(one.stdout.count("one of 2 processes") for one in done) == 2
    first, second = (lines(tmp_path / name / "rounds.jsonl")[2] for name in ("one", "two"))
    for key in first:
        if not key.startswith("seconds"):
            assert first[key] == pytest.approx(second[key], rel=1e-3, abs=1e-5), key
    two = read_weights(tmp_path / "two" / "weights.safetensors")
    for name in one:  # the same gradients, summed in another order
        torch.testing.assert_close(one[name], two[name], atol=2e-4, rtol=0)


class Shown(Display):
    """A display that remembers its phases."""

    def __init__(self):
        super().__init__()
        self.phases = []

    def phase(self, name, unit="", total=None):
        self.phases.append(name)


def test_the_command_reads_the_folder(offline, drawn, tmp_path):
    write_pairs(tmp_path / "pairs", drawn)
    config = offline(
        prompts={"data": str(tmp_path / "pairs"), "count": 16},
        rewards={"clipscore": {"weights": "mini-clip"}},
        evaluation={"prompts": {"data": "shapes-world", "count": 4}, "steps": 2},
        rounds=1,
        engine={"device": "cpu"},
    )
    said = []
    shown = Shown()
    tune(config, lambda name, device: ToyGenerator(), said.append, shown)
    before, after = (f"evaluating after {done} of 1 rounds" for done in (0, 1))
    assert shown.phases == [before, "round 1 of 1", after]
    assert any(line.startswith("round 1 of 1: loss 0.6931  accuracy 0.5000") for line in said), said
    assert Path(config.out, "weights", "pytorch_lora_weights.safetensors").exists()
    words = plan(config, lambda name, dtype: {})
    assert "8 of 16 pairs at 1 noise level(s)" in words and "2 micro-batches of 4 pairs" in words
    assert "0 per round, 4 per evaluation" in words


def test_settings_that_do_not_fit_are_refused(offline, trainer, drawn):
    for method, message in [
        ({"batch": 32}, "a batch has 32 pairs and the data 24: lower method.batch"),
        ({"micro_batch": 3}, "must be a multiple of method.micro_batch"),
    ]:
        with pytest.raises(ValueError, match=message):
            trainer(offline(method=method), pairs=drawn)
    useless = TuneConfig.model_validate({**offline().model_dump(), "rollout": {"group": 4}})
    with pytest.raises(ValueError, match="flow_dpo draws no samples, so rollout would say nothing"):
        trainer(useless, pairs=drawn)
    with pytest.raises(ValueError, match="is no folder of pairs"):
        tune(offline(), lambda **options: ToyGenerator(), print)


def test_latents_are_made_once_and_up_to_a_limit(drawn):
    generator, calls = ToyGenerator(), []

    def to_latents(pixels):
        calls.append(len(pixels))
        return ToyGenerator.to_latents(generator, pixels)

    generator.to_latents = to_latents
    pictures = [pair.chosen for pair in drawn[:3]]
    known = KnownLatents(generator, limit=2 * 12 * 4)
    first, again = known.of(pictures), known.of(pictures)
    assert torch.equal(first, again) and calls == [1, 1, 1, 1]


def test_a_picture_that_cannot_be_encoded_is_named(tmp_path):
    class Small(ToyGenerator):
        def to_latents(self, pixels):
            raise ValueError("pixels are too large")

    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png.* has no latents"):
        KnownLatents(ToyGenerator(), 0).of([Media(tmp_path / "broken.png")])
    with pytest.raises(ValueError, match="has no latents: pixels are too large"):
        KnownLatents(Small(), 0).of([Media(torch.zeros(3, 8, 8, dtype=torch.uint8))])
