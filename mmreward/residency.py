"""Which networks are on the device: as many as fit a byte limit, the least recently used leaving first.

Only the engine's device thread calls this, so it takes no lock.
"""

import gc
import sys
from collections import OrderedDict

from .batching import Network


class Residency:
    """Loads networks on demand and unloads others to make room.

    Args:
        device: handed to `Network.load`.
        limit: bytes of weights kept on the device together; None keeps everything. A network larger than the
            limit is still loaded, alone.
    """

    def __init__(self, device: str, limit: int | None = None) -> None:
        self.device = device
        self.limit = limit
        self.swaps = 0
        self._resident: OrderedDict[int, Network] = OrderedDict()
        self._asleep: list[Network] = []

    def __contains__(self, network: Network) -> bool:
        return id(network) in self._resident

    @property
    def nbytes(self) -> int:
        return sum(network.nbytes for network in list(self._resident.values()))

    def ensure(self, network: Network) -> None:
        """Make the network resident and the most recently used."""
        if id(network) not in self._resident:
            while self.limit is not None and self._resident and self.nbytes + network.nbytes > self.limit:
                self._evict()
            network.load(self.device)
            self._resident[id(network)] = network
        self._resident.move_to_end(id(network))
        # Some networks know their size only once they are loaded.
        while self.limit is not None and len(self._resident) > 1 and self.nbytes > self.limit:
            self._evict()

    def trim(self, keep: Network) -> bool:
        """Unload everything but `keep`; True when that freed something."""
        others = [network for network in self._resident.values() if network is not keep]
        for network in others:
            del self._resident[id(network)]
            network.unload()
        self.swaps += len(others)
        release_memory()
        return bool(others)

    def sleep(self) -> None:
        """Unload everything, remembering what was there."""
        self._asleep = list(self._resident.values()) or self._asleep
        while self._resident:
            self._evict()
        release_memory()

    def wake(self) -> None:
        """Load again what `sleep` unloaded."""
        networks, self._asleep = self._asleep, []
        for network in networks:
            self.ensure(network)

    def _evict(self) -> None:
        _, network = self._resident.popitem(last=False)
        network.unload()
        self.swaps += 1


def release_memory() -> None:
    """Give freed blocks back to the device, if torch is in use at all."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that a smaller batch may work."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
