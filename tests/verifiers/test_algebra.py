"""The rewards `math` and `answer` whole: algebra in its workers, deadlines, bad data, and what peers pay."""

import asyncio
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from support.pace import allowed

from mmreward import Engine, Sample, load
from mmreward.isolation.killable import Killable
from mmreward.verifiers import algebra as algebra_module
from mmreward.verifiers import algebra_worker
from mmreward.verifiers.algebra import Algebra, shared
from mmreward.verifiers.math import Open

HANGS = r"\int_0^{1} \frac{\sin(x^{7}+\log(x+3))^{31}}{\sqrt{x^{5}+e^{x}}} dx"
"""Passes every guard, and keeps sympy busy for minutes."""


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def score(engine, target, answer, reward="math", **args):
    sample = Sample(prompt="?", response=f"<think>hm</think><answer>{answer}</answer>", target=target)
    return engine.score([sample], load(reward, **{"deadline": 30.0, "workers": 1, **args}))[reward][0]


@pytest.mark.parametrize(
    ("target", "answer", "value"),
    [
        ("x^2+2x+1", "(x+1)^2", 1),
        ("x^2+2x+1", "(x-1)^2", 0),
        (r"2\sqrt{3}\text{ cm}", r"\sqrt{12}", 1),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1 & \frac42\\3 & 4\end{bmatrix}", 1),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", 0),
        ("[0,1)", r"[0,\frac{2}{2})", 1),
        ("[0,1)", "[0,1]", 0),
        ("(0,1)", "(1,0)", 0),
        (r"\{1,2\}", r"\{2,1\}", 1),
        (r"\{1,2\}", r"\{1,2,3\}", 0),
        ("x=1 or x=2", r"2, 1", 1),
        ("x>3", "3<x", 1),
        ("x>3", "x<3", 0),
        (r"\Delta+1", r"1+\Delta", 1),
        (r"\Delta+1", r"1+\delta", 0),
        ("A-a", "0", 0),
        ("2^{2023}", r"2\cdot 2^{2022}", 1),
        ("2^{2023}", "2^{2023}+1", 0),
        ("50%", r"\sqrt{0.25}", 1),
        ("10", "5,5", 0),
        ("3m", "3", 0),
        ("3", "3m", 0),
        ("(0,1)", r"x \in (0,1)", 1),
        ("0, 1", "(1, 0)", 1),
    ],
)
def test_what_algebra_decides(engine, target, answer, value):
    found = score(engine, target, answer)
    assert (found.value, found.parts["parsed"]) == (value, 1), found
    assert set(found.parts) == {"parsed", "exact", "numeric", "symbolic"}


def test_a_hang_is_a_timeout_and_never_a_mark(engine):
    shared(1).read("1", 60).result(120)  # a cold start is not what is timed
    begun = time.monotonic()
    found = score(engine, "5", HANGS, deadline=0.5)
    assert time.monotonic() - begun < allowed(3, time.monotonic)
    assert found.status == "timeout" and "0.5 s" in found.note
    assert score(engine, "6", HANGS, deadline=0.5, exceeded="wrong").value == 0
    assert score(engine, "x+1", "1+x").value == 1


def test_hard_answers_that_were_given_up_keep_no_worker(engine):
    shared(1).read("1", 60).result(120)
    reward = load("math", deadline=30.0, workers=1)
    hard = [f"<answer>{HANGS.replace('31', str(31 + i))}</answer>" for i in range(20)]
    rows = [Sample(prompt="?", response=f"<think>hm</think>{one}", target="5") for one in hard]
    given_up = engine.score(rows, reward, timeout=0.5)["math"]
    assert {one.status for one in given_up} == {"timeout"}
    begun = time.monotonic()
    assert score(engine, "x+1", "1+x").value == 1
    assert time.monotonic() - begun < allowed(20, time.monotonic), "it waited for what nobody waits for"


def test_a_truth_that_some_give_up_is_read_for_the_others(engine, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    slow = Algebra(1)
    slow.workers = Killable("support.killable_worker", workers=1)

    async def read():
        hasty = [asyncio.create_task(slow.readable("1", 2.0)) for _ in range(3)]
        await asyncio.sleep(0.3)
        for one in hasty[:2]:
            one.cancel()
        with pytest.raises(TimeoutError):  # its own deadline
            await hasty[2]
        late = asyncio.create_task(slow.readable("2", 100.0))
        await asyncio.sleep(0.3)
        late.cancel()
        await asyncio.wait([late])
        return await asyncio.wrap_future(slow.workers.submit({"n": 1}, 5))

    assert asyncio.run(read())["n"] == 1
    slow.workers.close()


def test_a_target_that_hangs_is_a_fault_of_the_data_found_once(engine, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    hanging = Algebra(1)
    hanging.workers = Killable("support.killable_worker", workers=1)
    monkeypatch.setattr(algebra_module, "shared", lambda workers: hanging)
    first = score(engine, "x+1", "x+2", deadline=0.5)
    assert first.status == "error" and "target" in first.note
    asked = []
    submit = hanging.workers.submit
    monkeypatch.setattr(hanging.workers, "submit", lambda *job: asked.append(job) or submit(*job))
    later = [score(engine, "x+1", f"x+{n}", deadline=0.5) for n in range(3, 8)]
    assert not asked
    assert {one.status for one in later} == {"error"}
    hanging.workers.close()


def test_a_target_that_cannot_be_parsed_is_a_fault_of_the_data(engine):
    found = score(engine, r"\frac{1}{", "5")
    assert found.status == "error" and "target" in found.note
    found = score(engine, r"1 +\lor 2", "5")
    assert found.status == "error" and "cannot be read" in found.note


def test_an_answer_that_cannot_be_parsed_is_wrong(engine):
    found = score(engine, "5", r"5 \lor 6")
    assert (found.value, found.parts["parsed"]) == (0, 0)


def test_a_hundred_answers_at_once(engine):
    reward = load("math", workers=2, deadline=60.0)
    samples = [
        Sample(prompt="?", response=f"<answer>{n}+x</answer>", target=f"x+{n % 2 * n}") for n in range(1, 101)
    ]
    values = [found.value for found in engine.score(samples, reward)["math"]]
    assert values == [n % 2 for n in range(1, 101)]
    asked = asyncio.run(engine.ascore(samples[:10], reward))["math"]
    assert [found.value for found in asked] == values[:10]


def test_without_math_verify_the_extra_is_named(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(algebra_module, "version", missing)
    with pytest.raises(ValueError, match=r"mmreward\[math\]"):
        load("math")
    load("answer")
    with pytest.raises(ValueError, match=r"mmreward\[math\]"):
        load("answer", kind="math")


def test_the_release_of_math_verify_is_part_of_the_fingerprint(monkeypatch):
    before = load("math").fingerprint
    monkeypatch.setattr(algebra_module, "version", lambda name: "0.0")
    assert load("math").fingerprint != before


@pytest.mark.parametrize("args", [{"deadline": 0}, {"workers": -1}, {"tolerance": 2}, {"exceeded": "right"}])
def test_bad_arguments_are_refused(args):
    with pytest.raises(ValueError, match=next(iter(args))):
        load("math", **args)


@pytest.mark.parametrize(
    ("target", "answer", "value", "part"),
    [
        ({"answer": "0.54 m", "kind": "number"}, "54 cm", 1, "number"),
        ({"answer": "USA", "aliases": ["United States"]}, "united states", 1, "text"),
        ({"answer": [3, 1, 2], "kind": None}, "3, 1, 2", 1, "items"),
        ("x^2-1", "(x-1)(x+1)", 1, "math"),
        ("x^2-1", "(x-1)^2", 0, "math"),
        ("red", r"\boxed{Red}", 1, "text"),
        ("red", "blue", 0, "text"),
    ],
)
def test_an_answer_is_compared_as_its_target_asks(engine, target, answer, value, part):
    found = score(engine, target, answer, "answer")
    assert (found.value, found.parts[part]) == (value, value), found
    assert set(found.parts) == {"parsed", "text", "number", "math", "items"}


@pytest.mark.parametrize(
    "target", [{"kind": "text"}, {"answer": "5", "tolerance": 1}, {"answer": "five", "kind": "number"}]
)
def test_a_row_with_a_bad_target_fails_and_says_why(engine, target):
    found = score(engine, target, "5", "answer")
    assert found.status == "error" and "target" in found.note


# --- what peers pay for, see test_attack_vectors ----------------------------------------------------


@pytest.mark.parametrize("answer", ["", r"\frac{", "7"])
def test_what_cannot_be_read_is_wrong_and_a_target_like_that_is_an_error(engine, answer):
    assert score(engine, "5", answer).value == 0
    assert score(engine, r"\frac{", answer or "7").status == "error"


@pytest.mark.parametrize(
    "answer", [r"9^{9^{9^9}}", r"\boxed{9^{9^{9^9}}}", "10^10^10", "((3!)!)!", "(" * 3000 + ")" * 3000]
)
def test_towers_are_told_from_their_text(engine, answer):
    """Not by a deadline, which would be a failure and no mark."""
    begun = time.monotonic()
    found = score(engine, "5", answer)
    assert time.monotonic() - begun < allowed(1, time.monotonic)
    assert (found.value, found.parts["parsed"]) == (0, 0)


def test_the_truth_comes_first(engine):
    """verify(gold, answer) is not symmetric: x > 3 as the truth accepts the interval, not the reverse."""
    compare = algebra_worker.compare
    assert compare({"gold": "x>3", "answer": r"(3,\infty)"}) == "equal"
    assert compare({"gold": r"(3,\infty)", "answer": "x>3"}) == "different"
    assert score(engine, "x>3", r"(3,\infty)").value == 1
    assert shared(1).compare(Open("x>3", r"(3,\infty)"), 30).result(60) == "equal"
