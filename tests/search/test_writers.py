"""From a question to a wish, from scores to a critique, from a critique to a prompt."""

import math

import pytest
from support.toys import toy

from mmreward import Media, Sample, Score, Unscorable
from mmreward.models.vlms.answers import Written
from mmreward.search import writers
from mmreward.search.writers import (
    Complaint,
    Critic,
    Critique,
    RevisionRequest,
    answer_of,
    bounded,
    content_words,
    critique_of,
    emphasise,
    vlm_writer,
    wish_of,
    wishes_of,
)

LIST = "a red circle, two blue squares and a green triangle"


def critique(*wishes):
    return Critique({}, tuple(Complaint(wish, 0.0, wish) for wish in wishes))


def revised(engine, writer, original, *wishes, current=None):
    ask = RevisionRequest(original, current or original, None, critique(*wishes))

    async def run():
        return await writer(ask)

    return engine.run(run())


@pytest.mark.parametrize(
    ("question", "answer", "wish"),
    [
        ("Is there a red circle? Answer yes or no.", "yes", "a red circle"),
        ("Are there two dogs in the picture?", "yes", "two dogs"),
        ("How many blue squares are there? Answer with one number.", "3", "three blue squares"),
        ("How many blue squares are there? Answer with one number.", "1", "one blue square"),
        ("Is the red circle left of the blue square?", "yes", "a red circle left of a blue square"),
        ("Are the two dogs asleep?", "yes", "two dogs asleep"),
        ("Is there a red circle?", "no", ""),
        ("How many dogs are there?", "0", ""),
        ("What colour is the circle?", "red", ""),
    ],
)
def test_wish_of_a_question(question, answer, wish):
    assert wish_of(question, answer) == wish


def test_wishes_go_by_the_names_that_the_checklist_gives_its_parts():
    entries = [
        {"question": "Is there a dog?", "answer": "yes", "name": "dog"},
        {"question": "Is there a cat?"},
    ]
    assert wishes_of(Sample(meta={"checklist": entries[:1]})) == {"dog": "a dog"}
    assert wishes_of(Sample(meta={"checklist": entries})) == {}  # broken: the critic says so, nobody crashes
    assert wishes_of(Sample()) == {}


def test_dimensions_below_the_threshold_are_complaints():
    async def judge(sample):
        return Score(1.0)

    critics = {"answers": Critic(toy(judge, "a"), 1.0), "look": Critic(toy(judge, "b"), 0.5)}
    sample = Sample(meta={"checklist": [{"question": "Is there a dog?", "answer": "yes", "name": "dog"}]})
    scores = {"answers": Score(0.5, {"dog": 0.0, "cat": 1.0}), "look": Score(0.4, note="dull")}
    found = critique_of(sample, scores, critics)
    assert found.complaints == (Complaint("dog", 0.0, "a dog"), Complaint("look", 0.4, ""))
    assert not found.satisfied and found.words == "dull"
    good = {"answers": Score(1.0, {"dog": 1.0}), "look": Score(0.5)}
    assert critique_of(sample, good, critics).satisfied
    assert critique_of(sample, {**good, "look": Score.failed("na", "no")}, critics).satisfied
    broken = critique_of(sample, {**good, "look": Score.failed("timeout", "slow")}, critics)
    assert not broken.satisfied and list(broken.failed) == ["look"]
    nobody = {"answers": Score.failed("na", ""), "look": Score.failed("na", "")}
    assert not critique_of(sample, nobody, critics).satisfied


def test_a_critic_that_compares_or_has_no_threshold_is_refused():
    async def judge(sample):
        return Score(1.0)

    with pytest.raises(ValueError, match="compares samples"):
        Critic(toy(judge, "pairs", arity="pair"))
    with pytest.raises(ValueError, match="threshold of free is inf"):
        Critic(toy(judge, "free"), math.inf)


def test_lead_moves_what_failed_to_the_front_and_changes_no_word(engine):
    text = revised(engine, emphasise(), LIST, "a green triangle", "two blue squares")
    assert text == "two blue squares, a green triangle and a red circle"
    assert content_words(text) == content_words(LIST)


def test_append_repeats_it_at_the_end(engine):
    text = revised(engine, emphasise("append"), LIST, "a green triangle", "a green triangle")
    assert text == f"{LIST}, a green triangle"


@pytest.mark.parametrize("wishes", [(), ("three shapes",), ("",)])
def test_the_rule_names_nothing_that_the_prompt_does_not(engine, wishes):
    with pytest.raises(Unscorable, match="no complaint says what") as raised:
        revised(engine, emphasise("append"), LIST, *wishes)
    assert raised.value.status == "na"


def test_one_phrase_cannot_be_reordered(engine):
    with pytest.raises(Unscorable, match="one phrase"):
        revised(engine, emphasise(), "a red circle left of a blue square", "a red circle")


def test_the_rule_starts_from_the_original_every_time(engine):
    text = revised(engine, emphasise("append"), "a dog", "a dog", current="a dog, a dog, a dog")
    assert text == "a dog, a dog"


class ScriptedVLM:
    def __init__(self, text, finished=True):
        self.text, self.finished, self.asked = text, finished, []

    async def write(self, media, prompt, **settings):
        self.asked.append((media, prompt))
        return Written(self.text, self.finished, 7)


def test_a_model_is_told_the_original_and_the_complaints(engine, monkeypatch):
    vlm = ScriptedVLM('<think>"hm"</think>\nRevised prompt: "a big dog"\n')
    monkeypatch.setattr(writers.models, "vlm", lambda name, dtype: vlm)
    notes = {"critic": Score(0.0, note="where is the dog")}
    complaints = (Complaint("q1: Is there a dog?", 0.0, "a dog"),)
    picture = Media(b"png")
    ask = RevisionRequest("a dog", "one dog, large", picture, Critique(notes, complaints))

    async def run(writer):
        return await writer(ask)

    assert engine.run(run(vlm_writer("any"))) == "a big dog"
    assert engine.run(run(vlm_writer("any", see=False))) == "a big dog"
    (shown, told), (hidden, _) = vlm.asked
    assert shown is picture and hidden is None
    for words in ("a dog\n", "one dog, large", "Is there a dog?", "it should show a dog", "where is the dog"):
        assert words in told


def test_an_answer_that_was_cut_off_has_failed(engine, monkeypatch):
    monkeypatch.setattr(writers.models, "vlm", lambda name, dtype: ScriptedVLM("a big", finished=False))
    with pytest.raises(Unscorable, match="cut off after 7 tokens") as raised:
        revised(engine, vlm_writer("any"), "a dog", "a dog")
    assert raised.value.status == "unparsable"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a dog", "a dog"),
        ("Here it is:\n\n**Prompt:** `a dog`", "a dog"),
        ('The new prompt is: "a dog"', "a dog"),
        ("<think>x</think>", ""),
        ("", ""),
    ],
)
def test_answer_of(text, answer):
    assert answer_of(text) == answer


def test_revisions_stay_in_bounds():
    bounds = {"max_chars": 20, "keep_words": 0.5}
    assert bounded(" a  big\nred dog ", "a red dog", **bounds) == "a big red dog"
    assert bounded("two dogs", "a red dog", **bounds) == "two dogs"
    for text, status, reason in [
        ("  ", "unparsable", "wrote nothing"),
        ("a red dog" * 3, "out_of_range", "27 characters, above 20"),
        ("a blue cat", "out_of_range", "keeps 0%"),
    ]:
        with pytest.raises(Unscorable, match=reason) as raised:
            bounded(text, "a red dog", **bounds)
        assert raised.value.status == status
    with pytest.raises(ValueError, match="'lead' or 'append', not 'shout'"):
        emphasise("shout")
