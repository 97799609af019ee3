"""The page of a run of scores: what matters at a glance, figures per reward, failures by reason, gains of a
search, extremes, agreement with a reference, a card per sample.

Computes what templates/scores.html shows. A sample's card has its pictures, prompt, a bar or a typed failure
per reward, the parts of each score, and what was written.
"""

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from mmreward.data.failures import Group, grouped
from mmreward.errors import FINE
from mmreward.monitor.intervals import agreement, mean_of
from mmreward.rewards.judged.critique import scale_of_marks
from mmreward.types import ABOUT, Sample, Score

from .agents import NAMED, curve, curves_in, strip
from .gui_steps import CLICKS, EPISODES, marks, trajectory
from .html import NAME_CHARS, count, histogram, interval, number, render, status_words, text
from .pictures import SIDES, WEIGHT, Spaces, pictures, thumbnail
from .scored import NOT_SCORED, Column, ScoredRun
from .searched import Chain, search_of

SHORT_NOTE = 100
SHORT_PROMPT = 90
MOST_REASONS = 20
LINK_SIDE = 192
LEFT_OUT = Markup('<p class="absent">left out, as the page would be too heavy: give a smaller --limit</p>')
MAX_PARTS = 24
MAX_FIELDS = 8
NUM_EXTREME = 4


def named_on(run: ScoredRun, extremes: tuple[list[str], list[str]], limit: int) -> set[str]:
    """The samples of which the page shows more than figures."""
    contested = run.contested
    search = search_of(run)
    links = [link.name for chain in search.chains(limit) for link in chain.links] if search else []
    return {*run.ids[:limit], *extremes[0], *extremes[1], *links, *([contested[0]] if contested else [])}


def page(run: ScoredRun, reference: Column | None, extremes: tuple[list[str], list[str]], limit: int) -> str:
    """One HTML document. `run.rows` must hold what `named_on` says."""
    shown = min(limit, len(run.ids))
    search = search_of(run)
    places = {name: f"sample-{index}" for index, name in enumerate(run.ids)}
    failures = _failures(run)
    absent = sum(column.failures["na"] for column in run.columns)
    prompts = run.prompts
    others = [column for column in run.columns if column is not reference]
    command = run.about.get("command")
    rows = zip(("Best", "Worst"), extremes, strict=True)
    return render(
        "scores.html",
        title=str(run.about.get("title") or run.path.stem),
        run=run,
        columns=[column.name for column in run.columns],
        scores=len(run.ids) * len(run.columns),
        failed=sum(column.failures.total() for column in run.columns) - absent,
        absent=absent,
        units=len(set(prompts)) if prompts else len(run.ids),
        by_prompt=bool(prompts),
        summaries=[_summary(column, prompts) for column in run.columns],
        reference=reference,
        agreements=[(c, agreement(c.values, reference.values, prompts)) for c in others] if reference else [],
        alone=len([column for column in run.columns if not column.combined]) == 1,
        extremes=[(called, [_small_card(run, name) for name in ids]) for called, ids in rows if ids],
        cards=_cards(run, shown),
        glance=_glance(run, extremes, failures, places, shown),
        failures=failures[:MOST_REASONS],
        more_failures=max(0, len(failures) - MOST_REASONS),
        shown_ids=set(run.ids[:shown]),
        anchor=places.__getitem__,
        gains=search.gains(run) if search else [],
        forwards=search.forwards if search else 0.0,
        chains=[_drawn_chain(run, chain) for chain in search.chains(limit)] if search else [],
        hidden=len(run.ids) - shown,
        limit=limit,
        command=" ".join(map(str, command)) if isinstance(command, list | tuple) else command,
        parts_of=_parts,
        arguments_of=_arguments,
        thousands="{:,}".format,
        not_scored=NOT_SCORED,
        short_note=SHORT_NOTE,
    )


def _failures(run: ScoredRun) -> list[Group]:
    """Failures by reason; what is combined of other scores fails with them."""
    none = Score.failed("na", NOT_SCORED)
    columns = [column for column in run.columns if not column.combined]
    return grouped(run.ids, {c.name: [c.scores.get(name, none) for name in run.ids] for c in columns})


def _summary(column: Column, prompts: Sequence[Hashable] | None) -> dict[str, Any]:
    """A row of the table of rewards."""
    measured = mean_of(column.values, prompts)
    none = f"n = {count(measured.units, 'prompt') if prompts else len(column.ok)}: none"
    ok, n = column.ok, len(column.values)
    spread = (ok.mean(), ok.min(), np.median(ok), ok.max()) if len(ok) else (math.nan,) * 4
    lost = ", ".join(f"{times:,} {status_words(status)}" for status, times in column.failures.most_common())
    return {
        "column": column,
        "ok": len(ok),
        "n": n,
        "percent": f"{int(1000 * len(ok) / n) / 10:g} %" if n else "0 %",  # rounded down: 100 % means all
        "interval": none if measured.interval is None else interval(measured.interval),
        **dict(zip(("mean", "low", "median", "high"), map(float, spread), strict=True)),
        "histogram": histogram(ok, column.bounds),
        "lost": lost or "0",
        "bad": bool(set(column.failures) - {"na"}),
    }


# --- at a glance --------------------------------------------------------------------------------------------


class Tile(NamedTuple):
    """One thing that matters: a figure, a line or two about it, a picture, and where more of it stands."""

    kind: str
    figure: str
    words: list[str]
    picture: Markup | str = ""
    link: str = ""
    link_words: str = ""
    css: str = ""


def _glance(
    run: ScoredRun,
    extremes: tuple[list[str], list[str]],
    failures: Sequence[Group],
    places: Mapping[str, str],
    shown: int,
) -> list[Tile]:
    """The best and the worst sample, the failures, and the sample that rewards disagree about."""
    tiles = []
    for kind, ids in zip(("best", "worst"), extremes, strict=True):
        if ids:
            tiles.append(_tile(run, kind, _standing(run, ids[0]), ids[0], [], places, shown))
    failed = sum(group.number for group in failures)
    reasons = [f"{group.number:,} x {group.reward}: {_short(group.reason)}" for group in failures[:2]]
    words = reasons or ["no score failed"]
    link, css = ("failures-by-reason", "failed-tile") if failed else ("", "")
    tiles.append(Tile("failed", f"{failed:,}", words, "", link, "all reasons" if failed else "", css))
    if run.contested is not None:
        name, high, low = run.contested
        tiles.append(
            _tile(
                run,
                "worth a look",
                "rewards disagree",
                name,
                [f"{high} likes it, {low} does not"],
                places,
                shown,
            )
        )
    return tiles


def _standing(run: ScoredRun, name: str) -> str:
    """A sample's mean rank over the rewards, or its value by the only one."""
    index, scored = run.ids.index(name), [column for column in run.columns if not column.combined]
    if len(scored) == 1:
        return f"{number(float(scored[0].values[index]))} {scored[0].name}"
    return f"{number(float(run.totals[index]))} by rank"


def _tile(
    run: ScoredRun, kind: str, figure: str, name: str, words: list[str], places: Mapping[str, str], shown: int
) -> Tile:
    sample = _sample(run, name)
    prompt = _short(sample.prompt) if sample is not None else ""
    linked = name in run.ids[:shown]
    lines = [*words, *([prompt] if prompt else []), *([] if linked else [name])]
    picture = thumbnail(sample, LINK_SIDE) if sample is not None else ""
    return Tile(kind, figure, lines, picture, places[name] if linked else "", name)


def _short(words: str) -> str:
    flat = " ".join(words.split())
    return flat if len(flat) <= SHORT_PROMPT else flat[: SHORT_PROMPT - 1] + "\u2026"


def _drawn_chain(run: ScoredRun, chain: Chain) -> dict[str, Any]:
    drawn = []
    for link in chain.links:
        sample = _sample(run, link.name)
        drawn.append(
            {**link._asdict(), "picture": thumbnail(sample, LINK_SIDE) if sample is not None else ""}
        )
    return {"prompt": chain.prompt, "stopped": chain.stopped, "links": drawn}


# --- cards --------------------------------------------------------------------------------------------------


def _cards(run: ScoredRun, shown: int) -> list[dict[str, Any]]:
    """The gallery; pictures that would make the page too heavy are drawn smaller."""
    cards: list[dict[str, Any]] = []
    for side in SIDES:
        cards = [_card(run, index, side) for index in range(shown)]
        if sum(map(_weight, cards)) <= WEIGHT:
            return cards
    weight = 0
    for card in cards:
        weight += _weight(card)
        if weight > WEIGHT:
            card["pictures"], card["strip"] = LEFT_OUT, ""
    return cards


def _weight(card: Mapping[str, Any]) -> int:
    return len(card["pictures"]) + len(card["strip"])


def _card(run: ScoredRun, index: int, side: int) -> dict[str, Any]:
    """The sample at this position of the run, for the gallery."""
    name = run.ids[index]
    sample = _sample(run, name)
    expects_boxes = any(column.kind == "iou" for column in run.columns)
    statuses = {column.scores[name].status for column in run.columns if name in column.scores}
    keys = [run.totals[index], *(column.values[index] for column in run.columns)]
    acts = next((column for column in run.columns if column.kind in CLICKS), None)
    drawn, frames = "", ""
    if sample is not None:
        told = acts.scores.get(name) if acts is not None else None
        places = marks(sample, acts.kind, acts.args, told) if acts is not None else None
        drawn = pictures(sample, _spaces(run), expects_boxes, side, places)
        walk = next((column for column in run.columns if column.kind in EPISODES), None)
        done = trajectory(sample, walk.args) if walk is not None else None
        frames = strip(sample, _frames(run, name), side, done)
    return {
        "name": name,
        "pictures": drawn,
        "strip": frames,
        "response": sample.response if sample is not None else "",
        "fields": _other_fields(sample) if sample is not None else "",
        "sorting": json.dumps([float(key) if math.isfinite(key) else None for key in keys]),
        "failed": int(bool(statuses.difference(FINE))),
    }


def _frames(run: ScoredRun, name: str) -> list[int]:
    """Frames of a sample that a reward has a value for."""
    scores = [column.scores[name] for column in run.columns if name in column.scores]
    return sorted({at for score in scores for values in curves_in(score.parts).values() for at in values})


def _small_card(run: ScoredRun, name: str) -> dict[str, Any]:
    """Picture and total, for a row of several."""
    index = run.ids.index(name)
    sample = _sample(run, name)
    rewards = [column for column in run.columns if not column.combined]
    return {
        "name": name,
        "picture": thumbnail(sample) if sample is not None else "",
        "total": float(run.totals[index]),
        "ok": sum(math.isfinite(column.values[index]) for column in rewards),
        "rewards": len(rewards),
    }


def _sample(run: ScoredRun, name: str) -> Sample | None:
    return run.rows[name].sample if name in run.rows else None


def _spaces(run: ScoredRun) -> Spaces:
    args = next((column.args for column in run.columns if column.kind == "iou"), {})
    return Spaces(args.get("space", "norm_1000"), args.get("target_space", "norm_1000"))


def _other_fields(sample: Sample) -> str:
    """The other text that came with the sample."""
    fields = [f"{key}: {value}" for key, value in sample.meta.items() if isinstance(value, str | int | float)]
    return "\n\n".join(fields[:MAX_FIELDS])


class PartBar(NamedTuple):
    """A part of a score as a bar."""

    name: str
    value: float
    span: tuple[float, float]
    words: str


class Parts(NamedTuple):
    """The parts of a score: ticks for a checklist, bars for aspects and for shares, curves for frames, plain
    numbers else."""

    checks: list[tuple[str, float]]
    bars: list[PartBar]
    numbers: list[Markup | str]
    curves: list[Markup]


def _parts(column: Column, score: Score) -> Parts:
    by_frame = {name: values for name, values in curves_in(score.parts).items() if len(values) > 1}
    rest = {name: value for name, value in score.parts.items() if not _is_of(name, by_frame)}
    shown = list(rest.items())[:MAX_PARTS]
    if column.kind == "checklist":
        return Parts(shown, [], [], [])
    scale = _aspect_scale(column.args) if column.kind == "critique" and score.ok else None
    found = Parts([], [], [], [curve(values, name) for name, values in by_frame.items()])
    for name, value in shown:
        if scale is not None and name not in ABOUT:
            found.bars.append(PartBar(name, value, scale, f"{value:g} of {scale[1]:g}"))
        elif column.parts[name] == "share":
            found.bars.append(PartBar(name, value, (0.0, 1.0), number(value)))
        elif column.parts[name] == "number":  # what is 0 for every sample, such as "truncated", says nothing
            found.numbers.append(text(name, NAME_CHARS) + f" {value:g}")
    if more := len(rest) - len(shown):
        found.numbers.append(f"{more} more parts")
    return found


def _is_of(name: str, by_frame: Mapping[str, Any]) -> bool:
    match = NAMED.fullmatch(name)
    return match is not None and match["of"] in by_frame


def _aspect_scale(args: Mapping[str, Any]) -> tuple[float, float] | None:
    """The judge's own scale, from the reward's arguments or their defaults."""
    try:
        low, high = scale_of_marks(args)
    except (TypeError, ValueError):
        return None
    return (low, high) if low < high else None


def _arguments(column: Column) -> str:
    return ", ".join(f"{name}={value}" for name, value in column.args.items()) or "defaults"
