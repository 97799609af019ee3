"""Devices by name ("auto", "cpu", "cuda", "cuda:1", "mps"), checked before any row is charged for them, and
their memory: what lacks is recognised, what is freed goes back, or stays for a CPU's next batch.

Torch is imported for other names than "auto" and "cpu" only.
"""

import ctypes
import gc
import os
import sys
from functools import cache
from typing import Any

from ..errors import Unavailable, nearest, words

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


# --- memory -----------------------------------------------------------------------------------------

KEPT_FREED = 1 << 30
"""Bytes of freed memory that a process which computes on its CPU keeps for what it allocates next."""
FROM_HEAP = 128 << 20
"""Bytes of a block up to which it is taken from that memory; larger ones (weights) go back to the system
as soon as they are freed."""
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's numbers of the two settings of `mallopt(3)`."""
OWN_CHOICE = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_")
"""Variables with which a user sets them."""


@cache
def keep_freed() -> bool:
    """Have glibc keep freed memory for the next allocation, in the whole process; False where that is no
    choice of ours, because its user made one or the system has another C library.

    By default it hands a large block back as soon as it is freed, and the system clears the next one page by
    page, which takes 5 to 13 % of a ViT-B/32's processor time (evals/speed.md).
    """
    if any(name in os.environ for name in OWN_CHOICE):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return False
    return bool(set_option(TRIM_THRESHOLD, KEPT_FREED) and set_option(MMAP_THRESHOLD, FROM_HEAP))


def release_memory() -> None:
    """Give freed blocks back to the device and to the system."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if keep_freed.cache_info().currsize and keep_freed():  # not to decide it here
        ctypes.CDLL(None).malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """True when a smaller batch may work: a lack of memory, by torch's or Python's name for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in words(error)
