"""The page of a comparison: what changed and by how much, by source, and the samples that moved most.

Computes what templates/compare.html shows. A card has a sample of the first run on the left and the same one
of the other run on the right, with the scores of each beneath; pictures that would make the page too heavy
are drawn smaller.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from mmreward.errors import FINE
from mmreward.monitor.intervals import Interval
from mmreward.types import Sample

from .compare import Comparison, Meeting, change_of, compared, comparisons, meetings
from .html import count, number, page_at, render, text, whisker, write_page
from .page import Tile
from .pictures import SIDES, WEIGHT, Spaces, pictures, thumbnail
from .scored import FILES, NOT_SCORED, Column, ScoredRun

MOST_CARDS = 96
MOST_SOURCES = 40
TILE_SIDE, TILE_WORDS = 192, 80
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Reason(NamedTuple):
    """The reason for a card: a reward by which the sample moved most, by how much, and whether it gained."""

    reward: str
    by: float
    gained: bool


@dataclass(frozen=True, kw_only=True)
class Versus:
    """One run against the first, as the page tells it."""

    letter: str
    name: str
    found: Sequence[Comparison]
    by_source: Sequence[tuple[str, Sequence[Comparison]]]
    sources_left: int


def write_comparison(
    runs: Sequence[Path], out: Path, only: Sequence[str] = (), limit: int = 4
) -> list[Comparison]:
    """Write the page that compares runs of scores with the first, and return what it says.

    Args:
        runs: results files, or folders that hold one; the first is the base.
        out: the page.
        only: names of the rewards; empty: all that the runs share.
        limit: samples shown at each end of each reward of each run.

    Raises:
        ValueError: see `compare.compare_runs`; or an `out` that is no page, before anything is read.
    """
    page_at(out)
    met = meetings(runs, only)
    write_page(out, out, compare_page(runs, met, limit))
    return comparisons(met)


def compare_page(paths: Sequence[Path], met: Sequence[Meeting], limit: int) -> str:
    """One HTML document.

    Args:
        paths: of the runs, the first one's first.
        met: the meetings that they gave, see `compare.meetings`.
        limit: samples shown at each end of each reward of each run.

    Raises:
        ValueError: a negative limit.
    """
    if limit < 0:
        raise ValueError(f"limit {limit} is negative; 0 shows no samples")
    names = called(paths)
    letters = [_letter(index) for index in range(len(names))]
    against = [_versus(one, letters[i + 1], names[i + 1]) for i, one in enumerate(met)]
    rewards = list(dict.fromkeys(pair[0].name for one in met for pair in one.columns))
    moved = [[(i, *item) for item in _moved(one, limit).items()] for i, one in enumerate(met)]
    chosen = [
        one for rank in zip_longest(*moved) for one in rank if one is not None
    ]  # every run has its turn
    left = max(0, len(chosen) - MOST_CARDS)
    cards = _cards(met, chosen[:MOST_CARDS], letters, rewards)
    return render(
        "compare.html",
        ("report.css", "training.css", "compare.css"),
        title=f"{' and '.join(names[1:])} against {names[0]}",
        runs=list(zip(letters, names, map(str, paths), strict=True)),
        against=against,
        rewards=rewards,
        signs={pair[0].name: 1 if pair[0].higher_is_better else -1 for one in met for pair in one.columns},
        pairs=max(len(one.pairing.ids) for one in met),
        verdicts=[(one, _verdict(one)) for one in against],
        cards=cards,
        glance=_glance(cards, against),
        left=left,
        limit=limit,
        scaled=scaled,
        thousands="{:,}".format,
        not_scored=NOT_SCORED,
        troubles=_troubles(met, names),
    )


def called(paths: Sequence[Path]) -> list[str]:
    """Short names of runs: their file, or their folder for `scores.parquet`; whole paths where two agree."""
    short = [path.stem if path.is_file() and path.name not in FILES else _folder(path).name for path in paths]
    return short if len(set(short)) == len(short) and all(short) else [str(path) for path in paths]


def _folder(path: Path) -> Path:
    return (path if path.is_dir() else path.parent).absolute()


def _letter(index: int) -> str:
    return LETTERS[index] if index < len(LETTERS) else f"run {index + 1}"


def _versus(met: Meeting, letter: str, name: str) -> Versus:
    sources = _sources(met)
    largest = Counter(sources.values()).most_common()
    several = len(largest) > 1
    members = {source: {one for one, its in sources.items() if its == source} for source, _ in largest}
    by_source = [
        (source, [compared(*columns, met.pairing.among(members[source])) for columns in met.columns])
        for source, _ in largest[:MOST_SOURCES]
        if several
    ]
    return Versus(
        letter=letter,
        name=name,
        found=comparisons([met]),
        by_source=by_source,
        sources_left=max(0, len(largest) - MOST_SOURCES),
    )


def _sources(met: Meeting) -> dict[str, str]:
    """The source of every sample of a meeting, in whichever run has it."""
    found = {}
    for sample in met.pairing.ids:
        known = [_sample(run, sample) for run in (met.first, met.other)]
        found[sample] = next((one.source for one in known if one is not None and one.source), "")
    return found


def _troubles(met: Sequence[Meeting], names: Sequence[str]) -> list[tuple[str, str]]:
    """The runs that have no pictures and prompts to show, with the reason."""
    runs = [met[0].first, *(one.other for one in met)]
    return [(name, run.trouble) for name, run in zip(names, runs, strict=True) if run.trouble]


# --- the verdict in words -----------------------------------------------------------------------------------


class Verdict(NamedTuple):
    """The rewards that rose and fell beyond chance, and those that chance explains; a tone for the box."""

    level: str
    better: Sequence[str]
    worse: Sequence[str]
    unknown: Sequence[str]


def _verdict(one: Versus) -> Verdict:
    by = {
        kind: [c.reward for c in one.found if c.direction == kind] for kind in ("better", "worse", "unknown")
    }
    level = "warn" if by["better"] and by["worse"] else "ok" if by["better"] else "alarm"
    return Verdict(level if by["better"] or by["worse"] else "unknown", *by.values())


def scaled(one: Comparison) -> Markup | str:
    """The change with its interval around zero, on a scale of its own."""
    ends = one.interval or (one.change, one.change)
    reach = max(map(abs, (*ends, one.change))) if math.isfinite(one.change) else 0.0
    if not reach:
        return ""
    between = one.interval and Interval(one.interval.low / reach, one.interval.high / reach)
    return whisker(one.change / reach, between)


# --- at a glance --------------------------------------------------------------------------------------------


def _glance(cards: Sequence[dict[str, Any]], against: Sequence[Versus]) -> list[Tile]:
    """The sample that gained most and the one that lost most, by the first reward with one that did, and how
    many cannot be compared."""
    tiles, weight = [], sum(len(shown["pictures"]) for card in cards for shown in card["sides"])
    for kind, gained in (("gained most", True), ("lost most", False)):
        found = ((card, why) for card in cards for why in card["reasons"] if why.gained is gained)
        card, why = next(found, (None, None))
        if card is None or why is None:
            continue
        before, after = (side["sample"] for side in card["sides"])
        shown = after or before
        picture = thumbnail(shown, TILE_SIDE) if shown is not None else ""
        weight += len(picture)
        picture = picture if weight <= WEIGHT else ""
        words = " ".join(str(card["prompt"]).split()) or card["name"]
        figure = f"{'+' if why.by > 0 else ''}{number(why.by)} {why.reward}"
        tiles.append(Tile(kind, figure, [text(words, TILE_WORDS)], picture, "moved", "side by side"))
    missing = max((found.missing for one in against for found in one.found), default=0)
    told = "the tables say of which reward" if missing else "every sample has a score in both"
    css = "failed-tile" if missing else ""
    tiles.append(Tile("left out", count(missing, "sample"), [told], "", "", "", css))
    return tiles


# --- the samples that moved most ----------------------------------------------------------------------------


def _moved(met: Meeting, limit: int) -> dict[str, list[Reason]]:
    """The samples farthest up and down by each reward, the farthest of each first, and why."""
    ends = [end for columns in met.columns for end in _ends(met, columns, limit)]
    found: dict[str, list[Reason]] = {}
    for rank in zip_longest(*ends):
        for sample, reason in filter(None, rank):
            found.setdefault(sample, []).append(reason)
    return found


def _ends(met: Meeting, columns: tuple[Column, Column], limit: int) -> Iterator[list[tuple[str, Reason]]]:
    ids = met.pairing.ids
    found = change_of(*columns, ids)
    order = sorted(range(len(ids)), key=lambda index: -found.gain[index])
    for farthest, sign in ((order[:limit], 1), (order[::-1][:limit], -1)):
        yield [
            (ids[index], Reason(columns[0].name, float(found.change[index]), sign > 0))
            for index in farthest
            if sign * found.gain[index] > 0
        ]


def _cards(
    met: Sequence[Meeting],
    chosen: Sequence[tuple[int, str, list[Reason]]],
    letters: Sequence[str],
    rewards: Sequence[str],
) -> list[dict[str, Any]]:
    """A card for each chosen sample, its pictures as large as the page's weight allows."""
    cards = [_card(met[place], sample, reasons, rewards) for place, sample, reasons in chosen]
    for card, (place, _, _) in zip(cards, chosen, strict=True):
        card["letters"] = letters[0], letters[place + 1]
    for side in SIDES:
        for card in cards:
            for shown in card["sides"]:
                shown["pictures"] = _drawn(shown["sample"], shown["spaces"], side)
        if sum(len(shown["pictures"]) for card in cards for shown in card["sides"]) <= WEIGHT:
            return cards
    weight = 0
    for card in cards:  # even as small as that: only the first have theirs
        for shown in card["sides"]:
            weight += len(shown["pictures"])
            if weight > WEIGHT:
                shown["pictures"] = Markup('<p class="absent">no picture: the page would be too heavy</p>')
    return cards


def _card(met: Meeting, sample: str, reasons: list[Reason], rewards: Sequence[str]) -> dict[str, Any]:
    runs = (met.first, met.other)
    known = [_sample(run, sample) for run in runs]
    both = {before.name: (before, after) for before, after in met.columns}
    columns = [_on_one_scale(*pair) for pair in both.values()]
    keys = [
        float(change_of(*both[name], [sample]).change[0]) if name in both else math.nan for name in rewards
    ]
    failed = any(
        sample in column.scores and column.scores[sample].status not in FINE
        for pair in both.values()
        for column in pair
    )
    same = known[0] is not None and known[1] is not None and _alike(known[0], known[1])
    return {
        "name": sample,
        "reasons": reasons,
        "prompt": next((one.prompt for one in known if one is not None), ""),
        "same": same,
        "sorting": json.dumps(keys),
        "failed": int(failed),
        "columns": columns,
        "sides": [
            {"sample": None if same and place else one, "spaces": _spaces(run), "pictures": ""}
            for place, (run, one) in enumerate(zip(runs, known, strict=True))
        ],
    }


def _on_one_scale(before: Column, after: Column) -> tuple[Column, Column]:
    """Both columns with the scale that holds the scores of both, so that their bars can be compared."""
    spans = [span for span in (before.span, after.span) if span is not None]
    if not spans:
        return before, after
    span = min(low for low, _ in spans), max(high for _, high in spans)
    return replace(before, bounds=span), replace(after, bounds=span)


def _drawn(sample: Sample | None, spaces: Spaces, side: int) -> Markup | str:
    return pictures(sample, spaces, False, side) if sample is not None else ""


def _alike(one: Sample, other: Sample) -> bool:
    """True for one picture and answer that were scored twice, which need not be shown twice."""
    media = [
        [each.key for each in (of.image, of.video, *of.inputs) if each is not None] for of in (one, other)
    ]
    return one.response == other.response and media[0] == media[1]


def _sample(run: ScoredRun, name: str) -> Sample | None:
    return run.rows[name].sample if name in run.rows else None


def _spaces(run: ScoredRun) -> Spaces:
    args = next((column.args for column in run.columns if column.kind == "iou"), {})
    return Spaces(args.get("space", "norm_1000"), args.get("target_space", "norm_1000"))
