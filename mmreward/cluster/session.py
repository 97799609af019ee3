"""Ray session of this process: joined or started with its first user, and left with its last."""

import threading
from collections.abc import Mapping
from typing import Any


class _Connection:
    """Owner and number of users of the connection. The lock keeps two threads from both starting Ray."""

    lock = threading.Lock()
    ours = False
    holders = 0


def ray_module() -> Any:
    """The module `ray`.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise ValueError('this needs Ray: pip install "mmreward[ray]"') from None
    return ray


def join(address: str | None) -> Any:
    """Connect to a cluster, or start one on this machine, unless the process has a connection already.

    Args:
        address: as for `ray.init`: a host and port, "auto", "local", or None for RAY_ADDRESS, a cluster that
            runs on this machine, or a new one.

    Returns:
        The module `ray`.

    Raises:
        ValueError: Ray is not installed, or no cluster answers at the address.
    """
    ray = ray_module()
    with _Connection.lock:
        if not ray.is_initialized():
            quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "warning"}
            try:
                ray.init(address=address, **quiet)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ValueError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
            _Connection.ours, _Connection.holders = True, 0
        _Connection.holders += 1
    return ray


def leave() -> None:
    """Undo one `join`; the last one disconnects, and stops what was started, unless others had connected."""
    with _Connection.lock:
        _Connection.holders -= 1
        if _Connection.ours and not _Connection.holders:
            ray_module().shutdown()
            _Connection.ours = False


def shortage(ray: Any, what: str, wanted: Mapping[str, float], seconds: float) -> str:
    """Message about actors that did not come up: resources wanted, in the cluster, and free."""
    try:
        has, free = _amounts(ray.cluster_resources()), _amounts(ray.available_resources())
    except Exception:  # the cluster itself does not answer
        has = free = "unknown"
    return (
        f"{what} not ready within {seconds:g} s: each wants {_amounts(wanted)}; the cluster has {has}, of "
        f"which {free} are free"
    )


def _amounts(resources: Mapping[str, float]) -> str:
    """CPUs, GPUs and custom resources; not memory, nor the names Ray gives to machines."""
    shown = {
        name: amount
        for name, amount in resources.items()
        if amount and name not in ("memory", "object_store_memory") and ":" not in name
    }
    return ", ".join(f"{name} {amount:g}" for name, amount in sorted(shown.items())) or "none"
