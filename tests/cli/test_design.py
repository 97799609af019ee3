"""`mmreward design`: reward code that a scripted model writes, reviews and improves."""

import json

import pytest
from support.chatserver import ChatServer, Reply, completion
from typer.testing import CliRunner

from mmreward import Sample, load
from mmreward.cli import app
from mmreward.tune.design import auroc, code_of

BAD = "```python\nimport os\ndef reward(steps, task):\n    return [0.0] * len(steps)\n```"
LOOPS = "```\ndef reward(steps, task):\n    while True:\n        pass\n```"
BACKWARDS = "Here:\n```python\ndef reward(steps, task):\n    return [-s['state'][0] for s in steps]\n```"
RIGHT = "```python\ndef reward(steps, task):\n    return [1.0 * s['state'][0] for s in steps]\n```"


class Model:
    """A model that answers designs in order, and reviews by what the code says."""

    def __init__(self, *drafts):
        self.drafts, self.asked = list(drafts), []

    def __call__(self, request):
        if request.path != "/v1/chat/completions":
            return Reply({"object": "list", "data": []})
        turns = [turn["content"] for turn in request.body["messages"]]
        said = turns[-1] if isinstance(turns[-1], str) else "".join(part["text"] for part in turns[-1])
        self.asked.append(said)
        if "This function is to reward" in said:
            return Reply(completion("the sign is wrong" if "-s[" in said else "OK."))
        return Reply(completion(self.drafts.pop(0)))


@pytest.fixture
def data(tmp_path):
    """Ten episodes: those of success end further on."""
    rows = []
    for number in range(10):
        done = number % 2 == 0
        steps = [{"state": [place * (1.0 + done) + 0.01 * number], "action": [1]} for place in range(4)]
        row = {"id": f"e{number}", "prompt": "go far", "steps": steps, "meta": {"success": done}}
        rows.append(row)
    file = tmp_path / "episodes.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def run(data, model, out, *options):
    with ChatServer(model) as server:
        given = ["design", data, "--model", f"any@{server.url}", "--out", out, "--device", "cpu", *options]
        return CliRunner().invoke(app, list(map(str, given)))


def test_it_is_told_what_is_wrong_until_it_tells_success_from_failure(data, tmp_path, engine):
    model, out = Model(BAD, LOOPS, BACKWARDS, RIGHT), tmp_path / "reward.py"
    result = run(data, model, out, "--seconds", 0.3)
    assert result.exit_code == 0, result.output + str(result.exception)
    designs = [said for said in model.asked if "This function is to reward" not in said]
    assert "go far" in designs[0] and '"state"' in designs[0]
    assert "imports are refused" in designs[1]
    assert "no answer within 0.3 s" in designs[2]
    assert "A reviewer says: the sign is wrong" in designs[3] and "0% of pairs" in designs[3]
    assert (
        "kept draft 4: AUROC 1.000" in result.output
        and "1.000 on 2 successes and 2 failures" in result.output
    )
    steps = ({"state": [2.0]}, {"state": [3.0]})
    (score,) = engine.score([Sample(prompt="go far", steps=steps)], load("code", file=str(out)))["code"]
    assert score.value == 5.0 and "AUROC 1.000" in out.read_text().splitlines()[1]


def test_the_best_draft_is_kept_and_not_the_last(data, tmp_path):
    out = tmp_path / "reward.py"
    result = run(data, Model(RIGHT, BACKWARDS), out, "--rounds", 2, "--no-critic")
    assert result.exit_code == 0 and "kept draft 1" in result.output and "-s[" not in out.read_text()


def test_without_one_draft_that_runs_nothing_is_written(data, tmp_path):
    out = tmp_path / "reward.py"
    result = run(data, Model(BAD, "I cannot."), out, "--rounds", 2)
    assert result.exit_code != 0 and not out.exists()
    assert "no draft" in result.output + str(result.exception)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--label", "other"], "has None in 'other'"),
        (["--right", 2.0, "--label", "target"], "in 'target'"),
        (["--rounds", 0], "rounds is 0"),
    ],
)
def test_what_cannot_be_designed_is_said(data, tmp_path, options, words):
    result = run(data, Model(), tmp_path / "reward.py", *options)
    assert result.exit_code != 0 and words in result.output + str(result.exception)


def test_too_few_failures_are_refused(data, tmp_path):
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    data.write_text("".join(json.dumps({**row, "meta": {"success": True}}) + "\n" for row in rows))
    result = run(data, Model(), tmp_path / "reward.py")
    assert "0 failures" in result.output + str(result.exception)


def test_code_is_the_last_block_or_all_of_it():
    assert code_of("a\n```python\nx = 1\n```\nb\n```\ny = 2\n```") == "y = 2\n"
    assert code_of("x = 1") == "x = 1\n"


def test_auroc_is_undefined_of_one_class():
    assert auroc([1.0], []) is None and auroc([1.0], [1.0]) == 0.5
