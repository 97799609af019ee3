"""Runs that are stopped from outside: what was scored by then is on disk, and the next run goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.pace import allowed
from support.processes import heeding_interrupts

from mmreward.data.results import read

TESTS = str(Path(__file__).parents[1])

SCRIPT = """
import asyncio, sys, time
from pathlib import Path
from support.toys import toy
from mmreward import Engine, Score
from mmreward.data.run import score_file

calls = 0
async def score(sample):
    global calls
    calls += 1
    if mode != "whole" and int(sample.id) >= 30:
        print("hangs", flush=True)
        if mode == "block":
            time.sleep(60)
        await asyncio.sleep(60)
    return Score(0.5)

data, out, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
with Engine("cpu") as engine:
    score_file(data, {"toy": toy(score)}, out, engine)
print(calls, flush=True)
"""


@pytest.mark.parametrize("mode", ["wait", "block"])
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_a_stopped_run_keeps_every_finished_score(tmp_path, stop, code, mode):
    data, out = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    data.write_text("".join(json.dumps({"id": str(i), "response": "a"}) + "\n" for i in range(40)))
    command = [sys.executable, "-c", SCRIPT, str(data), str(out)]
    env = {**os.environ, "PYTHONPATH": TESTS}
    with heeding_interrupts():
        run = subprocess.Popen([*command, mode], env=env, text=True, stdout=subprocess.PIPE)
    with run:
        assert run.stdout.readline() == "hangs\n"
        time.sleep(0.2)
        run.send_signal(stop)
        begun = time.monotonic()
        assert run.wait(20) == code
        assert time.monotonic() - begun < allowed(8, time.monotonic)
    kept = [row for shard in (tmp_path / "out.jsonl.parts").glob("*.jsonl") for row in read(shard)]
    assert sorted(int(row.id) for row in kept) == list(range(30))
    again = subprocess.run(
        [*command, "whole"], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert again.stdout == "10\n", "scores that were there were computed again"
    assert len(read(out)) == 40


def kept_on_disk(out):
    """Ids in the shards of a run that goes on."""
    shards = list(out.with_name(out.name + ".parts").glob(f"*{out.suffix}"))
    return sorted({row.id for shard in shards for row in read(shard)}, key=int)


@pytest.mark.parametrize("mode", ["wait", "block"])
def test_a_run_that_is_killed_while_a_score_takes_long_has_the_others_on_disk(tmp_path, mode):
    """No result comes that could carry those before it to disk, and SIGKILL lets nothing be written."""
    data, out = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    data.write_text("".join(json.dumps({"id": str(i), "response": "a"}) + "\n" for i in range(40)))
    command = [sys.executable, "-c", SCRIPT, str(data), str(out)]
    env = {**os.environ, "PYTHONPATH": TESTS}
    with subprocess.Popen([*command, mode], env=env, text=True, stdout=subprocess.PIPE) as run:
        assert run.stdout.readline() == "hangs\n"
        for _ in range(400):  # the run hangs for a minute
            if len(kept_on_disk(out)) == 30:
                break
            time.sleep(0.05)
        run.kill()
    assert kept_on_disk(out) == [str(i) for i in range(30)]
    again = subprocess.run([*command, "whole"], env=env, capture_output=True, text=True, check=True)
    assert again.stdout == "10\n" and len(read(out)) == 40
