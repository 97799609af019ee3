"""Temporal grounding: time spans of a video in the forms models write, and how far they overlap the true
ones."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...errors import Unscorable
from ...limits import limits, most
from ...registry import reward
from ...tracing import heard, noted
from ...types import Sample, Score
from ...verifiers.boxes import Matrix, best_match, note_match, number_of, ramp
from ...verifiers.coordinates import plain_key
from ...verifiers.lists import found_lists
from ...verifiers.markup import bounded
from ...verifiers.response import Several, Verdict, expect_one, segment, verified_aside
from ...verifiers.text import nfkc
from ...verifiers.wording import OR, plain, says_nothing

STARTS = (
    *("start", "starttime", "starttimestamp", "startsec", "startsecond", "startseconds", "startframe"),
    *("begin", "begintime", "beginning", "from", "tstart", "timestart", "startt", "onset", "t0", "t1", "in"),
)
ENDS = (
    *("end", "endtime", "endtimestamp", "endsec", "endsecond", "endseconds", "endframe", "stop", "finish"),
    *("stoptime", "finishtime", "to", "tend", "timeend", "endt", "offset", "t1", "t2", "out"),
)
BOTH = (
    *("span", "timespan", "timestamp", "timestamps", "time", "times", "segment", "interval", "timeinterval"),
    *("window", "range", "timerange", "period", "frames", "timewindow"),
)
NUMBER = r"\d{1,7}(?:\.\d{1,6})?"
ENDING = r"(?![a-z0-9_])"
HOURS, MINUTES, SECONDS = (
    rf" ?(?:{names}){ENDING}" for names in ("h|hrs?|hours?", "m|mins?|minutes?", "s|secs?|seconds?")
)
AND = r"(?: |, ?| and )?"
TIME = re.compile(
    r"(?<![a-z0-9_.:])(?P<lead>(?:seconds?|secs?|t ?=) ?)?(?:"
    r"(?P<clock>(?:\d{1,3}:)?\d{1,3}:\d{1,2}(?:[.,]\d{1,6})?)"
    r"|(?:(?P<h1>\d{1,3})h)?(?P<m1>\d{1,3})m(?P<s1>\d{1,2}(?:\.\d{1,6})?)s"
    rf"|(?P<h2>{NUMBER}){HOURS}(?:{AND}(?P<m2>{NUMBER}){MINUTES})?(?:{AND}(?P<s2>{NUMBER}){SECONDS})?"
    rf"|(?P<m3>{NUMBER}){MINUTES}(?:{AND}(?P<s3>{NUMBER}){SECONDS})?"
    rf"|(?P<number>{NUMBER})(?P<unit>{SECONDS})?"
    r")(?![a-z0-9_:%]|\.\d)"
)
JOINT = re.compile(r"-{1,3}|(?:to|until|till|through|up to)(?: the)?")
WEAK = re.compile(r"(?:,|and|&)?")
"""Text between two times that is a span's only where nothing else can be meant."""
OPENER = re.compile(
    r"(?:\b(?:between|from|in|is|spans?|intervals?|segments?|range|timestamps?|times?|answer)|:)$"
)
BARE = re.compile(r"(?:(?:from|between|in|at|during|of|the|is|seconds?|secs?|s|answer|final|:|\.|,|-|#)\s*)*")
"""Words around a span that say nothing else."""
KEYED = re.compile(
    r"(?<![a-z])(?P<key>start|begin|end|stop|finish)(?:s|ning|ing)?[ _]?(?:time|timestamp|point)?s?"
    r"(?: ?(?:in )?(?:s|secs?|seconds?))? ?(?::|=|\bis\b|\bat\b)(?: at| around)? ?"
)
ABOUT = re.compile(
    r"\b(?:happen(?:s|ed|ing)?|occur(?:s|red|ring)?|takes? place|events?|time|timestamps?|segments?|query"
    r"|moments?|intervals?|spans?|clips?|answer|duration|during|video|lasts?)\b"
)
"""Words that say that a sentence's numbers are times; without one, a unit does."""
SPELLINGS = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212~\u301c\uff5e", " - "),
    **dict.fromkeys(("-->", "->", "=>", "\u2192", "\u21d2", "\u5230", "\u81f3"), " to "),
    **{"\u79d2\u949f": "s ", "\u79d2": "s ", "\u5206\u949f": "m ", "\u5206": "m ", "\u5c0f\u65f6": "h "},
    **{"\u4ece": " from ", "\u7b2c": " ", "\u5e27": " frames ", "\u65f6\u95f4": " time ", "\u4e3a": " is "},
    **{
        "\u5f00\u59cb": " start ",
        "\u8d77\u59cb": " start ",
        "\u7ed3\u675f": " end ",
        "\u7ec8\u6b62": " end ",
    },
    **{"\u3002": ". ", "\u548c": " and ", "\u6216": " or ", "\u8fd8\u662f": " or ", "\u662f": " is "},
    **{"\u6301\u7eed": " ", "\u2032\u2032": "s ", "\u2032": "m ", "...": " - ", "..": " - ", "\u2026": " - "},
    **{"\\boxed": " ", "\\text": " "},
}
SPELLED = re.compile("|".join(sorted(map(re.escape, SPELLINGS), key=len, reverse=True)))
DRESS = re.compile(r"</?[a-z_|]{1,30}>|[*`\"'\\$\[\](){}<>]")
NUMBERED = re.compile(r"(?:[-*#>]{1,6} +|\(?\d{1,3}[.)] +)+")
COLON = re.compile(r"(?<!\d):(?=\d)")
ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")
FRAMES = re.compile(r"\bframes?\b ?(?:no\.?|#)?")
MAX_PIECE = 400
MAX_DEPTH = 8


class Span(NamedTuple):
    """A time span in seconds, start before end."""

    start: float
    end: float


class _Time(NamedTuple):
    """A time in a text: its seconds (None for one that is none, as 1:75), its unit, and where it stands."""

    seconds: float | None
    unit: str
    start: int
    end: int


def read_spans(text: str, *, fps: float | None = None) -> list[Span | None]:
    """Read the spans of an answer; None stands for one that is no time, or ends before it starts.

    Read are "12.5s - 20s", "1:02 to 1:10", "1m2s --> 1m10s", "00:01:02,000 --> 00:01:10,000", "<12> to <20>",
    "Start: 12, end: 20", a sentence that says that its two numbers are times, several of them on lines or
    between semicolons, JSON: [12.5, 20], {"start": ..., "end": ...}, {"timestamp": [...]}, lists and lines of
    those, and the same in Chinese.

    Args:
        text: a model's answer.
        fps: frames per second of answers that count frames ("frame 30 to frame 60"); None refuses these.

    Raises:
        Unscorable: "unparsable" when there are none, and for alternatives; an empty list, or the words for it
            ("None"), is none and can be right.
    """
    text = plain(text)
    if says_nothing(text):
        return []
    listed = _listed(text, fps) if "[" in text or "{" in text else None
    if listed is not None and (not listed or any(listed)):
        return listed
    lines = [line for line in text.splitlines() if any(map(str.isdecimal, line))]
    if any("-->" in line for line in lines):
        lines = [line for line in lines if "-->" in line]  # SRT has numbers and words on lines of their own
    pieces = [_plain(piece, fps) for line in lines for piece in line.split(";") if piece.strip()]
    if len(pieces) > limits().boxes:
        raise Unscorable(f"{len(pieces)} time spans; the limit is {most('boxes')}", "unparsable")
    keyed = _keyed(" ".join(pieces))
    read = [keyed] if keyed else [_of_piece(piece) for piece in pieces]
    if not any(read):
        if listed is not None:
            return listed
        raise Unscorable(f"no time span in {text[:80]!r}", "unparsable")
    return [span for spans in read for span in spans or [None]]


def _listed(text: str, fps: float | None) -> list[Span | None] | None:
    """Spans of a text's lists and objects together; None where it has none."""
    spans: list[Span | None] = []
    end = counted = 0
    for found in found_lists(text):
        if counted and OR.search(text[end : found.start]):
            raise Unscorable("alternatives where one answer is expected", "unparsable")
        spans += [*spans_of(found.value, fps=fps), *[None] * found.dropped]
        counted += 1
        end = found.end
    return spans if counted else None


def spans_of(items: Any, *, fps: float | None = None, depth: int = 0) -> list[Span | None]:
    """Read spans from parsed items or a target: one of [start, end] and {"start": ..., "end": ...} under the
    usual names, or a list of them; times are seconds, clock times such as "1:02", or "12 s"."""
    if hasattr(items, "tolist"):
        items = items.tolist()
    if depth > MAX_DEPTH or isinstance(items, str | bytes):
        return [None]
    if isinstance(items, Mapping):
        return _of_mapping(items, fps, depth)
    if not isinstance(items, Sequence):
        return [None]
    if _is_pair(items):
        span = _span(items)
        inside = [] if span else [_of_piece(_plain(part, fps)) for part in items if isinstance(part, str)]
        return [span] if span or not any(inside) else [one for spans in inside for one in spans or [None]]
    spans: list[Span | None] = []
    for item in items:
        if isinstance(item, str):
            spans += _of_piece(_plain(item, fps)) or [None]
        else:
            spans += spans_of(item, fps=fps, depth=depth + 1)
    return spans


def _of_mapping(item: Mapping[Any, Any], fps: float | None, depth: int) -> list[Span | None]:
    keys = {plain_key(key): value for key, value in item.items() if value is not None}
    start = next((key for key in STARTS if key in keys), None)
    end = next((key for key in ENDS if key in keys and key != start), None)
    if start and end:
        if not start.endswith("frame"):
            return [_span((keys[start], keys[end]))]
        first, last = number_of(keys[start]), number_of(keys[end])
        return [None if fps is None or first is None or last is None else _span((first / fps, last / fps))]
    if start and "duration" in keys:
        first, length = seconds_of(keys[start]), seconds_of(keys["duration"])
        return [_span((first, first + length)) if first is not None and length is not None else None]
    for key in BOTH:
        if isinstance(keys.get(key), str):
            return _of_piece(_plain(keys[key], fps)) or [None]
        if key in keys:
            return spans_of(keys[key], fps=fps, depth=depth + 1)
    inner = [value for value in keys.values() if isinstance(value, Mapping | list | tuple)]
    read = [spans_of(value, fps=fps, depth=depth + 1) for value in inner]
    good = [spans for spans in read if any(spans)]
    if good or not item or (read and not any(read)):  # {"events": []} has none
        return [span for spans in good for span in spans]
    return [None]


def _is_pair(value: Any) -> bool:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or len(value) != 2:
        return False
    return all(isinstance(part, int | float | str) for part in value)


def _span(pair: Sequence[Any]) -> Span | None:
    start, end = (seconds_of(value) for value in pair)
    return Span(start, end) if start is not None and end is not None and 0 <= start < end else None


def seconds_of(value: Any) -> float | None:
    """Read a time in seconds: 12.5, "12.5", "12.5 s", "1:02", "1:02:03" or "1m2s"; None for anything else."""
    if not isinstance(value, str):
        return number_of(value)
    times = list(_times(_plain(value[:MAX_PIECE], None)))
    text = _plain(value[:MAX_PIECE], None)
    return times[0].seconds if len(times) == 1 and (times[0].start, times[0].end) == (0, len(text)) else None


def _plain(text: str, fps: float | None) -> str:
    """A line in lower case, with its Chinese time words, dashes and arrows spelled in one way, without
    brackets and marks; the numbers of one that counts frames are brought to seconds by `fps`."""
    text = SPELLED.sub(lambda match: SPELLINGS[match[0]], nfkc(text).casefold())
    text = ORDINAL.sub("", COLON.sub(": ", " ".join(DRESS.sub(" ", text).split())))
    if fps is not None and FRAMES.search(text):
        text = re.sub(rf"(?<![\d.:]){NUMBER}", lambda frame: f"{float(frame[0]) / fps:.6f}", text)
        text = " ".join(FRAMES.sub(" ", text).split())
    return text


def _times(text: str) -> Iterator[_Time]:
    for match in TIME.finditer(text):
        part = match.groupdict()
        if part["clock"]:
            clock = [float(piece) for piece in part["clock"].replace(",", ".").split(":")]
            seconds = sum(piece * 60**power for power, piece in enumerate(reversed(clock)))
            wrong = clock[-1] >= 60 or (len(clock) == 3 and clock[1] >= 60)
            yield _Time(None if wrong else seconds, "clock", match.start(), match.end())
            continue
        if part["number"]:
            unit = "s" if part["unit"] or part["lead"] else ""
            yield _Time(float(part["number"]), unit, match.start(), match.end())
            continue
        hours, minutes, seconds = (
            float(next((part[f"{unit}{way}"] for way in "123" if part.get(f"{unit}{way}")), 0))
            for unit in "hms"
        )
        unit = "hours" if hours and not minutes + seconds else "minutes" if minutes and not seconds else "s"
        yield _Time(3600 * hours + 60 * minutes + seconds, unit, match.start(), match.end())


def _of_piece(text: str) -> list[Span | None]:
    """Spans of one line; empty where it has not the shape of spans, or offers alternatives."""
    if len(text) > MAX_PIECE or OR.search(text) or FRAMES.search(text):
        return []
    numbering = NUMBERED.match(text)
    text = text[numbering.end() :] if numbering and len(list(_times(text[numbering.end() :]))) > 1 else text
    times = list(_times(text))
    if not times or len(times) % 2:
        return []
    joints = [text[a.end : b.start].strip() for a, b in zip(times[::2], times[1::2], strict=True)]
    before, after = text[: times[0].start], text[times[-1].end :]
    if before.endswith("-") and (len(before) < 2 or before[-2] == " "):
        return []  # a negative time
    words = not (BARE.fullmatch(before) and BARE.fullmatch(after.strip()))
    if words and not (any(time.unit for time in times) or ABOUT.search(text)):
        return []
    weak = len(times) == 2 and WEAK.fullmatch(joints[0]) and (not words or OPENER.search(before.strip()))
    if not weak and not all(map(_joins, joints)):
        return []
    return [_between(a, b) for a, b in zip(times[::2], times[1::2], strict=True)]


def _joins(joint: str) -> bool:
    return JOINT.fullmatch(joint.removeprefix(",").removeprefix("and ").strip()) is not None


def _between(first: _Time, last: _Time) -> Span | None:
    """Span of two times; a unit behind both ("1 to 2 minutes") is that of both."""
    scale = {"minutes": 60.0, "hours": 3600.0}.get(last.unit, 1.0) if not first.unit else 1.0
    start = None if first.seconds is None else first.seconds * scale
    return _span((start, last.seconds))


def _keyed(text: str) -> list[Span | None]:
    """Spans of "start: 12, end: 20" and "starts at 12 s and ends at 20 s"; empty where anything else is
    there."""
    times = list(_times(text))
    keys = list(KEYED.finditer(text)) if times and len(times) % 2 == 0 else []
    if len(keys) != len(times) or OR.search(text) or FRAMES.search(text):
        return []
    if any(key.end() != time.start for key, time in zip(keys, times, strict=True)):
        return []
    starts = [key["key"] in ("start", "begin") for key in keys]
    if starts != [at % 2 == 0 for at in range(len(keys))]:
        return []
    return [_between(a, b) for a, b in zip(times[::2], times[1::2], strict=True)]


def t_ious(found: Sequence[Span | None], truth: Sequence[Span]) -> Matrix:
    """Temporal IoU of every found span with every true one, (found, true); 0 for one that could not be
    read."""
    a = np.array([span or (0.0, 0.0) for span in found], dtype=float).reshape(len(found), 1, 2)
    b = np.array(truth, dtype=float).reshape(1, len(truth), 2)
    shared = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
    whole = np.maximum(a[..., 1], b[..., 1]) - np.minimum(a[..., 0], b[..., 0])
    out: Matrix = np.zeros(shared.shape)
    np.divide(shared, whole, out=out, where=shared > 0)
    return out


def _target_spans(target: Any) -> list[Span]:
    """Spans of a target; one that cannot be read, or one too many, is a fault of the data."""
    if isinstance(target, Sequence):
        bounded(len(target), "target spans") if not isinstance(target, str) else None
    try:
        spans = read_spans(target) if isinstance(target, str) else spans_of(target)
    except Unscorable as failure:
        raise Unscorable(f"the target is no time span: {failure}") from None
    bounded(len(spans), "target spans")
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
    fps: float | None = None,
) -> Any:
    """Time spans of an answer against the true ones, by temporal IoU, 0 to 1.

    The answer is "12.5s - 20s", "1:02 to 1:10", "from 1m2s to 1m10s", [12.5, 20], {"start": 12.5, "end": 20}
    or a sentence with one span, in seconds or clock times, see `read_spans`; two spans with "or" between are
    worth 0. For one true span it is one span: several are worth 0 unless the first or
    the last is declared to count. For more the value is the F1 of the best one-to-one match. A span that ends
    before it starts matches nothing. Naming the whole video earns its overlap; with `threshold` 0.7 and
    `width` 0.4 it earns nothing where the event takes less than 0.3 of the video.

    Args:
        threshold: the temporal IoU from which a span counts in full.
        width: below the threshold, the span over which its worth falls to 0 (smoothstep).
        several: "refuse", "first" or "last".
        empty_decay: with no true spans the value is this to the power of the number of spans.
        bare: accept spans that are not inside `<answer>` tags.
        fps: frames per second of answers that count frames ("frame 30 to frame 60"); None refuses these.
    """
    if fps is not None and not fps > 0:
        raise ValueError(f"fps {fps} is a positive number of frames per second")
    if not 0 < threshold <= 1 or not 0 < width <= 1 or not 0 <= empty_decay < 1:
        raise ValueError(
            f"threshold {threshold} and width {width} lie in (0, 1], empty_decay {empty_decay} in [0, 1)"
        )

    async def score(sample: Sample) -> Score:
        truth = _target_spans(sample.target)
        noted("target", "{} in seconds", [list(span) for span in truth] if heard() else None)

        def check() -> Verdict:
            spans = read_spans(segment(sample.response or "", bare=bare).answer, fps=fps)
            counted = [expect_one(spans, several, "span")] if len(truth) == 1 else spans
            overlap = t_ious(counted, truth)
            worth = ramp(overlap, threshold, width)
            match = best_match(worth, decay=empty_decay)
            if heard():
                noted("spans", "{} in seconds", [list(span) if span else None for span in spans])
                note_match(match, worth, "span", overlap)
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
