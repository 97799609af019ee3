"""Files on disk: writes that appear whole or not at all, and one writer at a time.

`whole_file` and `whole_folder` write beside their target under a name that nobody can guess or plant, flush
to disk and rename. `sole_writer` is the lock of a results file or a run's folder. An OSError that leaves this
module names the file.
"""

import errno
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Error numbers of a file system without locks; there the holder's process id has to do."""

_held: set[Path] = set()
"""Locks of this process: a lock of the system's keeps other processes out only."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, in the folder of `path`: it is flushed to disk and renamed to `path` when the block
    ends, and removed when the block raises.

    Raises:
        OSError: it cannot be written; names `path`. What was at `path` before is whole.
    """
    part = _part(path)
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
        yield part
        _flush(part)
        part.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise naming(error, path, part) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, beside `folder`: it takes the place of `folder` when the block ends, and is
    removed when the block raises. Parents are made; the files are flushed to disk before the rename.

    Raises:
        OSError: it cannot be written; names `folder`.
    """
    part, old = _part(folder), _part(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        yield part
        for path in (*part.rglob("*"), part):
            _flush(path)
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        _flush(folder.parent)
    except OSError as error:
        raise naming(error, folder, part) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def naming(error: OSError, path: Path, part: Path | None = None) -> OSError:
    """The error with the file it is about; as it is where it names one already.

    Args:
        error: of an operation on `path`; Arrow's names neither a file nor, at times, a number.
        path: what the user knows the file by.
        part: what it is called while it is being written.
    """
    if error.filename is not None and (part is None or not _within(error.filename, part)):
        return error
    number = error.errno
    if number is None and (found := re.search(r"errno (\d+)", str(error))):
        number = int(found[1])
    reason = os.strerror(number) if number is not None else str(error)
    return OSError(number if number is not None else errno.EIO, reason, str(path))


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """A block in which nobody else writes to `path`: a file, or a folder that is there.

    The lock is the file .NAME.lock beside a file, or .lock in a folder, and says who holds it. It ends with
    its process, however that ends. Unfinished files of writers that were killed are removed.

    Raises:
        ValueError: somebody else writes to it; the message names the process and its machine.
        OSError: the lock cannot be made; names it.
    """
    inside = path.is_dir()
    lock = path.resolve() / ".lock" if inside else path.parent.resolve() / f".{path.name}.lock"
    if lock in _held:
        raise ValueError(f"{path} is being written by this very process: give each run its own place")
    descriptor = _taken(lock, path)
    _held.add(lock)
    owner = os.getpid()
    try:
        if not inside:
            for left in lock.parent.glob(f".{path.name}.*.part"):
                with suppress(OSError):
                    shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        yield
    finally:
        _held.discard(lock)
        if os.getpid() == owner:  # a forked child holds nothing, and must not undo its parent's lock
            lock.unlink(missing_ok=True)
        os.close(descriptor)


def _taken(lock: Path, path: Path) -> int:
    """The descriptor of the lock's file, locked, with this process as its holder."""
    import fcntl

    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            try:
                # A record lock: unlike flock's it is not inherited by children, which may outlive us.
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN, *NO_LOCKS):
                    raise
                holder = _holder(descriptor)
                if error.errno not in NO_LOCKS or _alive(holder):
                    raise ValueError(_refusal(holder, path)) from None
            # Its last holder may have removed the file between our opening it and locking it.
            if not _is_open(descriptor, lock):
                os.close(descriptor)
                continue
            now = datetime.now(UTC).isoformat(timespec="seconds")
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise
        return descriptor


def _is_open(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> dict[str, object]:
    try:
        return dict(json.loads(os.pread(descriptor, 4096, 0)))
    except (ValueError, TypeError):  # it has locked the file and not yet written its name
        return {}


def _alive(holder: dict[str, object]) -> bool:
    """False for a process of this machine that has ended; of another machine's one cannot know."""
    if not holder:
        return False
    if holder.get("host") != socket.gethostname():
        return True
    return Path(f"/proc/{holder.get('pid')}").exists()


def _refusal(holder: dict[str, object], path: Path) -> str:
    who = "process {pid} on {host} since {since}".format_map({"pid": "?", "host": "?", "since": "?"} | holder)
    return f"{path} is being written by {who}: wait until it ends, or give another place"


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")


def _within(name: object, part: Path) -> bool:
    return str(name).startswith(str(part))


def _flush(path: Path) -> None:
    """Have a file's content, or a folder's names, on disk: a rename may reach it before what was written."""
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot flush a folder
            raise
    finally:
        os.close(descriptor)
