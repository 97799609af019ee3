"""mini-gui: windows that are read, labels by the layout, what is held out, and a step of its training."""

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

from mmreward import Engine, Media, models
from mmreward.assets import ASSETS
from mmreward.mini import gui, windows
from mmreward.mini.screens import Device, draw_task
from mmreward.mini.windows import ARRANGEMENTS, HELD_OUT, SIZE, TAUGHT, draw_window, marked
from mmreward.verifiers.actions import WHOLE, read_actions


def pages(held_out, number=60):
    return [draw_window(np.random.default_rng(seed), held_out) for seed in range(number)]


def test_what_is_held_out_is_never_drawn_in_training_and_has_no_word_of_its_own():
    assert len(HELD_OUT.labels) + len(TAUGHT.labels) == 80
    assert {*HELD_OUT.arrangements, *TAUGHT.arrangements} == set(ARRANGEMENTS)
    taught = {thing.label for page in pages(False) for thing in page.things}
    held_out = {thing.label for page in pages(True) for thing in page.things}
    assert not taught & held_out and held_out <= set(HELD_OUT.labels)
    for place in (slice(None, -1), slice(-1, None)):
        assert {label[place] for label in held_out} <= {label[place] for label in taught}
    for seed in range(60):
        page = gui.draw_page(np.random.default_rng(seed))
        assert isinstance(page, windows.Window) <= all(
            getattr(thing, "label", "") not in HELD_OUT.labels for thing in page.things
        )


@pytest.mark.parametrize("held_out", [False, True])
def test_elements_lie_on_the_page_apart_and_have_a_kind_of_their_own(held_out):
    for page in pages(held_out):
        assert 2 <= len(page.things) <= 6
        assert len({thing.kind for thing in page.things}) == len(page.things)
        cells = [(int(4 * thing.x), int(4 * thing.y)) for thing in page.things]
        assert len(set(cells)) == len(cells), "each is told by an image token of its own"
        for number, thing in enumerate(page.things):
            left, top, right, bottom = thing.box
            assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
            for other in page.things[:number]:
                x1, y1, x2, y2 = other.box
                assert right <= x1 or x2 <= left or bottom <= y1 or y2 <= top
    assert any(len({thing.label for thing in page.things}) < len(page.things) for page in pages(held_out))


def test_a_text_is_to_be_seen_and_nothing_else_tells_two_pages_apart():
    page = pages(False)[0]
    first = page.things[0]
    other = windows.Element(first.role, "cut7", first.left, first.top, first.width)
    changed = windows.Window((other, *page.things[1:])).picture()
    differ = np.argwhere((np.asarray(page.picture()) != np.asarray(changed)).any(-1))
    assert len(differ) and (differ[:, 0] >= first.top).all() and (differ[:, 0] < first.top + 13).all()
    large = np.asarray(page.picture(128))
    assert (large[::2, ::2] == np.asarray(page.picture())).all()
    shown = np.asarray(marked(page.picture(), first.centre))
    y, x = (int(v * SIZE) for v in (first.y, first.x))
    assert tuple(shown[y, x]) == windows.MARK and (shown != np.asarray(page.picture())).any(-1).sum() <= 9


@pytest.mark.parametrize("texts", [False, True])
def test_answers_are_the_layout_and_true_ones_press_what_is_meant(texts):
    for seed in range(20):
        task = draw_task(seed, 2, texts=texts)
        device = Device(task)
        for step in range(2):
            thing = task.thing(step)
            (action,) = read_actions(gui.press(thing.x, thing.y), WHOLE)
            assert device.perform(action)
        assert device.success
        rng = np.random.default_rng(seed)
        row, point = gui.judge_row(rng, task.pages[0])
        said = {branch.question: branch.answer for branch in row.branches}
        for thing in task.pages[0].things:
            left, top, right, bottom = thing.box
            within = left <= point[0] <= right and top <= point[1] <= bottom
            answer = said.get(gui.JUDGE.format(noun=" ".join(thing.kind)))
            assert answer in ({"yes"} if within else {"no", None})


def test_the_words_of_windows_are_new_and_the_others_stay():
    model, processor = gui.grown()
    old = AutoProcessor.from_pretrained(ASSETS / "mini-vlm").tokenizer
    before = models.vlm("mini-vlm")
    ids = processor.tokenizer(gui.press(0.25, 0.75) + " tab4 button field")["input_ids"]
    assert (
        processor.tokenizer.unk_token_id not in ids
        and old.unk_token_id in old("click field tab")["input_ids"]
    )
    question, screen = "Is there a red circle? Answer yes or no.", draw_task(1).pages[0]
    with Engine("cpu") as engine:
        read = engine.run(before.read(Media(gui.picture_of(screen)), question, ("yes", "no")))
    inputs = processor(
        text=[
            processor.apply_chat_template(
                [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}],
                add_generation_prompt=True,
            )
        ],
        images=[gui.picture_of(screen).copy()],
        return_tensors="pt",
    )
    with torch.no_grad():
        logits = model.eval()(**inputs).logits[0, -1]
    ids = processor.tokenizer.convert_tokens_to_ids(["yes", "no"])
    assert float(logits[ids].softmax(0)[0]) == pytest.approx(read.probs["yes"] / read.mass, abs=1e-3)


def test_steps_of_its_training_learn(monkeypatch):
    monkeypatch.setattr(gui, "SEEN", 6)
    monkeypatch.setattr(gui, "ROWS", 4)
    torch.manual_seed(0)
    model, processor = gui.grown()
    pupil = gui.Pupil(model, processor.tokenizer)
    optimizer = torch.optim.SGD(pupil.parameters(), lr=1e-3)
    for step in (gui.reading, lambda *given: gui.pressing(given[0], processor.tokenizer, given[1])):
        losses = []
        for _ in range(2):
            loss, figures = step(pupil, np.random.default_rng(0))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] and 0 <= figures["read"] <= 1
