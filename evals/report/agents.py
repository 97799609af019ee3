"""Agents on a page: an episode as a strip of what its cameras saw, a reward's curve over its frames, and the
clicks of a GUI step over the element that was meant.

Where a response or target cannot be read, the reason stands in the place of the drawing.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from mmreward.engine.clips import chosen
from mmreward.errors import Unscorable
from mmreward.media import Media
from mmreward.rewards.gui.click import clicked
from mmreward.rewards.gui.targets import gold_of, target_of, view_of
from mmreward.trajectories import picked, seen_in, views_of
from mmreward.types import Sample
from mmreward.verifiers.actions import Point, read_actions
from mmreward.verifiers.boxes import Box
from mmreward.verifiers.spaces import space_of

from .html import number, text
from .pictures import MAX_SIDE, Marks, embedded

FRAMES = 8
"""Frames of a strip."""
WORDS = 90
"""Characters of an action or a thought beneath a frame."""
ACTIONS = ("gui_action", "gui_step")
CLICKS = ("click", "gui_grounding", *ACTIONS)
"""Rewards whose responses hold a place on the picture."""
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
    """A frame of a strip: its picture, its number, and words about it."""

    media: Media
    number: int
    words: str


def strips(sample: Sample, frames: Sequence[int] = ()) -> list[tuple[str, list[Shot]]]:
    """What each view of an episode saw, with its name: a few frames, the first and the last among them.

    Args:
        sample: its steps; without them its clip, of which only the frames that are named are shown.
        frames: numbers that a reward has values for.

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
        few = [seen[place] for place in picked(len(seen), str(FRAMES))]
        rows.append((view, [Shot(one.media, one.step, _told(sample.steps[one.step])) for one in few]))
    return rows


def _told(step: Any) -> str:
    """Time, action and thought of a step."""
    said = []
    if isinstance(step.get("time"), int | float):
        said.append(f"{step['time']:g} s")
    given = [step.get(key) for key in ("action", "thought")]
    said += [_short(one) for one in given if one not in (None, "", [], {})]
    return " \u00b7 ".join(said)


def _short(value: Any) -> str:
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return words if len(words) <= WORDS else words[: WORDS - 1] + "\u2026"


def strip(sample: Sample, frames: Sequence[int] = (), side: int = MAX_SIDE) -> Markup | str:
    """The strips of an episode as HTML; empty for a sample that is none. See `strips`."""
    try:
        rows = strips(sample, frames)
    except Unscorable as failure:
        return Markup(f'<p class="absent">no frames: {text(failure)}</p>')
    drawn = ""
    for view, shots in rows:
        items = "".join(
            f'<li><div class="picture">{embedded(one.media, side // 2, f"frame {one.number}")}</div>'
            f'<p class="id">{one.number}</p>' + (f"<p>{text(one.words)}</p></li>" if one.words else "</li>")
            for one in shots
        )
        drawn += f'<p class="small">{text(view)}</p>' if view else ""
        drawn += f'<ol class="strip">{items}</ol>'
    return Markup(drawn)


# --- clicks -----------------------------------------------------------------------------------------------


def marks(sample: Sample, kind: str, args: Mapping[str, Any]) -> Marks:
    """Where a response clicks and what it should have clicked, by the arguments of the reward that says so.

    Args:
        sample: with response and target.
        kind: the reward, one of `CLICKS`.
        args: its arguments.
    """
    space = space_of(args.get("space", "norm_1000"))
    truth = space_of(args.get("target_space", "norm_1000"))
    words: list[str] = []
    points: list[Point] = []
    boxes: list[Box] = []
    try:
        if kind in ACTIONS:
            actions = read_actions(sample.response or "", view_of(space, sample))
            points = [action.point for action in actions if action.point is not None]
            words += [f"read as {_short(action.facts())}" for action in actions[:3]]
        else:
            found = clicked(sample.response or "", space, sample)
            points = [point for point in found.points if point is not None]
            words += ["read as a refusal"] if found.refused else []
    except Unscorable as failure:
        words.append(f"no place in the response: {failure}")
    try:
        if kind in ACTIONS:
            gold = gold_of(sample.target, truth, sample)
            boxes = list(gold.boxes)
            words += [f"right: {_short(action.facts())}" for action in gold.actions[:3]]
        else:
            target = target_of(sample, truth, radius=0.05)
            boxes = target.boxes
            words += ["right: nothing is to be clicked"] if target.refusal else []
    except Unscorable as failure:
        words.append(f"the target is not drawn: {failure}")
    inside = [point for point in points if math.isfinite(point.x) and point.inside]
    if len(inside) < len(points):
        words.append(f"{len(points) - len(inside)} beside the picture")
    return Marks(inside, boxes, words)
