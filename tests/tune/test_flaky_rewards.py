"""Rewards that fail now and then: masked, counted, and an end to the run when there are too many."""

import pytest
import torch
from support import toys

from mmreward import Score, Unscorable
from mmreward.tune.grading import TooManyFailuresError
from mmreward.tune.journal import lines
from mmreward.tune.learner import read_weights


def flaky(redness, share, how):
    """Redness that fails for this share of the samples, by their place in the round."""

    async def score(sample):
        if sample.id.isdigit() and sample.group is not None and int(sample.id) % round(1 / share) == 0:
            if how == "raises":
                raise RuntimeError("the server is away")
            if how == "unscorable":
                raise Unscorable("no answer", "unparsable")
            return Score(float("nan"), status="error", note="not a number")
        return await redness(sample)

    return toys.toy(score, f"flaky-{how}", needs=("image",))


@pytest.mark.parametrize("how", ["raises", "unscorable", "nan"])
def test_failed_scores_are_masked_and_counted(described, trainer, redness, how):
    config = described(
        rewards={"r": {}},
        failures={"budget": 0.2},
        rounds=24,
        evaluation={"prompts": {"data": "shapes-world"}, "every": 24},
    )
    run = trainer(config, rewards={"r": flaky(redness, 1 / 10, how)}, held_out={"true": redness})
    run.run()
    rounds = lines(run._folder / "rounds.jsonl")
    status = "unparsable" if how == "unscorable" else "error"
    assert all(line[f"scores/{status}"] == 2 and line["scores/ok"] == 14 for line in rounds)
    assert all(line["advantages/missing"] == 2 for line in rounds)
    means = [e["rewards"]["true"]["mean"] for e in lines(run._folder / "evaluations.jsonl")]
    assert means[-1] > means[0] + 0.03


def test_a_failed_sample_has_no_influence_at_all(described, trainer, redness, tmp_path):
    """What a failed sample would have scored does not matter."""
    ended = []
    for number, value in enumerate((0.0, 1.0)):

        async def score(sample, value=value):
            if sample.id == "3" and sample.group is not None:
                raise Unscorable(f"would have been {value}", "error")
            return await redness(sample)

        config = described(
            rewards={"r": {}}, rounds=2, out=str(tmp_path / str(number)), failures={"budget": 0.5}
        )
        trainer(config, rewards={"r": toys.toy(score, f"lost-{number}", needs=("image",))}).run()
        ended.append(read_weights(tmp_path / str(number) / "weights.safetensors"))
    assert all(torch.equal(ended[0][name], ended[1][name]) for name in ended[0])


def test_too_many_failures_end_the_run_and_say_why(described, trainer, redness):
    config = described(rewards={"r": {}}, failures={"budget": 0.05})
    run = trainer(config, rewards={"r": flaky(redness, 1 / 4, "raises")})
    with pytest.raises(TooManyFailuresError, match="the server is away"):
        run.run()
