"""Pictures and clips: one set of pixels whatever the container, and a typed refusal for what is broken."""

import io
import pickle
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmreward import Media, Sample, Unscorable, load, stills
from mmreward.limits import set_limits

rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (6, 10, 3), dtype=np.uint8)


def encoded(picture, form="PNG", **options):
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def refused(source, kind="image", look=Media.array):
    with pytest.raises(Unscorable) as refusal:
        look(Media(source, kind))
    return refusal.value


# --- the same pixels everywhere -------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_containers_give_the_same_pixels(form, tmp_path):
    options = {"lossless": True} if form == "WEBP" else {}
    data = encoded(PIXELS, form, **options)
    path = tmp_path / "picture"
    path.write_bytes(data)
    for source in (data, path, str(path)):
        media = Media(source)
        assert np.array_equal(media.array(), PIXELS) and media.size == (6, 10)


def test_in_memory_sources_give_the_same_pixels_and_the_same_digest():
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    sources = [PIXELS, Image.fromarray(PIXELS), tensor, np.asfortranarray(PIXELS)]
    for source in sources:
        media = Media(source)
        assert np.array_equal(media.array(), PIXELS) and media.size == (6, 10)
        assert np.array_equal(media.pixels().numpy(), np.moveaxis(PIXELS, -1, 0))
    assert len({Media(source).digest for source in sources}) == 1
    assert len({Media(source).key for source in (sources[0], sources[1], sources[3])}) == 1
    assert (
        Media(tensor.contiguous()).key == Media(tensor.contiguous()).key != Media(PIXELS).key
    )  # other layout


def test_floats_are_fractions_of_full_scale():
    assert np.array_equal(Media(PIXELS / 255).array(), PIXELS)
    assert np.array_equal(Media((PIXELS / 255).astype(np.float32)).array(), PIXELS)


def test_a_uint8_tensor_is_handed_back_without_a_copy():
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(3, 4, 5, dtype=torch.uint8)
    assert Media(tensor).pixels() is tensor
    clip = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    assert Media(clip, "video").pixels() is clip
    assert Media(torch.zeros(4, 5, dtype=torch.uint8)).pixels().shape == (3, 4, 5)


@pytest.mark.parametrize("side", [1, 5])
@pytest.mark.parametrize("form", ["array", "PIL", "JPEG"])
def test_a_tensor_of_any_other_source_may_be_written_to_and_is_a_copy(form, side):
    array = np.full((side, side, 3), 200, np.uint8)
    array.flags.writeable = False
    picture = Image.fromarray(array)
    media = Media({"array": array, "PIL": picture, "JPEG": encoded(picture, "JPEG")}[form])
    media.pixels().zero_()
    assert abs(int(media.pixels().min()) - 200) <= 1 and int(array.min()) == 200


def test_a_clip_is_no_picture_even_as_a_tensor():
    torch = pytest.importorskip("torch")
    with pytest.raises(Unscorable):
        Media(torch.zeros(2, 3, 4, 5, dtype=torch.uint8)).pixels()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_exif_rotation_turns_size_and_pixels_alike(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    media = Media(encoded(PIXELS, form, exif=exif))
    assert media.size == media.array().shape[:2] == ((10, 6) if orientation > 4 else (6, 10))
    if form == "PNG" and orientation == 3:
        assert np.array_equal(media.array(), PIXELS[::-1, ::-1])


# --- colour modes ---------------------------------------------------------------------------------


def test_alpha_is_laid_over_white():
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    expected = [[[200, 0, 0], [255, 255, 255], [127, 127, 127]]]
    for source in (encoded(rgba), rgba):
        assert np.abs(Media(source).array().astype(int) - expected).max() <= 1


def test_grey_with_alpha_and_palettes_with_transparency():
    grey = Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8), "LA")
    assert Media(encoded(grey)).array().tolist() == [[[10] * 3, [255] * 3]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([1, 2, 3, 9, 9, 9])
    assert Media(encoded(palette)).array().tolist() == [[[1, 2, 3], [9, 9, 9]]]
    assert Media(encoded(palette, transparency=1)).array().tolist() == [[[1, 2, 3], [255] * 3]]


def test_grey_cmyk_bilevel_and_sixteen_bits():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert Media(encoded(grey)).array()[..., 1].tolist() == grey.tolist()
    assert Media(grey).array().shape == Media(grey[..., None]).array().shape == (3, 4, 3)
    cmyk = Image.new("CMYK", (2, 2), (0, 0, 0, 255))
    assert Media(encoded(cmyk, "TIFF")).array().max() == 0
    assert Media(encoded(Image.new("1", (2, 2), 1))).array().min() == 255
    deep = Media(encoded(np.array([[0, 32768, 65535]], np.uint16))).array()
    assert deep[0, :, 0].tolist() == [0, 127, 255]


# --- broken input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
def test_a_truncated_file_is_refused_with_a_reason(form, share):
    noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(noise, form)
    refusal = refused(data[: int(len(data) * share)])
    assert refusal.status == "error" and str(refusal)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_flipped_bytes_are_pixels_or_a_refusal_and_never_anything_else(form):
    data = encoded(PIXELS, form)
    noise = np.random.default_rng(1)
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(noise.integers(1, 6)):
            broken[noise.integers(len(broken))] = noise.integers(256)
        for look in (Media.array, lambda media: media.size):
            try:
                look(Media(bytes(broken)))
            except Unscorable as refusal:
                assert refusal.status == "error"


def test_a_text_file_by_another_name_an_empty_file_and_no_file(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    assert "text.png" in str(refused(tmp_path / "text.png"))
    assert "empty.png" in str(refused(tmp_path / "empty.png"))
    for look in (Media.array, lambda media: media.key, lambda media: media.size):
        assert refused(tmp_path / "nowhere.png", look=look).status == "missing"
    assert refused(tmp_path).status == "error"


def test_a_decompression_bomb_is_refused_from_its_header():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    for look in (Media.array, lambda media: media.size):
        assert "pixels" in str(refused(bomb, look=look))


def test_a_picture_just_above_the_limit_is_refused():
    set_limits(pixels=59)
    for source in (encoded(PIXELS), PIXELS):
        assert "59" in str(refused(source))
        assert refused(source, look=lambda media: media.size)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), np.inf), "NaN or infinity"),
        (np.full((4, 4, 3), 255.0), r"\[0, 1\]"),
        (np.full((4, 4, 3), -0.5), r"\[0, 1\]"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (np.zeros((4, 4, 3), bool), "bool"),
        (np.zeros((4, 4, 5), np.uint8), "channels"),
        (np.zeros((3, 4, 4), np.uint8)[:, :, :2], "channels"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((2, 4, 4, 3), np.uint8), "image"),
        (np.zeros(4, np.uint8), "image"),
        (np.array(1.0), "image"),
        (object(), "object"),
        (None, "NoneType"),
    ],
)
def test_arrays_that_are_no_picture(array, reason):
    import re

    assert re.search(reason, str(refused(array)))


def test_an_unknown_kind_is_the_callers_mistake():
    with pytest.raises(ValueError, match="audio"):
        Media("x.wav", "audio")  # type: ignore[arg-type]


# --- keys -----------------------------------------------------------------------------------------


def test_keys_follow_the_content(tmp_path):
    data = encoded(PIXELS)
    (tmp_path / "a.png").write_bytes(data)
    (tmp_path / "b.png").write_bytes(data)
    keys = {Media(tmp_path / "a.png").key, Media(tmp_path / "b.png").key, Media(data).key}
    assert len(keys) == 1
    changed = PIXELS.copy()
    changed[0, 0, 0] ^= 1
    others = {
        Media(changed).key,
        Media(PIXELS).key,
        Media(PIXELS.reshape(10, 6, 3)).key,
        Media(data, "video").key,
    }
    assert len(keys | others) == 5


def test_digests_are_the_same_in_another_process_and_keys_are_not():
    code = (
        "import numpy as np; from mmreward import Media; m = Media(np.zeros((2, 2, 3), np.uint8)); "
        "print(m.digest, m.key)"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = Media(np.zeros((2, 2, 3), np.uint8))
    digest, key = seen.split()
    assert digest == here.digest and key != here.key  # the seed of keys is drawn anew


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "uint8"])
def test_keys_of_tensors_follow_type_shape_and_every_value(dtype):
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(3, 4, 6).to(getattr(torch, dtype))
    changed = tensor.clone()
    changed[-1, -1, -1] = 1
    seen = [tensor, changed, tensor.reshape(3, 6, 4), tensor[:, ::2], tensor.double()]
    if tensor.element_size() == 2:
        seen.append(tensor.view(torch.float16 if dtype == "bfloat16" else torch.bfloat16))
    assert len({Media(one).key for one in seen}) == len(seen)
    assert Media(tensor).key == Media(tensor.clone()).key


@given(st.lists(st.integers(-9, 10_009), min_size=12, max_size=12))
def test_floats_are_quantised_as_by_the_slow_rule(values):
    torch = pytest.importorskip("torch")
    array = (np.asarray(values) / 10_000).astype(np.float32).reshape(2, 2, 3)
    slow = np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
    before = array.copy()
    assert np.array_equal(Media(array).array(), slow)
    assert np.array_equal(Media(torch.from_numpy(array).permute(2, 0, 1)).pixels().permute(1, 2, 0), slow)
    assert np.array_equal(array, before)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_floats_are_quantised_in_blocks_and_in_their_layout(monkeypatch, axes):
    monkeypatch.setattr(stills, "BLOCK", 7)
    values = np.random.default_rng(0).random((4, 5, 3), np.float32)
    wide = np.random.default_rng(1).random((8, 10, 3), np.float32)
    for array in (values.transpose(axes), wide[::2, ::2], wide[::-1], values[:1], values.astype(np.float64)):
        bytes_ = stills.quantised(array)
        assert np.array_equal(bytes_, np.rint(array * array.dtype.type(255)))
        assert np.argsort(bytes_.strides).tolist() == np.argsort(np.abs(array.strides)).tolist()
    values[3, 4, 2] = 1.0004  # in the last block: inside the tolerance
    assert stills.quantised(values)[3, 4, 2] == 255
    values[3, 4, 2] = np.nan
    with pytest.raises(Unscorable, match="NaN"):
        stills.quantised(values)


def test_floats_are_named_by_the_bytes_that_rewards_see():
    array = PIXELS / np.float32(255)
    near, other = array + np.float32(1e-4), array.copy()
    other[0, 0, 0] = 1 - other[0, 0, 0]
    assert Media(near).key == Media(array).key
    assert len({Media(one).key for one in (array, other, PIXELS, array.astype(np.float64))}) == 4
    wild = array.copy()
    wild[-1, -1, -1] = 7.0  # no picture: by its floats, and refused where it is looked at
    assert Media(wild).key not in (Media(array).key, Media(-wild).key)


# --- clips ----------------------------------------------------------------------------------------


def clip_bytes(form="mp4", codec="mpeg4", frames=5, title=""):
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format=form) as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), index * 50, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["mp4", "avi", "matroska"])
def test_a_clip_gives_its_frames_in_order(form, tmp_path):
    data = clip_bytes(form)
    path = tmp_path / "clip"
    path.write_bytes(data)
    for source in (data, path):
        media = Media(source, "video")
        frames = media.array()
        assert frames.shape == (5, 16, 32, 3) and media.size == (16, 32)
        assert np.abs(frames.mean((1, 2, 3)) - np.arange(5) * 50).max() < 6
        assert media.picture().size == (32, 16)


def test_a_title_that_is_no_utf8_is_no_damage():
    data = clip_bytes("matroska", title="caf\u00e9").replace(b"caf\xc3\xa9", b"caf\xe9\xff")
    assert b"caf\xe9\xff" in data
    assert Media(data, "video").array().shape == (5, 16, 32, 3)


def test_animated_pictures_are_clips_or_their_first_frame():
    frames = [Image.new("RGB", (8, 4), (index * 80,) * 3) for index in range(3)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Media(data, "video").array().shape == (3, 4, 8, 3)
    assert Media(data).array().shape == (4, 8, 3)


def test_a_list_of_frames_is_a_clip():
    assert Media([PIXELS, Image.fromarray(PIXELS)], "video").array().shape == (2, 6, 10, 3)
    assert refused([], "video") and refused([PIXELS], "image")
    assert "size" in str(refused([PIXELS, PIXELS[:3]], "video"))


@pytest.mark.parametrize("data", [b"", b"text", b"RIFF1234AVI ", b"GIF89a"])
def test_broken_clips_are_refused(data):
    assert refused(data, "video").status == "error"
    assert refused(clip_bytes()[:200], "video").status == "error"


@pytest.mark.parametrize("form", ["mp4", "mov", "matroska", "webm", "avi"])
def test_a_clip_that_is_cut_off_is_refused(form):
    data = filmed(form, "libvpx-vp9" if form == "webm" else "mpeg4", 60)
    assert Media(data, "video").frames == 60
    for share in (0.2, 0.5, 0.9):
        assert re.search("cut off|damaged", str(refused(data[: int(share * len(data))], "video")))


def test_a_live_recording_has_no_declared_end():
    """Matroska of unknown size, and AVI whose writer was killed: as long as the file."""
    live = filmed("matroska", "mpeg4", 60, live="1")
    assert len(Media(live, "video").array()) == 60
    avi = filmed("avi", "mpeg4", 60)
    assert Media(avi[:4] + bytes(4) + avi[8:], "video").frames == 60


def filmed(form, codec, frames, **options):
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, mode="w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = 96, 64
        for number in range(frames):
            noise = np.random.default_rng(number).integers(0, 256, (64, 96, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def test_a_clip_of_an_unknown_codec_is_refused():
    data = filmed("mp4", "libx264", 2).replace(b"avc1", b"zzz1")
    assert "no decoder for its codec" in str(refused(data, "video"))


def test_a_clip_that_would_fill_the_memory_is_refused():
    set_limits(clip_pixels=100)
    frames = [Image.new("RGB", (8, 4), (index * 80,) * 3) for index in range(10)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert "100" in str(refused(gif, "video"))
    assert "100" in str(refused(clip_bytes(), "video"))


@pytest.mark.parametrize("form", ["path", "bytes", "pil", "array", "float", "tensor"])
def test_pickled_media_have_key_and_pixels_without_the_file(tmp_path, png, form):
    import torch

    path = tmp_path / "picture.png"
    path.write_bytes(png)
    array = Media(png).array()
    forms = {
        "path": path,
        "bytes": png,
        "pil": Media(png).picture(),
        "array": array,
        "float": array.astype(np.float32) / 255,
        "tensor": torch.from_numpy(array.copy()).permute(2, 0, 1),
    }
    media = Media(forms[form])
    fresh = pickle.loads(pickle.dumps(media))
    key, size = media.key, media.size
    known = pickle.loads(pickle.dumps(media))
    path.unlink()
    assert not isinstance(known.source, type(path))
    assert (known.__dict__["key"], known.__dict__["size"]) == (key, size)
    for copy in (fresh, known):
        assert (copy.key, copy.size, copy.kind) == (key, size, media.kind)
        assert (copy.array() == array).all()


def test_media_whose_file_is_gone_cannot_be_pickled(tmp_path):
    with pytest.raises(Unscorable, match="no file at"):
        pickle.dumps(Media(tmp_path / "gone.png"))


def test_the_size_of_a_png_is_read_without_decoding_it(monkeypatch):
    from PIL import ImageFile

    media = Media(encoded(PIXELS, "PNG"))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    assert media.size == PIXELS.shape[:2]


def test_frames_given_one_by_one_are_decoded_once(monkeypatch):
    opened = []
    usual = stills.decoded
    monkeypatch.setattr(stills, "decoded", lambda *args: opened.append(args) or usual(*args))
    clip = Media([encoded(PIXELS, "PNG")] * 3, "video", fps=2.0)
    assert (clip.frames, clip.size, clip.array().shape) == (3, PIXELS.shape[:2], (3, *PIXELS.shape))
    assert len(clip.key) == 32 and len(opened) == 3


# --- what is opened at all ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6" + b"\0" * 60, "PostScript"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"", "empty"),
    ],
)
def test_only_formats_of_a_closed_list_are_opened(data, words, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a program was started"))
    for kind in ("image", "video"):
        assert words in str(refused(data, kind))


@pytest.mark.parametrize("form", ["EPS", "PDF", "TGA", "PCX", "SGI", "ICNS"])
def test_a_format_outside_the_list_is_refused_even_where_pillow_writes_it(form):
    picture = Image.new("RGB", (16, 16))
    assert refused(encoded(picture, form))


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{path}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    ],
)
def test_a_playlist_opens_no_other_file(tmp_path, playlist):
    (tmp_path / "secret.mp4").write_bytes(clip_bytes())
    data = playlist.format(path=tmp_path / "secret.mp4").encode()
    assert "cannot be decoded" in str(refused(data, "video"))


# --- axes, and what stands for a picture ----------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((3, 40, 50), "image"),  # CHW
        ((40, 50, 3), "video"),  # one picture
        ((3, 40, 50), "video"),
        ((3, 5, 40, 50), "video"),  # CTHW
        ((5, 3, 40, 50), "video"),  # TCHW
    ],
)
def test_an_array_in_another_order_is_refused_with_the_right_one(shape, kind):
    assert "(H, W, C)" in str(refused(np.zeros(shape, np.uint8), kind)) or kind == "video"
    assert ("(T, H, W, C)" if kind == "video" else "(H, W, C)") in str(
        refused(np.zeros(shape, np.uint8), kind)
    )


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((40, 50, 3), "image"),  # HWC
        ((40, 50, 3), "video"),
        ((3, 40, 50), "video"),  # CHW
        ((5, 40, 50, 3), "video"),  # THWC
        ((3, 5, 40, 50), "video"),  # CTHW
        ((3, 1, 40, 50), "video"),  # CTHW of one frame
        ((3, 4, 40, 50), "video"),  # CTHW of four frames
    ],
)
def test_a_tensor_in_another_order_is_refused_with_the_right_one(shape, kind):
    torch = pytest.importorskip("torch")
    for look in (Media.array, Media.pixels):
        reason = str(refused(torch.zeros(shape, dtype=torch.uint8), kind, look))
        assert ("(T, C, H, W)" if kind == "video" else "(C, H, W)") in reason


def test_a_grey_clip_has_its_frames_first():
    torch = pytest.importorskip("torch")
    grey = torch.arange(5, dtype=torch.uint8)[:, None, None].expand(5, 6, 7)
    for source in (grey, grey.numpy()):
        frames = Media(source, "video").array()
        assert frames.shape == (5, 6, 7, 3) and frames[:, 0, 0, 0].tolist() == list(range(5))


def test_sources_stand_for_media_in_a_sample(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(PIXELS))
    sources = [str(tmp_path / "a.png"), tmp_path / "a.png", encoded(PIXELS), PIXELS, Image.fromarray(PIXELS)]
    sources += [{"bytes": encoded(PIXELS), "path": None}, {"path": tmp_path / "a.png"}]
    for source in sources:
        sample = Sample(image=source, inputs=[source])
        assert sample.image.size == sample.inputs[0].size == (6, 10) and isinstance(sample.inputs, tuple)
    assert Sample(video=[PIXELS, PIXELS]).video.frames == 2


@pytest.mark.parametrize("wrong", [5, True, {"a": 1}, {}, Sample(), object(), lambda: 1])
def test_what_is_no_picture_is_refused_with_the_fields_name(wrong):
    for name in ("image", "video"):
        with pytest.raises(ValueError, match=f"{name} is .*not a path or a picture"):
            Sample(**{name: wrong})
    with pytest.raises(ValueError, match="inputs"):
        Sample(inputs=[wrong])


def test_samples_in_the_wrong_place_are_named(engine):
    for wrong, words in (
        (Sample(), "one Sample: give a list"),
        ([{"prompt": "x"}], r"samples\[0\] is dict, not a Sample: make it Sample\(\*\*row\)"),
        ("a.png", "samples is str"),
    ):
        with pytest.raises(TypeError, match=words):
            engine.score(wrong, ["saturation"])


@pytest.mark.parametrize(
    ("low", "high", "fix"), [(-1, 1, "0.5"), (0, 255, "divide by 255"), (0, 1.01, "0.5")]
)
def test_tensors_outside_the_unit_interval_are_refused(low, high, fix):
    torch = pytest.importorskip("torch")
    pixels = torch.linspace(low, high, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    reward = load("saturation")
    with pytest.raises(ValueError, match=fix):
        reward.score_tensor(pixels, ["a", "b"])
    inside = torch.linspace(-0, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    assert reward.score_tensor(inside, ["a", "b"]).shape == (2,)


def test_frames_before_the_first_key_frame_are_left_out():
    """A cut without re-encoding begins between key frames: its index counts frames that nothing can show."""
    av = pytest.importorskip("av")
    whole, cut = io.BytesIO(), io.BytesIO()
    with av.open(whole, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=5, options={"x264-params": "scenecut=0"})
        stream.gop_size, stream.max_b_frames = 6, 0
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), index * 20, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(io.BytesIO(whole.getvalue())) as source, av.open(cut, "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in [packet for packet in source.demux(video=0) if packet.size][3:]:
            packet.stream = stream
            target.mux(packet)
    media = Media(cut.getvalue(), "video")
    frames = media.array()
    assert len(frames) == media.frames == len(media.times) == 6
    assert np.abs(frames.mean((1, 2, 3)) - np.arange(6, 12) * 20).max() < 6


def test_a_clip_without_loss_keeps_the_times_of_its_frames():
    frames = [Image.new("RGB", (8, 4), (index * 80,) * 3) for index in range(3)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=[100, 500, 300])
    data, suffix = Media(gif, "video").lossless()
    assert suffix == ".webp" and Media(data, "video").times == pytest.approx((0, 0.1, 0.6))
    assert np.array_equal(Media(data, "video").array(), Media(gif, "video").array())
