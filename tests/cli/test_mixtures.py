"""Pilot runs and the mixture that follows from them, as commands."""

import csv
import io

import pytest
from support import forked

SOURCES = ("geometry", "charts", "ocr")


def outcome(geometry, charts, ocr):
    return 0.5 + 0.2 * geometry - 0.1 * charts + 0.8 * geometry * ocr


def cli(*arguments):
    return forked.python("-m", "mmreward.cli", *arguments)


@pytest.fixture
def pilots():
    """The runs that the command asks for, with outcomes of a known surface: its maximum is at 5/8, 0, 3/8."""
    found = cli("mixture", "pilots", *SOURCES)
    assert found.returncode == 0
    rows = [{name: float(row[name]) for name in SOURCES} for row in csv.DictReader(io.StringIO(found.stdout))]
    assert len(rows) == 7
    return [{**row, "outcome": outcome(**row)} for row in rows]


def written(folder, rows):
    path = folder / "pilots.csv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, [*SOURCES, "outcome"])
        table.writeheader()
        table.writerows(rows)
    return str(path)


def test_the_next_mixture_is_the_maximum_of_what_the_pilots_saw(pilots, tmp_path):
    found = cli("mixture", "next", written(tmp_path, [*pilots, dict.fromkeys(SOURCES, 1 / 3)]))
    assert found.returncode == 0
    shares = {line.split()[0]: line.split()[1] for line in found.stdout.splitlines()[1:4]}
    assert {name: float(share) for name, share in shares.items()} == pytest.approx(
        {"geometry": 0.625, "charts": 0.0, "ocr": 0.375}, abs=2e-3
    )
    assert "1 runs have no outcome yet" in found.stderr
    floored = cli("mixture", "next", written(tmp_path, pilots), "--floor", "0.1")
    assert (
        next(line for line in floored.stdout.splitlines() if line.startswith("charts")).split()[1] == "0.100"
    )


def test_noise_is_said_to_be_noise(pilots, tmp_path):
    """The same mixtures twice, with opposite outcomes."""
    rows = [{**row, "outcome": value} for value in (0.2, -0.2) for row in pilots]
    assert "do not believe it" in cli("mixture", "next", written(tmp_path, rows)).stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"charts": "x"}, "row 1: every column is a number"),
        ({"charts": 0.5}, "row 1: the shares sum to 1.5, not to 1"),
        ({"charts": -1, "ocr": 1}, "weights of a mixture are at least 0"),
    ],
)
def test_bad_pilots_are_one_line(pilots, tmp_path, change, message):
    found = cli("mixture", "next", written(tmp_path, [{**pilots[0], **change}, *pilots[1:]]))
    assert found.returncode == 2 and message in found.stderr and len(found.stderr.splitlines()) == 1


def test_too_little_is_one_line(pilots, tmp_path):
    empty = [{name: row[name] for name in SOURCES} for row in pilots]
    assert (
        "no row has a number in a column outcome" in cli("mixture", "next", written(tmp_path, empty)).stderr
    )
    assert "at least two different sources" in cli("mixture", "pilots", "charts").stderr
