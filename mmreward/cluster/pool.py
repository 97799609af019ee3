"""The actors of one network: which of them a call goes to, and who takes the place of one that dies.

Knows nothing of what runs in an actor. A member takes batches from the engine's loop; what
Ray tells of them is taken up on a thread of the placement's.
"""

# FOLDED mmreward/cluster/host.py: What runs in an actor: one network, on the device the actor was granted, behind the usual `Local`.
#
# So preparing overlaps with forwarding, and a batch that lacks memory is tried again, exactly as in-process.
#
# FOLDED mmreward/cluster/member.py: One actor of a pool, as the engine sees it: a place that runs batches until it dies.

import hashlib
import pickle
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..engine.batching import Call, Network
from ..engine.local import Local, Place, Report, deliverable
from ..engine.queues import STAGED
from ..errors import Unscorable
from .session import shortage


class Outcome(NamedTuple):
    """What became of a batch: a result or exception for each item, or the error of the whole.

    Seconds are the actor's own, without the way there and back.
    """

    results: list[Any]
    error: Exception | None
    prepared: float
    forwarded: float
    footprint: "Footprint"


class Footprint(NamedTuple):
    """Bytes of weights on the actor's device, and how often they had to leave it."""

    nbytes: int
    swaps: int


class Host:
    """The actor. Its methods are called from several threads, so that batches can be prepared ahead.

    Args:
        device: what the network is loaded on; "auto" takes the GPU that Ray has assigned.
        workers: threads that decode and tokenize.
    """

    def __init__(self, device: str, workers: int) -> None:
        self._local = Local(device, workers=workers)
        self._local.start(_Waiting())
        self._network: Network

    def receive(self, network: Network) -> None:
        """Take the network; its weights are loaded by the first batch."""
        self._network = network

    def run(self, op: str, items: list[Any]) -> Outcome:
        """Prepare and forward one batch."""
        calls = _Batch(Call(self._network, op, item, None) for item in items)
        self._local.run(calls)
        results, error, prepared, forwarded = calls.outcome.result()
        return Outcome([_portable(result) for result in results], error, prepared, forwarded, self._footprint)

    def sleep(self) -> Footprint:
        self._local.sleep().result()
        return self._footprint

    def wake(self) -> Footprint:
        self._local.wake().result()
        return self._footprint

    @property
    def _footprint(self) -> Footprint:
        return Footprint(self._local.nbytes, self._local.swaps)


class _Batch(list[Call]):
    """The calls of one batch, and where its outcome goes."""

    def __init__(self, calls: Any) -> None:
        super().__init__(calls)
        self.outcome: Future[tuple[list[Any], Exception | None, float, float]] = Future()


class _Waiting:
    """Hands each report to the thread that waits for it."""

    def done(
        self, place: Place, calls: list[Call], results: list[Any], prepared: float, forwarded: float
    ) -> None:
        assert isinstance(calls, _Batch)
        calls.outcome.set_result((results, None, prepared, forwarded))

    def failed(self, place: Place, calls: list[Call], error: Exception) -> None:
        assert isinstance(calls, _Batch)
        calls.outcome.set_result(([], _portable(error), 0.0, 0.0))

    def lost(self, place: Place, calls: list[Call], error: Exception, *, began: bool = True) -> None:
        raise AssertionError("a process does not outlive itself")


def _portable(result: Any) -> Any:
    """An exception that cannot travel becomes one that can; anything else is handed back as it is."""
    if not isinstance(result, Exception):
        return result
    try:
        pickle.loads(pickle.dumps(result))
    except Exception:  # its class may do anything here
        return RuntimeError(f"{type(result).__name__}: {result}")
    return result


if TYPE_CHECKING:
    pass  # MOVED


class Member:
    """Starts an actor for one slot of the pool and hands it batches.

    It is starting, then ready, then dead. Whatever it had when it died is reported lost; batches count as
    begun only if it was ready.
    """

    def __init__(self, pool: "Pool", slot: int) -> None:
        self.slot = slot
        self.ready = False
        self.dead: Exception | None = None
        self.footprint = Footprint(0, 0)
        self._pool = pool
        self._batches: dict[int, list[Call]] = {}
        grant, terms = pool.grant, pool.terms
        actor = terms.ray.remote(Host).options(
            num_cpus=grant.num_cpus,
            num_gpus=grant.num_gpus,
            resources=dict(grant.resources),
            # Batches under way, and one call more: sleep and wake come when no batch does.
            max_concurrency=STAGED + 1,
            max_restarts=0,
        )
        self.actor = actor.remote("auto" if grant.num_gpus else "cpu", terms.workers)
        # Told on the same thread as `_started`, so that only one of the two comes first.
        self._late = threading.Timer(terms.ready_seconds, terms.tell, (self._too_late,))
        self._late.daemon = True

    def start(self) -> None:
        """Send the network; the pool lists the member by now, so it can be told of a failure."""
        self._late.start()
        received = self.actor.receive.remote(self._pool.recipe).future()
        self._pool.terms.told(received, self._started)

    # --- the engine's side ------------------------------------------------------------------------

    def resident(self, network: Network) -> bool:
        return self.ready

    def run(self, calls: list[Call]) -> None:
        with self._pool.lock:
            if self.dead is not None:
                self._pool.terms.report.lost(self, calls, self.dead, began=False)
                return
            self._batches[id(calls)] = calls
            if self.ready:
                self._pool.terms.senders.submit(self._send, calls)

    def _send(self, calls: list[Call]) -> None:
        """Pickle a batch, files and all, and be told when its outcome is there."""
        try:
            outcome = self.actor.run.remote(calls[0].op, [call.item for call in calls]).future()
        except Exception as error:  # an item that cannot be pickled
            if self._take(calls):
                self._pool.terms.report.failed(self, calls, deliverable(error))
        else:
            self._pool.terms.told(outcome, lambda future: self._ended(calls, future))

    # --- Ray's side, told on a thread for that ----------------------------------------------------

    def _started(self, future: "Future[None]") -> None:
        error = future.exception()
        if error is not None:
            # An actor that cannot take the network would fail again; one that died may do better elsewhere.
            self.die(cause_of(error), replace=is_death(error))
            return
        self._late.cancel()
        with self._pool.lock:
            if self.dead is None:
                self.ready = True
                self._pool.joined(self)
                for calls in self._batches.values():
                    self._pool.terms.senders.submit(self._send, calls)

    def _too_late(self) -> None:
        if not self.ready:
            pool = self._pool
            what = f"an actor of {pool.network.name} was"
            self.die(
                TimeoutError(shortage(pool.terms.ray, what, pool.grant.wanted, pool.terms.ready_seconds))
            )

    def _ended(self, calls: list[Call], future: "Future[Outcome]") -> None:
        error = future.exception()
        if error is not None and is_death(error):
            self.die(cause_of(error), replace=True)
            return
        if not self._take(calls):
            return
        report = self._pool.terms.report
        if error is not None:
            report.failed(self, calls, cause_of(error))
            return
        outcome = future.result()
        self.footprint = outcome.footprint
        if outcome.error is not None:
            report.failed(self, calls, outcome.error)
        else:
            report.done(self, calls, outcome.results, outcome.prepared, outcome.forwarded)

    def die(self, error: Exception, *, replace: bool = False) -> None:
        """Report what it had once the pool has others to give it to, and kill the actor."""
        with self._pool.lock:
            if self.dead is not None:
                return
            began, self.ready, self.dead = self.ready, False, error
            batches, self._batches = list(self._batches.values()), {}
            self._pool.retire(self, error, replace=replace)
        self._late.cancel()
        for calls in batches:
            self._pool.terms.report.lost(self, calls, error, began=began)
        if self._pool.terms.ray.is_initialized():
            self._pool.terms.ray.kill(self.actor)

    def _take(self, calls: list[Call]) -> bool:
        """Whether the batch has not been reported yet; from now on it counts as reported."""
        with self._pool.lock:
            return self._batches.pop(id(calls), None) is not None


def is_death(error: BaseException) -> bool:
    """Whether an actor's answer means that the actor, or the way to it, is gone."""
    from ray import exceptions as ray_errors

    return isinstance(
        error,
        ray_errors.RayActorError
        | ray_errors.WorkerCrashedError
        | ray_errors.NodeDiedError
        | ray_errors.OutOfMemoryError  # the machine's, so Ray has killed the process; not the device's
        | ray_errors.ObjectLostError
        | ray_errors.LocalRayletDiedError
        | ray_errors.ActorUnschedulableError
        | ray_errors.RuntimeEnvSetupError,
    )


def cause_of(error: BaseException) -> Exception:
    """What was raised in the actor, without Ray's wrapping; a death by its first lines."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return deliverable(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return RuntimeError(f"{type(error).__name__}: {' '.join(lines)[:500]}")


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
