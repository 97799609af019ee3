"""Reward code: what it computes, and that it can do nothing else."""

import numpy as np
import pytest

from mmreward import Media, Sample, load
from mmreward.data.rows import rows_of
from mmreward.isolation.confined import LONGEST
from mmreward.rewards.robot.code import pixels_of
from mmreward.trust import of_row

STEPS = (
    {"state": {"x": 0.0, "goal": [3.0, 4.0]}, "action": [1, 0], "time": 0.0},
    {"state": {"x": 1.5, "goal": [3.0, 4.0]}, "action": [0, 1], "time": 0.1},
    {"state": {"x": 3.0, "goal": [3.0, 4.0]}, "action": np.array([0, 0]), "time": 0.2},
)
NEAR = """
def away(state):
    return math.hypot(state["goal"][0] - state["x"], 0.0)

def reward(steps, task):
    found = [0.0]
    for before, after in zip(steps[:-1], steps[1:]):
        found.append(away(before["state"]) - away(after["state"]))
    return found
"""


@pytest.fixture(scope="module")
def engine():
    from mmreward import Engine

    with Engine("cpu") as engine:
        yield engine


@pytest.fixture
def scored(engine, tmp_path):
    def score(source, sample=None, **given):
        file = tmp_path / "reward.py"
        file.write_text(source)
        sample = sample or Sample(prompt="go there", steps=STEPS)
        (found,) = engine.score([sample], load("code", file=str(file), **given))["code"]
        return found

    return score


def body(line):
    return f"def reward(steps, task):\n    {line}\n"


def test_it_computes_numbers_of_the_steps(scored):
    score = scored(NEAR)
    assert score.value == 3.0 and [score.parts[f"frame_{n}"] for n in range(3)] == [0.0, 1.5, 1.5]
    assert scored(body("return len(steps) + len(task)")).value == 11
    assert scored(body("return steps[2]['action'] == [0, 0] and 2 or 1")).value == 2


def test_pictures_are_shown_small(engine, scored, tmp_path):
    red = np.zeros((40, 60, 3), np.uint8)
    red[:20] = [200, 0, 0]
    assert pixels_of(Media(red), 2) == [[[200, 0, 0]] * 2, [[0, 0, 0]] * 2]
    source = body("return [sum(p[0] for row in step['pixels'] for p in row) for step in steps]")
    clip = Sample(video=Media(np.stack([red, red * 0]), "video", fps=1.0))
    score = scored(source, clip, side=2)
    assert score.value == 400 and (score.parts["frame_0"], score.parts["frame_1"]) == (400, 0)
    seen = tuple({**step, "observation": Media(red)} for step in STEPS)
    both = body("return [s['time'] + s['pixels'][0][0][0] for s in steps]")
    assert scored(both, Sample(steps=seen), side=2, frames="last").value == pytest.approx(200.2)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("import os", "line 2: imports are refused; math is there"),
        ("from os import path", "imports are refused"),
        ("return __import__('os')", "'__import__' is refused"),
        ("return ().__class__.__bases__[0].__subclasses__()", "is refused"),
        ("return '{0.__class__}'.format(steps)", "'format' is refused"),
        ("return (x for x in steps).gi_frame.f_globals", "is refused"),
        ("yield 1", "Yield is refused"),
        ("global y", "Global is refused"),
        ("with steps: pass", "With is refused"),
        ("class A: pass", "ClassDef is refused"),
        ("return lambda __x: 1", "'__x' is refused"),
        ("match steps:\n        case _: return 1", "Match is refused"),
        ("return (", "no Python"),
        ("del steps", "Delete is refused"),
        ("pass\ndef reward(*steps): pass", "takes 2 arguments"),
        ("#" + "x" * LONGEST, "characters"),
    ],
)
def test_code_that_could_do_more_is_refused_when_it_is_loaded(tmp_path, line, words):
    file = tmp_path / "reward.py"
    file.write_text(body(line))
    with pytest.raises(ValueError, match=words):
        load("code", file=str(file))


def test_code_without_the_function_or_no_file_is_refused(tmp_path):
    (tmp_path / "other.py").write_text("def rewards(steps, task): return 1")
    with pytest.raises(ValueError, match="no function 'reward'"):
        load("code", file=str(tmp_path / "other.py"))
    with pytest.raises(ValueError, match="no reward code at"):
        load("code", file=str(tmp_path / "nothing.py"))
    (tmp_path / "bytes.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        load("code", file=str(tmp_path / "bytes.py"))


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("return open('/etc/passwd')", "error", "NameError"),
        ("return eval('1')", "error", "NameError"),
        ("return getattr(steps, 'x')", "error", "NameError"),
        ("return 'a' * 10**12", "error", "more memory"),
        ("return [0] * 10**11", "error", "more memory"),
        ("return reward(steps, task)", "error", "too deeply"),
        ("return steps[99]", "error", "line 2: IndexError"),
        ("return 1 / 0", "error", "ZeroDivisionError"),
        ("return 'high'", "unparsable", "returned str"),
        ("return True", "unparsable", "returned true or false"),
        ("return None", "unparsable", "returned NoneType"),
        ("return [1.0]", "unparsable", "1 numbers for 3 steps"),
        ("return [1, 'a', 2]", "unparsable", "something else than numbers"),
        ("return math.inf", "error", "no finite number"),
        ("return 10**400", "unparsable", "not finite"),
        ("return {1, 2}", "error", "no JSON"),
        ("return len", "error", "no JSON"),
    ],
)
def test_what_goes_wrong_is_that_rows_failure_with_its_reason(scored, line, status, words):
    score = scored(body(line))
    assert (score.ok, score.status) == (False, status) and words in score.note


@pytest.mark.parametrize("line", ["while True: pass", "return 10**10**10", "return sum(range(10**12))"])
def test_code_that_never_ends_is_ended_and_the_next_row_is_scored(scored, line):
    score = scored(body(line), seconds=0.3)
    assert score.status == "timeout" and "0.3 s" in score.note
    assert scored(NEAR).value == 3.0


def test_one_bad_row_costs_no_other(engine, tmp_path):
    (tmp_path / "reward.py").write_text(body("return 1 / steps[0]['state']"))
    samples = [Sample(id=str(n), steps=({"state": n},)) for n in (1, 0, 2)]
    scores = engine.score(samples, load("code", file=str(tmp_path / "reward.py")))["code"]
    assert [score.ok for score in scores] == [True, False, True] and scores[2].value == 0.5


def test_the_audit_hook_holds_where_the_other_fences_would_not():
    """The check is left out, and a built-in is handed in that the lists do not have."""
    import subprocess
    import sys

    told = (
        "from mmreward.isolation import confined as c\n"
        "c.check = lambda *_: None; c.NAMESPACE['open'] = open; c.NAMESPACE['__import__'] = __import__\n"
        "import sys, os; sys.argv = ['', str(os.dup(0))]\n"
        "for line in ('open(\"/etc/passwd\")', '__import__(\"socket\").socket()'):\n"
        "    job = {'source': f'def reward(s, t): return {line}', 'name': 'reward', 'arguments': [[], '']}\n"
        "    print(c.run(job))\n"
    )
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    first, second = found.stdout.strip().splitlines()
    assert "reached for the system (open)" in first and "reached for the system" in second


def test_a_row_of_data_brings_no_code(tmp_path):
    with pytest.raises(ValueError, match="no reward named 'code' that a row may name"):
        of_row({"code": {"file": "x.py"}}, {})
    with pytest.raises(ValueError, match="without arguments of its own"):
        of_row({"code": {"file": "x.py"}}, {"code": [{"file": "mine.py"}]})
    (row,) = rows_of([{"id": "1", "prompt": "x", "steps": [{"thought": "def reward(): pass"}]}], tmp_path)
    assert row.sample is not None


def test_other_code_is_another_reward(tmp_path):
    file = tmp_path / "reward.py"
    file.write_text(body("return 1"))
    first = load("code", file=str(file)).fingerprint
    file.write_text(body("return 2"))
    assert load("code", file=str(file)).fingerprint != first


@pytest.mark.parametrize(
    ("given", "words"),
    [({"side": 500}, "side is 500"), ({"seconds": 0.0}, "seconds is 0"), ({"memory": 8}, "8 MiB")],
)
def test_arguments_are_checked(tmp_path, given, words):
    (tmp_path / "reward.py").write_text(NEAR)
    with pytest.raises(ValueError, match=words):
        load("code", file=str(tmp_path / "reward.py"), **given)
