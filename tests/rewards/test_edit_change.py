"""Edits of a picture: inside a region and outside it are told apart, what cannot be compared is refused."""

import numpy as np
import pytest
from PIL import Image

from mmreward import Engine, Media, Sample, load

DRAW = np.random.default_rng(0)
SOURCE = np.asarray(
    Image.fromarray(DRAW.integers(40, 200, (6, 8, 3), dtype=np.uint8)).resize((80, 60), Image.BICUBIC)
)
REGION = [0.25, 0.5, 0.75, 1.0]
ROWS, COLUMNS = slice(30, 60), slice(20, 60)


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def scored(engine, edited, region=REGION, source=SOURCE, **args):
    inputs = () if source is None else (Media(source),)
    meta = {} if region is None else {"region": region}
    sample = Sample(image=Media(edited), inputs=inputs, meta=meta)
    return engine.score([sample], load("edit_change", **args))["edit_change"][0]


def edited(inside=0, outside=0):
    """The source, brighter by so many levels in the region and around it."""
    whole = SOURCE.astype(int) + outside
    whole[ROWS, COLUMNS] = SOURCE[ROWS, COLUMNS].astype(int) + inside
    return whole.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("inside", "outside", "changed", "kept"),
    [(51, 0, 1, 1), (0, 0, 0, 1), (51, 51, 1, 0), (12.75, 0, 0.5, 1), (51, 5.1, 1, 0.8)],
)
def test_regions_are_to_change_and_the_rest_to_stay(engine, inside, outside, changed, kept):
    score = scored(engine, edited(round(inside), round(outside)), margin=0.0)
    assert [score.parts[name] for name in ("changed", "kept")] == pytest.approx([changed, kept], abs=0.02)
    assert score.value == pytest.approx(2 * changed * kept / (changed + kept), abs=0.02)


def test_a_band_around_a_region_counts_on_neither_side(engine):
    soft = edited(51)
    soft[28:30, 18:62] += 20
    assert scored(engine, soft, margin=0.05).parts["outside"] == 0
    assert scored(engine, soft, margin=0.0).parts["outside"] > 0


def test_several_boxes_are_one_region_and_json_is_read(engine):
    halves = "[[0.25, 0.5, 0.5, 1.0], [0.5, 0.5, 0.75, 1.0]]"
    assert scored(engine, edited(51), halves).parts == scored(engine, edited(51)).parts


def test_an_edit_of_another_size_is_laid_over(engine):
    larger = np.asarray(Image.fromarray(edited(51)).resize((160, 120), Image.BICUBIC))
    score = scored(engine, larger)
    assert score.parts["changed"] == 1 and score.parts["kept"] > 0.9


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        ({"region": None}, "missing", "meta has no `region`"),
        ({"region": "["}, "missing", "meta.region is not JSON"),
        ({"region": [10, 10, 50, 50]}, "missing", "in fractions of the sides"),
        ({"region": []}, "missing", "not boxes"),
        ({"region": [0.5, 0.5, 0.2, 0.9]}, "missing", "not boxes"),
        ({"region": [0, 0, 1, 1]}, "broken", "no pixel outside"),
        ({"region": [0.5, 0.5, 0.5001, 0.5001]}, "broken", "no pixel inside"),
        ({"source": None}, "missing", "no inputs"),
        ({"source": SOURCE[:, :60]}, "broken", "80 x 60 pixels has another shape than its source of 60 x 60"),
    ],
)
def test_what_cannot_be_compared_says_why(engine, args, status, said):
    score = scored(engine, edited(51), **args)
    assert not score.ok and said in score.note
    assert status != "missing" or score.status == "missing"


@pytest.mark.parametrize("args", [{"enough": 0}, {"spoiled": 1.5}, {"margin": 0.5}, {"margin": -0.1}])
def test_numbers_out_of_range_are_refused(args):
    with pytest.raises(ValueError, match=next(iter(args))):
        load("edit_change", **args)
