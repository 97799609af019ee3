"""The command that counts a vision tower's calls of attention."""

import pytest

from mmreward.evals.speed import towers
from mmreward.models import varlen

TOY = ("--scale", "toy", "--rounds", "1", "--device", "cpu")


def test_the_command_finds_equal_features_in_fewer_calls(capsys):
    assert towers.main(TOY) == 0
    said = capsys.readouterr().out
    assert "calls: met" in said
    # A layer within windows (five by five of a picture, of three sizes and four) and one without.
    assert "| Qwen2.5-VL | alike | 208 | 4 |" in said and "| Qwen3-VL | alike | 16 | 2 |" in said


def test_other_features_are_said(capsys, monkeypatch):
    """Pictures that look at each other take one call."""
    one = lambda bounds: varlen.Plan(None, None, [(1, int(bounds[-1]))])  # noqa: E731
    monkeypatch.setattr(varlen, "plan", one)
    assert towers.main(TOY) == 1
    assert "MISSED" in capsys.readouterr().out


def test_rounds_begin_at_one():
    with pytest.raises(SystemExit):
        towers.main(("--rounds", "0"))
