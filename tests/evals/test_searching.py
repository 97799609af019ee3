import numpy as np
import pytest

from mmreward.evals.studies import refining, searching
from mmreward.evals.studies.searching import PLAIN, SearchRow, measure, set_up, table, with_expectations


def test_table_compares_with_the_first_row():
    rows = [
        SearchRow(PLAIN, 24.0, 1.0, 20, 40, 1.0, 0.71, 0.0),
        SearchRow("FK steering", 96.0, 4.0, 26, 40, 4.0),
    ]
    lines = table(rows).split("\n")
    assert lines[2] == "| one sample | 24 | 1.0 | 50.0 % (35 to 65) | +0.0 | +0.0 | 0.710 | 0.000 |"
    assert lines[3] == "| FK steering | 96 | 4.0 | 65.0 % (50 to 78) | +15.0 | +15.6 |  |  |"


def test_expectations_come_from_the_longest_run_of_independent_samples():
    plain = SearchRow(PLAIN, 24.0, 1.0, 0, 2, 1.0)
    rows = [plain, plain._replace(name="FK steering"), plain._replace(name="best of 3")]
    one, steered, three = with_expectations(rows, [[[0.2], [0.5]], (), [[0.2, 0.8, 0.5], [0.5, np.nan, 0.1]]])
    assert one.expected == pytest.approx(0.5) and one.kl == 0.0  # the mean, of the caption without a failure
    assert three.expected == pytest.approx(0.8) and three.kl == pytest.approx(np.log(3) - 2 / 3)
    assert steered.expected is None and steered.kl is None


def test_methods_are_measured_and_their_budgets_kept(engine):
    task = set_up(engine, 2)
    plain, four, tree = measure(task, [PLAIN, "best of 4", "DTS*"])
    assert (plain.forwards, plain.calls) == (24, 1)
    assert (four.forwards, four.calls) == (96, 4)
    assert 96 < tree.forwards <= task.budget
    assert plain.expected < four.expected <= 1 and four.kl == pytest.approx(np.log(4) - 3 / 4)
    assert tree.expected is None
    assert 0 <= plain.right <= plain.number == 2


def test_wrong_arguments_are_named(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["searching", "--prompts", "0"])
    with pytest.raises(SystemExit):
        searching.main()
    assert "--prompts must be at least 1, not 0" in capsys.readouterr().err


# --- critics and writers ----------------------------------------------------------------------------------


def test_critics_and_writers_are_compared_on_the_same_noise(engine, monkeypatch):
    monkeypatch.setattr(refining, "BUDGET", 2)
    task = set_up(engine, 2)
    found = refining.run(task, [1], [refining.NOISE, "critique, VLM writer"])
    noise, words = found.values()
    assert noise.first == words.first and len(noise.right) == 2, "the first picture is nobody's doing"
    assert noise.revised == 0 and words.revised <= words.asked <= 2
    assert 1 <= noise.rounds <= 2 and noise.forwards == 24 * noise.rounds
    lines = refining.table(found, task.prompts, [1]).splitlines()
    assert lines[0].startswith("| of 2 pictures | right (95 %) | over new noise alone |")
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| the first picture", "| new noise alone", "| critique, VLM writer",
    ]  # fmt: skip


def test_points_are_over_new_noise_with_intervals_over_captions():
    """Two seeds of a caption are one unit: +50 points with 0 and 100 by caption."""
    ways = [
        refining.Way(right, [0.0] * 4, 2.0, 48.0, 4, 3)
        for right in ([0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0])
    ]
    lines = refining.table(dict(zip(("a", "b"), ways, strict=True)), ["x", "y"], [0, 1]).splitlines()
    assert lines[2].startswith("| the first picture | 0.000 (") and "| 24 |" in lines[2]
    assert "| +50.0 (-585.3 to +685.3) | 2.0 | 48 | 3 of 4 |" in lines[4]
