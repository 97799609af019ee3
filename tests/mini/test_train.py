import subprocess
import sys
from types import SimpleNamespace

import pytest

from mmreward.mini import train


def test_dispatches_to_the_model_asked_for(monkeypatch, tmp_path):
    calls = []
    module = SimpleNamespace(train=lambda *given: calls.append(given))
    monkeypatch.setattr(train.importlib, "import_module", lambda name: calls.append(name) or module)
    train.main(["clip", "--out", str(tmp_path), "--scale", "0.5", "--seed", "3"])
    assert calls == ["mmreward.mini.clip", (tmp_path, 0.5, 3)]


@pytest.mark.parametrize("arguments", [["nothing"], ["flow", "--scale", "0"], ["flow", "--scale", "-1"]])
def test_wrong_arguments_end_with_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        train.main(arguments)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_importing_the_dispatcher_does_not_import_torch():
    code = "import sys, mmreward.mini.train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
