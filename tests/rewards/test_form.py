"""The form of a response: what is declared is there, once, in order, and holds something."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.growth import assert_linear

from mmreward import Engine, Sample, load
from mmreward.rewards.rules.form import Form, grade_form, trl_format, v_triune_format, vlm_r1_format

THOUGHT = "The sign on the left side is white and reads EXIT."
GOOD = f"<think>{THOUGHT}</think>\n<answer>EXIT</answer>"
SHELL = "<think></think><answer></answer>"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (GOOD, 1),
        (f"\n{GOOD}\n", 1),
        (f"<think>{'ab ' * 8}</think><answer>EXIT</answer>", (1 + 1 + 16 / 32) / 3),
        ("<think></think><answer>EXIT</answer>", 2 / 3),
        (SHELL, 1 / 3),
        (f"<think>{THOUGHT}</think> so <answer>EXIT</answer>", 2 / 3),
        (f"{GOOD} bye", 2 / 3),
        (f"well <think>{THOUGHT}</think><answer>EXIT</answer>", 0),
        (f"<think>{THOUGHT}</think>{GOOD}", 0),
        (f"{GOOD}<answer>EXIT</answer>", 2 / 3),
        (f"<answer>EXIT</answer><think>{THOUGHT}</think>", 0),
        (f"</think>{THOUGHT}<think><answer>EXIT</answer>", 0),
        ("<answer>EXIT</answer>", 1 / 3),
        ("EXIT", 0),
        ("", 0),
        ("<think>never closed", 0),
    ],
)
def test_the_form_by_hand(text, value):
    verdict = grade_form(text, Form())
    assert verdict.value == pytest.approx(value)
    assert bool(verdict.note) == (value < 1)


def test_other_forms():
    prefilled = GOOD.removeprefix("<think>")
    assert (
        grade_form(prefilled, Form(prefilled=True)).value == 1 > grade_form(GOOD, Form(prefilled=True)).value
    )
    assert grade_form("<answer>x</answer>", Form(think=False)).value == 1
    boxed = f"<think>{THOUGHT} \\boxed{{1}}</think><answer>\\boxed{{2}}</answer>"
    assert grade_form(boxed, Form(boxed=True)).value == 1
    assert (
        grade_form(GOOD, Form(boxed=True)).value
        == grade_form(boxed.replace("2", ""), Form(boxed=True)).value
        == 3 / 4
    )
    assert grade_form(f"<think>{THOUGHT}</think> \\boxed{{2}}", Form(answer=False, boxed=True)).value == 1
    assert (
        grade_form(
            f"<think>{THOUGHT}</think> \\boxed{{2}} \\boxed{{3}}", Form(answer=False, boxed=True)
        ).value
        < 1
    )
    assert grade_form("<think></think><answer>x</answer>", Form(min_think_chars=0)).value == 1


@pytest.mark.parametrize(
    "wrong", [{"think": False, "answer": False}, {"min_think_chars": -1}, {"think": False, "prefilled": True}]
)
def test_a_form_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError):
        Form(**wrong)


PIECES = st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "\\boxed{1}", " ", "\n", THOUGHT])


@given(st.lists(PIECES, max_size=9).map("".join), st.booleans(), st.booleans())
def test_only_the_declared_form_earns_everything(text, boxed, prefilled):
    value = grade_form(text, Form(boxed=boxed, prefilled=prefilled)).value
    assert 0 <= value <= 1
    if value == 1:
        tags = ("<think>", "</think>", "<answer>", "</answer>")
        assert [text.count(tag) for tag in tags] == [0 if prefilled else 1, 1, 1, 1]
        places = [text.find(tag) for tag in tags]
        assert places == sorted(places) and THOUGHT in text


@pytest.mark.parametrize(
    ("peer", "text", "value"),
    [
        (v_triune_format, "<think>\na\n</think>\n\n<answer>\nb\n</answer>", 1.0),
        (v_triune_format, "\n</answer>\n<answer>\n\n</think>\n<think>\n", 1.0),
        (v_triune_format, SHELL, 0.0),
        (v_triune_format, "<think>\n<think>\na\n</think>\n", 0.25),
        (vlm_r1_format, SHELL, 1.0),
        (vlm_r1_format, f"{SHELL}x", 0.0),
        (vlm_r1_format, "<think><answer></think> <answer></answer></answer>", 1.0),
        (vlm_r1_format, "<think></think><answer>", 0.0),
        (trl_format, "<think></think>", 1.0),
        (trl_format, "<think><think></think>", 0.0),
        (trl_format, " <think></think>", 0.0),
    ],
)
def test_peers_pay_for_shells_and_we_do_not(peer, text, value):
    assert peer(text) == value
    assert grade_form(text, Form()).value <= max(value, 1 / 3)


def test_the_reward_and_its_presets():
    with Engine("cpu") as engine:

        def scored(response, **args):
            return engine.score([Sample(response=response)], load("format", **args))["format"][0]

        assert scored(GOOD).parts == {"think": 1.0, "answer": 1.0, "boxed": 0.0, "thought": 1.0}
        assert scored(SHELL).value == pytest.approx(1 / 3)
        for preset in ("vlm_r1", "trl"):
            score = scored(SHELL, preset=preset)
            assert score.value == 1 and list(score.parts) == list(scored(GOOD).parts)
        assert scored("", preset="v_triune").note
    with pytest.raises(ValueError, match="leave the other arguments out"):
        load("format", preset="trl", boxed=True)


@pytest.mark.parametrize("unit", ["<think>", "</think>", "</think> <answer>", "\\boxed{", "<think>\n", " "])
def test_a_megabyte_takes_little_time(unit):
    def graded(size):
        text = (unit * size)[:size]
        grade_form(text, Form(boxed=True))
        for peer in (v_triune_format, vlm_r1_format, trl_format):
            peer(text)

    assert_linear(graded, 1_000_000)


def test_thinking_may_be_left_to_the_model():
    form = Form(think="optional")
    for text in ("<think>so</think><answer>4</answer>", "<answer>4</answer>"):
        assert grade_form(text, form).value == 1.0
    assert grade_form("well, <answer>4</answer>", form).value == 0.0
    assert grade_form("<think>never closed <answer>4</answer>", form).value == 0.0
    with pytest.raises(ValueError, match="declares nothing"):
        Form(think="optional", answer=False)
