"""A real server process: `transformers serve` with the miniature's weights."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.metadata import version

import numpy as np
import pytest

from mmreward import Media, Unscorable, models
from mmreward.mini.world import render, sample_scene
from mmreward.models.weights import locate

LACKING = [name for name in ("openai", "fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(LACKING), reason=f"`transformers serve` needs {', '.join(LACKING)}"),
]

SERVE = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
QUESTIONS = ("Is there a red circle? Answer yes or no.", "How many shapes are there? Answer with one number.")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url, process, log, seconds=90):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server did not come up: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The API of a server process, which is gone afterwards whatever happens."""
    log = tmp_path_factory.mktemp("serve") / "log"
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    command = [sys.executable, "-c", SERVE, "serve", locate("mini-vlm"), *options]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait(30)


@pytest.fixture
def served(url, engine):
    yield models.vlm(f"{locate('mini-vlm')}@{url}?deadline=60&concurrency=4")
    engine.close()


@pytest.fixture(scope="module")
def media():
    rng = np.random.default_rng(5)
    return [Media(render(sample_scene(rng), 64)) for _ in range(4)]


def test_greedy_words_equal_those_of_the_model_in_this_process(served, gather, media):
    calls = [(one, question) for one in media for question in QUESTIONS]
    got = gather(*(served.write(*call, max_tokens=16) for call in calls))
    want = gather(*(models.vlm("mini-vlm").write(*call, max_tokens=16) for call in calls))
    assert [words.text for words in got] == [words.text for words in want]
    assert all(words.finished for words in got)


@pytest.mark.skipif(
    tuple(map(int, version("transformers").split(".")[:2])) < (5, 23), reason="this server says that it ended"
)
def test_a_text_that_does_not_end_is_cut_off_and_says_so(served, gather, media):
    (words,) = gather(served.write(media[0], "Describe the picture.", max_tokens=1))
    assert not words.finished and words.tokens == 1


def test_labels_cannot_be_read_there_and_that_is_said(served, gather, media):
    (failed,) = gather(served.read(media[0], QUESTIONS[0], ("yes", "no")))
    assert isinstance(failed, Unscorable) and failed.status == "error"
    assert "no log-probabilities" in str(failed) and "logprob_token_ids" in str(failed)


def test_a_schema_that_the_server_ignores_is_checked_here(served, gather, media):
    schema = {"type": "object", "properties": {"match": {"type": "boolean"}}, "required": ["match"]}
    (failed,) = gather(served.write(media[0], QUESTIONS[0], max_tokens=16, schema=schema))
    assert isinstance(failed, Unscorable) and failed.status == "unparsable"


def test_a_model_it_does_not_serve_is_refused_with_its_words(url, engine, gather):
    (failed,) = gather(models.vlm(f"another@{url}?deadline=60").write(None, "?"))
    engine.close()
    assert failed.status == "error" and "pinned" in str(failed)
