"""`mmreward compare`: paired differences of two runs, with ties, failures and different measures."""

import json
import math

import pytest
from typer.testing import CliRunner

from mmreward.cli import app
from mmreward.data.results import Result, write
from mmreward.evals.report.compare import compare_runs
from mmreward.types import Score


def results(path, values, fingerprint="f", higher=True):
    about = {"rewards": {"taste": {"reward": "taste", "higher_is_better": higher, "range": [0, 1]}}}
    scores = {
        name: Score(value) if math.isfinite(value) else Score.failed("timeout", "late")
        for name, value in values.items()
    }
    write(
        path, [Result.of(name, "taste", score, fingerprint, "", "") for name, score in scores.items()], about
    )
    return path


@pytest.fixture
def runs(tmp_path):
    one = results(tmp_path / "a.parquet", {"p": 0.1, "q": 0.2, "r": 0.5, "s": math.nan, "only a": 1.0})
    other = results(tmp_path / "b.parquet", {"q": 0.6, "p": 0.3, "r": 0.5, "s": 0.9})
    return one, other


def test_differences_are_paired_by_id(runs):
    """Differences 0.2, 0.4, 0: mean 0.2, standard error 0.2 / sqrt(3), t of two degrees of freedom 4.3027."""
    (found,) = compare_runs(runs)
    assert (found.n, found.missing, found.better, found.worse, found.tied) == (3, 2, 2, 0, 1)
    assert found.change == pytest.approx(0.2) and found.win_rate == pytest.approx(2.5 / 3)
    margin = 4.3026527 * 0.2 / math.sqrt(3)
    assert found.interval == pytest.approx((0.2 - margin, 0.2 + margin))
    assert [name for name, _ in found.gained] == ["q", "p"] and found.lost == ()


def test_the_other_way_round_everything_changes_sign(runs):
    (there,), (back,) = compare_runs(runs), compare_runs(runs[::-1])
    assert back.change == pytest.approx(-there.change) and back.worse == there.better
    assert back.win_rate == pytest.approx(1 - there.win_rate)
    assert {name for name, _ in back.lost} == {"p", "q"}


def test_where_lower_is_better_a_fall_wins(tmp_path):
    one = results(tmp_path / "a.parquet", {"p": 0.9, "q": 0.5}, higher=False)
    other = results(tmp_path / "b.parquet", {"p": 0.1, "q": 0.6}, higher=False)
    (found,) = compare_runs([one, other])
    assert (found.better, found.worse) == (1, 1) and found.gained == (("p", pytest.approx(-0.8)),)


def test_scores_computed_differently_are_marked(runs, tmp_path):
    third = results(tmp_path / "c.parquet", {"p": 0.3}, fingerprint="other")
    (found,) = compare_runs([runs[0], third])
    assert "computed differently" in found.cautions[0]


def test_prompts_with_several_pictures_are_one_unit_each(tmp_path):
    data = tmp_path / "rows.jsonl"
    rows = [{"id": f"{p}{i}", "prompt": f"prompt {p}", "response": "x"} for p in "ab" for i in range(4)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = []
    for name, gain in (("a", 0.0), ("b", 0.1)):
        files.append(tmp_path / f"{name}.parquet")
        values = {row["id"]: 0.5 + gain * (row["prompt"][-1] == "a") for row in rows}
        about = {"data": "rows.jsonl"}
        write(files[-1], [Result.of(n, "taste", Score(v), "f", "", "") for n, v in values.items()], about)
    (found,) = compare_runs(files)
    # Two units that moved by 0.1 and 0: 0.05 and t of one degree of freedom times the error between them.
    assert found.interval.high == pytest.approx(0.05 + 12.7062 * 0.05, rel=1e-4)
    assert not found.cautions


def rows_of(path, prompts):
    path.write_text("".join(json.dumps({"id": str(i), "prompt": p}) + "\n" for i, p in enumerate(prompts)))
    return path.name


@pytest.mark.parametrize("same", [2, 0])
def test_samples_of_one_id_with_other_prompts_are_no_pair(tmp_path, same):
    """Rows are often numbered from 0: two data sets then share every id, and nothing else."""
    prompts = ["a dog", "a cat", "a fox"]
    files = []
    for name, given in (("a", prompts), ("b", [*prompts[:same], "a hat", "a car", "a cup"][:3])):
        files.append(tmp_path / f"{name}.parquet")
        about = {"data": rows_of(tmp_path / f"{name}.jsonl", given)}
        write(files[-1], [Result.of(str(i), "taste", Score(i / 4), "f", "", "") for i in range(3)], about)
    if not same:
        with pytest.raises(ValueError, match="under none of them the same prompt"):
            compare_runs(files)
    else:
        (found,) = compare_runs(files)
        assert (found.n, found.tied, found.missing) == (2, 2, 1)
        assert "prompt differs between the runs: 1 of 3 samples" in found.cautions[0]


def test_an_interval_over_samples_whose_prompts_are_unknown_says_so(runs):
    (found,) = compare_runs(runs)
    assert any("takes every sample for independent" in caution for caution in found.cautions)


def test_the_last_digits_of_a_batch_are_a_tie(tmp_path):
    one = results(tmp_path / "a.parquet", {"p": 0.30000001, "q": 0.5})
    other = results(tmp_path / "b.parquet", {"p": 0.30000004, "q": 0.5001})
    (found,) = compare_runs([one, other])
    assert (found.better, found.worse, found.tied) == (1, 0, 1)


def test_what_is_left_of_rounding_is_no_change(tmp_path):
    values = [0.1, 0.2, 0.3, 0.7]
    one = results(tmp_path / "a.parquet", dict(zip("pqrs", values, strict=True)))
    other = results(tmp_path / "b.parquet", dict(zip("pqrs", [*values[1:], values[0]], strict=True)))
    (found,) = compare_runs([one, other])
    assert found.change == 0.0 and found.better == 3 and found.worse == 1


def test_the_command_prints_a_table_or_json(runs):
    typed = CliRunner().invoke(app, ["compare", *map(str, runs)])
    assert typed.exit_code == 0 and "+0.2" in typed.stdout and "83.3%" in typed.stdout
    assert "in both runs: 2 samples" in typed.stdout and "gained most: q (+0.4)" in typed.stdout
    (record,) = json.loads(CliRunner().invoke(app, ["compare", *map(str, runs), "--json"]).stdout)
    assert record["reward"] == "taste" and record["n"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.parquet"], "two runs or more"),
        (["a.parquet", "nowhere.parquet"], "no results at"),
        (["a.parquet", "b.parquet", "--reward", "tast"], "did you mean 'taste'"),
        (["a.parquet", "other.parquet"], "no sample id in common"),
    ],
)
def test_what_cannot_be_compared_is_one_line(runs, tmp_path, arguments, words):
    results(tmp_path / "other.parquet", {"z": 0.5})
    paths = [str(tmp_path / one) if one.endswith("parquet") else one for one in arguments]
    done = CliRunner().invoke(app, ["compare", *paths])
    assert isinstance(done.exception, ValueError) and words in str(done.exception)
