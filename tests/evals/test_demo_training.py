"""The demo's second act: a real, tiny training run, and words that claim no more than was measured."""

import math
from pathlib import Path
from statistics import fmean

import pytest
from rich.console import Console
from support.pages import read
from typer.testing import CliRunner

from mmreward import configs
from mmreward.cli import app
from mmreward.evals.demo import Size, conclusion, config_of, train
from mmreward.evals.report.training_run import Evaluated, TrainingRun
from mmreward.monitor.intervals import Measured
from mmreward.tune.config import load_tune_config
from mmreward.tune.journal import lines

TINY = Size(rounds=1, prompts=2, group=4, evaluated=4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the act has been played."""
    place = tmp_path_factory.mktemp("act")
    with (place / "printed.txt").open("w") as file:
        train(place / "training", TINY, Console(file=file, width=160))
    return place


def test_it_trains_and_tells_before_and_after(place: Path) -> None:
    evaluations = lines(place / "training" / "evaluations.jsonl")
    assert [line["round"] for line in evaluations] == [0, 1]
    assert len(lines(place / "training" / "rounds.jsonl")) == 1
    printed = (place / "printed.txt").read_text()
    for line in evaluations:
        oracle = line["rewards"]["oracle"]
        assert oracle["n"] == 4 and f"{oracle['mean']:.3f}" in printed
    assert "held out" in printed and "n = 4 held-out prompts" in printed and "[ok]" in printed
    page = read(place / "training" / "report.html")
    assert "grpo on mini-flow" in page.words and len(page.having("img")) == 2 * 4


def test_a_finished_act_is_shown_again_and_not_played_again(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (place / "training" / "rounds.jsonl").read_text()
    train(place / "training", TINY, Console(width=160))
    assert (place / "training" / "rounds.jsonl").read_text() == before
    assert "n = 4 held-out prompts" in capsys.readouterr().out


def test_it_is_the_recipe_in_small(tmp_path: Path) -> None:
    """Nothing but the size differs, and another number of rounds is the same run for longer."""
    recipe = load_tune_config(Path(configs.__file__).parent / "tune/mini-grpo.yaml").model_dump()
    config, longer = (config_of(tmp_path, Size(rounds=rounds)).model_dump() for rounds in (8, 12))
    differs = {key for key in recipe if recipe[key] != config[key]}
    assert differs == {"evaluation", "rounds", "checkpoint_every", "out"}
    assert {key for key in config if config[key] != longer[key]} == {"rounds"}
    assert config["evaluation"]["prompts"]["count"] == 256


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ((1.0, 0.0, 0.0, 1.0), "cannot tell this change from chance"),
        ((1.0, 1.0, 1.0, 1.0), "a rise beyond chance"),
        ((0.0, 0.0, 0.0, 0.0), "a fall beyond chance"),
        ((math.nan,) * 4, "could not be measured"),
    ],
)
def test_it_claims_no_more_than_was_measured(after: tuple[float, ...], words: str) -> None:
    before = (0.4, 0.5, 0.4, 0.5)
    evaluations = [
        Evaluated(rounds, {"oracle": Measured(fmean(values), 0.1, 4, values)}, 0.5, 0.5, {}, {}, "ok", ())
        for rounds, values in ((0, before), (8, after))
    ]
    run = TrainingRun(Path(), {}, [], evaluations, [], [], None, "")
    assert words in conclusion(run) and "nan" not in conclusion(run)


@pytest.mark.parametrize(
    ("arguments", "rounds"), [([], 24), (["--rounds", "3"], 3), (["--rounds", "0"], None)]
)
def test_the_command_trains_after_it_has_graded(
    arguments: list[str], rounds: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mmreward.evals import demo

    played: list[tuple[str, int | None]] = []
    monkeypatch.setattr(demo, "_grade", lambda out, seed, console, stats: played.append((str(out), None)))
    monkeypatch.setattr(demo, "train", lambda out, size, console: played.append((str(out), size.rounds)))
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), *arguments])
    assert result.exit_code == 0, result.output
    assert (
        played == [(str(tmp_path), None), (str(tmp_path / "training"), rounds)][: 1 if rounds is None else 2]
    )
