"""GenEval's rules against a second writing of each published one, and on scenes drawn by the miniature."""

import dataclasses
import json
import random

import numpy as np
import pytest

from mmreward import Unscorable
from mmreward.mini.oracle import read
from mmreward.mini.world import Scene, Thing, render, sample_scene
from mmreward.verifiers.geneval import (
    COLOURS,
    OFFICIAL,
    RELATIONS,
    TAGS,
    Detection,
    check_classes,
    coloured,
    judge,
    kept,
    overall,
    painted,
    relations,
    request_of,
)

# --- a second writing ---------------------------------------------------------------------------------


def second_relation(a, b):
    boxes = np.array([a, b]).reshape(2, 2, 2)
    middles = boxes.mean(1)
    sides = (boxes[:, 1] - boxes[:, 0]).sum(0)
    off = middles[0] - middles[1]
    left = np.clip(np.abs(off) - 0.1 * sides, 0, None) * np.sign(off)
    if (np.abs(left) < 1e-3).all():
        return set()
    x, y = left / np.sqrt((off**2).sum())
    pairs = zip(RELATIONS, (-x, x, -y, y), strict=True)
    return {name for name, along in pairs if along > 0.5}


def second_placed(objects, others, relation):
    return all(relation in second_relation(one.box, other.box) for one in objects for other in others)


def second_official(meta, objects):
    groups = []
    for clause in meta["include"]:
        group = objects.get(clause["class"], [])[: clause["count"]]
        right = len(group) == clause["count"]
        if right and "color" in clause:
            right = all(one.colour == clause["color"] for one in group)
        if right and "position" in clause:
            relation, target = clause["position"]
            right = groups[target] is not None and second_placed(group, groups[target], relation)
        groups.append(group if right else None)
    capped = [len(objects.get(one["class"], [])) < one["count"] for one in meta.get("exclude", [])]
    return all(group is not None for group in groups) and all(capped)


def second_flow_grpo(meta, objects):
    rewards, groups = [], []
    for clause in meta["include"]:
        group, count = objects.get(clause["class"], []), clause["count"]
        rewards.append(1 - abs(count - len(group)) / count)
        right = len(group) == count
        if not right:
            rewards += [0.0] * ("color" in clause or "position" in clause)
        elif "color" in clause:
            number = sum(one.colour == clause["color"] for one in group)
            rewards.append(1 - abs(count - number) / count)
            right = number == count
        if right and "position" in clause:
            relation, target = clause["position"]
            if groups[target] is None:
                rewards.append(0.0)
                right = False
            else:
                right = second_placed(group, groups[target], relation)
                rewards += [1.0] if right else [0.0, 1.0]
        groups.append(group if right else None)
    return all(group is not None for group in groups), sum(rewards) / len(rewards)


def scene_of(rng):
    found = []
    for place in range(rng.randint(0, 6)):
        x, y, width, height = (rng.uniform(*ends) for ends in ((0, 100), (0, 100), (1, 60), (1, 60)))
        score = rng.choice([0.2, 0.31, 0.5, 0.89, 0.91]) - 0.005 * rng.random()
        box = (x, y, x + width, y + height)
        found.append(Detection(rng.choice("abc"), box, score, rng.choice(["red", "blue"]), place))
    meta = {"tag": rng.choice(TAGS), "include": []}
    for number in range(rng.randint(1, 3)):
        clause = {"class": rng.choice("abc"), "count": rng.randint(1, 3)}
        if rng.random() < 0.4:
            clause["color"] = rng.choice(["red", "blue"])
        if number and rng.random() < 0.5:
            clause["position"] = [rng.choice(RELATIONS), rng.randrange(number)]
        meta["include"].append(clause)
    if rng.random() < 0.4:
        meta["exclude"] = [{"class": rng.choice("abc"), "count": rng.randint(1, 4)}]
    return found, meta


def second_kept(found, tag):
    least = 0.9 if tag == "counting" else 0.3
    chosen = sorted((one for one in found if one.score > least), key=lambda one: one.score, reverse=True)
    return {name: [one for one in chosen if one.name == name][:16] for name in {one.name for one in chosen}}


def test_every_published_value_is_that_of_a_second_writing():
    rng = random.Random(0)
    met = set()
    for _ in range(4000):
        found, meta = scene_of(rng)
        request = request_of(meta)
        objects = kept(found, request.tag)
        assert objects == second_kept(found, meta["tag"])
        verdict = judge(request, objects)
        assert verdict.official == second_official(meta, objects)
        strict, graded = second_flow_grpo(meta, objects)
        assert verdict.strict == strict and verdict.flow_grpo == pytest.approx(graded, abs=1e-12)
        assert 0 <= verdict.soft <= 1 and all(0 <= value <= 1 for value in verdict.parts.values())
        assert bool(verdict.reasons) == (not verdict.official)
        met.add((verdict.official, verdict.strict, verdict.flow_grpo < 0, "position" in verdict.parts))
    assert len(met) >= 8  # right and wrong by both, with and without places, and below 0


def test_relations_turn_round_with_their_objects():
    rng = random.Random(1)
    opposite = dict(zip(RELATIONS, ("right of", "left of", "below", "above"), strict=True))
    for _ in range(500):
        a, b = (tuple(sorted(rng.uniform(0, 50) for _ in range(4))) for _ in range(2))
        assert {opposite[name] for name in relations(a, b)} == relations(b, a)


# --- the thresholds -----------------------------------------------------------------------------------


def box(x, y, side=10.0):
    return (x, y, x + side, y + side)


def several(number, score=1.0, name="dog", **more):
    return [Detection(name, box(20.0 * place, 0), score, place=place, **more) for place in range(number)]


def verdict_of(meta, found):
    request = request_of(meta)
    return judge(request, kept(found, request.tag))


@pytest.mark.parametrize(("tag", "least"), [("single_object", 0.3), ("counting", 0.9)])
def test_an_object_counts_above_the_threshold_and_not_at_it(tag, least):
    meta = {"tag": tag, "include": [{"class": "dog", "count": 1}]}
    assert not verdict_of(meta, several(1, least)).official
    assert verdict_of(meta, several(1, least + 1e-6)).official


def test_sixteen_of_a_class_are_looked_at_the_surest_first():
    found = [dataclasses.replace(one, score=0.4 + place / 100) for place, one in enumerate(several(20))]
    (dogs,) = kept(found, "single_object").values()
    assert [one.place for one in dogs] == list(range(19, 3, -1))
    meta = {"tag": "counting", "include": [{"class": "dog", "count": 17}]}
    assert not verdict_of(meta, several(17)).official  # more than sixteen can never be met


def test_overlapping_objects_are_all_kept_unless_told_otherwise():
    found = [Detection("dog", box(0, 0), 0.8, place=0), Detection("dog", box(1, 0), 0.9, place=1)]
    assert len(kept(found, "colors")["dog"]) == 2
    assert [one.place for one in kept(found, "colors", OFFICIAL._replace(overlap=0.5))["dog"]] == [1]
    assert len(kept(found, "colors", OFFICIAL._replace(overlap=0.9))["dog"]) == 2  # 110 of 132 pixels


@pytest.mark.parametrize(
    ("a", "expected"),
    [
        (box(2.0, 0), set()),  # as far as a tenth of both sides: nothing is left
        (box(2.1, 0), set()),  # 0.1 of 2.1 are left
        (box(4.0, 0), set()),  # 2 of 4: half of it, and not more
        (box(4.1, 0), {"right of"}),
        (box(-4.1, 0), {"left of"}),
        (box(0, -30), {"above"}),
        (box(0, 30), {"below"}),
        (box(30, 30), {"right of", "below"}),
        (box(30, 15), {"right of"}),  # 13 of 33.5
    ],
)
def test_a_place_needs_more_than_half_of_the_distance_on_its_axis(a, expected):
    assert relations(a, box(0, 0)) == expected


def test_more_than_asked_is_right_by_the_official_rule_unless_it_is_capped():
    include = [{"class": "dog", "count": 2}]
    free = verdict_of({"tag": "two_object", "include": include}, several(5))
    assert (free.official, free.strict, free.soft) == (True, False, 0.0)
    assert free.flow_grpo == pytest.approx(-0.5)
    capped = {"tag": "counting", "include": include, "exclude": [{"class": "dog", "count": 3}]}
    assert verdict_of(capped, several(2)).official and not verdict_of(capped, several(3)).official
    assert verdict_of(capped, several(3)).soft == 0.5  # its cap is not counted a second time


def test_what_soft_repairs():
    dogs = {"class": "dog", "count": 1}
    assert verdict_of({"tag": "single_object", "include": [dogs]}, several(4)).flow_grpo == -2
    assert verdict_of({"tag": "single_object", "include": [dogs]}, several(4)).soft == 0
    placed = {"tag": "position", "include": [dogs, {"class": "cat", "count": 1, "position": ["above", 0]}]}
    wrong = [*several(1), Detection("cat", box(0, 50), place=9)]
    assert verdict_of(placed, wrong).flow_grpo == 0.75
    assert verdict_of(placed, wrong).soft == pytest.approx(2 / 3)
    without = {"tag": "single_object", "include": [dogs], "exclude": [{"class": "cat", "count": 1}]}
    assert verdict_of(without, wrong).flow_grpo == 1 and verdict_of(without, wrong).soft == 0.5


def test_colours_are_asked_of_the_surest_objects_where_there_are_enough():
    meta = {"tag": "color_attr", "include": [{"class": "dog", "count": 2, "color": "red"}]}
    request = request_of(meta)
    objects = kept([dataclasses.replace(one, score=0.5 + one.place / 10) for one in several(3)], request.tag)
    assert [one.place for one in coloured(request, objects)] == [2, 1]
    assert coloured(request, kept(several(1), request.tag)) == []
    seen = painted(objects, {2: "red", 1: "red"})
    assert (
        judge(request, seen).official and not judge(request, painted(objects, {2: "red", 1: "pink"})).official
    )


# --- reading requests ---------------------------------------------------------------------------------

LINE = (
    '{"tag": "position", "include": [{"class": "bench", "count": 1}, {"class": "cow", "count": 1, '
    '"position": ["left of", 0]}], "prompt": "a photo of a cow left of a bench"}'
)


def test_a_line_of_the_published_file_is_read_as_it_is():
    request = request_of(json.loads(LINE))
    assert request.tag == "position" and request.include[1].position == ("left of", 0)
    assert request_of({"metadata": LINE}) == request  # as GenEval's results have it
    table = json.loads(LINE)
    for clause in table["include"]:  # as a table has it, where every row has every column
        clause.update({"color": None, "position": clause.get("position")})
    assert request_of({**table, "exclude": None, "include": json.dumps(table["include"])}) == request


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tag": None}, "has no tag"),
        ({"tag": "couting"}, "did you mean 'counting'"),
        ({"include": None}, "asks for nothing"),
        ({"include": []}, "asks for nothing"),
        ({"include": "[{"}, "include is not JSON"),
        ({"include": 3}, "include is int"),
        ({"include": ["dog"]}, "include.0. is 'dog'"),
        ({"include": [{"class": "dog"}] * 40}, "40 clauses; the limit is 32"),
        ({"include": [{"count": 1}]}, "include.0. has no class"),
        ({"include": [{"class": "dog", "count": 0}]}, "count is 0"),
        ({"include": [{"class": "dog", "count": 1.5}]}, "count is 1.5"),
        ({"include": [{"class": "dog", "count": True}]}, "count is True"),
        ({"include": [{"class": "dog", "count": float("nan")}]}, "count is nan"),
        ({"include": [{"class": "dog", "count": 1, "colour": "red"}]}, "did you mean 'color'"),
        ({"include": [{"class": "dog", "count": 1, "color": "purpel"}]}, "did you mean 'purple'"),
        ({"include": [{"class": "dog", "count": 1, "position": "above"}]}, "not .relation, number"),
        ({"include": [{"class": "dog", "count": 1, "position": ["abve", 0]}]}, "did you mean 'above'"),
        ({"include": [{"class": "dog", "count": 1, "position": ["above", 0]}]}, "does not come before"),
        ({"exclude": [{"class": "dog"}]}, "exclude.0..count is None"),
        ({"include": None, "metadata": "[]"}, "metadata is list"),
    ],
)
def test_what_is_no_request_says_why(change, said):
    meta = {"tag": "counting", "include": [{"class": "dog", "count": 1}], **change}
    with pytest.raises(Unscorable, match=said):
        request_of(meta)


def test_an_unknown_class_names_the_nearest():
    request = request_of({"tag": "counting", "include": [{"class": "mouse", "count": 1}]})
    with pytest.raises(Unscorable, match="knows no 'mouse': did you mean 'computer mouse'"):
        check_classes(request, ["person", "horse", "computer mouse"])
    with pytest.raises(Unscorable, match="did you mean 'horse'"):
        check_classes(request_of({"tag": "colors", "include": [{"class": "hose", "count": 1}]}), ["horse"])


def test_the_overall_score_is_the_mean_over_tags():
    scores = [("colors", 1.0), ("colors", 0.0), ("colors", 0.0), ("colors", 0.0), ("position", 1.0)]
    assert overall(scores) == 0.625
    with pytest.raises(ValueError, match="no scores"):
        overall([])


# --- scenes of the miniature, its scene graph in place of the detector ------------------------------------


def detections(things, size):
    return [
        Detection(thing.shape, tuple(end * size for end in thing.box), 1.0, thing.colour, place)
        for place, thing in enumerate(things)
    ]


def row_of(things):
    """Things beside one another, far apart."""
    return Scene(
        tuple(
            Thing(colour, shape, (place + 0.5) / len(things), 0.5, 0.4 / len(things))
            for place, (colour, shape) in enumerate(things)
        )
    )


@pytest.mark.parametrize("asked", [1, 2, 3, 4])
@pytest.mark.parametrize("shown", [1, 2, 3, 4])
def test_counts_of_drawn_scenes(asked, shown):
    scene = row_of([("red", "circle")] * shown + [("red", "square")])
    found = detections(read(render(scene, 128)), 128)
    include, exclude = ([{"class": "circle", "count": number}] for number in (asked, asked + 1))
    verdict = verdict_of({"tag": "counting", "include": include, "exclude": exclude}, found)
    assert verdict.official == verdict.strict == (asked == shown)
    assert verdict.soft == max(0, 1 - abs(asked - shown) / asked)


def test_colours_of_drawn_scenes():
    names = [name for name in ("red", "green", "blue", "yellow", "purple") if name in COLOURS]
    for first in names:
        for second in names:
            scene = row_of([(first, "circle"), (second, "square")])
            found = detections(read(render(scene, 64)), 64)
            include = [
                {"class": "circle", "count": 1, "color": "red"},
                {"class": "square", "count": 1, "color": "blue"},
            ]
            verdict = verdict_of({"tag": "color_attr", "include": include}, found)
            assert verdict.official == ((first, second) == ("red", "blue"))
            assert verdict.soft == (2 + (first == "red") + (second == "blue")) / 4


def test_places_of_drawn_scenes():
    rng = np.random.default_rng(0)
    judged = 0
    for _ in range(60):
        scene = sample_scene(rng, [("red", "circle"), ("blue", "square")])
        found = detections(read(render(scene, 128)), 128)
        drawn = {thing.shape: np.array(thing.box) * 128 for thing in scene.things}
        there, *near = (
            second_relation(drawn["square"] + np.array(move), drawn["circle"])
            for move in ((0, 0, 0, 0), (2, 0, 2, 0), (-2, 0, -2, 0), (0, 2, 0, 2), (0, -2, 0, -2))
        )
        if any(one != there for one in near):  # the oracle's boxes are tight to half a pixel
            continue
        judged += 1
        for relation in RELATIONS:
            include = [
                {"class": "circle", "count": 1},
                {"class": "square", "count": 1, "position": [relation, 0]},
            ]
            verdict = verdict_of({"tag": "position", "include": include}, found)
            assert verdict.official == (relation in there)
            assert verdict.soft == (1.0 if relation in there else pytest.approx(2 / 3))
    assert judged > 30
