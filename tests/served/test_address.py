"""How a served model is named, and what its name refuses."""

import subprocess
import sys

import pytest

from mmreward import load, models
from mmreward.models.served.address import parse_address

NAME = "Qwen/Qwen3-VL-8B-Instruct@http://localhost:8000/v1"


def test_a_name_with_every_setting(monkeypatch):
    monkeypatch.setenv("JUDGE", "sk-1")
    address = parse_address(f"{NAME}/?key=JUDGE&deadline=2.5&concurrency=7")
    assert (address.model, address.url) == ("Qwen/Qwen3-VL-8B-Instruct", "http://localhost:8000/v1")
    assert (address.key, address.secret, address.deadline, address.concurrency) == ("JUDGE", "sk-1", 2.5, 7)
    assert address.root == "http://localhost:8000" and address.name == NAME


def test_the_usual_key_is_taken_when_it_is_set(monkeypatch):
    assert parse_address(NAME).secret == ""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-2")
    assert parse_address(NAME).secret == "sk-2"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("@http://localhost/v1", "MODEL@http"),
        ("judge@http:///v1", "MODEL@http"),
        ("judge@httpx://host/v1", "MODEL@http"),
        ("judge@http://host:port/v1", "cannot be read"),
        ("judge@http://me:hunter2@host/v1", "credentials"),
        ("judge@http://host/v1#here", "fragment"),
        (f"{NAME}?dead_line=3", "did you mean 'deadline'"),
        (f"{NAME}?temperature=3", "no setting 'temperature'"),
        (f"{NAME}?deadline=", "no value"),
        (f"{NAME}?deadline=3&deadline=4", "twice"),
        (f"{NAME}?deadline=0", "deadline=0"),
        (f"{NAME}?deadline=inf", "deadline=inf"),
        (f"{NAME}?deadline=soon", "deadline=soon"),
        (f"{NAME}?concurrency=2.5", "concurrency=2.5"),
        (f"{NAME}?concurrency=-1", "concurrency=-1"),
        (f"{NAME}?key=hunter2", "environment variable"),
        (f"{NAME}?api_key=hunter2", "no setting 'api_key'"),
    ],
)
def test_a_name_that_is_wrong_says_how(name, message):
    with pytest.raises(ValueError, match=message) as refused:
        models.vlm(name)
    assert "hunter2" not in str(refused.value)


def test_a_key_no_header_can_carry_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv("JUDGE", "sk-3\n")
    with pytest.raises(ValueError, match="JUDGE") as refused:
        models.vlm(f"{NAME}?key=JUDGE")
    assert "sk-3" not in str(refused.value)


def test_the_server_decides_the_dtype():
    assert models.vlm(NAME) is models.vlm(NAME, dtype="float32")
    with pytest.raises(ValueError, match="the server decides"):
        models.vlm(NAME, dtype="bfloat16")
    with pytest.raises(ValueError, match="max_pixels"):
        models.vlm(NAME, min_pixels=10, max_pixels=9)


def test_the_fingerprint_names_what_changes_numbers_and_nothing_else(monkeypatch):
    monkeypatch.setenv("JUDGE", "sk-1")
    usual = models.vlm(NAME).fingerprint
    assert models.vlm(f"{NAME}?key=JUDGE&deadline=9&concurrency=2").fingerprint == usual
    others = [
        models.vlm(f"other@{NAME.partition('@')[2]}"),
        models.vlm(NAME.replace("8000", "8001")),
        models.vlm(NAME, max_pixels=100),
        models.vlm(NAME, min_pixels=100),
    ]
    assert len({usual, *(other.fingerprint for other in others)}) == 5


def test_a_reward_on_a_served_judge_has_it_in_its_fingerprint():
    reward = load("checklist", judge=NAME)
    assert [network.name for network in reward.networks] == [NAME]
    assert reward.fingerprint != load("checklist", judge=NAME.replace("8000", "8001")).fingerprint


def test_naming_a_served_model_imports_no_torch():
    code = f"import sys, mmreward; mmreward.load('checklist', judge='{NAME}'); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
