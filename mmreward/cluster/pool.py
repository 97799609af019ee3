"""The actors of one network: which of them a call goes to, and who takes the place of one that dies.

Knows nothing of what runs in an actor. A member takes batches from the engine's loop; what
Ray tells of them is taken up on a thread of the placement's.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..batching import Call, Network
from ..failures import Unscorable
from ..placement import Report
from .member import Member

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one network is granted of the cluster: so many actors, each with so much of a machine.

    Args:
        actors: processes, each with its own copy of the weights; at least 1.
        num_cpus: CPUs of one actor, 0 or more; fractions let actors share one.
        num_gpus: GPUs of one actor; 0 runs on the CPU, 0.5 puts two actors on one GPU.
        resources: custom resources of one actor, as the cluster's machines were started with.

    Raises:
        ValueError: fewer than one actor, or a negative amount.
    """

    actors: int = 2
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.actors < 1:
            raise ValueError(f"actors must be at least 1, not {self.actors}")
        for name, amount in self.wanted.items():
            if amount < 0:
                raise ValueError(f"{name} of an actor is 0 or more, not {amount}")

    @property
    def wanted(self) -> dict[str, float]:
        """What one actor asks for, by Ray's names."""
        return {"CPU": self.num_cpus, "GPU": self.num_gpus, **self.resources}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the pools of one placement have in common."""

    ray: Any
    report: Report
    senders: ThreadPoolExecutor
    """Threads that pickle batches."""
    events: ThreadPoolExecutor
    """One thread that takes what Ray tells: its own must never wait for Ray, as killing an actor does."""
    ready_seconds: float
    restarts: int
    workers: int

    def told(self, future: "Future[Any]", then: "Callable[[Future[Any]], None]") -> None:
        """Have `then` called with the finished future on the thread for that."""
        future.add_done_callback(lambda done: self.tell(then, done))

    def tell(self, then: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the placement is closed: nobody waits for this any more
            self.events.submit(then, *args)


class Pool:
    """Routes the calls of one network to its actors.

    Args:
        network: sent to each actor, pickled.
        grant: how many actors, and how large.
        terms: the rest.

    Raises:
        Unscorable: the network cannot be pickled.
    """

    def __init__(self, network: Network, grant: Grant, terms: Terms) -> None:
        self.network = network
        self.grant = grant
        self.terms = terms
        self.restarts = terms.restarts
        # Members, their states and their batches change under it: batches come on the loop, news on another
        # thread.
        self.lock = threading.RLock()
        try:
            self.recipe = terms.ray.put(network)
        except Exception as error:  # pickling runs the network's own code
            raise Unscorable(f"{network.name} cannot be sent to an actor: {error}") from error
        self._given = [0] * grant.actors
        self._error: Exception = RuntimeError("closed")
        self._closed = False
        self.members: list[Member] = []
        for slot in range(grant.actors):
            self._add(slot)

    def route(self, call: Call) -> Member:
        """The member that calls with this share (else key) go to; without either, the one given least.

        Raises:
            Unscorable: every actor has died or never came up.
        """
        with self.lock:
            members = [member for member in self.members if member.ready] or self.members
            if not members:
                raise Unscorable(f"no actor of {self.network.name} is left: {self._error}")
            name = call.share if call.share is not None else call.key
            if name is None:
                member = min(members, key=lambda member: self._given[member.slot])
            else:
                member = rendezvous(name, members, lambda member: member.slot)
            self._given[member.slot] += call.cost.tokens
            return member

    def joined(self, member: Member) -> None:
        """A member is ready: it has not been given the work it missed, and is not to make up for it."""
        self._given[member.slot] = max(self._given)

    def retire(self, member: Member, error: Exception, *, replace: bool) -> None:
        """Take out a dead member, and start another in its slot while there are restarts left."""
        self.members.remove(member)
        self._error = error
        if replace and self.restarts > 0 and not self._closed:
            self.restarts -= 1
            self._add(member.slot)

    def close(self) -> None:
        """Kill every actor."""
        with self.lock:
            self._closed = True
            members = list(self.members)
        for member in members:
            member.die(RuntimeError("the engine is closed"))

    def _add(self, slot: int) -> None:
        with self.lock:
            member = Member(self, slot)
            self.members.append(member)
            member.start()


def rendezvous(name: object, members: list[T], slot: Callable[[T], int]) -> T:
    """The member with the highest hash of (slot, name): when one goes, only its own names move."""

    def weight(member: T) -> bytes:
        return hashlib.blake2b(f"{slot(member)} {name!r}".encode(), digest_size=8).digest()

    return max(members, key=weight)
