"""EditScore and VIEScore: golden judgements, broken JSON, hedges, mutations, and the scores of a judge."""

import math

import numpy as np
import pytest
from support.chatserver import ChatServer, Reply, completion
from support.judgements import ScriptedJudge, vie
from support.mutations import never_raise_nor_pay

from mmreward import Engine, Media, Sample, Unscorable, load
from mmreward.rewards.published.editscore import judges_of
from mmreward.rewards.published.unifiedreward import read_vie


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    first, second = (Media(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(2))
    return Sample(prompt="make the hat red", image=second, inputs=(first,))


def app(following, quality):
    def answer(request):
        if request.path != "/v1/chat/completions":
            return Reply({"data": []})
        parts = request.body["messages"][-1]["content"]
        return Reply(completion(following if len(parts) == 3 else quality))

    return answer


def scored(engine, sample, following, quality, **args):
    with ChatServer(app(following, quality)) as server:
        loaded = load("editscore", judge=f"judge@{server.url}", words="own", **args)
        return engine.score([sample], loaded)["editscore"][0]


def test_the_golden_number(engine, sample):
    score = scored(engine, sample, vie(20, 15), vie(24, 18))
    assert score.value == pytest.approx(6.5726706901)
    assert score.parts == pytest.approx(
        {"following": 6, "quality": 7.2, "success": 20, "restraint": 15, "naturalness": 24, "artifacts": 18}
    )
    assert "hat is red" in score.note


def test_viescore_marks_up_to_ten(engine, sample):
    assert scored(engine, sample, vie(8, 9), vie(7, 5), top=10).value == pytest.approx(math.sqrt(8 * 5))
    assert scored(engine, sample, vie(8, 9), vie(7, 25), top=10).status == "out_of_range"
    following, quality = judges_of(10)
    rule = "From scale 0 to 10: 10 is best.\n<instruction>"
    assert following.prompt.make(["10 rules", "two", rule]) == f"10 rules\ntwo\n{rule}"
    assert (
        judges_of(25)[0]
        .prompt.make(["10 rules", "two", rule])
        .endswith("0 to 25: 25 is best.\n<instruction>")
    )
    assert "25" not in following.prompt.own and "{prompt}" not in quality.prompt.own


@pytest.mark.parametrize(
    "text",
    ['{"reasoning": "fine", "score": [20, 15]}', "```json\n" + vie(20, 15) + "\n```",
     '{\n"reasoning" : "the "red" hat",\n"score" : [20, 15],\n}', '<think>hm</think>{"score": [20.0, 15]}',
     '{"reasoning": "not \\"score\\": [25, 25]", "score": [20, 15],}', 'Here: {"score" : [ 20 , 15 ]}'],
)  # fmt: skip
def test_json_as_judges_write_it(text):
    assert read_vie(text, "edit").parts == {"success": 20, "restraint": 15}


@pytest.mark.parametrize(
    ("text", "status"),
    [("[20, 15]", "missing"), (vie(20), "unparsable"), (vie(20, 15, 5), "unparsable"),
     (vie(26, 15), "out_of_range"), (vie(-1, 15), "out_of_range"),
     (vie('"20"', 15), "unparsable"), (vie("true", 15), "unparsable"),
     (vie("NaN", 15), "unparsable"), (vie("20-25", 15), "unparsable"), (vie("1e999", 15), "unparsable"),
     ('{"score": 20}', "unparsable"), ('{"score": [20, 15], "score": [25, 25]}', "unparsable"),
     (vie(20, 15) + vie(25, 25), "unparsable"), ("I'm sorry, but I can't assist with that.", "missing"),
     ('{"score": null}', "missing"), ("", "missing"), ("[" * 5000, "missing")],
)  # fmt: skip
def test_what_is_no_list_of_two_marks(text, status):
    """Upstream draws a random mark, or takes 12.5 of 10."""
    with pytest.raises(Unscorable) as raised:
        read_vie(text, "edit")
    assert raised.value.status == status


def test_votes_are_pairs_of_judgements(engine, sample):
    score = scored(engine, sample, vie(20, 15), vie(24, 18), votes=3, temperature=0.7)
    assert score.parts["votes"] == 3 and score.parts["uncertainty"] == 0


def test_one_bad_judgement_is_no_score(engine, sample):
    assert scored(engine, sample, vie(20, 15), "a fine picture").status == "missing"


def test_by_a_judge_that_looks(engine, sample):
    score = engine.score([sample], load("editscore", judge=ScriptedJudge().name, words="own"))["editscore"][0]
    assert score.ok and 0 <= score.value <= 10


def test_mutated_judgements_never_raise_and_never_pay_a_hedge():
    texts = [vie(20, 15), "```json\n" + vie(20, 15) + "\n```", vie("20 or 25", 15), vie("20-25", 15)]
    never_raise_nor_pay(
        lambda text: read_vie(text, "edit"), texts, ["20 or 25, 15]", "20-25, 15]"], seed=5, count=1000
    )
