"""Reward code (after Auto MC-Reward, arXiv:2312.09238): a reward that a program computes from an episode's
steps, written by hand or by a language model (`mmreward design`), and run confined.

The code is the operator's file and nobody else's: no column of a data set can bring any. It is read once,
when the reward is loaded, and checked then (`isolation.confined`); it runs in processes of its own, without
imports, files or network, with a bound of memory and a deadline.
"""

import asyncio
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ...engine.episodes import frames_of
from ...errors import Unscorable
from ...isolation.confined import check
from ...isolation.killable import Killable, Killed
from ...media import Media
from ...reading import aside
from ...registry import amend, record_network, reward
from ...tracing import noted
from ...trajectories import OBSERVATION, check_rule
from ...types import Sample, Score
from .values import curve_parts

FUNCTION = "reward"
ARGUMENTS = ("steps", "task")
LARGEST_SIDE = 64
"""Pixels of a picture's side that code is shown at most: it gets them as lists."""
MODULE = "mmreward.isolation.confined"


class Source(NamedTuple):
    """The code's content, for the reward's fingerprint."""

    name: str
    fingerprint: str


@lru_cache(None)
def workers_of(count: int, memory: int) -> Killable:
    """The processes of this one that run code with so many bytes each."""
    return Killable(MODULE, workers=count, memory=memory)


os.register_at_fork(after_in_child=workers_of.cache_clear)  # a fork has none of the threads that would answer


def read_code(file: str) -> str:
    """Reward code out of a file, checked.

    Raises:
        ValueError: no such file, or code that is refused; names the line.
    """
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"no reward code at {file}: `mmreward design` writes some")
    try:
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8: {error}") from None
    try:
        check(source, FUNCTION, len(ARGUMENTS))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return source


def plain(steps: Sequence[Any]) -> list[dict[str, Any]]:
    """Steps without their pictures, as JSON; a step that is a text is {"thought": text}.

    Raises:
        Unscorable: a step that JSON cannot hold; names it.
    """
    found = []
    for number, step in enumerate(steps):
        facts = step if isinstance(step, Mapping) else {"thought": step}
        found.append({str(key): _json(value, number) for key, value in facts.items() if key != OBSERVATION})
    return found


def _json(value: Any, number: int) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _json(one, number) for key, one in value.items()}
    if hasattr(value, "tolist"):
        return _json(value.tolist(), number)
    if isinstance(value, list | tuple):
        return [_json(one, number) for one in value]
    raise Unscorable(f"step {number} holds a {type(value).__name__}, which reward code cannot be given")


def pixels_of(media: Media, side: int) -> list[list[list[int]]]:
    """A picture as rows of [red, green, blue], scaled to side by side."""
    from PIL import Image

    small = Image.fromarray(media.still()).resize((side, side), Image.Resampling.BOX)
    flat = list(small.convert("RGB").tobytes())
    rows = [flat[start : start + 3 * side] for start in range(0, len(flat), 3 * side)]
    return [[row[at : at + 3] for at in range(0, len(row), 3)] for row in rows]


def read_rewards(value: Any, count: int) -> list[float]:
    """What the code returned as numbers: one for the episode, or one for each step.

    Raises:
        Unscorable: "unparsable" for anything else, and for numbers that are not finite.
    """
    given = value if isinstance(value, list) else [value]
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in given):
        said = "true or false" if isinstance(value, bool) else type(value).__name__
        inside = " with something else than numbers" if isinstance(value, list) else ""
        raise Unscorable(
            f"the code returned {said}{inside}; it returns a number, or one per step", "unparsable"
        )
    if isinstance(value, list) and len(value) != count:
        raise Unscorable(f"the code returned {len(value)} numbers for {count} steps", "unparsable")
    try:
        numbers = [float(one) for one in given]
    except OverflowError:
        numbers = [math.inf]
    if not all(map(math.isfinite, numbers)):
        raise Unscorable("the code returned a number that is not finite", "unparsable")
    return numbers


async def computed(
    source: str, steps: list[dict[str, Any]], task: str, seconds: float, workers: Killable
) -> list[float]:
    """The numbers that code returns for an episode.

    Raises:
        Unscorable: "timeout" after so many seconds; "error" where it raised, took too much memory or reached
            for the system; "unparsable" as `read_rewards`.
    """
    job = {"source": source, "name": FUNCTION, "arguments": [steps, task]}
    try:
        answer = await asyncio.wrap_future(workers.submit(job, seconds))
    except TimeoutError as error:
        raise Unscorable(f"the code gave {error}", "timeout") from None
    except Killed as error:
        raise Unscorable(f"the code ended its process: {error}", "error") from None
    if "value" not in answer:
        raise Unscorable(f"the code failed: {answer.get('wrong') or answer.get('raised')}", "error")
    return read_rewards(answer["value"], len(steps))


@reward("code", needs=("steps",), range=(-math.inf, math.inf), paper="arXiv:2312.09238",
        licence="the code's own")  # fmt: skip
def code(
    file: str,
    side: int = 0,
    frames: str | int = "all",
    view: str = "",
    seconds: float = 2.0,
    memory: int = 512,
    workers: int = 2,
) -> Any:
    """Reward that a program computes from the steps of an episode: its states, actions, small pictures.

    The file defines `def reward(steps, task)` with `steps` a list of dictionaries (`state`, `action`,
    `thought`, `time`, and what else the data has) and `task` the prompt. It returns one number, or one for
    each step, whose sum is the score; those are in `parts` as `frame_N`. Plain Python with `math`, without
    imports, classes, files or names that begin with an underscore: what else it holds is refused when the
    reward is loaded, with its line. An endless loop is ended after `seconds`, and that row fails.

    `mmreward design` lets a language model write it from a task and a few episodes. Read it before an agent
    is paid by it.

    Args:
        file: the code, the operator's; never a row's.
        side: pixels of a side to which each step's picture is scaled for the code, as `step["pixels"]`, rows
            of [red, green, blue]; 0 for no pictures. With pictures, clips and single pictures are scored too.
        frames: with pictures: which steps or frames the code sees, see `trajectories`.
        view: with pictures: whose, where the steps have several.
        seconds: that one episode may take.
        memory: MiB of address space of a process, 256 at least.
        workers: processes at most.

    Raises:
        ValueError: no such file, code that is refused, or a number out of range.
    """
    rule = check_rule(frames)
    if not 0 <= side <= LARGEST_SIDE:
        raise ValueError(f"side is {side}: 0 for no pictures, to {LARGEST_SIDE} pixels")
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds is {seconds}: above 0")
    if workers < 1 or memory < 256:
        raise ValueError(f"{workers} processes of {memory} MiB: one at least, of 256 MiB at least")
    source = read_code(file)
    record_network(Source("code", hashlib.blake2b(source.encode(), digest_size=8).hexdigest()))
    if side:
        amend(needs=("episode",))

    async def score(sample: Sample) -> Score:
        steps, numbers = plain(sample.steps), list(range(len(sample.steps)))
        if side:
            seen = await frames_of(sample, rule, view=view)
            pictures = await aside(lambda: [pixels_of(media, side) for media in seen.pictures])
            numbers = list(seen.numbers)
            known = [steps[number] if steps else {} for number in numbers]
            steps = [{**one, "pixels": rows} for one, rows in zip(known, pictures, strict=True)]
        rewards = await computed(source, steps, sample.prompt, seconds, workers_of(workers, memory << 20))
        noted("code", "returned {}", rewards if len(rewards) > 1 else rewards[0])
        parts = {"steps": float(len(steps))}
        if len(rewards) == len(steps) > 1:
            parts |= curve_parts(numbers, rewards)
        return Score(math.fsum(rewards), parts)

    return score
