"""Batches run in Ray actors, on this machine or on many: a pool of actors for each network."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ..engine.batching import Call, Network
from ..engine.local import Report
from .pool import Grant, Member, Pool, Terms, is_death
from .session import join, leave


class RayPlacement:
    """Gives each network a pool of actors; an engine's `placement`.

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
        self._terms: Terms

    def start(self, report: Report) -> None:
        """Join the cluster.

        Raises:
            ValueError: no cluster at the address.
        """
        ray = join(self._address)
        self._terms = Terms(
            ray=ray,
            report=report,
            senders=ThreadPoolExecutor(2, thread_name_prefix="mmreward-send"),
            events=ThreadPoolExecutor(1, thread_name_prefix="mmreward-ray"),
            ready_seconds=self._ready_seconds,
            restarts=self._restarts,
            workers=self._workers,
        )

    def route(self, call: Call) -> Member:
        """The actor this call goes to.

        Raises:
            Unscorable: its network has no actor left, or cannot be sent to one.
        """
        return self._pool_of(call.network).route(call)

    def sleep(self) -> "Future[None]":
        return self._terms.senders.submit(self._tell, "sleep")

    def wake(self) -> "Future[None]":
        return self._terms.senders.submit(self._tell, "wake")

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._terms.senders.shutdown(cancel_futures=True)
        self._terms.events.shutdown(cancel_futures=True)
        leave()

    @property
    def nbytes(self) -> int:
        return sum(member.footprint.nbytes for member in self._members())

    @property
    def swaps(self) -> int:
        return sum(member.footprint.swaps for member in self._members())

    def _pool_of(self, network: Network) -> Pool:
        pool = self._pools.get(id(network))
        if pool is None:
            pool = Pool(network, self._own.get(network.name, self._grant), self._terms)
            with self._lock:
                self._pools[id(network)] = pool
        return pool

    def _members(self) -> list[Member]:
        with self._lock:
            pools = list(self._pools.values())
        return [member for pool in pools for member in list(pool.members)]

    def _tell(self, method: str) -> None:
        """Have every actor that has come up do something; one that is gone needs nothing done."""
        told = [(m, getattr(m.actor, method).remote()) for m in self._members() if m.ready]
        for member, answer in told:
            try:
                member.footprint = self._terms.ray.get(answer)
            except Exception as error:  # raised by the network, unless it is a death
                if not is_death(error):
                    raise
