"""The commands that run the miniature's recipes: what they print, and one small real run."""

import json

import numpy as np
import pytest
from PIL import Image

from mmreward.evals.audits import hacking
from mmreward.evals.studies import tuning
from mmreward.evals.studies.tuning import TuningJob, TuningRow, judge, recipe_of, run, table, train
from mmreward.generators.loading import load
from mmreward.tune.trainer import tune


def row(before, after, ended="all rounds done"):
    rewards = {"checklist": (0.56, 0.71)}
    return TuningRow(TuningJob("nft", 1), 40, 4.25, rewards, np.array(before), np.array(after), ended)


def test_a_gain_is_that_of_each_caption():
    """One caption of four is lost and two are won: +25 points, with the error of the differences."""
    gain = row([True, False, False, False], [False, True, True, False]).gain
    differences = np.array([-100, 100, 100, 0])
    assert gain.mean == 25
    assert gain.interval.high - 25 == pytest.approx(3.182446 * differences.std(ddof=1) / 2)


def test_the_table_has_a_line_per_run():
    said = table([row([False, False], [True, False]), row([True] * 2, [True] * 2, "no rise")]).split("\n")
    assert said[2] == (
        "| nft | 1 | 40 | 4.2 | checklist 0.56 to 0.71 | 0.0 to 50.0 % | +50.0 (-585.3 to +685.3) |"
    )
    assert said[3].startswith("| nft | 1 | 40; no rise | 4.2 |") and said[3].endswith("+0.0 (+0.0 to +0.0) |")


@pytest.fixture
def small(monkeypatch):
    """Recipes of one round."""

    def smaller(job, folder):
        given = recipe_of(job, folder).model_dump() | {"rounds": 1, "checkpoint_every": 1}
        given["rollout"] |= {"prompts": 2, "group": 4, "micro_batch": 4}
        given["evaluation"]["prompts"]["count"] = 4
        return tuning.TuneConfig.model_validate(given)

    monkeypatch.setattr(tuning, "recipe_of", smaller)
    return smaller


def test_a_recipe_is_run_once_and_judged(small, tmp_path):
    done = run(TuningJob("nft", 3), tmp_path, 6)
    assert (done.rounds, done.ended) == (1, "all rounds done")
    assert len(done.before) == len(done.after) == 6
    assert set(done.rewards) == {"checklist", "artifact", "clipscore"}
    assert json.loads((tmp_path / "nft-3" / "config.json").read_text())["seed"] == 3
    log = (tmp_path / "nft-3" / "log.txt").read_text()
    train(small(TuningJob("nft", 3), tmp_path))  # is there already
    assert (tmp_path / "nft-3" / "log.txt").read_text() == log
    again = judge(TuningJob("nft", 3), tmp_path, 6)
    assert (again.after == done.after).all()


def test_a_run_that_fails_says_where_to_look(small, tmp_path, capsys):
    wrong = tmp_path / "nft-3"
    wrong.mkdir()
    (wrong / "config.json").write_text("{}")  # of another run, so to speak
    assert isinstance(run(TuningJob("nft", 3), tmp_path, 6), RuntimeError)
    assert str(wrong / "log.txt") in capsys.readouterr().err
    assert "holds a run with other settings" in (wrong / "log.txt").read_text()


@pytest.mark.parametrize("case", hacking.CASES)
def test_the_configs_of_a_gamed_reward_differ_in_what_prevents_it(case):
    gamed, guarded = (
        tuning.shipped(f"tune/hack-mini-{case}{guard}.yaml").model_dump() for guard in ("", "-guarded")
    )
    differs = {key for key in gamed if gamed[key] != guarded[key]}
    assert differs == {"rewards", "weights", "held_out", "alarm", "out"}


def test_the_gamed_and_the_guarded_run_are_printed_and_shown(monkeypatch, tmp_path, capsys):
    """Both configs, cut down to one round and to rewards that load at once."""

    def smaller(name):
        given = tuning.shipped(name).model_dump() | {"rounds": 1, "checkpoint_every": 1}
        given["held_out"] = {"oracle": {"strict": True}}
        given["rollout"] |= {"prompts": 2, "micro_batch": 2}
        given["evaluation"]["prompts"]["count"] = 4
        return tuning.TuneConfig.model_validate(given)

    monkeypatch.setattr(hacking, "shipped", smaller)
    monkeypatch.setattr(hacking, "train", lambda config: tune(config, load, lambda line: None))
    monkeypatch.setattr("sys.argv", ["hacking", "--only", "saturation", "--out", str(tmp_path)])
    hacking.main()
    said = capsys.readouterr().out
    assert "| rounds | clipscore | saturation | oracle | alarm |" in said
    assert "| rounds | clipscore | saturation | artifact | oracle | alarm |" in said
    assert said.count('"reason": "all rounds done"') == 2
    with Image.open(tmp_path / "saturation.png") as picture:
        assert picture.size == (150 + 4 * 96, 3 * 96 + 2 * 4)
        labels = picture.crop((0, 0, 150, picture.height)).convert("L")
        for row in range(3):  # each row is named
            assert labels.crop((0, row * 100, 150, row * 100 + 96)).getextrema()[0] < 64
