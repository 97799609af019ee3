"""`mmreward list`: groups, filters, JSON."""

import json
import re

import pytest
from typer.testing import CliRunner

from mmreward import list_rewards
from mmreward.cli import app


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
    assert headings == sorted(headings) and {"learned", "judged", "rules", "oracle"} <= set(headings)


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
    assert clip["group"] == "learned" and clip["range"] == [-1, 1] and clip["differentiable"] is True
    assert "weights" in clip["arguments"]


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
