"""Recordings of robots as other programs write them: clips, LeRobot datasets, TFRecords."""

import json
import struct
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmreward.data.rlds import masked_check


def grey(level: float, size: int = 32) -> np.ndarray:
    return np.full((size, size, 3), round(level), np.uint8)


def write_clip(path: Path, levels, fps: int = 10) -> Path:
    """An MP4 of frames of 32 pixels, pictures or levels of grey, nearly without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.options = {"g": "5", "crf": "1"}
        for level in levels:
            picture = level if isinstance(level, np.ndarray) else grey(level)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


CAMERAS = {"observation.images.top": 0, "observation.images.wrist": 100}
"""Name -> what is added to the grey of each frame."""
LENGTHS = (4, 6, 5)
"""Frames of each episode."""


NUMBERS = ("frame_index", "episode_index", "index", "task_index")
TASKS = ("push the block", "lift the cup")


def feature_of(kind: str, shape=(1,), names=None) -> dict:
    return {"dtype": kind, "shape": list(shape), "names": names}


def described(root: Path, fps: int, cameras, rewards: bool) -> dict:
    """`meta/info.json`, as LeRobot writes it."""
    sides = ["height", "width", "channels"]
    features = {name: feature_of("video", (32, 32, 3), sides) for name in cameras}
    features |= dict.fromkeys(("action", "observation.state"), feature_of("float32", (2,), ["x", "y"]))
    if rewards:
        features |= {"next.reward": feature_of("float32"), "next.done": feature_of("bool")}
    features |= {"timestamp": feature_of("float32"), **dict.fromkeys(NUMBERS, feature_of("int64"))}
    counts = {"total_episodes": len(LENGTHS), "total_frames": sum(LENGTHS), "total_tasks": len(TASKS)}
    sizes = {"chunks_size": 1000, "data_files_size_in_mb": 100, "video_files_size_in_mb": 200}
    return {
        "codebase_version": "v3.0",
        "robot_type": "toy",
        **counts,
        **sizes,
        "fps": fps,
        "splits": {"train": f"0:{len(LENGTHS)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }


def lerobot(root: Path, *, fps: int = 10, cameras=CAMERAS, rewards: bool = True, pictures=None) -> Path:
    """A LeRobot v3.0 dataset of `LENGTHS`: the first two episodes in one file, the third in another. A frame
    is grey by its number in all, 4 apart, or one of `pictures`. Episode 1 alone has no reward."""
    meta = root / "meta"
    (meta / "episodes" / "chunk-000").mkdir(parents=True)
    (meta / "info.json").write_text(json.dumps(described(root, fps, cameras, rewards), indent=4))
    (meta / "stats.json").write_text(json.dumps({"action": {"mean": [0.5, 0.5], "count": [sum(LENGTHS)]}}))
    index = {"__index_level_0__": list(TASKS), "task_index": [0, 1]}
    pq.write_table(pa.table(index), meta / "tasks.parquet")
    rows: dict[int, list[dict]] = {0: [], 1: []}
    episodes = []
    total = 0
    for number, length in enumerate(LENGTHS):
        file, task = number // 2, number % 2
        one = {"episode_index": number, "tasks": [TASKS[task]], "length": length, "stats/action/max": [1.0]}
        one |= {"data/chunk_index": 0, "data/file_index": file}
        one |= {"dataset_from_index": total, "dataset_to_index": total + length}
        begun = len(rows[file]) / fps
        for name in cameras:
            place = f"videos/{name}"
            one |= {f"{place}/chunk_index": 0, f"{place}/file_index": file}
            one |= {f"{place}/from_timestamp": begun, f"{place}/to_timestamp": begun + length / fps}
        episodes.append(one)
        for frame in range(length):
            last = frame == length - 1
            row = {"action": [frame / 10, 0.0], "observation.state": [float(total), 1.0]}
            row |= {"next.reward": float(last and number != 1), "next.done": last} if rewards else {}
            numbers = dict(zip(NUMBERS, (frame, number, total, task), strict=True))
            rows[file].append({**row, "timestamp": frame / fps, **numbers})
            total += 1
    pq.write_table(pa.Table.from_pylist(episodes), meta / "episodes" / "chunk-000" / "file-000.parquet")
    (root / "data" / "chunk-000").mkdir(parents=True)
    for file, held_rows in rows.items():
        table = pa.Table.from_pylist(held_rows)
        for name in {"timestamp", "next.reward"} & set(table.column_names):
            at = table.column_names.index(name)
            table = table.set_column(at, name, table[name].cast(pa.float32()))
        pq.write_table(table, root / "data" / "chunk-000" / f"file-{file:03d}.parquet")
        for name, more in cameras.items():
            levels = [
                4 * row["index"] + more if pictures is None else pictures[row["index"]] for row in held_rows
            ]
            write_clip(root / "videos" / name / "chunk-000" / f"file-{file:03d}.mp4", levels, fps)
    return root


OLD_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
OLD_VIDEOS = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def split_by_episode(root: Path) -> None:
    """A dataset of one camera as version 2.1 had it: files of one episode, and lines that describe them."""
    tables = [pq.read_table(file) for file in sorted((root / "data" / "chunk-000").iterdir())]
    rows = pa.concat_tables(tables).to_pylist()
    told = []
    for number, length in enumerate(LENGTHS):
        mine = [row for row in rows if row["episode_index"] == number]
        path = root / OLD_DATA.format(episode_chunk=0, episode_index=number)
        pq.write_table(pa.Table.from_pylist(mine), path)
        place = {"episode_chunk": 0, "video_key": "observation.image", "episode_index": number}
        write_clip(root / OLD_VIDEOS.format(**place), [4 * row["index"] for row in mine])
        told.append({"episode_index": number, "length": length, "tasks": [TASKS[number % 2]]})
    (root / "meta" / "episodes.jsonl").write_text("".join(json.dumps(one) + "\n" for one in told))
    texts = [{"task_index": number, "task": task} for number, task in enumerate(TASKS)]
    (root / "meta" / "tasks.jsonl").write_text("".join(json.dumps(one) + "\n" for one in texts))


# --- TFRecords ----------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def held(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def feature(values, packed: bool = True) -> bytes:
    if isinstance(values[0], bytes):
        return held(1, b"".join(held(1, value) for value in values))
    if isinstance(values[0], float):
        if packed:
            return held(2, held(1, struct.pack(f"<{len(values)}f", *values)))
        return held(2, b"".join(varint(1 << 3 | 5) + struct.pack("<f", value) for value in values))
    if packed:
        return held(3, held(1, b"".join(varint(int(value)) for value in values)))
    return held(3, b"".join(varint(1 << 3) + varint(int(value)) for value in values))


def example(lists, packed: bool = True) -> bytes:
    entries = (held(1, held(1, name.encode()) + held(2, feature(v, packed))) for name, v in lists.items())
    return held(1, b"".join(entries))


def write_tfrecord(path: Path, *records: bytes) -> Path:
    def framed(data: bytes) -> bytes:
        size = struct.pack("<Q", len(data))
        check = struct.pack("<I", masked_check(size))
        return size + check + data + struct.pack("<I", masked_check(data))

    path.write_bytes(b"".join(map(framed, records)))
    return path
