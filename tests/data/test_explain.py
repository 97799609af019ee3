"""Explanations: every verifier tells how it read a response, and scores the same, heard or not."""

import asyncio
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from support.miniature import CASES, draw_scenes, samples_for
from typer.testing import CliRunner

from mmreward import Engine, Media, Sample, Score, load
from mmreward.cli import app
from mmreward.compose import Recipe, total_of
from mmreward.data.explain import explain, explain_row, row_of
from mmreward.data.routing import Router
from mmreward.registry import find, list_rewards
from mmreward.tracing import MOST, heard, listening, noted, within
from mmreward.verifiers.response import segment

RULES = [
    pytest.param(info, id=info.name)
    for info in list_rewards()
    if "response" in info.needs and set(info.needs) <= {"response", "target"} and not load(info.name).networks
]
GENERIC = re.compile(r"response|reasoning|answer|target|space|form|true .*")
"""Steps that readers note for whoever calls them, before a reward makes anything of it."""
OTHERS = ["A", "B", "1", "2", "no", "yes", "zebra", "7", "[1, 1, 2, 2]", "[[1, 1]]", "1s - 2s", "<a1>x</a1>"]
INSIDE = re.compile(r"(<(answer|class)>).*(</\2>)", re.DOTALL)


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


VARIANTS = {"length": {"unit": "words"}}
"""Arguments where an example leaves the response itself out of account."""


def own_steps(told):
    return [step.name for step in told.steps if not GENERIC.fullmatch(step.name)]


def example_of(info):
    return Sample(**{"prompt": "?", **info.example})


def wrong_ones(response):
    """Other answers in the dress of a right one: other digits, and answers of every kind."""
    turned = re.sub(r"\d", lambda digit: str((int(digit[0]) + 3) % 10), response)
    yield turned
    for other in OTHERS:
        yield INSIDE.sub(lambda tags, other=other: tags[1] + other + tags[3], response)
    yield from OTHERS
    yield "word " * 4000


@pytest.mark.parametrize("info", RULES)
def test_every_rule_tells_how_it_read_a_right_response(info, engine):
    told = explain(example_of(info), load(info.name), engine=engine)
    assert told.score.ok and own_steps(told), told
    for part in ("given", "read", "earned", told.why):
        assert part in str(told)


@pytest.mark.parametrize("info", RULES)
def test_every_rule_tells_how_it_read_a_wrong_response(info, engine):
    reward = load(info.name, **VARIANTS.get(info.name, {}))
    right = explain(example_of(info), reward, engine=engine).score
    for response in wrong_ones(str(info.example["response"])):
        told = explain(replace(example_of(info), response=response), reward, engine=engine)
        if told.score.ok and told.score.value < right.value and told.score.parts.get("parsed", 1):
            break
    assert told.score.value < right.value and own_steps(told), told


@pytest.mark.parametrize("info", RULES)
@pytest.mark.parametrize("response", ["", "<think>it was never closed"], ids=["empty", "cut"])
def test_every_rule_tells_why_a_response_cannot_be_read(info, response, engine):
    told = explain(replace(example_of(info), response=response), load(info.name), engine=engine)
    assert told.score.value < 1 and told.why, told
    assert told.score.parts.get("parsed") != 0 or told.steps[-1].name == "unreadable", told
    assert own_steps(told), told


@pytest.mark.parametrize("info", RULES)
def test_it_tells_the_same_the_second_time(info, engine):
    """What a reader keeps from the first time must not take steps away."""
    sample, reward = example_of(info), load(info.name)
    first, second = (explain(sample, reward, engine=engine) for _ in range(2))
    assert first == second and str(first) == str(second)


@pytest.mark.parametrize("info", RULES)
def test_scores_are_the_same_heard_or_not(info, engine):
    reward = load(info.name)
    for response in [info.example["response"], *wrong_ones(str(info.example["response"])), "", "<think>"]:
        sample = replace(example_of(info), response=response)
        assert explain(sample, reward, engine=engine).score == engine.score([sample], reward)[info.name][0]


async def silent(sample):
    return Score(float(segment(sample.response).answer == sample.target))


def test_a_verifier_without_a_note_would_be_found(engine):
    """What the readers note for whoever calls them does not count as the reward's own account."""
    told = explain(example_of(find("yes_no").info), replace(load("yes_no"), fn=silent), engine=engine)
    assert told.steps and not own_steps(told)


# --- members, groups and totals ---------------------------------------------------------------------------

ROUTES = {
    "geo": {
        "rewards": {"right": {"reward": "answer", "kind": "number"}, "format": {"min_think_chars": 0}},
        "accuracy": {"right": 0.9},
        "format": {"format": 0.1},
    }
}
ROW = Sample(id="7", prompt="?", source="geo", response="<answer>54 cm</answer>", target="0.54 m")


def test_a_routed_row_tells_its_route_and_what_each_member_read_and_earned(engine):
    told = explain(ROW, Router(ROUTES).reward, engine=engine)
    members = {name: [step for step in told.steps if step.member == name] for name in ("right", "format")}
    assert [step.name for step in told.steps if not step.member] == ["route", "total"]
    assert ("compared", "'54 cm' as a number: the same") in [step[:2] for step in members["right"]]
    assert [steps[-1][:2] for steps in members.values()] == [("earned", "1"), ("earned", "0.5")]
    assert told.why == "total: gate 1 x (0.9 x accuracy 1 + 0.1 x format 0.5) / 1 + extra 0, held to [0, 1]"
    assert told.score.value == pytest.approx(0.95)


def test_a_group_shaped_route_tells_of_its_own_row_alone(engine):
    step = {"name": "length_shares", "accuracy": "right", "weight": 0.2, "unit": "words"}
    reward = Router({"geo": {**ROUTES["geo"], "shaping": [step]}}).reward
    rest = [replace(ROW, id=str(n), group="g", response=f"<answer>{n + 53} cm</answer>") for n in range(3)]
    told = explain(replace(ROW, group="g"), reward, engine=engine, others=rest)
    assert {step.member for step in told.steps} == {"", "right", "format"}
    assert [step.words for step in told.steps if step.name == "compared"] == ["'54 cm' as a number: the same"]
    assert "shaped by LengthShares first" in told.why
    with pytest.raises(ValueError, match="routed compares the samples of a group"):
        explain(ROW, reward, engine=engine)
    with pytest.raises(ValueError, match="have one id"):
        explain(ROW, reward, engine=engine, others=[ROW])


def test_a_total_tells_its_summands_and_gates(engine):
    rewards = {"right": load("answer"), "short": load("length", unit="words")}
    recipe = Recipe(weights={"right": 1.0, "short": 0.2}, gates={"right": 0.5})
    wrong = replace(ROW, response="<answer>55 cm</answer>")
    *members, total = explain_row(wrong, rewards, engine, recipe=recipe)
    assert [one.name for one in members] == ["right", "short"]
    assert total.steps[0][:2] == ("summand", "1 x right, which earned 0")
    assert total.steps[-1].words == "right earned 0, and needs 0.5: shut, the total is 0"
    stored = engine.score([wrong], rewards)
    assert total.score == total_of(stored, recipe, [wrong])[0]


def test_frames_of_a_clip_are_members(engine):
    frames = [np.full((8, 8, 3), level, np.uint8) for level in (0, 255)]
    sample = Sample(prompt="x", video=Media.of([Media(frame) for frame in frames], "video"))
    told = explain(sample, load("saturation", frames="mean"), engine=engine)
    assert {step.member for step in told.steps} == {"frame 1", "frame 2"} and told.args == {"frames": "mean"}


def test_a_failure_is_told_as_one(engine):
    told = explain(replace(ROW, target=None), load("answer"), engine=engine)
    assert "no score (missing), which no trainer takes for a wrong answer" in told.why
    assert "no step: the reward was not called" in str(told) and told.record()["value"] is None


def test_a_reward_of_another_interpreter_says_that_it_is_not_heard(engine):
    told = explain(example_of(find("yes_no").info), replace(load("yes_no"), release="0.1"), engine=engine)
    assert told.steps[0].name == "elsewhere" and "not heard" in told.steps[0].words


# --- judges and models ------------------------------------------------------------------------------------

MODELS = [
    pytest.param(name, args, id=case.id)
    for case in CASES
    for name, args in [case.values]
    if load(name, **args).networks
]


@pytest.mark.parametrize(("name", "args"), MODELS)
def test_every_model_tells_what_it_was_asked_and_replied(name, args, engine):
    first, second, *_ = samples_for(name, draw_scenes())
    others = [second] if find(name).info.arity != "point" else []
    engine.cache.clear()
    told = explain(first, load(name, **args), engine=engine, others=others)
    again = explain(first, load(name, **args), engine=engine, others=others)
    assert sorted(told.steps) == sorted(again.steps), "an answer from the cache is told too"
    names = [step.name for step in told.steps]
    if {"judge", "listener"} & set(args):
        assert names.count("asked") == names.count("replied") > 0, told
    else:
        assert names, told


def test_a_pair_is_told_in_both_orders_and_others_are_left_out(engine):
    first, second, third, *_ = (
        replace(sample, prompt="a red circle", group="g", id=str(row))
        for row, sample in enumerate(samples_for("preference", draw_scenes()))
    )
    told = explain(first, load("preference", judge="mini-vlm"), engine=engine, others=[second, third])
    assert {step.member for step in told.steps} == {
        "0 before 1", "1 before 0", "0 before 2", "2 before 0"
    }  # fmt: skip


# --- listening --------------------------------------------------------------------------------------------


class Value:
    """A value that counts how often it is made a text."""

    shown = 0

    def __str__(self):
        Value.shown += 1
        return "value"


def test_nobody_listens_in_a_scoring_and_no_text_is_made(engine):
    async def score(sample):
        assert not heard()
        noted("read", "{}", Value())
        with within("member"):
            assert not heard()
        return Score(1.0)

    quiet = replace(load("yes_no"), fn=score)
    assert engine.score([example_of(quiet.info)], quiet)["yes_no"][0].ok and Value.shown == 0


def test_steps_are_of_their_block_with_a_limit():
    with listening() as outer:
        noted("one", "{}", Value())
        with within("a"), within("b"):
            noted("two", "plain {text}")
        with listening() as inner:
            for _ in range(MOST + 5):
                noted("three", "x")
    assert outer == [("one", "value", ""), ("two", "plain {text}", "a/b")]
    assert len(inner) == MOST and Value.shown == 1 and not heard()


def test_two_explanations_at_once_do_not_mix(engine):
    async def both():
        with listening() as first:
            one = asyncio.create_task(noting("one"))
        with listening() as second:
            two = asyncio.create_task(noting("two"))
        await asyncio.gather(one, two)
        return first, second

    async def noting(name):
        for _ in range(3):
            await asyncio.sleep(0)
            noted(name, "x")

    first, second = asyncio.run(both())
    assert {step.name for step in first} == {"one"} and {step.name for step in second} == {"two"}


# --- rows and the command ---------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"id": "a", "source": "geo", "prompt": "?", "response": "<answer>54 cm</answer>", "target": "0.54 m"},
        {"id": "b", "source": "geo", "prompt": "?", "response": "<answer>5 or 6</answer>", "target": "5"},
        {"id": "torn", "prompt": 3},
        {"id": "c1", "prompt": "x", "group": "g", "response": "<answer>1</answer>"},
        {"id": "c2", "prompt": "x", "group": "g", "response": "<answer>2</answer>"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_a_row_is_found_by_its_id_with_its_group(data):
    assert row_of(data, "a")[0].response == "<answer>54 cm</answer>"
    row, others = row_of(data, "c1", group=True)
    assert (row.id, [one.id for one in others]) == ("c1", ["c2"])
    with pytest.raises(ValueError, match=r"has no row 'c12': did you mean 'c[12]' or 'c[12]'"):
        row_of(data, "c12")
    with pytest.raises(ValueError, match=r"has no row 'zzz': it begins with \['a', 'b', 'torn'\]"):
        row_of(data, "zzz")
    with pytest.raises(ValueError, match=r"row 'torn' of .* cannot be read: prompt is int, not text"):
        row_of(data, "torn")


def run(*words, stdin=None):
    return CliRunner().invoke(app, [*map(str, words)], input=stdin)


@pytest.mark.parametrize("form", ["text", "file", "stdin"])
def test_the_command_explains_a_response(form, tmp_path):
    response = "<think>hm</think><answer>\\boxed{54 cm}</answer>"
    (tmp_path / "response.txt").write_text(response)
    given = {"text": response, "file": f"@{tmp_path / 'response.txt'}", "stdin": "-"}[form]
    done = run("explain", "answer:kind=number", "--response", given, "--target", "0.54 m", stdin=response)
    assert done.exit_code == 0, done.output
    assert "answer(kind='number')" in done.output and "earned 1 of [0, 1]" in done.output
    assert "'0.54 m' is a number" in done.output


def test_the_command_takes_json_targets_and_meta_and_prints_json():
    asked = ["explain", "choice", "--response", "<answer>cat</answer>", "--target", '"B"', "--json"]
    done = run(*asked, "--meta", '{"options": ["dog", "cat"]}')
    (record,) = json.loads(done.output)
    assert (record["value"], record["given"]["target"], record["status"]) == (1.0, "'B'", "ok")
    assert {"name": "read", "words": "'cat' as B", "member": ""} in record["steps"]


def test_score_explains_one_row_and_writes_nothing(data, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    routes = tmp_path.parent / f"{tmp_path.name}.yaml"
    routes.write_text(json.dumps({"routes": ROUTES}))
    by_score = run("score", data, "--config", routes, "--explain", "b")
    by_explain = run("explain", "--config", routes, "--data", data, "--id", "b")
    assert by_score.exit_code == by_explain.exit_code == 0, by_score.output
    assert by_score.output == by_explain.output and "routed on row b" in by_score.output
    assert "right\n" in by_score.output and sorted(tmp_path.rglob("*")) == before
    replaced = run("explain", "answer", "--data", data, "--id", "b", "--target", "5 or 6", "--config", routes)
    assert "5 or 6" in replaced.output and "routed" not in replaced.output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["explain", "math"], "nothing to explain"),
        (["explain", "math", "--data", "x"], "belong together"),
        (["explain", "math", "--response", "@nowhere.txt"], "no file at nowhere.txt"),
        (["explain", "math", "--response", "x", "--meta", "[1]"], "--meta is a JSON object"),
        (["explain", "math", "--response", "x", "--meta", "{"], "is no JSON"),
        (["explain", "--response", "x"], "no rewards: give REWARD"),
        (["explain", "mth", "--response", "x"], "did you mean"),
        (["explain", "clipscore", "--image", "nowhere.png"], "no picture or clip at nowhere.png"),
        (["explain", "preference:judge=mini-vlm", "--prompt", "x"], "--data DATA --id ID"),
    ],
)
def test_a_mistake_is_one_line(words, why):
    done = run(*words)
    assert isinstance(done.exception, ValueError) and why in str(done.exception), done.output


def test_score_without_a_place_for_the_scores_says_so(data):
    done = run("score", data, "--reward", "answer")
    assert done.exit_code and "give --out scores.parquet" in str(done.exception)
