"""Allowances of time for what ends by a deadline, in proportion to how fast this machine is at the moment.

What is guarded against here hangs, or takes minutes. On a machine that is slow or busy the allowance grows as
the time of a fixed piece of work does, which is done right after what is judged. What should grow in
proportion to its input is judged by `growth` instead.
"""

import re
import time
from collections.abc import Callable

NOMINAL = 0.01
"""Seconds that the fixed piece of work takes on the machine on which the allowances were written."""
WORDS = re.compile(r"(\w+) (\w+)")
TEXT = "some words of a text " * 400


def allowed(seconds: float, clock: Callable[[], float] = time.process_time) -> float:
    """Seconds that something may take here and now: never less than what it may take on a quiet machine.

    Args:
        seconds: on a quiet machine.
        clock: `time.process_time`, or a clock of the wall where the work waits for others.
    """
    return seconds * max(1.0, max(_work(clock) for _ in range(3)) / NOMINAL)


def _work(clock: Callable[[], float]) -> float:
    begun = clock()
    for _ in range(10):
        sum(len(found.group(1)) for found in WORDS.finditer(TEXT))
        sum(number % 7 for number in range(20_000))
    return clock() - begun
