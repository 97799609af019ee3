"""Files and folders that appear whole: what is renamed into place is on disk before."""

import os

import pytest

from mmreward import files
from mmreward.files import whole_file, whole_folder


@pytest.fixture
def order(monkeypatch):
    """Names of what was flushed and renamed, in order."""
    done = []
    real = files._flush

    def sync(path):
        done.append(f"sync {path.name}")
        real(path)

    monkeypatch.setattr(files, "_flush", sync)
    real_rename = os.rename
    monkeypatch.setattr(os, "rename", lambda a, b: (done.append("rename"), real_rename(a, b))[1])
    real_replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), real_replace(a, b))[1])
    return done


def test_a_folder_is_flushed_with_all_that_is_in_it_before_it_takes_its_place(tmp_path, order):
    with whole_folder(tmp_path / "run" / "000001") as part:
        (part / "deep").mkdir()
        (part / "deep" / "a").write_text("a")
        (part / "b").write_text("b")
    assert (tmp_path / "run" / "000001" / "deep" / "a").read_text() == "a"
    assert {"sync a", "sync b", "sync deep"} <= set(order[: order.index("rename")])
    assert order[-1] == "sync run", "the rename itself is on disk, too"


def test_a_file_is_flushed_before_it_takes_its_place(tmp_path, order):
    with whole_file(tmp_path / "a.json") as part:
        part.write_text("{}")
    assert order[0].startswith("sync .a.json") and order[1:] == ["rename", f"sync {tmp_path.name}"]


def test_what_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "old") as part:
        (part / "a").write_text("new")
        _ = 1 / 0
    assert (tmp_path / "old" / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
