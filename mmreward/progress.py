"""Progress of a command that takes long: its phase, how far it is, how fast, what is left and what failed.

One display for loading, scoring and training. On a terminal it is a line that is redrawn; elsewhere (a pipe,
a log) the same words stand on a line of their own now and then, and once at the end of a phase. Rates and
what is left count the work of this run alone: what was there before it, and the time in which weights are
loaded, have no part in them.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

EVERY = 30.0
"""Seconds between two lines where there is no terminal."""
TICK = 0.5
"""Seconds between two looks at the clock."""
SETTLED = 2.0
"""Seconds of work before a rate is told."""


_loading: list[str] = []
"""Names of what is being loaded in this process, the innermost last."""


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Block in which weights are loaded: a display says so, and counts the time as none of work."""
    _loading.append(name)
    try:
        yield
    finally:
        _loading.remove(name)


def being_loaded() -> str:
    """The name of what is being loaded at the moment, or ""."""
    return next(iter(_loading[-1:]), "")


def duration(seconds: float) -> str:
    """Seconds as a reader says them: "40 s", "12 min", "3.5 h", "2.1 days".

    >>> duration(40), duration(754), duration(12_600)
    ('40 s', '13 min', '3.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36 * 3600 else f"{seconds / 86_400:.1f} days"


@dataclass
class Phase:
    """A stretch of work: `done` of `total` things called `unit`, of which `fresh` were done now."""

    name: str
    unit: str = ""
    total: int | None = None
    done: int = 0
    fresh: int = 0
    failed: int = 0
    spent: float = 0.0
    """Seconds of work, without those in which weights were loaded."""

    @property
    def rate(self) -> float | None:
        """Things per second of work; None before it means anything."""
        return self.fresh / self.spent if self.fresh and self.spent >= SETTLED else None

    @property
    def left(self) -> float | None:
        """Seconds of work that are left at this rate; None where nobody knows."""
        rate = self.rate
        return (self.total - self.done) / rate if rate and self.total is not None else None

    def words(self) -> str:
        """The phase in one line: "scoring 120 of 4,000 scores, 41/s, 2 min left, 3 failed"."""
        of = f" of {self.total:,}" if self.total is not None else ""
        known = self.total is not None or self.done
        parts = [" ".join((self.name, *([f"{self.done:,}{of} {self.unit}".rstrip()] if known else [])))]
        if (rate := self.rate) is not None:
            parts.append(_speed(rate, self.unit))
        if self.left is not None and self.done < (self.total or 0):
            parts.append(f"{duration(self.left)} left")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        return ", ".join(parts)


def _speed(rate: float, unit: str) -> str:
    """A rate by the second, or the time that one takes where that is longer."""
    if rate >= 0.95:
        return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"
    return f"{duration(1 / rate)} each" if rate < 0.2 else f"{1 / rate:.1f} s each"


class Display:
    """The display of one command: `phase` begins a stretch, `update` says how far it is.

    >>> import io
    >>> log = io.StringIO()
    >>> with Display(log) as shown:
    ...     shown.phase("scoring", "scores", total=2)
    ...     shown.update(2, failed=1)
    >>> print(log.getvalue(), end="")
    scoring 2 of 2 scores, 1 failed

    Args:
        stream: default stderr, so that a command's results can be piped.
        clock: seconds.
        every: seconds between two lines where the stream is no terminal.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        every: float = EVERY,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock, self._every = clock, every
        self._phase: Phase | None = None
        self._lock = threading.RLock()
        self._seen = self._told = clock()
        self._bar: Progress | None = None
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._run, name="mmreward-progress", daemon=True)

    def phase(self, name: str, unit: str = "", total: int | None = None) -> None:
        """Begin a phase; the one before is over."""
        with self._lock:
            self.tick()
            self._finish()
            self._phase = Phase(name, unit, total)
            self._draw()

    def update(
        self, done: int, *, failed: int = 0, total: int | None = None, fresh: int | None = None
    ) -> None:
        """Say how far the phase is.

        Args:
            done: things so far.
            failed: of these.
            total: of the phase, where it was not known before.
            fresh: things that were done now, where others were there already; default: all.
        """
        with self._lock:
            if (phase := self._phase) is not None:
                phase.done, phase.failed = done, failed
                phase.fresh = done if fresh is None else fresh
                phase.total = phase.total if total is None else total

    def scored(self, done: int, failed: int, fresh: int, total: int | None) -> None:
        """`update` in the form in which `data.run.score_file` tells."""
        self.update(done, failed=failed, fresh=fresh, total=total)

    def line(self, text: str) -> None:
        """Print a line of the command's own to stdout, above what is shown."""
        with self._lock:
            if self._bar is not None and sys.stdout.isatty():
                self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                print(text, flush=True)

    def tick(self) -> None:
        """Look at the clock: count the time of work, draw, and tell a log where it is time to."""
        with self._lock:
            now = self._clock()
            if self._phase is not None and not being_loaded():
                self._phase.spent += now - self._seen
            self._seen = now
            if self._phase is None:
                return
            self._draw()
            if self._bar is None and now - self._told >= self._every:
                self._tell(now)

    def words(self) -> str:
        """What is shown at the moment."""
        if self._phase is None:
            return ""
        name = being_loaded()
        return f"loading {name}" if name else self._phase.words()

    def __enter__(self) -> "Display":
        if self._stream.isatty():
            self._bar = _bar(self._stream)
            self._bar.start()
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._ticker.join()
        with self._lock:
            self.tick()
            self._finish()
            if self._bar is not None:
                self._bar.stop()

    def _run(self) -> None:
        while not self._ended.wait(TICK):
            self.tick()

    def _finish(self) -> None:
        """Leave the last words of the phase standing, if anything was done in it."""
        phase, self._phase = self._phase, None
        if phase is None or not phase.done:
            return
        if self._bar is not None:
            self._bar.console.print(phase.words(), markup=False, highlight=False, soft_wrap=True)
        else:
            print(phase.words(), file=self._stream, flush=True)
            self._told = self._clock()

    def _tell(self, now: float) -> None:
        print(self.words(), file=self._stream, flush=True)
        self._told = now

    def _draw(self) -> None:
        if self._bar is not None and self._phase is not None:
            shown = self._bar.tasks[0]
            total, done = self._phase.total, self._phase.done
            self._bar.update(shown.id, description=self.words(), total=total, completed=done)


def _bar(stream: TextIO) -> "Progress":
    """A line of a terminal: a bar, the words, and the time since the start."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        BarColumn(bar_width=24),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=Console(file=stream),
        redirect_stdout=sys.stdout.isatty(),
        transient=True,
    )
    bar.add_task("", total=None)
    return bar
