"""Questions of a prompt: by the grammar, by a writer behind a server, into rows, and into the rewards."""

import json

import numpy as np
import pytest
from PIL import Image
from support.chatserver import ChatServer, Reply, completion, shown
from typer.testing import CliRunner

from mmreward import Engine, Media, Sample, load, models
from mmreward.cli import app
from mmreward.data.captions import parse_scene
from mmreward.data.question_writer import write_questions
from mmreward.data.questions import (
    Question,
    check_questions,
    columns_of,
    probes_of,
    questions_of,
    read_questions,
    without,
)
from mmreward.data.rows import read_rows
from mmreward.errors import Unscorable
from mmreward.mini import tasks
from mmreward.mini.world import COLOURS, SHAPES, describe, holds, render, sample_scene
from mmreward.rewards.judged.checklist import checks_of
from mmreward.rewards.judged.evidence import facts_of
from mmreward.rewards.rules.probes import is_right
from mmreward.rewards.rules.probes import probes_of as read_probes


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def asked(caption, exact=False):
    return {one.name: (one.answer, one.parents) for one in questions_of(parse_scene(caption), exact=exact)}


def test_questions_depend_on_what_they_presuppose():
    assert asked("a small red circle left of two blue squares") == {
        "object: circle": ("yes", ()),
        "attribute: red circle": ("yes", ("object: circle",)),
        "attribute: small red circle": ("yes", ("attribute: red circle",)),
        "object: square": ("yes", ()),
        "attribute: blue square": ("yes", ("object: square",)),
        "count: two blue squares": ("2", ("attribute: blue square",)),
        "relation: small red circle left of blue squares": (
            "yes",
            ("attribute: small red circle", "attribute: blue square"),
        ),
    }
    assert "count: one dog" in asked("a dog", exact=True) and len(asked("a dog")) == 1
    assert list(asked("a red dog and a blue dog")) == [
        "object: dog",
        "attribute: red dog",
        "attribute: blue dog",
    ]


def truth(question, things):
    """Answer of shapes world's own questions from the scene, never from a caption."""
    for colour in ("", *COLOURS):
        for shape in SHAPES:
            noun = tasks.Noun(colour, shape)
            if question == tasks.PRESENT.format(noun=noun):
                return "yes" if noun.number(things) else "no"
            if question == tasks.COUNT.format(noun=noun):
                return str(noun.number(things))
    for a in things:
        for b in things:
            for words in tasks.RELATIONS:
                pair = {"first": " ".join(a.kind), "second": " ".join(b.kind), "relation": words}
                if question == tasks.RELATION.format(**pair):
                    return "yes" if holds(words, a, b) else "no"
    return None


def test_the_questions_of_a_thousand_captions_are_in_mini_vlms_words_and_true_of_their_scenes():
    rng = np.random.default_rng(1)
    for _ in range(1000):
        scene = sample_scene(rng)
        caption = describe(scene, rng, relations=0.7)
        graph = parse_scene(str(caption))
        questions = check_questions(questions_of(graph, exact=True))
        for one in questions:
            assert truth(one.question, scene.things) == one.answer, one
        # All but the number of all shapes, which a caption of the wide world does not fix.
        own = {text for text, _ in tasks.checklist(caption)} - {tasks.COUNT.format(noun=tasks.Noun())}
        assert own <= {one.question for one in questions}
        sample = Sample(prompt=str(caption), meta=columns_of(questions, probes_of(graph, exact=True)))
        assert len(checks_of(sample, {})) == len(questions) == len(facts_of(sample))
        for probe in read_probes(sample.meta["probes"]):
            if probe.question.startswith("How many"):
                assert is_right(truth(probe.question, scene.things), probe)


def test_probes_are_open_where_they_can_be():
    assert probes_of(parse_scene("a red circle left of a blue square")) == [
        {"question": "What colour is the circle? Answer with one word.", "answer": "red"},
        {"question": "What colour is the square? Answer with one word.", "answer": "blue"},
        {
            "question": "Is the red circle left or right of the blue square? Answer with one word.",
            "answer": "left",
        },
    ]
    assert probes_of(parse_scene("three red dogs and a blue dog"))[0]["answer"] == ["3", "three"]
    assert probes_of(parse_scene("an owl")) == [
        {"question": "Is there an owl? Answer yes or no.", "answer": "yes"}
    ]


def test_numbers_that_a_digit_does_not_say_are_asked_with_yes_or_no():
    (_, count) = questions_of(parse_scene("twelve dogs"))
    assert (count.question, count.answer) == ("Are there twelve dogs? Answer yes or no.", "yes")


# --- the reward ---------------------------------------------------------------------------------------------


def scored(engine, caption, picture, **arguments):
    meta = columns_of(questions_of(parse_scene(caption)))
    sample = Sample(prompt=caption, image=Media(picture), meta=meta)
    (score,) = engine.score([sample], load("checklist", judge="mini-vlm", **arguments))["checklist"]
    return score


def scene_of(*kinds):
    return render(sample_scene(np.random.default_rng(3), kinds), 64)


def test_a_question_whose_parent_failed_counts_as_wrong(engine):
    caption, picture = "two red circles", scene_of(("blue", "circle"), ("blue", "circle"))
    plain = scored(engine, "a red circle left of a blue square", scene_of(("red", "circle")))
    assert plain.parts["object: circle"] == 1 and plain.parts["object: square"] == 0
    for soft in (False, True):
        free = scored(engine, caption, picture, soft=soft)
        bound = scored(engine, caption, picture, soft=soft, dependent=True)
        assert bound.parts["attribute: red circle"] == free.parts["attribute: red circle"] < 0.5
        assert bound.parts["object: circle"] == free.parts["object: circle"] > 0.5
        assert bound.parts["count: two red circles"] == 0
        assert bound.value == pytest.approx(sum(bound.parts.values()) / 3)
    right = scored(engine, caption, scene_of(("red", "circle"), ("red", "circle")), dependent=True)
    assert right.value == 1 and not right.note


def test_failure_goes_down_all_generations_and_says_so(engine):
    entries = [
        entry("third", "Is there a red circle? Answer yes or no.", parents=["second"]),
        entry("second", "Is there a circle? Answer yes or no.", parents=["first"]),
        entry("first", "Is there a blue square? Answer yes or no."),
    ]
    sample = Sample(prompt="x", image=Media(scene_of(("red", "circle"))), meta={"checklist": entries})
    reward = load("checklist", judge="mini-vlm", dependent=True)
    (score,) = engine.score([sample], reward)["checklist"]
    assert score.value == 0 and "depending on a wrong one, counted as wrong: second, third" in score.note
    (score,) = engine.score([sample], load("checklist", judge="mini-vlm"))["checklist"]
    assert score.value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        (["ghost"], "depends on 'ghost', which is not there"),
        (["q"], "depends on itself"),
        ("q", "parents of checklist entry 1 are 'q', not a list of names"),
        ([3], "not a list of names"),
    ],
)
def test_parents_that_make_no_sense_are_the_datas_fault(parents, message):
    entry = {"name": "q", "question": "Is there a dog?", "answer": "yes", "parents": parents}
    with pytest.raises(Unscorable, match=message):
        checks_of(Sample(prompt="x", meta={"checklist": [entry]}), {})


# --- a writer's answer --------------------------------------------------------------------------------------


def entry(name, question, answer="yes", parents=(), **more):
    known = {"name": name, "kind": "object", "question": question, "answer": answer}
    return known | {"parents": list(parents), **more}


DOG = entry("dog", "Is there a dog? Answer yes or no.", fact="there is a dog.")
BROWN = entry("brown", "Is the dog brown? Answer yes or no.", parents=["dog"])
MANY = entry("many", "How many dogs are there? Answer with one number.", "1", ["dog"])


def answer(*entries):
    return json.dumps({"questions": list(entries)})


@pytest.mark.parametrize("dress", ["{}", "```json\n{}\n```", "```\n{}\n```", "<think>so</think>\n{}"])
def test_a_writers_answer_is_read_alone_or_in_a_fence_parents_first(dress):
    text = dress.replace("{}", answer(BROWN, DOG, MANY))
    assert [one.name for one in read_questions(text)] == ["dog", "brown", "many"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("no idea", "is not JSON"),
        (f"Here you are: {answer(DOG)}", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"questions": NaN}', "NaN is no JSON"),
        (answer(), "at least 1 item"),
        (answer(DOG | {"score": 1}), "Extra inputs"),
        (answer({"question": "Is there a dog?"}), "questions.0.name: Field required"),
        (answer(DOG, DOG), "'dog' is there twice"),
        (answer(DOG, DOG | {"name": "again"}), "'again' is there twice"),
        (answer(DOG | {"answer": "maybe"}), "'maybe' is not yes, no or a number"),
        (answer(DOG | {"answer": "Yes"}), "'Yes' is not yes, no or a number"),
        (answer(DOG | {"answer": "12"}), "'12' is not yes, no or a number"),
        (answer(DOG, MANY | {"answer": "yes"}), "is not answered by 'yes'"),
        (answer(DOG | {"answer": "3"}), "is not answered by '3'"),
        (answer(DOG | {"question": "a dog"}), "'a dog' is no question"),
        (answer(BROWN), "'brown' depends on 'dog', which is not there"),
        (answer(DOG | {"parents": ["brown"]}, BROWN), "depends on itself"),
        (answer(DOG | {"kind": "feeling"}), "questions.0.kind"),
        (answer(DOG | {"question": "?" * 500}), "at most 400"),
        (answer(*(DOG | {"name": str(n), "question": f"Is {n}?"} for n in range(500))), "500 of them"),
    ],
)
def test_whatever_else_a_writer_returns_is_unparsable(text, reason):
    with pytest.raises(Unscorable, match=reason) as refused:
        read_questions(text)
    assert refused.value.status == "unparsable"


def test_dropping_a_question_drops_what_depends_on_it():
    questions = read_questions(answer(DOG, BROWN, MANY, entry("cat", "Is there a cat?")))
    assert [one.name for one in without(questions, ["dog"])] == ["cat"]
    assert [one.name for one in without(questions, ["brown"])] == ["dog", "cat", "many"]


# --- the command --------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, ["questions", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def data(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "in" / "a.png")
    rows = [
        {"id": "one", "prompt": "a red circle", "image": "a.png", "meta": {"k": 1}},
        {"id": "two", "prompt": "a red circle", "target": [1, 2]},
        {"id": "three", "prompt": "dogs running in the rain"},
        {"id": "one", "prompt": "again"},
        {"id": "four", "image": "a.png"},
    ]
    path = tmp_path / "in" / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_keep_what_they_had_and_gain_their_questions(data, tmp_path):
    out = tmp_path / "out" / "asked.jsonl"
    done = run(data, "--out", out, "--max-failures", "100%")
    assert done.exit_code == 0
    assert "4 rows, 1 prompts with 2 questions" in done.output
    assert "the grammar does not read 'dogs running in the rain'" in done.output
    assert "row one#3: the id 'one' was used before" in done.output
    one, two, three, four = [row.sample for row in read_rows(out)]
    assert one.image.source.resolve() == (data.parent / "a.png").resolve() and one.meta["k"] == 1
    assert [e["name"] for e in one.meta["checklist"]] == ["object: circle", "attribute: red circle"]
    assert two.meta["checklist"] == one.meta["checklist"] and two.target == [1, 2]
    assert "checklist" not in three.meta and "checklist" not in four.meta


def test_too_many_prompts_without_questions_end_with_the_budgets_code(data, tmp_path):
    assert run(data, "--out", tmp_path / "asked.jsonl").exit_code == 3
    assert (tmp_path / "asked.jsonl").is_file()


def test_pictures_of_a_table_are_written_into_the_row(tmp_path):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    held = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(held, "PNG")
    torn = {"bytes": b"no picture", "path": None}
    images = [{"bytes": held.getvalue(), "path": None}, torn]
    pq.write_table(pa.table({"prompt": ["a dog", "a cat"], "image": images}), tmp_path / "rows.parquet")
    done = run(tmp_path / "rows.parquet", "--out", tmp_path / "asked.jsonl", "--max-failures", "1")
    (row,) = read_rows(tmp_path / "asked.jsonl")
    assert row.sample.image.array().shape == (8, 8, 3)
    assert "row 000001 cannot be written as JSON" in done.output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--out", "asked.txt"), "ends in .jsonl"),
        (("--out", "rows.jsonl"), "is there already"),
        (("--out", "asked.jsonl", "--writer", "mini-vlm", "--exact"), "exact belongs to the grammar"),
    ],
)
def test_wrong_arguments_are_one_line(data, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(data.parent)
    with pytest.raises(ValueError, match=message):
        run("rows.jsonl", *change)


def test_rows_that_have_questions_are_refused(tmp_path, engine):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a dog", "meta": {"checklist": []}}\n')
    with pytest.raises(ValueError, match="row 000000 has checklist already"):
        write_questions(tmp_path / "rows.jsonl", tmp_path / "asked.jsonl", engine)


def writer(replies):
    """A server that writes questions, and does not find brown in the prompt when it is asked back."""

    def app(request):
        if request.path != "/v1/chat/completions":
            return Reply(b"", 404)
        text = json.dumps(request.body["messages"])
        if "Write questions that somebody" in text:
            prompt = next(prompt for prompt in replies if prompt in text)
            return Reply(completion(replies[prompt]))
        words = ("no", "yes") if "brown" in text.rpartition("exactly this")[2] else ("yes", "no")
        return Reply(shown((words[0], -0.05), (words[1], -3.0), *((f"w{i}", -17.0 - i) for i in range(18))))

    return ChatServer(app)


@pytest.mark.parametrize("ask_back", [True, False])
def test_a_served_writer_is_checked_question_by_question(tmp_path, engine, ask_back):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a loyal dog"}\n{"prompt": "a cat"}\n{"prompt": "a loyal dog"}\n')
    with writer({"a loyal dog": answer(DOG, BROWN), "a cat": "I would rather not."}) as server:
        vlm = models.vlm(f"any@{server.url}")
        done = write_questions(path, tmp_path / "asked.jsonl", engine, writer=vlm, ask_back=ask_back)
        written = [r for r in server.requests if "Write questions" in json.dumps(r.body)]
        assert len(written) == 2, "each prompt once"
    assert (done.prompts, done.questions, done.dropped) == ((1, 1, 1) if ask_back else (1, 2, 0))
    (reason,) = done.unasked
    assert reason.startswith("'a cat': unparsable, ")
    first, second, third = [row.sample for row in read_rows(tmp_path / "asked.jsonl")]
    names = [e["name"] for e in first.meta["checklist"]]
    assert names == (["dog"] if ask_back else ["dog", "brown"]) and first.meta["facts"] == ["there is a dog."]
    assert third.meta == first.meta and not second.meta


def test_a_question_is_frozen_and_named():
    with pytest.raises(ValueError, match="frozen"):
        Question(name="a", kind="object", question="Is it?", answer="yes").name = "b"
