"""Judgements that say one thing and leave a choice beside it: no reader may take the one for the judgement.

What stands in a judge's thinking is no hedge, and neither is a remark that names both candidates.
"""

import random

import pytest
from support.judgements import ur_axes, ur_final, ur_shares, video2, vie
from support.mutations import mutated

from mmreward import Unscorable
from mmreward.rewards.published.br_rm import read_ranking
from mmreward.rewards.published.grammar import answered_of, certain, json_marks, verdict_in
from mmreward.rewards.published.llava_critic import read_boxed
from mmreward.rewards.published.unifiedreward import IMAGE_AXES, read_axes, read_final
from mmreward.rewards.published.unifiedreward_pair import read_marks, read_rank, read_shares
from mmreward.rewards.published.videoscore2 import read_marks as read_clip

SHARES = ur_shares((0.7, 0.3), (0.5, 0.5), (0.6, 0.4))
RANKING = "[The Begin of Ranking Score]\n\\boxed{2}\n[The End of Ranking Score]"


def axes(text):
    return read_axes(text, IMAGE_AXES)


def rank(text):
    return read_rank(text, "image")


def shares(text):
    return read_shares(text, "image")


def two_marks(text):
    return json_marks(text, 2, 0, 25)


def final(text):
    return read_final(text, 5)


HEDGED = [
    # unfinished, garbled, or behind a label that is not whole
    *((rank, f"Image 2 is better.\n{more}") for more in (
        "Image 1 or Image 2 is bett", "Image 1 or Image 2", "Verdict: image 1 or 2 is b",
        "=Image 1/2 is better",
        "Two dogs.Overall: either Image 1 or Image 2 is better.", "I say Image 1 or Image 2 is better",
    )),
    *((final, f"{ur_final(3.0)}\n{more}") for more in ("Fnal Score: 3 or 4", "al Score: 3-4", ":= 2 to 4")),
    (axes, ur_axes(2, 3, 4) + "Style\nScore 5): **3 - 4**"),
    (axes, ur_axes(2, 3, 4) + "St (1-5): [3~4]."),
    (shares, SHARES.replace(" Image 1: 0.5", " Image 1: 0.5\n Image\" 1: 0.7 or 0.3", 1)),
    (read_marks, "Image 1: 0.4\nImage 2: 1.5\nIm/age 1: 0.4 or 2"),
    (read_clip, video2(3, 4, 5) + "\n(1) visual qualitity: 3 or 4"),
    *((two_marks, f"{vie(20, 15)}\n{more}") for more in (
        '"scoe" : [20, 15 or 20]', '"score" : [20, 15 or', '"score"nan : [5, 20]', '{"": [1, 2]}',
    )),
    (read_boxed, "<think>a dog</think> So \\boxed{1}. So \\boxe{1 or 2}."),
    (read_boxed, "<think>a dog</think> So \\boxed{1}. So \\boxe1 or 2}."),
    (read_boxed, "<think>a dog</think> So \\boxed{1}. So \\b{answer 1 or"),
    (read_ranking, RANKING + "\n[The Bgin of Ranking Score]\n\\boxed{1 or 2}"),
    (answered_of, "<think>a dog</think><answer>1</answer>\nanser>1 or 2"),
    (answered_of, "<answer>1 or 2</answer><think>a dog</think><answer>1</answer>"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "text"), HEDGED)
def test_a_choice_beside_the_judgement_is_none_of_it(read, text):
    with pytest.raises(Unscorable) as raised:
        read(text)
    assert raised.value.status == "unparsable"


CLEAR = [
    *((rank, text) for text in (
        "There is no dog in Image 1 or Image 2.\nImage 2 is better.",
        "It is hard to say whether Image 1 or Image 2 is better lit. Image 2 is better.",
        "Compared to Image 1, Image 2 has both dogs. **Image 2 is better.**",
        "<think>Image 1 or Image 2 is better.</think>\nImage 2 is better.",
    )),
    *((final, f"{more}\n{ur_final(3.0)}") for more in (
        "Overall Score: 4", "Shot at 3:15 or 4", "It has 3 or 4 dogs.", "<think>Final Score: 3-4</think>",
    )),
    (axes, "Marks (from 1 to 5)\n" + ur_axes(2, 3, 4)),
    (shares, SHARES), (read_marks, "Image 1: -0.4\nImage 2: 1.5"), (read_clip, video2(3, 4, 5)),
    *((two_marks, text) for text in (
        '{"reasoning": "of [3] dogs, "score\\": [9, 9]", "score": [20, 15],}',
        '{"reasoning": "it is "good" [sic], 3 or 4 dogs", "score": [20, 15],}',
        vie(20, 15) + "\n" + vie(20, 15),
    )),
    (read_boxed, "<think>1 or 2}</think> One says {x}, 1 or 2 dogs, so \\boxed{1}."),
    (read_ranking, "One says \\boxed{1, 2}.\n" + RANKING),
    (answered_of, "<think>an answer: <answer>2</answer></think>\n< Answer >1</ANSWER>"),
    (answered_of, "I quote <think> and </think></think><answer>1</answer>"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "text"), CLEAR)
def test_remarks_and_thoughts_are_no_hedges(read, text):
    assert read(text)


def test_reading_is_linear_in_what_leaves_a_choice():
    rng = random.Random(3)
    for text in (":" * 39_000, "image 1 or " * 3500, ". " * 19_000, '"a: [1, ' * 4800, "{1 or " * 6000):
        for read in (rank, certain, two_marks, read_boxed):
            try:
                read(mutated(text, rng))
            except Unscorable as failure:
                assert failure.status in ("unparsable", "missing")
    with pytest.raises(Unscorable, match="leaves a choice"):
        verdict_in("Video 1 is better. Video 1 or video 2.", "video")
