"""What runs in an actor: one network, on the device the actor was granted, behind the usual `Local`.

So preparing overlaps with forwarding, and a batch that lacks memory is tried again, exactly as in-process.
"""

import pickle
from concurrent.futures import Future
from typing import Any, NamedTuple

from ..batching import Call, Network
from ..placement import Local, Place


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
