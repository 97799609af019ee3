"""Answers that are declared beyond one box: boxes side by side, a formula in a sentence, last words."""

import pytest

from mmreward import Unscorable
from mmreward.verifiers.declared import final_words, formula_of_sentence, side_by_side
from mmreward.verifiers.math import answer_of, settle, truth_of
from mmreward.verifiers.numbers import Likeness


def value(target, answer):
    """1 or 0; 0 too for what cannot be read."""
    try:
        judged = settle(truth_of(target), answer_of(f"<answer>{answer}</answer>"), Likeness())
    except Unscorable as failure:
        assert failure.status == "unparsable"
        return 0
    return judged.value


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("4, 9", r"\boxed{4}, \boxed{9}"),
        ("4, 9", r"So the roots are \boxed{9} and \boxed{4}."),
        ("(1,5), (2,8)", r"$$\boxed{(1, 5)} \quad \text{and} \quad \boxed{(2, 8)}$$"),
        ("a = 12, b = 3", r"\(b = \boxed{3}\) and \(a = \boxed{12}\)"),
        ("a = 12, b = 3", r"$\boxed{a = 12}$, $\boxed{b = 3}$"),
        ("7", r"\boxed{7} or \boxed{7.0}"),
        ("7", "<|begin_of_box|>7<|end_of_box|>"),
        (r"41\%", r"$\boxed{41}$ percent."),
        (r"41\%", r"$\boxed{41}$ pct"),
        ("5 cm", r"The side is $\boxed{50}$ mm"),
        ("x > 6", r"Hence $6 < x$ is the answer."),
        (r"x \ne 2", r"We find that $x \neq 2$."),
        (
            r"\begin{pmatrix}3&1\\0&2\end{pmatrix}",
            r"The rotation matrix is $\begin{bmatrix}3&1\\0&2\end{bmatrix}$.",
        ),
        (
            "45",
            "There are 9 rows of 5. Final Answer: The final answer is $45$. I hope it is correct.",
        ),
        ("12,500", "There are 5 of 2500 each. The final answer is 12,500."),
        ("45", "1. There are 9 rows.\n2. Each has 5.\nFinal answer: 45"),
        ("45", "There are 9 rows of 5.\n\n**Final Answer:** $45$"),
        ("3.75", "3,75"),
        ("0.125", "0,125"),
        ("3.5 kg", "3,5 kg"),
        ("2:7", "$S_{ABC}:S = 2:7$"),
        (r"S_{ABC}:S=2:7", r"\boxed{2:7}"),
    ],
)
def test_declared_answers_are_read(target, answer):
    assert value(target, answer) == 1


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("9", r"\boxed{4}, \boxed{9}"),
        ("9", r"\boxed{4} or \boxed{9}"),
        ("4", r"\boxed{4} and \boxed{9}"),
        ("a = 12, b = 3", r"\(a = \boxed{3}\) and \(b = \boxed{12}\)"),
        ("5", "The answer is not $5$."),
        ("5", "I think that it is $5$."),
        ("5", "The sum is less than $5$"),
        ("5", "Half of the sum is $5$."),
        ("5", "It is $5$ or six"),
        ("5", "It is $5$ or $6$."),
        ("5", "The number is 4, so it is $5$ then"),
        ("5", "The final answer is 4. The final answer is 5."),
        ("5", "The final answer is 5. The final answer is 4."),
        ("5", "Final answer: 4\nFinal answer: 5"),
        ("5", "No final answer: 5"),
        ("5", "If the final answer is 5, the other one is 4."),
        ("5", "The final answer is 5 or 6."),
        ("1.125", "1,125"),
        ("3.75", "3, 75"),
        ("3.75", "3,75,1"),
        ("3, 75", "3.75"),
        ("S_1:S_2=2:7", "S_1:S_3=2:7"),
    ],
)
def test_hedges_denials_and_other_values_are_not_paid(target, answer):
    assert value(target, answer) == 0


def test_a_target_in_a_sentence_is_read_as_an_answer_is():
    assert value("The slope is $m$", "The slope is $m$") == 1
    assert value("Therefore $x > 6$ is the solution.", "x > 6") == 1


def test_without_tags_only_a_box_counts():
    for text in ("The final answer is $5$. I hope it is correct.", "Therefore it is $5$."):
        with pytest.raises(Unscorable, match="boxed"):
            answer_of(text, bare=True)


@pytest.mark.parametrize("text", [r"\boxed{1}", r"\boxed{1} so \boxed{2}", r"\boxed{1}, \boxed{1", "1, 2"])
def test_what_is_not_side_by_side_is_no_list(text):
    assert side_by_side(text) is None


@pytest.mark.parametrize("piece", [r"\boxed{1},", "final answer is ", "$", "the a ", "\\(", "x = "])
def test_adversarial_length_is_bounded(piece):
    text = piece * 100_000
    assert formula_of_sentence(text) is None
    assert final_words(text) is None
