"""From samples to scores: order, pairs and groups, refusals and failures, each in its own row."""

import math

import numpy as np
import pytest
from support.toys import toy

from mmreward import Media, Sample, Score, Unscorable


async def length(sample):
    return Score(len(sample.prompt) / 100)


def group(*ids, name="g"):
    return [Sample(id=i, prompt=i, group=name) for i in ids]


def statuses(scores):
    return [score.status for score in scores]


# --- one sample at a time -------------------------------------------------------------------------


def test_scores_come_back_in_order_for_every_reward(engine):
    async def reverse(sample):
        return Score(1 - len(sample.prompt) / 100)

    samples = [Sample(prompt="x" * n) for n in range(50)]
    scores = engine.score(samples, {"a": toy(length, "a"), "b": toy(reverse, "b")})
    assert list(scores) == ["a", "b"]
    assert [s.value for s in scores["a"]] == [n / 100 for n in range(50)]
    assert [s.value for s in scores["b"]] == [1 - n / 100 for n in range(50)]


def test_no_samples_give_empty_columns(engine):
    assert engine.score([], toy(length)) == {"toy": []}


def test_progress_hears_of_every_score_once(engine):
    heard = []
    samples = [Sample(prompt="x")] * 5
    scores = engine.score(samples, toy(length), progress=lambda *news: heard.append(news))
    assert sorted(heard, key=lambda news: news[0]) == [(i, "toy", s) for i, s in enumerate(scores["toy"])]


@pytest.mark.parametrize(
    ("error", "status", "note"),
    [
        (Unscorable("mumbled", "unparsable", {"mass": 0.1}), "unparsable", "mumbled"),
        (Unscorable("why"), "error", "why"),
        (ZeroDivisionError("oops"), "error", "ZeroDivisionError: oops"),
        (TimeoutError("the judge is slow"), "timeout", "the judge is slow"),
        (StopIteration("odd"), "error", "StopIteration"),
        (SystemExit("enough"), "error", "SystemExit: enough"),
        (ExceptionGroup("several", [Unscorable("mumbled", "na")]), "na", "mumbled"),
    ],
)
def test_what_a_reward_raises_becomes_its_rows_status(engine, error, status, note):
    async def score(sample):
        if sample.prompt == "bad":
            raise error
        return Score(1.0)

    scores = engine.score([Sample(prompt=p) for p in ("x", "bad", "y")], toy(score))["toy"]
    assert statuses(scores) == ["ok", status, "ok"]
    assert note in scores[1].note and math.isnan(scores[1].value)


def test_an_unknown_status_fails_its_row_and_not_the_run(engine):
    async def score(sample):
        raise Unscorable("why", "invalid")

    (result,) = engine.score([Sample()], toy(score))["toy"]
    assert result.status == "error" and "invalid" in result.note


@pytest.mark.parametrize("returned", [None, 0.5, "good", [Score(1.0)]])
def test_a_reward_that_returns_no_score_is_told_so(engine, returned):
    async def score(sample):
        return returned

    (result,) = engine.score([Sample()], toy(score))["toy"]
    assert result.status == "error" and "not a Score" in result.note


@pytest.mark.parametrize(
    ("value", "status"),
    [(0.0, "ok"), (1.0, "ok"), (1 + 1e-7, "ok"), (1.01, "out_of_range"), (-5.0, "out_of_range")],
)
def test_a_value_outside_the_declared_range_is_a_failure(engine, value, status):
    async def score(sample):
        return Score(value, {"kept": 1.0})

    (result,) = engine.score([Sample()], toy(score))["toy"]
    assert result.status == status and result.parts == {"kept": 1.0}


def test_an_open_range_takes_any_finite_value(engine):
    async def score(sample):
        return Score(1e30)

    assert engine.score([Sample()], toy(score, range=(-math.inf, math.inf)))["toy"][0].ok


# --- bad input ------------------------------------------------------------------------------------


async def looks(sample):
    return Score(float(sample.image.array().mean()) / 255)


WHITE = Media(np.full((2, 2, 3), 255, np.uint8))


@pytest.mark.parametrize(
    ("bad", "status", "reason"),
    [
        ({"prompt": ""}, "missing", "no prompt"),
        ({"prompt": None}, "missing", "no prompt"),
        ({"prompt": " \n"}, "missing", "blank"),
        ({"prompt": 7}, "missing", "int, not text"),
        ({"prompt": "x" * 1_000_000}, "error", "1000000 characters"),
        ({"image": None}, "missing", "no image"),
        ({"image": Media("nowhere.png")}, "missing", "nowhere.png"),
        ({"image": Media(b"not a picture")}, "error", "not an image"),
        ({"image": Media(np.full((2, 2, 3), np.nan))}, "error", "NaN"),
        ({"image": Media(np.zeros((2, 2, 7), np.uint8))}, "error", "channels"),
    ],
)
def test_a_bad_sample_costs_exactly_its_own_row(engine, bad, status, reason):
    good = {"prompt": "x", "image": WHITE}
    samples = [Sample(**good), Sample(**{**good, **bad}), Sample(**good)]
    scores = engine.score(samples, toy(looks, needs=("prompt", "image")))["toy"]
    assert statuses(scores) == ["ok", status, "ok"]
    assert reason in scores[1].note


@pytest.mark.parametrize(
    "name", ["artifact", "checklist", "clipscore", "critique", "iou", "listener", "oracle"]
)
def test_a_built_in_reward_says_what_an_empty_sample_lacks(engine, name):
    from mmreward.registry import find
    from mmreward.types import SHOWN

    info = find(name).info
    stand_in = toy(looks, "stand_in", needs=info.needs)
    (result,) = engine.score([Sample()], stand_in)["stand_in"]
    assert result.status == "missing" and all(SHOWN.get(field, field) in result.note for field in info.needs)


def test_a_field_can_come_from_a_column_of_another_name(engine):
    async def target(sample):
        return Score(sample.target)

    toy(target, needs=("target",))
    samples = [Sample(meta={"gold": 0.25}), Sample(target=0.5)]
    scores = engine.score(samples, {"toy": {"columns": {"target": "gold"}}})["toy"]
    assert scores[0].value == 0.25 and scores[1].status == "missing"


# --- pairs ----------------------------------------------------------------------------------------


def test_a_pair_reward_is_asked_about_every_pair_in_both_orders(engine):
    asked = []

    async def longer(a, b):
        asked.append((a.id, b.id))
        return Score(float(len(a.prompt) > len(b.prompt)))

    scores = engine.score(group("a", "bbb", "cc"), toy(longer, arity="pair"))["toy"]
    assert sorted(asked) == [(x, y) for x in ("a", "bbb", "cc") for y in ("a", "bbb", "cc") if x != y]
    assert [score.value for score in scores] == [0.0, 1.0, 0.5]
    assert all(score.parts == {"judged": 2.0, "swing": 0.0} for score in scores)


@pytest.mark.parametrize("range_", [(0.0, 1.0), (-1.0, 1.0), (1.0, 5.0)])
def test_a_judge_that_prefers_the_first_gives_everybody_a_tie(engine, range_):
    async def first(a, b):
        return Score(range_[1])

    scores = engine.score(group("a", "b", "c"), toy(first, arity="pair", range=range_))["toy"]
    assert [score.value for score in scores] == [sum(range_) / 2] * 3
    assert [score.parts["swing"] for score in scores] == [range_[1] - range_[0]] * 3


def test_a_pair_that_could_not_be_judged_is_left_out(engine):
    async def picky(a, b):
        if {a.id, b.id} == {"a", "b"} and a.id == "b":
            raise Unscorable("cannot tell", "unparsable")
        return Score(float(a.id < b.id))

    scores = engine.score(group("a", "b", "c"), toy(picky, arity="pair"))["toy"]
    assert [(s.value, s.parts["judged"]) for s in scores] == [(1.0, 1.0), (1.0, 1.0), (0.0, 2.0)]


def test_a_sample_none_of_whose_pairs_could_be_judged_fails_with_the_reason(engine):
    async def picky(a, b):
        if "a" in (a.id, b.id):
            raise Unscorable("cannot tell", "unparsable")
        return Score(float(a.id < b.id))

    scores = engine.score(group("a", "b", "c"), toy(picky, arity="pair"))["toy"]
    assert statuses(scores) == ["unparsable", "ok", "ok"] and scores[0].note == "cannot tell"


@pytest.mark.parametrize("arity", ["pair", "group"])
def test_a_sample_without_a_group_cannot_be_compared(engine, arity):
    async def never(*_):
        raise AssertionError

    (result,) = engine.score([Sample(prompt="x")], toy(never, arity=arity))["toy"]
    assert result.status == "missing" and "no group" in result.note


def test_alone_in_a_group_does_not_apply(engine):
    async def never(a, b):
        raise AssertionError

    assert statuses(engine.score(group("a"), toy(never, arity="pair"))["toy"]) == ["na"]


# --- groups ---------------------------------------------------------------------------------------


async def rank(samples):
    return [Score(len(s.prompt) / max(len(o.prompt) for o in samples)) for s in samples]


def test_a_group_reward_sees_one_group_at_a_time_in_order(engine):
    samples = [Sample(prompt="x" * n, group="ab"[n % 2]) for n in range(1, 7)]
    scores = engine.score(samples, toy(rank, arity="group"))["toy"]
    assert [s.value for s in scores] == [1 / 5, 2 / 6, 3 / 5, 4 / 6, 1.0, 1.0]


def test_a_sample_that_cannot_be_scored_is_set_aside_before_its_group(engine):
    samples = [Sample(prompt="xx", group="g"), Sample(group="g"), Sample(prompt="x", group="g")]
    scores = engine.score(samples, toy(rank, arity="group", needs=("prompt",)))["toy"]
    assert statuses(scores) == ["ok", "missing", "ok"] and scores[2].value == 0.5


@pytest.mark.parametrize("answer", [[], [Score(1.0)], None])
def test_a_group_reward_that_miscounts_fails_its_group_only(engine, answer):
    async def short(samples):
        return answer if samples[0].group == "bad" else [Score(1.0)] * len(samples)

    samples = group("a", "b", name="bad") + group("c", "d", name="good")
    assert statuses(engine.score(samples, toy(short, arity="group"))["toy"]) == ["error"] * 2 + ["ok"] * 2


def test_a_group_reward_that_returns_something_else_fails_its_group_only(engine):
    async def odd(samples):
        return [0.5] * len(samples) if samples[0].group == "bad" else [Score(1.0)] * len(samples)

    samples = group("a", "b", name="bad") + group("c", "d", name="good")
    assert statuses(engine.score(samples, toy(odd, arity="group"))["toy"]) == ["error"] * 2 + ["ok"] * 2


def test_a_slow_group_times_out_alone(engine):
    import asyncio

    async def slow(samples):
        await asyncio.sleep(60 if samples[0].group == "slow" else 0)
        return [Score(1.0)] * len(samples)

    samples = group("a", name="slow") + group("b", name="fast")
    scores = engine.score(samples, toy(slow, arity="group"), timeout=0.2)["toy"]
    assert statuses(scores) == ["timeout", "ok"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"parts": {"a": "x"}}, "a part 'a': 'x'"),
        ({"parts": {"a": "0.5"}}, "a part 'a': '0.5'"),
        ({"parts": {("a", "b"): 0.5}}, "a part ('a', 'b')"),
        ({"parts": {"a": None}}, "a part 'a': None"),
        ({"parts": None}, "parts=None"),
        ({"note": None}, "note=None"),
        ({"note": b"words"}, "note=b'words'"),
    ],
)
@pytest.mark.parametrize("arity", ["point", "group"])
def test_a_score_of_the_wrong_form_costs_its_row(engine, wrong, message, arity):
    """Written by the author of a reward; it would break what writes the results."""

    def made(sample):
        return Score(0.5, **(wrong if sample.id == "b" else {"parts": {"n": np.float32(1)}, "note": "fine"}))

    async def point(sample):
        return made(sample)

    async def compare(samples):
        return [made(sample) for sample in samples]

    reward = toy(point) if arity == "point" else toy(compare, "toy", arity="group")
    scores = engine.score(group("a", "b", "c"), reward)["toy"]
    assert statuses(scores) == ["ok", "error", "ok"]
    assert message in scores[1].note and scores[1].note.startswith("TypeError: toy returned a Score with")


@pytest.mark.parametrize(
    "error", [OSError("disk"), ImportError("no pkg"), MemoryError("full"), RuntimeError("CUDA error: lost")]
)
def test_circumstances_are_told_from_rows(engine, error):
    async def broken(sample):
        raise error

    (score,) = engine.score([Sample(prompt="x")], toy(broken), check=False)["toy"]
    assert score.note.startswith("unavailable here: ") and str(error) in score.note
