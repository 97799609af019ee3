"""A package of rewards that only a child has installed, and interpreters to run it in."""

import sys
from pathlib import Path

import pytest

from mmreward import Engine, load

PACKAGE = Path(__file__).parent / "only_there.py"
REWARDS = ("echo", "blocking", "counted", "duel", "leaving", "noisy", "poisonous", "ranked", "wide")


def install(folder):
    """Put the package and its entry points into a folder of the import path."""
    (folder / "only_there.py").write_text(PACKAGE.read_text())
    info = folder / "only_there-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: only-there\nVersion: 1.0\n")
    points = "".join(f"{name} = only_there:{name}\n" for name in REWARDS)
    (info / "entry_points.txt").write_text(f"[mmreward.rewards]\n{points}")


@pytest.fixture(scope="session")
def python(tmp_path_factory):
    """This interpreter, with the package on its path and an engine on the CPU."""
    folder = tmp_path_factory.mktemp("there")
    install(folder)
    return {"path": sys.executable, "env": {"PYTHONPATH": str(folder)}, "device": "cpu"}


@pytest.fixture(scope="module")
def kept(python):
    """A hold on the child for as long as a file's tests run, so that it starts once for them."""
    reward = load("echo", python=python)
    yield reward
    reward.close()


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture
def loaded(python):
    """Loads rewards in the child, and closes them after the test."""
    rewards = []

    def load_there(name, **args):
        rewards.append(load(name, python=python, **args))
        return rewards[-1]

    yield load_there
    for reward in rewards:
        reward.close()
