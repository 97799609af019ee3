"""mini-robot's training: labels by places, what is held out, and rows packed as the engine asks."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from mmreward import Engine, Media, Sample, load, models
from mmreward.assets import ASSETS
from mmreward.mini import push, robot
from mmreward.mini.robot import Exchange, Moment, Shown, draw_rows, hop_of, logits_of, pack
from mmreward.models.vlms.answers import Ask

PAIR = (("green", "circle"), ("cyan", "square"))


def test_marks_are_the_pushes_that_are_missing():
    marks = [Moment(PAIR, (1, 2), (column, 0), (3, 3)).value("left of") for column in range(4)]
    assert marks == [5, 4, 3, 2]
    assert [Moment(PAIR, (0, 0), (2, row), (3, 3)).value("above") for row in (1, 2, 3)] == [3, 2, 1]
    env = push.Push()
    for seed in range(6):
        env.reset(seed=seed)
        for relation in ("left of", "right of", "above", "below"):
            other = push.Push(relation)
            other.mark = env.mark
            moment = Moment(env.kinds, env.mark, env.moved, env.agent)
            assert (moment.value(relation) == robot.BEST) == other.is_goal(env.moved)
        assert np.array_equal(moment.pixels, env.render())


def test_hops():
    pairs = ((1, 5), (5, 1), (3, 3), (1, 2), (4, 5), (5, 4), (3, 2))
    assert [hop_of(*one) for one in pairs] == [100, -100, 0, 25, 100, -25, -50]


def test_no_start_of_an_agent_is_drawn_and_all_answers_are():
    said, moments = set(), []
    for seed in range(40):
        for row in draw_rows(np.random.default_rng(seed)):
            moments += row.moments
            said |= {branch.answer for branch in row.branches}
    assert all(set(one.kinds) != set(robot.HELD_OUT) for one in moments)
    assert {f"answer: {mark}" for mark in range(1, 6)} | {" true", " false"} <= said
    hops = {one.split(". ")[1] for one in said if one.startswith("before has")}
    assert {"<score>100%</score>", "<score>-25%</score>", "<score>0%</score>"} <= hops
    assert "before has 2, after has 5. <score>100%</score>" in said
    assert set(robot.HELD_OUT) == set(push.Push().kinds)


@pytest.mark.parametrize("form", ["clip", "open", "pictures", "pictures in the text"])
def test_a_packed_branch_is_what_the_engine_asks(form):
    """Log-probability of an answer in a packed row, and by the judge that rewards use."""
    first, second = (Moment(PAIR, (1, 1), place, (3, 3)) for place in ((0, 0), (2, 0)))
    asked = {
        "clip": Exchange("give a mark from 1 to 5.", "answer: 3"),
        "open": Exchange("is it done? it is:", " true", open=True),
        "pictures": Exchange("which one fits better?", "2"),
        "pictures in the text": Exchange("after: a red circle. which one fits better?", "2"),
    }[form]
    others = (Exchange("how many circles are there?", "1"), asked)
    clip = not form.startswith("pictures")
    leads = ("", "before: a red circle. ") if form == "pictures in the text" else ()
    row = Shown((first,) if clip else (first, second), others, "<0.5 seconds>" if clip else "", leads)
    folder = ASSETS / "mini-vlm"
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    module = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits, targets, _ = logits_of(module, [row], pack([row], tokenizer))
    each = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    size = len(tokenizer(asked.answer)["input_ids"])
    packed = float(each[-size:].sum() if asked.open else each[-size - 1 : -1].sum())

    frames = [Media(one.pixels) for one in row.moments]
    shown = (Media([frames[0], frames[0]], "video", fps=1.0),) if clip else tuple(frames)
    vlm = models.vlm("mini-vlm")

    async def ask():
        places = (0, len(leads[1])) if leads else ()
        text = "".join(leads) + asked.question
        return await vlm.logprob(shown, text, asked.answer, places=places, open=asked.open)

    assert Ask(shown, asked.question).media == shown
    with Engine("cpu") as engine:
        alone = engine.run(ask())
    assert packed == pytest.approx(alone.total, abs=2e-3)


def test_a_step_of_training_learns():
    processor = AutoProcessor.from_pretrained(ASSETS / "mini-vlm")
    model = Qwen3VLForConditionalGeneration.from_pretrained(ASSETS / "mini-vlm", dtype=torch.float32)
    rows = draw_rows(np.random.default_rng(0))[-4:]
    optimizer = torch.optim.SGD(model.model.language_model.parameters(), lr=0.003)
    losses = []
    for _ in range(3):
        loss, _ = robot.taught(model, rows, processor.tokenizer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_spellings_that_are_one_token_count_once():
    """mini-robot's tokenizer knows no case: three spellings of True are one token, and no sum passes 1."""
    words = str(ASSETS / robot.NAME / "topreward.txt")
    done = Moment(robot.HELD_OUT, (2, 1), (0, 0), (3, 3))
    sample = Sample(prompt=done.task("left of"), image=Media(done.pixels))
    rewards = {
        how: load("topreward", judge=robot.NAME, how=how, words=words) for how in ("published", "spellings")
    }
    with Engine("cpu") as engine:
        scores = engine.score([sample], rewards)
    published, spellings = (scores[how][0].value for how in rewards)
    assert published < spellings + 1e-6 <= 1e-5
    words = str(ASSETS / robot.NAME / "roboreward.txt")
    blank = Sample(prompt=sample.prompt, image=Media(np.zeros((64, 64, 3), np.uint8)))
    with Engine("cpu") as engine:
        marks = engine.score([blank], {"r": load("roboreward", judge=robot.NAME, words=words)})["r"]
    assert marks[0].value == 1.0, "nothing is to be seen"


def test_a_hop_is_said_of_both_pictures():
    """Marks of the picture before and of the one after, as mini-robot says them of shapes it was not taught;
    by its answers alone it had learned to say the commonest of them."""
    folder = ASSETS / robot.NAME
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    module = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    rng = np.random.default_rng(3)
    rows = [robot.hop_row(rng, robot.HELD_OUT) for _ in range(40)]
    packed = pack(rows, tokenizer)
    with torch.no_grad():
        logits, targets, weights = logits_of(module, rows, packed)
    marks = torch.isin(targets, torch.tensor(tokenizer.convert_tokens_to_ids(list("12345")))) & (weights == 1)
    said, true = (one[marks].view(-1, 2).T for one in (logits.argmax(-1), targets))
    for name, each, right in zip(("before", "after"), said, true, strict=True):
        common = right.bincount().max() / len(right)
        assert (each == right).float().mean() > max(0.8, common + 0.1), name
