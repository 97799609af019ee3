"""Traces of reading: steps that readers and verifiers note while somebody listens, and at no other time.

A reader calls `noted("number", "{} states {}", text, value)` where it decides something. Nobody listens in a
training, and the call is then one look at a context variable: no text is made of the values. `listening`
collects the steps of what is called inside of it, on other threads and in other tasks too, as both inherit
the context. So an explanation tells what the reader did, and is not a second reader.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

LONGEST = 160
"""Characters of a text that are shown."""
ITEMS = 12
"""Items of a list that are shown."""
MOST = 400
"""Steps that are kept: a response may hold thousands of boxes."""


class Note(NamedTuple):
    """One step of a reading.

    Args:
        name: the kind of step, in a word or two.
        words: the outcome.
        member: the reward that took it within one that combines others, "route/reward" where they nest.
    """

    name: str
    words: str
    member: str = ""


class _Listener(NamedTuple):
    steps: list[Note]
    member: str = ""


_listener: ContextVar[_Listener | None] = ContextVar("mmreward_steps", default=None)


def noted(name: str, words: str, *values: Any) -> None:
    """Note a step, if somebody listens.

    Args:
        name: the kind of step.
        words: a format string such as "{} is {}", filled with the values as `shown` shows them; as it stands
            where there are none.
        values: seen at once, so that they may be changed afterwards.
    """
    listener = _listener.get()
    if listener is not None and len(listener.steps) < MOST:
        text = words.format(*map(shown, values)) if values else words
        listener.steps.append(Note(name, text, listener.member))


heard: Callable[[], object] = _listener.get
"""True while somebody listens, for steps whose values cost something to make; the listener, in fact, as a
plain look at the variable is three times as fast as a function round it."""


@contextmanager
def listening() -> Iterator[list[Note]]:
    """A block whose steps are collected in the list that it gives; at most `MOST`."""
    listener = _Listener([])
    token = _listener.set(listener)
    try:
        yield listener.steps
    finally:
        _listener.reset(token)


@contextmanager
def within(member: str) -> Iterator[None]:
    """A block whose steps are those of a member, if somebody listens; members of members are nested."""
    outer = _listener.get()
    if outer is None:
        yield
        return
    name = f"{outer.member}/{member}" if outer.member else member
    token = _listener.set(outer._replace(member=name))
    try:
        yield
    finally:
        _listener.reset(token)


def shown(value: Any) -> str:
    """A value for readers: a text in quotes and cut, numbers in four digits or so, tuples in brackets."""
    if isinstance(value, str):
        more = f"... ({len(value)} characters)" if len(value) > LONGEST else ""
        return f"{_quoted(value[:LONGEST])}{more}"
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:g}"
    if isinstance(value, Mapping):
        items = [f"{key}: {shown(inner)}" for key, inner in list(value.items())[:ITEMS]]
        return "{" + ", ".join(items) + (", ..." if len(value) > ITEMS else "") + "}"
    if isinstance(value, AbstractSet):
        return ", ".join(sorted(map(str, value))[:ITEMS]) + (", ..." if len(value) > ITEMS else "")
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        text = ", ".join(map(shown, value[:ITEMS])) + (", ..." if len(value) > ITEMS else "")
        return f"[{text}]"
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _quoted(text: str) -> str:
    """The text in quotes; LaTeX keeps its single backslashes where nothing else must be escaped."""
    if "\\" not in text or not text.isprintable() or "'" in text:
        return repr(text)
    return f"'{text}'"
