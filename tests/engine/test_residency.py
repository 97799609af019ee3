"""Residency: which networks leave the device for others, and errors that mean a smaller batch may work."""

import pytest
from support.toys import FakeNetwork

from mmreward.engine.device_thread import Residency
from mmreward.engine.devices import is_out_of_memory
from mmreward.engine.local import Local


def test_the_least_recently_used_network_leaves_first():
    a, b, c = (FakeNetwork(name, nbytes=40) for name in "abc")
    residency = Residency("cpu", 100)
    for network in (a, b, a, c):
        residency.ensure(network)
    assert a in residency and b not in residency and c in residency
    assert residency.swaps == 1 and residency.nbytes == 80


def test_a_network_larger_than_the_limit_is_loaded_alone():
    small, large = FakeNetwork(nbytes=10), FakeNetwork(nbytes=1000)
    residency = Residency("cpu", 100)
    residency.ensure(small)
    residency.ensure(large)
    assert large in residency and small not in residency


def test_without_a_limit_nothing_leaves():
    networks = [FakeNetwork(nbytes=10**12) for _ in range(5)]
    residency = Residency("cpu")
    for network in networks:
        residency.ensure(network)
    assert all(network in residency for network in networks)


def test_trim_keeps_one_and_says_whether_it_helped():
    a, b = FakeNetwork(), FakeNetwork()
    residency = Residency("cpu")
    residency.ensure(a)
    assert not residency.trim(keep=a)
    residency.ensure(b)
    assert residency.trim(keep=a) and b not in residency and b.events == ["load", "unload"]


def test_a_load_that_fails_leaves_the_network_out():
    class Broken(FakeNetwork):
        def load(self, device):
            raise OSError("disk")

    network = Broken()
    residency = Residency("cpu")
    with pytest.raises(OSError, match="disk"):
        residency.ensure(network)
    assert network not in residency


def test_sleep_then_wake_restores_what_was_there():
    a, b = FakeNetwork(), FakeNetwork()
    residency = Residency("cpu")
    residency.ensure(a)
    residency.ensure(b)
    residency.sleep()
    assert residency.nbytes == 0
    residency.wake()
    assert a in residency and b in residency


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_recognised(error, expected):
    assert is_out_of_memory(error) is expected


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(ValueError, match="0"):
        Local("cpu", resident_bytes=0)
