"""Guards and JPEG sizes have the values that can be computed by hand on drawn pictures."""

import asyncio
import io
import math

import numpy as np
import pytest
from PIL import Image

from mmreward import Engine, Media, Sample, load
from mmreward.rewards.pictures import guards


def flat(level, height=12, width=10):
    return np.full((height, width, 3), level, np.uint8)


def halves():
    """Black at the left, white at the right, 10 columns each."""
    pixels = flat(0, 12, 20)
    pixels[:, 10:] = 255
    return pixels


def checkers():
    rows, columns = np.indices((12, 10))
    return np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[..., None], 3, -1)


def value(name, pixels, **args):
    score = asyncio.run(load(name, **args)(Sample(image=Media(pixels))))
    return score.value


def test_sharpness_by_hand():
    assert value("sharpness", flat(90)) == 0
    assert value("sharpness", checkers()) == pytest.approx(16)  # -4 and 4 in turn
    # Of the 18 inner columns the two at the step have a Laplacian of 1 and -1.
    assert value("sharpness", halves()) == pytest.approx(2 / 18)
    ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[None, :, None], 12, 0).repeat(3, -1)
    assert value("sharpness", ramp) == 0


def test_edge_density_by_hand():
    assert value("edge_density", flat(90)) == 0
    assert value("edge_density", halves()) == pytest.approx(2 / 18)
    assert value("edge_density", halves().transpose(1, 0, 2)) == pytest.approx(2 / 18)
    faint = (halves() > 0).astype(np.uint8) * 51  # a step of 0.2
    assert value("edge_density", faint) == pytest.approx(2 / 18)
    assert value("edge_density", faint, threshold=0.21) == 0
    assert value("edge_density", checkers()) == 0  # Sobel's kernels smooth it away


def test_colour_entropy_by_hand():
    assert value("colour_entropy", flat(90)) == 0
    assert value("colour_entropy", halves()) == pytest.approx(1)
    levels = np.arange(0, 256, 32, dtype=np.uint8)
    every = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(16, 32, 3)
    assert value("colour_entropy", every) == pytest.approx(9)
    quarter = flat(255, 4, 4)
    quarter[0] = 0
    assert value("colour_entropy", quarter) == pytest.approx(2 - 0.75 * math.log2(3))


def test_dark_share_by_hand():
    assert value("dark_share", halves()) == pytest.approx(0.5)
    assert value("dark_share", flat(38)) == 1 and value("dark_share", flat(39)) == 0  # 0.149 and 0.153
    assert value("dark_share", flat(39), threshold=0.2) == 1
    red = flat(0)
    red[..., 0] = 120  # 0.299 of 0.47
    assert value("dark_share", red) == 1
    assert not load("dark_share").info.higher_is_better


def test_strips_give_what_the_whole_gives(monkeypatch):
    picture = Media(np.random.default_rng(0).integers(0, 256, (37, 23, 3), dtype=np.uint8))
    measures = (
        guards.sharpness_of,
        lambda media: guards.edge_density_of(media, 0.3),
        guards.colour_entropy_of,
        lambda media: guards.dark_share_of(media, 0.4),
    )
    whole = [measure(picture) for measure in measures]
    for pixels in (1, 50, 23 * 5):
        monkeypatch.setattr(guards, "PIXELS", pixels)
        assert [measure(picture) for measure in measures] == pytest.approx(whole)


def test_a_blacked_out_background_is_seen_by_all_of_them():
    """The failure they are for: the text stays, the scene goes."""
    rng = np.random.default_rng(1)
    scene = rng.integers(60, 256, (64, 64, 3), dtype=np.uint8)
    emptied = np.zeros_like(scene)
    for pixels in (scene, emptied):
        pixels[20:30, 10:50] = 255
    assert value("dark_share", emptied) > value("dark_share", scene) + 0.5
    for name in ("sharpness", "edge_density", "colour_entropy"):
        assert value(name, emptied) < 0.6 * value(name, scene), name


@pytest.mark.parametrize("name", ["sharpness", "edge_density"])
def test_a_picture_without_an_interior_has_none(name):
    with Engine("cpu") as engine:
        (score,) = engine.score([Sample(image=Media(flat(0, 2, 9)))], name)[name]
    assert not score.ok and "no interior" in score.note


@pytest.mark.parametrize("args", [{"threshold": 0.0}, {"threshold": 1.5}, {"threshold": math.nan}])
def test_a_threshold_outside_the_scale_is_refused(args):
    for name in ("edge_density", "dark_share"):
        with pytest.raises(ValueError, match="fraction of full scale"):
            load(name, **args)


# --- JPEG -------------------------------------------------------------------------------------------------


def test_jpeg_sizes_are_those_of_pillow_in_kilobytes():
    pixels = np.random.default_rng(2).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=95)
    size = len(file.getvalue()) / 1000
    assert value("jpeg_incompressibility", pixels) == size
    assert value("jpeg_compressibility", pixels) == -size
    assert value("jpeg_compressibility", pixels, divide=500) == pytest.approx(-size / 500)  # as in flow_grpo
    assert value("jpeg_incompressibility", pixels) > 3 * value("jpeg_incompressibility", flat(90, 48, 64))


@pytest.mark.parametrize("divide", [0.0, -1.0, math.inf, math.nan])
def test_a_divisor_is_a_number_above_0(divide):
    with pytest.raises(ValueError, match="above 0"):
        load("jpeg_compressibility", divide=divide)


def test_a_picture_that_no_jpeg_holds_says_so():
    with Engine("cpu") as engine:
        sample = Sample(image=Media(np.zeros((1, 70_000, 3), np.uint8)))
        (score,) = engine.score([sample], "jpeg_compressibility")["jpeg_compressibility"]
    assert not score.ok and "65500" in score.note
