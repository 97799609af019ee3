"""Frames by seeking: those of decoding the clip from its beginning, and only what they need is decoded."""

import io
import os
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmreward import Media, Unscorable, reading, streams
from mmreward.seeking import Lost, Stamp, Stretch, stretches

av = pytest.importorskip("av")

FRAMES = 40
X264 = {"preset": "fast", "g": "12", "bf": "3", "sc_threshold": "0"}
KINDS = {
    "h264": ("mp4", "libx264", X264),
    "h264 in Matroska": ("matroska", "libx264", X264),
    "h264, open groups": ("mp4", "libx264", {**X264, "x264-params": "open-gop=1"}),
    "h264, groups of two": ("mov", "libx264", {**X264, "g": "2"}),
    "hevc": ("mp4", "libx265", {"preset": "ultrafast", "x265-params": "keyint=12:bframes=4:log-level=none"}),
    "vp9": ("webm", "libvpx-vp9", {"g": "12", "cpu-used": "8", "deadline": "realtime", "lag-in-frames": "8"}),
    "mpeg4": ("mp4", "mpeg4", {"g": "12", "bf": "2"}),
    "mjpeg": ("mov", "mjpeg", {}),
}


def film(container, codec, options, frames=FRAMES):
    """A clip of a square that moves over grain."""
    if codec not in av.codecs_available:
        pytest.skip(f"no {codec} here")
    random = np.random.default_rng(0)
    grain = random.integers(0, 40, (64, 96, 3), dtype=np.uint8)
    file = io.BytesIO()
    with av.open(file, "w", format=container) as target:
        stream = target.add_stream(codec, rate=10, options=options)
        stream.width, stream.height = 96, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(frames):
            picture = np.roll(grain, number, axis=1)
            picture[20:40, 2 * number % 76 :][:, :20] = 200
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        target.mux(stream.encode())
    return file.getvalue()


@pytest.fixture(scope="module")
def films():
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = film(*KINDS[kind])
        return made[kind]

    return of


def by(way, source, wanted):
    return streams._filled(source, wanted, (64, 96), way)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_those_of_decoding_in_order(kind, films):
    data = films(kind)
    whole = by(streams._in_order, data, range(FRAMES))
    for number in range(FRAMES):
        assert np.array_equal(by(streams._sought, data, [number])[0], whole[number]), number
    random = np.random.default_rng(1)
    for _ in range(10):
        wanted = random.integers(0, FRAMES, random.integers(1, 12)).tolist()
        assert np.array_equal(by(streams._sought, data, wanted), whole[wanted]), wanted


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_a_cut_are_those_of_the_whole_clip(kind, films, tmp_path):
    (tmp_path / "all").write_bytes(films(kind))
    whole = by(streams._in_order, films(kind), range(FRAMES))
    for first in range(0, FRAMES, 3):
        last = min(FRAMES, first + 11)
        media = Media(streams.Cut(tmp_path / "all", first / 10, last / 10), "video")
        assert media.frames == last - first
        assert np.array_equal(media.frames_at(range(last - first)), whole[first:last])
        for number in range(0, last - first, 4):
            assert np.array_equal(media.frames_at([number])[0], whole[first + number])


def test_clips_of_one_file_have_it_hashed_once_and_again_when_it_has_changed(films, tmp_path):
    path = tmp_path / "all"
    path.write_bytes(films("h264"))
    before = reading._file_hash.cache_info().misses
    keys = {Media(streams.Cut(path, start, start + 1.0), "video").key for start in (0.0, 1.0, 2.0)}
    assert len(keys) == 3 and reading._file_hash.cache_info().misses == before + 1
    digest = Media(streams.Cut(path, 0.0, 1.0), "video").digest
    path.write_bytes(films("h264")[:-1] + b"?")
    os.utime(path, ns=(0, 0))
    changed = Media(streams.Cut(path, 0.0, 1.0), "video")
    assert changed.key not in keys and changed.digest != digest
    path.unlink()
    with pytest.raises(Unscorable, match="no file at") as missing:
        _ = Media(streams.Cut(path, 0.0, 1.0), "video").key
    assert missing.value.status == "missing"


def test_of_a_cuts_file_no_more_is_read_than_is_looked_at(tmp_path, monkeypatch):
    class Counting(io.BytesIO):
        def read(self, size=-1):
            data = super().read(size)
            taken.append(len(data))
            return data

    taken = []
    path = tmp_path / "all.mp4"
    path.write_bytes(film(*KINDS["mjpeg"], frames=1600))
    monkeypatch.setattr(streams, "regular_file", lambda path, _: Counting(path.read_bytes()))
    media = Media(streams.Cut(path, 80.0, 81.0), "video")
    assert media.frames == 10 and len(media.frames_at([3, 7])) == 2
    assert 0 < sum(taken) < path.stat().st_size / 2


def test_a_clip_whose_groups_begin_with_no_key_frame_is_decoded_in_order():
    """Periodic refresh: the frames after a point of recovery need those before it."""
    data = film("mp4", "libx264", {"g": "12", "x264-params": "intra-refresh=1:bframes=0"})
    whole = by(streams._in_order, data, range(FRAMES))
    lost = 0
    for number in range(FRAMES):
        try:
            assert np.array_equal(by(streams._sought, data, [number])[0], whole[number])
        except Lost:
            lost += 1
        assert np.array_equal(Media(data, "video").frames_at([number])[0], whole[number])
    assert lost


@pytest.mark.parametrize("left_out", [1, 5, 17])
def test_a_clip_trimmed_by_an_edit_list_begins_within_a_group(films, left_out):
    """As phones trim: the frames before the first are in the file, and not shown."""
    trimmed = io.BytesIO()
    options = {"avoid_negative_ts": "disabled"}
    with av.open(io.BytesIO(films("h264"))) as whole, av.open(trimmed, "w", "mp4", options=options) as target:
        stream = target.add_stream_from_template(whole.streams.video[0])
        for packet in [one for one in whole.demux(video=0) if one.size]:
            later = left_out * packet.duration
            packet.stream, packet.pts, packet.dts = stream, packet.pts - later, packet.dts - later
            target.mux(packet)
    media = Media(trimmed.getvalue(), "video")
    frames = by(streams._in_order, films("h264"), range(FRAMES))[left_out:]
    assert media.frames == len(frames)
    for number in range(len(frames)):
        assert np.array_equal(by(streams._sought, trimmed.getvalue(), [number])[0], frames[number])
    assert np.array_equal(media.array(), frames)


@pytest.mark.parametrize(("container", "codec"), [("mpegts", "libx264"), ("avi", "mpeg4")])
def test_a_container_without_an_index_is_decoded_in_order(container, codec, monkeypatch):
    data = film(container, codec, {"g": "12"})
    monkeypatch.delattr(streams, "_sought")
    frames = Media(data, "video").frames_at([20, 3])
    assert np.array_equal(frames, by(streams._in_order, data, range(FRAMES))[[20, 3]])


def test_only_the_groups_of_the_wanted_frames_are_decoded(films):
    """Damage is found in the groups that are decoded, and in no other."""
    data = bytearray(films("h264"))
    with av.open(io.BytesIO(data)) as container:
        packets = [(one.pos, one.size, one.is_keyframe) for one in container.demux(video=0) if one.size]
    keys = [place for place, (_, _, key) in enumerate(packets) if key]
    assert keys == [0, 12, 24, 36]
    position, size, _ = packets[12]
    data[position + 10 : position + size] = bytes(size - 10)
    media = Media(bytes(data), "video")
    whole = by(streams._in_order, films("h264"), range(FRAMES))
    wanted = [0, 11, 24, 30, 39]
    assert np.array_equal(media.frames_at(wanted), whole[wanted])
    for number in (12, 15, 23):
        with pytest.raises(Unscorable, match="damaged"):
            media.frames_at([0, number])


def test_a_clip_without_time_stamps_is_counted_by_decoding(films, monkeypatch):
    monkeypatch.setattr(streams, "_stamps", lambda *_: None)
    media = Media(films("h264"), "video")
    assert media.frames == FRAMES
    assert np.array_equal(media.frames_at([7]), by(streams._in_order, films("h264"), [7]))


def test_frames_that_had_to_be_counted_keep_their_numbers(films, monkeypatch):
    """The index tells of a frame in the middle that cannot be decoded."""

    def stamps(*given):
        found = real(*given)
        return [*found[:5], found[5]._replace(pts=found[5].pts + 1, key=False), *found[5:]]

    real = streams._stamps
    monkeypatch.setattr(streams, "_stamps", stamps)
    media = Media(films("h264"), "video")
    whole = by(streams._in_order, films("h264"), range(FRAMES))
    assert media.frames == FRAMES + 1
    assert np.array_equal(media.array(), whole[[*range(FRAMES), FRAMES - 1]])
    assert media.frames == FRAMES
    assert np.array_equal(media.frames_at([30]), whole[[30]])
    assert np.array_equal(media.array(), whole)


def test_frames_are_numbered_from_0(films):
    for media in (Media(films("h264"), "video"), Media(np.zeros((2, 4, 4, 3), np.uint8), "video")):
        with pytest.raises(IndexError, match="frame -1: frames are numbered from 0"):
            media.frames_at([0, -1])


def test_no_frames_are_none(films):
    assert Media(films("h264"), "video").frames_at([]).shape == (0, 64, 96, 3)


# --- what has to be decoded ---------------------------------------------------------------------------


def clip(shown, keys):
    """Packets in the order of decoding."""
    return [Stamp(pts, place - 2, place in keys, True) for place, pts in enumerate(shown)]


def test_a_frame_shown_before_its_key_frame_is_decoded_from_the_one_before():
    open_groups = clip([0, 3, 1, 2, 6, 4, 5, 7], {0, 4})
    assert stretches(open_groups, {7}) == [Stretch(4, 7)]
    assert stretches(open_groups, {5}) == [Stretch(0, 6)]
    assert stretches(open_groups, {1, 7}) == [Stretch(0, 2), Stretch(4, 7)]
    assert stretches(open_groups, {4, 7}) == [Stretch(0, 7)]


@pytest.mark.parametrize("shown", [[0, 1, 1, 2], [2, 0, 1, 3]])
def test_clips_that_time_stamps_do_not_order_are_lost(shown):
    with pytest.raises(Lost):
        stretches(clip(shown, {0}), {1})


@given(st.sets(st.integers(0, 29), min_size=1), st.sets(st.integers(1, 29)), st.randoms())
def test_every_wanted_packet_lies_in_one_stretch_from_a_key_frame(wanted, keys, random):
    shown = list(range(30))
    for place in range(1, 28):  # a packet may come two places from where it is shown
        if random.random() < 0.3:
            shown[place], shown[place + 1] = shown[place + 1], shown[place]
    packets = clip(shown, keys | {0})
    found = stretches(packets, wanted)
    assert all(packets[one.first].key and packets[one.last].pts in wanted for one in found)
    assert all(one.last < other.first for one, other in pairwise(found))
    for place, stamp in enumerate(packets):
        if stamp.pts in wanted:
            (home,) = (one for one in found if one.first <= place <= one.last)
            before = [key for key in range(place + 1) if packets[key].key and packets[key].pts <= stamp.pts]
            assert home.first <= before[-1]
