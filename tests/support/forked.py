"""Python processes that start at once: forks of one that has imported what they need, torch and all.

To import torch, transformers and peft takes a process five seconds, which is most of what a test of a command
takes. `python` does what `subprocess.run([sys.executable, ...])` does, in a process of its own with its own
environment, folder, files and exit code; `ranks` does so for processes that train together. What is about
starting itself (which packages are imported, signals to a whole group, what a launcher does) uses
`subprocess`.

Run as `python -m support.forked SOCKET`, this is the process that is forked.
"""

import atexit
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

READY = (
    "torch",
    "accelerate",
    "peft",
    "open_clip",
    "pyarrow.parquet",
    "mmreward.cli.app",
    "mmreward.tune.trainer",
)
START = 120


def python(*arguments, cwd=None, env=None, timeout=100, check=False):
    """Run `python ARGUMENTS...` and wait: the text of both its streams, and its exit code.

    Args:
        arguments: "-m", a module and its arguments; or a script and its arguments.
        cwd: its folder.
        env: its environment.
        timeout: seconds until it is killed.
        check: raise where it fails.
    """
    words = [str(one) for one in arguments]
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout)
        line.connect(_server())
        files = [str(Path(folder, name)) for name in ("out", "err")]
        job = {"argv": words, "cwd": str(cwd or Path.cwd()), "env": dict(env or os.environ), "files": files}
        line.sendall(json.dumps(job).encode() + b"\n")
        replies = line.makefile("rb")
        pid = int(replies.readline())
        try:
            code = int(replies.readline())
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(words, timeout) from None
        texts = [Path(name).read_text() for name in files]
    done = subprocess.CompletedProcess([sys.executable, *words], code, *texts)
    if check:
        done.check_returncode()
    return done


def ranks(number, *arguments, env=None, timeout=100):
    """`python` for so many processes at once, with the variables that `torchrun` gives its own; a list."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": number,
        "LOCAL_WORLD_SIZE": number,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }

    def one(rank):
        own = {name: str(value) for name, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}
        return python(*arguments, env={**(env or os.environ), **own}, timeout=timeout)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


@cache
def _server():
    """Address of the process that is forked; it ends with this one."""
    folder = tempfile.mkdtemp()
    address = str(Path(folder, "line"))
    tests = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": tests, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "support.forked", address]
    process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(process.kill)
    assert process.stdout.readline() == b"ready\n", "the process that is forked did not start"
    return address


# --- the process that is forked -----------------------------------------------------------------------------


def _serve(address):
    for name in READY:
        __import__(name)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that wait for a process are not waited for
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in ready:  # closed: whoever started this process has ended
            return
        line, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            _keep(line)
        line.close()


def _keep(line):
    """Fork the process, say its id, and when it has ended its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    job = json.loads(line.makefile("rb").readline())
    pid = os.fork()
    if pid == 0:
        line.close()
        _run(job)
    line.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    line.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _run(job):
    code = 1
    try:
        os.chdir(job["cwd"])
        os.environ.clear()
        os.environ.update(job["env"])
        for number, name in zip((1, 2), job["files"], strict=True):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = _called(job["argv"])
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _called(argv):
    try:
        if argv[0] == "-m":
            sys.argv, sys.path[0] = argv[1:], str(Path.cwd())
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = argv, str(Path(argv[0]).parent)
            runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1])
