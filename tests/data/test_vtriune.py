"""V-Triune's rows are read as they are, with the nulls Arrow adds, and every mistake names source and key."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmreward.data.routing import Router
from mmreward.data.rows import read_rows, rows_of, sample_of

RATIOS = {
    "iou_max_label_first": 1.0,
    "iou_max_iou_first": 0.0,
    "iou_completeness": 0.3,
    "map": 0.0,
    "map50": 0.0,
    "map75": 0.0,
}
"""Of the released payload."""
BOXES = '[{"bbox_2d": [100, 100, 400, 400], "label": "cat\'s toy"}]'


def detection(**changes):
    model = {
        "answer": "",
        "ground_truth": f"<answer>\n{BOXES}\n</answer>",
        "accuracy_ratio": 1.0,
        "format_ratio": 0.1,
        "verifier": "detection",
        "verifier_parm": {"det_verifier_normalized": True, "det_reward_ratio": RATIOS},
    }
    return record("detection_coco", {**model, **changes})


def maths(**changes):
    model = {
        "answer": "42",
        "ground_truth": r"\boxed{42}",
        "accuracy_ratio": 1.0,
        "format_ratio": 0.1,
        "verifier": "mathverify",
        "verifier_parm": {"det_verifier_normalized": None, "det_reward_ratio": dict.fromkeys(RATIOS)},
    }
    return record("math_geo", {**model, **changes})


def record(source, model):
    return {
        "data_source": source,
        "images": [],
        "prompt": [
            {"role": "system", "content": "Think."},
            {"role": "user", "content": "<image>\nWhat is there?"},
        ],
        "ability": "perception",
        "reward_model": model,
        "extra_info": {"id": f"{source}-1", "image_path": None, "split": "train"},
    }


def read(row, tmp_path):
    return sample_of(row, tmp_path, "x")


def test_a_record_becomes_a_sample(tmp_path, png):
    row = detection() | {"images": [{"bytes": png, "path": None}, {"bytes": png, "path": None}]}
    sample = read(row | {"response": "no", "group": 3}, tmp_path)
    assert sample.prompt == "What is there?" and sample.source == "detection_coco"
    assert sample.target == [{"bbox_2d": [100, 100, 400, 400], "label": "cat's toy"}]
    assert sample.image.size == (2, 4) and len(sample.inputs) == 1
    assert sample.response == "no" and sample.group == "3"
    assert sample.meta["split"] == "train" and sample.meta["ability"] == "perception"
    assert sample.meta["det_reward_ratio"] == RATIOS and "image_path" not in sample.meta


def test_nothing_in_extra_info_takes_the_place_of_the_route(tmp_path):
    row = maths()
    row["extra_info"] |= {"route": {"rewards": {"length": None}}, "messages": "none", "difficulty": 3}
    meta = read(row, tmp_path).meta
    assert meta["route"] == read(maths(), tmp_path).meta["route"] and meta["difficulty"] == 3
    assert meta["messages"] == row["prompt"]


def test_boxes_in_input_pixels_are_matched_with_a_grid_of_1000(engine, tmp_path):
    """672 x 1036 is the input of the released payload: 100 of 1000 is 67.2 rows and 103.6 columns."""
    parameters = {
        "det_verifier_normalized": True,
        "det_reward_ratio": RATIOS,
        "image_grid_thw": [[1, 672, 1036]],
    }
    said = '<answer>[{"bbox_2d": [103.6, 67.2, 414.4, 268.8], "label": "Cat\'s toy"}]</answer>'
    sample = read(detection(verifier_parm=parameters) | {"response": said}, tmp_path)
    routed = Router().score(engine, [sample])
    assert routed.totals[0].value == pytest.approx(1.0)
    assert set(routed.scores[0]) == {"iou", "format", "iou_50", "iou_75", "iou_95", "iou_99"}


def test_what_is_watched_is_precision_at_each_threshold(engine, tmp_path):
    """One box of IoU 0.8, and one beside everything: the first counts up to 75, of two."""
    parameters = {"det_verifier_normalized": False, "det_reward_ratio": RATIOS}
    row = detection(verifier_parm={**parameters, "image_grid_thw": [[1, 600, 600]]})
    said = BOXES.replace("[100, 100, 400, 400]", "[100, 100, 400, 340]")[:-1]
    row["response"] = f'<answer>{said}, {{"bbox_2d": [800, 800, 900, 900], "label": "dog"}}]</answer>'
    scores = Router().score(engine, [read(row, tmp_path)]).scores[0]
    precision = [scores[f"iou_{percent}"].parts["precision"] for percent in (50, 75, 95, 99)]
    recall = [scores[f"iou_{percent}"].parts["recall"] for percent in (50, 75, 95, 99)]
    assert precision == [0.5, 0.5, 0.0, 0.0] and recall == [1.0, 1.0, 0.0, 0.0]


def test_boxes_need_no_thinking(engine, tmp_path, png):
    row = detection() | {"images": [{"bytes": png, "path": None}], "response": "<answer>[]</answer>"}
    total = Router().score(engine, [read(row, tmp_path)]).totals[0]
    assert total.parts["format"] == 1.0 and total.value == pytest.approx(0.1 / 1.1)


@pytest.mark.parametrize(
    ("response", "value"),
    [
        (r"<think>6 * 7</think><answer>\boxed{42}</answer>", 1.0),
        (r"<think>6 * 7</think>\boxed{42}", (1 + 0.1 * 2 / 3) / 1.1),
        ("<think>6 * 7</think><answer>41</answer>", 0.1 / 1.1),
        (r"\boxed{42}", 1 / 1.1),
    ],
)
def test_accuracy_and_format_are_weighed_as_v_triune_does(engine, tmp_path, response, value):
    sample = read(maths() | {"response": response}, tmp_path)
    assert Router().score(engine, [sample]).totals[0].value == pytest.approx(value)


def test_nulls_leave_the_servers_defaults(tmp_path):
    route = read(maths(accuracy_ratio=None, format_ratio=None), tmp_path).meta["route"]
    assert route["accuracy"] == {"math": 1.0} and route["format"] == {"format": 0.1}
    assert "det_reward_ratio" not in read(maths(), tmp_path).meta


def test_without_a_weight_the_format_is_not_scored_and_tags_are_not_asked_for(tmp_path):
    route = read(maths(format_ratio=0.0), tmp_path).meta["route"]
    assert route == {"rewards": {"math": {"bare": True}}, "accuracy": {"math": 1.0}}


@pytest.mark.parametrize(("answer", "solution"), [("42", ""), ("", r"\boxed{42}"), ("", "42")])
def test_the_answer_is_found_wherever_it_stands(tmp_path, answer, solution):
    assert read(maths(answer=answer, ground_truth=solution), tmp_path).target == "42"


def test_only_a_match_by_boxes_first_ignores_labels(tmp_path):
    ratios = RATIOS | {"iou_max_label_first": None, "iou_max_iou_first": 1.0}
    parameters = {"det_reward_ratio": ratios}
    assert (
        read(detection(verifier_parm=parameters), tmp_path).meta["route"]["rewards"]["iou"]["labels"]
        == "ignore"
    )
    assert read(detection(), tmp_path).meta["route"]["rewards"]["iou"]["labels"] == "exact"


MISTAKES = [
    (maths(verifier="mathverfy"), "source 'math_geo': reward_model.verifier: .*'mathverfy'"),
    (maths(accuracy_ratio="all"), "source 'math_geo': reward_model.accuracy_ratio: .*'all'"),
    (maths(accuracy_ratio=0.0, format_ratio=0.0), "reward_model.accuracy_ratio and format_ratio are both 0"),
    (maths(length_ratio=0.5), "reward_model.length_ratio"),
    (maths(verifer="mathverify"), "unknown key 'reward_model.verifer': did you mean 'verifier'"),
    (
        detection(verifier_parm={"det_reward_ratio": {"mpa": 1.0}}),
        "unknown key 'reward_model.verifier_parm.det_reward_ratio.mpa': did you mean 'map'",
    ),
    (
        detection(verifier_parm={"det_reward_ratio": {"iou_completeness": 0.3}}),
        "source 'detection_coco': .*det_reward_ratio: no score has a weight",
    ),
    (detection(ground_truth="<answer>none</answer>"), "source 'detection_coco': reward_model.ground_truth"),
    (detection() | {"prompt": [{"role": "system", "content": "x"}]}, "no message of the user"),
]


@pytest.mark.parametrize(("row", "message"), MISTAKES)
def test_mistakes_name_source_and_key(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        read(row, tmp_path)


def test_parquet_whose_structs_are_merged_is_read_as_it_is(tmp_path, png, engine):
    """Arrow gives every row the keys of all; those a row had not are null."""
    bare = maths()
    del bare["reward_model"]["verifier_parm"]
    rows = [detection() | {"images": [{"bytes": png, "path": None}]}, bare]
    for row in rows:
        row["response"] = r"<think>6 * 7</think><answer>\boxed{42}</answer>"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train_mixed_2.parquet")
    read_back = list(read_rows(tmp_path / "train_mixed_2.parquet"))
    assert [row.problem for row in read_back] == ["", ""]
    assert [row.id for row in read_back] == ["detection_coco-1", "math_geo-1"]
    router, samples = Router(), [row.sample for row in read_back]
    router.check(samples)
    assert [total.value for total in router.score(engine, samples).totals] == pytest.approx([0.1 / 1.1, 1.0])


def test_a_verifier_that_is_not_installed_is_named_before_a_training(tmp_path, monkeypatch):
    from mmreward import loading

    def missing(name):
        raise ValueError(f"no reward named {name!r}")

    monkeypatch.setattr(loading, "find", missing)
    with pytest.raises(ValueError, match=r"source 'math_geo': rewards.math: no reward named 'math'"):
        Router().check([read(maths(), tmp_path)])


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("images", 5, "images is int"),
        ("images", "a.png", "images is str"),
        ("extra_info", "some text", "extra_info is text and no JSON"),
        ("extra_info", [1], "extra_info is list"),
        ("extra_info", 5, "extra_info is int"),
        ("prompt", [{"role": "user", "content": [None]}], "no message of the user"),
        ("prompt", [None], "no message of the user"),
        ("prompt", 5, "no message of the user"),
        ("reward_model", 5, "reward_model"),
        ("reward_model", None, "reward_model"),
    ],
)
def test_a_record_of_another_form_costs_its_row(tmp_path, column, value, told):
    rows = list(rows_of([maths() | {column: value}, maths() | {"id": "2"}], tmp_path))
    assert rows[0].sample is None and told in rows[0].problem
    assert rows[1].sample is not None


def test_extra_info_may_be_json(tmp_path):
    assert read(maths() | {"extra_info": '{"difficulty": 3}'}, tmp_path).meta["difficulty"] == 3
