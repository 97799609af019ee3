"""The dialogues of shapes world: true, balanced, and within the tokenizer's vocabulary."""

import json
from collections import Counter

import numpy as np
import pytest

from mmreward.mini import dialogues, tasks
from mmreward.mini.vlm_build import build_tokenizer
from mmreward.mini.vlm_pretrain import draw_scene
from mmreward.mini.world import Caption, Scene, Thing, parse_caption

RED, BLUE, GREEN = ("red", "circle"), ("blue", "square"), ("green", "triangle")
THINGS = (Thing(*RED, 0.25, 0.5, 0.125), Thing(*GREEN, 0.75, 0.25, 0.125))


def test_faithfulness_names_hits_misses_and_extras() -> None:
    caption = Caption(((RED, 1), (BLUE, 1)))
    said = "shows a red circle; missing a blue square; not asked for a green triangle."
    assert tasks.faithfulness(caption, THINGS) == said
    assert tasks.compare(caption, THINGS).score == 1 + round(3 * 0.5)


@pytest.mark.parametrize(("relation", "score"), [("left of", 4), ("right of", 3)])
def test_a_wrong_relation_costs_one(relation: str, score: int) -> None:
    found = tasks.compare(Caption(((RED, 1), (GREEN, 1)), relation), THINGS)
    assert (found.match, found.score) == (score == 4, score)


def test_boxes_are_sixty_fourths_in_reading_order() -> None:
    rows = json.loads(tasks.boxes(THINGS))
    assert [row["label"] for row in rows] == ["green triangle", "red circle"]
    assert rows[1]["bbox_2d"] == [125, 375, 375, 625]


def test_checklist_asks_for_all_of_the_caption() -> None:
    asked = tasks.checklist(parse_caption("a red circle left of a blue square"))
    assert ("Is there a blue square? Answer yes or no.", "yes") in asked
    assert ("How many red circles are there? Answer with one number.", "1") in asked
    assert ("How many shapes are there? Answer with one number.", "2") in asked
    assert ("Is the red circle left of the blue square? Answer yes or no.", "yes") in asked


def test_quality_falls_with_damage() -> None:
    grades = [tasks.quality(level)[0] for level in (0.0, 0.35, 0.6, 1.0)]
    assert grades == [4, 3, 2, 1]


def test_captions_read_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        caption = dialogues.draw_caption(draw_scene(rng), rng)
        assert parse_caption(str(caption)) == caption


@pytest.mark.parametrize("task", ["present", "exact", "relation", "match", "listen"])
def test_yes_and_no_are_equally_likely(task: str) -> None:
    rng = np.random.default_rng(1)
    drawn = [dialogues.FACTS[task](draw_scene(rng), rng) for _ in range(1500)]
    answers = Counter(d.answer for d in drawn if d is not None)
    assert 0.44 < answers["yes"] / answers.total() < 0.56


def test_every_text_survives_the_tokenizer() -> None:
    tokenizer = build_tokenizer(tasks.words())
    rng = np.random.default_rng(2)
    for _ in range(40):
        scene = draw_scene(rng)
        drawn = [draw(scene, rng) for draw in dialogues.FACTS.values()]
        drawn += [dialogues.critic(scene, rng, 0.5), dialogues.spoilt(0.5)]
        drawn += [dialogues.prefer(scene, draw_scene(rng), rng, heard) for heard in (False, True)]
        for text in (text for d in drawn if d is not None for text in (d.question, d.answer)):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text.lower()


def test_an_empty_picture_shows_nothing() -> None:
    assert tasks.describe_scene(()) == "nothing"
    assert tasks.boxes(Scene(()).things) == "[]"
