"""Yes or no, counts and labels: one plain answer is right or wrong, everything else is worth nothing."""

import unicodedata
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.growth import assert_linear

from mmreward import Engine, Sample, Unscorable, load
from mmreward.rewards.rules import choice, classification, count
from mmreward.rewards.rules.classification import grade_yes_no, says_yes, yes_no_target
from mmreward.verifiers import numerals
from mmreward.verifiers.response import MAX_ANSWER, normalise_answer, short_answer
from mmreward.verifiers.text import nfkc, normalise, normalise_name


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def scored(engine, name, response, target, meta=None, **args):
    sample = Sample(response=response, target=target, meta=meta or {})
    return engine.score([sample], load(name, **args))[name][0]


# --- text -----------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.text(max_size=20))
def test_the_compatible_form_is_that_of_unicode(text):
    assert nfkc(text) == unicodedata.normalize("NFKC", text).replace("\u2212", "-")


def test_endless_combining_marks_are_cut_and_take_no_time():
    """Sorting them is quadratic: 28 s for a response of the largest size that is read."""
    assert_linear(lambda size: nfkc("a" + "\u0301" * size + "\u0316" * size + "b"), 512_000)
    text = nfkc("a" + "\u0301" * 30_000 + "\u0316" * 30_000 + "b")
    assert len(text) < 40 and text.endswith("b")


def test_names_differ_by_what_matters():
    assert normalise_name(" Tiger_Cat. ") == normalise_name("\u201ctiger  cat\u201d") == "tiger cat"
    assert len({normalise_name(text) for text in ("C", "C++", "C#", "cat", "cats")}) == 5
    assert normalise("It's 5!", punctuation=False) == "its 5" and normalise("Ab", casefold=False) == "Ab"


def test_an_answer_has_a_place_and_a_size():
    assert short_answer("<answer> \uff21 </answer>") == "A"
    assert short_answer(r"\boxed{\text{x}}", bare=True, boxed=True) == r"\text{x}"
    for text in (r"\boxed{1}\boxed{1}", "1", r"\boxed{1"):
        with pytest.raises(Unscorable, match="boxed"):
            short_answer(text, bare=True, boxed=True)
    assert normalise_answer("x" * MAX_ANSWER)
    with pytest.raises(Unscorable, match="characters"):
        normalise_answer("x" * (MAX_ANSWER + 1))


# --- yes or no ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        ("yes", True),
        ("No.", False),
        ("**YES!**", True),
        ("The answer is no.", False),
        ("Yes, there is no cat.", True),
        ("No, there is no cat", False),
        ("yes, yes", True),
    ],
)
def test_the_first_word_decides(answer, yes):
    assert says_yes(answer) is yes


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "know",
        "nothing",
        "yesterday",
        "maybe",
        "not yes",
        "I guess yes",
        "yes and no",
        "yes or no",
        "yes/no",
        "Yes. No.",
        "no yes",
        "no, yes",
        "no cat, yes",
        "<yes>no",
        "nope",
    ],
)
def test_neither_and_both_are_no_answer(answer):
    with pytest.raises(Unscorable) as refusal:
        says_yes(answer)
    assert refusal.value.status == "unparsable"


@given(
    st.lists(
        st.sampled_from(["yes", "no", "know", "cat", ",", ".", "or", "not", "the answer is"]), max_size=6
    )
)
def test_no_wording_is_both(words):
    paid = 0.0
    for truth in (True, False):
        try:
            paid += grade_yes_no(" ".join(words), truth).value
        except Unscorable:
            continue
    assert paid <= 1


@pytest.mark.parametrize(("target", "truth"), [("Yes", True), ("no", False), (True, True), (0, False)])
def test_truths(target, truth):
    assert yes_no_target(target) is truth


@pytest.mark.parametrize("target", ["", "maybe", 2, ["yes"], 0.5])
def test_other_truths_are_the_datas_fault(target):
    with pytest.raises(Unscorable) as refusal:
        yes_no_target(target)
    assert refusal.value.status == "error"


def test_the_yes_no_reward(engine):
    score = scored(engine, "yes_no", "<answer>Yes</answer>", "yes")
    assert score.value == 1 and score.parts == {"parsed": 1.0, "correct": 1.0, "said_yes": 1.0}
    score = scored(engine, "yes_no", "<answer>yes and no</answer>", "yes")
    assert score.value == 0 and score.parts == {"parsed": 0.0, "correct": 0.0, "said_yes": 0.0}
    assert scored(engine, "yes_no", "no", "no").value == 0
    assert scored(engine, "yes_no", "no", "no", bare=True).value == 1
    assert scored(engine, "yes_no", "<answer>no</answer>", "unclear").status == "error"


# --- counts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("3", 3),
        ("three", 3),
        ("Zero", 0),
        ("3.", 3),
        ("3.0", 3),
        ("-3", -3),
        ("\u22123", -3),
        ("1,234", 1234),
        ("1,234,567.00", 1_234_567),
        ("twenty-one", 21),
        ("Ninety nine", 99),
        ("one hundred", 100),
        ("a hundred", 100),
        ("There are 3 cats.", 3),
        ("3 (three)", 3),
        ("\u0663", 3),
        ("\uff13", 3),
        ("H2O: 3", 3),
        ("someone saw seven", 7),
        ("none", 0),
        ("a hundred and five", 105),
    ],
)
def test_a_number_is_read(answer, number):
    assert count.single_count(normalise_answer(answer)) == number


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "cats",
        "3 or 4",
        "3-4",
        "between 3 and 5",
        "3, 4",
        "2024-01-05",
        "1,23",
        "1.234",
        "3.5",
        "3/4",
        "1e5",
        "3cats",
        "12th",
        "9" * 33,
        "one two",
        "twenty, one",
        "3.14.15",
        "about 3",
        "at least 3",
        "not 3",
        "3+",
        "~3",
        "over 3",
        "maybe three",
        "\u22653",
    ],
)
def test_no_number_several_and_hedges_are_no_count(answer):
    with pytest.raises(Unscorable) as refusal:
        count.single_count(answer)
    assert refusal.value.status == "unparsable"


def test_all_words_up_to_one_hundred():
    tens = dict(zip(numerals.TENS, range(20, 100, 10), strict=True))
    units = dict(zip(numerals.UNITS, range(20), strict=True))
    words = units | tens | {f"{t}-{u}": tens[t] + units[u] for t in tens for u in numerals.UNITS[1:10]}
    assert sorted(words.values()) == list(range(100))
    assert all(count.single_count(word) == number for word, number in words.items())


@given(st.integers(0, 10**9))
def test_digits_with_and_without_separators(number):
    assert count.single_count(str(number)) == count.single_count(f"{number:,}") == number


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_nearer_is_better_and_right_is_best(truth, a, b):
    worth = {n: count.graded_count(n, truth, graded=True).value for n in (truth, a, b)}
    assert worth[truth] == 1 and all(0 <= value <= 0.5 for n, value in worth.items() if n != truth)
    if a != truth and b != truth and abs(a - truth) <= abs(b - truth):
        assert worth[a] >= worth[b]


def test_graded_counts_by_hand():
    assert count.graded_count(9, 10, graded=True).value == pytest.approx(0.45)
    assert count.graded_count(1, 0, graded=True).value == count.graded_count(20, 10, graded=True).value == 0
    huge = count.graded_count(int("9" * 32), 10, graded=True)
    assert huge.value == 0 and huge.parts == {"exact": 0.0, "off": count.MAX_OFF}


@pytest.mark.parametrize(("target", "number"), [(3, 3), (3.0, 3), ("three", 3), ("1,204", 1204)])
def test_targets_of_counts(target, number):
    assert count.count_of(target) == number


@pytest.mark.parametrize("target", [-1, 2.5, "many", "", True, [3], float("nan"), float("inf")])
def test_other_targets_are_the_datas_fault(target):
    with pytest.raises(Unscorable) as refusal:
        count.count_of(target)
    assert refusal.value.status == "error"


def test_the_count_reward(engine):
    assert scored(engine, "count", "<answer>four</answer>", 3).parts == {
        "parsed": 1.0,
        "exact": 0.0,
        "off": 1.0,
    }
    assert scored(engine, "count", "<answer>four</answer>", 3, graded=True).value == pytest.approx(1 / 3)
    assert scored(engine, "count", "<answer>3 or 4</answer>", 3).parts["parsed"] == 0
    assert scored(engine, "count", r"\boxed{3}", 3, boxed=True, bare=True).value == 1
    assert scored(engine, "count", "<answer>3</answer>", "lots").status == "error"


# --- labels ---------------------------------------------------------------------------------------

LABELS = {"labels": ["tabby", "tiger cat", "lynx", "cat"]}


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("<answer>Tiger_cat.</answer>", 1),
        ("<answer>tiger-striped cat</answer>", 1),
        ("<answer>cat</answer>", 0),
        ("<answer></answer>", 0),
        ("<answer>t</answer>", 0),
        ("<answer>tabby, tiger cat, lynx, cat</answer>", 0),
        ("<answer>a tiger cat</answer>", 0),
        ("<answer>...</answer>", 0),
        ("tiger cat", 0),
    ],
)
def test_a_label_is_equal_or_wrong(engine, response, value):
    score = scored(engine, "label", response, ["tiger cat", "tiger-striped cat"], LABELS)
    assert score.value == value and score.parts["chance"] == 0.25
    assert list(score.parts) == ["parsed", "correct", "known", "chance"]


def test_another_class_is_told_from_a_made_up_one(engine):
    wrong = [scored(engine, "label", f"<answer>{text}</answer>", "lynx", LABELS) for text in ("Tabby", "fox")]
    assert [score.parts["known"] for score in wrong] == [1, 0]
    assert scored(engine, "label", "<answer>fox</answer>", "lynx").parts["chance"] == 0


def test_without_thinking_the_whole_response_is_the_label(engine):
    assert scored(engine, "label", " Lynx.\n", "lynx", thinking=False).value == 1
    for response in ("<answer>lynx</answer>", "It is a lynx", "lynx" + " " * MAX_ANSWER + "cat"):
        assert scored(engine, "label", response, "lynx", thinking=False).value == 0


@pytest.mark.parametrize("target", ["...", [], ["cat", ""], {"aliases": ["cat"]}, 3, {"label": "fox"}])
def test_bad_labels_are_the_datas_fault(engine, target):
    assert scored(engine, "label", "<answer>cat</answer>", target, LABELS).status == "error"


def test_aliases_come_with_the_label(engine):
    target = {"label": "lynx", "aliases": ["bobcat"]}
    assert scored(engine, "label", "<answer>Bobcat</answer>", target, LABELS).value == 1
    assert classification.label_names({"label": "lynx", "aliases": None}) == {"lynx"}
    with pytest.raises(Unscorable, match="labels are"):
        classification.known_labels("cat", {"cat"})


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unit", ["A or ", "A,", " ", "(a", "the answer is ", "no ", "1,", "twenty ", "\ufdfa", "\n"]
)
def test_the_longest_answer_that_is_read_takes_milliseconds(unit):
    options = {"A": "cat", "B": "dog"}
    readers = (
        lambda text: choice.letters_named(text, options),
        lambda text: choice.letters_named(text, options, several=True),
        says_yes,
        count.single_count,
        lambda text: classification.grade_label(text, {"cat"}),
    )

    def read_all(size):
        text = normalise_answer((unit * size)[:size])
        for read in readers:
            with suppress(Unscorable):
                read(text)

    assert_linear(read_all, MAX_ANSWER)


@pytest.mark.parametrize("unit", ["<answer>", "</think>", "\\boxed{", "x", "\u0301"])
def test_a_megabyte_takes_little_time(unit):
    def read(size):
        for box in (True, False):
            with suppress(Unscorable):
                short_answer((unit * size)[:size], bare=True, boxed=box)

    assert_linear(read, 1_000_000)
