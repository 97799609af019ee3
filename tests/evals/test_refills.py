"""The command that counts what refilling saves."""

import pytest

from mmreward.evals.speed import refills
from mmreward.evals.speed.refills import Written, table

SMALL = ("--scale", "toy", "--texts", "24", "--batch", "8", "--mean", "12", "--most", "48")


def test_the_command_writes_the_same_texts_in_fewer_forwards(capsys):
    assert refills.main(SMALL) == 0
    said = capsys.readouterr().out
    assert "equal: met" in said and "are saved" in said and "MISSED" not in said


def test_what_is_missed_is_said():
    plain, filled = Written(100, 50, 40, 120, 1.0), Written(100, 50, 30, 120, 1.0)
    said = table(plain, filled, equal=False)
    assert said.count("MISSED") == 2 and "| refilled | 100 | 50 | 30 | 120 | 3.3 | 1.0 |" in said


@pytest.mark.parametrize("wrong", ["--texts", "--batch", "--mean", "--most"])
def test_numbers_begin_at_one(wrong):
    with pytest.raises(SystemExit):
        refills.main((wrong, "0"))
