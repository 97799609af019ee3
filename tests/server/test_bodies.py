"""Bodies of requests: what is read aside is what is read in place, and no client's hold up the others."""

import asyncio
import json
import os
import signal

import pytest
from fastapi.testclient import TestClient

from mmreward.adapters.scorer import Scorer
from mmreward.data.routing import Router
from mmreward.server import app, bodies
from mmreward.server.app import create_app
from mmreward.server.bodies import Bodies, Scoring, Turn
from mmreward.server.calls import GET_REWARD, JUDGE, Refused

BRACKETS = b'{"response": "x", "more": [' + b"[]," * 20_000 + b"[]]}"
"""A body of next to no text and many values."""


@pytest.fixture
def aside(monkeypatch):
    """A reader that sends everything to its process."""
    monkeypatch.setattr(bodies, "COMMAS", -1)
    made = []

    def make(**options):
        made.append(Bodies(**{"max_bytes": 1 << 23, "rows": 4, "seconds": 30.0, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def outcome(read):
    try:
        return dict(read())
    except Refused as refused:
        return refused.status, refused.reason


def batch(**columns):
    return json.dumps({"query": ["pq"], "prompts": ["p"], "labels": ["3"], **columns})


ODD = [
    (JUDGE, '{"response": "first", "response": "last"}'),
    (JUDGE, '{"response": "x", "of a fork": {"response": "y"}}'),
    (JUDGE, '{"response": "\\ud800 \\u0000 \u00e4 \U0001f642", "format_ratio": 0.1}'),
    (JUDGE, '{"response": "x", "accuracy_ratio": 1e999}'),
    (JUDGE, '{"response": "x", "accuracy_ratio": ' + "1" * 400 + "}"),
    (JUDGE, '{"response": "x", "accuracy_ratio": ' + "1" * 5000 + "}"),
    (JUDGE, '{"response": "x", "accuracy_ratio": NaN}'),
    (JUDGE, '{"response": -Infinity}'),
    (JUDGE, '{"response": 3, "answer": null}'),
    (JUDGE, '{"response": "x"'),
    (JUDGE, '{"response": "x"} {}'),
    (JUDGE, "[" * 100_000),
    (JUDGE, '"' + "x" * 100_000),
    (JUDGE, "\\ud800"),
    (JUDGE, "[]"),
    (JUDGE, ""),
    (GET_REWARD, batch()),
    (GET_REWARD, batch(labels=[{"a": [1, 2.5, True, None, 10**30, -0.0, {"b": []}]}])),
    (GET_REWARD, '{"query": ["pq"], "prompts": ["p"], "labels": [{"a": 1e999}]}'),
    (GET_REWARD, batch(query=["q"] * 5)),
    (GET_REWARD, batch(prompts=[7] * 5)),
    (GET_REWARD, batch(labels=["l"] * 5)),
    (GET_REWARD, batch(query="pq", prompts=[3])),
    (GET_REWARD, '{"query": [], "prompts": []}'),
]


def test_what_is_read_aside_is_what_is_read_in_place(aside):
    one = aside()

    async def compare():
        for call, text in ODD:
            data = text.encode()
            here = outcome(lambda data=data, call=call: bodies.read(data, call.model, 4))
            try:
                there = dict(await one.read(data, call, ""))
            except Refused as refused:
                there = (refused.status, refused.reason)
            assert repr(there) == repr(here), text[:80]

    asyncio.run(compare())


def test_bytes_that_are_no_text_are_refused_alike(aside):
    with pytest.raises(Refused) as here:
        bodies.read(b'{"response": "\xff"}', JUDGE.model, 4)
    with pytest.raises(Refused) as there:
        asyncio.run(aside().read(b'{"response": "\xff"}', JUDGE, ""))
    assert (here.value.status, here.value.reason) == (there.value.status, there.value.reason)


def test_many_values_are_never_read_where_requests_are_answered(monkeypatch):
    """The server's process reads no such body."""

    def read(data, *_):
        raise AssertionError(f"{len(data)} bytes were read here")

    calls = [
        ("/judge", BRACKETS, 200),
        ("/judge", b"[" + b"1," * 20_000 + b"1]", 422),
        ("/get_reward", json.dumps({"query": ["pq"] * 50_000}).encode(), 413),
        ("/get_reward", json.dumps({"query": ["q"], "prompts": [7] * 50_000, "labels": []}).encode(), 413),
    ]
    with TestClient(create_app({"iou": {}})) as client:
        for path, body, status in calls:
            with monkeypatch.context() as within:
                within.setattr(bodies, "read", read)
                assert client.post(path, content=body).status_code == status


def test_long_texts_are_read_in_place(monkeypatch):
    """Text is read at once, and to send it to a process and back costs more."""

    def started(*_, **__):
        raise AssertionError("a process for a text")

    monkeypatch.setattr(bodies, "Killable", started)
    payload = asyncio.run(
        Bodies(1 << 23, 4, 30.0).read(json.dumps({"response": "word " * 10**6}).encode(), JUDGE, "")
    )
    assert payload.response == "word " * 10**6


def test_a_batch_that_is_read_aside_is_scored(monkeypatch):
    truth = '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]'
    told = {"query": [f"p<answer>{truth}</answer>"] * 3, "prompts": ["p"] * 3, "labels": [truth, "[]", 7]}
    answers = []
    for commas in (bodies.COMMAS, -1):
        monkeypatch.setattr(bodies, "COMMAS", commas)
        with TestClient(create_app({"iou": {}}, failed=0.0)) as client:
            answers.append(client.post("/get_reward", json=told).json())
    assert answers[0] == answers[1] and answers[0]["rewards"][:2] == [1.0, 0.5]


ROUTES = "routes: {boxes: {rewards: {iou: {}}}, sums: {rewards: {count: {}}}}\nengine: {device: cuda}\n"
CROWD = json.dumps([{"bbox_2d": [i, 1, i + 9, 9], "label": "cat"} for i in range(40)])
JUDGED = {"response": f"<answer>{CROWD}</answer>", "answer": CROWD, "data_source": "boxes"}
FORMULA = "<think>It is long.</think><answer>\\boxed{\\sqrt{12}}</answer>"
LABEL = json.dumps({"v": 1, "answer": "12", "source": "sums"})
ASKED = [
    ("/judge", JUDGED),
    ("/judge", {**JUDGED, "data_source": "nowhere"}),
    ("/judge", {**JUDGED, "reward_verifier": "detection"}),
    ("/judge", {**JUDGED, "reward_verifier": "mathverify", "answer": "2\\sqrt{3}", "response": FORMULA}),
    ("/judge", {**JUDGED, "reward_verifier": "none such"}),
    ("/judge", {**JUDGED, "reward_verifier_parm": "{"}),
    ("/judge", {"answer": ""}),
    (
        "/get_reward",
        {"query": ["p<answer>12</answer>", "p", "q"], "prompts": ["p"] * 3, "labels": [LABEL] * 3},
    ),
    ("/get_reward", {"query": ["p"], "prompts": ["p"], "labels": []}),
    ("/get_reward", {"query": ["p"] * 5000, "prompts": ["p"], "labels": []}),
]


@pytest.mark.parametrize("failed", ["raise", 0.5])
def test_what_is_scored_aside_has_the_answer_of_what_is_scored_in_place(tmp_path, monkeypatch, failed):
    routes = tmp_path / "routes.yaml"
    routes.write_text(ROUTES.replace("cuda", "cpu"))
    answers = []
    for large in (1 << 30, -1):
        monkeypatch.setattr(bodies, "LARGE", large)
        monkeypatch.setattr(app, "LARGE", large)
        with TestClient(create_app(routes, failed=failed)) as client:
            given = [client.post(path, json=told) for path, told in ASKED]
            answers.append([(one.status_code, one.json()) for one in given])
    assert answers[0] == answers[1]
    assert [status for status, _ in answers[0]] == [
        200,
        200,
        200,
        200,
        404,
        422,
        422,
        503 if failed == "raise" else 200,
        422,
        413,
    ]


def test_a_large_body_is_scored_where_it_takes_no_turn_from_others(tmp_path, monkeypatch):
    """The server's process computes none of it: all rewards there are rules."""
    (tmp_path / "routes.yaml").write_text(ROUTES)  # the process needs no device
    monkeypatch.setattr(Scorer, "ascore", None)
    filled = {**JUDGED, "prompt": "x" * bodies.LARGE}
    with TestClient(create_app(tmp_path / "routes.yaml")) as client:
        assert client.post("/judge", json=filled).json()["rewards"]["final_reward"] == 1.0


@pytest.mark.parametrize(
    ("rewards", "light"),
    [({"iou": {}}, True), ({"clipscore": {"weights": "mini-clip"}}, False), ({"math": {}}, False)],
)
def test_a_reward_with_a_network_is_not_loaded_a_second_time(rewards, light):
    assert Scorer(rewards).light is light
    assert Scorer(Router({"a": {"rewards": rewards}})).light is light


def test_what_is_scored_for_too_long_is_refused_and_the_next_one_scored(tmp_path):
    (tmp_path / "routes.yaml").write_text(ROUTES)
    crowd = json.dumps(
        [{"bbox_2d": [i % 900, i % 37, i % 900 + 50, 90], "label": "cat"} for i in range(1024)]
    )
    slow = json.dumps({"response": f"<answer>{crowd}</answer>", "answer": crowd, "data_source": "boxes"})
    quick = json.dumps(JUDGED)

    async def run():
        one = Bodies(1 << 23, 4, 1e-3, Scoring(tmp_path / "routes.yaml", 1e-3, "raise"))
        with pytest.raises(Refused) as refused:
            await one.answer(slow.encode(), JUDGE, "")
        assert refused.value.status == 413 and "10 timeouts" in refused.value.reason
        one._seconds = 60.0
        assert (await one.answer(quick.encode(), JUDGE, ""))["status"] in ("ok", "timeout")
        one.close()

    asyncio.run(run())


def test_what_takes_too_long_or_too_much_is_refused_and_the_next_one_read(aside, monkeypatch):
    good = b'{"response": "x"}'

    async def told(one, data):
        try:
            return (await one.read(data, JUDGE, "")).response
        except Refused as refused:
            return refused.status, refused.reason

    async def run():
        slow = aside(seconds=1e-4)
        status, reason = await told(slow, BRACKETS * 20)
        assert status == 413 and "limits.body_seconds" in reason
        monkeypatch.setattr(bodies, "MEMORY", 1 << 28)
        small = aside(max_bytes=1)
        assert await told(small, good) == "x"
        assert (await told(small, b"[" + b"[]," * (1 << 22) + b"1]"))[0] == 413
        assert await told(small, good) == "x"

    asyncio.run(run())


def test_a_process_that_dies_costs_its_own_body(aside):
    one = aside()

    async def run():
        await one.read(b'{"response": "x"}', JUDGE, "")
        [process] = one._process.processes
        os.kill(process, signal.SIGSTOP)
        waiting = asyncio.ensure_future(one.read(b'{"response": "y"}', JUDGE, "a"))
        behind = asyncio.ensure_future(one.read(b'{"response": "z"}', JUDGE, "b"))
        await asyncio.sleep(0.05)
        os.kill(process, signal.SIGKILL)
        with pytest.raises(Refused) as refused:
            await waiting
        assert refused.value.status == 503
        assert (await behind).response == "z"

    asyncio.run(run())


def test_a_client_that_goes_costs_no_process(aside):
    one = aside()

    async def run():
        await one.read(b'{"response": "x"}', JUDGE, "")
        before = one._process.processes
        leaving = asyncio.ensure_future(one.read(BRACKETS * 4, JUDGE, "a"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await one.read(b'{"response": "z"}', JUDGE, "b")).response == "z"
        assert one._process.processes == before

    asyncio.run(run())


def test_clients_take_turns():
    """One client's many bodies do not come before another's first."""
    order = []

    async def run():
        turn = Turn()

        async def ask(client, number):
            await turn.take(client)
            order.append(f"{client}{number}")
            await asyncio.sleep(0)
            turn.give()

        asked = [asyncio.ensure_future(ask("a", number)) for number in range(4)]
        asked += [asyncio.ensure_future(ask(client, 0)) for client in "bc"]
        await asyncio.sleep(0)
        asked[2].cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.wait_for(turn.take("d"), 5)  # nobody holds it

    asyncio.run(run())
    assert order == ["a0", "a1", "b0", "c0", "a3"]


def test_a_turn_that_is_given_to_one_who_goes_is_passed_on():
    async def run():
        turn = Turn()
        await turn.take("a")
        going = asyncio.ensure_future(turn.take("b"))
        staying = asyncio.ensure_future(turn.take("c"))
        await asyncio.sleep(0)
        turn.give()
        going.cancel()
        await asyncio.wait_for(staying, 5)

    asyncio.run(run())
