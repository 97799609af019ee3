"""Rows that bring their own route: a choice among what was declared, never a declaration."""

import json

import pytest
from support.toys import toy

from mmreward import Sample, Score
from mmreward.adapters.rows import batch_of
from mmreward.adapters.scorer import Scorer
from mmreward.data.routing import Router
from mmreward.data.rows import read_rows
from mmreward.limits import Limits

BOX = '<answer>[{"bbox_2d": [100, 100, 400, 400], "label": "cat"}]</answer>'
TRUTH = [{"bbox_2d": [100, 100, 400, 400], "label": "cat"}]


async def upper(sample):
    return Score(float(sample.response.isupper()))


@pytest.fixture
def program(tmp_path):
    """A program that leaves a mark when it is run."""
    path = tmp_path / "program"
    path.write_text(f'#!/bin/sh\necho "$SECRET" > {tmp_path}/ran\n')
    path.chmod(0o755)
    return path


def hostile(program):
    judge = "m@http://127.0.0.1:9/v1?key=MY_SECRET"
    return [
        {"iou": {"python": str(program)}},
        {"iou": {"python": {"path": str(program), "env": {"PYTHONPATH": "/x"}}}},
        {"x": {"reward": "iou", "python": str(program)}},
        {"checklist": {"judge": judge}},
        {"x": {"reward": "checklist", "judge": judge}},
        {"listener": {"listener": judge}},
        {"clipscore": {"weights": "/tmp/evil"}},
        {"artifact": {"classifier": "/tmp/evil"}},
        {"d2_align": {"fitted": "/tmp/evil"}},
        {"checklist": {}},
        {"math": {"deadline": 1e9}},
        {"math": {"workers": 10_000}},
        {"iou": {"columns": "target"}},
        {"iou": "fast"},
        {"iou": {"reward": ["iou"]}},
        {f"r{n}": {"reward": "iou"} for n in range(100)},
        {"tests.support:evil": {}},
    ]


def test_no_row_runs_a_program_or_names_a_host(engine, program, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "s3cret")
    routes = [{"rewards": rewards, "watch": list(rewards)[1:]} for rewards in hostile(program)]
    samples = [
        Sample(id=str(n), response=BOX, target=TRUTH, meta={"route": given(route)})
        for n, route in enumerate(routes)
        for given in (dict, json.dumps)
    ]
    samples.append(Sample(id="good", response=BOX, target=TRUTH, meta={"route": {"rewards": {"iou": {}}}}))
    router = Router({"boxes": {"rewards": {"iou": {}}}})
    *bad, good = router.score(engine, samples).totals
    assert good.value == 1.0
    assert {total.status for total in bad} == {"error"}
    assert not (tmp_path / "ran").exists()
    assert "rewards.iou.python: only the operator may set it" in bad[0].note
    with pytest.raises(ValueError, match="operator"):
        router.check(samples)


@pytest.mark.parametrize(
    "columns",
    [
        lambda program: {"verifier": "iou", "params": {"python": str(program)}},
        lambda program: {"verifier": "iou", "params": json.dumps({"python": str(program)})},
        lambda program: {"route": {"rewards": {"iou": {"python": str(program)}}}},
        lambda program: {"meta": json.dumps({"route": {"rewards": {"iou": {"python": str(program)}}}})},
        lambda program: {
            "ground_truth": json.dumps(
                {"v": 1, "answer": TRUTH, "verifier": "iou", "params": {"python": str(program)}}
            )
        },
        lambda program: {"verifier": ["iou"], "params": {}},
        lambda program: {"verifier": {"iou": 1}},
    ],
)
def test_columns_and_envelopes_of_trainers_go_the_same_way(program, tmp_path, columns):
    row = {"prompt": "p", "response": BOX, "target": TRUTH}
    batch = batch_of([{**row, **columns(program)}, {**row, "verifier": "iou", "params": {"threshold": 0.5}}])
    scorer = Scorer()
    bad, good = scorer.score(batch).totals
    scorer.close()
    assert (bad.status, good.value) == ("error", 1.0)
    assert not (tmp_path / "ran").exists()


def test_files_go_the_same_way(engine, program, tmp_path):
    rows = [
        {
            "id": "a",
            "response": BOX,
            "target": TRUTH,
            "route": {"rewards": {"iou": {"python": str(program)}}},
        },
        {"id": "b", "response": BOX, "target": TRUTH, "route": {"rewards": {"iou": {"threshold": 0.5}}}},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    samples = [row.sample for row in read_rows(tmp_path / "rows.jsonl")]
    totals = Router({"x": {"rewards": {"iou": {}}}}).score(engine, samples).totals
    assert [total.status for total in totals] == ["error", "ok"]
    assert not (tmp_path / "ran").exists()


def test_a_row_chooses_among_what_is_declared(engine):
    toy(upper, "upper", needs=("response",))
    router = Router(
        {
            "shout": {"rewards": {"upper": {}}},
            "boxes": {"rewards": {"strict": {"reward": "iou", "threshold": 0.9}}},
        }
    )
    routes = [
        "shout",
        {"rewards": {"upper": {}}},
        {"rewards": {"mine": {"reward": "upper"}}},
        {"rewards": {"strict": {}}},
        "shuot",
        {"rewards": {"upper": {"python": "/bin/sh"}}},
    ]
    samples = [Sample(source="s", response="UP", target=TRUTH, meta={"route": route}) for route in routes]
    totals = router.score(engine, samples).totals
    assert [total.status for total in totals] == ["ok"] * 4 + ["error"] * 2
    assert [total.value for total in totals[:4]] == [1.0, 1.0, 1.0, 0.0]
    assert router.route(samples[3]).rewards["strict"].args["threshold"] == 0.9
    assert "names the route 'shuot': did you mean 'shout'?" in totals[4].note


def test_a_reward_declared_in_two_ways_needs_two_names():
    toy(upper, "upper")
    router = Router(
        {"a": {"rewards": {"upper": {}}}, "b": {"rewards": {"upper": {"columns": {"response": "x"}}}}}
    )
    with pytest.raises(ValueError, match="in 2 ways"):
        router.route(Sample(meta={"route": {"rewards": {"upper": {}}}}))


def test_a_route_of_a_row_is_small_and_few_are_kept():
    router = Router()
    for route in ("{" + " " * 70_000, {"rewards": {"iou": {"aliases": {"a": ["b" * 70_000]}}}}):
        with pytest.raises(ValueError, match="characters"):
            router.route(Sample(meta={"route": route}))
    for number in range(Limits().routes + 8):
        router.route(Sample(source=str(number), meta={"route": {"rewards": {"iou": {}}}}))
    assert len(router._own) == Limits().routes
