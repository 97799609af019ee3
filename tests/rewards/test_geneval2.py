"""Soft-TIFA with the miniature's judge, against the whole vocabulary's probabilities."""

import json
import math

import numpy as np
import pytest
from transformers import AutoTokenizer

from mmreward import Engine, Media, Sample, Unscorable, load, models
from mmreward.assets import ASSETS
from mmreward.data.rows import read_rows
from mmreward.mini.world import Scene, Thing, render
from mmreward.models.vlms.answers import Read
from mmreward.rewards.pictures.geneval2 import SUFFIX, atoms_of, geometric

PICTURE = render(Scene((Thing("red", "circle", 0.3, 0.4, 0.15), Thing("blue", "square", 0.7, 0.6, 0.15))), 64)
LINE = {
    "prompt": "a red circle and a blue square",
    "atom_count": 4,
    "vqa_list": [
        ["How many circles are in the image?", "one"],
        ["Are the circles red?", "Yes"],
        ["Are there any circles in the image?", "Yes"],
        ["Are there any triangles in the image?", "No"],
    ],
    "skills": ["count", "attribute", "object", "object"],
}


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def spelled(words):
    """Spellings by themselves: their casings, with a space before them and without."""
    return [
        space + form for word in words for form in {word, word.upper(), word.title()} for space in ("", " ")
    ]


def second(engine, question, words):
    """Probability of the words' whole one-token spellings, each token once, one forward pass for each."""
    judge, found = models.vlm("mini-vlm"), {}
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "mini-vlm")
    for text in spelled(words):
        read = engine.run(judge.logprob(Media(PICTURE), question + SUFFIX, text))
        if read.tokens == 1:
            token = tokenizer.encode(text, add_special_tokens=False)[-1]
            found[token] = math.exp(read.total)
    return sum(found.values())


@pytest.mark.parametrize("how", ["am", "gm"])
def test_a_line_of_the_published_file(engine, tmp_path, how):
    PICTURE.save(tmp_path / "a.png")
    (tmp_path / "data.jsonl").write_text(json.dumps({**LINE, "image": "a.png"}))
    samples = [row.sample for row in read_rows(tmp_path / "data.jsonl")]
    (score,) = engine.score(samples, load("geneval2", judge="mini-vlm", how=how))["geneval2"]
    words = (("one", "1"), ("yes",), ("yes",), ("no",))
    sure = [second(engine, pair[0], right) for pair, right in zip(LINE["vqa_list"], words, strict=True)]
    means = {"am": np.mean(sure), "gm": np.prod(sure) ** (1 / len(sure))}
    assert score.value == pytest.approx(means[how], rel=1e-3)
    assert score.parts["am"] == pytest.approx(means["am"], rel=1e-3)
    assert score.parts["least"] == pytest.approx(min(sure), rel=1e-3)
    assert score.parts["object"] == pytest.approx(np.mean(sure[2:]), rel=1e-3)
    assert score.parts["count"] == pytest.approx(sure[0], rel=1e-3)


def test_no_probability_is_above_one_however_an_answer_is_spelled(engine, monkeypatch):
    """A judge that is certain; by the published sum, spellings that share a token would make it 2 or more."""

    async def certain(media, question, labels, *, system=""):
        return Read({label: 1 / len(labels) for label in labels}, 1 + 1e-6)

    reward = load("geneval2", judge="mini-vlm")
    monkeypatch.setattr(models.vlm("mini-vlm"), "read", certain, raising=True)
    counts = [["How many circles are in the image?", "one"]] * 3
    (score,) = engine.score([Sample(image=Media(PICTURE), meta={"vqa_list": counts})], reward)["geneval2"]
    assert score.value == 1.0


def test_means():
    assert geometric([0.25, 1.0]) == 0.5 and geometric([1.0, 0.0]) == 0 and geometric([1e-300] * 10) > 0


@pytest.mark.parametrize(
    ("answer", "right", "others"),
    [
        ("four", ("four", "4"), ()),
        ("4", ("four", "4"), ()),
        ("Seven ", ("seven", "7"), ()),
        ("ten", ("ten",), ("nine",)),
        ("twelve", ("twelve",), ("eleven",)),
    ],
)
def test_numbers_are_read_as_words_and_digits(answer, right, others):
    (atom,) = atoms_of({"vqa_list": [["How many dogs?", answer]]})
    assert (atom.right, atom.others) == (right, others)


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({}, "asks nothing"),
        ({"vqa_list": "[["}, "vqa_list is not JSON"),
        ({"vqa_list": 3}, "vqa_list is int"),
        ({"vqa_list": [["Is it red?"]]}, "not .question, answer."),
        ({"vqa_list": [["", "Yes"]]}, "has no question"),
        ({"vqa_list": [["Is it red?", "red"]]}, "the answer is Yes or No, not 'red'"),
        ({"vqa_list": [["How many?", "many"]]}, "a number from zero to nineteen, not 'many'"),
        ({"vqa_list": [["How many?", "one"]] * 65}, "65 questions; the limit is 64"),
        ({"vqa_list": [["How many?", "one"]], "skills": ["count", "verb"]}, "1 questions in vqa_list have 2"),
        ({"vqa_list": [["How many?", "one"]], "skills": ["gm"]}, "'gm' is no name for a skill"),
    ],
)
def test_what_is_no_list_of_questions_says_why(meta, said):
    with pytest.raises(Unscorable, match=said):
        atoms_of(meta)
