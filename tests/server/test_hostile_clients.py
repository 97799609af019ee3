"""What a client can do to the others: nothing that takes a server's memory, its time, or its end."""

import asyncio
import json
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

import httpx2
import pytest
from fastapi.testclient import TestClient
from support.pace import allowed
from support.toys import toy

from mmreward import Score
from mmreward.server.app import create_app
from mmreward.server.guard import BodyLimit, Bounds, Turns

BOXES = [{"bbox_2d": [i % 900, i // 900, i % 900 + 5, i // 900 + 5], "label": "cat"} for i in range(40_000)]
TRUTH = json.dumps([{"bbox_2d": [100, 100, 500, 500], "label": "cat"}])
ROUTES = "routes: {boxes: {rewards: {iou: {}}}}\nengine: {device: cpu}"
GOOD = {"response": f"<answer>{TRUTH}</answer>", "answer": TRUTH, "data_source": "boxes"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Served:
    """`mmreward serve` in a process of its own."""

    def __init__(self, folder, *options, env=None):
        (folder / "routes.yaml").write_text(ROUTES)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "mmreward.cli", "serve", str(folder / "routes.yaml")]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), *options], stderr=subprocess.PIPE, text=True, env=env
        )
        for _ in range(600):
            try:
                httpx2.get(self.url, timeout=5)
                return
            except httpx2.TransportError:
                assert self.process.poll() is None, self.process.stderr.read()
                time.sleep(0.1)

    def unfinished(self, size=1 << 20):
        """A connection with a body that never ends."""
        line = socket.create_connection(("127.0.0.1", self.port))
        line.sendall(b"POST /judge HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n" + b" " * size)
        return line


@pytest.fixture
def served(tmp_path):
    server = Served(tmp_path)
    yield server
    server.process.kill()
    server.process.wait()


def client_of(rewards=None, **options):
    return TestClient(create_app(rewards or {"iou": {}}, **options), raise_server_exceptions=False)


def test_forty_thousand_boxes_are_refused_at_once():
    verifier = {"reward_verifier": "detection", "reward_verifier_parm": '{"image_grid_thw": [[1, 900, 900]]}'}
    with client_of() as client:
        for truth in (json.dumps(BOXES), f"<answer>{json.dumps(BOXES)}</answer>"):
            for body in ({"answer": truth}, {"solution": truth}, {"solution": truth, **verifier}):
                begun = time.perf_counter()
                answer = client.post("/judge", json={"response": f"<answer>{TRUTH}</answer>", **body})
                assert answer.status_code == 422 and "the limit is" in answer.text
                assert time.perf_counter() - begun < allowed(2, time.perf_counter)
        few = json.dumps(BOXES[:2000])
        failed = client.post("/judge", json={"response": "<answer>[]</answer>", "answer": few}).json()
        assert failed["status"] == "error" and "2000 target boxes; at most 1024" in failed["note"]


def test_rows_have_a_limit():
    told = {"query": ["pq"] * 5, "prompts": ["p"] * 5, "labels": ["3"] * 5}
    with client_of(bounds=Bounds(rows=4)) as client:
        answer = client.post("/get_reward", json=told)
        assert answer.status_code == 413 and "5 rows; the limit of one request is 4" in answer.text
        answer = client.post("/get_reward", json={**told, "query": [7] * 5})
        assert answer.status_code == 413, "held against the model before it was counted"


def parameters(text):
    return json.dumps({"response": "x", "reward_verifier_parm": text})


@pytest.mark.parametrize(
    "body",
    [
        '{"response": "x", "format_ratio": NaN}',
        '{"response": NaN}',
        '{"response": "\\ud800", "answer": "\\udfff", "data_source": "\\ud800"}',
        '{"response": "x", "data_source": "\\ud800", "reward_verifier": "\\ud800"}',
        '{"response": "x", "reward_verifier": "mathverify", "answer": "\\ud800"}',
        json.dumps(
            {"response": "x", "reward_verifier_parm": json.dumps({"step": 10**399, "total_steps": 2})}
        ),
        json.dumps(
            {"response": "x", "reward_verifier_parm": json.dumps({"step": 2, "total_steps": 10**399})}
        ),
        json.dumps({"response": "x", "reward_verifier_parm": '{"step": NaN, "total_steps": Infinity}'}),
        json.dumps({"response": "x", "reward_verifier_parm": '{"size": [1' + "0" * 400 + ", 1]}"}),
        json.dumps(
            {
                "response": f"<answer>{TRUTH}</answer>",
                "solution": TRUTH,
                "reward_verifier": "detection",
                "reward_verifier_parm": json.dumps({"image_grid_thw": [[1, 10**400, 10**400]]}),
            }
        ),
        '{"response": "x", "accuracy_ratio": 1' + "0" * 400 + "}",
        '{"response": "x", "accuracy_ratio": 1' + "0" * 5000 + "}",
        '{"response": "x", "reward_verifier_parm": "' + "[" * 9000 + '"}',
        "[" * 100_000,
        "\\ud800",
        "[]",
        "3",
        "",
    ],
)
def test_nothing_a_client_writes_is_a_fault_of_the_server(body):
    for rewards in ({"iou": {}}, {"dynamic_iou": {}}):
        with client_of(rewards) as client:
            answer = client.post("/judge", content=body.encode())
            assert answer.status_code in (200, 404, 422), answer.text
            if answer.status_code == 200:
                assert answer.json()["status"] in ("ok", "error", "missing", "unparsable")


@pytest.mark.parametrize(
    "body",
    [
        '{"query": ["p\\ud800"], "prompts": ["p"], "labels": ["\\ud800"]}',
        '{"query": ["pq"], "prompts": ["p"], "labels": [NaN]}',
        '{"query": ["pq"], "prompts": ["\\ud800"], "labels": [{"a": 1e999}]}',
        json.dumps({"query": ["pq"], "prompts": ["p"], "labels": [10**399]}),
        json.dumps({"query": ["pq"], "prompts": ["p"], "labels": ['{"v": 1, "answer": "1", "step": NaN}']}),
        '{"query": "pq", "prompts": "p", "labels": "l"}',
    ],
)
def test_nor_is_anything_in_a_batch(body):
    with client_of(failed=0.0) as client:
        answer = client.post("/get_reward", content=body.encode())
    assert answer.status_code in (200, 422), answer.text


def test_a_total_that_compares_says_so(tmp_path):
    (tmp_path / "z.yaml").write_text(
        "rewards: {iou: }\ncompose: {weights: {iou: 1.0}, normalise: group}\nengine: {device: cpu}"
    )
    with client_of(str(tmp_path / "z.yaml"), failed=0.0) as client:
        alone = client.post("/judge", json={"response": f"<answer>{TRUTH}</answer>", "answer": TRUTH}).json()
        assert (alone["status"], alone["rewards"]["final_reward"]) == ("missing", 0.0)
        assert "no group" in alone["note"]
        labels = [json.dumps({"v": 1, "answer": json.loads(TRUTH), **more}) for more in ({"group": "a"}, {})]
        told = {"query": [f"p<answer>{TRUTH}</answer>"] * 2, "prompts": ["p"] * 2, "labels": labels}
        assert client.post("/get_reward", json=told).json()["extra_logs"]["failed"] == [0.0, 1.0]


def test_the_key_is_asked_for_and_shown_nowhere(tmp_path, monkeypatch):
    with client_of(key="sk-server-key") as client:
        assert client.get("/").status_code == 200
        for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "sk-server-key"}):
            answer = client.post("/judge", json=GOOD, headers=headers)
            assert answer.status_code == 401 and "sk-server-key" not in answer.text
        kept = {"authorization": "Bearer sk-server-key"}
        assert client.post("/judge", json=GOOD, headers=kept).json()["status"] == "ok"
    (tmp_path / "routes.yaml").write_text(ROUTES)
    command = [
        sys.executable,
        "-m",
        "mmreward.cli",
        "serve",
        str(tmp_path / "routes.yaml"),
        "--key-env",
        "NONE",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "--key-env names an environment variable that is not set" in done.stderr


def answered(app, parts, seconds=5.0):
    """The statuses an ASGI application answers to a body in parts, each after so many seconds."""
    sent, left = [], list(parts)

    async def receive():
        if not left:
            await asyncio.sleep(60)
        wait, message = left.pop(0)
        await asyncio.sleep(wait)
        return message

    async def send(message):
        sent.append(message)

    async def run():
        scope = {"type": "http", "method": "POST", "path": "/judge", "headers": []}
        await asyncio.wait_for(app(scope, receive, send), seconds)

    asyncio.run(run())
    return [message["status"] for message in sent if "status" in message]


def part(body=b"", more=False):
    return {"type": "http.request", "body": body, "more_body": more}


async def fine(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_a_body_has_a_time_and_a_budget():
    slow = [(0, part(b"x", True)), (9, part())]
    assert answered(BodyLimit(fine, 100, seconds=0.1), slow) == [408]
    assert answered(BodyLimit(fine, 1 << 20, held_bytes=10), [(0, part(b"x" * 70_000))]) == [503]
    limit = BodyLimit(fine, 1 << 20, held_bytes=70_000)
    for _ in range(3):  # what was held is given back
        assert answered(limit, [(0, part(b"x" * 70_000))]) == [200]
    assert answered(limit, [(0, part(b"x", True)), (0, {"type": "http.disconnect"})]) == []


def test_one_whose_client_has_gone_is_cancelled():
    ended = []

    async def never(scope, receive, send):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    gone = [(0, part()), (0.05, {"type": "http.disconnect"})]
    assert answered(Turns(never, 1, 1), gone) == [] and ended == [True]


def test_the_scores_of_a_client_that_has_gone_are_not_computed(tmp_path):
    """The engine hears of it, and a reward that waits is cancelled."""
    state = {"begun": threading.Event(), "ended": threading.Event()}

    async def waits(sample):
        state["begun"].set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            state["ended"].set()
            raise
        return Score(1.0)

    toy(waits, "waits")
    app = create_app("waits", timeout=None)
    gone = threading.Event()

    async def ask():
        sent = []
        parts = [part(b'{"response": "x"}')]

        async def receive():
            if parts:
                return parts.pop()
            await asyncio.to_thread(gone.wait)
            return {"type": "http.disconnect"}

        scope = {"type": "http", "method": "POST", "path": "/judge", "headers": [], "query_string": b""}
        asking = asyncio.ensure_future(
            app(scope, receive, lambda message: asyncio.sleep(0, sent.append(message)))
        )
        await asyncio.to_thread(state["begun"].wait, 20)
        gone.set()
        await asyncio.wait_for(asking, 10)

    asyncio.run(ask())
    assert state["ended"].wait(10)


def test_requests_beyond_those_that_wait_come_again():
    async def slow(scope, receive, send):
        await asyncio.sleep(0.2)
        await fine(scope, receive, send)

    turns = Turns(slow, 1, 1)

    async def run():
        statuses = []

        async def ask():
            parts = [part()]

            async def receive():
                return parts.pop() if parts else await asyncio.sleep(60)

            async def send(message):
                if "status" in message:
                    statuses.append(message["status"])

            await turns({"type": "http", "method": "POST", "path": "/judge", "headers": []}, receive, send)

        await asyncio.gather(*(ask() for _ in range(4)))
        return sorted(statuses)

    assert asyncio.run(run()) == [200, 200, 503, 503]


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_ends_it_whatever_clients_do(tmp_path, workers):
    server = Served(tmp_path, "--workers", str(workers))
    lines = [server.unfinished() for _ in range(8)]
    lines.append(socket.create_connection(("127.0.0.1", server.port)))
    lines[-1].sendall(b"POST /judge HT")
    time.sleep(0.5)
    begun = time.perf_counter()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(20)
    assert time.perf_counter() - begun < allowed(5, time.perf_counter)
    for line in lines:
        line.close()


def test_workers_whose_parent_was_killed_let_go_of_the_port(tmp_path):
    server = Served(tmp_path, "--workers", "2")
    server.process.kill()
    server.process.wait()
    for _ in range(200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", server.port))
                return
            except OSError:
                time.sleep(0.1)
    pytest.fail(f"port {server.port} is held by a worker without a parent")


def test_hostile_clients_leave_the_others_their_time(served):
    """The p99 of honest requests beside five that send boxes, rows and bodies without end."""

    def honest(number):
        times = []
        with httpx2.Client(base_url=served.url, timeout=60) as client:
            for _ in range(number):
                begun = time.perf_counter()
                assert client.post("/judge", json=GOOD).json()["status"] == "ok"
                times.append(time.perf_counter() - begun)
        return times

    def measure():
        found = []
        threads = [threading.Thread(target=lambda: found.extend(honest(12))) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return statistics.quantiles(found, n=100)[98]

    honest(8)
    before = measure()
    stop = threading.Event()
    boxes = json.dumps({**GOOD, "answer": json.dumps(BOXES)}).encode()
    rows = json.dumps(
        {"query": ["pq"] * 50_000, "prompts": ["p"] * 50_000, "labels": ["l"] * 50_000}
    ).encode()

    def hostile(path, body):
        with httpx2.Client(base_url=served.url, timeout=60) as client:
            while not stop.is_set():
                client.post(path, content=body)

    attacks = [("/judge", boxes)] * 2 + [("/get_reward", rows)] * 2
    threads = [threading.Thread(target=hostile, args=attack, daemon=True) for attack in attacks]
    for thread in threads:
        thread.start()
    lines = [served.unfinished() for _ in range(32)]
    beside = measure()
    stop.set()
    for line in lines:
        line.close()
    for thread in threads:
        thread.join(30)
    print(f"p99 {before:.3f} s alone, {beside:.3f} s beside")
    assert beside < max(3 * before, allowed(1.0, time.perf_counter)), (before, beside)
