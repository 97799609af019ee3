"""Decoded and resized pictures and batches of them, computed once for all rewards that look at them.

Five rewards on one file would decode it five times, and decoding costs more than anything else before the
network. The caches are memos: apart from time, nothing depends on a picture being in them.
"""

import os
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from ..engine.cache import ByteLRU
from ..errors import Unscorable
from ..media import ENCODED, Media
from ..streams import Cut
from .parallel import helped
from .pixels import Group, Recipe, grouped, resize, to_input

V = TypeVar("V")

DECODED_BYTES = 256 << 20
"""Decoded files kept, for networks of different input sizes: 85 pictures of 1024 x 1024."""
RESIZED_BYTES = 512 << 20
"""Resized pictures kept: 850 of 224 x 224 in float, and so more than one look-ahead window of a network (512
pictures), after which the next network asks for the same ones."""


class ThreadSingleFlight(Generic[V]):
    """Single-flight memo for threads: those that need the same tensor or batch at once compute it once.

    Above `limit` bytes the least recently used leave, and are made again when asked for. A failure is
    raised to the caller it happened to and not kept: the callers that waited for that result try themselves.
    `engine.cache.SingleFlight` is the form for coroutines, where a failure reaches all that waited.

    Args:
        limit: bytes; 0 keeps nothing, and then only concurrent callers share.
    """

    def __init__(self, limit: int) -> None:
        self._kept = ByteLRU(limit)
        self._making: dict[Hashable, Future[V | None]] = {}
        self._lock = threading.Lock()
        _memos.add(self)

    @property
    def nbytes(self) -> int:
        return self._kept.nbytes

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """What belongs to this key, not to be written to; raises what `make` raises."""
        while True:
            with self._lock:
                kept: V | None = self._kept.get(key)
                if kept is not None:
                    return kept
                under_way = self._making.get(key)
                if under_way is None:
                    mine: Future[V | None] = Future()
                    self._making[key] = mine
                    break
            # Its maker is a thread in the middle of `make`, and never one that waits for this key.
            if (made := under_way.result()) is not None:
                return made
        return self._make(key, make, mine)

    def busy(self, key: Hashable) -> bool:
        """True while a thread is making what belongs to this key."""
        return key in self._making

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()

    def forked(self) -> None:
        """Forget, in a fork, what threads of its parent are making."""
        if self._lock.locked():
            self._kept = ByteLRU(self._kept.limit)  # it may have been caught in the middle
        self._lock = threading.Lock()
        self._making = {}

    def _make(self, key: Hashable, make: Callable[[], V], mine: "Future[V | None]") -> V:
        made = None
        try:
            made = make()
        finally:
            with self._lock:
                if made is not None:
                    self._kept.put(key, made)
                del self._making[key]
            mine.set_result(made)
        return made


_memos: "weakref.WeakSet[ThreadSingleFlight[Any]]" = weakref.WeakSet()


def _forget_all() -> None:
    for memo in list(_memos):
        memo.forked()


os.register_at_fork(after_in_child=_forget_all)

_decoded: ThreadSingleFlight[torch.Tensor] = ThreadSingleFlight(DECODED_BYTES)
_resized: ThreadSingleFlight[torch.Tensor] = ThreadSingleFlight(RESIZED_BYTES)


def decoded(media: Media) -> torch.Tensor:
    """The picture, or a clip's first frame, as a uint8 tensor CHW, not to be written to.

    A tensor stays on its device. Only files and encoded bytes are kept: a caller's own array is as quick to
    reach as a copy of it, and may be changed by its owner.

    Raises:
        Unscorable: the picture is broken.
    """
    if isinstance(media.source, ENCODED):
        return _decoded.get(media.key, lambda: _decode(media))
    if not isinstance(media.source, torch.Tensor):
        return _decode(media)
    pixels = media.pixels()
    return pixels if media.kind == "image" else pixels[0]


def resized(media: Media, recipe: Recipe, backend: str) -> torch.Tensor:
    """The picture at the recipe's size before normalisation, not to be written to; see `pixels.resize`.

    Under "draft" a JPEG file is decoded no larger than its scales allow for this recipe, and not kept.

    Raises:
        Unscorable: the picture is broken.
        ValueError: an unknown backend.
    """

    def make() -> torch.Tensor:
        if backend == "draft":
            small = media.reduced(recipe.scaled(*media.size))
            if small is not None:
                return resize(_channels_first(small), recipe, backend, media.size)
        return resize(decoded(media).cpu(), recipe, backend)

    return _resized.get((media.key, recipe.geometry, backend), make)


class PictureBatch:
    """Pictures of one batch: as the input of a network on the CPU, else as stacks for `pixels.to_input`.

    Networks with one recipe that look at the same pictures share it, and none may write to it.
    """

    def __init__(self, groups: list[Group], recipe: Recipe, runs_on: torch.device) -> None:
        self._input = to_input(groups, recipe) if runs_on.type == "cpu" else None
        self._groups = groups if self._input is None else []

    def on(self, device: torch.device, recipe: Recipe) -> torch.Tensor:
        """The network's input, float32 (N, 3, height, width), normalised, where the network is."""
        return to_input(self._groups, recipe, device) if self._input is None else self._input.to(device)


_batches: "weakref.WeakValueDictionary[Hashable, PictureBatch]" = weakref.WeakValueDictionary()
"""Those that wait for the device or are on it: they are kept by whoever waits, and by nobody else."""
_batching: ThreadSingleFlight[PictureBatch] = ThreadSingleFlight(0)


def prepared(looks: Sequence[tuple[Media, str]], recipe: Recipe, runs_on: torch.device) -> PictureBatch:
    """Pictures as a network takes them that runs on a device, made by a worker.

    What "tensor" resizes is left whole for a GPU, which resizes faster.

    Args:
        looks: pictures, each with the backend that resizes it.
        recipe: of the network.
        runs_on: the network's device.
    """
    on_gpu = runs_on.type != "cpu"
    key = (
        tuple((media.key, backend) for media, backend in looks),
        recipe.geometry if on_gpu else recipe,
        runs_on.type,
    )

    def pixels(index: int) -> torch.Tensor:
        media, backend = looks[index]
        return resized(media, recipe, backend) if ready[index] else decoded(media)

    def make() -> PictureBatch:
        groups = grouped(made, pinned=runs_on.type == "cuda", ready=ready)
        _batches[key] = batch = PictureBatch(groups, recipe, runs_on)
        return batch

    if (alive := _batches.get(key)) is not None:
        return alive
    ready = [backend != "tensor" or not on_gpu for _, backend in looks]
    made = in_turn([media for media, _ in looks], pixels)
    return _batching.get(key, make)


def in_turn(medias: Sequence[Media], make: Callable[[int], V]) -> list[V]:
    """`make(index)` for every picture, first for those that no other thread is decoding at the moment.

    Two networks that are given the same pictures at once then decode half of them each, instead of waiting
    for one another at every single one. Where there is much to decode, processors that decode nothing help.

    Raises:
        Exception: what `make` raised for the first of the pictures for which it did.
    """
    done: dict[int, V] = {}
    raised: dict[int, BaseException] = {}
    keys = [media.key for media in medias]  # before there is a helper: what cannot be read raises here
    left, choosing = list(range(len(medias))), threading.Lock()

    def next_one() -> int | None:
        with choosing:
            if not left or raised:
                return None
            index = next((index for index in left if not _decoded.busy(keys[index])), left[0])
            left.remove(index)
            return index

    def work() -> None:
        while (index := next_one()) is not None:
            try:
                done[index] = make(index)
            except BaseException as error:  # raised again by the thread that waits
                raised[index] = error

    worth = sum(map(_encoded_pixels, medias)) // PIXELS_EACH
    with helped(work, min(len(medias) - 1, worth)):
        work()
    if raised:
        raise raised[min(raised)]
    return [done[index] for index in range(len(medias))]


PIXELS_EACH = 1 << 18
"""Pixels of encoded pictures for which one more thread is woken: they take milliseconds, and that a tenth."""


def _encoded_pixels(media: Media) -> int:
    """Pixels that have to be decoded, of a clip at least so many; what is in memory already has none."""
    if not isinstance(media.source, (*ENCODED, Cut)):
        return 0
    if media.kind == "video":
        return PIXELS_EACH
    try:
        return media.size[0] * media.size[1]
    except Unscorable:  # raised again where it is decoded
        return 0


def distinct(medias: Sequence[Media]) -> tuple[list[Media], list[int]]:
    """Pictures without repetition, in order, and for each of those given its place among them."""
    found: dict[str, Media] = {}
    for media in medias:
        found.setdefault(media.key, media)
    places = {key: place for place, key in enumerate(found)}
    return list(found.values()), [places[media.key] for media in medias]


def forget() -> None:
    """Drop all kept pictures."""
    _decoded.clear()
    _resized.clear()


def _decode(media: Media) -> torch.Tensor:
    return _channels_first(media.still())


def _channels_first(array: np.ndarray[Any, Any]) -> torch.Tensor:
    # Channels stay last in memory, as the decoder wrote them: every kernel reads that at least as fast.
    if not array.flags.writeable or not array.flags.c_contiguous:
        array = array.copy()
    return torch.from_numpy(array).permute(2, 0, 1)
