"""Real children: what they answer, what their deaths cost, and what they leave behind."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from support.pace import allowed
from support.processes import children, descriptors, eventually, threads

from mmreward import Media, Sample, load
from mmreward.errors import Unscorable
from mmreward.isolation import child, process
from mmreward.isolation.interpreters import _children

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("kept")]


def numbered(n, **special):
    return [Sample(id=str(i), prompt=special.get(f"at{i}", "harmless")) for i in range(n)]


def pid_of(engine, reward):
    return int(engine.score([Sample(prompt="x")], reward)[reward.info.name][0].parts["pid"])


def test_a_reward_that_is_only_there_is_described_and_scored(engine, loaded):
    reward = loaded("echo", value=0.25)
    assert reward.info.summary.startswith("Gives its argument") and reward.args == {"value": 0.25}
    assert reward.info.example == {"meta": {"numbers": (1, 2)}}
    target = {"boxes": [(1, 2.5)], "deep": {3: None}}
    (score,) = engine.score([Sample(prompt="caf\u00e9 \ud800", target=target)], reward)["echo"]
    assert score.value == 0.25 and score.note == repr(("caf\u00e9 \ud800", target, {}))
    assert score.parts["pid"] != os.getpid()


def test_pairs_and_groups_are_compared_there(engine, loaded):
    samples = [Sample(prompt="x" * n, group="g") for n in (3, 1, 2)]
    scores = engine.score(samples, [loaded("duel"), loaded("ranked")])
    assert [score.value for score in scores["duel"]] == [1.0, 0.0, 0.5]
    assert [score.value for score in scores["ranked"]] == pytest.approx([2 / 3, 0, 1 / 3])


def test_the_childs_engine_batches_over_requests(engine, loaded):
    reward = loaded("wide")
    assert reward.info.range == (-float("inf"), float("inf"))
    sizes = [score.value for score in engine.score(numbered(200), reward)["wide"]]
    assert len(sizes) / sum(1 / size for size in sizes) > 1 and sum(1 / size for size in sizes) < 40


def test_what_a_child_prints_is_no_reply(engine, loaded):
    scores = engine.score(numbered(5, at3="endless"), loaded("noisy"), timeout=30)["noisy"]
    assert [score.ok for score in scores] == [True, True, True, False, True]
    assert "the limit is" in scores[3].note


def test_a_sample_that_cannot_be_sent_fails_alone(engine, loaded):
    samples = [Sample(), Sample(target=object()), Sample(image=Media(Path("/absent.png"))), Sample(id=3)]
    good, unsendable, absent, odd = engine.score(samples, loaded("echo"))["echo"]
    assert good.ok and absent.ok, "a picture that is not looked at is not missed"
    assert unsendable.status == "error" and "target holds object" in unsendable.note
    assert odd.status == "error" and "id is '3' (int), not text" in odd.note


# --- deaths ---------------------------------------------------------------------------------------


def test_a_child_killed_in_the_middle_of_a_run_loses_nothing(engine, loaded):
    reward = loaded("counted", log=os.devnull)
    answers = Counter()

    def progress(index, name, score):
        pid = int(score.parts["pid"])
        answers[pid] += 1
        # The second dies when all that died with the first has been answered: no request may die twice.
        if (len(answers), answers[pid]) in ((1, 100), (2, child.IN_FLIGHT + 100)):
            os.kill(pid, signal.SIGKILL)

    # More than a child can answer before its killer hears of it.
    scores = engine.score(numbered(4000), reward, progress=progress)["counted"]
    assert all(score.ok for score in scores) and len(answers) == 3


@pytest.mark.parametrize(
    ("poison", "how"), [("poison", "exit code 7; it last said: the poison worked"), ("segfault", "SIGSEGV")]
)
def test_a_poison_sample_fails_alone_with_the_childs_last_words(engine, loaded, poison, how):
    samples = numbered(60, at20=poison, at21=poison)
    scores = engine.score(samples, loaded("poisonous"), timeout=50)["poisonous"]
    assert [i for i, score in enumerate(scores) if not score.ok] == [20, 21]
    assert scores[20].status == "error" and how in scores[20].note
    assert all(score.value == i / 1000 for i, score in enumerate(scores) if score.ok)


def test_a_fork_of_a_dead_child_neither_hides_its_end_nor_lives_on(engine, loaded, monkeypatch):
    monkeypatch.setattr(process, "LAST_WORDS", 0.2)
    scores = engine.score(numbered(4, at1="orphan"), loaded("poisonous"), timeout=30)["poisonous"]
    assert [score.ok for score in scores] == [True, False, True, True] and "exit code 8" in scores[1].note
    fork = scores[1].note.split()[-1]
    assert eventually(lambda: not Path(f"/proc/{fork}").exists())


@pytest.mark.parametrize(("prompt", "error"), [("exit", "SystemExit"), ("cancel", "CancelledError")])
def test_a_reward_that_exits_costs_its_row_and_not_the_child(engine, loaded, prompt, error):
    reward = loaded("leaving")
    before = pid_of(engine, reward)
    scores = engine.score(numbered(3, at1=prompt), reward, timeout=20)["leaving"]
    assert [score.status for score in scores] == ["ok", "error", "ok"] and error in scores[1].note
    assert pid_of(engine, reward) == before


def test_a_child_that_hangs_is_ended_by_the_timeout(engine, loaded, monkeypatch):
    monkeypatch.setattr(child, "GRACE", 0.2)
    reward = loaded("blocking")
    before = pid_of(engine, reward)
    (hung,) = engine.score([Sample(prompt="hang")], reward, timeout=0.3)["blocking"]
    assert hung.status == "timeout"
    assert eventually(lambda: not Path(f"/proc/{before}").exists())
    scores = engine.score(numbered(3), reward, timeout=30)["blocking"]
    assert all(score.ok for score in scores) and pid_of(engine, reward) != before


def test_those_beside_a_hanging_one_are_not_blamed(engine, loaded, monkeypatch):
    monkeypatch.setattr(child, "GRACE", 0.2)
    reward = loaded("blocking")

    async def both():
        hanging = asyncio.create_task(reward(Sample(prompt="hang")))
        await asyncio.sleep(0.2)
        beside = [asyncio.create_task(reward(Sample(prompt="pause"))) for _ in range(4)]
        await asyncio.sleep(0.2)
        hanging.cancel()
        return await asyncio.wait_for(asyncio.gather(*beside), 30)

    scores = engine.run(both())
    assert all(score.ok for score in scores)
    assert max(score.parts["most"] for score in scores) == 4, "they need not be tried one at a time"


def test_a_stopped_child_is_ended_and_replaced(engine, loaded, monkeypatch):
    monkeypatch.setattr(child, "GRACE", 0.2)
    reward = loaded("echo")
    before = pid_of(engine, reward)
    os.kill(before, signal.SIGSTOP)
    (late,) = engine.score([Sample()], reward, timeout=0.3)["echo"]
    assert late.status == "timeout" and pid_of(engine, reward) != before


def test_cancelling_ends_the_work_there_and_keeps_the_child(engine, loaded):
    reward = loaded("blocking")
    before = pid_of(engine, reward)
    late = engine.score([Sample(prompt="wait")] * 50, reward, timeout=0.5)["blocking"]
    assert {score.status for score in late} == {"timeout"}

    def cancelled():
        (score,) = engine.score([Sample(prompt="x")], reward)["blocking"]
        return (score.parts["cancelled"], score.parts["running"], score.parts["pid"]) == (50, 0, before)

    assert eventually(cancelled)


def test_a_child_that_dies_whenever_it_starts_is_given_up(engine, loaded, tmp_path):
    reward = loaded("counted", log=str(tmp_path / "log"), deadly_from=2)
    scores = engine.score([Sample(prompt="die"), *numbered(20)], reward, timeout=50)["counted"]
    assert {score.status for score in scores[1:]} == {"error"}
    assert "could not be started, 3 times" in scores[1].note and "made for the 4. time" in scores[1].note
    begun = time.monotonic()
    assert engine.score([Sample()], reward)["counted"][0].status == "error"
    assert time.monotonic() - begun < allowed(1, time.monotonic) and (tmp_path / "log").read_text() == "xxxx"


def test_deaths_without_end_are_given_up(engine, loaded, monkeypatch):
    monkeypatch.setattr(child, "DEATHS_IN_A_ROW", 3)
    reward = loaded("poisonous")
    scores = engine.score([Sample(prompt="poison")] * 10, reward, timeout=50)["poisonous"]
    assert {score.status for score in scores} == {"error"}
    assert any("3 times without an answer" in score.note for score in scores)
    assert loaded("poisonous") and engine.score(numbered(1), reward)["poisonous"][0].ok, (
        "loading starts it again"
    )


# --- what is left -----------------------------------------------------------------------------------


def test_rewards_of_one_interpreter_share_a_child_and_another_engine_size_does_not(engine, python, loaded):
    first, second = loaded("echo"), loaded("blocking")
    other = load("echo", python={**python, "items": 3})
    try:
        assert pid_of(engine, first) == pid_of(engine, second) != pid_of(engine, other)
    finally:
        other.close()


@pytest.mark.parametrize("how", ["close", "collect"])
def test_nothing_is_left_when_the_last_reward_goes(engine, python, how):
    python = {**python, "items": 7}  # a child of its own
    engine.score([Sample(response="x")], "length")  # its own threads are there before what is counted
    before = threads(), descriptors(), children()
    first, second = load("echo", python=python), load("noisy", python=python)
    engine.score(numbered(20), [first, second])
    (there,) = set(children()) - set(before[2])
    first.close()
    first.close()
    assert there in children() and engine.score(numbered(1), second)["noisy"][0].ok
    assert "has been closed" in engine.score(numbered(1), first)["echo"][0].note
    if how == "close":
        second.close()
        assert there not in children()
    del first, second
    gc.collect()
    assert eventually(lambda: (threads(), descriptors(), children()) == before)
    assert len(_children) == 1


def test_closing_fails_what_is_waiting(engine, python):
    reward = load("blocking", python={**python, "items": 8})
    threading.Timer(0.5, reward.close).start()
    (score,) = engine.score([Sample(prompt="hang")], reward, timeout=30)["blocking"]
    assert score.status == "error" and "has been closed" in score.note


PARENT = """
import os, sys, time
from mmreward import Engine, Sample, load
reward = load("blocking", python={path!r})
with Engine("cpu") as engine:
    print(int(engine.score([Sample(prompt="x")], reward)["blocking"][0].parts["pid"]), flush=True)
    {then}
"""


@pytest.mark.parametrize(
    ("then", "signal_"),
    [
        ("engine.score([Sample(prompt='hang')], reward)", signal.SIGKILL),
        ("os.fork() or time.sleep(30); time.sleep(30)", signal.SIGKILL),
        ("engine.score([Sample(prompt='hang')], reward)", signal.SIGTERM),
        ("sys.exit(0)", None),
    ],
    ids=["killed", "killed after a fork", "terminated", "ended"],
)
def test_a_child_does_not_outlive_its_parent(python, then, signal_):
    code = PARENT.format(path=python, then=then)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        there = int(parent.stdout.readline())
        try:
            if signal_ is not None:
                time.sleep(0.2)
                parent.send_signal(signal_)
            assert parent.wait(20) is not None
            assert eventually(lambda: not Path(f"/proc/{there}").exists())
        finally:
            os.killpg(parent.pid, signal.SIGKILL) if "fork" in then else parent.kill()


def test_a_fork_says_that_it_must_load_again(loaded, engine):
    reward = loaded("echo")
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            asyncio.run(reward(Sample()))
        except (RuntimeError, Unscorable) as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert "load again" in said.read()
    os.waitpid(pid, 0)
    assert engine.score([Sample()], reward)["echo"][0].ok
