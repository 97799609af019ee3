"""Torch networks behind the engine's `Network` protocol: finding weights, naming them by content, moving them
on and off a device.

Every network of this package derives from `TorchNetwork`. Knows nothing of pictures or texts.
"""

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch

from ..errors import Unavailable, words
from ..progress import loading as shown_loading
from .building import building
from .linears import hasten
from .varlen import attend_by_length
from .weights import content_of, fingerprint_of, known_dtype, locate


class TorchNetwork(ABC):
    """One torch module behind the engine's `Network` protocol; a subclass builds it and runs it.

    Args:
        weights: a miniature's name, a folder, or a hub id.
        dtype: a torch dtype's name.

    Raises:
        ValueError: no such dtype.
    """

    ragged = False
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        network = super().__new__(cls)
        network._arguments = (args, kwargs)
        return network

    def __init__(self, weights: str, *, dtype: str = "float32", **options: Any) -> None:
        self.name = weights
        self.source = locate(weights)
        self.dtype: torch.dtype = getattr(torch, known_dtype(dtype))
        self.options = options
        self.device = torch.device("cpu")
        self.processing = threading.Lock()
        """Taken while a tokenizer runs: a fast tokenizer's padding state is not thread-safe. Nothing is built
        meanwhile: see `building`."""
        self._module: torch.nn.Module | None = None
        _networks.add(self)
        self._host: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its class and arguments; the receiving process loads the weights from its own disk."""
        # A hub id that is not in this machine's cache is named by itself, which says nothing to compare.
        known = self.content != self.source
        return rebuild, (type(self), *self._arguments, self.fingerprint if known else None)

    @abstractmethod
    def build(self) -> torch.nn.Module:
        """Load the weights on the CPU."""

    @property
    def of_transformers(self) -> bool:
        """False where `build` makes nothing of transformers': its import is spared."""
        return True

    @property
    def module(self) -> Any:
        """The module on `self.device`, in evaluation mode, its parameters frozen."""
        if self._module is None:
            with building(self.of_transformers), loading(self.name):
                if self._module is None:
                    self._module = attend_by_length(hasten(self.build().eval().requires_grad_(False)))
        return self._module

    @cached_property
    def content(self) -> str:
        """Hash of the weights; see `content_of`."""
        return content_of(self.source)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of class, weights, dtype and options; see `fingerprint_of`."""
        return fingerprint_of(type(self).__name__, self.content, self.dtype, self.options)

    @property
    def nbytes(self) -> int:
        """Bytes of parameters and buffers; of the files on disk as long as nothing is loaded."""
        if self._module is None:
            folder = Path(self.source)
            if folder.is_file():
                return folder.stat().st_size
            return sum(f.stat().st_size for f in folder.rglob("*.safetensors")) if folder.is_dir() else 0
        return sum(tensor.nbytes for tensor in _tensors(self._module))

    def load(self, device: str) -> None:
        """Copy the weights to the device; the host keeps its own copy, page-locked where it can be."""
        module, target = self.module, torch.device(device)
        if target.type == "cpu":
            self.unload()
        else:
            self._bring(module, target)

    def _bring(self, module: torch.nn.Module, target: torch.device) -> None:
        if not self._host:
            self._host = [(tensor, _locked(tensor.data)) for tensor in _tensors(module)]
        for tensor, host in self._host:
            tensor.data = host.to(target, copy=True, non_blocking=True)
        if target.type == "cuda":
            torch.cuda.synchronize(target)
        self.device = target

    def unload(self) -> None:
        """Point back at the host's copy. Nothing is copied: the weights are frozen."""
        for tensor, host in self._host:
            tensor.data = host
        self.device = torch.device("cpu")


_networks: "weakref.WeakSet[TorchNetwork]" = weakref.WeakSet()


def _free_locks() -> None:
    """In a fork, free the locks that a thread of the parent held at that moment: here nobody would."""
    for network in list(_networks):
        network.processing = threading.Lock()


os.register_at_fork(after_in_child=_free_locks)


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Block that loads a part of a network: what it raises is no row's fault.

    Args:
        name: of the network.

    Raises:
        Unavailable: with the reason; a lack of memory is raised as it is.
    """
    try:
        with shown_loading(name):
            yield
    except (Unavailable, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        reason = " ".join(words(error).split())
        raise Unavailable(f"{name} cannot be loaded: {type(error).__name__}: {reason}") from error


def _tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _locked(tensor: torch.Tensor) -> torch.Tensor:
    """In page-locked memory, from which a copy to the device is several times as fast; else as it is."""
    if not torch.cuda.is_available():
        return tensor
    try:
        return tensor.pin_memory()
    except RuntimeError:  # the system lets us lock no more
        return tensor


def rebuild(
    kind: type[TorchNetwork], args: tuple[Any, ...], kwargs: dict[str, Any], fingerprint: str | None
) -> TorchNetwork:
    """The network of these arguments in another process, on this machine or another.

    Raises:
        ValueError: other weights lie here under the same name, so that the numbers would differ.
    """
    network = kind(*args, **kwargs)
    if fingerprint not in (None, network.fingerprint):
        raise ValueError(f"{network.name}: the weights on this machine are not those it was sent from")
    return network


def pooled(output: Any) -> torch.Tensor:
    """The embedding of `get_image_features` / `get_text_features`: a tensor before transformers 5, an output
    since."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output
