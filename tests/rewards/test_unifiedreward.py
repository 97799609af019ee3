"""UnifiedReward: golden judgements of every form, what contradicts itself, hedges, and mutations."""

import pytest
from support.judgements import ur_axes, ur_clip, ur_final, ur_shares, ur_think, vie
from support.mutations import never_raise_nor_pay

from mmreward import Unscorable
from mmreward.rewards.published.declaring import by_share, by_sum, by_verdict, final_between, mean_between
from mmreward.rewards.published.unifiedreward import (
    IMAGE_AXES,
    VIDEO_AXES,
    least,
    read_axes,
    read_clip,
    read_picture,
    read_vie,
)
from mmreward.rewards.published.unifiedreward_pair import read_marks, read_rank, read_shares, read_think

VIDEO = ("Alignment", "Physics", "Style")


def status_of(read, *args):
    with pytest.raises(Unscorable) as raised:
        read(*args)
    return raised.value.status


# --- one ----------------------------------------------------------------------------------------------------


def test_the_final_mark_and_the_elements():
    marks = read_picture(ur_final(3.5))
    assert marks.parts == {"final": 3.5, "elements": 0.5} and final_between(1, 5)(marks) == pytest.approx(
        0.625
    )
    assert read_picture("The dog is there.\n**Final Score:** 4/5").parts == {"final": 4.0}
    clip = read_clip(ur_clip(6, 4, 4, 3, 1, 2))
    assert (
        clip.final == 6
        and clip.parts["dynamic degree"] == 3
        and final_between(1, 10)(clip) == pytest.approx(5 / 9)
    )


@pytest.mark.parametrize(
    ("text", "status"),
    [(ur_final(6), "out_of_range"), (ur_final("4 or 5"), "unparsable"), (ur_final("4-5"), "unparsable"),
     (ur_final("N/A"), "unparsable"), (ur_final(""), "missing"), ("A fine picture, 5.", "missing"),
     (ur_final(4) + "\nFinal Score: 5", "unparsable"), ("Final Score: 4/10", "unparsable"), ("", "missing"),
     (ur_final(4, [("dog (animal)", "0 or 1")]), "unparsable"),
     (ur_final(4, [("dog (animal)", 2)]), "unparsable")],
)  # fmt: skip
def test_a_final_mark_that_is_none(text, status):
    assert status_of(read_picture, text) == status


def test_a_clip_needs_all_five():
    assert status_of(read_clip, ur_clip(6, 4, 4, 3, 1, 2).replace("dynamic degree: 3\n", "")) == "missing"
    assert status_of(read_clip, ur_clip(6, 5, 4, 3, 1, 2)) == "out_of_range"


def test_axes_with_float_noise():
    marks = read_axes(ur_axes(2.694700002670288, 2.371500015258789, 2.802500009536743), IMAGE_AXES)
    assert mean_between(1, 5)(marks) == pytest.approx((2.6229 - 1) / 4, abs=1e-6)
    assert list(marks.parts) == ["alignment", "coherence", "style"]
    other = read_axes(ur_axes(2, 3, 4, names=("Alignment", "Physics", "Style")), VIDEO_AXES)
    assert other.parts == {"alignment": 2, "physics": 3, "style": 4}
    dressed = "**Alignment Score (1-5):** 2\n- Coherence Score: 3\nStyle Score (1 - 5): 4"
    assert list(read_axes(dressed, IMAGE_AXES).parts.values()) == [2, 3, 4]


@pytest.mark.parametrize(
    ("text", "status"),
    [(ur_axes(2, 3, 4, names=VIDEO), "missing"), (ur_axes(2, 3, 6), "out_of_range"),
     (ur_axes(2, 3, ""), "missing"), (ur_axes("1-5", 3, 3), "unparsable"), ("2 3 4", "missing"),
     (ur_axes(2, 3, 4) + ur_axes(2, 3, 5), "unparsable")],
)  # fmt: skip
def test_axes_that_are_none(text, status):
    """Version 2.0's readers elsewhere take the first three numbers anywhere."""
    assert status_of(read_axes, text, IMAGE_AXES) == status


def test_the_smaller_mark_of_an_edit():
    assert least(read_vie(vie(20, 15), "edit")) == 0.6
    assert read_vie(vie(20.5, 15), "quality").parts == {"naturalness": 20.5, "artifacts": 15.0}


# --- two ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "want"),
    [("Image 1 is better.", 1.0), ("Image 2 is better", 0.0), ("Both images are equally good.", 0.5),
     ("Image 1 shows a dog. Therefore, Image 2 is better.", 0.0), ("**Image 2 is better.**", 0.0),
     ("<think>Image 1 is better.</think>Image 2 is better.", 0.0), ("Conclusion: Image 1 is better.", 1.0),
     ("Image 1 is better, as it has the dog.\nOverall, Image 1 is better.", 1.0),
     ('Final judgment: "Image 1 is better."', 1.0), ("Image 2 is better, as Image 1 is not red.", 0.0),
     ("I first thought that Image 1 is better. Image 2 is better.", 0.0)],
)  # fmt: skip
def test_a_verdict_in_words(text, want):
    assert by_verdict(read_rank(text, "image")) == want


@pytest.mark.parametrize(
    ("text", "status"),
    [("Image 1 is better or Image 2 is better.", "unparsable"),
     ("Image 1 is better.\nImage 2 is better.", "unparsable"),
     ("Image 1 is better, but maybe not.", "unparsable"),
     ("Image 1 is better if the hat counts.", "unparsable"), ("Image 1 is better, not.", "unparsable"),
     ("I cannot say whether Image 1 is better.", "missing"), ("Image 1 is not better.", "missing"),
     ("Video 1 is better.", "missing"), ("Image 3 is better.", "missing"), ("I'm sorry, but no.", "missing"),
     ("Image 1 is better. Both images are equally good.", "unparsable"), ("Bild 1 ist besser.", "missing"),
     ("<think>Image 1 is better.", "unparsable"), ("<think>Image 1 is better.</think>", "missing")],
)  # fmt: skip
def test_a_verdict_that_is_none(text, status):
    assert status_of(read_rank, text, "image") == status


SHARES = ((0.4357, 0.5643), (0.418, 0.582), (0.4079, 0.5921))


def test_shares_with_the_sum_one():
    marks = read_shares(ur_shares(*SHARES), "image")
    assert by_share(marks) == pytest.approx(0.42053, abs=1e-4) and not marks.contradiction
    back = read_shares(ur_shares(*(pair[::-1] for pair in SHARES)), "image")
    assert by_share(marks) + by_share(back) == pytest.approx(1)
    assert by_share(
        read_shares(ur_shares((0.2, 0.8), (0.3, 0.7), (0.1, 0.9), noun="Video"), "video")
    ) == pytest.approx(0.2)


def test_shares_with_another_sum_contradict_themselves():
    assert read_shares(ur_shares((0.6, 0.6), *SHARES[1:]), "image").contradiction
    assert not read_shares(ur_shares((0.44, 0.565), *SHARES[1:]), "image").contradiction
    assert status_of(read_shares, ur_shares((0.6, ""), *SHARES[1:]), "image") == "missing"
    assert status_of(read_shares, ur_shares((6, -5), *SHARES[1:]), "image") == "out_of_range"
    assert status_of(read_shares, ur_shares(*SHARES), "video") == "missing"


def test_signed_marks_and_integers():
    """Upstream's pattern reads -2.5 as 2.5, and finds no 3."""
    marks = read_marks("Image 1: -2.5\nEdited Image 2 Score: 3")
    assert by_sum(marks) == 0.0 and marks.parts == {"overall": -5.5}
    assert by_sum(read_marks("Image 1: 3\nImage 2: 3.0")) == 0.5
    assert (
        status_of(read_marks, "Image 1: 3") == "missing" and status_of(read_marks, "3 against 2") == "missing"
    )


# --- Think ------------------------------------------------------------------------------------------------

GOOD = ur_think((9, 8, 8), (7, 8, 5), "Image 1 is better")


def test_totals_are_added_up_again():
    marks = read_think(GOOD, "image")
    assert by_verdict(marks) == 1.0 and not marks.contradiction and marks.parts == {"total": 5.0}
    assert read_think(ur_think((9, 8), (9, 8), "Image 2 is better"), "image").contradiction == ""
    old = "<think>1. Aesthetics: Image 1 (8/10) - a; Image 2 (6/10) - b</think><answer>Image 1</answer>"
    assert read_think(old, "image").parts == {} and by_verdict(read_think(old, "image")) == 1.0
    clip = ur_think((9, 8), (7, 8), "Video 1 is better", noun="Video")
    assert by_verdict(read_think(clip, "video")) == 1.0


@pytest.mark.parametrize(
    ("text", "words"),
    [(ur_think((9, 8, 8), (7, 8, 5), "Image 1 is better", totals=(26, 20)), "image 1 is 25, and it says 26"),
     (GOOD.replace("7+8+5=20", "7+8+9=24"), "adds up other marks"),
     (ur_think((9, 8, 8), (7, 8, 5), "Image 2 is better"), "has the smaller total")],
)  # fmt: skip
def test_what_does_not_add_up_is_a_contradiction(text, words):
    assert words in read_think(text, "image").contradiction


@pytest.mark.parametrize(
    "text",
    [GOOD.replace("Image 1 is better", "Image 1 or 2"), GOOD.replace("<answer>", ""), GOOD + GOOD[-35:],
     GOOD[:90],     "<answer>Image 1 is better</answer>", GOOD.replace("9+8+8", "9+..+8")],
)  # fmt: skip
def test_think_without_one_answer_is_unparsable(text):
    """Upstream takes the first verdict anywhere, also of the reasoning."""
    assert status_of(read_think, text, "image") == "unparsable"


# --- mutations --------------------------------------------------------------------------------------------


def pair(marks):
    return [*marks.parts.values(), by_verdict(marks) if marks.verdict is not None else 0.0]


def test_mutated_judgements_never_raise_and_never_pay_a_hedge():
    hedges = ["3 or 4", "3-4", "~4", "4 4", "4?"]
    hedged = [ur_final(hedge) + "\n" for hedge in hedges] + [ur_axes(2, 3, hedge) for hedge in hedges]
    never_raise_nor_pay(read_picture, [ur_final(3.5), *hedged], hedges, seed=3, count=500)
    never_raise_nor_pay(
        lambda text: read_axes(text, IMAGE_AXES), [ur_axes(2, 3, 4), *hedged], hedges, seed=4, count=500
    )
    both = ["Image 1 is better or Image 2 is better.", "Image 1 is better. Image 2 is better."]
    for seed, (read, texts) in enumerate([
        (lambda text: read_rank(text, "image"), ["Image 1 is better.", "Two dogs.\nSo, Image 2 is better."]),
        (lambda text: read_shares(text, "image"), [ur_shares(*SHARES)]),
        (lambda text: read_think(text, "image"), [GOOD]),
        (lambda text: read_vie(text, "edit"), [vie(20, 15), "```json\n" + vie(20, 15) + "\n```"]),
    ]):  # fmt: skip
        finite = (lambda marks: marks.parts.values()) if seed == 3 else pair
        never_raise_nor_pay(read, texts, both, seed=10 + seed, count=500, finite=finite)
