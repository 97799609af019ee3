"""Counts of this process (workers, threads, open files), and processes begun by tests."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path


def children():
    """Processes of this one that run a worker, and those it has not yet reaped."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
            command = (entry / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == str(os.getpid()) and (b"mmreward.isolation.worker" in command or not command):
            found.append(int(entry.name))
    return found


def eventually(holds, seconds=10.0):
    """True when `holds()` becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False


def threads():
    return sorted(thread.name for thread in threading.enumerate())


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def heeding_interrupts():
    """A block whose child processes do not ignore SIGINT, as they do where the tests run under nohup."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
