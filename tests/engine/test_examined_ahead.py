"""Pictures in memory are named by the caller of `Engine.score`, who waits anyway, and not by the loop."""

import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from support.toys import toy

from mmreward import Media, Sample, Score, media
from mmreward.scoring import examine_ahead


def pixels(number=0, side=8):
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)


def encoded(number=0):
    file = io.BytesIO()
    Image.fromarray(pixels(number)).save(file, "PNG")
    return file.getvalue()


def sources(folder):
    (folder / "a.png").write_bytes(encoded())
    return {
        "array": pixels(),
        "float array": pixels() / np.float32(255),
        "tensor": torch.from_numpy(pixels()).permute(2, 0, 1),
        "bytes": encoded(),
        "PIL": Image.fromarray(pixels()),
        "file": folder / "a.png",
    }


@pytest.fixture
def named():
    """A reward that says on which thread a picture was named first."""

    async def score(sample):
        return Score(1.0, note=sample.image.key)

    return toy(score, needs=("image",))


@pytest.fixture
def threads(monkeypatch):
    """Names of the threads on which keys were computed."""
    found, usual = [], media.xxhash.xxh3_128

    def hashed(*given, **options):
        found.append(threading.current_thread().name)
        return usual(*given, **options)

    monkeypatch.setattr(media.xxhash, "xxh3_128", hashed)
    return found


@pytest.mark.parametrize("kind", ["array", "float array", "tensor", "bytes"])
def test_what_is_in_memory_is_named_by_the_caller(engine, named, threads, tmp_path, kind):
    engine.score([Sample(image=Media(sources(tmp_path)[kind]))], named)
    assert threads == [threading.current_thread().name]


@pytest.mark.parametrize("kind", ["file", "PIL"])
def test_what_must_be_read_or_converted_is_named_by_readers(engine, named, threads, tmp_path, kind):
    engine.score([Sample(image=Media(sources(tmp_path)[kind]))], named)
    assert threads == ["mmreward-reader"]


def test_names_and_scores_are_those_of_callers_who_do_not_wait(engine, named, tmp_path):
    made = [[Sample(image=Media(one)) for one in sources(tmp_path).values()] for _ in range(2)]
    waited = engine.score(made[0], named)["toy"]
    assert waited == engine.begin(made[1], named).result(20)["toy"]
    assert all(score.ok and score.note for score in waited)


@pytest.mark.parametrize(
    "broken",
    [np.zeros((0, 4, 3), np.uint8), np.full((4, 4, 3), np.nan), np.zeros((4, 4, 3), "U1"), b"no picture", 7],
    ids=["empty", "nan", "text", "bytes", "number"],
)
def test_a_broken_picture_fails_its_row_as_it_did(engine, named, broken):
    rows = [[Sample(image=Media(one)) for one in (pixels(), broken, pixels(1))] for _ in range(2)]
    waited, begun = engine.score(rows[0], named)["toy"], engine.begin(rows[1], named).result(20)["toy"]
    assert [(one.status, one.note) for one in waited] == [(one.status, one.note) for one in begun]
    assert waited[0].ok and waited[2].ok


def test_what_is_large_made_when_asked_or_not_looked_at_is_left(monkeypatch, named, threads):
    async def blind(sample):
        return Score(1.0)

    monkeypatch.setattr(media, "LARGE", 100)
    examine_ahead([Sample(image=Media(pixels()))], {"named": named})
    monkeypatch.setattr(media, "LARGE", 1 << 20)
    examine_ahead([Sample(image=Media(pixels()))], {"blind": toy(blind, "blind", needs=("prompt",))})
    examine_ahead([Sample(image=Media(pixels()[None], "video"))], {"named": named})
    examine_ahead(range(3), {"named": named})  # would have no pictures at all
    assert not threads
