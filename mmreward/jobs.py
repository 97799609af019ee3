"""The worker's side of `killable`: a loop that answers jobs, one a line, and can be ended at any moment."""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

READY = "ready"
"""What a worker says when it may be given work."""


def answer_jobs(answer: Callable[[Any], Any], warm: Callable[[], object]) -> None:
    """What a worker's module runs: answer each job of stdin on stdout, until stdin ends.

    The first argument of the command line is the limit of the address space. Whatever the answer raises is
    told as {"raised": the exception's name}.

    Args:
        answer: from a job to its answer, both what JSON can hold.
        warm: done once before the first job, so that no deadline pays for imports.
    """
    jobs, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no reply
    try:
        warm()
    except Exception as error:  # said by the parent, to whom it means something
        _say(replies, f"{type(error).__name__}: {error}")
        return
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel ends us, whatever holds the interpreter
    _say(replies, READY)
    for line in jobs:
        seconds, _, job = line.decode().partition(" ")
        signal.setitimer(signal.ITIMER_REAL, float(seconds))
        try:
            reply = answer(json.loads(job))
        except Exception as error:  # MemoryError and RecursionError are answers too
            reply = {"raised": type(error).__name__}
        signal.setitimer(signal.ITIMER_REAL, 0)
        _say(replies, reply)


def _say(replies: Any, reply: Any) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()
