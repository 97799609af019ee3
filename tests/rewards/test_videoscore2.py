"""VideoScore2: golden judgements with the descriptors, hedges, digits by probability, mutations."""

import math

import numpy as np
import pytest
from support.judgements import ScriptedJudge, video2
from support.mutations import never_raise_nor_pay

from mmreward import Engine, Media, Sample, Unscorable, load, models
from mmreward.rewards.published.videoscore2 import DIGITS, digits, entropy, mean, read_marks, weighed


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def clip():
    frames = np.zeros((6, 32, 32, 3), np.uint8)
    frames[..., 0] = np.arange(6)[:, None, None] * 40
    return Media(frames, "video", fps=2.0)


def test_marks_after_the_thinking_with_their_places():
    text = video2(3, 4, 5)
    marks = read_marks(text)
    assert marks.parts == {"visual_quality": 3, "alignment": 4, "physics": 5} and mean(marks) == 4
    assert [text[start:end] for start, end in marks.spans.values()] == ["3", "4", "5"]


ITEMS = "visual quality: 3; text-to-video alignment: 4, physical/common-sense consistency: 5"


@pytest.mark.parametrize(
    "text",
    [ITEMS,
     "visual quality: 3\ntext-to-video alignment: 4\nphysical/common-sense consistency: 5",
     "**(1) Visual quality** (clarity): **3**\n2. Text-to-video alignment: 4/5\n"
     "physical/common-sense consistency: 5.0",
     "- Visual Quality - sharp: 3\n- Text-to-Video Alignment: 4\n- Physical/Common-Sense Consistency: 5."],
)  # fmt: skip
def test_dress_makes_no_difference(text):
    assert list(read_marks(text).parts.values()) == [3, 4, 5]


@pytest.mark.parametrize(
    ("text", "status"),
    [(video2("3 or 4", 4, 5), "unparsable"), (video2("3-4", 4, 5), "unparsable"),
     (video2("3.5", 4, 5), "unparsable"), (video2("3, maybe 4", 4, 5), "unparsable"),
     (video2("3 (or 4)", 4, 5), "unparsable"), (video2("3/4", 4, 5), "unparsable"),
     (video2(0, 4, 5), "out_of_range"), (video2(6, 4, 5), "out_of_range"), (video2(-3, 4, 5), "out_of_range"),
     (video2("", 4, 5), "missing"), (video2("N/A", 4, 5), "missing"), (video2(3, 4, 5)[:90], "missing"),
     (video2(3, 4, 5) + "\nvisual quality: 4", "unparsable"), ("3 4 5", "missing"),
     ("<think>visual quality: 3", "unparsable"), (f"<think>{ITEMS}</think>", "missing")],
)  # fmt: skip
def test_what_is_no_mark_is_a_failure(text, status):
    with pytest.raises(Unscorable) as raised:
        read_marks(text)
    assert raised.value.status == status


def test_the_published_float_is_no_expectation():
    """By the digits' probabilities; a second writing of both rules."""
    marks = read_marks(video2(5, 1, 3))
    probs = {
        "visual_quality": dict(zip(DIGITS, (0.0, 0.0, 0.1, 0.2, 0.7), strict=True)),
        "alignment": dict(zip(DIGITS, (0.6, 0.4, 0.0, 0.0, 0.0), strict=True)),
        "physics": dict(zip(DIGITS, (0.2,) * 5, strict=True)),
    }
    assert list(weighed(marks, probs, "float").parts.values()) == pytest.approx([3.5, 0.6, 0.2])
    assert list(weighed(marks, probs, "expected").parts.values()) == pytest.approx([4.6, 1.4, 3.0])
    assert entropy(probs["physics"]) == pytest.approx(math.log(5)) and entropy({"1": 1.0, "2": 0.0}) == 0


def test_digits_are_read_in_their_places(engine):
    """As probabilities of the whole vocabulary, put to one over the five digits, by one pass for each."""
    text, words = "Mark it.", video2(3, 4, 5)
    vlm, shown, marks = models.vlm("mini-vlm"), [clip()], read_marks(words)
    found = engine.run(digits(vlm, shown, text, words, marks, ""))
    for key, probs in found.items():
        assert sum(probs.values()) == pytest.approx(1)
        given = words[: marks.spans[key][0]]
        alone = [engine.run(vlm.logprob(shown, text, digit, given=given)).total for digit in DIGITS]
        weights = np.exp(alone) / np.exp(alone).sum()
        assert list(probs.values()) == pytest.approx(list(weights), abs=1e-4)


def test_scores_of_a_served_judge_with_frames(engine):
    sample = Sample(prompt="a red square", video=clip())
    judge = ScriptedJudge().name
    score = engine.score([sample], load("videoscore2", judge=f"{judge}?clips=3", words="own"))["videoscore2"][
        0
    ]
    assert (
        score.ok and 1 <= score.value <= 5 and set(score.parts) == {"visual_quality", "alignment", "physics"}
    )
    refused = engine.score([sample], load("videoscore2", judge=judge, words="own"))["videoscore2"][0]
    assert refused.status == "error" and "?clips=8" in refused.note
    served = engine.score([sample], load("videoscore2", judge=f"{judge}?clips=3", words="own", how="float"))
    assert served["videoscore2"][0].status == "error" and "only vLLM" in served["videoscore2"][0].note


def test_mutated_judgements_never_raise_and_never_pay_a_hedge():
    hedges = ["3 or 4", "3-4", "3, maybe 4", "~3", "3 4"]
    texts = [video2(3, 4, 5), *(video2(hedge, 4, 5) for hedge in hedges)]
    never_raise_nor_pay(read_marks, texts, hedges, seed=6, count=1000)
