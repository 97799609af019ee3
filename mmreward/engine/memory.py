"""Memory of devices: what lacks is recognised; what is freed goes back, or stays for a CPU's next batch."""

import ctypes
import gc
import os
import sys
from functools import cache

from ..errors import words

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
    if keep_freed.cache_info().currsize and keep_freed():
        ctypes.CDLL(None).malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """True when a smaller batch may work: a lack of memory, by torch's or Python's name for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in words(error)
