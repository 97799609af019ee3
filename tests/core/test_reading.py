"""Reads and the threads that do them: files once, sizes as they are, one wake-up for many results."""

import asyncio
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmreward import Media, Unscorable, reading, stills
from mmreward.examining import examined
from mmreward.limits import limited
from mmreward.reading import Span, aside, read_regular

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def counted(monkeypatch, place, name):
    calls, real = [], getattr(place, name)

    def call(*given):
        calls.append(given)
        return real(*given)

    monkeypatch.setattr(place, name, call)
    return calls


def sources(picture):
    size = picture.stat().st_size
    return picture, Span(picture, 0, size, "a member")


@pytest.mark.parametrize("number", [0, 1])
def test_a_file_is_read_once_for_its_size_and_its_name(picture, monkeypatch, number):
    source = sources(picture)[number]
    one, other = Media(source), Media(source)
    known = other.size, other.key
    calls = counted(monkeypatch, reading, "_read")
    asyncio.run(examined([one]))
    assert (one.size, one.key) == known and len(calls) == 1
    assert one.source == source, "the bytes are not kept"


def test_what_is_known_of_a_clip_is_what_its_file_says(tmp_path):
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=[100, 300])
    one, other = (Media(tmp_path / "a.webp", "video") for _ in range(2))
    asyncio.run(examined([one]))
    assert (one.key, one.size, one.timeline) == (other.key, other.size, other.timeline)
    given = Media(tmp_path / "a.webp", "video", fps=3.0)
    asyncio.run(examined([given]))
    assert given.times == (0.0, 1 / 3) and given.key == Media(tmp_path / "a.webp", "video", fps=3.0).key


def test_a_file_that_cannot_be_read_says_so_under_its_own_name(tmp_path):
    (tmp_path / "b.png").write_bytes(b"%PDF")
    for name, reason in (("a.png", "no file at"), ("b.png", "b.png, 'image') is a PDF")):
        one = Media(tmp_path / name)
        asyncio.run(examined([one]))
        with pytest.raises(Unscorable) as refusal:
            _ = one.size
        assert reason in str(refusal.value)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16"])
def test_a_pil_picture_is_converted_once_for_its_name(monkeypatch, mode):
    made = Image.fromarray(PIXELS[..., 0].astype(np.uint16)) if mode == "I;16" else Image.fromarray(PIXELS)
    one = Media(made if mode == "I;16" else made.convert(mode))
    calls = counted(monkeypatch, stills, "rgb")
    asyncio.run(examined([one]))
    assert one.size == (40, 60) and len(calls) == 1
    assert one.key == Media(one.array()).key


def test_a_turned_pil_picture_has_the_size_of_its_pixels():
    turned = Image.fromarray(PIXELS)
    turned.getexif()[0x0112] = 6
    assert Media(turned).size == Media(turned).array().shape[:2] == (60, 40)


def test_an_rgb_picture_stays_its_owners(picture):
    """Pixels are a copy: neither shows what is written to the other."""
    for made in (Image.fromarray(PIXELS), Image.open(picture)):
        media = Media(made)
        array = media.array()
        made.paste(Image.new("RGB", made.size, "red"))
        assert np.array_equal(array, PIXELS)
        made.paste(Image.fromarray(PIXELS))
        media.pixels().zero_()
        assert np.array_equal(np.asarray(made), PIXELS)


def test_a_file_that_says_it_is_empty_is_read_to_its_end():
    """As those of /proc do."""
    version = Path("/proc/version")
    if not version.exists():
        pytest.skip("no /proc here")
    assert read_regular(version, "row_bytes") == version.read_bytes()
    with limited(row_bytes=5), pytest.raises(Unscorable, match="more bytes than the limit"):
        read_regular(version, "row_bytes")


# --- the threads ----------------------------------------------------------------------------------


def test_results_and_errors_come_to_whoever_waits():
    async def run():
        def fail(number):
            raise ValueError(number)

        work = [partial(fail, n) if n % 3 == 0 else partial(str, n) for n in range(40)]
        return await asyncio.gather(*map(aside, work), return_exceptions=True)

    for number, found in enumerate(asyncio.run(run())):
        assert repr(found) == (f"ValueError({number})" if number % 3 == 0 else f"'{number}'")


def test_many_results_wake_the_loop_once():
    """While the loop is busy they gather; none is lost when it looks."""

    async def run():
        loop = asyncio.get_running_loop()
        wakes, real = [], loop.call_soon_threadsafe

        def call(*given, **more):
            wakes.append(given)
            return real(*given, **more)

        loop.call_soon_threadsafe = call
        done = threading.Semaphore(0)
        tasks = [asyncio.ensure_future(aside(done.release)) for _ in range(30)]
        await asyncio.sleep(0)
        for _ in tasks:
            done.acquire()  # the loop is busy until all have been done
        await asyncio.gather(*tasks)
        return len(wakes)

    assert asyncio.run(run()) <= 1 + reading.THREADS  # a thread may bring its last after the loop has looked


def test_one_that_is_cancelled_holds_up_no_other():
    async def run():
        gate = threading.Event()
        waiting = asyncio.ensure_future(aside(gate.wait))
        await asyncio.sleep(0)
        waiting.cancel()
        assert await aside(lambda: 3) == 3
        gate.set()
        assert await aside(lambda: 4) == 4

    asyncio.run(run())


def test_a_loop_that_has_closed_is_not_missed():
    gate = threading.Event()

    async def leave():
        asyncio.ensure_future(aside(partial(gate.wait, 10))).add_done_callback(lambda _: None)
        await asyncio.sleep(0)

    asyncio.run(leave())
    gate.set()
    assert asyncio.run(aside(lambda: 5)) == 5
