"""Allowances of time, in proportion to how fast this machine is at the moment.

A test that guards against endless work compares the time it took with that of a fixed piece of work done
right after it, so that a slow or busy machine is slow at both. What these tests guard against takes
minutes, not a few times as long as it should.
"""

import re
import time
from collections.abc import Callable

NOMINAL = 0.01
"""Seconds that the fixed piece of work takes on the machine on which the allowances were written."""
ROOM = 4.0
"""Times that an allowance may be exceeded before a test fails."""
WORDS = re.compile(r"(\w+) (\w+)")
TEXT = "some words of a text " * 400


def allowed(seconds: float, clock: Callable[[], float] = time.process_time) -> float:
    """Seconds that a piece of work may take here and now.

    Args:
        seconds: what it takes at most on a quiet machine.
        clock: `time.process_time`, or a clock of the wall where the work waits for others.
    """
    return seconds * ROOM * max(1.0, max(_work(clock) for _ in range(3)) / NOMINAL)


def _work(clock: Callable[[], float]) -> float:
    begun = clock()
    count = 0
    for _ in range(10):
        count += sum(len(found.group(1)) for found in WORDS.finditer(TEXT))
        count += sum(number % 7 for number in range(20_000))
    assert count
    return clock() - begun
