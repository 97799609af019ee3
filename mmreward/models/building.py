"""Building networks beside other threads: what transformers changes for the whole process while it loads.

`from_pretrained` replaces `PreTrainedModel.tie_weights` and sets torch's default dtype until the module is
made. Of two loads at once either may leave the tying off for good, so that embeddings stay random; and what
another thread computes meanwhile, a picture's pixels for instance, comes out in bfloat16.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _Turn:
    """Whose turn it is to build."""

    lock = threading.RLock()

    @classmethod
    def free(cls) -> None:
        """In a fork, free what a thread of the parent held at that moment: here nobody would."""
        cls.lock = threading.RLock()


os.register_at_fork(after_in_child=_Turn.free)


@contextmanager
def turn() -> Iterator[None]:
    """Block that imports what building imports as well: half-imported modules are seen by no other thread."""
    with _Turn.lock:
        yield


@contextmanager
def building(transformers: bool = True) -> Iterator[None]:
    """Block that builds a network: one at a time in the process, and torch's default dtype stays what it is
    for all other threads. A thread may enter again.

    Args:
        transformers: False where no model of transformers is built, whose import takes most of a second.
    """
    if not transformers:
        with turn():
            yield
        return
    from transformers import modeling_utils

    with _Turn.lock:
        theirs = modeling_utils.local_torch_dtype
        modeling_utils.local_torch_dtype = _local_dtype
        try:
            yield
        finally:
            modeling_utils.local_torch_dtype = theirs


def _local_dtype(dtype: torch.dtype, model_class_name: str | None = None) -> TorchFunctionMode:
    """In the place of transformers' function of this signature."""
    if not dtype.is_floating_point:
        raise ValueError(f"{model_class_name} has parameters of a floating-point dtype, not {dtype}")
    return _DefaultDtype(dtype)


_MAKING = {
    torch.arange,
    torch.empty,
    torch.eye,
    torch.full,
    torch.linspace,
    torch.logspace,
    torch.ones,
    torch.rand,
    torch.randn,
    torch.tensor,
    torch.zeros,
}


class _DefaultDtype(TorchFunctionMode):
    """What `torch.set_default_dtype` does for functions that make a tensor, on this thread alone."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        made = func(*args, **given)
        if (
            func not in _MAKING
            or given.get("dtype") is not None
            or made.dtype is not torch.get_default_dtype()
        ):
            return made
        if func is torch.tensor and hasattr(args[0], "dtype"):  # an array keeps its own
            return made
        return func(*args, **{**given, "dtype": self.dtype})
