"""The parity table: every published scorer has a row, rows are what they say, and bars are kept."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mmreward import list_rewards, load, registry
from mmreward.evals import parity
from mmreward.evals.published import readers, upstream
from mmreward.evals.published.cases import CASES, ELSEWHERE, PICTURES, rows_of
from mmreward.evals.published.scenes import SAMPLED
from mmreward.evals.published.second import SECOND

ROOMS = ("mmreward.rewards.learned.", "mmreward.rewards.pictures.")
BESIDE = {"nora"}
"""Of another room."""
PAGE = Path(__file__).parents[2] / "evals" / "parity.md"
QUICK = ("saturation", "dark_share", "jpeg_compressibility")


def published():
    """Names of the scorers of both rooms."""
    places = {info.name: registry.find(info.name).factory.__module__ for info in list_rewards()}
    return {name for name, place in places.items() if place.startswith(ROOMS)}


def test_every_published_scorer_has_a_row_and_no_row_is_of_another():
    assert len(published()) >= 16
    missing = published() - {case.scorer for case in CASES} - ELSEWHERE.keys()
    assert not missing, f"give {', '.join(sorted(missing))} a case in evals/published/cases.py"
    assert {case.scorer for case in CASES} | ELSEWHERE.keys() <= published() | BESIDE


def test_a_scorer_without_a_case_is_tested_where_the_table_says():
    root = PAGE.parents[1]
    assert len(ELSEWHERE) <= 2, "a second writing in evals/published is a row of the table"
    for scorer, (place, reason) in ELSEWHERE.items():
        assert scorer in (root / place).read_text(encoding="utf-8"), place
        assert f"| {scorer} | {place}: {reason} |" in PAGE.read_text(encoding="utf-8")


def test_every_row_of_the_table_is_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    assert [case.name for case in CASES if f"| {case.name} |" not in page] == []


def test_every_case_has_something_to_be_held_against():
    for case in CASES:
        written = SECOND if case.rows is None else SAMPLED
        assert case.second is None or case.scorer in written, case.name
        assert case.packages or case.second is not None, case.name
        for package in case.packages:
            assert (package, case.scorer) in upstream.SCORERS


@pytest.mark.parametrize("name", QUICK)
def test_a_second_writing_is_met_and_says_so(name):
    (row,) = parity.measured([case for case in CASES if case.scorer == name], {})
    assert row.beside == "a second writing" and row.met and row.value < 1e-9
    assert (row.gradient is None) == (not load(name).info.differentiable)


@pytest.mark.parametrize("name", ["temporal_flickering", "t2i_compbench_spatial", "geneval"])
def test_rows_of_a_scorers_own_are_read_whole(name):
    (row,) = parity.measured([case for case in CASES if case.scorer == name], {})
    assert row.beside == "a second writing" and row.met and row.value < 1e-6 and row.batch < 1e-9


def test_marks_out_of_a_hundred_are_compared_as_parts_of_it(monkeypatch):
    (case,) = (case for case in CASES if case.scorer == "temporal_flickering")
    off = SAMPLED["temporal_flickering"]({}).value
    monkeypatch.setitem(SAMPLED, case.scorer, lambda _: readers.Sampled(lambda sample: off(sample) + 1e-3))
    rows = parity.measured([case, case._replace(top=100.0)], {})
    assert [row.value for row in rows] == pytest.approx([1e-3, 1e-5]) and [r.met for r in rows] == [
        False,
        True,
    ]


def test_a_package_answers_in_an_interpreter_of_its_own():
    (case,) = (case for case in CASES if case.name == "clipscore open_clip")
    (row,) = parity.measured([case], {"open_clip": sys.executable})
    assert row.beside.startswith("open_clip 3") and row.met
    assert row.value is not None and row.gradient is not None


def test_a_package_that_is_not_there_leaves_the_second_writing(monkeypatch):
    (case,) = (case for case in CASES if case.scorer == "saturation")
    with_one = case._replace(packages={"hpsv2": {}})
    monkeypatch.setitem(upstream.SCORERS, ("hpsv2", "saturation"), upstream.SCORERS["hpsv2", "hpsv2"])
    monkeypatch.setattr(parity, "_run", lambda _, jobs, __: [{"error": "ModuleNotFoundError"}] * len(jobs))
    (row,) = parity.measured([with_one], {})
    assert row.beside == "a second writing; not here: hpsv2" and row.met
    (row,) = parity.measured([with_one], {"hpsv2": sys.executable})
    assert row.trouble == "ModuleNotFoundError" and not row.met  # it was named, and did not answer


def test_an_interpreter_that_breaks_is_said_in_one_line(tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such package >&2\nexit 3\n")
    broken.chmod(0o755)
    (answer,) = parity._run(str(broken), [{}], tmp_path / "jobs.json")
    assert answer["error"].endswith("no such package")


def test_a_reward_that_is_off_is_missed(monkeypatch):
    (case,) = (case for case in CASES if case.scorer == "dark_share")
    true = SECOND["dark_share"]({})
    off = upstream.Reference(lambda picture, prompt: true.value(picture, prompt) + 2e-4)
    monkeypatch.setitem(SECOND, "dark_share", lambda args: off)
    (row,) = parity.measured([case], {})
    assert not row.met and row.value == pytest.approx(2e-4)


def test_scores_that_move_with_their_neighbours_are_seen(monkeypatch):
    _, _, samples = rows_of(CASES[0])
    calls = iter(range(1, 9))
    monkeypatch.setattr(parity, "_values", lambda *_, **__: np.full(len(PICTURES), 1e-3 * next(calls)))
    assert parity.scored(None, samples)[1] == pytest.approx(3e-3)


def test_a_scorer_that_cannot_score_has_a_row_with_the_reason_and_the_others_follow(capsys, monkeypatch):
    def missing(_):
        raise ValueError('dark_share needs a package: pip install "mmreward[dark]"')

    def failing(_):
        raise ImportError("no module of this name")

    cases = {case.scorer: case for case in CASES}
    broken = cases["dark_share"]._replace(build=missing)
    monkeypatch.setitem(SECOND, "saturation", failing)
    monkeypatch.setattr(parity, "CASES", (broken, cases["saturation"], cases["jpeg_compressibility"]))
    assert parity.main(["--markdown"]) == 1
    said = capsys.readouterr()
    rows = [line.strip("| ").split(" | ") for line in said.out.splitlines()]
    shown = {row[0]: row[-1] for row in rows}
    assert shown["dark_share"] == shown["saturation"] == "MISSED" and shown["jpeg_compressibility"] == "met"
    assert "dark_share, nothing: dark_share needs a package" in said.err and "no module of this" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--python", "nothing=/bin/sh"], "'nothing' is not one of"),
        (["--python", "hpsv2=/no/python"], "'/no/python' is no interpreter"),
        (["--only", "nothing"], "invalid choice"),
    ],
)
def test_bad_options_are_refused(capsys, words, said):
    with pytest.raises(SystemExit):
        parity.main(words)
    assert said in capsys.readouterr().err


def test_the_command_prints_the_table_and_the_exit_says_whether_bars_are_met(capsys, monkeypatch):
    assert parity.main(["--only", "dark_share"]) == 0
    assert "dark_share" in (out := capsys.readouterr().out) and "met" in out and "MISSED" not in out
    monkeypatch.setattr(parity, "VALUE", -1.0)
    assert parity.main(["--only", "dark_share"]) == 1
    assert "MISSED" in capsys.readouterr().out
