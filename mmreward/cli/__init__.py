"""The command line: one file per kind of command.

Only what a command needs is imported, so `mmreward list` answers at once.
"""

from . import (
    benchmarks,
    checkpoints,
    explaining,
    fetching,
    gui,
    judging,
    listing,
    negatives,
    recipes,
    robots,
    running,
    scoring,
    training,
)
from .app import app
from .exits import run

__all__ = [
    "app",
    "benchmarks",
    "checkpoints",
    "explaining",
    "fetching",
    "gui",
    "judging",
    "listing",
    "main",
    "negatives",
    "recipes",
    "robots",
    "running",
    "scoring",
    "training",
]


def main() -> None:
    """Run the command line; see `exits` for the codes it ends with."""
    run(app)
