"""Agents on a page: an episode as a strip of what its cameras saw, and a reward's curve over its frames.

What a GUI agent clicked in a step, and should have, is in `gui_steps`. Where a clip cannot be read, the
reason stands in the place of the drawing.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from mmreward.engine.clips import chosen
from mmreward.errors import Unscorable
from mmreward.media import Media
from mmreward.trajectories import picked, seen_in, views_of
from mmreward.types import Sample

from .gui_steps import short
from .html import number, text
from .pictures import MAX_SIDE, Marks, embedded, marked

FRAMES = 8
"""Frames of a strip."""
NAMED = re.compile(r"(?P<of>[a-z_]*?)_?frame_(?P<number>\d{1,7})")
WIDTH, HEIGHT, LEFT, EDGE, FOOT = 360.0, 96.0, 34.0, 8.0, 16.0


# --- curves -----------------------------------------------------------------------------------------------


def curves_in(parts: Mapping[str, float]) -> dict[str, dict[int, float]]:
    """Values by frame among the parts of a score: `frame_7` is that of frame 7, `success_frame_7` belongs to
    a curve called "success"."""
    found: dict[str, dict[int, float]] = {}
    for name, value in parts.items():
        if match := NAMED.fullmatch(name):
            found.setdefault(match["of"], {})[int(match["number"])] = value
    return found


def curve(values: Mapping[int, float], called: str = "") -> Markup:
    """A reward over the frames of an episode: a dot for each value.

    Args:
        values: by the number of the frame, finite.
        called: what they are.
    """
    numbers = sorted(values)
    low, high = min(values.values()), max(values.values())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low == high:
        low, high = low - 1, high + 1
    across = (WIDTH - LEFT - EDGE) / max(1, numbers[-1] - numbers[0])
    places = [
        (LEFT + (frame - numbers[0]) * across, EDGE + (high - values[frame]) / (high - low) * (HEIGHT - EDGE))
        for frame in numbers
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>frame {at}: {number(values[at])}</title></circle>'
        for at, (x, y) in zip(numbers, places, strict=True)
    )
    ends = "".join(
        f'<text class="y" x="{LEFT - 6:g}" y="{y + 4:g}">{text(number(value))}</text>'
        for value, y in ((high, EDGE), (low, HEIGHT))
    )
    ends += f'<text class="x first" x="{LEFT:g}" y="{HEIGHT + FOOT - 2:g}">{numbers[0]}</text>'
    ends += f'<text class="x last" x="{WIDTH - EDGE:g}" y="{HEIGHT + FOOT - 2:g}">{numbers[-1]}</text>'
    first, last = number(values[numbers[0]]), number(values[numbers[-1]])
    label = text(f"{called or 'value'} by frame: {first} at frame {numbers[0]}, {last} at {numbers[-1]}")
    end, box = WIDTH - EDGE, f"0 0 {WIDTH:g} {HEIGHT + FOOT:g}"
    grid = f'<path class="grid" d="M{LEFT:g} {EDGE:g}H{end:g}M{LEFT:g} {HEIGHT:g}H{end:g}"/>'
    return Markup(
        f'<figure class="episode"><svg viewBox="{box}" role="img" aria-label="{label}">'
        f'{grid}<polyline points="{line}"/>{dots}{ends}</svg>'
        f"<figcaption>{text(f'{called} by frame'.strip())}</figcaption></figure>"
    )


# --- strips -----------------------------------------------------------------------------------------------


class Shot(NamedTuple):
    """A frame of a strip: its picture, its number, and words about it; a step may be without a picture."""

    media: Media | None
    number: int
    words: str


def strips(
    sample: Sample, frames: Sequence[int] = (), wrong: int | None = None
) -> list[tuple[str, list[Shot]]]:
    """What each view of an episode saw, with its name: a few frames, the first and the last among them.

    Args:
        sample: its steps; without them its clip, of which only the frames that are named are shown.
        frames: numbers that a reward has values for.
        wrong: a step that is shown too.

    Raises:
        Unscorable: the clip cannot be opened.
    """
    if not any(True for _ in seen_in(sample.steps)):
        if sample.video is None or len(frames) < 2:
            return []
        wanted = [sorted(frames)[place] for place in picked(len(frames), str(FRAMES))]
        shots = chosen(sample.video, lambda total: [one for one in wanted if one < total])
        return [("", [Shot(shot, shot.number, "") for shot in shots])]
    rows = []
    for view in views_of(sample.steps):
        seen = [one for one in seen_in(sample.steps) if one.view == view]
        places = {*picked(len(seen), str(FRAMES))}
        few = [one for place, one in enumerate(seen) if place in places or one.step == wrong]
        rows.append((view, [Shot(one.media, one.step, _told(sample.steps[one.step])) for one in few]))
    return rows


def _told(step: Any) -> str:
    """Time, action and thought of a step."""
    said = []
    if isinstance(step.get("time"), int | float):
        said.append(f"{step['time']:g} s")
    given = [step.get(key) for key in ("action", "thought")]
    said += [short(one) for one in given if one not in (None, "", [], {})]
    return " \u00b7 ".join(said)


def strip(
    sample: Sample,
    frames: Sequence[int] = (),
    side: int = MAX_SIDE,
    done: Mapping[int, Marks] | None = None,
) -> Markup | str:
    """The strips of an episode as HTML; empty for a sample that is none. See `strips`.

    Args:
        sample: of the episode.
        frames: as in `strips`.
        side: longest, of a picture of a card; those of a strip have half of it.
        done: places that steps clicked and should have, and words, by their number; see `gui_steps`.
    """
    done = done or {}
    wrong = next((number for number, one in sorted(done.items()) if one.right is False), None)
    try:
        rows = strips(sample, frames, wrong)
    except Unscorable as failure:
        return Markup(f'<p class="absent">no frames: {text(failure)}</p>')
    if bare := _without_picture(sample, done):
        one = len(views_of(sample.steps)) == 1
        rows = [("", sorted((*rows[0][1], *bare), key=_number))] if one else [*rows, ("", bare)]
    drawn, kind = "", "strip screens" if done else "strip"
    for view, shots in rows:
        items = "".join(_item(one, side // 2, done.get(one.number)) for one in shots)
        drawn += f'<p class="small">{text(view)}</p>' if view else ""
        drawn += f'<ol class="{kind}">{items}</ol>'
    return Markup(drawn)


def _without_picture(sample: Sample, done: Mapping[int, Marks]) -> list[Shot]:
    """Steps that something is said of, and that have no picture: a few, the wrong ones before others."""
    seen = {one.step for one in seen_in(sample.steps)}
    bare = sorted(
        (number for number in done if number not in seen), key=lambda at: (done[at].right is not False, at)
    )
    told = {number: step for number, step in enumerate(sample.steps) if isinstance(step, Mapping)}
    return [Shot(None, at, _told(told[at]) if at in told else "") for at in sorted(bare[:FRAMES])]


def _number(shot: Shot) -> int:
    return shot.number


def _item(shot: Shot, side: int, done: Marks | None) -> str:
    """A frame of a strip: its picture, its number and words."""
    alt, picture = f"frame {shot.number}", ""
    if shot.media is not None:
        drawn = embedded(shot.media, side, alt) if done is None else marked(shot.media, alt, side, done)
        picture = f'<div class="picture">{drawn}</div>'
    words = [shot.words] if shot.words else []
    kind = ""
    if done is not None:
        words += done.words
        if done.right is not None:
            kind = ' class="right"' if done.right else ' class="wrong"'
    told = "".join(f"<p>{text(one)}</p>" for one in words)
    return f'<li{kind}>{picture}<p class="id">{shot.number}</p>{told}</li>'
