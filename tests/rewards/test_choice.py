"""Multiple choice: what an answer names, and that no wording earns more than a guess."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreward import Engine, Sample, Unscorable, load
from mmreward.rewards.rules.choice import chance, grade_choice, letters_named, options_of, right_letters
from mmreward.verifiers.reading import agreed, read_answer
from mmreward.verifiers.response import normalise_answer

OPTIONS = options_of(["cat", "dog", "not a pet", "a cat"])
VITAMINS = options_of({"A": "Vitamin A", "B": "vitamin C", "C": "iron"})


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("A", "A"),
        ("a", "A"),
        ("(A)", "A"),
        ("A)", "A"),
        ("A.", "A"),
        ("**A**", "A"),
        ("[c]", "C"),
        ("$B$", "B"),
        ("option A", "A"),
        ("Answer: B", "B"),
        ("My final answer: **B**", "B"),
        ("The correct answer is (C).", "C"),
        ("Option D is right", "D"),
        ("I think it is B", "B"),
        ("I choose B", "B"),
        ("A: cat", "A"),
        ("A (cat)", "A"),
        ("b. dog", "B"),
        ("B. It has no tail", "B"),
        ("cat", "A"),
        ("Dog.", "B"),
        ("a cat", "D"),
        ("The answer is dog", "B"),
        ("not a pet", "C"),
        ("C) not a pet", "C"),
        ("\uff22", "B"),
    ],
)
def test_an_option_is_named_in_many_ways(answer, letter):
    assert letters_named(normalise_answer(answer), OPTIONS) == {letter}


LEADS = [
    "The answer is ",
    "I think it's ",
    "It must be ",
    "We choose ",
    "Select ",
    "Out of the options, ",
    "Clearly, it's ",
    "I'm going with ",
    "Given the evidence, the most likely option is ",
    "Final answer \u2192 ",
    "Among the given options, the correct one is ",
    "Respuesta: ",
    "R\u00e9ponse : ",
    "**Antwort:** ",
    "\u041e\u0442\u0432\u0435\u0442: ",
    "\u7b54\u3048\uff1a",
    "\uc815\ub2f5: ",
]
FORMS = [
    "B",
    "b",
    "(b)",
    "*B*",
    "'B'",
    "B. 24 cm",
    "B, 24 cm",
    "B (24 cm)",
    "24 cm (B)",
    "24 cm",
    "B | 24 cm",
    "24 cm, which is option B",
]
REASONS = [
    "",
    ".",
    " because it fits the picture best.",
    ", since the others do not match.",
    " is the right choice.",
    " seems the most plausible.",
    ", because it fits and the others do not match.",
    "\n\nExplanation: the picture shows it.",
    " (confidence: high)",
    " (95% sure)",
    " \u2705",
]
LENGTHS = options_of(["12 cm", "24 cm", "36 cm", "48 cm"])
OPEN = [
    " or C",
    " because it is not A",
    ", or maybe 36 cm",
    "\n36 cm",
    " because it could be 36 cm",
    ". C is also possible",
    " is wrong",
]


@pytest.mark.parametrize("form", FORMS)
def test_an_option_is_named_with_any_lead_and_reason(form):
    for lead, reason in itertools.product(LEADS, REASONS):
        response = f"<answer>{lead}{form}{reason}</answer>"
        assert letter_of(response) == {"B"}, response


@pytest.mark.parametrize("form", FORMS)
def test_what_leaves_an_option_open_names_no_single_one(form):
    for lead, tail in itertools.product(["", *LEADS], OPEN):
        response = f"<answer>{lead}{form}{tail}</answer>"
        assert len(letter_of(response)) != 1, response


@pytest.mark.parametrize("answer", ["B. 36 cm", "B (36 cm)", "36 cm (B)", "B\n36 cm", "24 cm. 36 cm."])
def test_a_letter_with_another_options_words_is_no_answer(answer):
    assert len(letter_of(f"<answer>{answer}</answer>")) != 1


def letter_of(response):
    try:
        return agreed(read_answer(response), lambda text: letters_named(text, LENGTHS))
    except Unscorable as refusal:
        assert refusal.status == "unparsable"
        return set()


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ('Sure!\n{"choice": "B"}', {"B"}),
        ('It has length 24.\n```json\n{"answer": "B"}\n```', {"B"}),
        ('{"choice": "A"}\n{"choice": "B"}', {"A", "B"}),
        ('The answer is C. {"choice": "B"}', {"B", "C"}),
    ],
)
def test_an_object_of_json_at_the_end_is_the_answer(answer, letter):
    assert letter_of(f"<answer>{answer}</answer>") == letter


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "the cat is a",
        "A cat is shown",
        "not B",
        "The answer is not B.",
        "Either A",
        "maybe B",
        "Is it B?",
        "Z",
        "I would pick a dog",
        "catdog",
        "ca",
        "cats",
        "AB",
        "none of them",
    ],
)
def test_no_option_is_named(answer):
    with pytest.raises(Unscorable) as refusal:
        letters_named(answer, OPTIONS)
    assert refusal.value.status == "unparsable"


@pytest.mark.parametrize(
    "answer",
    [
        "A or B",
        "A/B",
        "A, B, C, D",
        "A B C D",
        "I think it is B, not C.",
        "B and C",
        "A. dog",
        "(A) (B)",
        "A. cat\nB. dog",
        "Option A or option B",
        "The answer is B because C is wrong",
        "B (or A)",
    ],
)
def test_naming_two_options_earns_nothing_whichever_is_right(answer):
    for right in OPTIONS:
        try:
            verdict = grade_choice(answer, {right}, OPTIONS)
        except Unscorable:
            continue
        assert verdict.value == 0 and verdict.parts["named"] >= 2 and "where one" in verdict.note


@settings(max_examples=60)
@given(st.text("ABCDabcd .,():/*\n'not or cat dog", max_size=24), st.booleans())
def test_no_wording_is_paid_under_two_targets(answer, known):
    paid = 0.0
    for right in OPTIONS:
        try:
            paid += grade_choice(answer, {right}, OPTIONS if known else None).value
        except Unscorable:
            continue
    assert paid <= 1


@given(st.permutations(sorted(OPTIONS.values())))
def test_shuffling_the_options_moves_the_letter_with_the_words(texts):
    shuffled = dict(zip("ABCD", texts, strict=True))
    for letter, text in shuffled.items():
        assert letters_named(text, shuffled) == letters_named(f"({letter}) {text}", shuffled) == {letter}


@pytest.mark.parametrize("answer", ["B. Vitamin C", "b: vitamin c", "Vitamin C"])
def test_a_letter_inside_an_options_own_words_is_no_second_option(answer):
    assert letters_named(answer, VITAMINS) == {"B"}
    assert letters_named("C. Vitamin C", VITAMINS) == {"B", "C"}


def test_without_options_any_letter_counts_and_words_mean_nothing():
    assert letters_named("(Z)", None) == {"Z"} and letters_named("A. dog", None) == {"A"}
    with pytest.raises(Unscorable):
        letters_named("dog", None)
    assert letters_named("(A), Z", OPTIONS) == {"A"}, "letters beyond the last option mean nothing"


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("A,B", "AB"),
        ("B, A", "AB"),
        ("A;C;A", "AC"),
        ("A, C and D", "ACD"),
        ("AC", "AC"),
        ("(A) (C)", "AC"),
        ("a, c", "AC"),
        ("A\nC", "AC"),
        ("The answers are A and C", "AC"),
        ("cat; dog", "AB"),
        ("A. cat, B. dog", "AB"),
        ("cat, not a pet", "AC"),
        ("B", "B"),
    ],
)
def test_several_are_read_as_a_set(answer, named):
    assert letters_named(answer, OPTIONS, several=True) == set(named)


@pytest.mark.parametrize("answer", ["A or C", "maybe A, C", "A, C, perhaps D", "not A, C", "ACZ"])
def test_a_set_that_is_left_open_is_none(answer):
    with pytest.raises(Unscorable):
        letters_named(answer, OPTIONS, several=True)


def test_sets_are_worth_their_overlap_or_nothing():
    right = {"A", "B"}
    assert grade_choice("B, A", right, OPTIONS, "all").value == 1
    assert grade_choice("A", right, OPTIONS, "all").value == 0
    assert grade_choice("A", right, OPTIONS, "jaccard").value == 0.5
    assert grade_choice("A, C", right, OPTIONS, "jaccard").value == pytest.approx(1 / 3)
    assert grade_choice("A, B, C, D", right, OPTIONS, "jaccard").value == 0, "everything is no answer"
    assert grade_choice("A, B, C, D", set("ABCD"), OPTIONS, "jaccard").value == 1


@pytest.mark.parametrize(("options", "right"), [(2, 1), (4, 1), (4, 2), (5, 3), (3, 3)])
@pytest.mark.parametrize("select", ["one", "all", "jaccard"])
def test_chance_is_the_mean_over_all_guesses(options, right, select):
    letters = "ABCDE"[:options]
    known = {letter: letter * 3 for letter in letters}
    sizes = (1,) if select == "one" else range(1, options + 1)
    guesses = [guess for size in sizes for guess in itertools.combinations(letters, size)]
    truth = {"A"} if select == "one" else set(letters[:right])
    worth = [grade_choice(", ".join(guess), truth, known, select).value for guess in guesses]
    assert chance(options, len(truth), select) == pytest.approx(sum(worth) / len(worth))
    assert chance(0, 1, select) == 0


def test_options_are_texts_or_letters_to_texts():
    assert options_of(None) is None
    assert options_of(["A. cat", "(B) dog"]) == options_of({"a": "cat", "B": "Dog", "C": None})
    assert options_of(["A. Smith", "cat"]) == {"A": "a. smith", "B": "cat"}, "not all have a letter"


@pytest.mark.parametrize(
    "given",
    [
        ["cat"],
        {"A": "cat"},
        {"first": "cat", "B": "dog"},
        {"a": "cat", "A": "dog", "B": "cow"},
        "cat",
        3,
        ["x"] * 27,
    ],
)
def test_strange_options_are_the_datas_fault(given):
    with pytest.raises(Unscorable) as refusal:
        options_of(given)
    assert refusal.value.status == "error"


@pytest.mark.parametrize(
    ("target", "select", "right"),
    [
        ("B", "one", "B"),
        ("(b)", "one", "B"),
        ("Dog", "one", "B"),
        ("AC", "all", "AC"),
        (["A", "dog"], "all", "AB"),
    ],
)
def test_a_target_is_a_letter_words_or_several(target, select, right):
    assert right_letters(target, OPTIONS, select) == set(right)


@pytest.mark.parametrize("target", ["E", "bird", "", 2, [], "A or B", ["A", "B"]])
def test_a_target_that_names_no_single_option_is_the_datas_fault(target):
    with pytest.raises(Unscorable) as refusal:
        right_letters(target, OPTIONS)
    assert refusal.value.status == "error"


# --- the reward -----------------------------------------------------------------------------------

META = {"options": ["dog", "cat", "horse", "cow"]}


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def scored(engine, response, target="B", meta=META, **args):
    reward = load("choice", **args)
    return engine.score([Sample(response=response, target=target, meta=meta)], reward)["choice"][0]


@pytest.mark.parametrize(
    ("response", "value", "parsed"),
    [
        ("<think>A or B?</think><answer>(B)</answer>", 1, 1),
        ("<answer>A</answer>", 0, 1),
        ("<answer>B, not C</answer>", 0, 1),  # ambiguous
        ("<answer></answer>", 0, 0),
        ("B", 0, 0),
        ("<answer>B</answer><answer>A</answer>", 0, 0),
        ("<think>so <answer>B</answer></think>", 0, 0),
        ("<answer>" + "B " * 2000 + "</answer>", 0, 0),
    ],
)
def test_the_reward_is_strict_and_its_parts_are_always_the_same(engine, response, value, parsed):
    score = scored(engine, response)
    assert score.ok and score.value == value and score.parts["parsed"] == parsed
    assert list(score.parts) == ["parsed", "correct", "named", "chance"] and score.parts["chance"] == 0.25


def test_tags_and_boxes_by_choice(engine):
    assert scored(engine, "B", bare=True).value == 1
    assert scored(engine, r"<answer>It is \boxed{B}</answer>", boxed=True).value == 1
    assert scored(engine, r"<answer>\boxed{A} \boxed{B}</answer>", boxed=True).value == 0
    assert scored(engine, "<answer>B</answer>", boxed=True).parts["parsed"] == 0


def test_sets_by_choice(engine):
    assert scored(engine, "<answer>B, A</answer>", "A,B", select="all").value == 1
    score = scored(engine, "<answer>B</answer>", ["A", "B"], select="jaccard")
    assert score.value == 0.5 and score.parts["chance"] == pytest.approx(chance(4, 2, "jaccard"))


def test_a_bad_target_is_a_failure_and_a_bad_option_an_error(engine):
    assert scored(engine, "<answer>B</answer>", target="bird").status == "error"
    assert scored(engine, "<answer>B</answer>", meta={"options": ["x"]}).status == "error"
    assert scored(engine, "<answer>B</answer>", meta={}, select="jaccard").status == "missing"
