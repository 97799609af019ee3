"""Places in words: columns as strong as rows in image tokens, and which token names which shape."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from mmreward.assets import ASSETS
from mmreward.mini import push, robot
from mmreward.mini.robot import MARK, Exchange, Moment, Shown, draw_moment, logits_of, pack
from mmreward.mini.robot_places import RECALL, echoing, equalised, mark_of, placed_nouns, recalled, slopes_of
from mmreward.mini.vlm_pretrain import watching

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


@pytest.fixture(scope="module")
def packed_rows(tokenizer):
    """A clip with a task of its shapes and one of foreign ones, a hop, and a choice between two."""
    rng = np.random.default_rng(5)
    one = Moment(PAIR, (1, 1), (2, 2), (3, 3))
    asked = (one.task("left of"), one._replace(kinds=(("red", "circle"), ("blue", "square"))).task("left of"))
    clip = Shown(
        (one,), tuple(Exchange(MARK.format(prompt=task), "answer: 3") for task in asked), "<0.5 seconds>"
    )
    rows = [clip, robot.hop_row(rng), robot.pair_row(rng)]
    packed = pack(rows, tokenizer)
    nouns = placed_nouns(packed.ids, packed.seen, packed.owner, [row.scenes for row in rows], tokenizer)
    return rows, packed, recalled(packed.ids, packed.weight > 0, packed.owner, nouns, tokenizer)


def test_a_mark_that_is_said_comes_of_the_noun_of_its_picture(tokenizer, packed_rows):
    rows, packed, back = packed_rows
    assert back.rows.tolist() == [0, 1, 1], (
        "neither of foreign shapes nor of two pictures before one question"
    )

    def text(row, first, last):
        return tokenizer.decode(packed.ids[row, first:last])

    said = [text(row, at + 1, at + 2) for row, at in zip(back.rows, back.columns, strict=True)]
    assert said[0] == "3" and ", after has ".join(said[1:]) in rows[1].branches[0].answer
    task = rows[1].moments[0].kinds
    for number, word in ((1, "before"), (2, "after")):
        at = int(back.noun[number])
        # "before : a red circle left of a blue square", or with "above" a token less.
        assert text(1, at - 12, at + 1).split(f"{word}:")[1].endswith(" ".join(task[1]))
        assert text(1, int(back.columns[number]) - 2, int(back.columns[number])).strip() == f"{word} has"


def test_the_recall_is_what_the_layer_attends_with(packed_rows):
    rows, packed, back = packed_rows
    model = Qwen3VLForConditionalGeneration.from_pretrained(
        ASSETS / "mini-vlm", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    layer, head = RECALL
    seen = []
    attention = model.model.language_model.layers[layer].self_attn
    attention.register_forward_hook(lambda _, __, output: seen.append(output[1]))
    with torch.no_grad(), watching(model, layer) as gaze:
        logits_of(model, rows, packed._replace(mask=_added(packed.mask)))
        found = back.loss(model, gaze, packed.mask)
        nothing = back._replace(rows=back.rows[:0]).loss(model, gaze, packed.mask)
    own = seen[0][back.rows, head, back.columns, back.noun]
    assert found == pytest.approx(float(-own.log().mean()), abs=1e-4) and nothing == 0


def _added(mask):
    """A mask as eager attention adds it."""
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
