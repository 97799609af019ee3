"""109 files as they are met in the wild: each is read as what it is, or refused with the reason, everywhere.

The tables were written by looking at each file. A clip's index that counts more than is there is damage; a
transport stream that ends between two packets is a shorter stream.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmreward import Media, Sample, Unscorable

FOLDER = Path(__file__).parents[1] / "cases" / "media"
WIDE, TALL = (64, 96), (96, 64)

PICTURES = {
    # EXIF that is garbage, cut off or out of range turns nothing; one that is merely odd does.
    **dict.fromkeys(("exif_badcount.jpg", "exif_badendian.jpg", "exif_empty.jpg", "exif_garbage.jpg"), WIDE),
    **dict.fromkeys(("exif_exifgarbage.png", "exif_xmpbad.png", "exif_ori9.jpg", "exif_trunc.jpg"), WIDE),
    **dict.fromkeys(("exif_oristr.jpg", "img_exif3.jpg", "img_exif3.png"), WIDE),
    **dict.fromkeys(("exif_badtext.jpg", "exif_loop.jpg", "exif_orifloat.jpg", "exif_orimulti.jpg"), TALL),
    **dict.fromkeys(("exif_usercomment.jpg", "img_exif6.avif", "img_exif6.jpg", "img_exif6.png"), TALL),
    **dict.fromkeys(("img_exif6.tif", "img_exif6.webp", "img_exif8.png", "img_exif8.webp"), TALL),
    # Formats, modes and endings.
    **dict.fromkeys(("img_f32.tif", "img_g16.png", "img_g16.tif", "img_g16_trns.png", "img_grey.png"), WIDE),
    **dict.fromkeys(
        ("img_icc_srgb.png", "img_j2k.jp2", "img_l_trns.png", "img_la.png", "img_la16.png"), WIDE
    ),
    **dict.fromkeys(("img_misnamed.png", "img_multi.tif", "img_one.png", "img_pal.gif", "img_pal.png"), WIDE),
    **dict.fromkeys(
        ("img_pal_trns.gif", "img_pal_trns_bytes.png", "img_pal_trns_int.png", "img_la16.png"), WIDE
    ),
    **dict.fromkeys(("img_rgba.png", "img_rgba16.png", "img_x.JPG", "img_x.avif", "img_x.jfif"), WIDE),
    **dict.fromkeys(("img_ycc.jpg", "vid_still.png", "vid_multi.tif"), WIDE),
    "img_x.ico": (43, 64),
    # Extreme shapes.
    "img_tall.png": (5000, 1),
    "img_wide.png": (2, 3000),
    "img_thin_20000.png": (1, 20_000),
    "img_thin_h_50000.png": (50_000, 1),
    **{f"img_thin_w_{width}.png": (1, width) for width in (1000, 10_000, 20_000, 50_000, 400_000)},
    # Animations, as their first frame.
    **dict.fromkeys(("img_anim.apng", "img_anim.avif", "img_anim.gif", "img_anim_default.png"), WIDE),
    **dict.fromkeys(("vid_anim.gif", "vid_plain.gif"), WIDE),
    **dict.fromkeys(("fps_c.gif", "fps_c.webp", "fps_v.gif"), (64, 64)),
}
CLIPS = {  # (frames, size, frames per second)
    **dict.fromkeys(("fps_c.gif", "fps_c.webp"), (60, (64, 64), 10.0)),
    "fps_v.gif": (60, (64, 64), pytest.approx(60 / 4.95, abs=0.1)),
    **dict.fromkeys(("img_anim.apng", "img_anim.avif"), (3, WIDE, 10.0)),
    **dict.fromkeys(("img_anim.gif", "vid_anim.gif"), (3, WIDE, pytest.approx(3 / 0.9))),
    "img_anim_default.png": (2, WIDE, 10.0),  # the first picture is for readers without animation
    "vid_still.png": (1, WIDE, None),
    "vid_multi.tif": (3, WIDE, None),  # pages have no times
    "vid_one.mp4": (1, WIDE, 8.0),
    "vid_three.mp4": (3, WIDE, 8.0),
    "vid_odd.mp4": (5, WIDE, 8.0),
    "vid_plain.gif": (8, WIDE, pytest.approx(8, abs=0.1)),
    "vid_plain.mpg": (8, WIDE, 25.0),
    **{f"vid_plain.{form}": (8, WIDE, 8.0) for form in ("avi", "mov", "ts", "webm")},
    **{f"vid_{name}.mp4": (8, WIDE, 8.0) for name in ("fast", "noise", "p10", "rot180", "still", "corrupt")},
    "vid_alpha.webm": (8, WIDE, 8.0),
    **{f"vid_phone_{turn}.mp4": (8, (64, 64), 8.0) for turn in ("90", "270", "raw", "upright")},
    **{f"vid_rot{turn}.mp4": (8, TALL, 8.0) for turn in ("90", "270")},
    "vid_sar.mp4": (8, (64, 192), 8.0),
    "vid_fs.mp4": (64, (64, 64), 8.0),
    "vid_long.mp4": (5000, (32, 32), 30.0),
    "vid_trunc.ts": (4, WIDE, 6.0),
    **dict.fromkeys(("vid_vfr.mkv", "vid_vfr.mp4"), (8, WIDE, pytest.approx(7 / 4.3))),
}
BROKEN_PICTURES = {
    "img_badcrc.png": "damaged",
    "img_bomb.png": "60000|3600000000 pixels",
    "img_html.jpg": "HTML",
    "img_i32.tif": "32-bit",
    "img_trunc.jpg": "truncated",
    "img_trunc.png": "truncated",
    "img_zero.jpg": "empty",
}
BROKEN_CLIPS = {
    "vid_corrupt2.mp4": "damaged",
    **dict.fromkeys(("vid_fs_40.mp4", "vid_fs_60.mp4", "vid_fs_95.mp4"), "damaged"),
    "vid_html.mp4": "HTML",
    "vid_trunc.mkv": "no frames",
    "vid_trunc.mp4": "cut off or damaged",
}


def shown(name, kind):
    return Media(FOLDER / name, kind)


def reason(media, look):
    with pytest.raises(Unscorable) as refusal:
        look(media)
    return str(refusal.value)


def close(pixels, others, limit=7.0):
    return pixels.shape == others.shape and np.abs(pixels.astype(float) - others).mean() < limit


def test_the_tables_hold_every_file():
    known = {*PICTURES, *CLIPS, *BROKEN_PICTURES, *BROKEN_CLIPS}
    assert known == {path.name for path in FOLDER.iterdir()}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_has_the_size_that_is_shown(name):
    media = shown(name, "image")
    assert media.size == PICTURES[name]
    assert media.array().shape == (*PICTURES[name], 3)


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_has_its_frames_size_and_rate(name):
    media = shown(name, "video")
    frames, size, fps = CLIPS[name]
    assert (media.frames, media.size, media.fps) == (frames, size, fps)
    assert media.still().shape == (*size, 3)
    if name == "vid_long.mp4":
        assert "5000 frames" in reason(media, Media.array), "refused, and not cut"
        assert media.frames_at([0, 4999]).shape == (2, *size, 3)
    else:
        whole = media.array()
        assert whole.shape == (frames, *size, 3)
        assert np.array_equal(media.frames_at([frames - 1, 0]), whole[[frames - 1, 0]])


@pytest.mark.parametrize("name", BROKEN_PICTURES)
def test_a_broken_picture_says_why(name):
    assert re.search(BROKEN_PICTURES[name], reason(shown(name, "image"), Media.array))


@pytest.mark.parametrize("name", BROKEN_CLIPS)
def test_a_broken_clip_says_why(name):
    for look in (Media.array, lambda media: media.frames):
        if name != "vid_corrupt2.mp4" or look is Media.array:  # only decoding shows it
            assert re.search(BROKEN_CLIPS[name], reason(shown(name, "video"), look))


def test_a_clip_in_the_place_of_a_picture_says_so():
    for name in ("vid_one.mp4", "vid_plain.webm", "vid_plain.mov"):
        assert "give it as video" in reason(shown(name, "image"), Media.array)


def test_rotated_pictures_stand_upright():
    plain = shown("exif_empty.jpg", "image").array()
    for orientation, turns, forms in ((3, 2, "jpg png"), (6, 3, "jpg png webp tif avif"), (8, 1, "png webp")):
        for form in forms.split():
            pixels = shown(f"img_exif{orientation}.{form}", "image").array()
            assert close(pixels, np.rot90(plain, turns)), (orientation, form)


def test_rotated_clips_stand_upright():
    plain = shown("vid_still.mp4", "video").array()
    for angle, turns in ((90, 3), (180, 2), (270, 1)):
        assert close(shown(f"vid_rot{angle}.mp4", "video").array(), np.rot90(plain, turns, (1, 2)), 2)
    phone, upright = (shown(f"vid_phone_{name}.mp4", "video").array() for name in ("90", "upright"))
    assert close(phone, upright, 3)
    assert close(shown("vid_phone_270.mp4", "video").array(), upright[:, ::-1, ::-1], 3)


def test_pixels_that_are_not_square_are_made_so():
    wide, plain = (shown(name, "video").array() for name in ("vid_sar.mp4", "vid_still.mp4"))
    assert close(wide[:, :, ::2], plain)


def test_frames_have_their_own_times():
    for name in ("vid_vfr.mkv", "vid_vfr.mp4"):
        assert shown(name, "video").times == pytest.approx([0, 0.1, 0.2, 0.3, 1.3, 2.3, 3.3, 4.3], abs=2e-3)
    assert shown("img_anim.gif", "video").times == pytest.approx([0, 0.1, 0.6])
    assert shown("fps_v.gif", "video").times[:3] == pytest.approx((0, 2.0, 2.05))
    same = [shown(name, "video").times for name in ("fps_c.gif", "fps_c.webp")]
    assert same[0] == pytest.approx(same[1]) and same[0][-1] == pytest.approx(5.9)


def test_deep_and_transparent_pixels_are_scaled_and_laid_over_white():
    ramp = shown("img_g16.png", "image").array()
    assert (ramp.min(), ramp.max()) == (0, 255)
    for name in ("img_g16.tif", "img_f32.tif"):
        assert close(shown(name, "image").array(), ramp, 1)
    for name in ("img_pal_trns.gif", "img_pal_trns_bytes.png", "img_pal_trns_int.png", "img_l_trns.png"):
        assert shown(name, "image").array().max() == 255


# --- the same through the engine and the command --------------------------------------------------

QUESTION = {"checklist": [{"question": "Is there a red circle? Answer yes or no.", "answer": "yes"}]}


def rows():
    """Every file as a picture and as a clip, where the tables say what it is."""
    for name in (*PICTURES, *BROKEN_PICTURES):
        yield {"id": f"image {name}", "prompt": "a red circle", "image": str(FOLDER / name)}
    for name in (*CLIPS, *BROKEN_CLIPS):
        clip = {"prompt": "a red circle", "video": str(FOLDER / name), "meta": QUESTION}
        yield {"id": f"video {name}", **clip}


def expected(row):
    kind, name = row["id"].split(" ", 1)
    broken = BROKEN_PICTURES if kind == "image" else BROKEN_CLIPS
    return broken.get(name)


def agree(row, status, note):
    why = expected(row)
    return (status == "ok") if why is None else (status == "error" and re.search(why, note) is not None)


def test_the_engine_scores_what_can_be_read_and_says_why_not_of_the_rest(engine):
    images = [row for row in rows() if "image" in row]
    clips = [row for row in rows() if "video" in row]
    for some, reward in (
        (images, {"reward": "clipscore", "weights": "mini-clip"}),
        (clips, {"reward": "checklist", "judge": "mini-vlm", "min_mass": 0.0}),
    ):
        scores = engine.score([Sample(**row) for row in some], {"x": reward})["x"]
        wrong = [
            (row["id"], score.status, score.note)
            for row, score in zip(some, scores, strict=True)
            if not agree(row, score.status, score.note)
        ]
        assert not wrong


def test_the_command_scores_the_same_rows(tmp_path):
    images = [row for row in rows() if "image" in row]
    data, out = tmp_path / "data.jsonl", tmp_path / "scores.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in images))
    command = [sys.executable, "-m", "mmreward.cli", "score", str(data), "--reward", "saturation"]
    done = subprocess.run(
        [*command, "--out", str(out), "--max-failures", "100%"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = {row["id"]: row for row in map(json.loads, out.read_text().splitlines()) if "id" in row}
    wrong = [
        row["id"] for row in images if not agree(row, found[row["id"]]["status"], found[row["id"]]["note"])
    ]
    assert not wrong


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_picture_that_pillow_has_opened_is_read_or_refused_as_its_file():
    opened = 0
    for name in (*PICTURES, *BROKEN_PICTURES):
        try:
            picture = Image.open(FOLDER / name)
        except (OSError, SyntaxError, Image.DecompressionBombError):  # which the caller sees
            continue
        opened += 1
        if name in PICTURES:
            assert np.array_equal(Media(picture).array(), Media(FOLDER / name).array()), name
        else:
            with pytest.raises(Unscorable) as own:
                Media(picture).array()
            with pytest.raises(Unscorable) as file:
                Media(FOLDER / name).array()
            assert str(own.value).partition("')")[2] == str(file.value).partition("')")[2], name
    assert opened > 60


def test_a_picture_whose_file_has_been_closed_is_refused():
    with Image.open(FOLDER / "img_exif6.jpg") as closed:
        pass
    with pytest.raises(Unscorable, match="Media\\(JpegImageFile, 'image'\\) is broken: "):
        Media(closed).array()
