"""Columns under other names: a field takes what another column, or a key of meta, holds."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmreward.config import Config
from mmreward.data.columns import LOOKED, overruled
from mmreward.data.rows import read_rows


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def samples(path, columns):
    return [row.sample for row in read_rows(path, columns)]


def test_fields_come_from_columns_and_from_meta(tmp_path, png):
    (tmp_path / "a.png").write_bytes(png)
    record = {"caption": "one", "text": "two", "prompt": "three", "file": "a.png", "meta": {"gold": [1]}}
    data = lines(tmp_path / "d.jsonl", record | {"name": 7})
    (sample,) = samples(data, {"prompt": "text", "image": "file", "target": "gold", "id": "name"})
    assert (sample.id, sample.prompt, sample.target, sample.image.size) == ("7", "two", [1], (2, 4))
    assert sample.meta["text"] == "two"  # stays for a reward's own `columns:`


def test_a_row_without_the_column_is_without_the_field(tmp_path):
    data = lines(tmp_path / "d.jsonl", {"prompt": "p", "answer": 1}, {"prompt": "p", "target": 2})
    assert [sample.target for sample in samples(data, {"target": "answer"})] == [1, None]


def test_a_picture_in_parquet_by_another_name(tmp_path, png):
    pq.write_table(pa.table({"jpg": [{"bytes": png, "path": None}]}), tmp_path / "d.parquet")
    assert samples(tmp_path / "d.parquet", {"image": "jpg"})[0].image.size == (2, 4)


@pytest.mark.parametrize("field", ["image", "video"])
def test_file_name_of_nested_metadata_stays_beside_its_table(tmp_path, png, field):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(png)
    lines(tmp_path / "sub" / "metadata.jsonl", {"file_name": "a.png", "says": "words"})
    (sample,) = samples(tmp_path, {field: "file_name", "prompt": "says"})
    media = getattr(sample, field)
    assert (sample.id, sample.prompt, media.source) == ("sub/a.png", "words", tmp_path / "sub" / "a.png")
    assert [sample.image, sample.video].count(None) == 1


def test_folders_of_pictures_and_of_shards_count_their_files_once(tmp_path, png):
    (tmp_path / "a.png").write_bytes(png)
    (tmp_path / "notes.md").write_text("x")
    found = read_rows(tmp_path, {"group": "id"})
    assert [row.sample.group for row in found] == ["a.png"]
    assert sum(found.skipped.values()) == 1


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"promt": "caption"}, "promt=caption: a sample has no 'promt'; did you mean 'prompt'?"),
        (
            {"prompt": "captoin"},
            "prompt=captoin: none of the first 2 rows has the column 'captoin'; did you mean 'caption'?",
        ),
    ],
)
def test_what_is_not_there_is_said_in_one_line(tmp_path, columns, words):
    data = lines(tmp_path / "d.jsonl", {"caption": "a"}, {"caption": "b"})
    with pytest.raises(ValueError) as raised:
        read_rows(data, columns)
    assert str(raised.value) == words


def test_no_more_rows_are_looked_at_than_the_limit_says(tmp_path):
    data = lines(tmp_path / "d.jsonl", *[{"prompt": "p"}] * LOOKED, {"prompt": "p", "late": 1})
    with pytest.raises(ValueError, match=f"first {LOOKED} rows"):
        read_rows(data, {"target": "late"})


def test_the_command_line_comes_before_the_columns_of_yaml():
    columns = {"prompt": "a", "target": "b"}
    config = Config(
        rewards={"mine": {"reward": "choice", "columns": columns}},
        routes={"s": {"rewards": {"choice": {"columns": columns}}, "accuracy": {"choice": 1}}},
    )
    found = overruled(config, {"target": "c"})
    assert found.rewards["mine"] == {"reward": "choice", "columns": {"prompt": "a"}}
    assert found.routes["s"].rewards["choice"]["columns"] == {"prompt": "a"}
