"""Failures: the seven statuses of a score, the exception that carries one, did-you-mean hints, warnings that
are not shown.

Imports nothing of ours, so that every other module may.
"""

import os
import threading
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import SequenceMatcher, get_close_matches
from typing import Any, Literal, get_args

Status = Literal["ok", "na", "missing", "unparsable", "out_of_range", "timeout", "error"]
"""ok: a value. na: does not apply. missing: a field or file is not there. unparsable: a model's words could
not be read. out_of_range: a number outside the legal interval. timeout: a deadline passed. error: anything
else, with note."""
STATUSES: tuple[str, ...] = get_args(Status)
FINE: tuple[Status, Status] = ("ok", "na")
"""Statuses that count against no failure budget."""

TOLERANCE = 1e-3
"""Largest distance of a float pixel from [0, 1] that is clipped; above it the picture is refused."""


class Unscorable(ValueError):  # noqa: N818 - reads as what it says at the raise
    """Raised inside a reward or a network when this one item has no score; becomes a Score with this
    status.

    >>> raise Unscorable("no number in 'hm'", "unparsable")
    Traceback (most recent call last):
    mmreward.errors.Unscorable: no number in 'hm'

    Raises:
        ValueError: `status` is not a status of a failure.
    """

    def __init__(
        self, reason: str, status: Status = "error", parts: Mapping[str, float] | None = None
    ) -> None:
        if status not in STATUSES or status == "ok":
            raise ValueError(f"{status!r} is no status of a failure: {reason}")
        super().__init__(reason)
        self.status: Status = status
        self.parts = parts or {}


def words(error: BaseException) -> str:
    """Message of an exception, also of one whose own `__str__` fails."""
    try:
        return str(error)
    except BaseException as worse:  # it is somebody's code, and this is said while a failure is handled
        return f"its message cannot be shown ({type(worse).__name__})"


UNAVAILABLE = "unavailable here: "
"""Words in the note of a failure that is not its row's: a device, weights, a package or a server that could
not be used. Such a score does not count as scored: the next run tries again."""


class Unavailable(Unscorable):
    """Raised when what a score is computed with cannot be used, whatever the row; `UNAVAILABLE` begins it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason if reason.startswith(UNAVAILABLE) else UNAVAILABLE + reason)


def missing(error: ModuleNotFoundError) -> str:
    """Words for a package that is not installed, with what installs it."""
    name = (error.name or "").partition(".")[0]
    return f"{name} is not installed: pip install {name}" if name else words(error)


def reason_of(error: BaseException) -> str:
    """The note of a score that failed with this exception, beginning with UNAVAILABLE where the circumstances
    are to blame and not the row: the system, a connection, a package, a device or its memory."""
    reason = f"{type(error).__name__}: {words(error)}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        reason = missing(error)
    circumstances = isinstance(error, OSError | ImportError | MemoryError) or type(error).__name__ in (
        "OutOfMemoryError",
        "AcceleratorError",
    )
    circumstances |= isinstance(error, RuntimeError) and "CUDA" in words(error)
    return UNAVAILABLE + reason if circumstances else reason


FAR = 0.8
"""Likeness, as a share of that of the nearest name, from which on another name is offered beside it."""


def nearest(given: str, known: Iterable[str], *, otherwise: str = "there are", limit: int = 1) -> str:
    """Ending of a message about an unknown name: "did you mean 'iou'?", or all names where none is near.

    Args:
        given: what was asked for.
        known: what there is, in the order in which it is listed.
        otherwise: the words before the list of all known names.
        limit: most names that are offered.
    """
    names = list(known)
    if near := get_close_matches(given, names, n=limit):
        least = FAR * SequenceMatcher(None, near[0], given).ratio()
        near = [name for name in near if SequenceMatcher(None, name, given).ratio() >= least]
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"{otherwise} {', '.join(names) or 'none'}"


class Hushed:
    """Block in which a package's warnings are not shown, for several threads at once.

    `warnings.catch_warnings` puts back the filters that it found: of two threads whose blocks overlap, the
    last one puts back the other's, and the process has them for good. Here the first thread that enters puts
    one filter up, and the last that leaves takes it down.

    Args:
        package: whose modules warn.
    """

    def __init__(self, package: str) -> None:
        self._modules = rf"{package}\b(?#hushed)"  # which no filter of anybody else's says
        self._inside = 0
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forked)

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                warnings.filterwarnings("ignore", module=self._modules)

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._take_down()

    def _take_down(self) -> None:
        filters: Any = warnings.filters
        for one in [one for one in filters if getattr(one[3], "pattern", None) == self._modules]:
            with suppress(ValueError):  # another thread may have put back filters of its own meanwhile
                filters.remove(one)

    def _forked(self) -> None:
        self._inside, self._lock = 0, threading.Lock()
        self._take_down()
