"""Samples, media, scores and tables as a notebook shows them: small HTML, with every value escaped.

The classes themselves call these in `_repr_html_` and `_repr_png_`. Colours are the notebook's own, so that a
dark one stays dark.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from .errors import Unscorable
from .trajectories import seen_in, told

if TYPE_CHECKING:
    from .media import Media
    from .types import Sample, Score

SIDE = 384
"""Longest side of a picture that is shown."""
CHARS = 600
"""Characters of a text that are shown."""


def text(value: object, limit: int = CHARS) -> str:
    """A value as HTML text, shortened."""
    words = str(value)
    return escape(words if len(words) <= limit else f"{words[:limit]}\u2026")


def number(value: float) -> str:
    """Four significant places; a dash for what is no number."""
    return f"{value:.4g}" if math.isfinite(value) else "\u2013"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """A table of texts, and lines beneath it."""
    heads = "".join(f"<th>{text(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    beneath = "".join(f"<div>{text(note)}</div>" for note in notes)
    head_row = f"<thead><tr>{heads}</tr></thead>"
    return f'<table style="text-align:left">{head_row}<tbody>{body}</tbody></table>{beneath}'


def png(media: "Media") -> bytes | None:
    """The picture, or a clip's first frame, as a small PNG; None for one that cannot be read."""
    try:
        picture = media.picture()
    except Unscorable:
        return None
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def media_html(media: "Media") -> str:
    """The picture, or the reason why there is none."""
    try:
        media.picture()
    except Unscorable as error:
        return f"<div><i>no picture: {text(error)}</i></div>"
    encoded = base64.b64encode(png(media) or b"").decode()
    clip = f"<div><i>clip of {media.frames} frames, the first</i></div>" if media.kind == "video" else ""
    return f'<img alt="{text(repr(media), 120)}" src="data:image/png;base64,{encoded}">{clip}'


def sample_html(sample: "Sample") -> str:
    """The pictures of a sample above its other fields."""
    # Of a trajectory the first step's pictures and the last one's; the fields say how many there are.
    seen = list(seen_in(sample.steps))
    ends = [one for one in seen if one.step in (seen[0].step, seen[-1].step)]
    media = [*(each for each in (sample.image, sample.video) if each is not None), *sample.inputs]
    media += [one.media for one in ends]
    fields: Mapping[str, Any] = {
        name: getattr(sample, name)
        for name in ("id", "prompt", "response", "target", "source", "group", "steps", "meta")
        if getattr(sample, name) not in ("", None, (), {})
    }
    if sample.steps:
        fields = {**fields, "steps": told(sample.steps, str)}
    return "".join(map(media_html, media)) + table(("field", "value"), list(fields.items()))


def score_html(score: "Score") -> str:
    """The value, or the status of a failure; note and parts beneath."""
    value = number(score.value) if score.ok else score.status
    note = f"<div>{text(score.note)}</div>" if score.note else ""
    parts = [(name, number(part)) for name, part in score.parts.items()]
    return f"<b>{text(value)}</b>{note}" + (table(("part", "value"), parts) if parts else "")
