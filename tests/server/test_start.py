"""The start of `mmreward serve`: what is wrong is said before an address is."""

import socket
import subprocess
import sys

import pytest

from mmreward.server import app


def started(path, *arguments):
    command = [sys.executable, "-m", "mmreward.cli", "serve", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("text", ["rewards: {nosuch: {}}", "rewards: [", None])
def test_no_address_is_printed_for_a_file_that_is_refused(tmp_path, text):
    path = tmp_path / "r.yaml"
    if text is not None:
        path.write_text(text)
    run = started(path)
    assert run.returncode == 2 and "http://" not in run.stderr + run.stdout
    assert run.stderr.startswith("error: ")


def test_an_address_that_is_taken_is_one_line(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("rewards: {iou: {}}\nengine: {device: cpu}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = started(path, "--port", str(port))
    assert run.returncode == 2 and "http://" not in run.stderr
    assert f"cannot listen at 127.0.0.1:{port} (Address already in use): give another --port" in run.stderr


@pytest.mark.parametrize("normalise", ["group", "none"])
def test_a_total_that_compares_says_so_when_it_starts(tmp_path, monkeypatch, normalise):
    monkeypatch.setattr("uvicorn.run", lambda *_, **__: said.append("served"))
    for name in (app.ROUTES, app.TIMEOUT, app.KEY_ENV):
        monkeypatch.setenv(name, "")
    path = tmp_path / "r.yaml"
    path.write_text(f"rewards: {{choice: }}\ncompose: {{weights: {{choice: 1}}, normalise: {normalise}}}")
    said = []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app.serve(path, "127.0.0.1", port, 1, 60.0, say=said.append)
    assert said[0] == f"http://127.0.0.1:{port}/judge and /get_reward" and said[-1] == "served"
    notes = said[1:-1]
    assert len(notes) == (normalise == "group") and all("`group` in each label" in note for note in notes)
