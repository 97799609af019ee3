"""Rendering and escaping of a page: Jinja templates, numbers in words, small drawings.

Every value that a template shows goes through `text`, which shortens, cleans and escapes it; only what is
`Markup` already is left alone. A page is one document with its style and script inside, which reaches for
nothing. Knows nothing of samples or scores.
"""

import html
import math
import re
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from markupsafe import Markup

from mmreward.files import whole_file
from mmreward.monitor.intervals import Array, Interval

NAME_CHARS = 120
LINE_CHARS = 300
PROMPT_CHARS = 600
TEXT_CHARS = 4000
WHOLE_CHARS = 20_000
BINS = 24
TEMPLATES = Path(__file__).parent / "templates"
INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, direction overrides and lone surrogates: shown as a replacement character."""

# --- words and numbers --------------------------------------------------------------------------------------


def text(value: object, limit: int = LINE_CHARS) -> Markup:
    """Any text as HTML text: shortened, without control characters, escaped for elements and attributes."""
    words = str(value)
    kept = words if len(words) <= limit else words[:limit]
    clean = INVISIBLE.sub("\ufffd", kept.replace("\r\n", "\n").replace("\r", "\n"))
    cut = f" \u2026 [shortened from {len(words):,} characters]" if limit > NAME_CHARS else "\u2026"
    shortened = cut if len(words) > limit else ""
    return Markup(html.escape(clean + shortened))


def number(value: float) -> str:
    """Three significant places for a reader; a dash for what is no number."""
    if not math.isfinite(value):
        return "\u2013"
    if value == 0 or 1e-3 <= abs(value) < 1000:
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return f"{value:.3g}"


def count(things: int, noun: str, plural: str = "") -> str:
    """ "1 sample", "1,200 samples"."""
    return f"{things:,} {noun if things == 1 else plural or noun + 's'}"


def status_words(status: str) -> str:
    """A status in words."""
    return "does not apply" if status == "na" else status.replace("_", " ")


def interval(given: Interval | None) -> str:
    """The ends of an interval, or why there is none."""
    return f"{number(given.low)} to {number(given.high)}" if given is not None else "too few samples"


def date(stamp: str) -> str:
    """An ISO 8601 moment in words; as it is where it is none."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".strip()


def names(given: Sequence[str]) -> Markup:
    """Names, separated by commas."""
    return Markup(", ").join(text(name, NAME_CHARS) for name in given)


# --- small drawings -----------------------------------------------------------------------------------------


def bar(value: float, span: tuple[float, float], mean: float | None = None) -> Markup:
    """A horizontal bar from 0 (or the nearer end of the span) to the value, with a tick at the run's mean."""
    zero, end = _share(0.0, span), _share(value, span)
    left, width = min(zero, end), abs(end - zero)
    tick = f'<i class="mean" style="left:{_share(mean, span):.1f}%"></i>' if mean is not None else ""
    axis = f'<i class="zero" style="left:{zero:.1f}%"></i>' if 0 < zero < 100 else ""
    fill = f'<i class="fill" style="left:{left:.1f}%;width:{width:.1f}%"></i>'
    return Markup(f'<span class="bar" aria-hidden="true">{axis}{fill}{tick}</span>')


def histogram(values: Array, bounds: tuple[float, float] | None) -> Markup | str:
    """Counts over the range, or over what the values span where that is less than a fifth of the range."""
    if not len(values):
        return number(math.nan)
    low, high = float(values.min()), float(values.max())
    if bounds is not None and high - low >= 0.2 * (bounds[1] - bounds[0]):
        low, high = min(bounds[0], low), max(bounds[1], high)
    if not low < high:
        return Markup(f'<span class="small">all {number(low)}</span>')
    counts = _counts(values, low, high)
    width, height = 120, 30
    step = width / len(counts)
    bars = "".join(
        f'<rect x="{i * step:.2f}" y="{height - tall:.2f}" width="{step - 0.8:.2f}" height="{tall:.2f}"/>'
        for i, tall in ((i, max(1.2, height * c / max(counts))) for i, c in enumerate(counts) if c)
    )
    label = f"histogram of {len(values)} values from {number(low)} to {number(high)}"
    drawing = (
        f'<svg class="histogram" viewBox="0 0 {width} {height + 1}" role="img" aria-label="{label}">{bars}'
        f'<path d="M0 {height + 0.5}H{width}"/></svg>'
    )
    ends = f'<span class="ends"><span>{number(low)}</span><span>{number(high)}</span></span>'
    return Markup(f'<span class="plot">{drawing}{ends}</span>')


def whisker(value: float, given: Interval | None) -> Markup:
    """A value in [-1, 1] as a dot on an axis through 0, with its interval as a line."""

    def x(at: float) -> float:
        return 5 + 110 * _share(at, (-1.0, 1.0)) / 100

    line = f'<path class="line" d="M{x(given.low):.1f} 9H{x(given.high):.1f}"/>' if given is not None else ""
    return Markup(
        '<svg class="whisker" viewBox="0 0 120 18" aria-hidden="true"><path d="M5 9H115M60 3V15"/>'
        f'{line}<circle cx="{x(value):.1f}" cy="9" r="4"/></svg>'
    )


def _share(value: float, span: tuple[float, float]) -> float:
    """The place of a value in a span, in percent, held inside it."""
    low, high = span
    share = (value / 2 - low / 2) / (high / 2 - low / 2)  # halves, so that the widest span stays finite
    return 100 * min(max(share, 0.0), 1.0)


def _counts(values: Array, low: float, high: float) -> list[int]:
    counts = [0] * BINS
    for value in values:
        counts[min(int(_share(value, (low, high)) / 100 * BINS), BINS - 1)] += 1
    return counts


# --- templates ----------------------------------------------------------------------------------------------


class Joined(Extension):
    """Templates without the line breaks between tags, which lay out the template and not the page."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        return re.sub(r"(?<=[>}])\n\s*(?=[<{])", "", source)


def _finalize(value: Any) -> Markup:
    return value if isinstance(value, Markup) else text(value)


FILTERS = (text, number, interval, date, names, count, status_words, bar, whisker)
_PAGES = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=True,
    finalize=_finalize,
    undefined=StrictUndefined,
    extensions=[Joined],
)
_PAGES.filters |= {f.__name__: f for f in FILTERS}
_PAGES.globals |= {"NAME": NAME_CHARS, "PROMPT": PROMPT_CHARS, "TEXT": TEXT_CHARS, "WHOLE": WHOLE_CHARS}
_PAGES.globals["made_by"] = f"Page by mmreward {version('mmreward')}"


def render(template: str, styles: Sequence[str] = ("report.css",), **shown: Any) -> str:
    """The document that a template makes of these values; the style sheets lie beside the template."""
    style = Markup("\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in styles))
    document = _PAGES.get_template(template).render(style=style, contents=CONTENTS, **shown)
    return document.replace(CONTENTS, _contents(document), 1)


CONTENTS = Markup("<!--contents-->")
"""The place of the list of contents; no text from outside can hold it, as it is escaped."""
HEADING = re.compile(r'<h2 id="([\w-]+)">(.*?)</h2>', re.DOTALL)


def _contents(document: str) -> str:
    """Links to the sections of a page that has some."""
    found = [(name, " ".join(TAGS.sub(" ", title).split())) for name, title in HEADING.findall(document)]
    if len(found) < LEAST_SECTIONS:
        return ""
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title in found)
    return f'<nav class="contents" aria-label="contents">{links}</nav>'


TAGS = re.compile(r"<[^>]*>")
LEAST_SECTIONS = 3


def write_page(out: Path | None, usual: Path, document: str) -> Path:
    """Write a page whole or not at all, to `out` or else its usual place, and return where it is.

    Raises:
        ValueError: `out` is no .html file.
    """
    target = page_at(Path(out) if out is not None else usual)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as part:
        part.write_text(document, encoding="utf-8")
    return target


def page_at(target: Path) -> Path:
    """The place of a page, as it was given.

    Raises:
        ValueError: it is no .html file.
    """
    if target.suffix not in (".html", ".htm"):
        raise ValueError(f"the page goes to a .html file, not {target.name!r}")
    return target
