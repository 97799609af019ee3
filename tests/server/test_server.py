"""The reward server: a real uvicorn on a free port, asked as V-Triune and OpenRLHF ask."""

import asyncio
import json
import math
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx2
import pytest
from fastapi.testclient import TestClient
from support.toys import toy

from mmreward import Score
from mmreward.server.app import BodyLimit, create_app
from mmreward.server.vtriune import Payload, UnknownVerifierError, reply, sample_from

PIXELS = json.dumps([{"bbox_2d": [10, 10, 50, 50], "label": "cat"}])
TRUTH = json.dumps([{"bbox_2d": [100, 100, 500, 500], "label": "cat"}])
PARAMETERS = {
    "det_verifier_normalized": True,
    "det_reward_ratio": {"iou_max_label_first": 1.0, "iou_completeness": 0.3, "map": None},
    "is_training": True,
    "step": 115,
    "total_steps": 460,
    "image_grid_thw": [[1, 100, 100]],
    "image_path": ["a.jpg"],
    "iou_threshold": "dynamic",
}


def posted(said, **changes):
    """What V-Triune's worker sends for a detection sample."""
    told = {
        "response": said,
        "prompt": "find the cat",
        "answer": "",
        "solution": f"<answer>{TRUTH}</answer>",
        "data_source": "det",
        "reward_verifier": "detection",
        "reward_verifier_parm": json.dumps(PARAMETERS),
        "format_ratio": 0.0,
        "accuracy_ratio": 1.0,
    }
    return {**told, **changes}


def tagged(boxes):
    return f"<think>\nhm\n</think>\n<answer>\n{boxes}\n</answer>"


def free_port():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`mmreward serve` in a process of its own."""
    routes = tmp_path_factory.mktemp("served") / "routes.yaml"
    routes.write_text("routes: {boxes: {rewards: {iou: {}}}}\nengine: {device: cpu}")
    port = free_port()
    command = [sys.executable, "-m", "mmreward.cli", "serve", str(routes), "--port", str(port)]
    command += ["--failed", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    with httpx2.Client(base_url=url, timeout=120) as client:
        for _ in range(600):
            try:
                client.get("/")
                break
            except httpx2.TransportError:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.2)
        yield client
    process.send_signal(signal.SIGINT)
    process.wait(30)


def test_v_triunes_client_switches_by_url(server):
    """Health, and the keys it reads, the same for a right, a wrong and a failed sample."""
    assert server.get("/").json()["message"] == "Reward Judge Server"
    right = server.post("/judge", json=posted(tagged(PIXELS))).json()
    wrong = server.post("/judge", json=posted(tagged("[]"))).json()
    failed = server.post("/judge", json=posted(tagged(PIXELS), reward_verifier_parm="{}")).json()
    assert (right["rewards"]["final_reward"], right["status"]) == (1.0, "ok")
    assert (wrong["rewards"]["final_reward"], wrong["status"]) == (0.0, "ok")
    assert (failed["rewards"]["final_reward"], failed["status"]) == (0.0, "missing")
    assert "pixel coordinates need" in failed["note"]
    keys = set(right["rewards"])
    assert keys == set(wrong["rewards"]) == set(failed["rewards"])
    assert {"format_reward", "accuracy_reward", "reflection_reward", "final_reward"} < keys
    assert right["rewards"]["report_iou_99_label_match_precision_reward"] == 1.0
    assert all(isinstance(value, float) for value in right["rewards"].values())
    assert not any("reward" in key for key in right if key != "rewards")  # its client would average them


def test_the_servers_own_routes(server):
    told = posted(f"<answer>{TRUTH}</answer>", data_source="boxes", reward_verifier="", answer=TRUTH)
    assert server.post("/judge", json=told).json()["rewards"]["final_reward"] == 1.0
    lost = server.post("/judge", json={**told, "data_source": "x"}).json()
    assert (lost["status"], lost["rewards"]["final_reward"]) == ("error", 0.0)
    assert "no route; there are boxes" in lost["note"]


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"reward_verifier": "guess"}, 404, "no verifier named 'guess'"),
        ({"reward_verifier_parm": "{"}, 422, "not JSON"),
        ({"reward_verifier_parm": "[]"}, 422, "is list, not an object"),
        ({"reward_verifier_parm": '{"det_verifier_normalized": "often"}'}, 422, "det_verifier_normalized"),
        ({"solution": "<answer>no list</answer>"}, 422, "ground_truth"),
        ({"accuracy_ratio": 0.0}, 422, "both 0"),
        ({"response": 3}, 422, "string"),
    ],
)
def test_a_request_that_makes_no_sense_is_no_wrong_answer(server, changes, status, told):
    answer = server.post("/judge", json=posted(tagged(PIXELS), **changes))
    assert answer.status_code == status
    assert told in answer.text


def test_a_body_that_is_too_large(server):
    big = json.dumps(posted("x" * (9 << 20))).encode()
    headers = {"content-type": "application/json"}
    assert server.post("/judge", content=big, headers=headers).status_code == 413
    unannounced = (big[i : i + 65_536] for i in range(0, len(big), 65_536))
    assert server.post("/judge", content=unannounced, headers=headers).status_code == 413
    assert server.post("/judge", json=posted("x" * 70_000)).json()["status"] == "ok"  # its end is read
    assert server.get("/").status_code == 200


def test_openrlhf_asks_for_a_batch(server):
    """Its request as `remote_rm_utils` makes it; the failed one is told apart."""
    label = json.dumps({"v": 1, "answer": json.loads(TRUTH), "source": "boxes"})
    query = f"where?<answer>{TRUTH}</answer><|im_end|>"
    told = {"query": [query, "where?no", query], "prompts": ["where?"] * 3, "labels": [label, label, "3"]}
    answer = server.post("/get_reward", json=told).json()
    assert answer["rewards"] == answer["scores"] == [1.0, 0.0, 0.0]
    assert answer["extra_logs"]["failed"] == [0.0, 0.0, 1.0]
    assert server.post("/get_reward", json={**told, "labels": []}).status_code == 422


def test_a_failed_score_is_no_number_unless_one_is_named():
    told = {"query": ["pno"], "prompts": ["p"], "labels": ["3"]}  # no boxes are a target
    for failed, status, rewards in (("raise", 503, None), (-1.0, 200, [-1.0])):
        with TestClient(create_app({"iou": {}}, failed=failed)) as client:
            answer = client.post("/get_reward", json=told)
        assert (answer.status_code, answer.json().get("rewards")) == (status, rewards)
    assert "1 of 1 scores failed" in TestClient(create_app({"iou": {}})).post("/get_reward", json=told).text


ROUTE = {"rewards": {"iou": {"python": "/bin/sh"}}}


@pytest.mark.parametrize(
    "smuggled",
    [
        {"verifier": "iou"},
        {"route": ROUTE},
        {"meta": {"route": ROUTE}},
        {"image": "/etc/passwd"},
        {"images": ["/etc/passwd"]},
        {"steps": [{"observation": {"top": "/etc/passwd"}}]},
    ],
)
def test_a_client_names_no_rewards_and_no_files(server, smuggled):
    """Arguments of a reward may name interpreters and weights, and pictures may be paths."""
    label = json.dumps({"v": 1, "answer": json.loads(TRUTH), "source": "boxes", **smuggled})
    told = {"query": [f"p<answer>{TRUTH}</answer>"], "prompts": ["p"], "labels": [label]}
    answer = server.post("/get_reward", json=told).json()
    assert (answer["rewards"], answer["extra_logs"]["failed"]) == ([0.0], [1.0])
    for verifier in ("", "detection"):
        changes = {
            "reward_verifier": verifier,
            "reward_verifier_parm": json.dumps({**PARAMETERS, "route": ROUTE}),
        }
        assert server.post("/judge", json=posted(tagged(PIXELS), **changes)).status_code == 422


# --- within this process --------------------------------------------------------------------------------


def asked(app, *requests):
    """The answers to (method, path, body), all asked at once, with the seconds each took."""

    async def ask(client, method, path, body):
        begun = time.perf_counter()
        answer = await client.request(method, path, json=body)
        return answer, time.perf_counter() - begun

    async def run():
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://here", timeout=60) as client:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(client, *request)) for request in requests]
            return [task.result() for task in tasks]

    return asyncio.run(run())


def test_a_check_that_computes_does_not_block_the_server():
    """The engine's thread is busy for a second; the server answers meanwhile."""

    async def busy(sample):
        end = time.perf_counter() + 1.5
        while time.perf_counter() < end:
            math.factorial(50)
        return Score(1.0)

    toy(busy, "busy")
    app = create_app("busy")
    asked(app, ("POST", "/judge", {"response": "warm"}))
    (judged, slow), (_, quick) = asked(app, ("POST", "/judge", {"response": "x"}), ("GET", "/", None))
    assert judged.json()["rewards"]["final_reward"] == 1.0
    assert slow > 1.4
    assert quick < 0.7 * slow


def test_a_deadline_is_a_status():
    async def never(sample):
        await asyncio.sleep(60)

    toy(never, "never")
    [(answer, _)] = asked(create_app("never", timeout=0.1), ("POST", "/judge", {"response": "x"}))
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["rewards"]["final_reward"]) == ("timeout", 0.0)


def test_mathverify_becomes_our_math():
    told = {
        "response": "\\boxed{3}",
        "prompt": "1+2?",
        "answer": "3",
        "solution": "\\boxed{3}",
        "reward_verifier": "mathverify",
        "reward_verifier_parm": json.dumps({**PARAMETERS, "det_reward_ratio": None}),
    }
    sample = sample_from(Payload(**told, format_ratio=0.0))
    assert (sample.target, sample.prompt) == ("3", "1+2?")
    assert sample.meta["route"]["rewards"]["math"] == {"bare": True}


def test_progress_is_that_of_a_training_only():
    trained = sample_from(Payload(**posted("x")))
    assert trained.meta["progress"] == 0.25
    assert trained.meta["size"] == (100, 100)
    evaluated = json.dumps({**PARAMETERS, "is_training": False})
    assert "progress" not in sample_from(Payload(**posted("x", reward_verifier_parm=evaluated))).meta
    with pytest.raises(UnknownVerifierError):
        sample_from(Payload(**posted("x", reward_verifier="../iou")))


def test_a_failure_keeps_the_keys():
    payload = Payload(**posted("x"))
    failed = reply(payload, Score.failed("error", "why"), {})
    right = reply(
        payload, Score(1.0, {"accuracy": 1.0, "format": 0.5}), {"iou_50": Score(1.0, {"recall": 1.0})}
    )
    assert list(failed["rewards"]) == list(right["rewards"])
    assert set(failed["rewards"].values()) == {0.0}
    assert (right["rewards"]["format_reward"], failed["note"]) == (0.5, "why")


def test_a_body_at_the_limit_passes_whole():
    """Cut into parts, announced or not; one byte more is refused, and nothing is lost."""

    async def echo(scope, receive, send):
        whole, more = b"", True
        while more:
            message = await receive()
            whole, more = whole + message.get("body", b""), message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": whole})

    async def post(parts, headers):
        sent, left = [], [{"type": "http.request", "body": part, "more_body": True} for part in parts[:-1]]
        left.append({"type": "http.request", "body": parts[-1], "more_body": False})

        async def receive():
            return left.pop(0)

        async def send(message):
            sent.append(message)

        await BodyLimit(echo, 10)({"type": "http", "headers": headers}, receive, send)
        return sent[0]["status"], sent[1]["body"]

    assert asyncio.run(post([b"12345", b"67890"], [])) == (200, b"1234567890")
    assert asyncio.run(post([b"12345", b"678901"], []))[0] == 413
    assert asyncio.run(post([b"1"], [(b"content-length", b"11")]))[0] == 413
    assert asyncio.run(post([b"1"], [(b"content-length", b"many")]))[0] == 413


def test_many_clients_at_once(server):
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(lambda _: server.post("/judge", json=posted(tagged(PIXELS))).json(), range(64))
        )
    assert {answer["rewards"]["final_reward"] for answer in answers} == {1.0}


def test_serve_says_what_is_wrong_before_it_listens(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text("routes: {a: {rewards: {nope: {}}}}")
    command = [sys.executable, "-m", "mmreward.cli", "serve", str(broken), "--port", "1"]
    told = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert told.returncode == 2
    assert "no reward named 'nope'" in told.stderr
