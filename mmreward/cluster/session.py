"""This process's connection to Ray: joined or started once, and given back by whoever needs it last."""

import threading
from typing import Any

_lock = threading.Lock()
_holders = 0
_ours = False


def ray_module() -> Any:
    """Ray itself.

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
    global _holders, _ours
    ray = ray_module()
    with _lock:
        if not ray.is_initialized():
            try:
                ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="warning")
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ValueError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
            _holders, _ours = 0, True
        _holders += 1
    return ray


def leave() -> None:
    """Undo one `join`; the last one disconnects, and stops what was started, unless others had connected."""
    global _holders, _ours
    with _lock:
        _holders -= 1
        if _holders == 0 and _ours:
            ray_module().shutdown()
            _ours = False
