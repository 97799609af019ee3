"""Temporal grounding: time spans of a video in the forms models write, and how far they overlap the true
ones."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import MAX_BOXES, Unscorable
from ...registry import reward
from ...types import Sample, Score
from ...verifiers.boxes import Matrix, best_match, number_of, ramp
from ...verifiers.lists import parse_list
from ...verifiers.response import Several, Verdict, expect_one, segment, verified_aside
from ...verifiers.text import nfkc

START, END = ("start", "start_time", "begin", "from"), ("end", "end_time", "stop", "to")
BOTH = ("span", "timestamp", "timestamps", "time", "segment")
UNIT = r"(?: ?(?:s|secs?|seconds?)\b)?"
TIME = rf"((?:\d{{1,3}}:)?\d{{1,2}}:\d{{1,2}}(?:\.\d{{1,6}})?|\d{{1,7}}(?:\.\d{{1,6}})?){UNIT}"
SPAN = re.compile(rf"(?:from |between )?{TIME} ?(?:-|~|to|until|and) ?{TIME}\.?")
CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2}(?:\.\d{1,6})?)")
DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")
MAX_PIECE = 80
MAX_SPANS = 1000


class Span(NamedTuple):
    """A time span in seconds, start before end."""

    start: float
    end: float


def read_spans(text: str) -> list[Span | None]:
    """Read the spans of an answer; None stands for one that is no time, or ends before it starts.

    Read are "12.5s - 20s", "1:02 to 1:10", "from 12 to 20 seconds", several of them on lines or between
    semicolons, and JSON: [12.5, 20], {"start": ..., "end": ...}, {"timestamp": [...]} and lists of those.
    Words around a span make it unreadable: a span taken from a sentence is a guess.

    Raises:
        Unscorable: "unparsable" when there are none; an empty list is none, and can be right.
    """
    if "[" in text or "{" in text:
        parsed = parse_list(text, only=True)
        spans = [*spans_of(parsed.items), *[None] * parsed.dropped]
        if len(spans) > MAX_SPANS:
            raise Unscorable(f"{len(spans)} time spans; {MAX_SPANS} are read at most", "unparsable")
        return spans
    pieces = [piece for line in text.splitlines() for piece in line.split(";") if piece.strip()]
    if not pieces:
        raise Unscorable("no time span in an empty answer", "unparsable")
    if len(pieces) > MAX_SPANS:
        raise Unscorable(f"{len(pieces)} time spans; {MAX_SPANS} are read at most", "unparsable")
    matches = [SPAN.fullmatch(_plain(piece)) if len(piece) <= MAX_PIECE else None for piece in pieces]
    if not any(matches):
        raise Unscorable(f"no time span in {text[:80]!r}", "unparsable")
    return [_span((match[1], match[2])) if match else None for match in matches]


def spans_of(items: Any) -> list[Span | None]:
    """Read spans from parsed items or a target: one of [start, end] and {"start": ..., "end": ...}, or a list
    of them; times are seconds or clock times such as "1:02"."""
    if isinstance(items, Mapping) or _is_pair(items):
        items = [items]
    if not isinstance(items, Sequence) or isinstance(items, str | bytes):
        return [None]
    return [_item(item) for item in items]


def _is_pair(value: Any) -> bool:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or len(value) != 2:
        return False
    return all(isinstance(part, int | float | str) for part in value)


def _item(item: Any) -> Span | None:
    if isinstance(item, Mapping):
        both = next((item[key] for key in BOTH if item.get(key) is not None), None)
        ends = [next((item[key] for key in keys if item.get(key) is not None), None) for keys in (START, END)]
        item = both if both is not None else ends
    return _span(item) if _is_pair(item) else None


def _span(pair: Sequence[Any]) -> Span | None:
    start, end = (seconds_of(value) for value in pair)
    return Span(start, end) if start is not None and end is not None and 0 <= start < end else None


def seconds_of(value: Any) -> float | None:
    """Read a time in seconds: 12.5, "12.5", "12.5s", "1:02" or "1:02:03"; None for anything else."""
    if not isinstance(value, str):
        return number_of(value)
    text = _plain(value[:MAX_PIECE]).removesuffix("s").strip()
    match = CLOCK.fullmatch(text)
    if match is None:
        return number_of(text)
    hours, minutes, seconds = float(match[1] or 0), float(match[2]), float(match[3])
    return 3600 * hours + 60 * minutes + seconds if seconds < 60 and (minutes < 60 or not hours) else None


def _plain(text: str) -> str:
    return " ".join(nfkc(text).translate(DASHES).casefold().split())


def t_iou(a: Span, b: Span) -> float:
    """Temporal intersection over union."""
    shared = min(a.end, b.end) - max(a.start, b.start)
    return shared / (max(a.end, b.end) - min(a.start, b.start)) if shared > 0 else 0.0


def t_ious(found: Sequence[Span | None], truth: Sequence[Span]) -> Matrix:
    """Temporal IoU of every found span with every true one, (found, true); 0 for one that could not be
    read."""
    rows = [[t_iou(span, other) if span else 0.0 for other in truth] for span in found]
    return np.array(rows, dtype=float).reshape(len(found), len(truth))


def _target_spans(target: Any) -> list[Span]:
    """Spans of a target; one that cannot be read is a fault of the data."""
    if isinstance(target, Sequence) and len(target) > MAX_BOXES:
        raise Unscorable(f"the target has {len(target)} spans; the limit is {MAX_BOXES}")
    spans = spans_of(target)
    truth = [span for span in spans if span is not None]
    if len(truth) < len(spans):
        raise Unscorable(
            f"a target span is not [start, end] in seconds with start < end: {str(target)[:200]}"
        )
    return truth


PARTS = ("t_iou", "precision", "recall", "found", "true")


@reward(
    "temporal",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2503.13377",
    example={"response": "<answer>12.5s - 20s</answer>", "target": [12.0, 20.0]},
)
def temporal(
    threshold: float = 1.0,
    width: float = 1.0,
    several: Several = "refuse",
    empty_decay: float = 0.5,
    bare: bool = False,
) -> Any:
    """Time spans of an answer against the true ones, by temporal IoU, 0 to 1.

    The answer is "12.5s - 20s", "1:02 to 1:10", [12.5, 20] or {"start": 12.5, "end": 20}, in seconds or clock
    times and with no other words. For one true span it is one span: several are worth 0 unless the first or
    the last is declared to count. For more the value is the F1 of the best one-to-one match. A span that ends
    before it starts matches nothing. Naming the whole video earns its overlap; with `threshold` 0.7 and
    `width` 0.4 it earns nothing where the event takes less than 0.3 of the video.

    Args:
        threshold: the temporal IoU from which a span counts in full.
        width: below the threshold, the span over which its worth falls to 0 (smoothstep).
        several: "refuse", "first" or "last".
        empty_decay: with no true spans the value is this to the power of the number of spans.
        bare: accept spans that are not inside `<answer>` tags.
    """
    if not 0 < threshold <= 1 or not 0 < width <= 1 or not 0 <= empty_decay < 1:
        raise ValueError(
            f"threshold {threshold} and width {width} lie in (0, 1], empty_decay {empty_decay} in [0, 1)"
        )

    async def score(sample: Sample) -> Score:
        truth = _target_spans(sample.target)

        def check() -> Verdict:
            spans = read_spans(segment(sample.response or "", bare=bare).answer)
            counted = [expect_one(spans, several, "span")] if len(truth) == 1 else spans
            overlap = t_ious(counted, truth)
            match = best_match(ramp(overlap, threshold, width), decay=empty_decay)
            matched = float(overlap[match.rows, match.columns].sum())
            parts = {
                "t_iou": matched / len(truth) if truth else float(not spans),
                "precision": match.precision,
                "recall": match.recall,
                "found": float(len(spans)),
                "true": float(len(truth)),
            }
            return Verdict(match.f1, parts)

        length = len(sample.response or "")
        return await verified_aside(check, PARTS, found=length, true=len(truth))

    return score
