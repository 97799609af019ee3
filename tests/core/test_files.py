"""Files that appear whole, under names nobody can plant, and their one writer: real files and processes."""

import errno
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from mmreward.files import naming, sole_writer, whole_file, whole_folder

HOLD = """
import sys
from pathlib import Path
from mmreward.files import sole_writer

with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Starts a process that holds the lock of a path until it is told to go on."""
    started = []

    def start(path):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_second_writer_is_refused_and_hears_who_is_the_first(holder, tmp_path):
    first = holder(tmp_path / "scores.parquet")
    assert first.stdout.readline() == "held\n"
    with (
        pytest.raises(ValueError, match=f"process {first.pid} on .+ since"),
        sole_writer(tmp_path / "scores.parquet"),
    ):
        pass
    with sole_writer(tmp_path / "other.parquet"):  # each file has its own
        pass
    first.communicate("\n")
    with sole_writer(tmp_path / "scores.parquet"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_writer_is_taken_over(holder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    first = holder(run)
    assert first.stdout.readline() == "held\n"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert (run / ".lock").exists()
    with sole_writer(run):
        pass
    assert list(run.iterdir()) == []


def test_a_forked_child_neither_keeps_nor_undoes_the_lock(holder, tmp_path):
    out = tmp_path / "scores.parquet"
    with sole_writer(out):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert holder(out).wait(60) != 0, "the lock has gone with the child"


def test_two_threads_of_one_process_are_two_writers(tmp_path):
    with (
        sole_writer(tmp_path / "a"),
        pytest.raises(ValueError, match="this very process"),
        sole_writer(tmp_path / "a"),
    ):
        pass


def test_unfinished_files_of_a_killed_writer_are_removed(tmp_path):
    out = tmp_path / "scores.parquet"
    code = f"""
    import os
    from pathlib import Path
    from mmreward.files import whole_file
    with whole_file(Path({str(out)!r})) as part:
        part.write_bytes(b"half")
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    with sole_writer(out):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_planted_link_is_not_followed(tmp_path):
    """Neither one at the old, predictable name nor one at the lock or the file itself."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out = tmp_path / "out.txt"
    (tmp_path / f".out.txt.{os.getpid()}.part").symlink_to(victim)
    out.symlink_to(victim)
    with whole_file(out) as part:
        part.write_text("mine")
    assert victim.read_text() == "precious" and out.read_text() == "mine" and not out.is_symlink()
    (tmp_path / ".out.txt.lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"), sole_writer(out):
        pass
    assert victim.read_text() == "precious"


def test_a_file_has_the_permissions_the_user_chose(tmp_path):
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "a") as part:
            part.write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "run"
    with whole_folder(folder) as part:
        (part / "inner").mkdir()
        (part / "inner" / "a").write_text("old")
    with pytest.raises(RuntimeError), whole_folder(folder) as part:
        raise RuntimeError
    assert (folder / "inner" / "a").read_text() == "old"
    with whole_folder(folder) as part:
        (part / "b").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["b"] and list(tmp_path.iterdir()) == [folder]


def test_an_error_names_the_file_the_user_knows(tmp_path):
    with pytest.raises(OSError) as caught, whole_file(tmp_path / "a.txt") as part:
        raise OSError(errno.ENOSPC, "No space left on device", str(part))
    assert caught.value.filename == str(tmp_path / "a.txt")
    arrow = OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device")
    named = naming(arrow, tmp_path / "a.txt")
    assert (named.errno, named.filename) == (errno.ENOSPC, str(tmp_path / "a.txt"))
    other = OSError(errno.ENOENT, "No such file", "elsewhere")
    assert naming(other, tmp_path / "a.txt") is other
