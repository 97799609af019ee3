"""Modes of `critique` and `preference`: golden judgements, hedges, votes, probabilities, meta-judges."""

import asyncio
import json
import math
from dataclasses import replace

import pytest
from PIL import Image
from support.modes import Judge, chain, contrast, critique, decided, principles, ranked, rubric
from support.mutations import never_raise_nor_pay

from mmreward import Engine, Media, Sample, Unscorable, load, models
from mmreward.evals.speed.votes import spent, table
from mmreward.models.pinned import Pin
from mmreward.models.vlms.answers import LogProb
from mmreward.rewards.judged.modes import read_principles, read_ranked, read_rubric, read_weighed
from mmreward.rewards.judged.pair_modes import read_both, read_chain, read_decided, read_order, read_rubrics
from mmreward.rewards.published.expecting import exact, scale_of
from mmreward.rewards.published.votes import Marks, Options, PairMarks, Vote, by_sum, counted
from mmreward.search.run import critics_of
from mmreward.search.writers import critique_of


def picture(shade):
    return Media(Image.new("RGB", (8, 8), (shade, 0, 0)))


FIRST, SECOND = (Sample(prompt='a "red" circle', image=picture(shade), group="g") for shade in (10, 200))


@pytest.fixture
def loaded(monkeypatch):
    """A reward whose judges are scripted, by their names."""

    def make(name, judges, **options):
        judges = judges if isinstance(judges, dict) else {"any": judges}
        monkeypatch.setattr(models, "vlm", lambda name, **_: judges[name])
        reward = load(name, judge="any", **options)
        given = (FIRST,) if name == "critique" else (FIRST, SECOND)
        return lambda *samples: asyncio.run(reward(*(samples or given)))

    return make


def status_of(read, text):
    with pytest.raises(Unscorable) as raised:
        read(text)
    return raised.value.status


# --- grammars ---------------------------------------------------------------------------------------------


def weighed(text):
    return read_weighed(text, 1, 4)


def both(text):
    return read_both(text, 1, 10)


def test_golden_judgements():
    marks = weighed(principles(4, 2))
    assert marks.parts == {"right number": 4, "sharpness": 2} and marks.final == pytest.approx(3.2)
    assert weighed(principles(4, "N/A")).final == 4
    assert read_principles("**Principle 1: Colour (50%)** - red\n- Principle 2: Number (50)") == {
        "colour": 50, "number": 50}  # fmt: skip
    pair = both(principles((9, 3), (2, 8)))
    assert pair.parts == pytest.approx({"right number": 3.6, "sharpness": -2.4}) and by_sum(pair) == 1.0
    assert read_ranked(ranked(3), 1) == ([3.0], "") and read_ranked('{"scores": {"model-1": 5}}', 1)[0] == [5]
    assert read_order(ranked(2, 4)).parts == {"principle": -2.0}
    assert read_order(ranked(2, 4, order=["model-1", "model-2"])).contradiction
    marks = read_rubric(
        rubric(("essential", True), ("essential", False), ("pitfall", True), ("optional", False))
    )
    assert marks.parts == {"essential": 0.5, "optional": 0, "pitfall": 1}
    assert marks.final == pytest.approx(1.9 / (2 + 0.9 + 0.3))
    assert read_chain(chain()).verdict == "1"
    assert read_chain("<think>[[A]]</think>" + chain("[[B]]", "Reasoning")).verdict == "2"
    assert read_rubrics(contrast("two circles", "a sharp edge")) == ["two circles", "a sharp edge"]
    found = read_decided(decided("1", "2", "1"), 3)
    assert (found.verdict, found.parts, found.contradiction) == ("1", {"rubrics": 1.0}, "")
    assert read_decided(decided("2", "2", "1"), 3).contradiction


@pytest.mark.parametrize(
    ("read", "text", "status"),
    [
        (weighed, critique(3, 2), "missing"),
        (weighed, principles(3, 2, weights=("40-60", 40)), "unparsable"),
        (weighed, principles(3, 2, weights=(0, 40)), "unparsable"),
        (weighed, principles(3, 2, names=("votes", "Sharpness")), "unparsable"),
        (weighed, principles(3, 2, names=("A", "A")), "unparsable"),
        (weighed, principles("N/A", "N/A"), "na"),
        (weighed, principles("3 or 4", 2), "unparsable"),
        (weighed, principles(5, 2), "out_of_range"),
        (both, principles((3, 4), (3, "N/A")), "unparsable"),
        (both, principles((3, 4), 3), "missing"),
        (both, principles((3, "4-5"), (3, 3)), "unparsable"),
        (both, principles((0, 4), (3, 3)), "out_of_range"),
        (read_order, ranked(3), "unparsable"),
        (read_order, ranked(3, 6), "out_of_range"),
        (read_order, ranked(3, '"4"', order=["model-1", "model-2"]), "unparsable"),
        (read_order, ranked(3, 4, order=["model-2"]), "unparsable"),
        (read_order, "model-1 is better", "unparsable"),
        (read_order, '{"scores": {}}', "missing"),
        (read_rubric, rubric(("important", True)), "missing"),
        (read_rubric, rubric(("essential", "mostly")), "unparsable"),
        (read_rubric, rubric(("vital", True)), "unparsable"),
        (read_rubric, rubric(*[("essential", True)] * 13), "unparsable"),
        (read_rubric, '{"rubric": []}', "missing"),
        (read_rubric, '{"rubric": [{"check": "a", "rank": "essential", "good": true}]}', "unparsable"),
        (read_chain, chain("A"), "unparsable"),
        (read_chain, chain("[[A]] or [[B]]"), "unparsable"),
        (read_chain, chain(kind="Poetry"), "unparsable"),
        (read_chain, chain().replace("rubric", "solution"), "missing"),
        (read_chain, chain() + "<answer>[[B]]</answer>", "unparsable"),
        (read_chain, "<answer>[[A]]</answer>", "missing"),
        (read_rubrics, contrast(), "missing"),
        (read_rubrics, contrast(*"abcdef"), "unparsable"),
        (read_rubrics, contrast("a", "A"), "unparsable"),
        (read_rubrics, "Rubric: two circles", "missing"),
        (lambda text: read_decided(text, 2), decided("1"), "missing"),
        (lambda text: read_decided(text, 1), decided("1", "1"), "unparsable"),
        (lambda text: read_decided(text, 1), decided("1 or 2"), "unparsable"),
        (lambda text: read_decided(text, 1), decided("1", answer="perhaps 1"), "unparsable"),
    ],
)
def test_what_is_no_judgement_is_a_failure(read, text, status):
    assert status_of(read, text) == status


HEDGES = ("3 or 4", "3-4", "maybe 3", "~3")
TEXTS = {
    "critique": (weighed, [principles(3, 2), *(principles(hedge, 2) for hedge in HEDGES)]),
    "pair": (both, [principles((3, 2), (4, 4)), *(principles((hedge, 2), (4, 4)) for hedge in HEDGES)]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_mutated_marks_never_raise_and_never_pay_a_hedge(name):
    read, texts = TEXTS[name]
    never_raise_nor_pay(read, texts, HEDGES, seed=3, count=10_000)


WORDS = ("1 or 2", "both", "2, maybe 1", "[[A]] or [[B]]")


@pytest.mark.parametrize(
    ("read", "texts", "hedges"),
    [
        (read_order, [ranked(3, 4)], WORDS),
        (read_rubric, [rubric(("essential", True), ("pitfall", False), ("optional", True))], WORDS),
        (read_chain, [chain(), chain("[[B]]", "Reasoning")], WORDS),
        (lambda text: Marks(dict.fromkeys(read_rubrics(text), 1.0)), [contrast("two circles", "sharp")], ()),
        (
            lambda text: read_decided(text, 2),
            [decided("1", "2"), *(decided(word, "1") for word in WORDS)],
            WORDS,
        ),
    ],
    ids=["given", "rubric", "chain", "contrast", "decided"],
)
def test_mutated_forms_never_raise_and_never_pay_a_hedge(read, texts, hedges):
    never_raise_nor_pay(read, texts, hedges, seed=4, count=10_000)


# --- every mode, asked and scored -------------------------------------------------------------------------

CRITIQUES = [
    ({}, critique(4, 2.5), 0.75),
    ({"mode": "principles"}, principles(4, 1), 0.6),
    ({"mode": "given", "principle": "Few \"things\"."}, ranked(4), 0.75),
    ({"mode": "rubric"}, rubric(("essential", True), ("important", False)), 1 / 1.7),
]  # fmt: skip


@pytest.mark.parametrize(("options", "text", "value"), CRITIQUES)
def test_modes_of_a_critique(loaded, options, text, value):
    judge = Judge([text])
    score = loaded("critique", judge, **options)()
    assert score.value == pytest.approx(value) and score.note == text and "uncertainty" not in score.parts
    ((pictures, question, _, system),) = judge.asked
    assert [media.key for media in pictures] == [FIRST.image.key]
    asked = question + system
    assert ("red" in asked) and ("Few" in asked) == (options.get("mode") == "given")


def test_each_aspect_in_a_text_of_its_own(loaded):
    aspects = {"Number": "is it one", "Colour": "is it red", "Text": "is it spelled"}
    marks = {"Number": 4, "Colour": 1, "Text": "N/A"}

    def say(pictures, question, seed):
        (name,) = (name for name in aspects if f"- {name}:" in question)
        return critique(marks[name], names=[name])

    score = loaded("critique", Judge(say), mode="each", aspects=aspects)()
    assert score.parts == {"Number": 4, "Colour": 1} and score.value == pytest.approx(0.5)
    assert score.note.count("##") == 2
    marks |= {"Number": "N/A", "Colour": "N/A"}
    with pytest.raises(Unscorable, match="no aspect applies"):
        loaded("critique", Judge(say), mode="each", aspects=aspects)()


def test_binary_principles_are_probabilities(loaded):
    judge = Judge(yes=lambda question: 0.9 if "sharp" in question else 0.4)
    score = loaded("critique", judge, mode="binary", aspects={"Sharp": "it is sharp.", "Red": "it is red"})()
    assert score.value == pytest.approx(0.65) and score.parts["Red"] == pytest.approx(0.4)
    assert score.parts["uncertainty"] == pytest.approx(math.sqrt(0.09 + 0.24) / 2)
    assert score.parts["confidence"] == pytest.approx(0.75)


PAIRS = [
    ({}, ["<think>one</think><answer>2</answer>"], 0.0),
    ({"mode": "principles"}, [principles((9, 3), (2, 8))], 1.0),
    ({"mode": "given", "principle": "Few things."}, [ranked(4, 4)], 0.5),
    ({"mode": "chain"}, [chain("[[B]]")], 0.0),
    ({"mode": "contrast"}, [contrast("one circle", "sharp"), decided("1", "tie")], 1.0),
]


@pytest.mark.parametrize(("options", "texts", "value"), PAIRS)
def test_modes_of_a_preference(loaded, options, texts, value):
    judge = Judge(texts)
    score = loaded("preference", judge, **options)()
    assert score.value == value and score.note == "\n\n".join(texts) and score.parts["uncertainty"] == 0.0
    for pictures, question, _, system in judge.asked:
        assert [media.key for media in pictures] == [FIRST.image.key, SECOND.image.key]
        assert "red" in question + system
    if options.get("mode") == "contrast":
        assert "1. one circle\n2. sharp" in judge.asked[1][1]


def test_rubrics_of_another_writer(loaded):
    writer, judge = Judge([contrast("a circle")]), Judge([decided("2", answer="2")])
    made = loaded("preference", {"any": judge, "w": writer}, mode="contrast", writer="w")
    assert made().value == 0.0 and len(writer.asked) == len(judge.asked) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [({"mode": "contrast"}, decided("2", "2", answer="1")),
     ({"mode": "given", "principle": "x"}, ranked(2, 4, order=["model-1", "model-2"]))],
)  # fmt: skip
def test_a_verdict_against_its_marks_fails_or_is_kept(loaded, options, text):
    def say(pictures, question, seed):
        return contrast("a", "b") if "Contrast:" in question else text

    with pytest.raises(Unscorable, match="contradicts itself"):
        loaded("preference", Judge(say), **options)()
    score = loaded("preference", Judge(say), contradictions="keep", **options)()
    assert score.parts["contradiction"] == 1.0


WRONG = [
    ("critique", {"mode": "ranks"}, "mode"),
    ("critique", {"mode": "given"}, "principle is the words"),
    ("critique", {"principle": "short"}, "principle is the words"),
    ("critique", {"mode": "rubric", "how": "expected"}, "how=expected reads"),
    ("critique", {"mode": "rubric", "aspects": {"a": "b"}}, "leave aspects out"),
    ("critique", {"aspects": {"votes": "b"}}, "is called 'votes'"),
    ("critique", {"how": "expected", "step": 0.7}, r"step 0\.7"),
    ("critique", {"votes": 3}, r"temperature=0\.7"),
    ("critique", {"mode": "binary", "votes": 3, "temperature": 1.0}, "leave votes, meta and knowledge out"),
    ("critique", {"keep": 1}, "name one with meta"),
    ("critique", {"meta": "any"}, "best of several votes"),
    ("critique", {"words": "published"}, "words of the mode aspects are ours"),
    ("preference", {"mode": "vote"}, "mode"),
    ("preference", {"turns": 2, "how": "expected"}, "one turn"),
    ("preference", {"mode": "chain", "turns": 2}, "of the mode verdict"),
    ("preference", {"writer": "any"}, "writer writes the rubrics"),
]


@pytest.mark.parametrize(("name", "options", "words"), WRONG)
def test_options_that_do_not_go_together_are_refused(loaded, name, options, words):
    with pytest.raises(ValueError, match=words):
        loaded(name, Judge(), **options)


def test_a_judge_is_told_what_tools_say(loaded):
    """As quoted text, beside the question; the tie of a preference is read again with the same words."""
    known = [replace(one, meta={"seen": f"sees {n} <<circles>>"}) for n, one in enumerate((FIRST, SECOND), 1)]
    judge = Judge([critique(4, 4)])
    assert loaded("critique", judge, knowledge="seen")(known[0]).value == 1.0
    assert "Tools say" in judge.asked[0][1] and "sees 1 < <circles> >" in judge.asked[0][1]
    judge = Judge(["<think>a</think><answer>1</answer>"], chance=lambda given, text: 0.2)
    assert loaded("preference", judge, knowledge="seen", how="expected")(*known).value == pytest.approx(0.5)
    ((_, question, *_),) = judge.asked
    assert question.index("Picture 1:") < question.index("sees 1") < question.index("sees 2")
    assert {asked for asked, *_ in judge.tried} == {question}
    judge = Judge([chain()])
    assert loaded("preference", judge, knowledge="seen", mode="chain")(*known).value == 1.0
    assert "sees 2" in judge.asked[0][1]
    with pytest.raises(Unscorable, match="not what a tool says") as raised:
        loaded("critique", Judge(), knowledge="seen")()
    assert raised.value.status == "missing"


@pytest.mark.parametrize(
    ("options", "text"),
    [({}, critique(4, 4)), ({"high": 9}, critique(9, 9)), ({"mode": "given", "principle": "x"}, ranked(5)),
     ({"mode": "rubric"}, rubric(("essential", True)))],
)  # fmt: skip
def test_the_best_critique_has_nothing_to_complain_of(loaded, monkeypatch, options, text):
    """By the threshold that a search takes where none is given; what says how sure it is, is no complaint."""
    monkeypatch.setattr(models, "vlm", lambda *_, **__: Judge([text] * 2))
    reward = load("critique", judge="any", votes=2, temperature=1.0, **options)
    critics = critics_of({"critique": reward}, {})
    found = critique_of(FIRST, {"critique": asyncio.run(reward(FIRST))}, critics)
    assert found.satisfied and found.scores["critique"].value == 1.0
    worse = replace(critics["critique"], threshold=critics["critique"].threshold + 0.1)
    assert not critique_of(FIRST, found.scores, {"critique": worse}).satisfied


# --- votes ------------------------------------------------------------------------------------------------


def test_votes_have_a_spread_and_a_confidence(loaded):
    texts = [critique(4, 4), critique(4, 1), critique(1, 1), "I cannot say."]
    score = loaded("critique", Judge(texts), votes=4, temperature=1.0, seed=7)()
    assert score.value == pytest.approx(0.5) and score.parts["votes"] == 3
    assert score.parts["uncertainty"] == pytest.approx(math.sqrt(((0.5) ** 2 * 2) / 3))
    assert score.parts["confidence"] == pytest.approx(2 / 3)
    judge = Judge(lambda pictures, question, seed: f"<think>a</think><answer>{1 + (seed == 9)}</answer>")
    score = loaded("preference", judge, votes=3, temperature=1.0, seed=7)()
    assert sorted(seed for *_, seed, _ in judge.asked) == [7, 8, 9]
    assert score.value == pytest.approx(2 / 3) == score.parts["confidence"]
    assert score.parts["uncertainty"] == pytest.approx(math.sqrt(2 / 9))
    with pytest.raises(Unscorable, match="2 of 3 votes failed"):
        loaded("critique", Judge(["?", "?", critique(1, 1)]), votes=3, temperature=1.0)()


def test_both_orders_and_votes_add_up(loaded):
    """A judge that goes by the place in two votes of three: no order can be told from the spread."""
    judge = Judge(lambda pictures, question, seed: f"<think>a</think><answer>{1 + (seed == 2)}</answer>")
    loaded("preference", judge)  # from here on, "any" is this judge
    with Engine("cpu") as engine:
        reward = load("preference", judge="any", votes=3, temperature=1.0)
        first, second = engine.score([FIRST, SECOND], reward)["preference"]
    assert first.value == pytest.approx(0.5) and second.value == pytest.approx(0.5)
    assert first.parts["swing"] == pytest.approx(1 / 3) and first.parts["confidence"] == pytest.approx(2 / 3)
    assert first.parts["uncertainty"] == pytest.approx(math.sqrt(2 / 9 + (1 / 6) ** 2))


def test_the_meta_judge_keeps_the_votes_it_believes(loaded):
    texts = [critique(4, 4), critique(1, 1), critique(2, 2), critique(3, 3)]
    sure = {"Score: 4": 0.1, "Score: 1": 0.2, "Score: 2": 0.95, "Score: 3": 0.85}
    meta = Judge(yes=lambda question: next(yes for words, yes in sure.items() if words in question))
    judges = {"any": Judge(texts), "meta": meta}
    score = loaded("critique", judges, votes=4, temperature=1.0, meta="meta")()
    assert score.value == pytest.approx(0.5) and score.parts["meta"] == pytest.approx(0.9)
    assert score.parts["votes"] == 2 and score.parts["Visual quality"] == 2.5
    judges["any"] = Judge(texts)
    score = loaded("critique", judges, votes=4, temperature=1.0, meta="meta", keep=1)()
    assert (score.value, score.parts["uncertainty"]) == (pytest.approx(1 / 3), 0.0)
    judges = {"any": Judge(texts), "meta": Judge(yes=lambda question: None)}
    with pytest.raises(Unscorable, match="no answer"):
        loaded("critique", judges, votes=4, temperature=1.0, meta="meta")()


def test_counted_takes_published_votes_too():
    """Three fields are a vote; a share of the marks is a verdict by its side of a half."""
    marks = [PairMarks({"a": 0.7}, {"a": 0.3}), PairMarks({"a": 0.9}, {"a": 0.1})]
    score = counted([(marks[0], 0.7, "x"), Vote(marks[1], 0.9, "y")], Options(9, 1.0, 0, 2))
    assert score.parts["confidence"] == 1.0 and score.parts["uncertainty"] == pytest.approx(0.1)


# --- expectation ------------------------------------------------------------------------------------------


def test_the_probability_of_a_mark_is_without_that_of_longer_ones():
    """1 begins 1.5 and 10 by its tokens; a tokenizer that has "2.5" as one token loses nothing."""

    def read(*each):
        each = tuple(map(math.log, each))
        return LogProb(sum(each), len(each), each)

    tens = {"1": read(0.6), "1.5": read(0.6, 0.5, 0.5), "10": read(0.6, 0.25)}
    found = exact({**tens, "2": read(0.3), "2.5": read(0.1)})
    assert found == pytest.approx({"1": 0.6 - 0.15 - 0.15, "1.5": 0.15, "10": 0.15, "2": 0.3, "2.5": 0.1})


def test_a_scale_names_its_granularity():
    assert scale_of(1, 4, 1) == ("1", "2", "3", "4") and scale_of(0, 1, 0.25)[1] == "0.25"
    assert scale_of(1, 4, 0.5) == ("1", "1.5", "2", "2.5", "3", "3.5", "4")


def test_marks_by_expectation(loaded):
    chances = {"Text faithfulness": (0.1, 0.1, 0.2, 0.6), "Visual quality": (0.0001, 0.0001, 0.0001, 0.9)}

    def chance(given, text):
        return chances[given.rpartition("## ")[2].partition("\n")[0]][int(text) - 1]

    judge = Judge([critique("3/4", 4)], chance=chance)
    score = loaded("critique", judge, how="expected")()
    first = 0.1 + 0.2 + 0.6 + 2.4
    assert score.parts["Text faithfulness"] == pytest.approx(first)
    assert score.value == pytest.approx(((first + 4) / 2 - 1) / 3, abs=1e-3)
    variance = 0.1 + 0.4 + 1.8 + 9.6 - first**2
    assert score.parts["uncertainty"] == pytest.approx(math.sqrt(variance) / 2 / 3, abs=0.01)
    assert score.parts["confidence"] == pytest.approx(0.8, abs=1e-3)
    assert {given[-7:] for _, given, _ in judge.tried} == {"Score: "}
    with pytest.raises(Unscorable, match="in no place"):
        loaded("critique", Judge([critique("\uff13", 4)]), how="expected")()


@pytest.mark.parametrize("said", ["1", "the first", "Picture 1 is the better one", "A"])
def test_a_verdict_by_its_probability(loaded, said):
    judge = Judge([f"<think>2 is bad.</think><answer>{said}</answer>"], chance=lambda given, text: (
        0.6 if text in ("1", "first", "A") else 0.2))  # fmt: skip
    score = loaded("preference", judge, how="expected")()
    assert score.value == pytest.approx(0.75) == score.parts["confidence"]
    assert score.parts["uncertainty"] == pytest.approx(math.sqrt(3 / 16)) and len(judge.tried) == 2
    tie = loaded("preference", Judge(["<think>a</think><answer>tie</answer>"]), how="expected")()
    assert tie.value == 0.5


# --- the miniature ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture(scope="module")
def drawn():
    from mmreward.judges.miniature import sample_comparisons

    return [one.comparison for one in sample_comparisons(2, seed=5)]


def test_the_miniature_votes_and_expects(engine, drawn):
    members = [Sample(prompt=one.request, image=each, group=one.id) for one in drawn for each in one.pictures]
    critic = load("critique", judge="mini-vlm", how="expected", max_tokens=120)
    scores = engine.score(members[:1], critic)["critique"]
    assert all(score.ok and 0 <= score.parts["uncertainty"] <= 0.5 for score in scores), scores
    assert all(0.25 <= score.parts["confidence"] <= 1 for score in scores)
    judge = load("preference", judge="mini-vlm", system="", how="expected")
    first, second = engine.score(members[:2], judge)["preference"]
    assert first.value + second.value == pytest.approx(1) and 0.5 <= first.parts["confidence"] <= 1
    binary = load("critique", judge="mini-vlm", mode="binary", aspects={"Shown": "it shows a red circle"})
    assert all(
        score.status in ("ok", "unparsable") for score in engine.score(members[:2], binary)["critique"]
    )


def test_votes_on_aspects_cost_one_prompt(engine, drawn):
    """Four votes on two aspects, asked one by one, read little more than one critique does."""
    sample = Sample(prompt=drawn[0].request, image=drawn[0].pictures[0])
    found = spent(engine, sample, "mini-vlm", votes=4, max_tokens=2)
    assert found.one.read < found.votes.read <= 1.3 * found.one.read
    assert found.apart.read >= 3 * found.votes.read, "against a request for each"
    assert found.one.written == 1 and found.votes.written == found.apart.written == 8
    assert table(found, 4).count(": met") == 2 and found.met
    assert "MISSED" in table(found._replace(votes=found.apart), 4)


# --- published words --------------------------------------------------------------------------------------


def test_published_words_stand_around_pictures(loaded, tmp_path, monkeypatch):
    """Stand-ins of our own words, at the places and in the form of the publishers'."""
    from hashlib import sha256

    from mmreward.rewards.judged import modes, pair_modes

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    system = "Judge by the principle."
    stand_in = replace(modes.SYSTEM, sha256=sha256(system.encode()).hexdigest())
    monkeypatch.setattr(modes, "SYSTEM", stand_in)
    with pytest.raises(ValueError, match="curl -fL"):
        loaded("critique", Judge(), mode="given", principle="short", words="published")
    stand_in.file.parent.mkdir(parents=True)
    stand_in.file.write_text(f"SYSTEM_PROMPT = {system!r}\n")
    judge = Judge([ranked(2, 4)])
    asked = loaded("preference", judge, mode="given", principle='"few"', words="published")
    assert asked().value == 0.0
    ((_, question, _, told),) = judge.asked
    assert told == system and json.loads(question) == {
        "principle": '"few"', "prompt": FIRST.prompt,
        "responses": {"model-1": "", "model-2": ""}}  # fmt: skip
    assert isinstance(pair_modes.chain(0, 1, "").prompt.pins[0], Pin)
    assert pair_modes._with_pictures(["[{question}] A {answer_a} B {answer_b}"]).count("<image>") == 2
