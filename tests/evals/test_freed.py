"""The cost of memory that is cleared anew: measured in a process, and compared over fresh ones."""

import json
import sys

import pytest
import torch

from mmreward.evals import freed
from mmreward.evals.freed import ProcessCost
from mmreward.evals.speed.inputs import SCALES, save_dual_encoder


def test_new_pictures_are_scored_in_every_round(tmp_path, monkeypatch):
    monkeypatch.setattr(freed, "PICTURES", 3)
    monkeypatch.setattr(freed, "ROUNDS", 1)
    save_dual_encoder(tmp_path / "clip", SCALES["toy"], 0, torch.float32)
    cost = freed.measure(str(tmp_path / "clip"))
    assert cost.seconds > 0 and cost.processor > 0 and cost.faults >= 0
    assert cost.resident > 50 and cost.closed > 50


@pytest.mark.parametrize(("kept", "code"), [(500, 0), (501, 1)])
def test_the_bar_is_half_of_the_faults(monkeypatch, capsys, kept, code):
    """What each process prints is read; both ways run in turn, under their environments."""
    ways = []

    def run(words, env, **options):
        ways.append("GLIBC_TUNABLES" in env)
        line = json.dumps(ProcessCost(1.0, 1.9, 1000 if ways[-1] else kept, 800.0, 400.0))
        return type("Done", (), {"stdout": f"noise\n{line}\n".encode()})

    monkeypatch.setattr(freed.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["freed"])
    with pytest.raises(SystemExit) as end:
        freed.main()
    assert end.value.code == code and ways == [True, False] * freed.TURNS
    assert "1,000" in capsys.readouterr().out
