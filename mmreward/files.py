"""Files: atomic writes, which appear whole or not at all, whenever a run is killed; and reads that end.

A reader opens regular files only, up to a limit, and replaces no byte of a text.
"""

import codecs
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import Unscorable


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, in the folder of `path`: it is flushed to disk and renamed to `path` when the block
    ends, and removed when the block raises."""
    part = _part(path)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, beside `folder`: it takes the place of `folder` when the block ends, and is
    removed when the block raises. Parents are made."""
    part = _part(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a regular file, opened without waiting: a FIFO, a socket or a device is refused, not read.

    Raises:
        Unscorable: "missing" where there is no such file; else no regular file, one of more than `most` bytes,
            or one that cannot be read.
    """
    name = str(path)[:200]
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise Unscorable(f"cannot read {name}: it is {_sort(about.st_mode)}, not a regular file")
            if about.st_size > most:
                raise Unscorable(f"{name} has {about.st_size} bytes; the limit is {most}")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(most + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise Unscorable(f"no file at {name}", "missing") from None
    except (OSError, ValueError) as error:
        if isinstance(error, Unscorable):
            raise
        raise Unscorable(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > most:
        raise Unscorable(f"{name} has more than {most} bytes, the limit")
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
