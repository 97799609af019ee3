"""Exit codes of the commands, the one line that a mistake is told in, and signals.

0: done. 1: a fault of this package, with its traceback; `bench` also where values differ. 2: a mistake of the
user's, or something that is not there: an argument, a file, a package, a device, weights. 3: more scores
failed than --max-failures. 4: a file could not be read or written: a full disk, no permission, damage.
130: Ctrl-C. 143: SIGTERM. What was scored before an interrupt is kept.
"""

import atexit
import errno
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

USAGE, BUDGET, IO, TERMINATED = 2, 3, 4, 143
CODES = (
    "Exit codes: 0 done, 2 a mistake or something that is not there, 3 more failures than --max-failures, "
    "4 a file that cannot be read or written, 130 Ctrl-C, 143 SIGTERM."
)
"""The end of the help of `mmreward score`."""


OBJECTS = 10_000
"""New containers after which Python looks for cycles. With its own 700, importing torch and open_clip takes
0.4 s longer: modules are made of containers, and none of them is garbage."""


def run(command: Callable[[], Any]) -> None:
    """Run the command line: a mistake is one line on stderr, SIGTERM ends it in good order.

    The process is its own, so its garbage collector is set for one command: seldom while modules are
    imported, and not at all at the end, where a search for cycles through all of torch takes a second.

    Args:
        command: reads sys.argv.

    Raises:
        SystemExit: with one of the codes above.
    """
    signal.signal(signal.SIGTERM, _terminate)
    gc.set_threshold(OBJECTS)
    atexit.register(_spare)
    try:
        command()
    except (ValueError, FileNotFoundError, ImportError) as error:
        _say(_words(error))
        sys.exit(USAGE)
    except OSError as error:
        _say(_words(error))
        sys.exit(IO)


def _spare() -> None:
    """Leave what there is to the end of the process. Not where nanobind has made types (triton's are, since
    torch 2.15): it takes what is left for leaks, and lists them on stderr."""
    if not any(kind.__module__ == "nanobind" for kind in type.__subclasses__(type)):
        gc.freeze()


def _terminate(*_: object) -> None:
    """Handler of SIGTERM: blocks are left in order, so that locks go and scores are written."""
    raise SystemExit(TERMINATED)


def _words(error: Exception) -> str:
    """The error as one line; of an OSError the file comes first."""
    if isinstance(error, OSError) and error.filename is not None:
        hint = "; free some space, and start the same command again" if error.errno in FULL else ""
        return f"{os.fspath(error.filename)!s}: {error.strerror}{hint}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{error.name} is not installed: {error}"
    return str(error) or type(error).__name__


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _say(words: str) -> None:
    print(f"error: {words}", file=sys.stderr)
