"""Catalogue of the rewards: the record of each, which `index` keeps and shows, and a page in Markdown with a
table per room of `mmreward/rewards/` and every reward's arguments.

`mmreward list --markdown > mmreward/rewards/README.md` writes the page from the registry, the rooms'
docstrings and the factories' signatures; a test compares the two. Rewards of other packages are left out, so
that the page is the same wherever it is made. Imports no network.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from ..loading import load
from ..models.sizes import licence_of, millions_of, size_words
from ..models.wants import Want, collecting, speed_of
from ..registry import Entry, find, list_rewards
from ..scales import scales_of
from ..types import RewardInfo
from .index import parity_page

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

In the tables, *needs* are the fields of a `Sample` that must be filled; what a reward *looks at* may be
absent. A *point* reward scores one sample, a *pair* reward compares two in both orders, a *group* reward
takes a whole group. A reward *with a gradient* offers `score_tensor`, with some arguments at least.

A name of another suite (`CLIPScore`, `hps`) is answered with ours, and never stands for it. `mmreward fetch
NAME` brings the weights that a reward reads. `scale: pickscore/26` puts its score on a scale that trainers
use, with the publisher's number beside it; `mmreward show NAME` lists the scales of a reward.

A point reward that needs an *image* scores clips, too, once it is given `frames` beside its arguments: `mean`
or `min` of 8 evenly spaced frames, the last included, `first`, or a number of them, for their mean
(`--reward clipscore:frames=mean`). A clip of which one chosen frame cannot be scored has no score.

*What they read*: parameters of the default weights, the class of speed that follows, the licence, and the
largest difference of a score from its publisher's (`evals/parity.md`, where scorers without weights stand,
too). The rewards of a room that are not there read no weights, and are under this package's licence.

A new reward is a file in one of these folders with a function under `@mmreward.reward`; it is then on this
page, in `mmreward list`, on the server and in the contract tests. Another package offers rewards through an
entry point of the group `mmreward.rewards`.
"""
HEADER = """| reward | summary | range | needs | arity | gradient | paper |
|---|---|---|---|---|---|---|"""
READ = """| reward | size | speed | licence | parity |
|---|---|---|---|---|"""


def _read(info: RewardInfo) -> set[str]:
    """Fields of a sample that a reward needs; one that needs something shown takes a picture or a clip, and
    one that needs an episode steps too."""
    shown = {"image", "video"} if {"shown", "episode"} & set(info.needs) else set[str]()
    shown |= {"steps"} if "episode" in info.needs else set()
    return shown | set(info.needs)


def group_of(entry: Entry) -> str:
    """What an own reward scores, one of `index.GROUPS`, or the package that offers it.

    "pictures" and "clips" are generated ones, by themselves or with their prompt; "edits" look at source or
    reference pictures as well. "verifiers" hold a model's answer against the truth or a rule, "responses"
    score it without either. "judges" ask a VLM. "robots" look at what an agent's camera sees.
    """
    if not _room(entry).startswith(f"{OWN}."):
        return entry.factory.__module__.split(".")[0]
    needs = _read(entry.info)
    if room_of(entry) in ("judged", "published"):
        return "judges"
    if room_of(entry) == "robot":
        return "robots"
    if room_of(entry) in ("rules", "peers"):
        return "verifiers"
    if "inputs" in needs:
        return "edits"
    if "image" in needs:
        return "pictures"
    return "clips" if "video" in needs else "responses"


def room_of(entry: Entry) -> str:
    """The room of an own reward ("oracle" for the miniature's), or the package that offers it."""
    room = _room(entry)
    own = room.startswith(f"{OWN}.")
    return room.removeprefix(f"{OWN}.") if own else entry.factory.__module__.split(".")[0]


def wants_of(entry: Entry) -> list[Want]:
    """Weights that a reward reads with its default arguments; a file that it cannot do without counts as
    none of them."""
    given = {
        parameter.name: ""
        for parameter in inspect.signature(entry.factory).parameters.values()
        if parameter.default is parameter.empty
    }
    with collecting() as wants:
        try:
            load(entry.info.name, **given)
        except ValueError:
            return []  # of another package, or an argument that has no empty form: it has to be given
    return wants


def _is_given(entry: Entry, wants: list[Want]) -> bool:
    """True where all that a reward reads has to be given to it, such as a folder that was fitted."""
    every = inspect.signature(entry.factory).parameters.values()
    return not wants and any(parameter.default is parameter.empty for parameter in every)


def speed(entry: Entry, wants: list[Want]) -> str:
    """Class of a reward's speed with its default arguments."""
    return "that of what is given" if _is_given(entry, wants) else speed_of(wants)


def size(entry: Entry, wants: list[Want]) -> str:
    """Size, in words, of what a reward reads with its default arguments."""
    return "weights to be given" if _is_given(entry, wants) else size_words(wants)


def licence(entry: Entry, wants: list[Want]) -> str:
    """Licence of what a reward reads: as it says, or its judge's; this package's where it reads nothing."""
    ours = "Apache-2.0 (mmreward)" if _room(entry).startswith(OWN) and not wants else ""
    return entry.info.licence or licence_of(wants) or ours or "see the card of its weights"


def record(entry: Entry) -> dict[str, Any]:
    """Facts of a reward as JSON holds them; an open end of a range is null, and so are a size and a parity
    that there is none of."""
    info = entry.info
    low, high = (bound if abs(bound) < float("inf") else None for bound in info.range)
    wants = wants_of(entry)
    millions, parity = millions_of(wants), parities().get(info.name)
    return {
        "name": info.name,
        "group": group_of(entry),
        "room": room_of(entry),
        "summary": info.summary,
        "range": [low, high],
        "higher_is_better": info.higher_is_better,
        "needs": info.needed,
        "optional": list(info.optional),
        "fields": sorted(_read(info)),
        "arity": info.arity,
        "differentiable": info.differentiable,
        "paper": info.paper,
        "licence": licence(entry, wants),
        "speed": speed(entry, wants),
        "size": size(entry, wants),
        "parameters": None if millions is None or _is_given(entry, wants) else round(millions * 1e6),
        "parity": None if parity is None else parity._asdict(),
        "weights": [want.name for want in wants],
        "scales": sorted(scales_of(info.name)),
        "arguments": {
            parameter.name: None if parameter.default is parameter.empty else repr(parameter.default)
            for parameter in inspect.signature(entry.factory).parameters.values()
        },
    }


class Parity(NamedTuple):
    """Largest difference of a score from its publisher's, and by the batch, over a scorer's rows in
    `evals/parity.md`, and what it was held against."""

    value: float
    batch: float
    beside: tuple[str, ...]

    def __str__(self) -> str:
        apart = f"{self.value:.1e} apart from {', '.join(self.beside)}"
        return f"{apart}; {self.batch:.1e} in any batch (tiny random checkpoints)"


@cache
def parities() -> dict[str, Parity]:
    """Parity of every scorer that has been measured; nothing where the page was not installed."""
    if not (page := parity_page()).is_file():
        return {}
    found: dict[str, Parity] = {}
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if len(cells) != 6 or cells[5] != "met" or cells[2] == "-":
            continue
        name, beside = cells[0].split()[0], cells[1].partition(";")[0]
        own = Parity(float(cells[2]), float(cells[4]), (beside,))
        known = found.get(name, own)
        both = tuple(dict.fromkeys((*known.beside, beside)))
        found[name] = Parity(max(known.value, own.value), max(known.batch, own.batch), both)
    return found


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
    read = {entry.info.name: (entry, wants_of(entry)) for entry in entries}
    read = {name: (entry, wants) for name, (entry, wants) in read.items() if wants or _is_given(entry, wants)}
    if read:
        yield "\nWhat they read:\n"
        yield READ
        yield from (_read_row(entry, wants) for entry, wants in read.values())
    yield "\nArguments and their defaults:\n"
    yield from (f"- `{entry.info.name}`: {_arguments(entry)}" for entry in entries)
    yield ""


def _row(info: RewardInfo) -> str:
    low, high = info.range
    cells = (
        f"`{info.name}`",
        info.summary.replace("|", r"\|"),
        f"[{low:g}, {high:g}]",
        info.read,
        info.arity,
        "yes" if info.differentiable else "",
        _linked(info.paper),
    )
    return f"| {' | '.join(cells)} |"


def _read_row(entry: Entry, wants: list[Want]) -> str:
    parity = parities().get(entry.info.name)
    cells = (
        f"`{entry.info.name}`",
        size(entry, wants),
        speed(entry, wants),
        licence(entry, wants).replace("|", r"\|"),
        f"{parity.value:.1e}" if parity else "",
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
