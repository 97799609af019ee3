"""Reads that end: regular files up to a limit, texts without replaced bytes, and worker threads to wait on.

A file may be a FIFO, a device, or lie on a mount that has stalled: nothing here waits for it on the loop.
"""

import asyncio
import base64
import codecs
import os
import queue
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from .errors import Unscorable
from .limits import limits, most

T = TypeVar("T")

THREADS = 16
"""Threads that read; each one can be held up by one file that does not answer."""


@dataclass(frozen=True, slots=True)
class Span:
    """Part of a file, such as a member of a tar; read when it is asked for.

    Args:
        path: of the file.
        start: its first byte.
        size: in bytes.
        name: what it is called in messages; no path.
    """

    path: Path
    start: int
    size: int
    name: str

    def read(self, limit: str) -> bytes:
        """Its bytes; raises as `read_regular`, and where the file ends before it does."""
        if self.size > getattr(limits(), limit):
            raise Unscorable(f"{self.name} has {self.size} bytes; the limit is {most(limit)}")
        data = _read(self.path, limit, self)
        if len(data) < self.size:
            raise Unscorable(f"{self.name} ends after {len(data)} of {self.size} bytes: its tar is cut off")
        return data

    def head(self, size: int) -> bytes:
        """Its first bytes; raises as `read`."""
        return replace(self, size=min(size, self.size)).read("file_bytes")


def read_regular(path: Path, limit: str) -> bytes:
    """The bytes of a regular file, opened without waiting: a FIFO, a socket or a device is refused, not read.

    Raises:
        Unscorable: "missing" where there is no such file; else no regular file, more bytes than the limit
            of this name, or one that cannot be read.
    """
    return _read(path, limit, None)


@contextmanager
def regular_file(path: Path, limit: str) -> Iterator[IO[bytes]]:
    """A regular file, opened without waiting, for one who reads parts of it; raises as `read_regular`, also
    inside the block."""
    with _open(path) as (file, about):
        _checked(path, about, limit)
        yield file


def file_hash(path: Path, limit: str, algorithm: Callable[[], Any]) -> str:
    """Hash of a regular file, kept while its size and its last change stay as they are: of one file there may
    be hundreds of clips.

    Args:
        path: of the file.
        limit: name of the limit on its bytes.
        algorithm: as in `hashlib`, one object for one algorithm.

    Raises:
        Unscorable: as `read_regular`.
    """
    with _open(path) as (_, about):
        standing = about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
    return _file_hash(path, limit, algorithm, standing)


@lru_cache(maxsize=256)
def _file_hash(path: Path, limit: str, algorithm: Callable[[], Any], _: tuple[int, ...]) -> str:
    hashed = algorithm()
    with regular_file(path, limit) as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return str(hashed.hexdigest())


@contextmanager
def _open(path: Path) -> Iterator[tuple[IO[bytes], os.stat_result]]:
    name = str(path)[:200]
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise Unscorable(f"cannot read {name}: it is {_sort(about.st_mode)}, not a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                yield file, about
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise Unscorable(f"no file at {name}", "missing") from None
    except (OSError, ValueError) as error:
        if isinstance(error, Unscorable):
            raise
        raise Unscorable(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from None


def _checked(path: Path, about: os.stat_result, limit: str) -> None:
    if about.st_size > getattr(limits(), limit):
        raise Unscorable(f"{str(path)[:200]} has {about.st_size} bytes; the limit is {most(limit)}")


def _read(path: Path, limit: str, span: Span | None) -> bytes:
    """The bytes of a regular file, or of a part of it; raises as `read_regular`."""
    allowed = getattr(limits(), limit)
    with _open(path) as (file, about):
        if span is not None:
            file.seek(span.start)
            return file.read(span.size)
        _checked(path, about, limit)
        # As much as there is, for room is made for what is asked: for 512 MB it takes longer than to read a
        # picture. What says that it is shorter than it is, is read on.
        data = file.read(min(allowed, about.st_size) + 1)
        if about.st_size < len(data) <= allowed:
            data += file.read(allowed + 1 - len(data))
    if len(data) > allowed:
        raise Unscorable(f"{str(path)[:200]} has more bytes than the limit of {most(limit)}")
    return data


def _sort(mode: int) -> str:
    sorts = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a FIFO", stat.S_ISSOCK: "a socket"}
    return next((words for test, words in sorts.items() if test(mode)), "a device")


BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decoded_text(data: bytes, name: str) -> str:
    """Text of these bytes: in the encoding of their byte order mark, else UTF-8.

    Raises:
        Unscorable: bytes that are neither; none is replaced.
    """
    encoding = next((known for mark, known in BOMS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        byte = data[error.start : error.start + 1].hex()
        raise Unscorable(
            f"{name} is not {encoding.upper()} (byte 0x{byte} at {error.start}): save it as UTF-8",
            "unparsable",
        ) from None


def data_of_url(url: str, limit: str) -> bytes:
    """The content of a data URL, such as data:image/png;base64,...

    Raises:
        ValueError: no base64, or more bytes than the limit of this name.
    """
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise ValueError(f"{url[:40]!r} is no data URL with base64")
    if len(body) * 3 // 4 > getattr(limits(), limit):
        raise ValueError(f"a data URL of {len(body)} characters; the limit is {most(limit)} bytes")
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:
        raise ValueError(f"a data URL is not base64: {error}") from None


# --- worker threads -------------------------------------------------------------------------------


class _Readers:
    """Threads that do what may wait for a file. They are daemons: a stalled mount does not keep the process
    from ending, as it would with an executor's threads."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0

    def put(self, work: Callable[[], None]) -> None:
        """Have a thread call it; it raises nothing."""
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            elif self._threads < THREADS:
                self._threads += 1
                threading.Thread(target=self._serve, name="mmreward-reader", daemon=True).start()
        self._work.put(work)

    def _serve(self) -> None:
        while True:
            self._work.get()()
            with self._lock:
                self._idle += 1


_readers: dict[int, _Readers] = {}
"""By process."""


def _here() -> _Readers:
    if (process := os.getpid()) not in _readers:  # a fork has none of its parent's threads
        _readers[process] = _Readers()
    return _readers[process]


class Errands(Generic[T]):
    """Jobs for a caller without a loop, each done as by `aside`, several by one thread: to wake one for each
    takes as long as to read a small file. They cannot be cancelled.

    Args:
        works: what to call.
    """

    def __init__(self, works: Sequence[Callable[[], T]]) -> None:
        self.results: list[Future[T]] = [Future() for _ in works]
        self._left = deque(zip(works, self.results, strict=True))
        for result in self.results:
            result.set_running_or_notify_cancel()

    def begin(self, threads: int) -> None:
        """Have so many more threads do what nobody has begun; one of the others may hang."""
        for _ in range(min(threads, len(self._left))):
            _here().put(partial(copy_context().run, self._do))

    def _do(self) -> None:
        while True:
            try:
                work, result = self._left.popleft()
            except IndexError:
                return
            try:
                found = work()
            except BaseException as raised:  # delivered to whoever looks
                result.set_exception(raised)
            else:
                result.set_result(found)


class _Home:
    """Results on their way to one loop, which is woken once for all that come before it looks: to wake it
    takes longer than most of what is done with a result."""

    def __init__(self) -> None:
        self._results: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._woken = False

    def bring(self, loop: asyncio.AbstractEventLoop, settle: Callable[[], None]) -> None:
        """Have the loop call it; from any thread."""
        self._results.append(settle)
        with self._lock:
            woken, self._woken = self._woken, True
        if not woken:
            try:
                loop.call_soon_threadsafe(self._settle)
            except RuntimeError:  # the loop has been closed meanwhile
                return

    def _settle(self) -> None:
        with self._lock:  # what is brought from now on wakes it again
            self._woken = False
        while self._results:
            self._results.popleft()()


_homes: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Home]" = WeakKeyDictionary()


async def aside(work: Callable[[], T]) -> T:
    """What `work` returns, called on a thread of its own kind in the context of its caller, while the loop
    goes on.

    Cancelled, as by a deadline, it returns at once, and the thread is left to finish.

    Raises:
        Exception: whatever `work` raises.
    """
    loop, context = asyncio.get_running_loop(), copy_context()
    if (home := _homes.get(loop)) is None:
        home = _homes[loop] = _Home()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = context.run(work)
        except BaseException as raised:  # delivered to the coroutine that waits
            error = raised
        home.bring(loop, partial(settle, result, error))

    _here().put(run)
    return await done
