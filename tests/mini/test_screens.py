"""Screens of the miniature: tasks of a seed, presses and what they lead to, rows, the best of k."""

import json

import pytest

from mmreward import Engine, Sample, Unscorable, load
from mmreward.evals.studies import screens as study
from mmreward.mini import gui
from mmreward.mini.screens import Device, draw_task, rows
from mmreward.models.vlms.answers import Read, Written
from mmreward.verifiers.actions import Action, Point


def press(thing):
    return Action(type="click", point=Point(thing.x, thing.y))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_task_is_that_of_its_seed_and_names_one_icon_of_each_page(steps):
    assert draw_task(5, steps) == draw_task(5, steps) != draw_task(6, steps)
    for seed in range(20):
        task = draw_task(seed, steps)
        assert len(task.pages) == len(task.wanted) == steps
        for step, page in enumerate(task.pages):
            assert 2 <= len(page.things) <= 4 and max(page.kinds.values()) == 1
            assert " ".join(task.wanted[step]) in task.goal and task.thing(step).kind == task.wanted[step]
    with pytest.raises(ValueError, match="1 or 2 presses"):
        draw_task(0, 3)


def test_the_right_presses_in_order_are_success_and_nothing_else_is():
    task = draw_task(1, 2)
    device = Device(task)
    first = device.picture().tobytes()
    assert (
        not device.perform(Action(type="click", point=Point(0.001, 0.001)))
        and device.picture().tobytes() == first
    )
    assert device.perform(press(task.thing(0))) and device.page is task.pages[1] and not device.success
    assert device.perform(press(task.thing(1))) and device.success and not device.lost
    assert not device.perform(press(task.thing(1))) and device.success, "there is nothing more to press"
    wrong = Device(task)
    other = next(thing for thing in task.pages[0].things if thing.kind != task.wanted[0])
    assert wrong.perform(press(other)) and wrong.lost and not wrong.perform(press(wrong.page.things[0]))
    for bad in (
        Action(type="type", text="x"),
        Action(type="click", point=Point(2, 0.5)),
        Action(type="click"),
    ):
        with pytest.raises(Unscorable):
            Device(task).perform(bad)


def test_steps_are_rows_that_rewards_of_clicks_take():
    """The right click is right, one that scans is not, and the box of all the screen is its centre."""
    found = rows([draw_task(seed, 2) for seed in range(4)])
    assert [row["id"] for row in found[:2]] == ["0-0", "0-1"] and len(found[1]["steps"]) == 1
    scan = [[x, y] for x in range(50, 1000, 100) for y in range(50, 1000, 100)]
    with Engine("cpu") as engine:
        for reward in (load("gui_action"), load("click")):
            for points, want in ((None, 1.0), (scan, 0.0), ([[2, 2]], 0.0)):
                samples = [_answered(row, points, reward.info.name) for row in found]
                scores = engine.score(samples, reward)[reward.info.name]
                assert [score.value for score in scores] == [want] * 8, (reward.info.name, want)


def _answered(row, points, name):
    said = points or [row["target"]["action"]["point"]]
    target = row["target"] if name == "gui_action" else {"bbox_2d": row["box"]}
    words = "\n".join(json.dumps({"action": "click", "coordinate": point}) for point in said)
    return Sample(prompt=row["prompt"], image=row["image"], target=target, response=words)


class Careless:
    """Points at another icon every other time, and sees what lies in a picture by its colours."""

    name = fingerprint = "careless"

    def __init__(self, page):
        self.page, self.asked = page, 0

    async def write(self, screen, question, **options):
        self.asked += 1
        named = [thing for thing in self.page().things if " ".join(thing.kind) in question]
        shown = (
            named if self.asked % 2 == 0 else [thing for thing in self.page().things if thing not in named]
        )
        box = [round(1000 * side) for side in shown[0].box]
        return Written(json.dumps([{"bbox_2d": box, "label": "x"}]), True, 8)

    async def read(self, media, question, labels, **options):
        from mmreward.mini.world import COLOURS

        colour = next(name for name in COLOURS if name in question)
        middle = media.still()[28:36, 28:36].reshape(-1, 3).mean(0)
        near = min(COLOURS, key=lambda name: sum((middle - COLOURS[name]) ** 2))
        sure = 0.9 if near == colour else 0.1
        return Read({labels[0]: sure, labels[1]: 1 - sure}, 1.0)


def test_a_judge_of_steps_raises_success():
    """Of an agent that is wrong at first and right after it; colours of the page's icons are told apart."""
    seed = next(seed for seed in range(50) if len({t.colour for t in draw_task(seed).pages[0].things}) > 2)
    task = draw_task(seed)
    vlm = Careless(lambda: task.pages[0])
    with Engine("cpu") as engine:
        outcome = study.run_task(engine, vlm, task, 2, seed=1)
    assert outcome.won["greedy"] == 0 and outcome.won["judge"] == outcome.won["any"] == 1
    assert "| 1 | 0.00 |" in study.table([outcome, outcome], 2)


def test_a_click_is_the_centre_of_the_first_box_and_its_surroundings_are_on_the_screen():
    said = study.clicked(
        '[{"bbox_2d": [100, 200, 300, 400], "label": "red circle"}, {"bbox_2d": [0, 0, 9, 9]}]'
    )
    assert json.loads(said)["coordinate"] == [200, 300] and study.clicked("[]") == study.NOWHERE
    screen = Device(draw_task(2)).picture()
    for x, y in ((0, 0), (500, 500), (1000, 1000)):
        words = json.dumps({"action": "click", "coordinate": [x, y]})
        point = study.point_in(words)
        assert point == (x / 1000, y / 1000)
        for forms in study.FORMS.values():
            assert forms.look(screen, point).size == screen.size
    beside = "click(1200, 4)"
    assert [study.point_in(words) for words in (study.NOWHERE, beside, "click(1, 2)\nclick(3, 4)")] == [
        None
    ] * 3


def test_one_way_of_asking_for_each_model_and_windows_for_both():
    """An agent of clicks on windows: what it says is what is done."""

    class Sure(Careless):
        async def write(self, screen, question, **options):
            (thing,) = (one for one in self.page().things if " ".join(one.kind) in question)
            return Written(gui.press(thing.x, thing.y), True, 6)

        async def read(self, media, question, labels, **options):
            return Read({labels[0]: 0.9, labels[1]: 0.1}, 1.0)

    task = draw_task(4, texts=True)
    with Engine("cpu") as engine:
        vlm = Sure(lambda: task.pages[0])
        assert study.run_task(engine, vlm, task, 2, 1, study.FORMS[gui.NAME]).won == dict.fromkeys(
            study.WAYS, 1.0
        )
        assert study.run_task(engine, vlm, task, 2, 1).won["any"] == 0, "a click is no box"
