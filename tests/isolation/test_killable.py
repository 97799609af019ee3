"""Processes that can be killed: deadlines hold, deaths cost one job, and nothing is left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from support.pace import allowed

from mmreward.isolation.killable import Killable, Killed

TESTS = str(Path(__file__).parents[1])
START = 60  # seconds to wait for what should take one


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", TESTS)
    made = []

    def make(count=1, **options):
        made.append(Killable("support.killable_worker", workers=count, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def gone(pid):
    """True when the process ends within a few seconds."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_a_worker_answers_and_stays_warm(workers):
    one = workers()
    first, second = (one.submit({"n": n}, 30).result(START) for n in (1, 2))
    assert (first["n"], second["n"]) == (1, 2)
    assert first["pid"] == second["pid"] != os.getpid()
    assert one.processes == [first["pid"]]


@pytest.mark.parametrize("job", [{"sleep": 60}, {"spin": 1}, {"hold": 1}])
def test_a_hang_is_killed_in_time_and_the_next_job_answered(workers, job):
    one = workers()
    pid = one.submit({}, 30).result(START)["pid"]
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.3 s"):
        one.submit(job, 0.3).result(START)
    assert time.monotonic() - begun < allowed(3, time.monotonic)
    assert gone(pid)
    assert one.submit({"n": 3}, 30).result(START)["n"] == 3


def test_a_dead_worker_costs_its_own_job(workers):
    one = workers()
    with pytest.raises(Killed, match="SIGKILL"):
        one.submit({"die": 1}, 30).result(START)
    pid = one.submit({"n": 1}, 30).result(START)["pid"]
    os.kill(pid, signal.SIGKILL)  # while it is idle, as the kernel does for want of memory
    assert gone(pid)
    assert one.submit({"n": 2}, 30).result(START)["n"] == 2


def test_memory_is_bounded_and_the_worker_survives_it(workers):
    one = workers(memory=1 << 30)
    pid = one.submit({}, 30).result(START)["pid"]
    assert one.submit({"eat": 2 << 30}, 30).result(START) == {"raised": "MemoryError"}
    assert one.submit({"eat": 1 << 20}, 30).result(START) == 1 << 20
    assert one.submit({}, 30).result(START)["pid"] == pid


def test_what_a_library_prints_is_no_answer(workers):
    assert workers().submit({"print": '"equal"'}, 30).result(START)["print"] == '"equal"'


def test_a_hundred_jobs_from_ten_threads_and_from_a_loop(workers):
    pool = workers(2)
    answers = {}

    def ask(thread):
        for n in range(10):
            answers[thread, n] = pool.submit({"n": [thread, n]}, 30).result(START)["n"]

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {(thread, n): [thread, n] for thread in range(10) for n in range(10)}

    async def many():
        return await asyncio.gather(*(asyncio.wrap_future(pool.submit({"n": n}, 30)) for n in range(100)))

    assert [answer["n"] for answer in asyncio.run(many())] == list(range(100))
    assert len(pool.processes) <= 2


def test_one_hang_among_many_costs_no_other(workers):
    pool = workers(2)
    asked = [pool.submit({"sleep": 60} if n == 3 else {"n": n}, 0.5 if n == 3 else 30) for n in range(12)]
    assert [n for n, answer in enumerate(asked) if isinstance(answer.exception(START), TimeoutError)] == [3]


def test_a_cancelled_job_is_not_begun(workers):
    one = workers()
    busy = one.submit({"sleep": 0.3}, 30)
    waiting = one.submit({"die": 1}, 30)
    assert waiting.cancel()
    busy.result(START)
    assert one.submit({"n": 1}, 30).result(START)["pid"] == busy.result()["pid"]


def test_a_job_that_is_cancelled_while_it_runs_ends_with_its_worker(workers):
    one = workers()
    pid = one.submit({}, 30).result(START)["pid"]
    hanging = one.submit({"sleep": 60}, 60)
    time.sleep(0.2)
    assert hanging.cancel()
    assert gone(pid)
    answer = one.submit({"n": 1}, 30).result(START)
    assert answer["n"] == 1 and answer["pid"] != pid


def test_closing_ends_the_processes_and_fails_what_waits(workers):
    one = workers()
    pid = one.submit({}, 30).result(START)["pid"]
    busy, waiting = one.submit({"sleep": 60}, 60), one.submit({}, 30)
    time.sleep(0.2)
    one.close()
    assert gone(pid)
    assert isinstance(busy.exception(START), Killed)
    with pytest.raises(CancelledError):
        waiting.result(START)
    with pytest.raises(RuntimeError, match="closed"):
        one.submit({}, 30)
    one.close()


def test_a_module_that_does_not_import_says_so(monkeypatch):
    one = Killable("no_such_module")
    with pytest.raises(Killed, match="could not start"):
        one.submit({}, 30).result(START)
    one.close()


def test_a_worker_that_cannot_get_ready_says_why(monkeypatch, tmp_path):
    (tmp_path / "cold.py").write_text(
        "from mmreward.isolation.killable import answer_jobs\nanswer_jobs(lambda job: job, lambda: 1 / 0)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    one = Killable("cold")
    with pytest.raises(Killed, match="could not start: ZeroDivisionError: division by zero"):
        one.submit({}, 30).result(START)
    assert one.processes == []
    one.close()


FORK = """if not os.fork():
    os.close(1), os.close(2)
    time.sleep(10)
    os._exit(0)
os.kill(os.getpid(), 9)"""
"""A fork that lives on, as a data loader's may, must not hold the worker's pipe open."""


@pytest.mark.parametrize(
    ("busy", "end"),
    [(True, "pass"), (True, "os.kill(os.getpid(), 9)"), (False, "os.kill(os.getpid(), 9)"), (False, FORK)],
)
def test_no_process_outlives_its_parent(busy, end):
    code = (
        "import os, time\nfrom mmreward.isolation.killable import Killable\n"
        "pool = Killable('support.killable_worker')\n"
        "print(pool.submit({}, 30).result(60)['pid'], flush=True)\n"
        f"if {busy}: pool.submit({{'spin': 1}}, 1); time.sleep(0.2)\n{end}"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": TESTS},
        capture_output=True,
        text=True,
        timeout=START,
        check=False,
    )
    assert gone(int(ran.stdout)), ran.stderr


def test_a_fork_has_workers_of_its_own_and_leaves_the_parents_alone(workers):
    one = workers()
    pid = one.submit({}, 30).result(START)["pid"]
    child = os.fork()
    if not child:
        answer = one.submit({"n": 5}, 30).result(START)
        one.close()
        os._exit(0 if answer["n"] == 5 and answer["pid"] != pid else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert one.submit({"n": 1}, 30).result(START)["pid"] == pid


@pytest.mark.parametrize(("options", "reason"), [({"workers": 0}, "one worker"), ({"memory": 1}, "256 MiB")])
def test_bad_sizes_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        Killable("support.killable_worker", **options)


def test_a_deadline_must_leave_time(workers):
    with pytest.raises(ValueError, match="above 0"):
        workers().submit({}, 0)
