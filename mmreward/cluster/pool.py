"""Actor pool of one network: routing of calls to actors, replacement of those that die, and the actor itself.

On the engine's side a `Pool` routes calls to `ActorPlace`s, each of which runs batches in one Ray actor until
that dies. Batches come on the engine's loop; Ray's answers are handled on a thread of the placement. On the
actor's side a `NetworkActor` runs one network behind the usual `Local`, so preparing overlaps with
forwarding, and a batch that lacks memory is tried again, exactly as in-process. Knows nothing of samples and
rewards.
"""

import hashlib
import pickle
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from ..engine.batching import Call, Network
from ..engine.device_thread import deliverable
from ..engine.local import Local, Place, Report
from ..engine.queues import STAGED
from ..errors import Unscorable
from ..limits import changed, set_limits
from .session import shortage

T = TypeVar("T")


class Outcome(NamedTuple):
    """Outcome of a batch: a result or exception for each item, or the error of the whole.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Resources of one network in the cluster: a number of actors, and the share of a machine of each.

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
        """Resources of one actor, by Ray's names."""
        return {"CPU": self.num_cpus, "GPU": self.num_gpus, **self.resources}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Connection, threads and limits that the pools of one placement share."""

    ray: Any
    report: Report
    senders: ThreadPoolExecutor
    """Threads that pickle batches."""
    events: ThreadPoolExecutor
    """One thread for Ray's answers: Ray's own thread must never wait for Ray, as killing an actor does."""
    ready_seconds: float
    restarts: int
    workers: int

    def when_done(self, future: "Future[Any]", then: "Callable[[Future[Any]], None]") -> None:
        """Call `then` with the finished future, on the thread for Ray's answers."""
        future.add_done_callback(lambda done: self.post(then, done))

    def post(self, then: Callable[..., None], *args: Any) -> None:
        """Call a function on the thread for Ray's answers, unless the placement is closed."""
        with suppress(RuntimeError):  # the placement is closed: nobody waits for this any more
            self.events.submit(then, *args)


# --- the engine's side -------------------------------------------------------------------------------------


class Pool:
    """Actors of one network, and the routing of its calls to them.

    Args:
        network: sent to each actor, pickled.
        grant: number and size of the actors.
        shared: by the pools of the placement.

    Raises:
        Unscorable: the network cannot be pickled.
    """

    def __init__(self, network: Network, grant: Grant, shared: Shared) -> None:
        self.network = network
        self.grant = grant
        self.shared = shared
        self.restarts = shared.restarts
        # Places, their states and their batches change under it: batches come on the loop, Ray's answers on
        # another thread.
        self.lock = threading.RLock()
        try:
            self.network_ref = shared.ray.put(network)
        except Exception as error:  # pickling runs the network's own code
            raise Unscorable(f"{network.name} cannot be sent to an actor: {error}") from error
        self._tokens = [0] * grant.actors
        self._error: Exception = RuntimeError("closed")
        self._closed = False
        self.places: list[ActorPlace] = []
        for slot in range(grant.actors):
            self._add(slot)

    def route(self, call: Call) -> "ActorPlace":
        """The place of calls with this share (else key); without either, the one with the least work so far.

        Raises:
            Unscorable: every actor has died or never came up.
        """
        with self.lock:
            places = [place for place in self.places if place.ready] or self.places
            if not places:
                raise Unscorable(f"no actor of {self.network.name} is left: {self._error}")
            name = call.share if call.share is not None else call.key
            if name is None:
                place = min(places, key=lambda place: self._tokens[place.slot])
            else:
                place = rendezvous(name, places, lambda place: place.slot)
            self._tokens[place.slot] += call.cost.tokens
            return place

    def came_up(self, place: "ActorPlace") -> None:
        """Note that a place is ready. It counts as having had as much work as the others: a replacement that
        counted from zero would get every call until it caught up."""
        self._tokens[place.slot] = max(self._tokens)

    def retire(self, place: "ActorPlace", error: Exception, *, replace: bool) -> None:
        """Remove a dead place, and start another in its slot while there are restarts left."""
        self.places.remove(place)
        self._error = error
        if replace and self.restarts > 0 and not self._closed:
            self.restarts -= 1
            self._add(place.slot)

    def close(self) -> None:
        """Kill every actor."""
        with self.lock:
            self._closed = True
            places = list(self.places)
        for place in places:
            place.die(RuntimeError("the engine is closed"))

    def _add(self, slot: int) -> None:
        with self.lock:
            place = ActorPlace(self, slot)
            self.places.append(place)
            place.start()


def rendezvous(name: object, places: list[T], slot: Callable[[T], int]) -> T:
    """The place with the highest hash of (slot, name): when one goes, only its own names move.

    Rendezvous hashing (Thaler and Ravishankar 1998); blake2b, because `hash` differs between processes.
    """

    def weight(place: T) -> bytes:
        return hashlib.blake2b(f"{slot(place)} {name!r}".encode(), digest_size=8).digest()

    return max(places, key=weight)


class ActorPlace:
    """Place that runs batches in one actor of a pool, which it starts.

    It is starting, then ready, then dead. The batches it had when it died are reported lost; they count as
    begun only if it was ready.
    """

    def __init__(self, pool: "Pool", slot: int) -> None:
        self.slot = slot
        self.ready = False
        self.dead: Exception | None = None
        self.footprint = Footprint(0, 0)
        self._pool = pool
        self._batches: dict[int, list[Call]] = {}
        grant, shared = pool.grant, pool.shared
        actor = shared.ray.remote(NetworkActor).options(
            num_cpus=grant.num_cpus,
            num_gpus=grant.num_gpus,
            resources=dict(grant.resources),
            # Batches under way, and one call more: sleep and wake come when no batch does.
            max_concurrency=STAGED + 1,
            max_restarts=0,
        )
        self.actor = actor.remote("auto" if grant.num_gpus else "cpu", shared.workers, changed())
        # Posted to the same thread as `_started`, so that only one of the two comes first.
        self._late = threading.Timer(shared.ready_seconds, shared.post, (self._too_late,))
        self._late.daemon = True

    def start(self) -> None:
        """Send the network. The pool lists the place by now, so that a failure finds it there."""
        self._late.start()
        received = self.actor.receive.remote(self._pool.network_ref).future()
        self._pool.shared.when_done(received, self._started)

    # --- the engine's side ------------------------------------------------------------------------

    def resident(self, network: Network) -> bool:
        return self.ready

    def run(self, calls: list[Call]) -> None:
        with self._pool.lock:
            if self.dead is not None:
                self._pool.shared.report.lost(self, calls, self.dead, began=False)
                return
            self._batches[id(calls)] = calls
            if self.ready:
                self._pool.shared.senders.submit(self._send, calls)

    def stalls(self, calls: list[Call]) -> bool:
        return False  # it is the actor's

    def _send(self, calls: list[Call]) -> None:
        """Pickle a batch, files and all, and wait for its outcome by callback."""
        try:
            outcome = self.actor.run.remote(calls[0].op, [call.item for call in calls]).future()
        except Exception as error:  # an item that cannot be pickled
            if self._take(calls):
                self._pool.shared.report.failed(self, calls, deliverable(error))
        else:
            self._pool.shared.when_done(outcome, lambda future: self._ended(calls, future))

    # --- Ray's answers, on the thread for them ----------------------------------------------------

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
                self._pool.came_up(self)
                for calls in self._batches.values():
                    self._pool.shared.senders.submit(self._send, calls)

    def _too_late(self) -> None:
        if not self.ready:
            pool = self._pool
            what = f"an actor of {pool.network.name} was"
            self.die(
                TimeoutError(shortage(pool.shared.ray, what, pool.grant.wanted, pool.shared.ready_seconds))
            )

    def _ended(self, calls: list[Call], future: "Future[Outcome]") -> None:
        error = future.exception()
        if error is not None and is_death(error):
            self.die(cause_of(error), replace=True)
            return
        if not self._take(calls):
            return
        report = self._pool.shared.report
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
        """Report its batches lost, once the pool has other places for them, and kill the actor."""
        with self._pool.lock:
            if self.dead is not None:
                return
            began, self.ready, self.dead = self.ready, False, error
            batches, self._batches = list(self._batches.values()), {}
            self._pool.retire(self, error, replace=replace)
        self._late.cancel()
        for calls in batches:
            self._pool.shared.report.lost(self, calls, error, began=began)
        if self._pool.shared.ray.is_initialized():
            self._pool.shared.ray.kill(self.actor)

    def _take(self, calls: list[Call]) -> bool:
        """True when the batch has not been reported yet; from now on it counts as reported."""
        with self._pool.lock:
            return self._batches.pop(id(calls), None) is not None


def is_death(error: BaseException) -> bool:
    """True when an actor's error means that the actor, or the way to it, is gone."""
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
    """The exception raised in the actor, without Ray's wrapping; of a death, its first lines."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return deliverable(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return RuntimeError(f"{type(error).__name__}: {' '.join(lines)[:500]}")


# --- the actor's side ------------------------------------------------------------------------------------


class NetworkActor:
    """Ray actor of one network. Its methods are called from several threads, so batches are prepared ahead.

    Args:
        device: what the network is loaded on; "auto" takes the GPU that Ray has assigned.
        workers: threads that decode and tokenize.
        limits: of the driver, where they are not the defaults.
    """

    def __init__(self, device: str, workers: int, limits: Mapping[str, float] | None = None) -> None:
        set_limits(limits)
        self._local = Local(device, workers=workers)
        self._local.start(_Waiting())
        self._network: Network

    def receive(self, network: Network) -> None:
        """Accept the network; its weights are loaded by the first batch."""
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
    """Calls of one batch, and the future of its outcome."""

    def __init__(self, calls: Any) -> None:
        super().__init__(calls)
        self.outcome: Future[tuple[list[Any], Exception | None, float, float]] = Future()


class _Waiting:
    """`Report` that completes the future of each batch, for which a thread of the actor waits."""

    def done(
        self, place: Place, calls: list[Call], results: list[Any], prepared: float, forwarded: float
    ) -> None:
        assert isinstance(calls, _Batch)
        calls.outcome.set_result((results, None, prepared, forwarded))

    def begun(self, place: Place, calls: list[Call]) -> None:
        """The driver gives its actor no more batches for that: what is there already is taken up."""

    def failed(self, place: Place, calls: list[Call], error: Exception) -> None:
        assert isinstance(calls, _Batch)
        calls.outcome.set_result(([], _portable(error), 0.0, 0.0))

    def lost(self, place: Place, calls: list[Call], error: Exception, *, began: bool = True) -> None:
        raise AssertionError("a process does not outlive itself")


def _portable(result: Any) -> Any:
    """The result; an exception that cannot be pickled becomes a RuntimeError that can."""
    if not isinstance(result, Exception):
        return result
    try:
        pickle.loads(pickle.dumps(result))
    except Exception:  # its class may do anything here
        return RuntimeError(f"{type(result).__name__}: {result}")
    return result
