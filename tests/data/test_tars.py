"""Samples in tar files: what a webdataset holds, and what an archive may do that is none."""

import gzip
import io
import json
import os
import random
import tarfile
import tracemalloc

import pytest
from PIL import Image

from mmreward import Unscorable
from mmreward.data.inputs import Inputs
from mmreward.data.rows import read_rows
from mmreward.data.tars import HEADER, MEMBERS

NO_FILES = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)


def archive(path, *members, format=tarfile.PAX_FORMAT):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content not in NO_FILES:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content, "/etc/passwd"
                tar.addfile(info)
    return path


def rows(path, columns=None):
    return list(read_rows(path, columns))


def only(found):
    (row,) = found
    assert row.sample is not None, row.problem
    return row


@pytest.fixture
def gif():
    file = io.BytesIO()
    first, *rest = (Image.new("RGB", (4, 2), (shade, 0, 0)) for shade in (0, 120, 240))
    first.save(file, "GIF", save_all=True, append_images=rest)
    return file.getvalue()


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_members_of_one_key_are_one_row(tmp_path, png, kind):
    described = json.dumps({"target": [1, 2], "caption": "unused", "url": "u", "id": 9}).encode()
    path = archive(
        tmp_path / "0001.tar",
        ("000001.jpg", png),
        ("000001.txt", b" a cat\n"),
        ("000001.json", described),
        ("sub/000002.png", png),
        ("sub/000002.json", b'{"caption": "a dog"}'),
        format=kind,
    )
    first, second = rows(path)
    assert (first.id, first.sample.prompt, first.sample.target) == ("0001/000001", "a cat", [1, 2])
    assert first.sample.meta["url"] == "u" and first.sample.image.size == (2, 4)
    assert (second.id, second.sample.prompt) == ("0001/sub/000002", "a dog")


def test_a_long_name_is_whole_in_every_format(tmp_path, png):
    key = "k" * 180
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        assert only(rows(archive(tmp_path / "a.tar", (f"{key}.png", png), format=kind))).id == f"a/{key}"


def test_condition_pictures_other_columns_and_animations(tmp_path, png, gif):
    path = archive(
        tmp_path / "a.tar",
        ("1.edited.png", png),
        ("1.input_10.png", png),
        ("1.input_2.png", png),
        ("1.response.txt", b"yes"),
        ("2.gif", gif),
        ("3.source.png", png),
        ("3.png", png),
    )
    one, two, three = (row.sample for row in read_rows(path))
    assert one.response == "yes" and one.image is None and "edited" not in one.meta
    assert [media.source.name for media in one.inputs] == ["a.tar/1.input_2.png", "a.tar/1.input_10.png"]
    assert two.image is None and two.video.frames == 3
    assert len(three.inputs) == 1 and three.image is not None and three.source == ""
    first = next(read_rows(path, {"image": "edited"}))
    assert first.sample.image.size == (2, 4)


def test_a_folder_of_shards_names_rows_by_shard(tmp_path, png):
    for name in ("a", "b/c"):
        archive(tmp_path / f"{name}.tar", ("1.png", png), ("1.txt", name.encode()))
    assert [(row.id, row.sample.prompt) for row in read_rows(tmp_path)] == [("a/1", "a"), ("b/c/1", "b/c")]


def test_pictures_are_read_when_they_are_looked_at_and_from_where_they_lie(tmp_path, png):
    big = bytes(8 << 20)
    path = archive(tmp_path / "a.tar", *[(f"{n}.bmp", big) for n in range(4)], ("9.png", png))
    tracemalloc.start()
    found = rows(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20 and found[-1].sample.image.size == (2, 4)
    assert found[-1].sample.image.content() == png
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]


def test_a_copy_of_a_shard_is_the_same_data_and_a_changed_picture_is_not(tmp_path, png):
    def digests(path):
        (row,) = rows(path)
        return Inputs([row]).content(row.id), row.digest

    path = archive(tmp_path / "a.tar", ("1.png", png))
    before = digests(path)
    os.utime(path, (1, 1))
    assert digests(path)[0] == before[0] != "" and digests(path)[1] != before[1]
    archive(path, ("1.png", png + b"\0"))
    assert digests(path)[0] != before[0]


@pytest.mark.parametrize("left", [0.5, 0.95])
def test_an_archive_that_is_cut_off_gives_its_whole_samples_and_one_failed_row(tmp_path, png, left):
    path = archive(tmp_path / "a.tar", *[(f"{n}.png", png + bytes(2000)) for n in range(9)])
    members = 9 * (512 + 2560)
    path.write_bytes(path.read_bytes()[: int(members * left)])
    *whole, last = rows(path)
    assert len(whole) == int(9 * left) and all(row.sample.image.size == (2, 4) for row in whole)
    assert last.sample is None and "a.tar is cut off" in last.problem and last.id == f"a/{len(whole)}"


def test_an_archive_without_its_end_costs_the_sample_that_may_lack_members(tmp_path, png):
    path = archive(tmp_path / "a.tar", ("1.png", png), ("2.png", png), ("2.txt", b"words"))
    path.write_bytes(path.read_bytes()[: 4 * 512])  # between the picture and the prompt of the second
    first, second = rows(path)
    assert first.sample is not None and second.sample is None
    assert second.id == "a/2" and "the mark of its end is missing" in second.problem


def test_a_shard_that_shrinks_later_fails_its_pictures(tmp_path, png):
    path = archive(tmp_path / "a.tar", ("1.png", png))
    row = only(rows(path))
    path.write_bytes(path.read_bytes()[:550])
    with pytest.raises(Unscorable, match=r"a.tar/1.png ends after"):
        row.sample.image.array()


def test_links_devices_folders_and_hidden_members_are_no_rows(tmp_path, png):
    path = archive(
        tmp_path / "a.tar",
        ("1.png", tarfile.SYMTYPE),
        ("2.png", tarfile.LNKTYPE),
        ("3.png", tarfile.FIFOTYPE),
        ("4.png", tarfile.CHRTYPE),
        ("d", tarfile.DIRTYPE),
        ("._5.png", png),
        ("__MACOSX/6.png", png),
        ("7.npy", b"x"),
        ("8.png", png),
    )
    found = read_rows(path)
    assert [row.id for row in found] == ["a/8"]
    assert found.skipped["links, devices or sparse files in a tar"] == 4
    assert sum(found.skipped.values()) == 8


def test_names_are_ids_and_no_paths(tmp_path, png):
    (tmp_path / "up.txt").write_text("not to be read")
    path = archive(tmp_path / "in" / "a.tar", ("../up.png", png), ("/etc/passwd.png", png))
    assert [(row.id, row.sample.prompt) for row in read_rows(path)] == [
        ("a/../up", ""),
        ("a//etc/passwd", ""),
    ]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("1.png", b"x"), ("1.jpg", b"x")], "another member of this key is its image too"),
        ([("1.json", b"[1]")], "is list, not an object"),
        ([("1.json", b"{")], "a.tar/1.json is not JSON"),
        ([("1.json", b'{"image": "/etc/passwd"}')], "names a file as image: in a tar it is a member"),
        ([("1.json", b'{"inputs": ["x.png"]}')], "names a file as inputs"),
        ([("1.image.txt", b"/etc/passwd")], "names a file as image"),
        (
            [("1.json", b'{"steps": [{"observation": "x.png"}]}')],
            "step 0: the JSON of 1 names a file as observation",
        ),
        ([("1.steps.json", b'[{}, {"observation": {"top": "x.png"}}]')], "step 1, view 'top': the JSON of"),
        ([("1.txt", b"\xff\xfe\xfd")], "a.tar/1.txt is not UTF-16"),
        ([(f"1.{n}.txt", b"") for n in range(MEMBERS + 1)], f"more than {MEMBERS} members"),
    ],
)
def test_a_sample_that_makes_no_sense_costs_itself(tmp_path, png, members, words):
    bad, good = rows(archive(tmp_path / "a.tar", *members, ("2.png", png)))
    assert bad.sample is None and words in bad.problem and bad.id == "a/1"
    assert good.id == "a/2" and good.sample.image.size == (2, 4)


def test_a_picture_beside_json_that_names_one_is_the_picture(tmp_path, png):
    path = archive(tmp_path / "a.tar", ("1.png", png), ("1.json", b'{"image": "elsewhere.png"}'))
    assert only(rows(path)).sample.image.content() == png


def headed(kind, size, content=b""):
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT) + content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no tar file"),
        (b"words" * 1000, "is no tar file"),
        (gzip.compress(random.Random(0).randbytes(4096), mtime=0), "a compressed one"),
        (headed(tarfile.GNUTYPE_LONGNAME, HEADER + 1), "a header of"),
        (headed(tarfile.XHDTYPE, 1 << 40), "a header of"),
        (headed(tarfile.XHDTYPE, 5, b"9 a=b".ljust(512, b"\0")), "makes no sense"),
        (headed(tarfile.XHDTYPE, 512, bytes(512)), "makes no sense"),
        (headed(tarfile.GNUTYPE_LONGNAME, 2, b"a".ljust(512, b"\0")) * 40, "headers of one member"),
        (headed(tarfile.REGTYPE, 1 << 50), "is cut off"),
        (headed(tarfile.REGTYPE, -5), "is damaged"),
        (headed(tarfile.GNUTYPE_SPARSE, 5), "sparse member"),
    ],
)
def test_what_is_no_archive_is_one_failed_row(tmp_path, content, words):
    (tmp_path / "a.tar").write_bytes(content)
    (row,) = rows(tmp_path / "a.tar")
    assert row.sample is None and words in row.problem
