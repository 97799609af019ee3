"""The command that loads a server: its figures are of what happened, and its bars are held."""

import time

import pytest
from support.pace import allowed

from mmreward.evals.audits import serving


def test_honest_clients_are_answered_while_others_attack(capsys):
    """A short run of the real thing; how long answers take is for the command on a quiet machine to say."""
    found = serving.run(clients=8, attackers=5, seconds=1.0, rounds=1)
    assert found.alone.seconds and found.beside.seconds
    assert not found.alone.failed and not found.beside.failed
    assert found.attacks.keys() <= serving.ATTACKS.keys()
    assert all(any(found.attacks[name] for name in manner) for manner in serving.MANNERS)
    assert 0 < found.end < allowed(serving.END, time.perf_counter)


def phase(name, *milliseconds):
    return serving.Phase(name, [one / 1000 for one in milliseconds])


@pytest.mark.parametrize(
    ("beside", "end", "missed"),
    [
        ((30.0,), 5.0, []),
        ((31.0,), 5.0, ["p99 is more than 3 times that of without hostile clients"]),
        ((10.0,), 5.1, ["the server took more than 5 s to end"]),
        ((), 1.0, ["p99 is more than 3 times that of without hostile clients"]),  # nobody was answered
    ],
)
def test_bars(beside, end, missed):
    found = serving.Found(phase("alone", 10.0), phase("beside", *beside), end=end)
    assert serving.complaints(found) == missed


def test_a_request_that_fails_misses_the_bar():
    found = serving.Found(phase("alone", 10.0), phase("beside", 10.0))
    found.beside.failed["503 b'come again'"] = 2
    assert serving.complaints(found) == ["beside: 2 x 503 b'come again'"]


def test_every_attack_belongs_to_a_manner():
    assert {name for manner in serving.MANNERS for name in manner} == serving.ATTACKS.keys()
