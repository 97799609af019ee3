"""The whole page: header, figures per reward, agreement with a reference, best and worst, gallery, footer.

Turns a run into HTML and computes nothing beyond the figures it shows.
"""

from collections.abc import Sequence

import numpy as np

from .cards import card, small_card
from .figures import DRAWS, Agreement, agreement, mean_interval, num_draws
from .frame import date, framed, made_by
from .markup import NAME_CHARS, TEXT_CHARS, count, histogram, interval, number, table, text, told, whisker
from .scored import Column, Run

NUM_EXTREME = 4


def page(run: Run, reference: Column | None, extremes: tuple[list[str], list[str]], limit: int) -> str:
    """One HTML document. `run.rows` must hold what the first `limit` samples and the extremes show."""
    title = str(run.about.get("title") or run.path.stem)
    sections = [
        _header(run, title),
        _summary(run),
        _agreements(run, reference) if reference is not None else "",
        _extremes(run, *extremes),
        _gallery(run, limit),
        _footer(run),
    ]
    return framed(title, "\n".join(sections))


def _header(run: Run, title: str) -> str:
    scores = len(run.ids) * len(run.columns)
    absent = sum(column.failures["na"] for column in run.columns)
    failed = sum(column.failures.total() for column in run.columns) - absent
    facts = [
        ("samples", f"{len(run.ids):,}"),
        ("rewards", f"{len(run.columns):,}"),
        ("scores", f"{scores:,}"),
        ("failed", f'<span class="{"bad" if failed else ""}">{failed:,}</span> <small>of {scores:,}</small>'),
    ]
    if absent:
        facts.append(("do not apply", f"{absent:,}"))
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    names = ", ".join(text(column.name, NAME_CHARS) for column in run.columns)
    trouble = (
        f'<p class="absent">Without pictures and prompts: {text(run.trouble)}.</p>' if run.trouble else ""
    )
    return (
        f'<header><h1 dir="auto">{text(title)}</h1>'
        f'<p class="meta"><time>{date(run.created)}</time> \u00b7 {names}</p>'
        f'<dl class="facts">{shown}</dl>{trouble}</header>'
    )


def _summary(run: Run) -> str:
    heads = ("reward", "scored", "mean", "95 % interval", "min", "median", "max", "distribution", "no value")
    rows = [_summary_row(column) for column in run.columns]
    draws = num_draws(len(run.ids))
    resamples = f"{draws:,}{' or more' if draws < DRAWS else ''} resamples"
    caption = (
        "Every figure is over the samples that have a value. Intervals: percentile bootstrap over samples, "
        f"{resamples}, fixed seed. A failed score is never a number, so it is in none of them."
    )
    return f'<section><h2 id="summary">Rewards</h2>{table(caption, heads, rows)}</section>'


def _summary_row(column: Column) -> list[str]:
    ok, n = column.ok, len(column.values)
    lower = "" if column.higher_is_better else ' <small class="tag">lower is better</small>'
    combined = ' <small class="tag">combined</small>' if column.combined else ""
    spread = (ok.mean(), ok.min(), np.median(ok), ok.max()) if len(ok) else (float("nan"),) * 4
    mean, low, median, high = (number(float(value)) for value in spread)
    between = interval(mean_interval(ok)) if len(ok) >= 2 else f"n = {len(ok)}: none"
    lost = ", ".join(f"{n:,} {told(status)}" for status, n in column.failures.most_common())
    return [
        f"{text(column.name, NAME_CHARS)}{lower}{combined}",
        f"{len(ok):,} of {n:,} <small>{_percent(len(ok), n)}</small>",
        f"<b>{mean}</b>",
        between,
        low,
        median,
        high,
        histogram(ok, column.bounds) or number(float("nan")),
        f'<span class="{"bad" if set(column.failures) - {"na"} else ""}">{lost or "0"}</span>',
    ]


def _agreements(run: Run, reference: Column) -> str:
    """Spearman's rho of every other column with the reference."""
    heads = ("reward", "rho", "95 % interval", "-1 to 1", "n")
    others = [column for column in run.columns if column is not reference]
    rows = [
        _agreement_row(column, agreement(column.values, reference.values), reference) for column in others
    ]
    if not rows:
        return ""
    caption = (
        f"Spearman rank correlation with {reference.name}, over the samples where both have a value. "
        "Undefined when either is constant or fewer than 3 samples have both."
    )
    heading = f'<h2 id="agreement">Agreement with {text(reference.name, NAME_CHARS)}</h2>'
    return f'<section class="narrow">{heading}{table(caption, heads, rows)}</section>'


def _agreement_row(column: Column, found: Agreement, reference: Column) -> list[str]:
    same = column.higher_is_better == reference.higher_is_better
    turned = "" if same else ' <small class="tag">runs the other way</small>'
    name = f"{text(column.name, NAME_CHARS)}{turned}"
    if found.rho is None:
        return [name, "undefined", number(float("nan")), number(float("nan")), f"{found.n:,}"]
    drawing = whisker(found.rho, found.interval)
    return [name, f"<b>{number(found.rho)}</b>", interval(found.interval), drawing, f"{found.n:,}"]


def _extremes(run: Run, best: Sequence[str], worst: Sequence[str]) -> str:
    if not best:
        return ""
    rows = ""
    for title, names in (("Best", best), ("Worst", worst)):
        cards = "".join(small_card(run, name) for name in names)
        rows += f'<h3 class="row">{title} {len(names)}</h3><div class="few">{cards}</div>'
    explained = (
        "By total: each reward's values become ranks within this run (0 worst, 1 best), averaged over the "
        "rewards that have a value. A sample with values from fewer than half of the rewards is not ranked."
    )
    return f'<section><h2 id="extremes">Best and worst</h2><p class="lead">{explained}</p>{rows}</section>'


def _gallery(run: Run, limit: int) -> str:
    shown = min(limit, len(run.ids))
    cards = "".join(card(run, index) for index in range(shown))
    hidden = len(run.ids) - shown
    left_out = (
        f" {count(hidden, 'further sample')} not shown (limit {limit}) but counted above." if hidden else ""
    )
    explained = (
        f"{count(shown, 'sample')} in the order of the run.{left_out} Bars span each reward's range, "
        "or the run's smallest to largest value where the range is infinite or unknown; the tick on a bar is "
        "the run's mean. In a checklist, 1 is a right answer, or its probability when answers are soft."
    )
    return (
        f'<section><h2 id="samples">Samples</h2><p class="lead">{explained}</p>'
        f'{_controls(run) if shown > 1 else ""}<div id="cards" class="cards">{cards}</div></section>'
    )


def _controls(run: Run) -> str:
    """Sorting and filtering; hidden until the script shows them, so that without it nothing is dead."""
    options = '<option value="">run order</option><option value="0" data-sign="1">total</option>'
    for place, column in enumerate(run.columns, start=1):
        sign = 1 if column.higher_is_better else -1
        options += f'<option value="{place}" data-sign="{sign}">{text(column.name, NAME_CHARS)}</option>'
    return (
        f'<form id="controls" hidden><label>Sort by <select id="by">{options}</select></label>'
        '<label>from <select id="from"><option value="1">best</option><option value="-1">worst</option>'
        '</select></label><label><input type="checkbox" id="failures"> only with failures</label>'
        '<output id="shown"></output></form>'
    )


def _footer(run: Run) -> str:
    rows = [
        [
            text(column.name, NAME_CHARS),
            text(column.kind, NAME_CHARS),
            f'<code dir="auto">{text(_args(column), TEXT_CHARS)}</code>',
            _fingerprints(column),
        ]
        for column in run.columns
    ]
    command = run.about.get("command")
    words = " ".join(map(str, command)) if isinstance(command, list | tuple) else command
    ran = f"<p>Command: <code>{text(words, TEXT_CHARS)}</code></p>" if words else ""
    scored_by = run.about.get("version")
    scored = f", scored by mmreward {text(scored_by)}" if scored_by else ""
    source = f" Data: <code>{text(run.about['data'], TEXT_CHARS)}</code>." if run.about.get("data") else ""
    caption = (
        "A fingerprint stands for the reward, its arguments, weights, preprocessing and version: "
        "scores with equal fingerprints can be compared."
    )
    made = table(caption, ("name", "reward", "arguments", "fingerprint"), rows)
    return (
        f"<footer><h2>How it was made</h2>{made}"
        f"<p>Results: <code>{text(run.path.name)}</code>.{source}</p>{ran}"
        f"<p>{made_by()}{scored}.</p></footer>"
    )


def _fingerprints(column: Column) -> str:
    shown = ", ".join(f"<code>{text(one, NAME_CHARS)}</code>" for one in column.fingerprints[:4])
    if len(column.fingerprints) < 2:
        return shown
    return f'{shown} <span class="bad">{len(column.fingerprints)} versions mixed in one file</span>'


def _args(column: Column) -> str:
    return ", ".join(f"{name}={value}" for name, value in column.args.items()) or "defaults"


def _percent(part: int, whole: int) -> str:
    """Rounded down, so that 100 % means all."""
    return f"{int(1000 * part / whole) / 10:g} %" if whole else "0 %"
