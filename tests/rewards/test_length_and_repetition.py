"""Shortness that never pays for a wrong answer, and repetition."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.growth import assert_linear

from mmreward import Engine, Sample, Score, Unscorable, load
from mmreward.compose import Recipe, combine
from mmreward.rewards.rules.form import grade_repetition, ngrams
from mmreward.shaping import falling, length_of, length_scaled


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def scored(engine, name, response, meta=None, **args):
    return engine.score([Sample(response=response, meta=meta or {})], load(name, **args))[name][0]


# --- length ---------------------------------------------------------------------------------------


def test_the_fall_by_hand():
    assert [falling(x, 1000, 1000) for x in (0, 500, 1000, 2000)] == pytest.approx([1, 0.5, 0, 0])
    assert falling(250, 1000, 1000) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert [falling(x, 1000, 200, "linear") for x in (700, 800, 900, 1000, 1100)] == pytest.approx(
        [1, 1, 0.5, 0, 0]
    )


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(["cosine", "linear"]))
def test_longer_is_never_worth_more(limit, span, curve):
    values = [falling(x, limit, min(span, limit), curve) for x in range(0, 900, 7)]
    assert all(0 <= b <= a <= 1 for a, b in pairwise(values))


def test_units():
    assert length_of("a b  c", {}, "words") == 3 and length_of("a b", {}, "characters") == 3
    assert length_of("a", {"tokens": 7}, "tokens") == 7
    for tokens in (None, -1, True, 2.5, "7"):
        with pytest.raises(Unscorable) as refusal:
            length_of("a", {"tokens": tokens}, "tokens")
        assert refusal.value.status == "missing"


def test_the_length_reward(engine):
    score = scored(engine, "length", "<answer>x</answer>", {"tokens": 512})
    assert score.value == pytest.approx(0.5) and score.parts == {"parsed": 1.0, "length": 512.0, "over": 0.0}
    assert scored(engine, "length", "x", {"tokens": 1025}).parts["over"] == 1
    assert scored(engine, "length", "x").status == "missing"
    assert scored(engine, "length", "x " * 90, limit=100, span=20, curve="linear", unit="words").value == 0.5
    for cut in ("", "<think>and so", "<answer>1</answer><answer>2</answer>"):
        assert scored(engine, "length", cut, {"tokens": 1}).value == 0
    for args in ({"limit": 0}, {"limit": 10, "span": 11}, {"span": 0}):
        with pytest.raises(ValueError, match="limit"):
            load("length", **args)


def test_a_gate_keeps_wrong_answers_wrong():
    """With equal weights it is the cosine from 1 to 0.5 for what is right, and 0 for what is wrong."""
    accuracy, short = [Score(1.0), Score(1.0), Score(0.0)], [Score(1.0), Score(0.0), Score(1.0)]
    recipe = Recipe(weights={"count": 0.5, "length": 0.5}, gates={"count": 0.5})
    totals = combine({"count": accuracy, "length": short}, recipe)
    assert [total.value for total in totals] == [1.0, 0.5, 0.0]


def test_scaled_by_length_by_hand():
    accuracy = [Score(1.0), Score(1.0), Score(1.0), Score(0.0), Score(0.0), Score(0.0), Score(0.49)]
    scaled = length_scaled(accuracy, [0, 500, 4000, 0, 500, 4000, 0], limit=1000)
    assert [score.value for score in scaled] == pytest.approx([1, 0.75, 0.5, -0.5, -0.25, 0, -0.5])
    assert scaled[1].parts == pytest.approx({"accuracy": 1.0, "length": 500.0, "cosine": 0.5})


@given(st.floats(0, 1), st.integers(0, 5000))
def test_wrong_stays_wrong_at_every_length(accuracy, length):
    (scaled,) = length_scaled([Score(accuracy)], [length], limit=1024)
    assert (scaled.value <= 0) if accuracy < 0.5 else (0.5 <= scaled.value <= 1)


def test_a_failed_accuracy_stays_failed_and_nonsense_is_refused():
    failed = Score.failed("timeout", "slow")
    assert length_scaled([failed], [3], limit=10) == [failed]
    for wrong in ({"wrong": (0.1, 0.0)}, {"right": (1.0, -0.2), "wrong": (-0.1, 0.0)}, {"limit": 0}):
        with pytest.raises(ValueError):
            length_scaled([Score(1.0)], [3], **{"limit": 10, **wrong})
    with pytest.raises(ValueError, match="1 scores and 2 lengths"):
        length_scaled([Score(1.0)], [3, 4], limit=10)


# --- repetition -----------------------------------------------------------------------------------


def test_ngrams_by_hand():
    assert ngrams(("a", "b", "a", "b", "a"), 2) == (4, 2)
    assert ngrams("abab", 3) == (2, 2) and ngrams("ab", 3) == (0, 0)


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ("a b c d e f g", {}, 1),
        ("a b c", {}, 1),
        ("Wait wait wait wait", {"size": 1}, 1 / 4),
        ("a b a b a", {"size": 2}, 2 / 4),
        ("a b a b a", {"size": 2, "allowed": 0.25}, 2 / 3),
        ("a b a b a", {"size": 2, "allowed": 0.5}, 1),
        ("\u3042\u3044\u3042\u3044", {"size": 2, "unit": "characters"}, 2 / 3),
    ],
)
def test_repetition_by_hand(text, options, value):
    assert grade_repetition(text, **options).value == pytest.approx(value)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=20), st.integers(1, 4))
def test_repeating_a_text_never_helps(words, size):
    once, twice = (grade_repetition(" ".join(words * times), size=size).value for times in (1, 2))
    assert 0 < twice <= once <= 1


def test_the_repetition_reward(engine):
    score = scored(engine, "repetition", "<answer>" + "no " * 100 + "</answer>")
    assert score.value < 0.05 and score.parts == {"parsed": 1.0, "ngrams": 96.0, "repeated": 93.0}
    for cut in ("", " ", "<think>and so and so"):
        assert scored(engine, "repetition", cut).value == 0
    for args in ({"size": 0}, {"size": 65}, {"allowed": 1.0}):
        with pytest.raises(ValueError, match="size"):
            load("repetition", **args)


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_a_megabyte_takes_little_time(unit):
    assert_linear(lambda size: grade_repetition("no yes " * (size // 7), unit=unit), 1_000_000)
