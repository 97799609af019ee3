"""Every method raises the reward of the toy generator; a stopped run goes on exactly; nothing is lost."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.toy_generator import ToyGenerator
from support.train_toy import PROMPTS

from mmreward import Media, Sample, Score, load, models, reward
from mmreward.tune.aggregate import Embeddings
from mmreward.tune.journal import lines
from mmreward.tune.learner import read_weights
from mmreward.tune.policy_gradient import RatioError

METHODS = {
    "grpo": {"method": {"name": "grpo"}},
    "grpo-kl": {"method": {"name": "grpo", "kl": 0.001, "updates": 2}},
    "grpo-cps-window": {
        "method": {"name": "grpo", "clip": 1e-3},
        "rollout": {"kernel": {"name": "cps"}, "selector": {"name": "window", "width": 2, "high": 4}},
    },
    "dance": {
        "rollout": {
            "kernel": {"name": "dance"},
            "selector": {"name": "random_fraction"},
            "stochastic": "all",
            "same_noise": True,
        }
    },
    "mix-flash": {
        "rollout": {
            "selector": {"name": "sliding_window", "width": 2, "iterations": 3},
            "solver": "dpm2",
            "compress": 0.5,
        }
    },
    "guard": {"method": {"name": "guard", "clip": 1e-3}},
    "dppo": {"method": {"name": "dppo", "threshold": 1e-2, "updates": 2}},
    "d3po": {"method": {"name": "d3po"}, "rollout": {"same_noise": True}},
    "nft": {"method": {"name": "nft", "decay": "copy"}},
    "awm": {"method": {"name": "awm", "updates": 2, "kl": 0.1}},
    "crd": {"method": {"name": "crd"}},
    "dgpo": {"method": {"name": "dgpo", "beta": 1.0}},
    "dgpo-clipped": {"method": {"name": "dgpo", "beta": 1.0, "updates": 2, "hold_clipped": 1e-2}},
    "rwr": {"method": {"name": "rwr"}},
    "sft": {"method": {"name": "sft"}},
    "dpo": {"method": {"name": "dpo", "beta": 10.0}},
    "rpo": {"method": {"name": "rpo", "beta": 10.0}},
    "draft": {"method": {"name": "draft"}},
    "draft-lv": {"method": {"name": "draft_lv"}},
    "align-prop": {"method": {"name": "align_prop", "checkpointing": True}},
    "refl": {"method": {"name": "refl", "range": [2, 5]}},
}


def with_rollout(described, **changes):
    rollout = {"prompts": 2, "group": 8, "micro_batch": 8, "steps": 6, **changes.pop("rollout", {})}
    return described(rollout=rollout, **changes)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_raises_its_reward(described, trainer, name):
    config = with_rollout(
        described, rounds=24, evaluation={"prompts": {"data": "shapes-world"}, "every": 24}, **METHODS[name]
    )
    run = trainer(config)
    run.run()
    means = [e["rewards"]["redness"]["mean"] for e in lines(run._folder / "evaluations.jsonl")]
    assert means[-1] > means[0] + 0.03, means


def test_ctrl_u_raises_its_reward_on_real_pictures(described, trainer):
    grey = Media.of(np.full((8, 8, 3), 128, dtype=np.uint8))
    given = {"rollout": {"prompts": 4, "group": 2, "micro_batch": 8, "steps": 6}}
    evaluation = {"prompts": {"data": "shapes-world"}, "every": 24}
    config = described(rounds=24, evaluation=evaluation, method={"name": "ctrl_u", "highest": 0.8}, **given)
    run = trainer(config, prompts=[replace(sample, image=grey) for sample in PROMPTS])
    run.run()
    means = [e["rewards"]["redness"]["mean"] for e in lines(run._folder / "evaluations.jsonl")]
    assert means[-1] > means[0] + 0.03, means
    journal = lines(run._folder / "rounds.jsonl")
    assert all(0 < line["disagreement"] < 0.1 for line in journal)
    with pytest.raises(ValueError, match=r"ctrl_u noises real pictures, and 4 rows .* first '0'"):
        trainer(config)


def test_a_run_that_was_stopped_ends_with_the_same_weights(described, trainer, tmp_path):
    for method in ({"name": "grpo", "updates": 2}, {"name": "nft"}):
        whole = described(method=method, out=str(tmp_path / f"{method['name']}-whole"))
        trainer(whole).run()
        halves = described(method=method, out=str(tmp_path / f"{method['name']}-halves"))
        trainer(halves.model_copy(update={"rounds": 2})).run()
        ended = trainer(halves, generator=ToyGenerator()).run()
        assert ended.rounds == 4
        one, other = (
            read_weights(tmp_path / f"{method['name']}-{n}" / "weights.safetensors")
            for n in ("whole", "halves")
        )
        assert all(torch.equal(one[name], other[name]) for name in one)
        journal = lines(tmp_path / f"{method['name']}-halves" / "rounds.jsonl")
        assert [line["round"] for line in journal] == [0, 1, 2, 3]


TORN = {
    "weights.safetensors": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "optimiser.pt": lambda path: path.write_bytes(b""),
    "state.json": lambda path: path.write_text("{"),
    "average.safetensors": lambda path: path.unlink(),
}
"""What a machine that lost its power leaves of a file."""


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(described, trainer, tmp_path):
    trainer(described(out=str(tmp_path / "whole"))).run()
    whole = read_weights(tmp_path / "whole" / "weights.safetensors")
    halves = described(out=str(tmp_path / "halves"), checkpoint_every=1)
    trainer(halves.model_copy(update={"rounds": 2})).run()
    kept = tmp_path / "halves" / "checkpoints"
    shutil.copytree(kept, tmp_path / "kept")
    for name, tear in TORN.items():
        shutil.rmtree(kept)
        shutil.copytree(tmp_path / "kept", kept)
        tear(kept / "000002" / name)
        said = []
        assert trainer(halves, generator=ToyGenerator(), report=said.append).run().rounds == 4
        assert "000002 cannot be read and is passed over" in said[0] and said[1] == "going on after round 1"
        again = read_weights(tmp_path / "halves" / "weights.safetensors")
        assert all(torch.equal(whole[key], again[key]) for key in whole), name
        assert sorted(path.name for path in kept.iterdir()) == ["000003", "000004"]
        assert [line["round"] for line in lines(tmp_path / "halves" / "rounds.jsonl")] == [0, 1, 2, 3]


def test_a_run_of_torn_checkpoints_is_not_started_anew_without_a_word(described, trainer):
    config = described(rounds=2)
    run = trainer(config)
    run.run()
    for state in (run._folder / "checkpoints").glob("*/state.json"):
        state.write_text("")
    with pytest.raises(ValueError, match=r"none of the checkpoints in .* remove that folder"):
        trainer(config.model_copy(update={"rounds": 3}), generator=ToyGenerator()).run()


def test_another_config_is_refused_in_the_same_folder(described, trainer):
    trainer(described(rounds=1)).run()
    with pytest.raises(ValueError, match=r"other settings.*optimiser"):
        trainer(described(rounds=1, optimiser={"lr": 1e-3})).run()


def test_dropout_breaks_the_ratio_and_is_explained(described, trainer):
    generator = ToyGenerator()
    run = trainer(described(), generator=generator)

    def noisy(module, given, out):
        return torch.nn.functional.dropout(out, 0.1)

    generator.network.register_forward_hook(noisy)
    with pytest.raises(RatioError, match="dropout"):
        run.run()


def test_the_reference_is_the_network_before_training(described, trainer):
    for lora in ({"rank": 4}, None):
        generator = ToyGenerator()
        conditioning, noise = generator.encode(["a red sky"]), generator.noise([1])
        before = generator.velocity(noise, 0.5, conditioning)
        run = trainer(described(lora=lora, out=f"{described().out}-{lora}"), generator=generator)
        run.run()
        after = generator.velocity(noise, 0.5, conditioning)
        with run.learner.weights.reference():
            again = generator.velocity(noise, 0.5, conditioning)
        torch.testing.assert_close(again, before)
        assert not torch.allclose(after, before)


def test_groups_must_fit_into_micro_batches_of_methods_that_compare_them(described, trainer):
    with pytest.raises(ValueError, match="must be a multiple"):
        trainer(with_rollout(described, method={"name": "dpo"}, rollout={"micro_batch": 4}))
    with pytest.raises(ValueError, match="do not fit"):
        trainer(with_rollout(described, rollout={"micro_batch": 12}))


def test_the_journal_says_what_was_under_way(described, trainer):
    run = trainer(described(rounds=1))
    run.run()
    spans = json.loads((run._folder / "timeline.json").read_text())
    assert {"generate", "score", "wait", "update"} <= {what for what, _, _ in spans}
    assert all(begun <= ended for _, begun, ended in spans)


def turned(sign):
    """The redness of a picture, or its opposite."""

    def factory(*, sign: float):
        """Red or not."""

        async def score(sample: Sample) -> Score:
            red, green, blue = np.asarray(sample.image.array(), dtype=np.float64).mean((0, 1)) / 255
            return Score(sign * float(red - (green + blue) / 2))

        return score

    reward("turned", needs=("image",), range=(-1, 1))(factory)
    return load("turned", sign=sign)


def test_gardo_holds_only_what_is_overrated(described, trainer, redness):
    """Another reward that agrees with the optimised one leaves nothing to hold; one that says the opposite
    does, and then the weights end elsewhere."""
    ends = {}
    for name, sign in (("agrees", 1.0), ("differs", -1.0), ("off", None)):
        config = described(
            rewards={"redness": {}, "other": {}},
            weights={"redness": 1.0, "other": 0.0},
            method={"name": "nft", "kl": 1.0 if sign is not None else 0.0},
            gardo={"others": ["other"], "share": 1.0} if sign is not None else None,
            rounds=2,
        )
        config = config.model_copy(update={"out": f"{config.out}-{name}"})
        run = trainer(config, rewards={"redness": redness, "other": turned(sign or 1.0)})
        run.run()
        ends[name] = run.learner.weights.copy()
    assert all(torch.equal(ends["agrees"][key], ends["off"][key]) for key in ends["off"])
    assert not all(torch.equal(ends["differs"][key], ends["off"][key]) for key in ends["off"])


def test_a_run_ends_when_held_out_rewards_no_longer_rise(described, trainer, redness):
    config = described(
        held_out={"blueness": {}},
        evaluation={"prompts": {"data": "shapes-world"}, "every": 1, "steps": 2},
        early_stop={"patience": 2},
        rounds=9,
        optimiser={"lr": 0.0},
    )
    ended = trainer(config, held_out={"blueness": redness}).run()
    assert (ended.rounds, ended.reason) == (2, "no rise in 2 evaluations")
    again = trainer(config, held_out={"blueness": redness}).run()
    assert again == ended, "what was stopped does not go on by being started again"
    assert len(lines(ended.weights.parent / "rounds.jsonl")) == 2


def doubtful(part="uncertainty"):
    """Redness that says of some pictures that it is unsure."""

    def factory(*, part: str):
        """Red, perhaps."""

        async def score(sample: Sample) -> Score:
            red, green, blue = np.asarray(sample.image.array(), dtype=np.float64).mean((0, 1)) / 255
            return Score(float(red - (green + blue) / 2), {part: 50.0 if int(sample.id) % 2 else 0.0})

        return score

    reward("doubtful", needs=("image",), range=(-1, 1))(factory)
    return load("doubtful", part=part)


def test_rows_of_which_the_reward_is_unsure_count_less(described, trainer):
    """With ctrl_u a doubt of 50 leaves nothing of a row; losses are the same where nothing is in doubt."""
    ends = {}
    for name, given in (
        ("off", None),
        ("sure", {"reward": "doubtful", "least": 1.0, "most": 1.0}),
        ("unsure", {"reward": "doubtful", "weight": "ctrl_u"}),
    ):
        config = described(rewards={"doubtful": {}}, uncertainty=given, rounds=1)
        run = trainer(
            config.model_copy(update={"out": f"{config.out}-{name}"}), rewards={"doubtful": doubtful()}
        )
        run.run()
        (line,) = lines(run._folder / "rounds.jsonl")
        ends[name] = (run.learner.weights.copy(), line["advantages/weight"])
    assert [weight for _, weight in ends.values()] == pytest.approx([1.0, 1.0, 0.5])
    assert all(torch.equal(ends["sure"][0][key], ends["off"][0][key]) for key in ends["off"][0])
    assert not all(torch.equal(ends["unsure"][0][key], ends["off"][0][key]) for key in ends["off"][0])


def test_a_reward_that_does_not_say_how_unsure_it_is_is_named(described, trainer):
    run = trainer(
        described(rewards={"doubtful": {}}, uncertainty={"reward": "doubtful"}, rounds=1),
        rewards={"doubtful": doubtful("spread")},
    )
    with pytest.raises(ValueError, match=r"no part 'uncertainty' says how unsure.*their parts: spread"):
        run.run()


def test_what_looks_unlike_its_group_counts_more(described, trainer, redness):
    """A run that favours them ends elsewhere than one that does not."""
    config = described(gardo={"encoder": "mini-clip"}, rounds=1)
    run = trainer(config)
    run.run()
    plain = trainer(described(rounds=1, out=f"{config.out}-plain"))
    plain.run()
    ends = [one.learner.weights.copy() for one in (run, plain)]
    assert not all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    with pytest.raises(ValueError, match="a reward is made of it"):
        trainer(
            described(rewards={"clipscore": {}}, gardo={"encoder": "mini-clip"}),
            rewards={"clipscore": load("clipscore", weights="mini-clip")},
        )


def test_embeddings_come_in_the_order_of_their_rows(redness):
    embeddings = Embeddings("mini-clip", [redness])
    pictures = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    embeddings.see([3, 1], pictures[[3, 1]])
    embeddings.see([0, 2], pictures[[0, 2]])
    whole = models.clip("mini-clip").embed_pixels(pictures).detach().double().numpy()
    np.testing.assert_allclose(embeddings.collect(), whole, atol=1e-6)
    embeddings.see([0], torch.stack([pictures[:2]]))
    np.testing.assert_allclose(embeddings.collect()[0], whole[:2].mean(0), atol=1e-6)
