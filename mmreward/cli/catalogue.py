"""Catalogue of the rewards as Markdown: a table per room of `mmreward/rewards/`, and every reward's
arguments.

`mmreward list --markdown > mmreward/rewards/README.md` writes the page from the registry, the rooms'
docstrings and the factories' signatures; a test compares the two. Rewards of other packages are left out, so
that the page is the same wherever it is made. Imports no network.
"""

import inspect
import re
import sys
from collections.abc import Iterator

from ..registry import Entry, find, list_rewards
from ..types import RewardInfo

OWN = "mmreward.rewards"
LONGEST = 60
"""Characters of a default that are shown; prompts are longer."""
OPENING = """# Rewards

Written by `mmreward list --markdown > mmreward/rewards/README.md`; a test keeps it equal to the registry.

Every reward here is loaded by its name: `mmreward.load("iou", threshold=0.5)` in Python,
`mmreward score DATA --reward iou:threshold=0.5 --out scores.parquet` on the command line, and
`rewards: {iou: {threshold: 0.5}}` in a configuration. `mmreward show NAME` says what a reward does, what each
argument means, and which row of data it takes. A score that could not be computed is NaN with a status and a
reason, never a number.

In the tables, *needs* are the fields of a `Sample` that must be filled. A *point* reward scores one sample, a
*pair* reward compares two in both orders, a *group* reward takes a whole group. A reward *with a gradient*
offers `score_tensor`, with some arguments at least.

A new reward is a file in one of these folders with a function under `@mmreward.reward`; it is then on this
page, in `mmreward list`, on the server and in the contract tests. Another package offers rewards through an
entry point of the group `mmreward.rewards`.
"""
HEADER = """| reward | summary | range | needs | arity | gradient | paper |
|---|---|---|---|---|---|---|"""


def rewards_page() -> str:
    """The page of this suite's own rewards, in Markdown."""
    rooms: dict[str, list[Entry]] = {}
    for info in list_rewards():
        entry = find(info.name)
        if entry.factory.__module__.startswith(f"{OWN}."):
            rooms.setdefault(_room(entry), []).append(entry)
    return "\n".join([OPENING, *(line for room in sorted(rooms) for line in _section(room, rooms[room]))])


def _room(entry: Entry) -> str:
    """Package of a reward, or the module of one that stands in no room."""
    package, _, _ = entry.factory.__module__.rpartition(".")
    return entry.factory.__module__ if package == OWN else package


def _section(room: str, entries: list[Entry]) -> Iterator[str]:
    yield f"## {room.removeprefix(f'{OWN}.')}\n"
    yield f"{inspect.getdoc(sys.modules[room])}\n"
    yield HEADER
    yield from (_row(entry.info) for entry in entries)
    yield "\nArguments and their defaults:\n"
    yield from (f"- `{entry.info.name}`: {_arguments(entry)}" for entry in entries)
    yield ""


def _row(info: RewardInfo) -> str:
    low, high = info.range
    cells = (
        f"`{info.name}`",
        info.summary.replace("|", r"\|"),
        f"[{low:g}, {high:g}]",
        info.needed,
        info.arity,
        "yes" if info.differentiable else "",
        _linked(info.paper),
    )
    return f"| {' | '.join(cells)} |"


def _linked(paper: str) -> str:
    """Papers with arXiv numbers as links."""
    return re.sub(r"arXiv:(\d{4}\.\d{5})", r"[\1](https://arxiv.org/abs/\1)", paper)


def _arguments(entry: Entry) -> str:
    known = inspect.signature(entry.factory).parameters.values()
    return ", ".join(f"`{name}`" for name in map(_argument, known)) or "none"


def _argument(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return f"{parameter.name} (required)"
    default = repr(parameter.default)
    shown = default if len(default) <= LONGEST else f"{default[: LONGEST - 3]}..."
    return f"{parameter.name}={shown}"
