"""`mmreward list`: groups, filters, JSON."""

import json
import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from mmreward import list_rewards, registry
from mmreward.cli import app, index
from mmreward.cli.catalogue import parities, wants_of
from mmreward.cli.index import GROUPS
from mmreward.evals.published.cases import CASES
from mmreward.models import sizes
from mmreward.models.wants import PROCESSOR


def listed(*arguments):
    done = CliRunner().invoke(app, ["list", *arguments])
    assert done.exit_code == 0, done.exception
    return done.stdout


def names(text):
    return set(re.findall(r"^(\w+)  ", text, re.MULTILINE))


def test_every_reward_stands_in_one_group():
    text = listed()
    every = [info.name for info in list_rewards()]
    assert sorted(re.findall(r"^(\w+)  ", text, re.MULTILINE)) == sorted(every)
    headings = re.findall(r"^\[(\w+)\]$", text, re.MULTILINE)
    known = [group for group in GROUPS if group in headings]
    assert headings == known and {"pictures", "edits", "verifiers", "judges"} <= set(headings)
    edits = text.partition("[edits]")[2].partition("[")[0]
    assert "clip_i" in edits and "clipscore" not in edits


def test_each_reward_has_its_size_licence_direction_speed_and_parity():
    text = listed("pickscore")
    shown = f"parity {parities()['pickscore'].value:.1e}"
    assert f"986M parameters  a pass of an encoder  {shown}" in text
    assert "MIT (yuvalkirstain/PickScore_v1)" in text
    assert "no weights  no network  no parity figure" in listed("iou")
    assert "Apache-2.0 (mmreward)" in listed("iou")
    assert "8.8B parameters  a VLM" in (text := listed("checklist"))
    assert "Apache-2.0 (Qwen/Qwen3-VL-8B-Instruct)" in text
    assert "[0, 2]  lower is better" in listed("dreamsim")
    assert "weights in nudenet's wheel  a small network on the CPU" in listed("nsfw")
    assert "weights to be given  that of what is given" in listed("head")


def test_every_row_is_whole_and_fits_into_a_hundred_columns():
    text = listed()
    assert max(map(len, text.splitlines())) <= index.COLUMNS == 100
    records = json.loads(listed("--json"))
    for record in records:
        assert record["size"] and record["licence"] and record["speed"]
        assert (record["parity"] is None) == (record["name"] not in parities())
    assert "size not known" not in text
    read = {record["name"]: record["parameters"] for record in records}
    assert read["hpsv2"] == read["pickscore"] == 986_100_000
    assert read["hpsv3"] == 8_291_000_000  # of its base it reads the tokenizer alone
    assert read["iou"] == 0 and read["head"] is None and read["nsfw"] is None


def test_sizes_are_of_nothing_but_what_some_reward_reads():
    read = {sizes._named(want) for info in list_rewards() for want in wants_of(registry.find(info.name))}
    assert sizes.MILLIONS.keys() | sizes.LICENCES.keys() <= read
    assert sizes.MILLIONS.keys() > sizes.ESTIMATED
    assert sizes.size_words(wants_of(registry.find("liv"))) == "about 102M parameters"


def test_of_a_network_that_only_lends_its_words_no_weights_are_read():
    wants = {name: wants_of(registry.find(name)) for name in ("mps", "blip_vqa", "hpsv3")}
    lent = {name: [want.name for want in read if want.parts == PROCESSOR] for name, read in wants.items()}
    assert lent == {
        "mps": ["laion/CLIP-ViT-H-14-laion2B-s32B-b79K"],
        "blip_vqa": ["google-bert/bert-base-uncased"],
        "hpsv3": ["Qwen/Qwen2-VL-7B-Instruct"],
    }
    assert sizes.size_words(wants["mps"]) == "1.1B parameters"


@pytest.mark.parametrize(
    ("millions", "words"),
    [(8291, "8.3B"), (27000, "27.0B"), (427.6, "428M"), (5.26, "5.3M"), (0.926, "926k"), (0.000769, "769")],
)
def test_parameters_are_said_in_their_unit(millions, words):
    assert sizes._short(millions) == words


def test_weights_are_named_with_what_is_here(monkeypatch, tmp_path):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    assert "yuvalkirstain/PickScore_v1: not here" in listed("pickscore", "--weights")
    assert "PickScore_v1:" not in listed("pickscore")


def test_show_names_weights_scales_and_speed(monkeypatch, tmp_path):
    import huggingface_hub.constants as hub

    def shown():
        done = CliRunner().invoke(app, ["show", "pickscore"])
        assert done.exit_code == 0, done.exception
        return done.stdout

    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    assert "PickScore_v1, not on this machine: mmreward fetch pickscore" in shown()
    repository, revision, blob = tmp_path / "models--yuvalkirstain--PickScore_v1", "c" * 40, "ab" * 32
    (repository / "blobs").mkdir(parents=True)
    (repository / "blobs" / blob).write_bytes(b"x" * 1500)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    (repository / "snapshots" / revision).mkdir(parents=True)
    (repository / "snapshots" / revision / "model.safetensors").symlink_to(repository / "blobs" / blob)
    text = shown()
    assert f"PickScore_v1 at revision {revision}" in text
    assert f"model.safetensors  1.5 kB  sha256 {blob}" in text
    assert "size     986M parameters" in text
    assert "scale    pickscore/26: 0.0384615 times the value; flow_grpo" in text
    assert "yuvalkirstain/PickScore_v1: 1.5 kB" in listed("pickscore", "--weights")


def test_filters_choose_by_group_field_and_gradient():
    rules = names(listed("--group", "rules"))
    assert {"iou", "choice"} <= rules and not {"clipscore", "oracle"} & rules
    assert names(listed("--differentiable")) == {i.name for i in list_rewards() if i.differentiable}
    both = names(listed("--needs", "image", "--needs", "prompt", "--group", "learned"))
    assert "clipscore" in both and "saturation" not in both
    assert "checklist" in names(listed("--needs", "video")) and not names(listed("--needs", "video")) & rules
    assert names(listed("clip*")) == {"clip_i", "clipscore"}


def test_json_has_the_facts_of_the_registry():
    records = {record["name"]: record for record in json.loads(listed("--json"))}
    assert set(records) == {info.name for info in list_rewards()}
    clip = records["clipscore"]
    assert (
        clip["group"] == "pictures"
        and clip["room"] == "learned"
        and clip["range"] == [-1, 1]
        and clip["differentiable"] is True
    )
    assert clip["fields"] == ["image", "prompt"]
    assert "weights" in clip["arguments"] and clip["weights"] == ["openai/clip-vit-large-patch14"]
    assert records["pickscore"]["scales"] == ["pickscore/26"] and records["iou"]["speed"] == "no network"


def test_the_parity_of_a_scorer_is_that_of_the_page():
    said = CliRunner().invoke(app, ["show", "clipscore"]).stdout
    line = re.search(r"^parity +(.*)$", said, re.MULTILINE)[1]
    assert "apart from torchmetrics 1.9.0, transformers 5.24.0, open_clip 3.3.0, pyiqa 0.1.16; " in line
    assert line.startswith(f"{parities()['clipscore'].value:.1e} ")
    assert set(parities()) == {case.scorer for case in CASES}
    assert max(one.value for one in parities().values()) < 1e-4
    assert "parity" not in CliRunner().invoke(app, ["show", "iou"]).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--group", "rule"], "no group 'rule'; did you mean 'rules'"),
        (["--needs", "imag"], "no field of a sample 'imag'; did you mean 'image'"),
        (["clip*", "--group", "rules"], r"no reward matches 'clip\*' with these options"),
        (["zzz*"], r"no reward matches 'zzz\*'; `mmreward list` shows"),
    ],
)
def test_what_is_not_there_is_named(arguments, words):
    done = CliRunner().invoke(app, ["list", *arguments])
    assert isinstance(done.exception, ValueError) and re.search(words, str(done.exception))


LISTED = """
import sys
from mmreward.cli import app
try:
    app(["list", *sys.argv[1:]])
except SystemExit as end:
    assert not end.code, end.code
print("imported" if "mmreward.rewards" in sys.modules else "kept", file=sys.stderr)
"""


def test_the_second_list_is_the_first_without_importing_a_reward(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def ran(*arguments):
        command = [sys.executable, "-c", LISTED, *arguments]
        there = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=there)
        return done.stdout, done.stderr.split()[-1]

    first, how = ran()
    assert how == "imported" and first == listed()
    assert ran() == (first, "kept")
    text, how = ran("--json", "--needs", "image", "--differentiable")
    assert how == "kept" and text == listed("--json", "--needs", "image", "--differentiable")


@pytest.fixture
def making(monkeypatch, tmp_path):
    """A package of one file whose records are numbered as they are made."""
    made = []

    def one():
        made.append([{"name": f"number {len(made)}"}])
        return made[-1]

    (tmp_path / "package").mkdir()
    (tmp_path / "package/one.py").write_text("1")
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(index, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(index, "_made", one)
    monkeypatch.setattr(index, "only_own", lambda: True)
    (tmp_path / "parity.md").write_text("one")
    monkeypatch.setattr(index, "parity_page", lambda: tmp_path / "parity.md")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site-packages")])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda: int(index.records()[0]["name"].split()[1])


def test_kept_records_hold_until_a_file_changes(making, monkeypatch, tmp_path):
    assert [making(), making()] == [0, 0]
    changes = (
        lambda: (tmp_path / "package/one.py").write_text("12"),
        lambda: os.utime(tmp_path / "package/one.py", ns=(1, 1)),
        lambda: (tmp_path / "parity.md").write_text("another"),
        lambda: monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch")),
        lambda: ((tmp_path / "package/room").mkdir(), (tmp_path / "package/room/two.py").write_text("")),
        (tmp_path / "package/room/two.py").unlink,
        (tmp_path / "site-packages/other-1.0.dist-info").mkdir,
    )
    for number, change in enumerate(changes, start=1):
        change()
        assert [making(), making()] == [number, number]
    (tmp_path / "package/__pycache__").mkdir()
    (tmp_path / "package/README.md").write_text("words")
    assert making() == len(changes)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"state": "another", "records": []}', "\xff"])
def test_an_index_that_is_damaged_is_made_anew(making, tmp_path, text):
    making()
    [place] = (tmp_path / "cache/mmreward").iterdir()
    place.write_bytes(text.encode("latin-1"))
    assert [making(), making()] == [1, 1]


def test_of_many_copies_of_the_package_the_newest_keep_theirs(making, tmp_path):
    (tmp_path / "cache/mmreward").mkdir(parents=True)
    for number in range(index.COPIES + 2):
        (tmp_path / f"cache/mmreward/rewards-{number}.json").write_text("{}")
        os.utime(tmp_path / f"cache/mmreward/rewards-{number}.json", (number, number))
    (tmp_path / "cache/mmreward/published").mkdir()
    assert [making(), making()] == [0, 0]
    left = {path.name for path in (tmp_path / "cache/mmreward").iterdir()}
    assert len(left) == index.COPIES + 1 and "published" in left and "rewards-2.json" not in left


def test_without_a_cache_or_beside_other_packages_nothing_is_kept(making, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("no folder")
    assert [making(), making()] == [0, 1]
    (tmp_path / "cache").unlink()
    monkeypatch.setattr(index, "only_own", lambda: False)
    assert [making(), making()] == [2, 3] and not (tmp_path / "cache").exists()
