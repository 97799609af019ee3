"""Trajectories: an agent's episode step by step in `Sample.steps`, and rules that pick some of its frames.

A step is a mapping with any of these keys, and others as they please; a step of reasoning may be a text.

| key | what it holds |
| --- | --- |
| `observation` | what the camera saw before the action: a `Media`, or several by the name of their view |
| `action` | what the agent did, as JSON |
| `thought` | what it said to itself |
| `state` | numbers, or a mapping of them |
| `time` | seconds from the start |
| `reward`, `done` | of the environment, where the source has them |

A rule names frames by their number: "all", "last", "8" (evenly spaced from the first to the last, as
`numpy.linspace` rounds), "8 floor" (the same, rounded down), "every 5", "2 fps" (the newest frame at every
half second). The last frame is always among them, for there the outcome is; what a score was made of are the
numbers, and rules of one name differ between programs. Knows no model and decodes nothing.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .errors import Unscorable
from .limits import limits, most
from .media import Media
from .streams import Cut, Frame

OBSERVATION = "observation"
RULE = re.compile(r"(?:(?P<count>\d+)(?P<floor> floor)?|every (?P<every>\d+)|(?P<fps>\d+(?:\.\d+)?) fps)")
SHOWN = 12
"""Steps that are told one by one; of more, the first and the last few."""


class Seen(NamedTuple):
    """A picture that a step has. `view` is "" where the step has one without a name."""

    step: int
    view: str
    media: Media

    @property
    def name(self) -> str:
        """Its place, for messages: "step 3, view 'top'"."""
        return f"step {self.step}" + (f", view {self.view!r}" if self.view else "")


def seen_in(steps: Sequence[Any]) -> Iterator[Seen]:
    """The pictures of steps, in order; those of one step in the order of its views."""
    for number, step in enumerate(steps):
        observation = step.get(OBSERVATION) if isinstance(step, Mapping) else None
        if isinstance(observation, Mapping):
            for view, media in observation.items():
                yield Seen(number, str(view), media)
        elif observation is not None:
            yield Seen(number, "", observation)


def views_of(steps: Sequence[Any]) -> tuple[str, ...]:
    """Names of the views that any of the steps has, in the order in which they come; "" for one without."""
    return tuple(dict.fromkeys(seen.view for seen in seen_in(steps)))


def with_media(steps: Sequence[Any], media: Callable[[Any, str], Any]) -> tuple[Any, ...]:
    """Steps with every picture replaced by what `media` makes of it and its place; empty views are left out.

    Raises:
        ValueError: as `media`, with the step in front.
    """

    def made(value: Any, place: str) -> Any:
        try:
            return media(value, OBSERVATION)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None

    changed: list[Any] = []
    for number, step in enumerate(steps):
        if not isinstance(step, Mapping) or OBSERVATION not in step:
            changed.append(step)
            continue
        observation, place = step[OBSERVATION], f"step {number}"
        if is_views(observation):
            found: Any = {
                str(view): made(value, f"{place}, view {str(view)!r}")
                for view, value in observation.items()
                if value is not None  # Arrow writes every view into every step
            }
        else:
            found = None if observation is None else made(observation, place)
        rest = {key: value for key, value in step.items() if key != OBSERVATION}
        changed.append({OBSERVATION: found, **rest} if found else rest)
    return tuple(changed)


def is_views(observation: Any) -> bool:
    """True for pictures by view; {"bytes": ..., "path": ...} is one picture, as in `datasets`."""
    return isinstance(observation, Mapping) and not (set(observation) <= {"bytes", "path"} and observation)


def column(steps: Sequence[Any], name: str) -> list[Any]:
    """The value of a key in every step; None where a step is without it."""
    return [step.get(name) if isinstance(step, Mapping) else None for step in steps]


def excessive(steps: Sequence[Any]) -> str:
    """Reason why a trajectory is refused for its length; empty where it is not."""
    if len(steps) > limits().steps:
        return f"there are {len(steps)} steps; the limit is {most('steps')}"
    return ""


def told(steps: Sequence[Any], shown: Callable[[Any], str]) -> str:
    """Steps in words, a line each: the first and the last few of many.

    Args:
        shown: writes one value.
    """
    if not any(isinstance(step, Mapping) for step in steps):
        return shown(steps)
    few = range(len(steps)) if len(steps) <= SHOWN else (0, 1, 2, len(steps) - 2, len(steps) - 1)
    views = ", ".join(view or "one view" for view in views_of(steps))
    lines = [f"{len(steps)} steps" + (f", seen in {views}" if views else "")]
    for place, number in enumerate(few):
        if place and number - few[place - 1] > 1:
            lines.append("...")
        step = steps[number]
        named = (
            [f"{key}: {_seen(value) if key == OBSERVATION else shown(value)}" for key, value in step.items()]
            if isinstance(step, Mapping)
            else []
        )
        lines.append(f"{number}  {', '.join(named) or shown(step)}")
    return "\n".join(lines)


def _seen(observation: Any) -> str:
    """What was seen in a few words: the file without its folders, and the frame."""
    if isinstance(observation, Mapping):
        return ", ".join(f"{view} ({_seen(media)})" for view, media in observation.items())
    source = observation.source if isinstance(observation, Media) else observation
    if isinstance(source, Frame):
        return f"frame {source.number} of {_seen(source.clip)}"
    if isinstance(source, Cut):
        return f"{source.path.name}, {source.start:g}-{source.stop:g} s"
    return source.name if isinstance(source, Path) else type(source).__name__


# --- rules that pick frames -------------------------------------------------------------------------------


def check_rule(given: str | int) -> str:
    """Check the form of a rule, and give it as text: 8 is "8".

    Raises:
        ValueError: it is none; names those there are.
    """
    rule = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
    found = RULE.fullmatch(rule) if isinstance(rule, str) else None
    if rule in ("all", "last") or (found and float(found["count"] or found["every"] or found["fps"]) > 0):
        return str(rule)
    raise ValueError(f"{rule!r} picks no frames: say all, last, 8, '8 floor', 'every 5' or '2 fps'")


def picked(total: int, rule: str, times: Sequence[float] | None = None) -> list[int]:
    """Numbers of the frames that a rule picks of so many, rising, each once, the last always among them.

    >>> picked(32, "8"), picked(32, "8 floor")
    ([0, 4, 9, 13, 18, 22, 27, 31], [0, 4, 8, 13, 17, 22, 26, 31])
    >>> picked(12, "every 5")
    [0, 5, 10, 11]

    Args:
        total: of frames.
        rule: see the head of this file.
        times: seconds of each frame, for "2 fps".

    Raises:
        ValueError: as `check_rule`.
        Unscorable: no frames, or none whose time is known for a rule that goes by it.
    """
    check_rule(rule)
    if total < 1:
        raise Unscorable("there are no frames")
    if rule == "all":
        return list(range(total))
    if rule == "last":
        return [total - 1]
    found = RULE.fullmatch(rule)
    assert found is not None, "it was checked"
    if found["fps"]:
        if times is None or len(times) != total:
            raise Unscorable(
                f"nothing says when the frames are shown, by which {rule!r} picks them: say a number, as '16'"
            )
        numbers = _by_time(times, float(found["fps"]))
    elif found["every"]:
        numbers = list(range(0, total, int(found["every"])))
    else:
        count = min(int(found["count"]), total)
        spaced = np.linspace(0, total - 1, count) if count > 1 else np.empty(0)
        numbers = [int(number) for number in (np.floor(spaced) if found["floor"] else np.round(spaced))]
    return sorted({*numbers, total - 1})


def _by_time(times: Sequence[float], fps: float) -> list[int]:
    """The newest frame at each tick of a clock that starts with the first frame."""
    start = times[0]
    ticks = start + np.arange(int((times[-1] - start) * fps + 1e-6) + 1) / fps
    found = np.searchsorted(np.asarray(times), ticks + 1e-6, side="right") - 1
    return [int(number) for number in found]
