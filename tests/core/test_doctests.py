"""Every public name of `mmreward` has a runnable example in its docstring, and the examples say the truth."""

import inspect
import subprocess
import sys

import pytest

import mmreward

RUN = """
import doctest, inspect, sys, mmreward
runner = doctest.DocTestRunner()
for name in ["", *mmreward.__all__]:
    thing = getattr(mmreward, name) if name else mmreward
    names = {"mmreward": mmreward, **{one: getattr(mmreward, one) for one in mmreward.__all__}}
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(thing), names, name or "mmreward", None, 0)
    assert test.examples, f"{name} has no example"
    runner.run(test)
for room in (mmreward.compose, mmreward.shaping):
    for test in doctest.DocTestFinder(exclude_empty=True).find(room):
        runner.run(test)
sys.exit(min(runner.failures, 1))
"""


def test_the_examples_run():
    """In a process of their own: one registers a reward."""
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", mmreward.__all__)
def test_every_public_name_has_an_example(name):
    assert ">>> " in (inspect.getdoc(getattr(mmreward, name)) or "")


FORMS = [
    "trusted", "evidence_bonus", "consistent", "hybrid", "length_scaled", "length_shares", "falling",
]  # fmt: skip


def test_every_total_and_form_of_shaping_has_an_example():
    found = [mmreward.compose.combine, *(getattr(mmreward.shaping, name) for name in FORMS)]
    assert all(">>> " in one.__doc__ for one in found)


def test_the_package_begins_with_the_three_lines_of_a_newcomer():
    lines = [line for line in mmreward.__doc__.splitlines() if line.startswith(">>> ")]
    assert lines[0] == ">>> import mmreward" and lines[2] == ">>> print(scored)"
    assert lines[1].startswith(">>> scored = mmreward.score(")
