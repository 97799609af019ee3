"""Small shapes with and without a crop tool: the rule that writes the calls, the loop, and the table."""

import pytest

from mmreward import Engine, models
from mmreward.evals.studies.crops import CORNERS, RADII, Corners, answered, cases, table


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def test_looking_closer_is_worth_something(engine):
    asked = cases(8, seed=3)
    assert all(RADII[0] <= case.thing.r <= RADII[1] for case in asked)
    right = engine.run(answered(models.vlm("mini-vlm"), asked))
    assert sum(right["after crops"]) >= sum(right["at once"]) + 3
    shown = table(right)
    assert shown.count("\n| ") == 3 and "after crops against at once: +" in shown


def test_the_calls_are_written_by_rule(engine):
    case = cases(1, seed=0)[0]
    writer = Corners(models.vlm("mini-vlm"), case.thing, True)
    said = engine.run(writer.write(case.picture, writer.question))
    assert f'"bbox_2d": {list(CORNERS[0])}' in said.text and "original_image" in said.text
