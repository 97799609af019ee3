"""Reading rows: what real files contain, and how a bad row costs only itself."""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from mmreward import Media, Unscorable
from mmreward.data.rows import read_rows


def lines(path, *records, raw=(), encoding="utf-8", newline="\n"):
    text = [json.dumps(record) if not isinstance(record, str) else record for record in records]
    path.write_bytes((newline.join(text) + newline).encode(encoding))
    return path


def rows(path):
    return list(read_rows(path))


@pytest.fixture
def jsonl(tmp_path):
    return lambda *records, **options: rows(lines(tmp_path / "data.jsonl", *records, **options))


def only(found):
    (row,) = found
    return row


@pytest.mark.parametrize("options", [{"encoding": "utf-8-sig"}, {"newline": "\r\n"}, {"newline": "\n\n"}])
def test_byte_order_marks_line_endings_and_blank_lines(jsonl, options):
    found = jsonl({"id": "a", "prompt": "é"}, {"id": "b", "prompt": "y"}, **options)
    assert [(row.id, row.sample.prompt) for row in found] == [("a", "é"), ("b", "y")]


def test_windows_separators_find_the_picture(tmp_path, jsonl, png):
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "a.png").write_bytes(png)
    assert only(jsonl({"image": "pics\\a.png"})).sample.image.size == (2, 4)


def test_ids_may_be_numbers_and_zero_is_one(jsonl):
    assert [row.id for row in jsonl({"id": 0}, {"id": 1}, {"prompt": "none"})] == ["0", "1", "000002"]


def test_a_second_row_with_the_same_id_is_refused_whatever_its_type(jsonl):
    first, second, third = jsonl({"id": 7}, {"id": "7"}, {"id": "8"})
    assert first.sample and third.sample and second.sample is None
    assert "'7' was used before" in second.problem and second.id not in ("7", "8")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"promt": "x"}, "did you mean 'prompt'"),
        ({"prompt": 5}, "prompt is int, not text"),
        ({"response": ["x"]}, "response is list, not text"),
        ({"image": 5}, "image is 5"),
        ({"image": {}}, "image is None"),
        ({"inputs": "a.png"}, "inputs is str, not a list"),
        ({"steps": 3}, "steps is int, not a list"),
        ({"meta": [1]}, "meta is list"),
        ({"meta": "{broken"}, "meta is not JSON"),
        ([1, 2], "not list"),
        ("5", "not int"),
        ("{broken", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("9" * 100_000, "line 2 is not JSON"),
    ],
)
def test_a_bad_row_says_why_and_leaves_its_neighbours_alone(jsonl, record, reason):
    before, bad, after = jsonl({"id": "x"}, record, {"id": "y"})
    assert before.sample and after.sample and bad.sample is None
    assert reason in bad.problem


def test_other_columns_become_meta(jsonl):
    row = only(jsonl({"seed": 3, "meta": {"size": [1, 2]}, "group": 0, "target": [], "prompt": None}))
    assert row.sample.meta == {"seed": 3, "size": [1, 2]}
    assert row.sample.group == "0" and row.sample.target == [] and row.sample.prompt == ""


def test_a_missing_picture_is_found_out_when_it_is_looked_at(jsonl):
    media = only(jsonl({"image": "nowhere.png"})).sample.image
    with pytest.raises(Unscorable, match=r"nowhere\.png") as refusal:
        media.array()
    assert refusal.value.status == "missing"


@pytest.mark.parametrize("value", ["data:image/png;base64," + "A" * 1_000_000, "a\0b.png", "\ud800.png"])
def test_a_path_no_file_system_can_hold_costs_its_own_row(jsonl, value):
    first, second = jsonl({"image": value}, {"id": "fine"})
    assert second.sample
    with pytest.raises((Unscorable, ValueError)) as refusal:
        first.sample.image.array()
    assert len(str(refusal.value)) < 1000


def test_a_megabyte_of_text_is_read(jsonl):
    assert len(only(jsonl({"prompt": "x" * 1_000_000})).sample.prompt) == 1_000_000


def test_the_digest_changes_with_the_row_and_with_the_picture(tmp_path, jsonl, png):
    picture = tmp_path / "a.png"
    picture.write_bytes(png)
    first = only(jsonl({"image": "a.png"})).digest
    assert only(jsonl({"image": "a.png"})).digest == first
    assert only(jsonl({"image": "a.png", "prompt": "new"})).digest != first
    picture.write_bytes(png + b"more")
    assert only(jsonl({"image": "a.png"})).digest != first


def test_a_folder_gives_one_row_per_picture_with_the_prompt_beside_it(tmp_path, png):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.PNG").write_bytes(png)
    (tmp_path / "a.png").write_bytes(png)
    (tmp_path / "a.txt").write_bytes("\ufeffa red circle\r\n".encode())
    (tmp_path / "notes.md").write_text("ignored")
    found = rows(tmp_path)
    assert [(row.id, row.sample.prompt) for row in found] == [("a.png", "a red circle"), ("deep/b.PNG", "")]
    assert found[1].sample.image.size == (2, 4)


def test_a_folder_with_metadata_gives_its_rows(tmp_path, png):
    (tmp_path / "a.png").write_bytes(png)
    lines(
        tmp_path / "metadata.jsonl",
        {"file_name": "a.png", "prompt": "p"},
        {"file_name": 5},
        {"file_name": "c.mp4"},
    )
    good, bad, clip = rows(tmp_path)
    assert good.id == "a.png" and good.sample.prompt == "p" and good.sample.image.size == (2, 4)
    assert bad.sample is None and "file_name" in bad.problem
    assert clip.sample.video is not None


def test_nothing_to_read_is_an_error_that_names_the_path(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere", lines(tmp_path / "data.csv", "a,b")):
        with pytest.raises(ValueError, match=path.name):
            rows(path)


def test_parquet_with_pictures_as_datasets_stores_them(tmp_path, png):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.Table.from_pylist(
        [
            {"id": 1, "image": {"bytes": png, "path": None}, "prompt": "a", "made": datetime(2026, 1, 1)},
            {"id": 2, "image": {"bytes": b"broken", "path": None}, "prompt": "b", "made": None},
            {"id": 3, "image": None, "prompt": None, "made": datetime(2026, 1, 2)},
        ]
    ).append_column("price", pa.array([Decimal("1.5"), None, Decimal("2.5")]))
    pq.write_table(table, tmp_path / "data.parquet")
    first, second, third = rows(tmp_path / "data.parquet")
    assert first.sample.image.size == (2, 4) and first.id == "1"
    with pytest.raises(Unscorable):
        second.sample.image.array()
    assert third.sample.image is None and third.sample.prompt == ""
    assert len({first.digest, second.digest, third.digest}) == 3
    assert [row.digest for row in rows(tmp_path / "data.parquet")] == [
        first.digest,
        second.digest,
        third.digest,
    ]


def test_a_saved_dataset_with_one_broken_picture(tmp_path, png):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "prompt": datasets.Value("string")})
    records = {"image": [{"bytes": png}, {"bytes": png[:40]}], "prompt": ["a", "b"]}
    datasets.Dataset.from_dict(records, features=features).save_to_disk(tmp_path / "saved")
    good, bad = rows(tmp_path / "saved")
    assert good.sample.image.size == (2, 4)
    with pytest.raises(Unscorable):
        bad.sample.image.array()


def test_a_saved_dataset_of_several_splits_asks_for_one(tmp_path):
    datasets = pytest.importorskip("datasets")
    split = datasets.Dataset.from_dict({"prompt": ["a"]})
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="train"):
        rows(tmp_path / "saved")
    assert only(rows(tmp_path / "saved" / "test")).sample.prompt == "a"


def test_inputs_become_media(tmp_path, jsonl, png):
    (tmp_path / "a.png").write_bytes(png)
    inputs = only(jsonl({"inputs": ["a.png", {"path": "a.png"}]})).sample.inputs
    assert all(isinstance(media, Media) and media.size == (2, 4) for media in inputs)
    assert isinstance(inputs[0].source, Path)
