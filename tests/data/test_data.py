"""Reading rows: what real files contain, and how a bad row costs only itself."""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from mmreward import Media, Unscorable
from mmreward.data.rows import read_rows
from mmreward.limits import set_limits


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
    for path in (tmp_path, tmp_path / "nowhere", lines(tmp_path / "data.rtf", "a,b")):
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


# --- columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["uid", "idx", "_id", "prompt_id", "step", "images_n", "promt", "ids"])
def test_a_column_that_is_no_field_is_kept_and_refuses_nothing(jsonl, column):
    row = only(jsonl({"id": "a", "prompt": "p", column: 3}))
    assert row.sample.meta == {column: 3} and row.sample.prompt == "p"


def test_a_hint_is_given_where_a_needed_field_is_missing(jsonl, engine):
    scored = only(jsonl({"promt": "x", "response": "y"}))
    rewards = {
        "plain": {"reward": "answer"},
        "mapped": {"reward": "answer", "columns": {"target": "anser"}},
    }
    samples = [only(jsonl({"tarqet": "x", "answer": "y", "response": "y"})).sample, scored.sample]
    with pytest.raises(ValueError, match=r"a column that none of 2 rows has: did you mean 'answer'\?"):
        engine.score(samples, rewards)
    plain, mapped = (engine.score(samples, {name: rewards[name]}, check=False)[name] for name in rewards)
    assert plain[0].status == "missing" and "'tarqet'" in plain[0].note and "columns:" in plain[0].note
    assert mapped[0].status == "missing" and "'answer'" in mapped[0].note
    assert mapped[1].status == "missing" and "'anser'" in mapped[1].note


def test_the_prompt_may_be_called_caption_or_text(jsonl):
    rows = jsonl({"text": "t", "caption": "c"}, {"text": "t"}, {"text": "t", "prompt": "p"}, {"caption": 5})
    assert [row.sample.prompt for row in rows] == ["c", "t", "p", ""]
    assert rows[0].sample.meta == {"text": "t", "caption": "c"}


# --- encodings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_believed(tmp_path, png, encoding):
    words = "été 二"
    (tmp_path / "a.png").write_bytes(png)
    (tmp_path / "a.txt").write_bytes(words.encode(encoding))
    assert only(rows(tmp_path)).sample.prompt == words
    data = lines(
        tmp_path / "data.jsonl", json.dumps({"prompt": words}, ensure_ascii=False), encoding=encoding
    )
    assert only(rows(data)).sample.prompt == words


def test_text_in_no_known_encoding_costs_its_own_row_and_is_not_repaired(tmp_path, png):
    for name, words in (("a", "café".encode("latin-1")), ("b", b"fine")):
        (tmp_path / f"{name}.png").write_bytes(png)
        (tmp_path / f"{name}.txt").write_bytes(words)
    bad, good = rows(tmp_path)
    assert bad.sample is None and bad.id == "a.png" and "0xe9 at 3" in bad.problem and "UTF-8" in bad.problem
    assert good.sample.prompt == "fine"
    data = tmp_path / "data.jsonl"
    data.write_bytes(b'{"id": "a"}\n{"prompt": "caf\xe9"}\n{"id": "b"}\n')
    first, second, third = rows(data)
    assert first.sample and third.sample and second.sample is None and "line 2 is not UTF-8" in second.problem


def test_a_line_beyond_the_limit_costs_its_own_row(tmp_path):
    set_limits(row_bytes=1000)
    first, second, third = rows(lines(tmp_path / "a.jsonl", {"id": "a"}, {"prompt": "x" * 5000}, {"id": "b"}))
    assert first.sample and third.sample and second.sample is None and "5015 bytes" in second.problem


# --- folders --------------------------------------------------------------------------------------


def animation(form):
    import io

    from PIL import Image

    frames = [Image.new("RGB", (8, 4), (index * 80,) * 3) for index in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=100)
    return buffer.getvalue()


def test_a_folder_skips_what_is_no_data_and_counts_it(tmp_path, png):
    for name in (".hidden.png", "._a.png", ".ipynb_checkpoints/a-checkpoint.png", "__MACOSX/a.png", "a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "notes.md").write_text("n")
    (tmp_path / "code.ts").write_text("const x = 1")
    (tmp_path / "orphan.txt").write_text("n")
    found = read_rows(tmp_path)
    assert [row.id for row in found] == ["a.png"]
    assert found.skipped == {
        "hidden": 4,
        "folders named .png": 1,
        "of another kind (.md)": 1,
        "of another kind (.ts)": 1,
        "of another kind (.txt)": 1,
    }
    assert "4 hidden" in str(found.skipped)


def test_all_formats_are_read_and_animations_are_clips(tmp_path, png):
    stills = ("a.jpeg", "b.jfif", "c.avif", "d.bmp", "e.tiff", "f.jp2", "g.ppm", "h.JPG", "i.ico")
    clips = ("k.mp4", "l.m4v", "m.mpg", "n.3gp", "o.flv")
    for name in (*stills, *clips):
        (tmp_path / name).write_bytes(png)
    for name, form in (("p.gif", "GIF"), ("q.webp", "WEBP"), ("r.png", "PNG"), ("s.avif", "AVIF")):
        (tmp_path / name).write_bytes(animation(form))
    (tmp_path / "still.png").write_bytes(png)
    kinds = {row.id: "video" if row.sample.video is not None else "image" for row in rows(tmp_path)}
    animated = dict.fromkeys(("p.gif", "q.webp", "r.png", "s.avif"), "video")
    wanted = (
        dict.fromkeys(stills, "image") | dict.fromkeys(clips, "video") | animated | {"still.png": "image"}
    )
    assert kinds == wanted


def test_metadata_in_csv_and_in_folders(tmp_path, png):
    for part in ("x", "y"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.png").write_bytes(png)
    (tmp_path / "x" / "metadata.csv").write_text('file_name,text,target\na.png,"a, b",\n')
    lines(tmp_path / "y" / "metadata.jsonl", {"image_file_name": "a.png", "prompt": "q"})
    (tmp_path / "y" / "b.png").write_bytes(png)
    found = read_rows(tmp_path)
    first, second = found
    assert first.id == "x/a.png" and first.sample.prompt == "a, b" and first.sample.image.size == (2, 4)
    assert first.sample.target is None and second.sample.image.size == (2, 4)
    assert found.skipped == {"not in metadata.csv": 1}


def test_a_folder_of_parquet_files_is_one_data_set(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for name in ("b", "a"):
        pq.write_table(pa.table({"id": [name], "prompt": ["p"]}), tmp_path / f"{name}.parquet")
    assert [row.id for row in rows(tmp_path)] == ["a", "b"]


def test_compressed_lines_are_read_and_a_torn_file_says_so(tmp_path):
    import gzip

    data = gzip.compress(b'{"id": "a"}\n{"id": "b"}\n')
    (tmp_path / "data.jsonl.gz").write_bytes(data)
    assert [row.id for row in rows(tmp_path / "data.jsonl.gz")] == ["a", "b"]
    (tmp_path / "torn.jsonl.gz").write_bytes(data[:-12])
    assert "torn.jsonl.gz" in rows(tmp_path / "torn.jsonl.gz")[-1].problem
    damaged = data[:10] + bytes([data[10] ^ 0xFF]) + data[11:]
    (tmp_path / "damaged.jsonl.gz").write_bytes(damaged)
    assert "damaged.jsonl.gz cannot be read" in rows(tmp_path / "damaged.jsonl.gz")[-1].problem


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_a_compressed_line_without_end_is_passed_over_and_not_held(tmp_path, encoding):
    """Trap: lines of UTF-16 were read without a limit, and half a gigabyte is half a megabyte of gzip."""
    import gzip
    import tracemalloc

    plain = encoding if encoding == "utf-8" else f"{encoding}-le"  # without a mark
    with gzip.open(tmp_path / "data.jsonl.gz", "wb", compresslevel=1) as file:
        file.write('{"id": "a"}\n'.encode(encoding))
        for _ in range(4):
            file.write(
                (" " * (1 << 23)).encode(encoding.replace("utf-16", "utf-16-le").replace("32", "32-le"))
            )
        file.write('x\n{"id": "b"}\n'.encode(plain))
    set_limits(row_bytes=1 << 20)
    tracemalloc.start()
    first, bad, last = rows(tmp_path / "data.jsonl.gz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (first.id, last.id) == ("a", "b") and "the limit of a row" in bad.problem
    assert peak < 24 << 20


def test_pictures_in_the_row_itself(jsonl, png):
    import base64

    body = base64.b64encode(png).decode()
    given, torn, fetched = jsonl(
        {"image": f"data:image/png;base64,{body}", "inputs": [{"path": "x.png"}]},
        {"image": "data:image/png;base64,???"},
        {"image": "https://example.org/a.png"},
    )
    assert given.sample.image.size == (2, 4)
    assert torn.sample is None and "base64" in torn.problem
    assert fetched.sample is None and "download it first" in fetched.problem


def test_a_clip_as_a_list_of_pictures(tmp_path, png):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist([{"video": [{"bytes": png}] * 3}]), tmp_path / "data.parquet")
    assert only(rows(tmp_path / "data.parquet")).sample.video.array().shape == (3, 2, 4, 3)
