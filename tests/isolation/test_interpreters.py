"""Interpreters that are there, are not, lack something or speak another language; and that scores are the
same in them."""

import dataclasses
import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from support.miniature import CASES, draw_scenes, samples_for
from support.processes import children, descriptors, eventually, threads

import mmreward
from mmreward import Media, Sample, load
from mmreward.isolation import child
from mmreward.loading import resolve

PACKAGE = Path(__file__).parent / "only_there.py"
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def mini(python):
    """A child in which the miniature's rewards share their weights."""
    kept = load("oracle", python=python)
    yield python
    kept.close()


@pytest.mark.parametrize(("name", "args"), CASES)
def test_scores_are_the_same_there_and_here(engine, mini, name, args):
    here, there = load(name, **args), load(name, python=mini, **args)
    try:
        assert there.fingerprint == here.fingerprint
        assert there.info == dataclasses.replace(here.info, differentiable=False)
        samples = samples_for(name, draw_scenes())
        expected, got = engine.score(samples, here)[name], engine.score(samples, there)[name]
        assert any(score.ok for score in expected)
        # Where in memory a batch lies decides the rounding: 1e-5 is the bar of published scorers. Of scores
        # up to a hundred it is 1e-6 of the value, some units in the last place of float32.
        near = {"abs": 1e-5, "rel": 1e-6}
        for one, other in zip(expected, got, strict=True):
            assert (other.status, other.note) == (one.status, one.note)
            assert other.value == pytest.approx(one.value, **near, nan_ok=True)
            assert other.parts == pytest.approx(one.parts, **near, nan_ok=True)
    finally:
        there.close()


def test_every_form_of_a_picture_arrives_as_it_is(engine, mini, tmp_path, png):
    import numpy as np
    import torch
    from PIL import Image

    (tmp_path / "a.png").write_bytes(png)
    (tmp_path / "torn.png").write_bytes(png[:40])
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    forms = [tmp_path / "a.png", tmp_path / "torn.png", tmp_path / "absent.png", png, pixels, pixels / 255.0]
    forms += [
        Image.fromarray(pixels),
        tensor,
        tensor.float() / 255,
        tensor.bfloat16() / 255,
        pixels[:, :, :2],
    ]
    samples = [Sample(prompt="a red circle", image=Media(form)) for form in forms]
    args = {"weights": "mini-clip"}
    with_python = load("clipscore", python=mini, **args)
    here, there = (
        engine.score(samples, one)["clipscore"] for one in (load("clipscore", **args), with_python)
    )
    assert [score.status for score in there] == [score.status for score in here]
    assert [score.value for score in there] == pytest.approx([s.value for s in here], abs=1e-6, nan_ok=True)
    assert [score.ok for score in there] == [True, False, False, *[True] * 7, False]
    with pytest.raises(ValueError, match="gradients do not cross"):
        with_python.score_tensor(tensor[None] / 255, ["a red circle"])
    assert not with_python.info.differentiable


def test_the_key_python_names_the_interpreter_and_columns_still_work(engine, python):
    given = {"mine": {"reward": "echo", "python": python, "value": 1.0, "columns": {"target": "gold"}}}
    rewards = resolve(given)
    (score,) = engine.score([Sample(meta={"gold": 3})], rewards)["mine"]
    assert score.value == 1.0 and "('', 3, {'gold': 3})" in score.note
    assert resolve({"oracle": {"python": None}})["oracle"].release == ""
    rewards["mine"].close()


# --- a virtual environment --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment with our packages and one more; `bare` has nothing."""
    folder = tmp_path_factory.mktemp("environments")
    for name in ("whole", "bare"):
        venv.create(folder / name, symlinks=True)
    packages = next((folder / "whole").glob("lib/python*/site-packages"))
    ours = [sysconfig.get_paths()["purelib"], str(Path(mmreward.__file__).parents[1])]
    (packages / "ours.pth").write_text(f"import site; site.addsitedir({ours[0]!r})\n{ours[1]}\n")
    (packages / "only_there.py").write_text(PACKAGE.read_text())
    info = packages / "only_there-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: only-there\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mmreward.rewards]\necho = only_there:echo\n")
    return folder


def test_a_reward_of_another_environment_is_scored_from_a_config(environment, tmp_path):
    there = environment / "whole/bin/python"
    (tmp_path / "run.yaml").write_text(f"rewards:\n  mine: {{reward: echo, python: {there}, value: 0.75}}\n")
    (tmp_path / "data.jsonl").write_text('{"id": "a", "prompt": "x"}\n{"id": "b", "prompt": "y"}\n')
    command = ["score", "data.jsonl", "--config", "run.yaml", "--out", "scores.jsonl"]
    (tmp_path / "mmreward").mkdir()
    (tmp_path / "mmreward/__init__.py").write_text("raise ImportError('where we stand is not the package')")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mmreward.cli", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [(row["id"], row["value"]) for row in rows] == [("a", 0.75), ("b", 0.75)]


def test_our_import_path_is_not_the_childs(engine, environment, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise ImportError('not yours')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    reward = load("echo", python=str(environment / "whole/bin/python"))
    assert engine.score([Sample()], reward)["echo"][0].ok
    reward.close()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("bare/bin/python", "No module named 'mmreward'"),
        ("none/bin/python", "there is no program"),
        ("/bin/true", "could not be started, 3 times: it ended before it was ready"),
    ],
)
def test_an_interpreter_that_cannot_do_it_says_why(environment, path, reason):
    before = children(), threads(), descriptors()
    with pytest.raises(ValueError, match=reason):
        load("echo", python=str(environment / path))
    assert eventually(lambda: (children(), threads(), descriptors()) == before)


@pytest.mark.parametrize(
    ("name", "args", "reason"),
    [
        ("ecko", {}, "no reward named 'ecko': did you mean 'echo'"),
        ("echo", {"valu": 1}, "echo has no argument 'valu': did you mean 'value'"),
        ("echo", {"value": "much"}, "echo: value is 'much': Input should be"),
        ("echo", {"value": object()}, "argument value holds object, which cannot be sent"),
        ("clipscore", {"weights": "mini-clap"}, "no miniature named 'mini-clap'"),
    ],
)
def test_a_reward_that_cannot_be_loaded_there_says_why(mini, name, args, reason):
    with pytest.raises(ValueError, match=f"{name} in {sys.executable}: .*{reason}"):
        load(name, python=mini, **args)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "path: Field required"),
        ({"path": "p", "devise": "cpu"}, "unknown key 'devise': did you mean 'device'"),
        ({"path": "p", "items": 0}, "items"),
        (3, "python: "),
    ],
)
def test_a_mistake_in_the_interpreters_options_is_named(given, reason):
    with pytest.raises(ValueError, match=reason):
        load("echo", python=given)


HELLO = """#!{python}
import json, os, sys, time
fd, said = int(sys.argv[4]), {said!r}
os.write(fd, said)
{then}
"""


def impostor(tmp_path, said, then="time.sleep(60)"):
    """A program that takes the place of an interpreter and sends these bytes."""
    program = tmp_path / "python"
    program.write_text(HELLO.format(python=sys.executable, said=said, then=then))
    program.chmod(0o755)
    return str(program)


def hello(protocol):
    from mmreward.isolation.protocol import Message, pack

    return pack(Message({"hello": {"protocol": protocol, "mmreward": "9.9"}}, []))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (hello(2), "mmreward 9.9 there speaks protocol 2, not 1"),
        (b"Welcome to my shell!\n", "a message begins with b'MMR1'"),
        (b"MMR1" + b"\xff" * 12, "a header of 4294967295 bytes; the limit"),
        (hello(1)[:-3], "the stream ended inside a message"),
        (b"", "it ended before it was ready"),
    ],
)
def test_one_that_speaks_another_language_is_refused(tmp_path, said, reason):
    then = "" if "ended" in reason else "time.sleep(60)"
    with pytest.raises(ValueError, match=reason):
        load("echo", python=impostor(tmp_path, said, then))


def test_one_that_says_nothing_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "START", 0.2)
    monkeypatch.setattr("mmreward.isolation.child.LAST_WORDS", 0.1)
    with pytest.raises(ValueError, match="it took too long"):
        load("echo", python=impostor(tmp_path, b""))


def test_one_that_garbles_its_replies_is_given_up(tmp_path):
    then = "time.sleep(0.1); os.write(fd, b'MMR1' + b'garbage' * 9); time.sleep(60)"
    with pytest.raises(ValueError, match="died of this request, 2 times: a header of"):
        load("echo", python=impostor(tmp_path, hello(1), then))


def test_variables_of_an_environment_are_shown_nowhere(capsys):
    """Neither by a mistake in them nor by the description of a route, which results store."""
    from mmreward.data import routing

    with pytest.raises(ValueError, match=r"python: env\.TOKEN: ") as error:
        load("iou", python={"path": sys.executable, "env": {"TOKEN": 123456789}})
    assert "123456789" not in str(error.value)
    route = {"rewards": {"iou": {"python": {"path": sys.executable, "env": {"API_KEY": "sk-hidden-1"}}}}}
    router = routing.Router({"a": route})
    assert "sk-hidden-1" not in str(router.reward.args) and "API_KEY" in str(router.reward.args)
    for loaded in router.route(Sample(source="a")).rewards.values():
        loaded.close()
