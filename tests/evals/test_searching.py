import pytest
from mmreward.evals.studies import searching
from mmreward.evals.studies.searching import PLAIN, SearchRow, measure, set_up, table


def test_table_compares_with_the_first_row():
    lines = table(
        [SearchRow(PLAIN, 24.0, 1.0, 20, 40, 1.0), SearchRow("best of 4", 96.0, 4.0, 26, 40, 4.0)]
    ).split("\n")
    assert lines[2] == "| one sample | 24 | 1.0 | 50.0 % (35 to 65) | +0.0 | +0.0 |"
    assert lines[3] == "| best of 4 | 96 | 4.0 | 65.0 % (50 to 78) | +15.0 | +15.6 |"


def test_methods_are_measured_and_their_budgets_kept(engine):
    task = set_up(engine, 2)
    plain, four, tree = measure(task, [PLAIN, "best of 4", "DTS*"])
    assert (plain.forwards, plain.calls) == (24, 1)
    assert (four.forwards, four.calls) == (96, 4)
    assert 96 < tree.forwards <= task.budget
    assert 0 <= plain.right <= plain.number == 2


def test_wrong_arguments_are_named(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["searching", "--prompts", "0"])
    with pytest.raises(SystemExit):
        searching.main()
    assert "--prompts must be at least 1, not 0" in capsys.readouterr().err
