"""The reward `geneval` with the miniature's oracle in place of detector and colours."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from mmreward import Engine, Media, Sample, load
from mmreward.data.rows import read_rows
from mmreward.mini.world import Scene, Thing, render


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


SCENE = Scene(
    (
        Thing("red", "circle", 0.25, 0.3, 0.15),
        Thing("red", "circle", 0.25, 0.75, 0.15),
        Thing("blue", "square", 0.75, 0.5, 0.15),
    )
)
ROWS = [
    {"tag": "single_object", "include": [{"class": "circle", "count": 1}]},
    {"tag": "two_object", "include": [{"class": "circle", "count": 1}, {"class": "triangle", "count": 1}]},
    {
        "tag": "counting",
        "include": [{"class": "circle", "count": 2}],
        "exclude": [{"class": "circle", "count": 3}],
    },
    {"tag": "colors", "include": [{"class": "square", "count": 1, "color": "yellow"}]},
    {
        "tag": "position",
        "include": [
            {"class": "circle", "count": 2},
            {"class": "square", "count": 1, "position": ["right of", 0]},
        ],
    },
    {
        "tag": "color_attr",
        "include": [
            {"class": "circle", "count": 1, "color": "red"},
            {"class": "square", "count": 1, "color": "blue"},
        ],
    },
]
"""The six tags as GenEval's file has them."""
VALUES = {
    "official": [1, 0, 1, 0, 1, 1],
    "strict": [0, 0, 1, 0, 1, 0],
    "soft": [0, 0, 1, 0.5, 1, 0.5],
    "flow_grpo": [0, 0, 1, 0.5, 1, 0.5],
}


@pytest.mark.parametrize("protocol", list(VALUES))
def test_the_published_file_is_scored_as_it_is(engine, tmp_path, protocol):
    render(SCENE, 96).save(tmp_path / "scene.png")
    lines = [json.dumps({**row, "prompt": "shapes", "image": "scene.png"}) for row in ROWS]
    (tmp_path / "evaluation_metadata.jsonl").write_text("\n".join(lines))
    samples = [row.sample for row in read_rows(tmp_path / "evaluation_metadata.jsonl")]
    scores = engine.score(samples, load("geneval", detector="oracle", protocol=protocol))["geneval"]
    assert [score.value for score in scores] == VALUES[protocol], [score.note for score in scores]
    assert [score.parts[protocol] for score in scores] == VALUES[protocol]
    assert "sees 2 circle, 1 square; 0 triangle, not 1" in scores[1].note


def test_copies_lower_flow_grpos_reward_without_end_and_soft_to_nothing(engine):
    places = [(x, y) for x in (0.12, 0.37, 0.63, 0.88) for y in (0.2, 0.5, 0.8)]
    many = render(Scene(tuple(Thing("red", "circle", x, y, 0.1) for x, y in places)), 128)
    sample = Sample(image=Media(many), meta=ROWS[0])
    (score,) = engine.score([sample], load("geneval", detector="oracle", protocol="flow_grpo"))["geneval"]
    assert score.value == -10 and score.parts["soft"] == 0 and score.parts["official"] == 1


def test_a_rotation_in_the_file_and_swapped_channels(engine):
    reward = load("geneval", detector="oracle")
    upright = render(SCENE, 96)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter to the right
    file = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(file, "PNG", exif=exif)
    swapped = np.asarray(upright)[..., ::-1]
    rows = [Sample(image=Media(one), meta=ROWS[4]) for one in (upright, file.getvalue())]
    rows += [Sample(image=Media(one), meta=ROWS[5]) for one in (upright, swapped)]
    assert [score.value for score in engine.score(rows, reward)["geneval"]] == [1, 1, 1, 0]


def test_a_row_without_metadata_or_with_an_unknown_class_fails_alone(engine):
    picture = Media(render(SCENE, 64))
    metas = [{}, {"tag": "colors", "include": [{"class": "circl", "count": 1}]}, ROWS[0]]
    samples = [Sample(image=picture, meta=meta) for meta in metas]
    none, unknown, fine = engine.score(samples, load("geneval", detector="oracle"))["geneval"]
    assert none.status == "missing" and "tag" in none.note
    assert unknown.status == "error" and "did you mean 'circle'" in unknown.note
    assert fine.value == 1


def test_arguments_are_checked_and_missing_weights_are_said_before_any_row(monkeypatch, tmp_path):
    import huggingface_hub.constants as hub

    with pytest.raises(ValueError, match="should be 'official', 'strict', 'soft' or 'flow_grpo'"):
        load("geneval", detector="oracle", protocol="hard")
    with pytest.raises(ValueError, match="counting is a score"):
        load("geneval", detector="oracle", counting=1.0)
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="`hf download facebook/mask2former-swin-small-coco-instance`"):
        load("geneval")
