"""Ray placement: an engine's batches run in actors, on this machine or on many, a pool of actors per network.

Knows which pool a network has, and nothing of single actors (`pool`) or of Ray's connection (`session`).
"""

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ..engine.batching import Call, Network
from ..engine.local import Report
from .pool import ActorPlace, Grant, Pool, Shared, is_death
from .session import join, leave


class RayPlacement:
    """Placement of an engine's networks in Ray actors, a pool for each network.

    Actors load the weights from their own disk, so a folder must be there under the same name on every
    machine. Pictures travel as bytes, so files need not be. Calls with an equal share (questions about one
    picture) meet in one actor. An actor that dies is replaced; its batches go to the others.

    Args:
        actors: processes per network.
        num_cpus, num_gpus: of each actor; see `Grant`.
        networks: network name (its weights' name) -> fields of `Grant` that differ for it.
        address: see `ray.init`; None joins the cluster of this process or machine, or starts one.
        ready_seconds: an actor that does not come up by then is given up.
        restarts: actors of one network that are replaced altogether.
        workers: threads in each actor that decode and tokenize.

    A call whose network has no actor left fails with a reason that says why; when actors never came up, with
    the resources they wanted and those the cluster has. That stays so for the rest of the placement's life.

    Raises:
        ValueError: Ray is not installed, or an argument is out of its range. Connecting is left to `start`.
    """

    def __init__(
        self,
        actors: int = 2,
        *,
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        networks: Mapping[str, Mapping[str, Any]] | None = None,
        address: str | None = None,
        ready_seconds: float = 300.0,
        restarts: int = 16,
        workers: int = 2,
    ) -> None:
        if ready_seconds <= 0 or restarts < 0 or workers < 1:
            raise ValueError(
                f"ready_seconds {ready_seconds} must be above 0, restarts {restarts} at least 0 and "
                f"workers {workers} at least 1"
            )
        common: dict[str, Any] = {"actors": actors, "num_cpus": num_cpus, "num_gpus": num_gpus}
        self._grant = Grant(**common)
        self._own = {name: Grant(**{**common, **given}) for name, given in (networks or {}).items()}
        self._address = address
        self._ready_seconds = ready_seconds
        self._restarts = restarts
        self._workers = workers
        self._pools: dict[int, Pool] = {}
        # Only the loop adds pools; it keeps them from changing while another thread goes through them.
        self._lock = threading.Lock()
        self._shared: Shared

    def start(self, report: Report) -> None:
        """Join the cluster.

        Raises:
            ValueError: no cluster at the address.
        """
        ray = join(self._address)
        self._shared = Shared(
            ray=ray,
            report=report,
            senders=ThreadPoolExecutor(2, thread_name_prefix="mmreward-send"),
            events=ThreadPoolExecutor(1, thread_name_prefix="mmreward-ray"),
            ready_seconds=self._ready_seconds,
            restarts=self._restarts,
            workers=self._workers,
        )

    def route(self, call: Call) -> ActorPlace:
        """The actor of this call.

        Raises:
            Unscorable: its network has no actor left, or cannot be sent to one.
        """
        return self._pool_of(call.network).route(call)

    def sleep(self) -> "Future[None]":
        return self._shared.senders.submit(self._on_every_actor, "sleep")

    def wake(self) -> "Future[None]":
        return self._shared.senders.submit(self._on_every_actor, "wake")

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._shared.senders.shutdown(cancel_futures=True)
        self._shared.events.shutdown(cancel_futures=True)
        leave()

    @property
    def nbytes(self) -> int:
        return sum(place.footprint.nbytes for place in self._places())

    @property
    def swaps(self) -> int:
        return sum(place.footprint.swaps for place in self._places())

    def _pool_of(self, network: Network) -> Pool:
        pool = self._pools.get(id(network))
        if pool is None:
            pool = Pool(network, self._own.get(network.name, self._grant), self._shared)
            with self._lock:
                self._pools[id(network)] = pool
        return pool

    def _places(self) -> list[ActorPlace]:
        with self._lock:
            pools = list(self._pools.values())
        return [place for pool in pools for place in list(pool.places)]

    def _on_every_actor(self, method: str) -> None:
        """Call a method of every actor that has come up; for one that is gone there is nothing to do."""
        calls = [(place, getattr(place.actor, method).remote()) for place in self._places() if place.ready]
        for place, answer in calls:
            try:
                place.footprint = self._shared.ray.get(answer)
            except Exception as error:  # raised by the network, unless it is a death
                if not is_death(error):
                    raise
