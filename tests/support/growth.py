"""Growth of a cost with the size of what is read: a ratio, which is the same on a slow and a loaded machine.

A bound in seconds fails wherever the machine is slow. A reading in proportion to its text costs 8 times as
much for 8 times the text anywhere; a quadratic one costs 64 times as much.
"""

import gc
import time
from collections.abc import Callable

STEP = 8
"""The factor between two sizes that are compared."""

LIMIT = 24.0
"""The most that one step may cost: three times what is linear, three eighths of what is quadratic."""

TRIVIAL = 0.02
"""Seconds of processor time that are not worth a comparison."""

FLOOR = 0.001
"""Seconds below which a measurement is noise; a smaller one counts as this."""


def seconds(call: Callable[[int], object], size: int, times: int) -> float:
    """The least processor time of some calls, without collections of a garbage that others left."""
    least = float("inf")
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(times):
            begun = time.process_time()
            call(size)
            least = min(least, time.process_time() - begun)
            if least < FLOOR:
                break
    finally:
        if collecting:
            gc.enable()
    return least


def assert_linear(call: Callable[[int], object], largest: int, steps: int = 2, tries: int = 4) -> None:
    """``call(size)`` grows no faster than in proportion, up to the largest size.

    The sizes are the largest and, ``steps`` times, an eighth of the one before. The smallest step comes
    first, so that a quadratic reading is found where it still ends. A step is measured again before it
    fails.
    """
    for power in range(steps - 1, -1, -1):
        size = largest // STEP**power
        small = large = float("inf")
        for _ in range(tries):
            large = min(large, seconds(call, size, 1))
            if large < TRIVIAL:
                break
            small = min(small, seconds(call, size // STEP, 3))
            if large < LIMIT * max(small, FLOOR):
                break
        else:
            raise AssertionError(
                f"size {size} took {large:.4f} s, size {size // STEP} {small:.4f} s: "
                f"{large / max(small, FLOOR):.0f} times as much for {STEP} times the size"
            )
