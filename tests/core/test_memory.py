"""Peak memory of each kind of input, measured in a process of its own, and files that never end."""

import io
import os
import socket
import subprocess
import sys
import textwrap
import time
import zlib
from fractions import Fraction

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.pace import allowed

from mmreward import Engine, Media, Sample, Unscorable
from mmreward.data.parquet import batches_of
from mmreward.limits import limited, set_limits

MB = 1 << 20


def peak(code, *arguments):
    """Bytes of memory at most that the code takes beyond what its imports take, and what it prints."""
    program = SETUP + textwrap.dedent(code) + "\nprint(most() - before)\n"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    *printed, kilobytes = done.stdout.split("\n")[:-1]
    return int(kilobytes) * 1024, printed


# `ru_maxrss` of a process counts that of the one that started it, such as of a pytest that has grown.
SETUP = """
import os, re, resource, sys
def most():
    if not os.path.exists("/proc/self/status"):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""
BEFORE = "before = most()\n"


def png_of(height, width, mode="RGB"):
    """A picture of one colour, which no encoder has to hold."""
    channels, colour = {"RGB": (3, 2), "RGBA": (4, 6)}[mode]
    row = b"\0" + b"\x55" * (channels * width)
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    head = chunk(b"IHDR", size + bytes([8, colour, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_largest_picture_takes_less_than_a_gigabyte(tmp_path, mode):
    (tmp_path / "large.png").write_bytes(png_of(8192, 8192, mode))
    code = f"""
        import numpy, PIL.Image
        from mmreward import Media
        {BEFORE.strip()}
        print(Media(sys.argv[1]).array().shape)
    """
    used, printed = peak(code, tmp_path / "large.png")
    assert printed == ["(8192, 8192, 3)"] and used < 900 * MB


def test_one_line_more_than_the_largest_picture_is_refused_from_its_header(tmp_path):
    (tmp_path / "large.png").write_bytes(png_of(8193, 8192))
    code = f"""
        import numpy, PIL.Image
        from mmreward import Media, Unscorable
        {BEFORE.strip()}
        try:
            Media(sys.argv[1]).array()
        except Unscorable as refusal:
            print(refusal)
    """
    used, printed = peak(code, tmp_path / "large.png")
    assert "8192 x 8193 pixels are more than the limit of 67108864" in printed[0] and used < 60 * MB


def test_a_thin_picture_takes_no_more_through_clip_than_a_square_one(tmp_path):
    for name, (height, width) in {"a": (1, 10_000), "b": (2_000_000, 1), "c": (3, 200_000)}.items():
        (tmp_path / f"{name}.png").write_bytes(png_of(height, width))
    code = f"""
        from mmreward import Engine, Media, Sample
        engine = Engine("cpu")
        def values(*sources):
            samples = [Sample(prompt="red", image=source) for source in sources]
            rewards = {{way: {{"reward": "clipscore", "weights": "mini-clip", "resize": way}}
                       for way in ("tensor", "pil", "uint8")}}
            return [score.status for column in engine.score(samples, rewards).values() for score in column]
        import numpy
        values(numpy.zeros((512, 512, 3), "uint8"))
        {BEFORE.strip()}
        print(*values(*sys.argv[1:]))
        engine.close()
    """
    used, printed = peak(code, *sorted(tmp_path.iterdir()))
    # Pillow's own resize takes 350 of them before 13.
    limit = 250 if int(PIL.__version__.partition(".")[0]) >= 13 else 550
    assert printed == [" ".join(["ok"] * 9)] and used < limit * MB


def test_saturation_of_the_largest_picture_takes_little_more_than_the_picture(tmp_path):
    (tmp_path / "large.png").write_bytes(png_of(8192, 8192))
    code = f"""
        import PIL.Image
        from mmreward import Engine, Sample
        engine = Engine("cpu")
        {BEFORE.strip()}
        print(engine.score([Sample(image=sys.argv[1])], ["saturation"])["saturation"][0].status)
        engine.close()
    """
    begun = time.perf_counter()
    used, printed = peak(code, tmp_path / "large.png")
    assert time.perf_counter() - begun < allowed(30, time.perf_counter)
    assert printed == ["ok"] and used < 1000 * MB


def film(path, seconds, rate, width=1920, height=1080):
    av = pytest.importorskip("av")
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("mjpeg", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        grey = np.full((height * 3 // 2, width), 128, np.uint8)
        (packet,) = stream.encode(av.VideoFrame.from_ndarray(grey, format="yuvj420p"))
        same = bytes(packet)  # a key frame, written again and again
        for index in range(int(seconds * rate)):
            packet = av.Packet(same)
            packet.stream, packet.time_base = stream, Fraction(1, rate)
            packet.pts = packet.dts = index
            packet.is_keyframe = True
            container.mux(packet)


def test_ten_seconds_of_1080p_take_the_memory_of_the_frames_that_are_looked_at(tmp_path):
    film(tmp_path / "clip.mp4", 10, 60)
    code = f"""
        import av, numpy, PIL.Image
        from mmreward import Media
        from mmreward.models.vlms.vision import looked_at, sampled
        media = Media(sys.argv[1], "video")
        sampled(600, 60.0, None)
        {BEFORE.strip()}
        numbers, about = looked_at(media, None)
        print(media.frames, media.fps, media.frames_at(numbers).shape)
    """
    used, printed = peak(code, tmp_path / "clip.mp4")
    assert printed == ["600 60.0 (20, 1080, 1920, 3)"] and used < 250 * MB


def test_a_clip_of_more_frames_than_may_be_is_refused(tmp_path):
    film(tmp_path / "clip.mp4", 4, 10, 32, 16)
    set_limits(clip_frames=39)
    with pytest.raises(Unscorable, match="more frames than the limit of 39"):
        _ = Media(tmp_path / "clip.mp4", "video").frames


# --- files that never end -------------------------------------------------------------------------


def special_files(folder):
    os.mkfifo(folder / "fifo.png")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "socket.png"))
    (folder / "folder.png").mkdir()
    (folder / "link.png").symlink_to("/dev/zero")
    return listening


def pointing(*values):
    """A column of Parquet whose rows point to values in its dictionary: a short one, then the last."""
    rows = pa.array([0] * 16 + [len(values) - 1] * 240, pa.int32())
    return pa.DictionaryArray.from_arrays(rows, pa.array(values))


LARGE = MB
POINTING = {
    "response": lambda: pointing("x", "y" * LARGE),
    "image": lambda: pa.StructArray.from_arrays(
        [pointing(b"x", b"y" * LARGE), pointing("a", "b")], ["bytes", "path"]
    ),
    "words": lambda: pa.ListArray.from_arrays(pa.array(range(257), pa.int32()), pointing("x", "y" * LARGE)),
}


@pytest.mark.parametrize("name", POINTING)
@pytest.mark.parametrize("codec", ["snappy", "zstd"])
def test_a_parquet_file_of_one_large_value_and_many_rows_takes_a_bounded_memory(tmp_path, name, codec):
    """Rows are decoded, and held before they are scored, as many at once as fit, whatever the file says."""
    path = tmp_path / "rows.parquet"
    table = pa.table({name: POINTING[name]()})
    pq.write_table(table, path, dictionary_pagesize_limit=1 << 30, compression=codec)
    assert path.stat().st_size < MB // 4
    code = f"""
        import pyarrow.parquet, numpy
        from mmreward.data.rows import chunked, read_rows
        from mmreward.limits import set_limits
        set_limits(rows_bytes=16 << 20)
        {BEFORE.strip()}
        chunks = [len(chunk) for chunk in chunked(read_rows(sys.argv[1]), 4096)]
        print(sum(chunks), max(chunks[1:]))
    """
    used, printed = peak(code, path)
    limit = 90 if int(pa.__version__.partition(".")[0]) >= 22 else 200  # all rows at once take 257
    assert printed == ["256 15"] and used < limit * MB, used


@pytest.mark.parametrize(
    ("table", "rows"),
    [
        ({"prompt": ["a cat"] * 1000, "response": ["words"] * 1000}, [32] * 31 + [8]),
        ({"prompt": [str(number) * 9000 for number in range(64)]}, [32] * 2),  # 2 MB that no row shares
        ({"numbers": [[7] * 50_000] * 8}, [5, 3]),  # some bytes each on the disk
        ({"number": range(64)}, [32] * 2),
        ({"prompt": []}, []),
    ],
    ids=["texts", "long", "lists", "numbers", "empty"],
)
def test_only_rows_that_may_be_large_are_decoded_few_at_once(tmp_path, table, rows):
    pq.write_table(pa.table({name: pa.array(column) for name, column in table.items()}), tmp_path / "a.pq")
    with limited(rows_bytes=8 * MB):
        assert [len(batch) for batch in batches_of(tmp_path / "a.pq")] == rows


def test_only_regular_files_are_read(tmp_path, engine):
    listening = special_files(tmp_path)
    paths = sorted(tmp_path.iterdir())
    good = np.zeros((4, 4, 3), np.uint8)
    samples = [Sample(image=path, prompt="red") for path in paths] + [Sample(image=good, prompt="red")]
    begun = time.perf_counter()
    for kind in ("image", "video"):
        for path in paths:
            for look in (Media.array, lambda media: media.key, lambda media: media.size):
                with pytest.raises(Unscorable, match=r"cannot read|not a regular file"):
                    look(Media(path, kind))
    *bad, last = engine.score(samples, ["saturation"])["saturation"]
    assert [score.status for score in bad] == ["error"] * 4 and last.status == "ok"
    assert time.perf_counter() - begun < allowed(5, time.perf_counter)
    assert "a FIFO, not a regular file" in bad[0].note
    listening.close()


def test_a_file_above_the_limit_is_not_read(tmp_path, monkeypatch):
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(Unscorable, match=f"{1 << 34} bytes; the limit is"):
        _ = Media(tmp_path / "large.png").key


def test_a_mount_that_stalls_costs_its_own_row_at_the_deadline(tmp_path, monkeypatch):
    from mmreward import media, reading

    usual = reading.read_regular

    def stalled(path, most):
        if path.name.startswith("stalled"):
            time.sleep(30)
        return usual(path, most)

    monkeypatch.setattr(media, "read_regular", stalled)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    names = ["stalled1.png", "good.png", "stalled2.png", "good2.png"]
    for name in names:
        (tmp_path / name).write_bytes(buffer.getvalue())
    rewards = {"s": "saturation", "c": {"reward": "clipscore", "weights": "mini-clip"}}
    with Engine("cpu") as engine:
        samples = [Sample(image=tmp_path / name, prompt="red") for name in names]
        engine.score([Sample(image=np.zeros((4, 4, 3), np.uint8), prompt="red")], rewards)
        begun = time.perf_counter()
        columns = engine.score(samples, rewards, timeout=8)
    assert time.perf_counter() - begun < allowed(20, time.perf_counter)
    for column in columns.values():
        assert [score.status for score in column] == ["timeout", "ok", "timeout", "ok"]
