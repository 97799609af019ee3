"""ONNX networks whose weights a package's wheel ships: no download, no GPU, one picture at a time.

They are services to the engine (`engine.batching.Service`): equal pictures are computed once for all rewards
and kept in its cache, and the work is done on threads of its own, neither on the loop nor on the device's
thread. Each thread has its own session with one thread inside, so a picture's numbers depend neither on its
neighbours nor on the machine's load. On Ray they run where the engine is.
"""

import asyncio
import hashlib
import os
import threading
from abc import ABC, abstractmethod
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.workers import Workers
from ..errors import Unavailable
from ..media import Media
from .parallel import processors

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

MOST = 16
"""Threads at most; each holds a copy of the weights."""

_workers: dict[int, Workers] = {}
"""By process: a fork has none of its parent's threads."""


def workers() -> Workers:
    """Threads that run these networks in this process: one for every core that it may use, up to `MOST`."""
    if (process := os.getpid()) not in _workers:
        _workers[process] = Workers(min(MOST, processors()), "mmreward-onnx")
    return _workers[process]


class Shipped(ABC):
    """One network out of a wheel, behind the engine's `Service` protocol.

    Args:
        package: that ships it; its version is part of the fingerprint, as it also prepares the pictures.
    """

    def __init__(self, package: str) -> None:
        self.package = package
        self._mine = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    @property
    def name(self) -> str:
        return f"{self.package} {self._version}"

    @property
    def _version(self) -> str:
        try:
            return version(self.package)
        except PackageNotFoundError:  # imported from a folder that was never installed
            return "of no version"

    @abstractmethod
    def files(self) -> list[Path]:
        """The weights' files.

        Raises:
            Unavailable: the wheel has none.
        """

    @abstractmethod
    def build(self) -> Any:
        """A session of this thread's own, on one thread of the CPU."""

    @abstractmethod
    def look(self, session: Any, pixels: Pixels) -> Any:
        """Result of one picture, RGB (H, W, 3); an exception is that picture's."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the class, the package's version and the weights."""
        digest = hashlib.blake2b(f"{type(self).__name__} {self.name}".encode(), digest_size=8)
        for file in self.files():
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
        return digest.hexdigest()

    async def answer(self, op: str, item: Media) -> Any:
        """Result for one picture, or a clip's first frame."""
        return await asyncio.wrap_future(workers().submit(self._answer, item))

    async def close(self) -> None:
        """Release nothing: the threads are the process's, and end with it."""
        return

    def _answer(self, media: Media) -> Any:
        # These import torch, for which a list of rewards does not wait.
        from .base import loading
        from .pictures import decoded

        pixels = np.ascontiguousarray(decoded(media).cpu().permute(1, 2, 0).numpy())
        if not hasattr(self._mine, "session"):
            with loading(self.name):
                self._mine.session = self.build()
        return self.look(self._mine.session, pixels)


def shipped_file(folder: Path, name: str, package: str) -> Path:
    """A file of weights in a wheel's folder, which must be there: nothing is fetched.

    Raises:
        Unavailable: it is not, with the command that brings it.
    """
    if not (folder / name).is_file():
        raise Unavailable(
            f"{package} is installed without its weights {name}: pip install --force-reinstall {package}"
        )
    return folder / name


def one_thread() -> Any:
    """onnxruntime's options for a session that starts no thread and prints nothing but errors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options
