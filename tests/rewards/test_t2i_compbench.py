"""T2I-CompBench's spatial score on scenes whose boxes are known, against a second writing of its rule."""

import itertools
import random
from dataclasses import replace

import pytest

from mmreward import Engine, Media, Sample, Unscorable, load
from mmreward.evals.published.blip import save_blip, save_tokenizer
from mmreward.mini.world import Scene, Thing, render
from mmreward.rewards.pictures import geneval
from mmreward.rewards.pictures.t2i_compbench import (
    RELATIONS,
    Placed,
    pair_of,
    place_of,
    placed_of,
)
from mmreward.verifiers.geneval import Detection

LEFT = render(Scene((Thing("red", "circle", 0.25, 0.5, 0.12), Thing("blue", "square", 0.75, 0.5, 0.12))), 64)
ABOVE = render(Scene((Thing("red", "circle", 0.5, 0.2, 0.12), Thing("blue", "square", 0.5, 0.8, 0.12))), 64)
SLANTED = render(Scene((Thing("red", "circle", 0.2, 0.2, 0.12), Thing("blue", "square", 0.8, 0.7, 0.12))), 64)
ALONE = render(Scene((Thing("red", "circle", 0.5, 0.2, 0.12),)), 64)


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def scores_of(engine, rows, **args):
    reward = load("t2i_compbench_spatial", detector="oracle", **args)
    samples = [Sample(id=str(n), prompt=prompt, image=Media(p)) for n, (prompt, p) in enumerate(rows)]
    return engine.score(samples, reward)["t2i_compbench_spatial"]


def upstream(locality, a, b, far):
    """The published rule on two boxes (x1, y1, x2, y2)."""
    dx = (b[0] + b[2]) / 2 - (a[0] + a[2]) / 2
    dy = (b[1] + b[3]) / 2 - (a[1] + a[3]) / 2
    inter = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    iou = inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)
    soft = 1 if iou < 0.1 else 0.1 / iou
    if locality in ("next to", "on side of", "near"):
        return 1 if abs(dx) < far or abs(dy) < far else far / max(abs(dx), abs(dy))
    if locality == "on the right of":
        return soft if dx < 0 and abs(dx) > abs(dy) else 0
    if locality == "on the left of":
        return soft if dx > 0 and abs(dx) > abs(dy) else 0
    if locality == "on the bottom of":
        return soft if dy < 0 and abs(dy) > abs(dx) else 0
    return soft if dy > 0 and abs(dy) > abs(dx) else 0


def box(rng):
    x, y = rng.uniform(0, 400), rng.uniform(0, 400)
    return (x, y, x + rng.uniform(5, 200), y + rng.uniform(5, 200))


def test_places_are_upstreams():
    rng = random.Random(0)
    seen = set()
    for _ in range(3000):
        one, other = box(rng), box(rng)
        for relation in RELATIONS:
            found = place_of(relation, Detection("a", one, 1.0), Detection("b", other, 1.0), 150)
            assert found == pytest.approx(upstream(relation, one, other, 150))
            seen.add((relation, found == 0, found == 1))
    assert len(seen) >= 2 * len(RELATIONS)


@pytest.mark.parametrize(
    ("prompt", "picture", "value"),
    [
        ("a circle on the left of a square", LEFT, 1.0),
        ("a square on the right of a circle", LEFT, 1.0),
        ("a circle on the right of a square", LEFT, 0.5),
        ("A circle on the top of a square.", ABOVE, 1.0),
        ("a circle on top of a square", ABOVE, 1.0),
        ("the square is on the bottom of the circle", ABOVE, 1.0),
        ("a circle near a square", ABOVE, 1.0),
        ("a circle next to a square", ALONE, 0.0),
        ("a square near a triangle", ALONE, 0.0),
    ],
)
def test_scenes_of_the_miniature(engine, prompt, picture, value):
    """Its eyes are wholly sure, which is what lets a wrong place keep a half."""
    (score,) = scores_of(engine, [(prompt, picture)])
    assert score.value == value
    assert score.value == (score.parts["uncut"] if score.parts["uncut"] >= 0.5 else 0)


def test_what_comes_to_less_than_a_half_is_nothing(engine, monkeypatch):
    async def unsure(media, least):
        boxes = [("circle", (0, 0, 10, 10), 0.9), ("square", (30, 0, 40, 10), 0.8)]
        found = [Detection(name, where, sure, "", n) for n, (name, where, sure) in enumerate(boxes)]
        return geneval.View(("circle", "square"), found, None)

    monkeypatch.setattr(geneval, "miniature", unsure)
    right, wrong = scores_of(
        engine, [(f"a circle on the {side} of a square", LEFT) for side in ("left", "right")]
    )
    assert right.value == pytest.approx(0.9 / 4 + 0.8 / 4 + 0.5)
    assert wrong.value == 0 and wrong.parts["uncut"] == pytest.approx(0.425)


def test_two_of_one_class_are_two_objects():
    found = [Detection("dog", (n, 0, n + 5, 5), 0.9 - n / 10) for n in range(3)]
    one, other = pair_of(Placed("dog", "near", "dog"), found)
    assert (one, other) == (found[0], found[1])
    assert pair_of(Placed("dog", "near", "dog"), found[:1]) == (found[0], None)


def test_nearness_is_in_pixels(engine):
    near, far = (scores_of(engine, [("a circle near a square", SLANTED)], distance=d)[0] for d in (150, 8))
    assert near.parts["place"] == 1 and far.parts["place"] == pytest.approx(8 / (0.6 * 64), rel=0.05)


def test_values_do_not_depend_on_the_batch(engine):
    rows = [
        (f"a circle {r} a square", p)
        for r, p in itertools.product(("near", "on the left of"), (LEFT, ABOVE, ALONE))
    ]
    together = [score.value for score in scores_of(engine, rows)]
    assert [scores_of(engine, [row])[0].value for row in rows] == together


@pytest.mark.parametrize(
    ("prompt", "meta", "found"),
    [
        ("a girl on the left of a dog", {}, ("person", "on the left of", "dog")),
        (
            "x",
            {"spatial": {"objects": ["traffic light", "Car"], "relation": "Near"}},
            ("traffic light", "near", "car"),
        ),
        (
            "x",
            {"spatial": '{"objects": ["a", "b"], "relation": "on side of"}'},
            ("a", "on side of", "b"),
        ),
    ],
)
def test_what_a_row_asks_for(prompt, meta, found):
    assert placed_of(Sample(prompt=prompt, meta=meta)) == found


@pytest.mark.parametrize(
    ("prompt", "meta", "said"),
    [
        ("a red dog on the left of a cat", {}, "are not known"),
        ("two dogs", {}, "are not known"),
        ("x", {"spatial": "{"}, "spatial is not JSON"),
        ("x", {"spatial": [1]}, "without a list of objects"),
        ("x", {"spatial": {"objects": ["a"], "relation": "near"}}, "1 objects, not two"),
        ("x", {"spatial": {"objects": ["a", "b"], "relation": "behind"}}, "the relation 'behind'"),
    ],
)
def test_what_asks_for_no_place_says_why(prompt, meta, said):
    with pytest.raises(Unscorable, match=said):
        placed_of(Sample(prompt=prompt, meta=meta))


def test_a_class_that_the_detector_does_not_know(engine):
    (score,) = scores_of(engine, [("a circel near a square", LEFT)])
    assert not score.ok and "knows no 'circel'" in score.note and "circle" in score.note


@pytest.mark.parametrize("args", [{"distance": 0}, {"threshold": 1.0}])
def test_numbers_out_of_range_are_refused(args):
    with pytest.raises(ValueError, match=next(iter(args))):
        load("t2i_compbench_spatial", detector="oracle", **args)


# --- 3-in-1 -------------------------------------------------------------------------------------------------

META = {"phrases": ["a red circle", "a square"], "action": "a circle beside a square"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blip")
    return {"file": save_blip(folder)[0], "tokenizer": save_tokenizer(folder)}


@pytest.mark.parametrize("kind", ["spatial", "action", "both"])
def test_three_in_one_is_the_mean_of_what_a_prompt_has(engine, files, kind):
    prompt = "a circle on the left of a square"
    sample = Sample(prompt=prompt, image=Media(LEFT), meta=META | {"kind": kind})
    reward = load("t2i_compbench_3in1", **files, detector="oracle", encoder="mini-clip")
    (score,) = engine.score([sample], reward)["t2i_compbench_3in1"]
    alone = {
        "attribute": load("blip_vqa", **files),
        "spatial": load("t2i_compbench_spatial", detector="oracle"),
        "action": load("clipscore", weights="mini-clip", resize="pil"),
    }
    named = {"spatial": ("attribute", "spatial"), "action": ("attribute", "action"), "both": tuple(alone)}
    values = {}
    for name in named[kind]:
        row = replace(sample, prompt=META["action"]) if name == "action" else sample
        values[name] = engine.score([row], {name: alone[name]})[name][0].value
    assert score.parts == pytest.approx(values)
    assert score.value == pytest.approx(sum(values.values()) / len(values))


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({}, "has no `kind`"),
        ({"kind": "three"}, "kind is 'three'"),
        ({"kind": "action", "phrases": ["a"]}, "has no `action`"),
        ({"kind": "spatial", "phrases": []}, "no phrases to ask about"),
    ],
)
def test_a_row_that_lacks_a_part_says_which(engine, files, meta, said):
    reward = load("t2i_compbench_3in1", **files, detector="oracle", encoder="mini-clip")
    sample = Sample(prompt="a circle near a square", image=Media(LEFT), meta=meta)
    (score,) = engine.score([sample], reward)["t2i_compbench_3in1"]
    assert not score.ok and said in score.note
