"""Engines in processes that were forked or spawned from one that used them: real ones, in bounded time."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TESTS = str(Path(__file__).parents[1])
CLIP = Path(TESTS, "cases/media/vid_fast.mp4")

WORLD = """
import asyncio, gc, multiprocessing, os, pickle, sys, threading, time
from support.toys import FakeNetwork, Item, network_reward, toy
from mmreward import Engine, Sample, Score, load

def samples(count):
    return [Sample(id=str(i), target=Item(i)) for i in range(count)]

def in_fork(work):
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException as error:
            print(type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the fork failed"

def all_ok(engine, reward, count=3):
    (column,) = engine.score(samples(count), reward, timeout=20).values()
    assert all(one.ok for one in column), column
"""


def ran(script, seconds=40):
    """Standard output of a script that must end well, and in time."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WORLD + textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": TESTS, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_engine_scores_in_forks_of_forks_and_goes_on_in_its_parent():
    ran("""
    engine, reward = Engine("cpu"), network_reward(FakeNetwork())
    all_ok(engine, reward)
    def grandchild():
        all_ok(engine, reward)
        in_fork(lambda: (all_ok(engine, reward), engine.close()))
        asyncio.run(engine.ascore(samples(3), reward))
        engine.begin(samples(3), reward).result(20)
        engine.sleep(), engine.wake(), engine.stats()
        engine.close()
    for _ in range(3):
        in_fork(grandchild)
        all_ok(engine, reward)
    in_fork(lambda: None)
    all_ok(engine, reward)
    """)


def test_a_fork_in_the_middle_of_everything_neither_hangs_nor_disturbs_its_parent():
    ran("""
    engine, network = Engine("cpu"), FakeNetwork()
    reward = network_reward(network)
    over = threading.Event()
    def traffic():
        while not over.is_set():
            all_ok(engine, reward, 50)
            with Engine("cpu") as other:
                all_ok(other, reward, 2)
    threads = [threading.Thread(target=traffic) for _ in range(3)]
    for thread in threads: thread.start()
    def child():
        all_ok(engine, reward)
        engine.close()
        gc.collect()
    for _ in range(10):
        in_fork(child)
        time.sleep(0.01)
    over.set()
    for thread in threads: thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    all_ok(engine, reward)
    """)


def test_an_engine_that_a_fork_drops_stays_alive_in_its_parent():
    ran("""
    engine, reward = Engine("cpu"), network_reward(FakeNetwork())
    all_ok(engine, reward)
    def drop():
        global engine
        del engine
        gc.collect()
    in_fork(drop)
    all_ok(engine, reward)
    """)


def test_weights_loaded_by_the_parent_score_in_a_fork():
    ran("""
    import torch
    torch.set_num_threads(2)
    from PIL import Image
    from mmreward import Media
    engine = Engine("cpu")
    picture = Sample(id="a", prompt="a red circle", image=Media(Image.new("RGB", (64, 64), "red")))
    reward = load("clipscore", weights="mini-clip")
    (before,) = engine.score([picture], reward)["clipscore"]
    def again():
        engine.cache.clear()
        (after,) = engine.score([picture], reward, timeout=20)["clipscore"]
        assert after.ok and abs(after.value - before.value) < 1e-5, (before, after)
    from mmreward.models import base, building, pictures
    def hold(*locks):  # as a thread does that tokenizes, builds or decodes at that moment
        for lock in locks: lock.acquire()
        held.set(), over.wait(30)
        for lock in locks: lock.release()
    held, over = threading.Event(), threading.Event()
    locks = [network.processing for network in base._networks]
    locks += [building._Turn.lock, pictures._decoded._lock, pictures._resized._lock, pictures._batching._lock]
    thread = threading.Thread(target=hold, args=locks)
    thread.start(), held.wait()
    in_fork(again)
    over.set(), thread.join()
    """)


DATA = """
from torch.utils.data import DataLoader, Dataset
from mmreward.adapters.rows import Batch
from mmreward.adapters.scorer import Scorer

class Scored(Dataset):
    def __init__(self, engine, scorer):
        self.engine, self.scorer = engine, scorer
    def __len__(self):
        return 8
    def __getitem__(self, index):
        row = Sample(id=str(index), response=f"<answer>{index}</answer>", target="3")
        (one,) = self.engine.score([row], "label", timeout=20)["label"]
        (total,) = self.scorer.score(Batch([row], {})).totals
        assert one.ok and total.ok, (one, total)
        return one.value + total.value
"""


def test_a_fork_after_a_clip_was_read_in_another_thread():
    """swscale's own threads do not live in the fork: whoever ends their context there waits for them."""
    ran(
        f"""
    from mmreward import Media
    clip = Media({str(CLIP)!r}, "video")
    def read_and_stay():  # as an engine's reader does
        clip.pixels(), read.set(), over.wait(30)
    read, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=read_and_stay)
    thread.start(), read.wait(30)
    in_fork(clip.pixels)
    over.set(), thread.join()
    """,
        seconds=30,
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_a_data_loader_score(method, tmp_path):
    (tmp_path / "scored.py").write_text(WORLD + DATA)
    script = f"""
    sys.path.insert(0, {str(tmp_path)!r})
    from scored import DataLoader, Scored, Scorer
    engine, scorer = Engine("cpu"), Scorer(["label"], timeout=20)
    data = Scored(engine, scorer)
    assert data[3] == 2.0
    if __name__ == "__main__":
        loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context={method!r})
        assert [float(value) for value in loader] == [0, 0, 0, 2, 0, 0, 0, 0]
        assert data[3] == 2.0
    """
    ran(script, 100)


def test_an_engine_travels_as_its_arguments_and_one_with_a_placement_says_why_not():
    ran("""
    made = pickle.loads(pickle.dumps(Engine("cpu", workers=3, cache_bytes=1000)))
    assert made.cache.limit == 1000
    all_ok(made, network_reward(FakeNetwork()))
    class House:
        nbytes = swaps = 0
        def start(self, report): pass
        def close(self): pass
    try:
        pickle.dumps(Engine(placement=House()))
    except TypeError as error:
        assert "does not travel" in str(error)
    else:
        raise AssertionError
    in_fork(lambda: None)
    """)


def test_an_engine_with_a_placement_says_in_a_fork_what_to_do():
    ran("""
    class House:
        nbytes = swaps = 0
        def start(self, report): pass
        def close(self): pass
    engine = Engine(placement=House())
    def child():
        try:
            engine.score(samples(1), network_reward(FakeNetwork()))
        except RuntimeError as error:
            assert "does not survive a fork" in str(error)
        else:
            raise AssertionError
    in_fork(child)
    """)


def test_a_fork_of_a_process_that_asked_for_cuda_scores_or_says_at_once_why_not():
    ran("""
    import torch
    there = torch.cuda.is_available()
    import mmreward.engine.local
    mmreward.engine.local.check_device = lambda device: None  # a machine without CUDA refuses it before
    auto, cuda, reward = Engine(), Engine("cuda:0"), network_reward(FakeNetwork())
    def child():
        all_ok(Engine("cpu"), reward)
        if not there:
            all_ok(auto, reward)
        for engine in [cuda, auto][: 1 + there]:
            try:
                engine.score(samples(1), reward)
            except RuntimeError as error:
                assert "multiprocessing_context='spawn'" in str(error)
            else:
                raise AssertionError
    in_fork(child)
    """)
