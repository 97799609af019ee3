"""Recordings of robots as data: LeRobot datasets, RLDS episodes, folders of clips."""

import asyncio
import json
import re
import struct

import pyarrow.parquet as pq
import pytest
from support import recordings
from support.recordings import LENGTHS, example, lerobot, write_clip, write_tfrecord

from mmreward import Unscorable
from mmreward.data.inputs import Inputs
from mmreward.data.rlds import parsed_example
from mmreward.data.rows import read_rows
from mmreward.engine.episodes import frames_of, views
from mmreward.trajectories import column


def levels(sample, rule="all", **options):
    found = asyncio.run(frames_of(sample, rule, **options))
    return [round(float(one.still().mean())) for one in found.pictures]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return lerobot(tmp_path_factory.mktemp("robots") / "toy")


# --- LeRobot ------------------------------------------------------------------------------------------------


def test_an_episode_of_a_lerobot_dataset_is_a_row(dataset):
    rows = list(read_rows(dataset))
    assert [row.id for row in rows] == ["episode_000000", "episode_000001", "episode_000002"]
    assert [row.sample.prompt for row in rows] == ["push the block", "lift the cup", "push the block"]
    sample = rows[1].sample
    assert views(sample) == ("top", "wrist") and len(sample.steps) == 6 and sample.source == "toy"
    assert column(sample.steps, "action")[2] == pytest.approx([0.2, 0.0])
    assert column(sample.steps, "time") == pytest.approx([n / 10 for n in range(6)])
    assert column(sample.steps, "state")[0] == [4.0, 1.0]
    assert column(sample.steps, "done") == [False] * 5 + [True]
    assert column(rows[0].sample.steps, "reward") == [0, 0, 0, 1]
    assert sample.meta["episode_index"] == 1 and sample.video is None


def test_a_frame_is_found_by_its_time_in_a_file_of_many_episodes(dataset):
    for row, first in zip(read_rows(dataset), (0, 4, 10), strict=True):
        count = len(row.sample.steps)
        for view, more in (("top", 0), ("wrist", 100)):
            wanted = [4 * (first + n) + more for n in range(count)]
            assert levels(row.sample, view=view) == pytest.approx(wanted, abs=2)
            assert levels(row.sample, "2", view=view) == pytest.approx([wanted[0], wanted[-1]], abs=2)


def test_a_camera_is_mapped_to_the_clip_and_one_alone_needs_no_telling(dataset, tmp_path):
    rows = list(read_rows(dataset, {"video": "observation.images.wrist"}))
    assert [row.sample.video.frames for row in rows] == list(LENGTHS)
    assert rows[2].sample.video.still().mean() == pytest.approx(140, abs=2)
    assert not any("observation.images.top" in row.sample.meta for row in rows)
    (tmp_path / "one").mkdir()
    alone = lerobot(tmp_path / "one" / "d", cameras={"observation.image": 0}, rewards=False)
    sample = next(read_rows(alone)).sample
    assert views(sample) == ("image",) and sample.video.frames == 4 and "reward" not in sample.steps[0]


def test_digests_follow_the_video_files_and_not_their_place(tmp_path):
    root = lerobot(tmp_path / "a")
    before = Inputs(read_rows(root))
    contents = [before.content(f"episode_00000{n}") for n in range(3)]
    assert len(set(contents)) == 3 and all(contents)
    root = root.rename(tmp_path / "b")
    moved = Inputs(read_rows(root))
    # The name of the dataset is the source of its rows.
    assert [moved.content(f"episode_00000{n}") for n in range(3)] != contents
    root = root.rename(tmp_path / "a")
    write_clip(root / "videos" / "observation.images.top" / "chunk-000" / "file-001.mp4", [9] * 5)
    now = Inputs(read_rows(root))
    assert [now.content(f"episode_00000{n}") == contents[n] for n in range(3)] == [True, True, False]


def test_the_old_layout_of_a_file_an_episode_is_read_too(tmp_path):
    root = lerobot(tmp_path / "d", cameras={"observation.image": 0})
    info = json.loads((root / "meta" / "info.json").read_text())
    info |= {
        "codebase_version": "v2.1",
        "data_path": recordings.OLD_DATA,
        "video_path": recordings.OLD_VIDEOS,
    }
    (root / "meta" / "info.json").write_text(json.dumps(info))
    recordings.split_by_episode(root)
    rows = list(read_rows(root))
    assert [row.sample.prompt for row in rows] == ["push the block", "lift the cup", "push the block"]
    assert levels(rows[2].sample) == pytest.approx([40, 44, 48, 52, 56], abs=2)


def damaged(root, name, change):
    file = root / name
    file.write_text(change(file.read_text()))
    return root


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("v3.0", "v9.0"), "version 'v9.0' is not read"),
        (lambda text: text.replace('"fps": 10', '"fps": 0'), "fps is 0"),
        (lambda text: text[:40], "describes no LeRobot dataset"),
        (lambda text: text.replace('"fps": 10', '"fpps": 10'), "describes no LeRobot dataset"),
    ],
)
def test_a_dataset_that_is_none_is_refused_with_its_file(tmp_path, change, words):
    root = damaged(lerobot(tmp_path / "d"), "meta/info.json", change)
    with pytest.raises(ValueError, match=words) as error:
        list(read_rows(root))
    assert "info.json" in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("data/chunk-", "../chunk-"), "which leaves the dataset"),
        (lambda text: text.replace("{file_index:03d}.parquet", "{file}.parquet"), "data_path is .*'file'"),
    ],
)
def test_a_template_that_names_no_file_of_the_dataset_costs_its_episodes(tmp_path, change, words):
    rows = list(read_rows(damaged(lerobot(tmp_path / "d"), "meta/info.json", change)))
    assert len(rows) == 3 and all(re.search(words, row.problem) for row in rows)


def test_an_episode_whose_parts_disagree_costs_itself(tmp_path):
    root = lerobot(tmp_path / "d")
    file = root / "data" / "chunk-000" / "file-000.parquet"
    pq.write_table(pq.read_table(file).slice(0, 9), file)
    first, second, third = read_rows(root)
    assert first.sample is not None and third.sample is not None
    assert "file-000.parquet has 5 frames of episode 1, which has 6" in second.problem


def test_steps_beyond_a_clip_are_no_repeated_last_frame(tmp_path):
    root = lerobot(tmp_path / "d", cameras={"observation.image": 0})
    write_clip(root / "videos" / "observation.image" / "chunk-000" / "file-001.mp4", [10, 20, 30])
    *_, last = read_rows(root)
    with pytest.raises(Unscorable, match="has 3 frames, and the steps show its frame 4"):
        levels(last.sample)


# --- RLDS ---------------------------------------------------------------------------------------------------


def episode(png: bytes, count: int = 3, **more):
    return {
        "steps/is_first": [1] + [0] * (count - 1),
        "steps/is_last": [0] * (count - 1) + [1],
        "steps/is_terminal": [0] * (count - 1) + [1],
        "steps/reward": [0.0] * (count - 1) + [1.0],
        "steps/action": [float(n) for n in range(2 * count)],
        "steps/observation/image_0": [png] * count,
        "steps/observation/wrist": [png] * count,
        "steps/observation/state": [n / 2 for n in range(4 * count)],
        "steps/observation/natural_language_embedding": [0.5] * (512 * count),
        "steps/observation/step_id": [-1] * count,
        "steps/language_instruction": [b"push the block"] * count,
        "episode_metadata/file_path": [b"/data/x.npy"],
        "episode_metadata/success": [1],
        **more,
    }


@pytest.mark.parametrize("packed", [True, False])
def test_an_rlds_episode_is_a_row(tmp_path, png, packed):
    path = write_tfrecord(tmp_path / "toy-train.tfrecord-00000-of-00001", example(episode(png), packed))
    (row,) = read_rows(path)
    sample = row.sample
    assert (row.id, sample.prompt) == ("toy-train.tfrecord-00000-of-00001/000000", "push the block")
    assert views(sample) == ("image_0", "wrist") and sample.steps[2]["observation"]["wrist"].size == (2, 4)
    assert column(sample.steps, "action") == [[0, 1], [2, 3], [4, 5]]
    assert sample.steps[1]["state"] == {"state": [2.0, 2.5, 3.0, 3.5], "step_id": -1}
    assert column(sample.steps, "reward") == [0, 0, 1] and column(sample.steps, "done") == [
        False,
        False,
        True,
    ]
    assert sample.meta["success"] is True and sample.meta["file_path"] == "/data/x.npy"


def test_the_records_are_those_that_the_protocol_describes(png):
    """The bytes of Google's own writer, which orders and packs as it likes."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="e.proto", package="t", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, kind in (
        ("BytesList", kinds.TYPE_BYTES),
        ("FloatList", kinds.TYPE_FLOAT),
        ("Int64List", kinds.TYPE_INT64),
    ):
        file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=3)
    holder = file.message_type.add(name="Feature")
    for number, name in enumerate(("BytesList", "FloatList", "Int64List"), start=1):
        holder.field.add(name=f"l{number}", number=number, type=11, type_name=f".t.{name}", label=1)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=11, type_name=".t.Feature", label=1)
    features.field.add(name="feature", number=1, type=11, type_name=".t.Features.FeatureEntry", label=3)
    file.message_type.add(name="Example").field.add(
        name="features", number=1, type=11, type_name=".t.Features", label=1
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))()
    wanted = {**episode(png), "steps/big": [-(2**63), 2**63 - 1, 0]}
    for name, values in wanted.items():
        kind = {bytes: "l1", float: "l2", int: "l3"}[type(values[0])]
        getattr(message.features.feature[name], kind).value.extend(values)
    assert parsed_example(message.SerializeToString()) == wanted


def test_a_truncated_episode_is_not_done_and_differing_instructions_are_no_prompt(tmp_path, png):
    more = {
        "steps/is_terminal": [0, 0, 0],
        "steps/observation/natural_language_instruction": [b"", b"BM: lift it", b"BM: lift it"],
    }
    write_tfrecord(tmp_path / "a.tfrecord", example(episode(png, **more)))
    (row,) = read_rows(tmp_path)
    assert column(row.sample.steps, "done") == [False] * 3
    assert column(row.sample.steps, "truncated") == [None, None, True]
    assert row.id == "a.tfrecord/000000" and row.sample.prompt == ""
    (mapped,) = read_rows(tmp_path, {"prompt": "natural_language_instruction"})
    assert mapped.sample.prompt == "BM: lift it"


def test_damage_of_a_record_file_costs_one_row_and_says_where(tmp_path, png):
    path = write_tfrecord(tmp_path / "a.tfrecord", example(episode(png)), b"\xff\xff", example({"x": [1]}))
    whole = list(read_rows(path))
    assert [row.sample is None for row in whole] == [False, True, True]
    assert "no tf.train.Example" in whole[1].problem and "no steps/is_first; there is x" in whole[2].problem
    data = path.read_bytes()
    for content, words, good in (
        (data[:-3], "cut off within a record", 2),
        (data[:5], "cut off within a record's head", 0),
        (b"x" * 40, "no TFRecord, or a damaged one", 0),
        (struct.pack("<Q", 1 << 62) + data[8:], "no TFRecord, or a damaged one", 0),
    ):
        path.write_bytes(content)
        *found, last = read_rows(path)
        assert words in last.problem and len(found) == good


# --- folders of clips ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_folder_of_clips_with_a_table(tmp_path, ending):
    for number in range(2):
        write_clip(tmp_path / "videos" / f"{number}.mp4", [10, 200])
    facts = [
        {"file_name": f"videos/{n}.mp4", "task": "push", "success": n, "reward": n * 5} for n in range(2)
    ]
    text = "".join(json.dumps(one) + "\n" for one in facts)
    if ending == "csv":
        text = "file_name,instruction,success,reward\n" + "".join(
            f"videos/{n}.mp4,push,{n},{n * 5}\n" for n in (0, 1)
        )
    (tmp_path / f"metadata.{ending}").write_text(text)
    rows = list(read_rows(tmp_path))
    assert [row.sample.prompt for row in rows] == ["push", "push"]
    assert [str(row.sample.meta["reward"]) for row in rows] == ["0", "5"] and "success" in rows[0].sample.meta
    assert levels(rows[1].sample) == pytest.approx([10, 200], abs=3)


def test_the_task_of_a_picture_is_no_prompt(tmp_path, png):
    (tmp_path / "a.png").write_bytes(png)
    (tmp_path / "d.jsonl").write_text('{"image": "a.png", "task": "detection"}\n')
    (row,) = read_rows(tmp_path / "d.jsonl")
    assert row.sample.prompt == "" and row.sample.meta["task"] == "detection"


def test_a_folder_that_gymnasium_recorded_gives_its_episodes_in_order(tmp_path):
    for number in (0, 2, 11):
        write_clip(tmp_path / f"rl-video-episode-{number}.mp4", [number] * 3)
    (tmp_path / "rl-video-episode-0.meta.json").write_text("{}")
    found = read_rows(tmp_path)
    rows = list(found)
    assert [row.sample.meta.get("episode") for row in rows] == [0, 2, 11]
    assert sum(found.skipped.values()) == 1 and rows[1].sample.video.frames == 3
