"""Places in words: columns as strong as rows in image tokens, and which token names which shape."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from mmreward.assets import ASSETS
from mmreward.mini import push, robot
from mmreward.mini.robot import MARK, Exchange, Moment, Shown, draw_moment, logits_of, pack
from mmreward.mini.robot_places import echoing, equalised, mark_of, placed_nouns, slopes_of

PAIR = (("green", "circle"), ("cyan", "square"))


@pytest.fixture(scope="module")
def tokenizer():
    return AutoProcessor.from_pretrained(ASSETS / "mini-vlm").tokenizer


@pytest.fixture(scope="module")
def model():
    return Qwen3VLForConditionalGeneration.from_pretrained(ASSETS / "mini-vlm", dtype=torch.float32).eval()


def test_columns_become_as_strong_as_rows_and_rows_stay(model):
    """mini-vlm's image tokens state rows with more than twice the strength of columns: why a judge trained by
    its answers alone learned above and below, and told left from right nowhere."""
    rng = np.random.default_rng(0)
    scenes, others = ([draw_moment(rng).scene for _ in range(70)] for _ in range(2))
    column, row = slopes_of(model, others).strength
    assert row > 1.8 * column
    last = model.model.visual.merger.linear_fc2
    kept = {name: value.clone() for name, value in last.state_dict().items()}
    assert equalised(model, scenes) > 1.8
    wider, same = slopes_of(model, others).strength
    assert wider == pytest.approx(row, rel=0.15) and same == pytest.approx(row, rel=0.02)
    assert equalised(model, scenes) == pytest.approx(1, abs=0.05)
    last.load_state_dict(kept)


def test_nouns_are_those_of_the_latest_picture(tokenizer):
    one, two = (Moment(PAIR, (1, 1), place, (3, 3)) for place in ((0, 2), (3, 1)))
    task = one.task("left of")
    clip = Shown((one,), (Exchange(MARK.format(prompt=task), "answer: 5"),), clip=robot.CLIP_TIMES[0])
    pictures = Shown((one, two), (Exchange(f"after: {task}.", "1"),), leads=("", f"before: {task}. "))
    plain = Shown((one, two), (Exchange(f"after: {task}.", "1"),))
    packed = pack([clip, pictures, plain], tokenizer)
    scenes = [row.scenes for row in (clip, pictures, plain)]
    nouns = placed_nouns(packed.ids, packed.seen, packed.owner, scenes, tokenizer)
    assert nouns.rows.tolist() == [0, 0, 1, 1, 1, 1], "a noun of several pictures at once means none"
    named = [
        tokenizer.decode([int(packed.ids[r, c])]) for r, c in zip(nouns.rows, nouns.columns, strict=True)
    ]
    assert named == [" circle", " square"] * 3
    places = [one, one, one, one, two, two]
    for number, moment in enumerate(places):
        thing = moment.scene.things[number % 2]
        assert nouns.places[number].tolist() == pytest.approx([thing.x, thing.y])
    assert nouns.second.tolist() == [1, 3, 5]
    assert nouns.offset[0].tolist() == pytest.approx([-0.24, 0.24])
    assert nouns.offset[2].tolist() == pytest.approx([0.48, 0.0], abs=1e-6)
    assert (
        nouns.mark.tolist() == [one.value("left of"), one.value("left of"), two.value("left of")] == [5, 5, 2]
    )


def test_a_relation_that_is_not_said_has_no_mark(tokenizer):
    one = Moment(PAIR, (1, 1), (0, 2), (3, 3))
    asked = ("is the green circle left or right of the cyan square?", "a green circle and a cyan square.")
    row = Shown((one,), tuple(Exchange(text, "5") for text in asked), clip=robot.CLIP_TIMES[0])
    packed = pack([row], tokenizer)
    nouns = placed_nouns(packed.ids, packed.seen, packed.owner, [row.scenes], tokenizer)
    assert nouns.mark.tolist() == [0, 0] and nouns.second.tolist() == [1, 3]
    marks = [mark_of("below", (0.0, push.APART * further)) for further in (2, 1, 0, -1, -3)]
    assert marks == [5, 5, 4, 3, 1]


def test_the_echo_is_learned(model, tokenizer):
    rng = np.random.default_rng(1)
    rows = [robot.one_row(draw_moment(rng), ["left of"], rng) for _ in range(2)] + [robot.hop_row(rng)]
    packed = pack(rows, tokenizer)
    nouns = placed_nouns(packed.ids, packed.seen, packed.owner, [row.scenes for row in rows], tokenizer)
    with echoing(model) as echo:
        logits_of(model, rows, packed)
    table = model.get_input_embeddings().weight
    first = echo.loss(table, nouns, tokenizer)
    said = (echo.fetched, echo.compared, echo.judged)
    gradient = torch.autograd.grad(first, said)
    assert all(slope.abs().sum() > 0 for slope in gradient)
    with torch.no_grad():
        echo.fetched, echo.compared, echo.judged = (
            state - 40 * slope / slope.norm() for state, slope in zip(said, gradient, strict=True)
        )
    assert echo.loss(table, nouns, tokenizer) < 0.9 * first
    assert echo.loss(table, nouns._replace(second=nouns.second[:0]), tokenizer) == 0
