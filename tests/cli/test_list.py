"""`mmreward list`: groups, filters, JSON."""

import json
import re

import pytest
from typer.testing import CliRunner

from mmreward import list_rewards
from mmreward.cli import app
from mmreward.cli.catalogue import GROUPS


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


def test_each_reward_has_its_licence_direction_and_speed():
    text = listed("pickscore")
    assert "a pass of an encoder  MIT (yuvalkirstain/PickScore_v1)" in text
    assert "no network" in listed("iou") and "a VLM" in listed("checklist")
    assert "[0, 2]  lower is better" in listed("dreamsim")
    assert "a small network on the CPU" in listed("nsfw")


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
    assert "weights" in clip["arguments"] and clip["weights"] == ["openai/clip-vit-large-patch14"]
    assert records["pickscore"]["scales"] == ["pickscore/26"] and records["iou"]["speed"] == "no network"


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
