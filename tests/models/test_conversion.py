"""Tensors of pickled modules, read without the code that the file names."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mmreward import Engine, Media, Sample, load
from mmreward.errors import Unavailable
from mmreward.evals.published import checkpoints
from mmreward.evals.published.cases import PICTURES
from mmreward.models.conversion import main, tensors_in


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def module():
    torch.manual_seed(1)
    made = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU(), torch.nn.BatchNorm1d(4))
    made.register_buffer("passing", torch.ones(2), persistent=False)
    made.config = {
        "act": torch.nn.functional.gelu,
        "dtype": torch.float16,
        "folder": Path("a"),
        "set": {1, 2},
    }
    return made


@pytest.mark.parametrize("zipped", [True, False])
def test_the_state_is_the_modules_own_and_nothing_is_called(tmp_path, monkeypatch, zipped):
    monkeypatch.chdir(tmp_path)
    made = module()
    made.hook = Hostile()
    torch.save(made, "whole.pth", _use_new_zipfile_serialization=zipped)
    state, wanted = tensors_in(Path("whole.pth")), made.state_dict()
    assert state.keys() == wanted.keys() and "passing" not in state
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    assert not Path("ran").exists()


def test_classes_that_are_not_there_are_no_obstacle(tmp_path):
    code = """
import sys, types, torch
package = types.ModuleType("trainer")
exec("import torch\\nclass Scorer(torch.nn.Linear): pass", package.__dict__)
package.Scorer.__module__ = "trainer"
sys.modules["trainer"] = package
torch.save(package.Scorer(2, 3), sys.argv[1])
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "gone.pth")], check=True)
    assert set(tensors_in(tmp_path / "gone.pth")) == {"weight", "bias"}


def test_a_dict_gives_its_tensors(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2)}, "config": Hostile()}, tmp_path / "dict.pt")
    assert set(tensors_in(tmp_path / "dict.pt")) == {"a"}
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", [b"", b"nothing", [1, 2], {"a": 1}])
def test_a_file_without_tensors_is_said_in_one_line(tmp_path, content):
    file = tmp_path / "no.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=r"no\.pth (cannot be read|holds neither)"):
        tensors_in(file)


def test_modules_in_a_circle_end(tmp_path):
    one = torch.nn.Module()
    one.__dict__["_modules"]["again"] = one
    torch.save(one, tmp_path / "circle.pth")
    with pytest.raises(ValueError, match="in one another"):
        tensors_in(tmp_path / "circle.pth")


def test_a_pickled_mps_is_refused_with_the_command_and_scores_once_it_is_converted(tmp_path, capfd):
    args = checkpoints.save_mps(tmp_path / "mps")
    sample = Sample(prompt="a red circle", image=Media(PICTURES[3]))
    with Engine("cpu") as engine:
        right = load("mps", **args)
        value = engine.score([sample], right)["mps"][0].value
        whole = str(tmp_path / "MPS_overall_checkpoint.pth")
        torch.save(right.networks[0].module, whole)
        with pytest.raises(Unavailable) as caught:
            engine.score([sample], load("mps", **args | {"weights": whole}))
        note = str(caught.value)
        assert "refused" in note and f"python -m mmreward.models.conversion {whole} " in note
        out = str(tmp_path / "own.safetensors")
        assert main(whole, out) == 0
        assert f"tensors in {out}" in capfd.readouterr().out
        again = engine.score([sample], load("mps", **args | {"weights": out}))["mps"][0].value
    assert np.isclose(again, value, atol=1e-6) and len(load_file(out)) > 50


def test_bad_words_are_refused(tmp_path, capsys):
    assert main(str(tmp_path / "none.pth"), str(tmp_path / "out.safetensors")) == 1
    assert "give a file that is there" in capsys.readouterr().err
