"""The table of limits: every entry is enforced, only the operator sets it, and every door and process has it.

An entry without an example in `EXAMPLES` fails here: a limit that nothing enforces is a promise that is not
kept.
"""

import asyncio
import dataclasses
import inspect
import json
import sys
import time
from pathlib import Path

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from support.toys import toy
from typer.testing import CliRunner

from mmreward import Engine, Media, Sample, Score, Unscorable, load
from mmreward.adapters.scorer import Scorer
from mmreward.cli import app
from mmreward.config import load_config
from mmreward.data.routing import Router
from mmreward.data.rows import read_rows
from mmreward.isolation.protocol import Message, WireError, pack
from mmreward.limits import Limits, changed, limited, limits, set_limits
from mmreward.models.served.body import read_body
from mmreward.models.vlms.rendering import Renderer
from mmreward.server import app as server
from mmreward.server.guard import BodyLimit, Bounds, Turns
from mmreward.strict_yaml import parse_yaml, read_yaml
from mmreward.types import oversized, shortened

BOX = {"bbox_2d": [100, 100, 400, 400], "label": "cat"}
BOXES = f"<answer>{json.dumps([BOX])}</answer>"


def raised(act):
    """Words of the refusal; empty where there is none."""
    try:
        act()
    except (Unscorable, ValueError, WireError) as error:
        return str(error)
    return ""


def noted(reward, **fields):
    with Engine("cpu") as engine:
        (score,) = engine.score([Sample(**fields)], [reward])[reward if isinstance(reward, str) else "it"]
    return score.note


def picture(folder):
    Image.new("RGB", (8, 4)).save(folder / "a.png")
    return raised(Media(folder / "a.png").array)


def clip(folder):
    first, *others = [Image.new("RGB", (8, 4), (index * 80,) * 3) for index in range(3)]
    first.save(folder / "a.gif", save_all=True, append_images=others)
    return raised(Media(folder / "a.gif", "video").array)


def row(folder):
    (folder / "a.jsonl").write_text(json.dumps({"id": "a", "prompt": "x" * 100}) + "\n")
    return next(iter(read_rows(folder / "a.jsonl"))).problem


def text(folder):
    short = shortened(Sample(response="x" * 20)).response != "x" * 20
    words = oversized(Sample(prompt="x" * 20))
    assert bool(words) == short
    return words


def formula(folder):
    return noted("math", response=r"<answer>\boxed{x+1}</answer>", target=r"\frac{x+1}{2}")


def pointing(target):
    return noted(
        "pointing", response="<answer>[[100, 100]]</answer>", target=target, image=Image.new("RGB", (2, 2))
    )


def note(folder):
    async def fails(sample):
        raise Unscorable("x" * 50)

    toy(fails, "fails")
    return "(limits.note_characters)" if len(noted("fails", response="x")) < 50 else ""


def config(folder):
    (folder / "a.yaml").write_text("rewards: {iou: {}}\n")
    return raised(lambda: read_yaml(folder / "a.yaml"))


def route(*rewards):
    return raised(lambda: Router().route(Sample(meta={"route": {"rewards": {name: {} for name in rewards}}})))


def routes(folder):
    router = Router()
    for source in "abc":
        router.route(Sample(source=source, meta={"route": {"rewards": {"iou": {}}}}))
    return "(limits.routes)" if len(router._own) < 3 else ""


def template(folder):
    def busy():
        begun = time.thread_time()
        while time.thread_time() < begun + 0.6:
            sum(range(1000))
        return ""

    return raised(lambda: Renderer("mine").text(busy))


def answer(folder):
    async def pieces():
        yield b"x" * 20

    return raised(lambda: asyncio.run(read_body(httpx2.Response(200, content=pieces()))))


def posted(path, body):
    with TestClient(server.create_app({"iou": {}})) as client:
        return client.post(path, json=body).text


def sent(guard, *waits):
    """What a middleware sends to as many clients as there are waits before their bodies, at once."""
    words = []

    async def client(wait):
        parts = [{"type": "http.request", "body": b"x", "more_body": False}]

        async def receive():
            if parts:
                await asyncio.sleep(wait)
                return parts.pop()
            return await asyncio.sleep(60)

        async def send(message):
            words.append(message.get("body", b"").decode())

        await guard({"type": "http", "method": "POST", "path": "/judge", "headers": []}, receive, send)

    async def all_at_once():
        await asyncio.gather(*map(client, waits))

    asyncio.run(all_at_once())
    return " ".join(words)


def slow_body(folder):
    async def fine(scope, receive, send):
        await receive()

    return sent(BodyLimit(fine, 100), 0.3)


def crowd(folder):
    """Three requests at once; the most that were inside, and what was refused."""
    inside = [0, 0]

    async def scoring(scope, receive, send):
        inside[0] += 1
        inside[1] = max(inside)
        await asyncio.sleep(0.1)
        inside[0] -= 1

    bounds = Bounds()
    words = sent(Turns(scoring, bounds.concurrency, bounds.waiting), 0, 0, 0)
    return words + (" (limits.requests)" if inside[1] == 1 else "")


def waiting(folder):
    with limited(requests=1):
        return crowd(folder)


def connections(folder):
    given = {}
    (folder / "routes.yaml").write_text("rewards: {iou: {}}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uvicorn.run", lambda *args, **options: given.update(options))
        for name in (server.ROUTES, server.TIMEOUT, server.KEY_ENV):
            patch.setenv(name, "")
        server.serve(folder / "routes.yaml", "127.0.0.1", 1, 1, 60.0)
    return "(limits.connections)" if given["limit_concurrency"] < 100 else ""


MASK = {"mask": [[0, 1], [1, 1]]}


def parquet_row(folder):
    pq.write_table(pa.table({"prompt": ["x" * 20]}), folder / "rows.parquet")
    return next(read_rows(folder / "rows.parquet")).problem


EXAMPLES = {
    "pixels": (31, picture),
    "clip_pixels": (95, clip),
    "frames": (2, clip),
    "clip_frames": (2, clip),
    "steps": (1, lambda _: oversized(Sample(steps=({"action": 0}, {"action": 1})))),
    "row_bytes": (50, row),
    "rows_bytes": (20, parquet_row),
    "file_bytes": (20, picture),
    "text_characters": (19, text),
    "target_characters": (19, lambda _: oversized(Sample(target=[{"text": "x" * 20}]))),
    "formula_characters": (5, formula),
    "boxes": (1, lambda _: noted("iou", response=BOXES, target=[BOX, BOX])),
    "corners": (3, lambda _: pointing([{"polygon": [[0, 0], [900, 0], [900, 900], [0, 900]]}])),
    "mask_pixels": (3, lambda _: pointing([MASK])),
    "masks_pixels": (7, lambda _: pointing([MASK, MASK])),
    "items": (2, lambda _: noted("answer", response="<answer>1, 2, 3</answer>", target=[1, 2, 3])),
    "questions": (
        1,
        lambda _: noted(
            "probes", response="<a1>a</a1>", meta={"probes": [{"question": "?", "answer": "a"}] * 2}
        ),
    ),
    "note_characters": (10, note),
    "config_bytes": (10, config),
    "config_depth": (3, lambda _: raised(lambda: parse_yaml("[[[[1]]]]"))),
    "config_values": (3, lambda _: raised(lambda: parse_yaml("[1, 2, 3, 4]"))),
    "route_characters": (10, lambda _: route("iou")),
    "route_rewards": (1, lambda _: route("iou", "format")),
    "routes": (2, routes),
    "template_characters": (9, lambda _: raised(lambda: Renderer("mine").text(lambda: "x" * 10))),
    "template_seconds": (0.05, template),
    "answer_bytes": (19, answer),
    "message_bytes": (20, lambda _: raised(lambda: pack(Message({"x": "x" * 50}, [])))),
    "blob_bytes": (2, lambda _: raised(lambda: pack(Message({}, [b"xxx"])))),
    "body_bytes": (20, lambda _: posted("/judge", {"response": "x" * 20})),
    "bodies_bytes": (20, lambda _: posted("/judge", {"response": "x" * 70_000})),
    "body_seconds": (0.05, slow_body),
    "requests": (1, crowd),
    "waiting": (1, waiting),
    "request_rows": (
        2,
        lambda _: posted("/get_reward", {"query": ["pq"] * 3, "prompts": ["p"] * 3, "labels": ["3"] * 3}),
    ),
    "connections": (7, connections),
}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
def test_every_limit_is_enforced_and_its_refusal_names_its_key(name, tmp_path):
    lowered, example = EXAMPLES[name]
    assert f"(limits.{name})" not in example(tmp_path)
    set_limits({name: lowered})
    assert f"(limits.{name})" in example(tmp_path)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
def test_every_limit_says_what_it_is_of(name):
    assert f"\n    {name}: " in inspect.getdoc(Limits)


# --- who sets them --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{pixel: 5}", "unknown key 'limits.pixel': did you mean 'pixels'?"),
        ("{boxes: 0}", "limits.boxes=0 is no whole number above 0"),
        ("{boxes: -3}", "limits.boxes=-3 is no"),
        ("{boxes: yes}", "limits.boxes=True is no"),
        ("{boxes: 1.5}", "limits.boxes=1.5 is no whole number"),
        ("{boxes: many}", "limits.boxes='many' is no"),
        ("{body_seconds: .nan}", "limits.body_seconds=nan is no number above 0"),
        ("{body_seconds: .inf}", "limits.body_seconds=inf is no number above 0"),
        ("7", "limits: it is int, not a mapping"),
    ],
)
def test_mistakes_are_told_by_key(tmp_path, given, words):
    (tmp_path / "run.yaml").write_text(f"rewards: {{iou: {{}}}}\nlimits: {given}\n")
    with pytest.raises(ValueError) as mistake:
        load_config(tmp_path / "run.yaml")
    assert words in str(mistake.value) and str(tmp_path) in str(mistake.value)


def test_large_numbers_may_be_written_short():
    set_limits(pixels="200e6", blob_bytes=8e9, body_seconds=1)
    assert (limits().pixels, limits().blob_bytes, limits().body_seconds) == (200_000_000, 8_000_000_000, 1)
    assert changed().keys() == {"pixels", "blob_bytes", "body_seconds"}


def test_limits_of_a_block_are_gone_after_it():
    with limited(boxes=3), limited(corners=4):
        assert (limits().boxes, limits().corners) == (3, 4)
    assert limits() == Limits()


def test_a_row_sets_no_limit():
    for given in ({"rewards": {"iou": {}}, "limits": {"boxes": 9999}}, {"rewards": {"iou": {"boxes": 1}}}):
        with pytest.raises(ValueError):
            Router().route(Sample(meta={"route": given}))
    assert limits() == Limits()


# --- doors and processes --------------------------------------------------------------------------


def told(folder):
    (folder / "data.jsonl").write_text(json.dumps({"response": BOXES, "target": [BOX, BOX]}) + "\n")
    (folder / "run.yaml").write_text("rewards: {iou: {}}\nengine: {device: cpu}\nlimits: {boxes: 1}\n")
    return str(folder / "data.jsonl"), str(folder / "run.yaml")


def test_score_and_check_and_pairs_take_the_limits_of_their_file(tmp_path):
    data, config = told(tmp_path)
    out = str(tmp_path / "out.jsonl")
    done = CliRunner().invoke(app, ["score", data, "--config", config, "--out", out, "--max-failures", "1"])
    assert done.exit_code == 0, done.output
    assert "(limits.boxes)" in Path(out).read_text()
    set_limits(dataclasses.asdict(Limits()))
    done = CliRunner().invoke(app, ["check", data, "--config", config])
    assert "(limits.boxes)" in done.output
    set_limits(dataclasses.asdict(Limits()))
    CliRunner().invoke(app, ["pairs", data, out, "--out", str(tmp_path / "pairs"), "--config", config])
    assert limits().boxes == 1


def test_a_file_given_to_a_trainer_or_a_server_sets_its_limits(tmp_path):
    _, config = told(tmp_path)
    Scorer(Path(config))
    assert changed() == {"boxes": 1}
    set_limits(boxes=Limits().boxes)
    told_twice = {"response": BOXES, "answer": json.dumps([BOX, BOX]), "data_source": "x"}
    with TestClient(server.create_app(Path(config))) as client:
        assert "(limits.boxes)" in client.post("/judge", json=told_twice).json()["note"]


def test_the_environment_sets_limits_for_a_process_that_starts(tmp_path):
    import subprocess

    code = "from mmreward import Engine; from mmreward.limits import changed; Engine('cpu'); print(changed())"
    for value, words in (("77", "{'boxes': 77}"), ("many", "MMREWARD_MAX_BOXES='many' is no whole number")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MMREWARD_MAX_BOXES", value)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert words in done.stdout + done.stderr


def test_an_interpreter_of_its_own_has_the_operators_limits(engine):
    set_limits(boxes=1)
    there = load("iou", python={"path": sys.executable, "device": "cpu"})
    try:
        (score,) = engine.score([Sample(response=BOXES, target=[BOX, BOX])], there)["iou"]
        assert "at most 1 (limits.boxes)" in score.note
    finally:
        there.close()


def test_env_prints_them(monkeypatch):
    monkeypatch.setenv("MMREWARD_MAX_BOXS", "5")
    set_limits(boxes=77)
    printed = CliRunner().invoke(app, ["env"]).output
    assert "77 (usually 1024)" in printed and "no such limit: did you mean 'boxes'?" in printed
    assert all(f"limits.{field.name} " in printed for field in dataclasses.fields(Limits))


def test_scoring_reads_a_limit_when_it_is_used(engine):
    """Traps: a limit that is imported by value, or read when a reward is loaded."""
    reward = load("iou")
    sample = Sample(response=BOXES, target=[BOX, BOX])
    statuses = []
    for boxes in (2, 1, 2):
        set_limits(boxes=boxes)
        statuses.append(engine.score([sample], reward)["iou"][0].status)
    assert statuses == ["ok", "error", "ok"]
    assert isinstance(engine.score([sample], reward)["iou"][0], Score)
