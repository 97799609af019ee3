"""Counters a user can read: what an engine did, and where the time went."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .batching import Load


@dataclass(slots=True)
class NetworkStats:
    """One network's batches. `padding` is the share of computed tokens that were padding."""

    batches: int = 0
    items: int = 0
    tokens: int = 0
    computed: int = 0
    prepare_seconds: float = 0.0
    forward_seconds: float = 0.0

    @property
    def padding(self) -> float:
        return 1 - self.tokens / self.computed if self.computed else 0.0


@dataclass(slots=True)
class Stats:
    """What the engine has done since it was made.

    `calls` were asked for; of these `cached` and `deduplicated` cost nothing, `failed` raised, `cancelled`
    were given up by every caller. `splits` counts batches halved to isolate a failure or to fit memory,
    `lost` batches whose place died.
    """

    calls: int = 0
    cached: int = 0
    deduplicated: int = 0
    cancelled: int = 0
    failed: int = 0
    splits: int = 0
    lost: int = 0
    out_of_memory: int = 0
    swaps: int = 0
    cache_bytes: int = 0
    resident_bytes: int = 0
    networks: dict[str, NetworkStats] = field(default_factory=dict)

    def batch(self, name: str, load: Load, prepared: float, forwarded: float, ragged: bool) -> None:
        """Count one finished batch."""
        entry = self.networks.setdefault(name, NetworkStats())
        entry.batches += 1
        entry.items += load.items
        entry.tokens += load.total
        entry.computed += load.tokens(ragged)
        entry.prepare_seconds += prepared
        entry.forward_seconds += forwarded

    def copy(self, **changes: int) -> "Stats":
        networks: Mapping[str, NetworkStats] = dict(self.networks)  # another thread may be adding
        return replace(self, networks={name: replace(entry) for name, entry in networks.items()}, **changes)

    def __str__(self) -> str:
        lines = [
            f"calls {self.calls}  cached {self.cached}  deduplicated {self.deduplicated}",
            f"failed {self.failed}  cancelled {self.cancelled}  splits {self.splits}  lost {self.lost}",
            f"out of memory {self.out_of_memory}  swaps {self.swaps}",
            f"cache {self.cache_bytes / 1e6:.1f} MB  resident {self.resident_bytes / 1e6:.1f} MB",
            f"{'network':<28}{'batches':>9}{'items':>9}{'per batch':>11}{'padding':>9}"
            f"{'prepare s':>11}{'forward s':>11}",
        ]
        for name, n in self.networks.items():
            lines.append(
                f"{name[:27]:<28}{n.batches:>9}{n.items:>9}{n.items / n.batches:>11.1f}{n.padding:>9.1%}"
                f"{n.prepare_seconds:>11.2f}{n.forward_seconds:>11.2f}"
            )
        return "\n".join(lines)
