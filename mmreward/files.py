"""Atomic writes: files and folders that appear whole or not at all, whatever stops the run."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, in the folder of `path`: it is flushed to disk and renamed to `path` when the block
    ends, and removed when the block raises."""
    part = _part(path)
    try:
        yield part
        _sync(part)
        part.replace(path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, beside `folder`: when the block ends it is flushed to disk and takes the place
    of `folder`, and when the block raises it is removed. Parents are made."""
    part = _part(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for inside in [*part.rglob("*"), part]:
            _sync(inside)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on disk: a rename may reach it before what was written."""
    if path.is_symlink():
        return
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")
