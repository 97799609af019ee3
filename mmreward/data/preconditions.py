"""Preconditions of a run that are checked without computing anything: served models answer, names are free.

What can only be seen by computing (weights, packages, memory) is found by the probe of `failures`.
"""

import socket
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies

from ..errors import Unavailable
from ..models.served.http import is_served, parse_address
from ..registry import Reward

ANSWER = 5.0
"""Seconds within which a server's port must accept a connection."""


def check_rewards(rewards: Mapping[str, Reward]) -> None:
    """Refuse rewards whose served models are at no server, before minutes of retries say so.

    Behind a proxy nothing is checked. A server that is busy accepts connections all the same; whether it
    knows the model is up to its answers.

    Args:
        rewards: by the name their scores are stored under.

    Raises:
        Unavailable: nobody accepts connections at an address; names the reward, the address and the reason.
    """
    seen: set[tuple[str, int]] = set()
    for name, reward in rewards.items():
        for network in reward.networks:
            if is_served(network.name) and not getproxies():
                host, port = _place(network.name)
                if (host, port) not in seen:
                    _reach(host, port, name, network.name)
                    seen.add((host, port))


def _place(weights: str) -> tuple[str, int]:
    """Host and port of a served model."""
    parts = urlsplit(parse_address(weights).url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _reach(host: str, port: int, name: str, weights: str) -> None:
    try:
        with socket.create_connection((host, port), ANSWER):
            return
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
    fix = f"start it, or mend the address of {weights}"
    raise Unavailable(f"{name}: no server at {host}:{port} ({reason}); {fix}")
