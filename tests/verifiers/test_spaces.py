"""Coordinate spaces: the same box in every model family's words, and the resize of Qwen's processors."""

import ast
import math
import random
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mmreward import Media, Sample, Unscorable, load
from mmreward.verifiers.spaces import SPACES, Size, extent, smart_resize, space_of, steps

BOX = (0.1, 0.2, 0.5, 0.9)
LIMITS = ((28, 56 * 56, 16384 * 28 * 28), (32, 64 * 32 * 32, 16384 * 32 * 32), (28, 3136, 1280 * 28 * 28))


def sides(chance):
    """(height, width) no longer than 200:1, from one patch to 6000 pixels."""
    while True:
        height, width = (int(2 ** chance.uniform(5.01, 12.5)) for _ in range(2))
        if max(height, width) / min(height, width) <= 200:
            return height, width


def installed(package, file):
    """`smart_resize` as installed, without importing the package and with it torch."""
    (folder,) = find_spec(package).submodule_search_locations
    wanted = {"smart_resize", "round_by_factor", "ceil_by_factor", "floor_by_factor"}
    body = [
        node
        for node in ast.parse((Path(folder) / file).read_text()).body
        if getattr(node, "name", None) in wanted
    ]
    for function in body:
        function.returns = None
        for argument in function.args.args:
            argument.annotation = None
    names = {"math": math, "MAX_RATIO": 200}
    exec(compile(ast.Module(body, []), file, "exec"), names)
    return names["smart_resize"]


@pytest.mark.parametrize(("factor", "low", "high"), LIMITS)
def test_the_resize_is_that_of_the_installed_processors(factor, low, high):
    of_utils = installed("qwen_vl_utils", "vision_process.py")
    of_transformers = installed("transformers", "models/qwen2_vl/image_processing_qwen2_vl.py")
    chance = random.Random(factor + high)
    for _ in range(2000):
        height, width = sides(chance)
        ours = smart_resize(height, width, factor=factor, min_pixels=low, max_pixels=high)
        assert ours == of_utils(height, width, factor, low, high)
        assert ours == of_transformers(height, width, factor, low, high)


def test_sizes_by_hand():
    assert smart_resize(1080, 1920) == (1092, 1932)  # larger than the original
    assert smart_resize(10, 10) == (56, 56)
    with pytest.raises(Unscorable, match="too long"):
        smart_resize(10, 2001)


def test_inverting_the_resize_is_exact_in_floats():
    chance = random.Random(5)
    for _ in range(200):
        height, width = sides(chance)
        seen = extent(space_of("qwen2.5-vl"), Sample(meta={"size": (height, width)}))
        x = chance.uniform(0, width)
        assert x / width * seen.width / seen.width * width == pytest.approx(x, abs=1e-9)
        assert seen == smart_resize(height, width)


def written(space, sample, swapped=False):
    """BOX as this family writes it."""
    size = extent(space, sample)
    x1, y1, x2, y2 = (part * side for part, side in zip(BOX, (size.width, size.height) * 2, strict=True))
    return [y1, x1, y2, x2] if space.y_first or swapped else [x1, y1, x2, y2]


@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_family_s_box_is_the_same_box(engine, name):
    sent = {"input_size": [240, 320]} if space_of(name).unit == "sent" else {}
    sample = Sample(meta={"size": [480, 640], **sent})
    target = [part * 1000 for part in BOX]
    text = f"<answer>{written(space_of(name), sample)}</answer>"
    sample = Sample(response=text, target=[target], meta=sample.meta)
    (score,) = engine.score([sample], load("iou", space=name))["iou"]
    assert score.value == pytest.approx(1.0, abs=1e-9), score.note
    wrong = Sample(
        response=f"<answer>{[n * 0.5 for n in target]}</answer>", target=[target], meta=sample.meta
    )
    assert engine.score([wrong], load("iou", space=name))["iou"][0].value < 1


def test_y_comes_first_once_whatever_the_key(engine):
    """Gemini's key says so already; its space must not swap a second time."""
    y_first = '[{"box_2d": [200, 100, 900, 500]}]'
    sample = Sample(response=y_first, target=[[100, 200, 500, 900]])
    for space in ("gemini", "norm_1000"):
        assert engine.score([sample], load("iou", space=space))["iou"][0].value == pytest.approx(1.0)


def test_no_rule_says_the_size_of_a_picture_that_was_sent():
    with pytest.raises(Unscorable, match="input_size") as failure:
        extent(space_of("claude"), Sample(meta={"size": [480, 640]}))
    assert failure.value.status == "missing"


def test_the_size_the_model_saw_comes_first():
    resized = space_of("qwen2.5-vl")
    assert extent(resized, Sample(meta={"size": (1080, 1920)})) == Size(1092.0, 1932.0)
    assert extent(resized, Sample(meta={"size": (1080, 1920), "input_size": (560, 980)})) == (560, 980)
    assert extent(resized, Sample(image=Media(np.zeros((100, 200, 3), np.uint8)))) == (112, 196)
    small = space_of({"name": "qwen2.5-vl", "max_pixels": 1280 * 28 * 28})
    assert extent(small, Sample(meta={"size": (1080, 1920)})) == (728, 1316)
    assert extent(space_of("pixel"), Sample(meta={"size": (1080, 1920), "input_size": (5, 5)})) == (
        1080,
        1920,
    )


def test_the_grid_of_a_space():
    sample = Sample(meta={"size": (480, 640)})
    assert steps(space_of("norm_1"), sample) == (1000, 1000)
    assert steps(space_of({"name": "norm_1", "grid": 100}), sample) == (100, 100)
    assert steps(space_of("pixel"), sample) == (480, 640)


@pytest.mark.parametrize("size", [[0, 5], [5], "big", [1, float("nan")], [5, float("inf")], 7])
def test_a_size_that_is_none_is_an_error_of_the_data(size):
    with pytest.raises(Unscorable, match="height, width") as refusal:
        extent(space_of("pixel"), Sample(meta={"size": size}))
    assert refusal.value.status == "error"


def test_no_size_is_ever_guessed():
    for name in ("pixel", "qwen2.5-vl", "qwen3-vl-pixel"):
        with pytest.raises(Unscorable) as refusal:
            extent(space_of(name), Sample())
        assert refusal.value.status == "missing"


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("qwen2.5vl", "qwen2.5-vl"),
        ({"name": "inch"}, "no coordinate space"),
        ({"grid": 5}, "no coordinate space"),
        ({"name": "pixel", "patch": 14}, "has no patch"),
        ({"name": "norm_1", "grid": 0}, "positive"),
        ({"name": "qwen2.5-vl", "max_pixels": 5}, "positive"),
    ],
)
def test_a_space_that_is_none_is_refused(named, says):
    with pytest.raises(ValueError, match=says):
        space_of(named)
