"""A process that computes on its CPU keeps what it has freed between batches, and can give it back."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")

PROGRAM = """
import resource, torch
from mmreward.engine.device_thread import share
from mmreward.engine.devices import keep_freed, release_memory

def tensors():
    for _ in range(20):
        torch.ones(10_000_000)  # 40 MB, above all that glibc takes from its heap by itself

def faults():
    tensors()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

counts, sizes = [faults()], []
device = share("cpu")
device.call(lambda: counts.append(faults())).result()
sizes.append(resident())
device.call(release_memory).result()
sizes.append(resident())
print(keep_freed(), *counts, *sizes)
"""


def ran(**variables):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, **variables},
    )
    kept, *numbers = done.stdout.split()
    return kept == "True", *map(int, numbers)


def test_freed_memory_is_neither_cleared_anew_nor_kept_for_good():
    kept, before, after, used, left = ran()
    assert kept
    assert before > 100_000 and after < 1000  # pages that the system had to clear
    assert used - left >= 30  # MB that went back


def test_who_has_set_it_up_in_the_environment_is_left_alone():
    kept, _, after, *_ = ran(MALLOC_MMAP_THRESHOLD_="1000000")
    assert not kept and after > 100_000
