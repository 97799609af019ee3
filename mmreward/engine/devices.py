"""Devices by name: "auto", "cpu", "cuda", "cuda:1", "mps", ..., checked before any row is charged for them.

Torch is imported for other names than "auto" and "cpu" only.
"""

from typing import Any

from ..errors import Unavailable, nearest

FREE = ("auto", "cpu")
"""Names that are right on every machine."""


def check_device(name: str) -> None:
    """Refuse a device that torch cannot use here; `Engine` calls it before there is a row.

    Args:
        name: as `Engine` takes it.

    Raises:
        ValueError: no device has such a name, or this machine has none of that number.
        Unavailable: torch sees no device of the kind.
    """
    if name in FREE:
        return
    import torch

    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        names = (*FREE, "cuda", "mps", "xpu")
        raise ValueError(f"no device named {name!r}: {nearest(name, names)}") from None
    if device.type == "cpu":
        return
    kind: Any = getattr(torch, device.type, None)
    if not hasattr(kind, "is_available"):
        raise ValueError(f"nothing can be computed on device {name!r}: use auto, cpu, cuda, mps or xpu")
    if not kind.is_available():
        built = f"torch {torch.__version__} sees none"
        raise Unavailable(f"device {name!r}: {built}; use cpu, or auto for what there is")
    count = kind.device_count() if hasattr(kind, "device_count") else 1
    if device.index is not None and device.index >= count:
        last = f"{device.type}:{count - 1}"
        raise ValueError(f"device {name!r}: this machine has {count} of that kind, the last is {last}")
