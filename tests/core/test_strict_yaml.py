"""YAML that would take the machine, or say something else than it seems to, is refused with its place."""

import time

import pytest
from support.pace import allowed

from mmreward.config import load_config
from mmreward.limits import Limits
from mmreward.strict_yaml import parse_yaml, read_yaml

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "with what aliases repeat"),
        ("a: &a {x: *a}", "an alias inside of what it stands for"),
        ("[" * 100_000, f"more than {Limits().config_depth} levels"),
        ("".join(" " * i + "a:\n" for i in range(2000)), f"more than {Limits().config_depth} levels"),
        ("rewards: {iou: {}}\nrewards: {math: {}}", "the key 'rewards' is given twice"),
        ("rewards:\n  iou: {threshold: 0.5, threshold: 0.9}", "line 2, column 25"),
        ("rewards:\n  iou: {true: 1}", "the key true is read as a truth value"),
        ("rewards: {iou: {}}\noff: 1", "write it in quotes, 'off'"),
        ("rewards: {~: {}}", "the key ~ is read as no value"),
        ("rewards: {? : {}}", "the key of nothing is read as no value"),
        ("a: 2024-13-45", "month"),
        ("a: " + "1" * 5000, "digits"),
        ("? [a, {b: c}]\n: 1", "unhashable"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: \x00", "not YAML"),
        ("a: [", "not YAML"),
    ],
)
def test_yaml_that_is_refused(text, told, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    begun = time.perf_counter()
    with pytest.raises(ValueError, match=r"run\.yaml is not YAML") as error:
        load_config(path)
    assert told in str(error.value) and len(str(error.value)) < 2000
    assert time.perf_counter() - begun < allowed(2, time.perf_counter)


def test_anchors_and_merged_keys_are_read_as_ever():
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: *b\nthree: {<<: *b, y: 4}"
    read = parse_yaml(text)
    assert read["one"] == {"x": 1, "y": 3} and read["three"]["y"] == 4 and read["two"] == {"x": 1, "y": 2}


def test_words_in_quotes_and_truth_values_elsewhere_are_read():
    assert parse_yaml("'true': yes\n1: {\"on\": off, '': ~}") == {"true": True, 1: {"on": False, "": None}}


def test_what_is_no_file_is_said(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    (tmp_path / "big.yaml").write_text("#" * (5 << 20))
    wrong = {".": "no file", "none.yaml": "no config at", "latin.yaml": "utf-8", "big.yaml": "bytes"}
    for name, told in wrong.items():
        with pytest.raises(ValueError, match=told):
            read_yaml(tmp_path / name)
