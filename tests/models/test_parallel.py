"""Pictures of a batch are decoded by several threads where there are processors for them."""

import os
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmreward import Media, Unscorable
from mmreward.models import parallel
from mmreward.models import pictures as memo
from mmreward.models.pixels import Recipe


@pytest.fixture
def four(monkeypatch):
    """A machine of four processors, on which every picture is worth a thread."""
    monkeypatch.setattr(parallel, "processors", lambda: 4)
    monkeypatch.setattr(memo, "PIXELS_EACH", 1)
    hands = parallel._Hands()
    monkeypatch.setattr(parallel, "_hands", [hands])
    yield hands
    assert hands._decoding == 0


def paths(folder, count, side=8):
    for number in range(count):
        Image.fromarray(np.full((side, side, 3), number, np.uint8)).save(folder / f"{number}.png")
    return [folder / f"{number}.png" for number in range(count)]


def test_four_processors_decode_four_at_once(four, tmp_path):
    medias, names, together = [Media(path) for path in paths(tmp_path, 12)], set(), threading.Barrier(4)

    def make(index):
        if index < 4:
            together.wait(20)  # broken, if there are fewer
        names.add(threading.current_thread().name)
        return index * index

    assert memo.in_turn(medias, make) == [index * index for index in range(12)]
    assert len(names) == 4 and sum(name.startswith("mmreward-decode") for name in names) == 3


def test_two_batches_at_once_share_the_processors(four, tmp_path):
    """And neither waits for helpers that the other has."""
    files, busy, most, lock = paths(tmp_path, 30), [0], [0], threading.Lock()
    found = {}

    def make(index):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.005)
        with lock:
            busy[0] -= 1
        return index

    def batch(name):
        found[name] = memo.in_turn([Media(path) for path in files], make)

    threads = [threading.Thread(target=batch, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {name: list(range(30)) for name in "ab"}
    assert 4 <= most[0] <= 5  # the second's own thread decodes in any case


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.sets(st.integers(0, 11), max_size=4))
def test_the_first_that_cannot_be_decoded_is_raised(tmp_path_factory, count, broken):
    folder = tmp_path_factory.mktemp("broken")
    medias = [Media(path) for path in paths(folder, count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "processors", lambda: 3)
        patch.setattr(memo, "PIXELS_EACH", 1)

        def make(index):
            if index in broken:
                raise Unscorable(str(index))
            return index

        wrong = {index for index in broken if index < count}
        if not wrong:
            assert memo.in_turn(medias, make) == list(range(count))
            return
        with pytest.raises(Unscorable) as refusal:
            memo.in_turn(medias, make)
        assert int(str(refusal.value)) in wrong


@pytest.mark.parametrize("backend", ["pil", "uint8", "tensor", "draft"])
def test_a_batch_is_that_of_one_thread(four, monkeypatch, tmp_path, backend):
    random, files = np.random.default_rng(0), []
    for number in range(12):
        height, width = (int(side) for side in random.integers(40, 90, 2))
        picture = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        files.append(tmp_path / f"{number}{['.png', '.jpg', '.webp'][number % 3]}")
        picture.save(files[-1])
    recipe = Recipe(size=(24, 24), mean=(0.5,) * 3, std=(0.2,) * 3)

    def batch():
        memo.forget()
        looks = [(Media(path), backend) for path in files]
        return memo.prepared(looks, recipe, torch.device("cpu")).on(torch.device("cpu"), recipe).clone()

    together = batch()
    assert four._helpers is not None
    monkeypatch.setattr(parallel, "processors", lambda: 1)
    assert torch.equal(together, batch())


def test_a_file_that_is_gone_is_the_callers_error(four, monkeypatch, tmp_path):
    monkeypatch.setattr(four, "submit", lambda work: pytest.fail("woken"))
    medias = [Media(path) for path in (*paths(tmp_path, 3), tmp_path / "gone.png")]
    with pytest.raises(Unscorable, match="no file"):
        memo.in_turn(medias, lambda index: index)


def test_little_and_what_is_decoded_already_wake_nobody(four, monkeypatch, tmp_path):
    monkeypatch.setattr(memo, "PIXELS_EACH", 1 << 18)
    monkeypatch.setattr(four, "submit", lambda work: pytest.fail("woken"))
    small = [Media(path) for path in paths(tmp_path, 12)]
    arrays = [Media(np.zeros((1024, 1024, 3), np.uint8)) for _ in range(3)]
    (tmp_path / "large").mkdir()
    large = [Media(paths(tmp_path / "large", 1, 1024)[0])]
    for medias in (small, arrays, large, []):
        assert memo.in_turn(medias, lambda index: index) == list(range(len(medias)))


def test_a_fork_has_helpers_of_its_own(four, tmp_path):
    medias = [Media(path) for path in paths(tmp_path, 8)]
    assert memo.in_turn(medias, lambda index: index) == list(range(8))
    if (child := os.fork()) == 0:
        parallel.processors = lambda: 4
        os._exit(0 if memo.in_turn(medias, lambda index: index) == list(range(8)) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_processes_of_one_machine_share_its_processors(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = parallel.processors()
    assert alone == len(os.sched_getaffinity(0))
    for told, expected in (("2", max(1, alone // 2)), ("1000", 1), ("0", alone), ("many", alone)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", told)
        assert parallel.processors() == expected
