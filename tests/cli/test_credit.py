"""`mmreward credit`: credit of steps, by each way, from rows and from stored scores."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mmreward import Media, Sample, Score
from mmreward.cli import app
from mmreward.data.credit import Crediting, credits_of


def episode(name, steps, target=None, group=None, **fields):
    return {"id": name, "prompt": "open it", "group": group, "target": target, "steps": steps, **fields}


def acts(*actions, **more):
    return [
        {"action": action, **{key: values[n] for key, values in more.items()}}
        for n, action in enumerate(actions)
    ]


@pytest.fixture
def written(tmp_path):
    def write(*rows):
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    return write


def run(*arguments):
    result = CliRunner().invoke(app, ["credit", *map(str, arguments)])
    return result, result.output + str(result.exception or "")


def read(file):
    return {row["id"]: row for row in map(json.loads, file.read_text().splitlines())}


def test_salt_praises_no_step_that_success_and_failure_share(written, tmp_path):
    data = written(
        episode("good", acts("open", "take"), 1.0),
        episode("bad", acts("open", "drop"), 0.0),
        episode("lost", acts("open"), None),
    )
    result, said = run(data, "--by", "salt", "--out", tmp_path / "credit.jsonl")
    assert result.exit_code == 0, said
    found = read(tmp_path / "credit.jsonl")
    assert found["good"]["credit"] == [0.0, 1.0] and found["bad"]["credit"] == [0.0, -1.0]
    assert found["lost"]["credit"] is None and "None in 'target'" in found["lost"]["note"]
    assert "2 trajectories with 4 steps" in said and "without credit: 1" in said


def test_groups_are_compared_and_no_others(written, tmp_path):
    rows = [episode(f"{g}{n}", acts("open", n), float(n), group=g) for g in "ab" for n in range(2)]
    result, said = run(written(*rows), "--by", "salt", "--out", tmp_path / "credit.parquet")
    assert result.exit_code == 0, said
    table = pq.read_table(tmp_path / "credit.parquet").to_pylist()
    assert [row["group"] for row in table] == ["a", "a", "b", "b"]
    assert [row["credit"] for row in table] == [[0.0, -1.0], [0.0, 1.0]] * 2


def test_observations_make_steps_different(tmp_path):
    pictures = [np.full((8, 8, 3), shade, np.uint8) for shade in (0, 90)]

    def sample(shade, end):
        steps = ({"observation": Media(pictures[shade]), "action": "go"}, {"action": end})
        return Sample(id=f"{shade}{end}", prompt="x", steps=steps, target=float(end))

    how = Crediting(by="salt", advantage="mean")
    apart = credits_of([sample(0, 0), sample(1, 1)], how)
    assert apart == [[-0.5, -0.5], [0.5, 0.5]]
    alike = credits_of([sample(0, 0), sample(0, 1)], how)
    assert alike == [[0.0, -0.5], [0.0, 0.5]]
    by_action = credits_of(
        [sample(0, 0), sample(1, 1)], Crediting(by="salt", advantage="mean", same=("action",))
    )
    assert by_action == alike
    (none,) = credits_of([Sample(prompt="x", steps=({"time": 0.0},), target=1.0)], how)
    assert none == "step 0 has none of observation, action, by which steps are the same"


def test_marks_by_clip_delta_and_pure(written, tmp_path):
    data = written(episode("one", acts(*"abcd", reward=[0.9, 0.6, 0.7, 0.8])))
    wanted = {
        ("clip", "--threshold", 0.65): [0, -0.05, 0, 0],
        ("delta",): [0.3, -0.1, -0.1, 0.8],
        ("delta", "--answered"): [0.3, -0.1, 0.7, 0.0],
    }
    for number, ((by, *options), numbers) in enumerate(wanted.items()):
        out = tmp_path / f"{number}.jsonl"
        result, said = run(data, "--by", by, "--out", out, *options)
        assert result.exit_code == 0, said
        assert read(out)["one"]["credit"] == pytest.approx(numbers)
    (soft,) = credits_of(
        [Sample(steps=tuple(acts(*"abcd", reward=[0.9, 0.2, -0.6, 0.4])))], Crediting(by="pure")
    )
    assert sum(soft) == pytest.approx(-0.5996858908)
    (usual,) = credits_of(
        [Sample(steps=tuple(acts(*"abcdef", reward=[0.0, 0.2, 0.4, 0.6, 0.8, 1.0])))], Crediting(by="clip")
    )
    assert usual == pytest.approx([-0.8, -0.6, -0.4, -0.2, 0, 0])


def test_oprl_adds_what_a_trained_model_prefers():
    chosen, before = [[-1.0, -2.0], [-3.0, -1.0]], [[-2.0, -2.0], [-1.0, -1.0]]
    samples = [
        Sample(
            id=str(n),
            steps=tuple(acts("a", "b", logprob_chosen=chosen[n], logprob=before[n])),
            target=float(n),
        )
        for n in range(2)
    ]
    found = credits_of(samples, Crediting(by="oprl", beta=0.5, weight=2.0))
    rewards = 0.5 * (np.array(chosen) - np.array(before))
    scaled = 2.0 * (rewards - rewards.mean()) / rewards.std()
    assert np.array(found) == pytest.approx(np.array([[-1.0], [1.0]]) + scaled)


def test_stored_scores_give_outcomes_and_marks(written, tmp_path):
    (tmp_path / "reward.py").write_text("def reward(steps, task):\n    return [s['state'] for s in steps]\n")
    rows = [
        episode(name, [{"action": place, "state": value} for place, value in enumerate(values)])
        for name, values in (("a", [1.0, 2.0]), ("b", [1.0, 4.0]), ("bad", [1.0, "x"]))
    ]
    data, scores = written(*rows), tmp_path / "scores.parquet"
    given = ["score", data, "--reward", f"code:file={tmp_path / 'reward.py'}", "--out", scores]
    CliRunner().invoke(app, [*map(str, given)])
    result, said = run(data, "--by", "delta", "--scores", scores, "--out", tmp_path / "delta.jsonl")
    assert result.exit_code == 0, said
    found = read(tmp_path / "delta.jsonl")
    assert found["a"]["credit"] == [-1.0, 2.0] and found["b"]["credit"] == [-3.0, 4.0]
    assert found["bad"]["credit"] is None and "its score failed" in found["bad"]["note"]
    run(data, "--by", "salt", "--advantage", "none", "--scores", scores, "--out", tmp_path / "salt.jsonl")
    assert read(tmp_path / "salt.jsonl")["b"]["credit"] == [4.0, 4.0]  # both took both steps
    result, said = run(
        data, "--by", "salt", "--scores", scores, "--reward", "no", "--out", tmp_path / "x.jsonl"
    )
    assert result.exit_code != 0 and "no scores of 'no': there are code" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--by", "best"], "by is 'best': salt"),
        (["--by", "salt", "--advantage", "z"], "advantage is 'z'"),
        (["--by", "salt", "--same", ""], "by one key at least"),
        (["--by", "salt", "--history", -1], "history is -1"),
        (["--by", "pure", "--temperature", 0], "temperature is 0"),
        (["--by", "clip", "--out", "x.csv"], "ends in none of"),
    ],
)
def test_settings_are_checked(written, tmp_path, options, words):
    data = written(episode("one", acts("a", reward=[1.0]), 1.0))
    out = [] if "--out" in options else ["--out", tmp_path / "x.jsonl"]
    result, said = run(data, *options, *out)
    assert result.exit_code != 0 and words in said and not (tmp_path / "x.jsonl").exists()


def test_too_many_without_credit_end_with_the_code_of_the_budget(written, tmp_path):
    data = written(episode("one", acts("a")), episode("two", []), episode("three", acts("a", reward=[1.0])))
    result, said = run(data, "--by", "delta", "--out", tmp_path / "x.jsonl")
    assert result.exit_code == 3 and "two: it has no steps" in said, said
    result, said = run(data, "--by", "delta", "--out", tmp_path / "x.jsonl")
    assert "is there already" in said


def test_scores_are_of_the_samples():
    with pytest.raises(ValueError, match="1 scores for 0 samples"):
        credits_of([], Crediting(by="delta"), [Score(1.0)])
    one = Sample(steps=({"action": 1}, {"action": 2}))
    (credit,) = credits_of([one], Crediting(by="delta"), [Score(1.0, {"frame_0": 0.5})])
    assert credit == "the score has None in 'frame_1', where a number is"
