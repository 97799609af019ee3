"""`mmreward fetch` as a process of its own, against a server that speaks the hub's API."""

import io
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmreward import list_rewards, models
from mmreward.cli.fetching import wants_of
from mmreward.cli.weights import size_of
from mmreward.evals.published.checkpoints import save_imscore
from mmreward.evals.published.vits import dino_folder, dreamsim_folder
from mmreward.models import fetching, perceptual_files
from mmreward.models.wants import NAMED, PACKAGES, Want

SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Repositories of the hub as {id: {name: bytes}}, and what was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        if path.startswith("/api/models/"):
            repository = "/".join(path.split("/")[3:5])
            files = self.server.files.get(repository)
            if files is None:
                return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            card = {"license": "apache-2.0"}
            info = {"id": repository, "sha": SHA, "siblings": siblings, "cardData": card, "tags": []}
            return self.answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
        if "/resolve/" in path:
            repository, _, rest = path[1:].partition("/resolve/")
            data = self.server.files.get(repository, {}).get(rest.partition("/")[2])
            if data is None:
                return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
            return self.answer(
                200, data, {"ETag": f'"{hash(data) & 0xFFFFFFFF:08x}"', "X-Repo-Commit": SHA}, body
            )
        data = self.server.files.get("", {}).get(path[1:])
        return self.answer(200 if data is not None else 404, data or b"", {}, body)

    def answer(self, status, data, headers, body):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def tiny(hub, tmp_path):
    """A DINO on the hub, beside copies that nothing here reads."""
    folder = tmp_path / "dino"
    dino_folder(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    files |= {"README.md": b"card", "flax_model.msgpack": b"f" * 900, "pytorch_model.bin": b"b" * 900}
    hub.files["tiny/dino"] = files | {"onnx/config.json": b"{}"}
    return "dino_i:weights=tiny/dino"


def run(*arguments, home, endpoint, **more):
    env = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "TORCH_HOME": str(home / "torch")}
    env["HF_HUB_OFFLINE"] = "0"  # the local hub is meant, also where the tests run without a network
    env = {**env, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1", **more}
    return subprocess.run(
        [sys.executable, "-m", "mmreward.cli", *map(str, arguments)],
        capture_output=True, text=True, env=env, check=False, stdin=subprocess.DEVNULL, timeout=240,
    )  # fmt: skip


def test_a_checkpoint_of_imscore_brings_the_processor_of_the_model_that_it_names(hub, tmp_path):
    folder = tmp_path / "own"
    save_imscore(folder, "siglip")
    hub.files["some/base"] = {path.name: path.read_bytes() for path in (folder / "base").iterdir()}
    (folder / "config.json").write_text(json.dumps({"tag": "some/base"}))
    hub.files["some/pick"] = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    reward, home = "pickscore:weights=some/pick", tmp_path / "home"
    done = run("fetch", reward, "--yes", home=home, endpoint=hub.url)
    assert done.returncode == 0, done.stderr
    assert "some/pick: model.safetensors" in done.stdout and "some/base: tokenizer.json" in done.stdout
    assert "some/base: model.safetensors" not in done.stdout
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image": "a.png", "prompt": "a fox"}) + "\n")
    scored = run(
        *("score", tmp_path / "rows.jsonl", "--reward", reward, "--out", tmp_path / "run.jsonl"),
        home=home, endpoint=hub.url, HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    (home / "hub/models--some--base/snapshots" / SHA / "tokenizer.json").unlink()
    again = ("score", tmp_path / "rows.jsonl", "--reward", reward, "--out", tmp_path / "other.jsonl")
    lost = run(*again, home=home, endpoint="http://127.0.0.1:9")
    assert lost.returncode == 2
    assert "some/base is not on this machine: fetch it with `hf download some/base" in lost.stderr


def test_what_was_fetched_is_then_scored_with_offline(hub, tiny, tmp_path):
    home = tmp_path / "home"
    told = run("fetch", tiny, "--dry-run", home=home, endpoint=hub.url)
    assert told.returncode == 0, told.stderr
    assert "tiny/dino  (licence apache-2.0; revision 0123456789ab)  for dino_i" in told.stdout
    assert "model.safetensors" in told.stdout and "config.json" in told.stdout
    assert not any(word in told.stdout for word in ("msgpack", "pytorch_model", "README", "onnx"))
    files = hub.files["tiny/dino"]
    read = ("config.json", "preprocessor_config.json", "model.safetensors")
    assert f"{size_of(sum(len(files[name]) for name in read))} to fetch" in told.stdout
    assert not any("resolve" in line for line in hub.asked)

    mute = run("fetch", tiny, home=home, endpoint=hub.url)
    assert mute.returncode == 2 and "pass --yes" in mute.stderr
    assert not any("resolve" in line for line in hub.asked)

    done = run("fetch", tiny, "--yes", home=home, endpoint=hub.url)
    assert done.returncode == 0, done.stderr
    assert "tiny/dino: model.safetensors" in done.stdout
    assert not any("msgpack" in line or "pytorch_model" in line for line in hub.asked)

    again = run("fetch", tiny, "--yes", home=home, endpoint=hub.url)
    assert again.returncode == 0 and "everything is here that dino_i read" in again.stdout

    offline = run("fetch", tiny, home=home, endpoint=hub.url, HF_HUB_OFFLINE="1")
    assert offline.returncode == 0 and "everything is here that dino_i read" in offline.stdout
    assert "not looked for anything newer: the hub" in offline.stdout

    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image": "a.png", "inputs": ["a.png"]}) + "\n")
    asked = len(hub.asked)
    scored = run(
        *("score", tmp_path / "rows.jsonl", "--reward", tiny, "--out", tmp_path / "scores.jsonl"),
        home=home, endpoint=hub.url, HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    assert len(hub.asked) == asked
    assert '"ok"' in (tmp_path / "scores.jsonl").read_text()


def test_offline_every_reward_says_what_to_fetch_before_anything(tmp_path):
    done = run(
        "fetch", "pickscore", "hpsv2", "iou", "aesthetic", "--yes",
        home=tmp_path, endpoint="http://127.0.0.1:9", HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert done.returncode == 2 and not done.stdout
    lines = done.stderr.splitlines()
    assert "cannot be reached" in lines[0]
    assert "  pickscore: `hf download yuvalkirstain/PickScore_v1`" in lines
    assert "  hpsv2: `hf download xswu/HPSv2 HPS_v2.1_compressed.pt`" in lines
    assert any(line.startswith("  aesthetic: `curl") for line in lines)
    assert len(lines) == 4  # iou reads nothing


def test_a_config_is_fetched_whole_and_one_file_is_one_file(hub, tiny, tmp_path):
    hub.files["tiny/hps"] = {"a.pt": b"a" * 1200, "b.pt": b"b" * 2_500_000}
    (tmp_path / "run.yaml").write_text(
        "rewards:\n  one: {reward: dino_i, weights: tiny/dino}\n  sharpness:\n"
        "held_out:\n  hpsv2: {weights: tiny/hps/b.pt}\n  clipscore: {weights: mini-clip}\n"
    )
    home = tmp_path / "home"
    done = run("fetch", "--config", tmp_path / "run.yaml", "--yes", home=home, endpoint=hub.url)
    assert done.returncode == 0, done.stderr
    assert "2.5 MB  b.pt" in done.stdout and "a.pt" not in done.stdout and "for one" in done.stdout
    assert not any("a.pt" in line for line in hub.asked)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope/nope"], "no reward named 'nope/nope'"),
        ([], "name rewards"),
        (["dino_i:weights=tiny/gone"], "the hub has no tiny/gone"),
        (["dino_i:weights=./gone"], "dino_i: there is nothing at ./gone"),
        (["dino_i:weight=tiny/dino"], "did you mean 'weights'"),
        (["dino_i:weights=tiny/flax"], "tiny/flax has no weights that are read here"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(hub, tiny, tmp_path, arguments, said):
    hub.files["tiny/flax"] = {"flax_model.msgpack": b"x", "config.json": b"{}"}
    done = run("fetch", *arguments, "--yes", home=tmp_path, endpoint=hub.url)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr


OF_A_FILE = ("code", "d2_align", "head", "perceptual", "pisces", "r3m", "sarm", "social_reward", "vip")
"""Rewards that need a file of the user's."""


def test_every_reward_says_what_it_reads_without_reading_it():
    for info in list_rewards():
        if info.name not in OF_A_FILE:
            needed = {"metric": "musiq"} if info.name == "iqa" else {}
            kinds = {want.kind for want in wants_of(info.name, needed)}
            assert kinds <= {"hub", "hub file", "url", "archive", "local", "package"}, info.name


def test_every_function_that_reads_weights_says_which():
    """One that is left out would have `fetch` say that everything is here."""
    room = Path(models.__file__).parent
    names = ("__init__.py", "fitted.py", "moving.py", "packaged.py", "pairs.py", "robots.py", "scalars.py")
    source = "".join((room / name).read_text() for name in names)
    shared = re.findall(r"^@shared\ndef (\w+)", source, re.MULTILINE)
    inner = {"_dreamsim", "_qwen", "_unscaled"}  # called by functions that note by themselves
    assert len(shared) > 8 and set(shared) - inner == {*NAMED, *PACKAGES}


def test_what_a_clip_flant5_reads_besides_is_fetched_as_well():
    wants = {want.name: want for want in wants_of("vqascore", {})}
    assert len(wants) == 3 and "openai/clip-vit-large-patch14-336" in wants
    tokenizer = wants["google/flan-t5-xxl"]
    assert fetching.command(tokenizer).startswith("hf download google/flan-t5-xxl tokenizer.json")
    assert not any(want.use == "clip_t5" for want in wants_of("vqascore", {"judge": "mini-vlm"}))


def test_a_list_of_rewards_imports_no_torch():
    code = "import sys; from mmreward.cli import app\ntry: app(['list'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'transformers'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_dreamsims_archive_is_unpacked_without_what_is_not_read(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    source = tmp_path / "source"
    source.mkdir()
    dreamsim_folder(source, "clip_vitb32")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in source.rglob("*"):
            archive.write(path, path.relative_to(source))
        archive.writestr("clip_vitb32_single_lora/../../escaped.txt", "x")
        archive.writestr("other.pth", "x")
    hub.files[""] = {"clip.zip": packed.getvalue()}
    (want,) = perceptual_files.wanted(perceptual_files.place_of(""), "clip_vitb32")
    want = want._replace(name=f"{hub.url}/clip.zip")
    item = fetching.look_up(want)
    assert item.files == (fetching.File("clip.zip", len(packed.getvalue()), False),)
    fetching.bring(item, lambda line: None)
    assert not perceptual_files.lacking(perceptual_files.place_of(""), "clip_vitb32")
    there = {path.name for path in (tmp_path / "hub").rglob("*")}
    assert "escaped.txt" not in there and "other.pth" not in there and not list(tmp_path.rglob(".fetching-*"))
    assert fetching.fetched(want)


def test_a_download_that_comes_short_leaves_nothing(hub, tmp_path, monkeypatch):
    hub.files[""] = {"head.pth": b"h" * 5000}
    want = Want("url", f"{hub.url}/head.pth", "head", str(tmp_path / "deep" / "head.pth"))
    item = fetching.look_up(want)
    hub.files[""]["head.pth"] = b"h" * 4000
    with pytest.raises(ValueError, match="4000 bytes of 5000"):
        fetching.bring(item, lambda line: None)
    assert list((tmp_path / "deep").iterdir()) == []
    fetching.bring(fetching.look_up(want), lambda line: None)
    assert Path(want.to).read_bytes() == b"h" * 4000


def test_a_full_disk_is_said_before_the_download(tmp_path):
    want = Want("url", "http://127.0.0.1:9/big.pth", "head", str(tmp_path / "big.pth"))
    item = fetching.Item(want, want.name, (fetching.File("big.pth", 1 << 60, False),))
    assert "GB free, and" in fetching.room_for([item])
