"""One actor of a pool, as the engine sees it: a place that runs batches until it dies."""

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from ..batching import Call, Network
from ..device import deliverable
from ..lanes import STAGED
from .host import Footprint, Host, Outcome
from .session import shortage

if TYPE_CHECKING:
    from .pool import Pool


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
