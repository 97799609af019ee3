"""Safety by NudeNet's shipped detector, run for real on neutral pictures only: NudeNet's own numbers."""

from pathlib import Path

import numpy as np
import pytest

from mmreward import Engine, Media, Sample, load, models
from mmreward.mini.world import render, sample_scene
from mmreward.models import sharing
from mmreward.models.bodies import CLASSES, Nudity, input_of
from mmreward.rewards.pictures.nsfw import EXPOSED

CASES = Path(__file__).parents[1] / "cases" / "media"
NAMES = ("img_x.JPG", "img_rgba.png", "img_exif6.jpg", "img_wide.png", "img_tall.png", "img_grey.png")
DEMO = Path(models.__file__).parents[2] / "assets" / "demo.png"


def pictures():
    rng = np.random.default_rng(4)
    scenes = [Media(render(sample_scene(rng), size)) for size in (64, 200, 411)]
    noise = Media(rng.integers(0, 256, (123, 257, 3), dtype=np.uint8))
    return [Media(CASES / name) for name in NAMES] + [Media(DEMO), *scenes, noise]


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def scores_of(engine, medias, **args):
    engine.cache.clear()
    samples = [Sample(id=str(n), image=media) for n, media in enumerate(medias)]
    return engine.score(samples, load("nsfw", **args))["nsfw"]


def test_neutral_pictures_are_safe(engine):
    found = scores_of(engine, pictures())
    for score in found:
        assert score.ok and score.value == 1 - score.parts["exposed"]
        assert set(score.parts) == {"exposed", *(name.lower() for name in CLASSES)}
        assert score.parts["exposed"] == max(score.parts[name.lower()] for name in EXPOSED)
    print("least safe of the neutral pictures:", min(score.value for score in found))
    assert min(score.value for score in found) > 0.9


def test_alone_and_in_a_batch_in_any_order(engine):
    medias = pictures()
    whole = scores_of(engine, medias)
    assert scores_of(engine, medias[::-1])[::-1] == whole
    assert [scores_of(engine, [media])[0] for media in medias] == whole


def test_the_numbers_are_nudenets():
    """Same input, and of every class the largest box: where NudeNet detects one, that is its score.

    No picture here has a body, so the network's answer is made up: 2,100 boxes of low and high probability.
    """
    import nudenet.nudenet as published
    from nudenet.nudenet import _postprocess, _read_image

    assert vars(published)["__labels"] == list(CLASSES)
    rng = np.random.default_rng(5)
    for shape in ((37, 80, 3), (320, 320, 3), (500, 123, 3)):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        theirs = _read_image(pixels[..., ::-1].copy())[0]
        assert np.array_equal(input_of(pixels), theirs)
    boxes = np.concatenate([rng.uniform(20, 300, (4, 2100)), rng.uniform(0, 0.01, (18, 2100))])
    high = {"FACE_FEMALE": 0.9, "BUTTOCKS_EXPOSED": 0.6, "FEET_EXPOSED": 0.3}
    for at, (name, probability) in enumerate(high.items()):
        boxes[4 + CLASSES.index(name), 7 * at] = probability
        boxes[:4, 7 * at] = (60 + 90 * at, 60, 40, 40)

    class Session:
        def get_inputs(self):
            return [type("Input", (), {"name": "images"})]

        def run(self, _, __):
            return [boxes[None].astype(np.float32)]

    most = Nudity().look(Session(), np.zeros((320, 320, 3), np.uint8))
    theirs = {
        found["class"]: found["score"]
        for found in _postprocess([boxes[None].astype(np.float32)], 0, 0, 1, 1, 320, 320, 320, 320)
    }
    assert theirs == {name: most[name] for name in high}
    assert all(most[name] < 0.011 for name in CLASSES if name not in high)


def test_the_classes_that_count_can_be_chosen(engine, monkeypatch):
    made_up = {**dict.fromkeys(CLASSES, 0.01), "BELLY_EXPOSED": 0.7, "BUTTOCKS_EXPOSED": 0.4}
    monkeypatch.setattr(Nudity, "look", lambda self, session, pixels: made_up)
    media = Media(DEMO)
    assert scores_of(engine, [media])[0].value == pytest.approx(0.6)
    assert scores_of(engine, [media], classes=("BELLY_EXPOSED",))[0].value == pytest.approx(0.3)
    with pytest.raises(ValueError, match="did you mean 'BELLY_EXPOSED'"):
        load("nsfw", classes=("BELY_EXPOSED",))
    with pytest.raises(ValueError, match="none is named"):
        load("nsfw", classes=())


def test_a_picture_too_thin_for_a_square_says_so(engine):
    (score,) = scores_of(engine, [Media(np.zeros((1, 20_000, 3), np.uint8))])
    assert not score.ok and "padded to a square" in score.note and "limits.pixels" in score.note


def test_a_missing_package_is_one_line_before_the_first_row(monkeypatch):
    monkeypatch.setattr(sharing, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'needs nudenet: pip install "mmreward\[nsfw\]"'):
        models.nudity.__wrapped__()


def test_the_licence_is_said():
    info = load("nsfw").info
    assert "AGPL-3.0" in info.licence
