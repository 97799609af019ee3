"""The cost of looking: what a step's time is spent on, pictures encoded once, and what is complained of."""

import pytest

from mmreward.evals import watching_overhead
from mmreward.evals.watching_overhead import Cost, complaints, measured, rewards_of, table


@pytest.mark.parametrize("members", [1, 3])
def test_two_rewards_share_an_encoder_and_a_step_is_told_apart(members):
    cost = measured(rewards_of("mini-clip", both=True), "both", members, 3)
    assert cost.encoded == members, "each picture once, for both rewards"
    parts = (cost.environment, cost.forward, cost.engine, cost.wrapper)
    assert all(part > 0 for part in parts) and cost.forward < cost.step


def test_what_is_above_the_bar_is_named(monkeypatch, capsys):
    good = Cost("net", 8, 20.0, 2.0, 16.0, 1.0, 0.5, 8)
    assert complaints([good]) == [] and good.with_engine == pytest.approx(1.5 / 16)
    assert "6.2%" in complaints([good._replace(wrapper=1.0)])[0]
    assert "16 pictures" in complaints([good._replace(encoded=16)])[0]
    assert "3.1%" in table([good])[1]
    monkeypatch.setattr(watching_overhead, "measured", lambda *_: good._replace(wrapper=1.0))
    monkeypatch.setattr(watching_overhead, "save_dual_encoder", lambda *_: None)
    assert watching_overhead.main(["--members", "8"]) == 1
    assert "above 5%" in capsys.readouterr().out
