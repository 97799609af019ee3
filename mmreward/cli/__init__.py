"""The command line: one file per kind of command.

Only what a command needs is imported, so `mmreward list` answers at once.
"""

from . import (
    agents,
    benchmarks,
    checkpoints,
    explaining,
    fetching,
    judging,
    listing,
    mixtures,
    negatives,
    recipes,
    running,
    scoring,
    training,
)
from .app import app
from .exits import run

__all__ = [
    "agents",
    "app",
    "benchmarks",
    "checkpoints",
    "explaining",
    "fetching",
    "judging",
    "listing",
    "main",
    "mixtures",
    "negatives",
    "recipes",
    "running",
    "scoring",
    "training",
]


def main() -> None:
    """Run the command line; see `exits` for the codes it ends with."""
    run(app)
