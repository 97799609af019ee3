"""Digests that tie a score to its row: what changes them, what does not, and groups."""

import json
import os

import pytest
from PIL import Image

from mmreward import Score
from mmreward.data import inputs
from mmreward.data.inputs import Inputs
from mmreward.data.results import Result
from mmreward.data.rows import read_rows


@pytest.fixture
def data(tmp_path):
    for index in range(3):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / f"{index}.png")
    path = tmp_path / "data.jsonl"
    write(path)
    return path


def write(path, **columns):
    rows = [{"id": str(i), "prompt": "x", "image": f"{i}.png", "group": "g", **columns} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def stored(path, *, compares=False, reward="r"):
    now = Inputs(read_rows(path))
    return [
        Result.of(name, reward, Score(0.5), "f", now.quick(name, compares), now.content(name, compares))
        for name in "012"
    ]


def kept(path, results):
    found = Inputs(read_rows(path)).sort(results)
    return "".join(result.id for result in found.kept), found.changed, found.gone


def test_a_changed_picture_is_noticed_whatever_its_time(data, tmp_path):
    results = stored(data)
    before = (tmp_path / "1.png").stat()
    Image.new("RGB", (8, 8), (1, 0, 1)).save(tmp_path / "1.png")
    os.utime(tmp_path / "1.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert kept(data, results) == ("02", 1, 0)


def test_a_touched_file_and_a_moved_folder_are_as_they_were(data, tmp_path):
    results = stored(data)
    for path in tmp_path.glob("*.png"):
        os.utime(path, ns=(1, 1))
    assert kept(data, results) == ("012", 0, 0)
    (tmp_path / "sub").mkdir()
    for path in tmp_path.glob("*.png"):
        path.rename(tmp_path / "sub" / path.name)
    data.rename(tmp_path / "sub" / "other.jsonl")
    assert kept(tmp_path / "sub" / "other.jsonl", results) == ("012", 0, 0)


@pytest.mark.parametrize(
    "column", [{"prompt": "y"}, {"target": 3}, {"meta": {"size": [1, 2]}}, {"response": ""}]
)
def test_every_column_counts(data, column):
    results = stored(data)
    write(data, **column)
    assert kept(data, results) == ("", 3, 0)


def test_a_score_that_compares_is_of_its_whole_group(data, tmp_path):
    alone, compared = stored(data), stored(data, compares=True)
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "1.png")
    assert kept(data, alone) == ("02", 1, 0) and kept(data, compared) == ("", 3, 0)


def test_rows_that_are_gone_and_digests_of_other_programs(data, tmp_path):
    digests = {"0": "", "9": "", "1": "d"}
    results = [Result.of(name, "r", Score(0.5), "f", digest) for name, digest in digests.items()]
    assert kept(data, results) == ("01", 0, 1)
    (tmp_path / "1.png").unlink()
    assert kept(data, stored(data)[:1]) == ("0", 0, 0)


def test_a_total_without_a_digest_is_as_good_as_its_neighbours(data, tmp_path):
    results = [*stored(data), *(Result.of(name, "total", Score(1.0), "f", "") for name in "012")]
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "1.png")
    assert kept(data, results) == ("0202", 2, 0)


def test_large_files_are_read_in_parts_and_pipes_not_at_all(data, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "READ_WHOLE", 64)
    monkeypatch.setattr(inputs, "SLICE", 16)
    results = stored(data)
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content + b"tail")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "2.png").unlink()
    (tmp_path / "2.png").symlink_to(tmp_path / "pipe")
    assert kept(data, results) == ("0", 2, 0)
