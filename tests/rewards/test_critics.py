"""BR-RM and LLaVA-Critic-R1: grammars, both turns, words as published, and what no judge may be paid for."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from support.judgements import brrm, brrm_ranking
from support.mutations import never_raise_nor_pay
from support.tool_judges import Scripted

from mmreward import Engine, Media, Sample, Unscorable, load
from mmreward.rewards.published import br_rm, llava_critic
from mmreward.rewards.published.br_rm import read_branch, read_ranking
from mmreward.rewards.published.llava_critic import read_boxed, read_stated
from mmreward.rewards.published.votes import by_verdict


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def pair():
    image = Media(np.zeros((16, 16, 3), np.uint8))
    texts = ("A red circle.", "A circle.")
    return [Sample(prompt="What is it?", image=image, response=text, group="g") for text in texts]


def judging(monkeypatch, module, name, *lines, **args):
    judge = Scripted(*lines)
    monkeypatch.setattr(module.models, "vlm", lambda weights, dtype: judge)
    return judge, load(name, **args)


def refused(read, text):
    with pytest.raises(Unscorable) as raised:
        read(text)
    return raised.value.status


# --- BR-RM ------------------------------------------------------------------------------------------------


def test_a_branch_names_what_matters_and_what_is_wrong():
    assert read_branch(brrm()) == ("Logical Reasoning",)
    three = ("Information Accuracy", "Safety Awareness", "Communication Clarity")
    assert read_branch("<think>hm</think>" + brrm(*three)) == three
    for text in (
        "", "I cannot say.", brrm("Taste"), brrm(*br_rm.ABILITIES), brrm() + brrm(),
        brrm().split("[Quality Analysis for Response 2]")[0], brrm().replace("Focus]", "Fokus]"),
    ):  # fmt: skip
        assert refused(read_branch, text) in ("unparsable", "missing")


def test_a_ranking_is_one_box_in_its_block():
    assert by_verdict(read_ranking(brrm_ranking(1))) == 1 and read_ranking(brrm_ranking(2)).verdict == "2"
    assert read_ranking(brrm_ranking(2).removesuffix("[The End of Ranking Score]")).verdict == "2"
    for place in ("3", "1 or 2", "1, 2", "", "x", "1}\\boxed{2"):
        assert refused(read_ranking, brrm_ranking(place)) == "unparsable"
    assert refused(read_ranking, "\\boxed{1}") == "unparsable"
    assert refused(read_ranking, brrm_ranking(1) + brrm_ranking(2)) == "unparsable"


def test_two_turns_of_which_both_are_in_the_note(engine, monkeypatch):
    judge, loaded = judging(monkeypatch, br_rm, "br_rm", brrm(), brrm_ranking(1), words="own")
    score = engine.run(loaded(*pair()))
    assert score.value == 1 and score.note == f"{brrm()}\n\n{brrm_ranking(1)}"
    (first, *_), (second, _, history, _) = judge.asked
    assert "A red circle." in first and second == br_rm.RETHOUGHT.own
    assert [turn.answer for turn in history] == [brrm()] and history[0].question == first
    judge, loaded = judging(monkeypatch, br_rm, "br_rm", "nothing", words="own")
    with pytest.raises(Unscorable, match="blocks"):
        engine.run(loaded(*pair()))
    assert len(judge.asked) == 1, "a first turn that says nothing is not followed by a second"


def stand_in(tmp_path, names, texts, formatted=()):
    """A publisher's file in our own words, and pins of its hashes."""
    path = tmp_path / "published.py"
    lines, pins = [], []
    for name, text in zip(names, texts, strict=True):
        hashed = text
        for value in formatted:
            hashed = hashed.replace(f"{{{value}}}", "{}")
        lines.append(f"{name} = {'f' if formatted else ''}{text!r}\n")
        pins.append(hashlib.sha256(hashed.encode()).hexdigest())
    path.write_text("".join(lines), encoding="utf-8")
    return path, pins


def test_the_words_of_br_rm_are_framed_as_published(engine, monkeypatch, tmp_path):
    """A second writing of the publisher's frame."""
    texts = ("Context:\n{context}\nBoth:\n{responses}\nGo.", "Rank them.\n")
    path, hashes = stand_in(tmp_path, ("A", "B"), texts)
    for name, sha256 in zip(("ASKED", "RETHOUGHT"), hashes, strict=True):
        prompt = getattr(br_rm, name)
        monkeypatch.setattr(br_rm, name, replace(prompt, pins=(replace(prompt.pins[0], sha256=sha256),)))
    judge, loaded = judging(monkeypatch, br_rm, "br_rm", brrm(), brrm_ranking(2), words=str(path))
    assert engine.run(loaded(*pair())).value == 0
    context = "[The Begin of Context]\nWhat is it?\n[The End of Context]\n"
    one = "[The Begin of Response 1]\nA red circle.\n[The End of Response 1]\n"
    two = "[The Begin of Response 2]\nA circle.\n[The End of Response 2]\n"
    assert judge.asked[0][0] == f"Context:\n{context}\nBoth:\n{one}\n{two}\nGo."
    assert judge.asked[1][0] == "Rank them.\n"


# --- LLaVA-Critic-R1 --------------------------------------------------------------------------------------


def boxed(inside):
    return f"<think>The first says \\boxed{{2}}.</think> So \\boxed{{{inside}}}."


def test_a_box_names_the_better_answer():
    for inside in (
        "1",
        "Answer 1",
        "\\text{Answer 1}",
        "Answer 1 is better.",
        "Overall Judgment: Answer 1 is better",
    ):
        assert read_boxed(boxed(inside)).verdict == "1"
    assert by_verdict(read_boxed(boxed("2"))) == 0
    for inside in ("3", "1 or 2", "Answer 1 is not better", "both", "", "12"):
        assert refused(read_boxed, boxed(inside)) == "unparsable"
    assert refused(read_boxed, "<think>hm</think>Answer 1") == "missing"
    assert refused(read_boxed, boxed(1) + " \\boxed{2}") == "unparsable"
    assert refused(read_boxed, "<think>\\boxed{1}") == "unparsable"
    assert read_boxed("Answer 1 says more: \\boxed{1}.").verdict == "1"
    lost = ("<think>One says \\boxed{2}.</oxed{1 or 2}", "One says \\boxed{2}.</oxed{1 or 2}",
            "\\fbox{1}\\boxed{2}",
            "One says \\boxed{2}.</thi1e9nk> So \\{boxed{1 or 2}.", "\\boxed{}, or 2")  # fmt: skip
    assert {refused(read_boxed, text) for text in lost} == {"unparsable"}


def test_a_statement_names_the_better_answer():
    assert read_stated("1. Accuracy: equal.\n\n**Overall Judgment: Answer 2 is better.**").verdict == "2"
    assert refused(read_stated, "Both answers are equally good.") == "unparsable"
    assert refused(read_stated, "Answer 1 is better or Answer 2 is better.") == "unparsable"


@pytest.mark.parametrize("think", [True, False])
def test_the_words_of_llava_critic_are_put_together_as_published(engine, monkeypatch, tmp_path, think):
    asked = " Of {data_obj['query']}:\n{answers[0]}\n{answers[1]}"
    values = ("data_obj['query']", "answers[0]", "answers[1]")
    file, hashes = stand_in(tmp_path, ("A",), (asked,), values)
    with file.open("a", encoding="utf-8") as added:
        added.write("B = 'First think.'\n")
    pins = [
        replace(llava_critic.ASKED, sha256=hashes[0]),
        replace(llava_critic.THINK, sha256=hashlib.sha256(b"First think.").hexdigest()),
    ]
    for name, number in (("THINKING", 2), ("STATING", 1)):
        form = getattr(llava_critic, name)
        prompt = replace(form.prompt, pins=tuple(pins[:number]))
        monkeypatch.setattr(llava_critic, name, replace(form, prompt=prompt))
    said = boxed(1) if think else "Overall Judgment: Answer 1 is better."
    judge, loaded = judging(monkeypatch, llava_critic, "llava_critic", said, words=str(file), think=think)
    assert engine.run(loaded(*pair())).value == 1
    prompt, system, *_ = judge.asked[0]
    assert prompt == " Of What is it?:\nA red circle.\nA circle." + ("First think." if think else "")
    assert system == "You are a helpful assistant."


# --- both -------------------------------------------------------------------------------------------------


def test_mutated_judgements_never_raise_and_never_pay_a_hedge():
    for seed, (read, texts) in enumerate([
        (read_ranking, [brrm_ranking(1), brrm_ranking("1 or 2")]),
        (read_boxed, [boxed(1), boxed("1 or 2")]),
        (read_stated, ["Overall Judgment: Answer 1 is better."]),
    ]):  # fmt: skip
        never_raise_nor_pay(
            read, texts, ["1 or 2"], seed=60 + seed, count=1500, finite=lambda marks: [by_verdict(marks)]
        )
