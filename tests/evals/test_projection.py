"""PARROT's pointwise samples: a teacher's critiques of two pictures, their filter, rows for one picture."""

import random
from dataclasses import replace

import numpy as np
import pytest
from support.mutations import mutated
from support.toys import toy
from transformers import AutoTokenizer

from mmreward import Engine, Media, Score, Unscorable
from mmreward.judges import training
from mmreward.judges.comparison import Comparison
from mmreward.judges.miniature import sample_comparisons
from mmreward.judges.projection import (
    ASPECTS,
    Projected,
    projected_rows,
    question_of,
    read_critiques,
    sample_critiques,
)
from mmreward.judges.rationales import Rationale
from mmreward.models.vlms.answers import Written
from mmreward.models.weights import locate
from mmreward.rewards.judged.asking import Asking
from mmreward.rewards.judged.aspects import read_aspects

NAMES = list(ASPECTS)


def critique(faith, quality, why="It has the circle."):
    first = f"## {NAMES[0]}\nJustification: {why}\nScore: {faith}"
    return f"{first}\n## {NAMES[1]}\nJustification: clean\nScore: {quality}"


def text(first=(4, 3), second=(2, "N/A"), refined="one red circle on black"):
    parts = f"# Picture 1\n{critique(*first)}\n# Picture 2\n{critique(*second)}"
    return f"<think>hm</think>{parts}\n# Better request\n{refined}"


def compared(better="1"):
    pictures = tuple(Media(np.full((8, 8, 3), level, np.uint8)) for level in (10, 200))
    return Comparison("a", "one red circle", pictures, better)


class Teacher:
    def __init__(self, said, finished=True):
        self.said, self.finished, self.asked = said, finished, []

    async def write(self, media, prompt, **options):
        self.asked.append(prompt)
        return Written(self.said, self.finished, 9)


HEARD = []


async def hears(sample):
    HEARD.append(sample.response)
    return Score(float("circle" in sample.response))


def sampled(said, better="1", finished=True):
    HEARD.clear()
    teacher = Teacher(said, finished)
    with Engine("cpu") as engine:
        checker = toy(hears, "hears")
        (found,) = engine.run(sample_critiques(teacher, [compared(better)], checker))
    return found, teacher


def test_the_miniature_can_write_what_its_teacher_is_taught():
    """A heading with a word that its tokenizer does not have could be in no critique of it."""
    tokenizer = AutoTokenizer.from_pretrained(locate("mini-vlm"))
    for one in sample_comparisons(20, 4):
        lesson = one.true_critiques()
        assert tokenizer.unk_token not in tokenizer.tokenize(lesson)
        written = tokenizer.decode(tokenizer(lesson)["input_ids"], skip_special_tokens=True)
        assert read_critiques(written, NAMES).verdict == one.comparison.better


def test_a_teacher_s_text_is_taken_apart():
    found = read_critiques(text(), NAMES)
    assert found.marks == ({NAMES[0]: 4, NAMES[1]: 3}, {NAMES[0]: 2}) and found.verdict == "1"
    assert found.refined == "one red circle on black" and found.parts[0] == critique(4, 3)
    assert "Score" not in found.words and "It has the circle." in found.words
    assert read_critiques(text((2, 3), (2, 3)), NAMES).verdict == ""


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("", "unparsable"),
        (text(refined=""), "unparsable"),
        (text().replace("# Picture 2", "# Picture 1"), "unparsable"),
        (text().replace("# Better request", ""), "unparsable"),
        (text((5, 3)), "out_of_range"),
        (text().replace("Score: 3", ""), "missing"),
    ],
)
def test_what_cannot_be_read_is_a_typed_failure(said, status):
    with pytest.raises(Unscorable) as raised:
        read_critiques(said, NAMES)
    assert raised.value.status == status


def test_mutated_texts_raise_nothing_else():
    rng = random.Random(3)
    for _ in range(1500):
        try:
            read_critiques(mutated(text(), rng), NAMES)
        except Unscorable as error:
            assert error.status in ("unparsable", "missing", "out_of_range")


def test_it_is_told_the_verdict_and_must_predict_it_again_without():
    found, teacher = sampled(text())
    assert found.outcome == "kept" and teacher.asked[0].endswith("Picture 1 is better.")
    assert "Score" not in HEARD[0] and "is better" not in HEARD[0]
    assert sampled(text().replace("circle", "dot"))[0].outcome == "unconvincing"


def test_what_does_not_agree_is_not_kept():
    assert sampled(text(), better="2")[0].outcome == "wrong" and HEARD == []
    assert sampled(text((2, 2), (2, 2)))[0].outcome == "wrong"
    assert sampled("nothing")[0].outcome == "unreadable"
    assert sampled(text(), finished=False)[0].outcome == "unreadable"


def test_each_picture_is_a_sample_of_the_reward_critique():
    found, _ = sampled(text())
    rows = projected_rows([found, Projected(compared(), "wrong")])
    assert len(rows) == 2 and [int(np.asarray(row["images"][0])[0, 0, 0]) for row in rows] == [10, 200]
    asked = {row["prompt"][0]["content"] for row in rows}
    assert asked == {question_of("one red circle", ASPECTS, single=True)} and "better" not in asked.pop()
    for row, marks in zip(rows, found.critiques.marks, strict=True):
        said = row["completion"][0]["content"]
        assert read_aspects(said, NAMES, 1, 4).parts == marks and said.endswith("one red circle on black")
        assert "Picture" not in said
    plain = projected_rows([found], refined=False)
    assert plain[0]["completion"][0]["content"] == critique(4, 3)


def test_a_teacher_of_the_miniature_is_taught_to_criticise_both(tmp_path, monkeypatch):
    """True critiques of scenes are in the layout that is asked for, and on the side of the better picture."""
    drawn = sample_comparisons(30, seed=6)
    read = [(one.comparison.better, read_critiques(one.true_critiques(), NAMES)) for one in drawn]
    assert all(found.verdict in ("", better) for better, found in read)
    assert sum(found.verdict == better for better, found in read) > 20, "marks are rounded, few are equal"
    taught = []
    with Engine("cpu") as engine:
        run = training.TrainingRun(
            engine,
            {"student": "a", "teacher": "b"},
            [],
            Asking(system=""),
            toy(hears, "hears"),
            60,
            tmp_path,
            0,
        )
        monkeypatch.setattr(run, "finetune", lambda role, rows, arguments: taught.extend(rows))
        training.TaughtStage(kind="taught", who="teacher", number=4, hint=True, critiques=True).run(run)
    said = [row["completion"][0]["content"] for row in taught]
    assert [text.startswith("# Picture 1") for text in said] == [False, True] * 2
    asked = taught[1]["prompt"][0]["content"]
    request = asked.partition("request: ")[2].partition("\n")[0]
    hint = asked.removeprefix(question_of(request, ASPECTS, single=False))
    assert hint in ("\nPicture 1 is better.", "\nPicture 2 is better."), "as `sample_critiques` asks"


def test_the_student_learns_critiques_beside_rationales(tmp_path, monkeypatch, capsys):
    """As published, in one fine-tuning: trained on critiques alone after it, it forgot how to compare."""
    teacher, taught = Teacher(text()), []
    pairs = [replace(compared("1"), id="a"), replace(compared("2"), id="b")]
    told = [Rationale(one, (f"because {one.better}",), one.better, "kept") for one in pairs]
    monkeypatch.setattr(training.models, "vlm", lambda name: teacher)
    monkeypatch.setattr(training, "load", lambda name, **args: toy(hears, "hears"))
    with Engine("cpu") as engine:
        run = training.TrainingRun(
            engine, {"student": "a", "teacher": "b"}, pairs, Asking(), toy(hears, "hears"), 60, tmp_path, 0,
        )  # fmt: skip
        monkeypatch.setattr(run, "finetune", lambda role, rows, arguments: taught.append((role, rows)))
        monkeypatch.setattr(run, "sample", lambda *_, **__: told)
        training.ParrotStage(kind="parrot").run(run)
        training.ParrotStage(kind="parrot", projected={"refined": False}).run(run)
    (_, plain), (role, rows) = taught
    assert role == "student" and rows[:2] == plain and len(plain) == 2
    assert [len(row["images"]) for row in rows] == [2, 2, 1, 1]
    assert rows[2]["completion"][0]["content"] == critique(4, 3)
    assert "1 kept, 1 wrong" in capsys.readouterr().out
    teacher.said = "nothing"
    with Engine("cpu") as engine, pytest.raises(ValueError, match="nothing to learn from in 2 critiques"):
        run.engine = engine
        training.ParrotStage(kind="parrot", projected={}).run(run)
