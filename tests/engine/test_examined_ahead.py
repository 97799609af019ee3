"""Pictures in memory are named by the caller of `Engine.score`, who waits anyway, and not by the loop."""

import asyncio
import io
import pickle
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from support.toys import toy

from mmreward import Media, Sample, Score, examining, media, stills
from mmreward.examining import examined
from mmreward.models import pictures
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


@pytest.mark.parametrize("kind", ["array", "float array", "tensor", "bytes", "PIL"])
def test_what_is_in_memory_is_named_by_the_caller(engine, named, threads, tmp_path, kind):
    engine.score([Sample(image=Media(sources(tmp_path)[kind]))], named)
    assert threads == [threading.current_thread().name]


def undecoded(folder):
    (folder / "b.png").write_bytes(encoded())
    return Image.open(folder / "b.png")


@pytest.mark.parametrize("kind", ["file", "undecoded", "with alpha"])
def test_what_must_be_read_or_converted_is_named_by_readers(engine, named, threads, tmp_path, kind):
    given = sources(tmp_path) | {
        "undecoded": undecoded(tmp_path),
        "with alpha": Image.fromarray(pixels()).convert("RGBA"),
    }
    engine.score([Sample(image=Media(given[kind]))], named)
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

    monkeypatch.setattr(examining, "LARGE", 100)
    examine_ahead([Sample(image=Media(pixels()))], {"named": named})
    monkeypatch.setattr(examining, "LARGE", 1 << 20)
    examine_ahead([Sample(image=Media(pixels()))], {"blind": toy(blind, "blind", needs=("prompt",))})
    examine_ahead([Sample(image=Media(pixels()[None], "video"))], {"named": named})
    examine_ahead(range(3), {"named": named})  # would have no pictures at all
    assert not threads


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Four files, the readings so far by name, and an event without which those named "slow" do not end."""
    found, go, usual = [], threading.Event(), media.read_regular

    def read(path, limit):
        found.append(path.name)
        if path.name.startswith("slow"):
            assert go.wait(20)
        return usual(path, limit)

    monkeypatch.setattr(media, "read_regular", read)
    names = ["a.png", "slow.png", "b.png", "gone.png"]
    for number, name in enumerate(names[:3]):
        (tmp_path / name).write_bytes(encoded(number))
    return [Media(tmp_path / name) for name in names], found, go


def test_the_loop_begins_with_files_read_and_waits_for_one_that_stalls_alone(files, monkeypatch):
    medias, found, go = files
    monkeypatch.setattr(examining, "PATIENCE", 0.3)
    examining.examine_at_hand(medias)
    assert [examining._known(media) for media in medias] == [True, False, True, False]
    examining.examine_at_hand(medias)  # another caller: what is under way is not begun again
    assert sorted(found) == ["a.png", "b.png", "gone.png", "gone.png", "slow.png"]
    assert set(pickle.loads(pickle.dumps(medias[0])).__dict__) == {
        "source",
        "kind",
        "given_fps",
        "key",
        "size",
    }

    async def looked():
        waits = asyncio.ensure_future(examined([medias[0], medias[1]]))
        await asyncio.sleep(0.01)
        assert not waits.done()
        cancelled = asyncio.ensure_future(examined([medias[1]]))
        await asyncio.sleep(0)
        cancelled.cancel()  # a deadline of another row ends nobody's reading
        go.set()
        await waits

    asyncio.run(looked())
    assert examining._known(medias[1]) and found.count("slow.png") == 1


def test_a_file_that_stalls_holds_up_no_other(files, monkeypatch):
    """One thread reads, and the first file does not end; the loop waits for the others and gets them."""
    (good, slow, other, _), found, go = files
    monkeypatch.setattr(examining, "FEW", 1)
    monkeypatch.setattr(examining, "PATIENCE", 0.01)
    examining.examine_at_hand([slow, good, other])
    asyncio.run(examined([good, other]))
    assert examining._known(good) and examining._known(other) and not examining._known(slow)
    go.set()
    asyncio.run(examined([slow]))
    assert sorted(found) == ["a.png", "b.png", "slow.png"]


def test_a_fork_reads_what_its_parent_was_reading(files, monkeypatch):
    (_, slow, *_), _, go = files
    monkeypatch.setattr(examining, "PATIENCE", 0.0)
    examining.examine_at_hand([slow])
    monkeypatch.setattr(examining.os, "getpid", lambda: -1)
    assert examining._under_way(slow) is None
    go.set()
    asyncio.run(examined([slow]))
    assert examining._known(slow)


def test_so_many_files_are_read_ahead(tmp_path, monkeypatch, threads):
    monkeypatch.setattr(examining, "AHEAD", 2)
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(encoded())
    medias = [Media(tmp_path / f"{name}.png") for name in "abcb"]
    examining.examine_at_hand(medias)
    assert [examining._known(media) for media in medias] == [True, True, False, True]


def test_one_file_that_a_group_of_samples_names_is_read_once(files):
    (good, _, other, gone), found, _ = files
    group = [Media(one.source) for one in (good, other, good, gone, good)]
    slower = Media(good.source, fps=2.0)  # is named otherwise
    examining.examine_at_hand([*group, group[0], slower])
    assert sorted(found) == ["a.png", "a.png", "b.png", "gone.png"]
    for each in (*group, slower):
        if each.source == gone.source:
            assert not examining._known(each)
        else:
            alone = Media(each.source, fps=each.given_fps)
            assert (each.__dict__["key"], each.__dict__["size"]) == (alone.key, alone.size)


def clip(folder, number, frames=3):
    paths = [folder / f"{number}-{frame}.png" for frame in range(frames)]
    for frame, path in enumerate(paths):
        path.write_bytes(encoded(10 * number + frame))
    return Media(paths, "video", fps=2.0)


def test_clips_of_files_are_read_ahead_and_on_no_loop(engine, tmp_path, threads):
    async def score(sample):
        return Score(sample.video.frames / 3, note=sample.video.key)

    clips = [clip(tmp_path, number) for number in range(3)]
    scores = engine.score([Sample(video=one) for one in clips], toy(score, needs=("video",)))["toy"]
    assert [one.value for one in scores] == [1, 1, 1]
    assert set(threads) == {"mmreward-reader"} and len(threads) == 3
    threads.clear()
    again = [clip(tmp_path, number) for number in range(3)]
    begun = engine.begin([Sample(video=one) for one in again], toy(score, "other", needs=("video",)))
    assert [one.note for one in begun.result(20)["other"]] == [one.note for one in scores]
    assert set(threads) == {"mmreward-reader"}


def test_frames_of_clips_count_as_files_that_are_read_ahead(tmp_path, monkeypatch):
    monkeypatch.setattr(examining, "AHEAD", 5)
    clips = [clip(tmp_path, number) for number in range(3)]
    empty = Media([], "video")
    examining.examine_at_hand([empty, *clips])
    assert [examining._known(one) for one in (empty, *clips)] == [False, True, True, False]


# --- PIL pictures ---------------------------------------------------------------------------------


@pytest.fixture
def conversions(monkeypatch):
    """Pictures that were converted, by the number drawn into their first pixel; and an empty account."""
    found, usual = [], stills.rgb

    def rgb(picture):
        found.append(picture.getpixel((0, 0))[0])
        return usual(picture)

    monkeypatch.setattr(stills, "rgb", rgb)
    monkeypatch.setattr(examining, "_kept", examining.Kept(examining.KEPT))
    return found


def numbered(number, mode="RGB"):
    array = pixels(number)
    array[0, 0] = number
    return array, Image.fromarray(array).convert(mode)


@pytest.fixture
def looked():
    """A reward that decodes its picture, as a network does, and says what it saw."""

    async def score(sample):
        return Score(float(sample.image.still().mean()), note=sample.image.key)

    return toy(score, needs=("image",))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_pil_picture_is_converted_once_for_its_name_and_its_pixels(engine, looked, conversions, mode):
    rows = [numbered(number, mode) for number in range(6)]
    waited = engine.score([Sample(image=Media(picture)) for _, picture in rows], looked)["toy"]
    assert sorted(conversions) == list(range(6))
    arrays = engine.score([Sample(image=Media(array)) for array, _ in rows], looked)["toy"]
    assert waited == arrays and examining._kept.nbytes <= 6 * rows[0][0].nbytes  # equal, names as well


class Opened(io.BytesIO):
    """A file that takes its time, and says of two threads that read it at once."""

    def __init__(self, data):
        super().__init__(data)
        self.reading = threading.Lock()
        self.disturbed = False

    def read(self, size=-1):
        if not self.reading.acquire(blocking=False):
            self.disturbed = True
            return super().read(size)
        try:
            time.sleep(0.001)
            return super().read(size)
        finally:
            self.reading.release()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("field", ["image", "video"])
@pytest.mark.parametrize("begun", [False, True], ids=["score", "begin"])
def test_a_group_shows_one_picture_that_is_opened_and_not_read(engine, form, field, begun):
    """`Image.open` gave it, and each answer of a group has it: threads would read each other's bytes."""

    async def score(sample):
        media = getattr(sample, field)
        return Score(float(media.array().mean()) / 255, note=media.key)

    data = io.BytesIO()
    Image.fromarray(pixels(side=300)).save(data, form, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
    file = Opened(data.getvalue())
    shared = Image.open(file)
    given = {"image": lambda: Media(shared), "video": lambda: Media([shared, shared], "video")}[field]
    samples = [Sample(**{field: given()}) for _ in range(6)]
    reward = toy(score, needs=(field,))
    scores = (
        engine.begin(samples, reward).result(20)["toy"] if begun else engine.score(samples, reward)["toy"]
    )
    still = np.array(Image.open(data).convert("RGB"))
    want = Media(still) if field == "image" else Media(np.stack([still] * 2), "video")
    assert not file.disturbed
    assert {(score.status, score.note) for score in scores} == {("ok", want.key)}
    assert [score.value for score in scores] == [pytest.approx(float(still.mean()) / 255)] * 6


def test_a_picture_that_a_group_shows_is_named_once(engine, looked, conversions):
    plain, turned = numbered(1)[1], numbered(2, "RGBA")[1]
    rows = [Sample(image=Media(picture)) for picture in (plain, turned, plain, turned)]
    examining.examine_at_hand(row.image for row in rows)
    assert sorted(conversions) == [1, 2] and all(examining._known(row.image) for row in rows)
    assert rows[0].image.key == rows[2].image.key != rows[1].image.key == rows[3].image.key
    array = pixels()
    alike = [Media(array), Media(array, fps=2.0), Media(array)]
    examining.examine_at_hand(alike)
    assert alike[0].__dict__["key"] == alike[2].__dict__["key"] != alike[1].__dict__["key"]


def test_pixels_are_handed_out_once_and_travel_with_nobody(conversions):
    array, picture = numbered(3)
    seen = Media(picture)
    examining.examine_at_hand([seen])
    assert np.array_equal(seen.still(), array) and "_converted" not in seen.__dict__
    picture.putpixel((0, 0), (9, 9, 9))
    assert seen.still()[0, 0, 0] == 9  # converted again, as the picture is now
    examining.examine_at_hand([other := Media(numbered(4)[1])])
    assert set(pickle.loads(pickle.dumps(other)).__dict__) == {"source", "kind", "given_fps", "key", "size"}


def test_what_is_kept_is_bounded_whoever_converts(conversions, monkeypatch):
    """A caller converts what fits and makes room for it; readers leave what fits not. Dropped pictures and
    those that were looked at count no more."""
    size = pixels().nbytes
    monkeypatch.setattr(examining, "KEPT", 3 * size)
    monkeypatch.setattr(examining, "_kept", examining.Kept(3 * size))
    first, second, third = ([Media(numbered(number)[1]) for number in range(4)] for _ in range(3))

    def waiting(medias):
        held = [media.__dict__.get("_converted") for media in medias]
        return [one is not None and one.pixels is not None for one in held]

    examining.examine_at_hand(first)
    assert waiting(first) == [True, True, True, False] and "key" not in first[3].__dict__
    examining._examine(first[3])  # by a reader: no room
    assert waiting(first) == [True, True, True, False] and first[3].key
    first[0].still()
    examining._examine(second[0])
    assert waiting(first) == [False, True, True, False] and waiting(second)[0]
    examining.examine_at_hand(third)
    assert waiting(third) == [True, True, True, False] and not any(waiting(first) + waiting(second))
    assert all(np.array_equal(media.still(), numbered(number)[0]) for number, media in enumerate(first))
    del third
    examining._examine(again := Media(numbered(9)[1]))
    assert waiting([again]) == [True] and examining._kept.nbytes == size


def floats(number, form):
    array = pixels(number) / np.float32(255)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    forms = {"array": array, "tensor": tensor.contiguous(), "channels last": tensor, "half": tensor.half()}
    return forms[form]


@pytest.fixture
def quantisations(monkeypatch):
    """Sizes of what was quantised; and an empty account."""
    found, usual = [], stills.quantised

    def quantised(array):
        found.append(array.size)
        return usual(array)

    monkeypatch.setattr(stills, "quantised", quantised)
    monkeypatch.setattr(examining, "_kept", examining.Kept(examining.KEPT))
    return found


@pytest.mark.parametrize("form", ["array", "tensor", "channels last", "half"])
def test_floats_become_bytes_once_for_their_name_and_their_pixels(engine, quantisations, form):
    async def score(sample):
        decoded = pictures.decoded(sample.image)
        value = float(decoded.float().mean()) / 255
        return Score(value, note=f"{sample.image.key} {decoded.flatten().tolist()}")

    seen = toy(score, needs=("image",))
    rows = [[Sample(image=Media(floats(number, form))) for number in range(4)] for _ in range(2)]
    waited = engine.score(rows[0], seen)["toy"]
    assert len(quantisations) == 4
    assert waited == engine.begin(rows[1], seen).result(20)["toy"]  # named by the loop
    bytes_ = [pixels(number).mean() / 255 for number in range(4)]
    assert [score.value for score in waited] == pytest.approx(bytes_)


def test_the_bytes_of_floats_are_handed_out_once_and_count_as_converted(quantisations, monkeypatch):
    size = pixels().size
    monkeypatch.setattr(examining, "KEPT", 2 * size)
    monkeypatch.setattr(examining, "_kept", examining.Kept(2 * size))
    examining.examine_at_hand(made := [Media(floats(number, "array")) for number in range(3)])
    assert ["key" in one.__dict__ for one in made] == [True, True, False]  # the last is for a reader
    first = made[0]
    first.source[:] = 0
    assert np.array_equal(first.array(), pixels(0)) and "_converted" not in first.__dict__  # as it was named
    assert not first.array().any()
    assert set(pickle.loads(pickle.dumps(made[1])).__dict__) == {"source", "kind", "given_fps", "key", "size"}


def test_large_floats_are_named_by_readers_where_nobody_waits(engine, named, threads, monkeypatch):
    monkeypatch.setattr(examining, "SMALL", 100)
    engine.begin([Sample(image=Media(floats(0, "array")))], named).result(20)
    assert [name.startswith("mmreward-reader") for name in threads] == [True]
