"""The grammar of simple captions: what it reads, what it refuses, and shapes world's captions as its test."""

import numpy as np
import pytest

from mmreward.data.captions import Entity, Relation, SceneGraph, parse_scene, plural
from mmreward.errors import Unscorable
from mmreward.mini.world import describe, sample_scene


def test_a_thousand_captions_of_shapes_world_are_their_scene_graphs():
    rng = np.random.default_rng(0)
    related = 0
    for _ in range(1000):
        scene = sample_scene(rng)
        caption = describe(scene, rng, relations=0.7)
        graph = parse_scene(str(caption))
        found = {((*one.attributes, one.noun), one.number) for one in graph.entities}
        assert found == {(kind, number) for kind, number in scene.kinds.items()}
        words = "" if graph.relation is None else graph.relation.words
        assert words == caption.relation
        if caption.relation:
            first, second = (graph.entities[place] for place in (graph.relation.first, graph.relation.second))
            assert [(*one.attributes, one.noun) for one in (first, second)] == [k for k, _ in caption.kinds]
            related += 1
    assert related > 50


@pytest.mark.parametrize(
    ("caption", "entities", "relation"),
    [
        ("a photo of a bench", [Entity("bench")], None),
        ("a photo of four traffic lights", [Entity("traffic light", (), 4, True)], None),
        (
            "A photo of a red apple and an orange orange.",
            [Entity("apple", ("red",)), Entity("orange", ("orange",))],
            None,
        ),
        (
            "two dogs, 3 small wooden boxes, and a person",
            [Entity("dog", (), 2, True), Entity("box", ("small", "wooden"), 3, True), Entity("person")],
            None,
        ),
        (
            "a dog is to the left of a light blue teddy bear",
            [Entity("dog"), Entity("teddy bear", ("light blue",))],
            "left of",
        ),
        (
            "there are a pair of knives on top of a table",
            [Entity("knife", (), 2, True), Entity("table")],
            "on top of",
        ),
        ("a cup beside an old book", [Entity("cup"), Entity("book", ("old",))], "next to"),
        ("a dog and a dog", [Entity("dog", (), 2, True)], None),
        ("twelve cherries", [Entity("cherry", (), 12, True)], None),
        ("five people and two sheep", [Entity("person", (), 5, True), Entity("sheep", (), 2, True)], None),
    ],
)
def test_simple_captions_are_read(caption, entities, relation):
    wanted = None if relation is None else Relation(0, relation, 1)
    assert parse_scene(caption) == SceneGraph(tuple(entities), wanted)


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("", "there is no phrase"),
        ("cats and dogs", "'cats' has no number"),
        ("a black and white cat", "'black' is no noun|'white cat' has no number"),
        ("a dog running", "'running' may be a verb"),
        ("a man with a hat", "'with' is no part of a noun"),
        ("a cat left of a dog above a bird", "are two relations"),
        ("a cat and a dog left of a bird", "is a list in a relation"),
        ("a cat next to a cat", "relates 'cat' to itself"),
        ("a cat on the left", "'left' is no part of a noun"),
        ("several cats", "has no number up to 19"),
        ("zero cats", "has no number up to 19"),
        ("two cat", "'cat' is no plural"),
        ("a cat; drop table", "';' is no part|'cat;' is no part"),
        ("a very old tired brave dog", "'very' is no part of a noun"),
        ("a happy tired brave dog", "is no noun"),
        ("no dogs", "has no number up to 19"),
    ],
)
def test_what_is_not_simple_is_refused_with_the_words_it_stopped_at(caption, reason):
    with pytest.raises(Unscorable, match=reason) as refused:
        parse_scene(caption)
    assert refused.value.status == "na"


PLURALS = """red_circle:red_circles box:boxes berry:berries boy:boys deer:deer wine_glass:wine_glasses
person:people house:houses bus:buses vase:vases tomato:tomatoes cookie:cookies bench:benches horse:horses
toothbrush:toothbrushes computer_mouse:computer_mice tv:tvs knife:knives shoe:shoes"""


def test_plurals_and_back():
    for pair in PLURALS.split():
        one, many = pair.replace("_", " ").split(":")
        assert plural(one) == many
        assert parse_scene(f"two {many}").entities[0].name == one
