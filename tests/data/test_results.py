"""Results on disk: round trips, atomic writes, resumption, and a process killed at any moment."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mmreward import Score
from mmreward.data.results import Result, Results, about, read, write

ODD = [
    "plain",
    "emoji \U0001f9d1\u200d\U0001f680",
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd",
    "line\u2028separator\u2029paragraph\x85next\x0bline\x1cfile",
    "new\nline\r\ttab",
    'quote " and \\ backslash',
    "",
]


def result(name="a", value=0.5, *, reward="r", fingerprint="f", digest="d", note="", parts=None):
    return Result.of(name, reward, Score(value, parts or {}, note=note), fingerprint, digest)


@pytest.fixture(params=["parquet", "jsonl", "csv", "tsv"])
def out(request, tmp_path):
    return tmp_path / f"scores.{request.param}"


def finished(out, *rows):
    results = Results(out, {"title": "t"})
    for row in rows:
        results.add(row)
    results.finish([row.key for row in rows])
    return read(out)


@pytest.mark.parametrize("text", ODD)
def test_any_text_survives_the_round_trip(out, text):
    row = result("id " + text, note=text, parts={text: 0.25})
    assert finished(out, row) == [row]
    assert Results(out, {}).find(row.id, "r", "f", "d") == row


def test_text_no_file_can_hold_is_replaced_and_read_again(out):
    (row,) = finished(out, result(note="nul \x00 and surrogate \ud800"))
    assert "nul" in row.note and row.value == 0.5


def test_failures_come_back_as_failures(out):
    score = Score.failed("timeout", "slow", {"mass": 0.1})
    (row,) = finished(out, Result.of("a", "r", score, "f", "d"))
    assert row.value is None and repr(row.score) == repr(score)


def test_numbers_of_numpy_are_numbers(out):
    score = Score(np.float32(0.5), {"p": np.float32(0.25), "n": np.int64(3), "inf": np.float64("inf")})
    (row,) = finished(out, Result.of("a", "r", score, "f", "d"))
    assert row.score.value == 0.5 and row.score.parts == {"p": 0.25, "n": 3}


def test_unfinished_shards_are_found_again_and_the_newer_wins(out):
    first = Results(out, {}, every=0.0)
    first.add(result(value=0.1))
    first.flush()
    first.add(result(value=0.2))
    first.add(result("b"))
    first.flush()
    again = Results(out, {})
    assert again.find("a", "r", "f", "d").value == 0.2 and again.find("b", "r", "f", "d")


def test_shards_are_newer_than_the_file_they_add_to(out):
    finished(out, result(value=0.1))
    later = Results(out, {})
    later.add(result(value=0.2))
    later.flush()
    assert Results(out, {}).rows["a", "r"].value == 0.2


def test_a_changed_fingerprint_or_input_does_not_count_as_scored(out):
    finished(out, result())
    results = Results(out, {})
    assert results.find("a", "r", "f", "d")
    assert results.find("a", "r", "new", "d") is None
    assert results.find("a", "r", "f", "new") is None
    assert results.find("b", "r", "f", "d") is None


def test_a_failed_write_leaves_the_old_file_whole(out, monkeypatch):
    finished(out, result())
    before = out.read_bytes()

    def broken(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write(out, [result("b")], {})
    assert out.read_bytes() == before


def test_finishing_removes_the_shards_and_keeps_the_order(out):
    rows = [result(name) for name in "cab"]
    assert [row.id for row in finished(out, *rows)] == ["c", "a", "b"]
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_a_file_that_says_it_all_stays_as_it_is(out):
    rows = [result("a"), Result.of("b", "r", Score.failed("timeout", "slow"), "f", "d")]
    finished(out, *rows)

    def again(about, *keys):
        """True where finishing once more, with these facts and rows, wrote another file."""
        before = out.stat().st_ino
        os.link(out, kept := out.with_name("kept"))  # so that its number is not given again
        Results(out, about).finish([(key, "r") for key in keys])
        kept.unlink()
        return out.stat().st_ino != before

    assert not again({"title": "t"}, "a", "b") and not again({"title": "t", "created": "now"}, "a", "b")
    assert again({"title": "t"}, "b", "a") and [row.id for row in read(out)] == ["b", "a"]
    assert again({"title": "u"}, "b", "a") == (out.suffix == ".parquet")


def test_facts_about_the_run_are_kept(tmp_path):
    out = tmp_path / "scores.parquet"
    finished(out, result())
    assert about(out) == {"title": "t"}


def test_what_cannot_be_read_or_written_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"scores\.xls"):
        Results(tmp_path / "scores.xls", {})
    with pytest.raises(ValueError, match="no results"):
        read(tmp_path / "nowhere.parquet")
    (tmp_path / "other.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(ValueError, match="no results file"):
        read(tmp_path / "other.jsonl")


SLOW_RUN = """
import asyncio, sys
from pathlib import Path
from mmreward import Engine, Score, load, reward
from mmreward.data import results
from mmreward.data.run import score_file

data, out, log = map(Path, sys.argv[1:])
make = results.Results
results.Results.__init__.__defaults__ = (0.0,)

@reward("slow", needs=(), range=(0, 1000))
def slow():
    "A toy."
    lock = asyncio.Lock()

    async def score(sample):
        async with lock:
            await asyncio.sleep(0.002)
        with log.open("a") as file:
            file.write(sample.id + "\\n")
        return Score(float(sample.id))

    return score

with Engine("cpu") as engine:
    score_file(data, {"slow": load("slow")}, out, engine)
"""


def test_a_run_killed_again_and_again_loses_and_doubles_nothing(tmp_path):
    script, data, out, log = (tmp_path / name for name in ("run.py", "data.jsonl", "out.jsonl", "log"))
    script.write_text(SLOW_RUN)
    data.write_text("".join(json.dumps({"id": str(i)}) + "\n" for i in range(200)))
    command = [sys.executable, str(script), str(data), str(out), str(log)]
    chance = random.Random(0)
    on_disk: set[str] = set()
    kills = 0
    for _ in range(6):
        seen = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and log.stat().st_size - seen > chance.randint(1, 150):
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.002)
        process.wait(30)
        fresh = log.read_text()[seen:].split() if log.exists() else []
        assert not on_disk & set(fresh), "a row that was on disk was scored again"
        on_disk = set() if out.exists() else {row.id for s in _shards(out) for row in read(s)}
        if out.exists():
            break
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    rows = read(out)
    assert kills >= 2
    assert [(row.id, row.value) for row in rows] == [(str(i), float(i)) for i in range(200)]
    assert not out.with_name(out.name + ".parts").exists()


def _shards(out):
    return sorted(out.with_name(out.name + ".parts").glob("[0-9]*.jsonl"))


def test_a_finished_run_leaves_nothing_to_the_timer(tmp_path):
    results = Results(tmp_path / "a.jsonl", {}, every=0.05)
    results.add(result("a"))
    results.finish([("a", "r")])
    timers = [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
    for timer in timers:
        timer.join(10)
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_what_the_timer_cannot_write_is_raised_at_the_next_result(tmp_path):
    results = Results(tmp_path / "a.jsonl", {}, every=0.01)
    results.parts.write_text("a file in the place of the folder")
    results.add(result("a"))
    for timer in [one for one in threading.enumerate() if isinstance(one, threading.Timer)]:
        timer.join(10)
    with pytest.raises(OSError, match="parts"):
        results.add(result("b"))
    results.parts.unlink()
    results.flush()
    (shard,) = results.parts.iterdir()
    assert [one.id for one in read(shard)] == ["a", "b"]
