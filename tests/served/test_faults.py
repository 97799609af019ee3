"""What a server can do to its callers: every call ends, typed and in time, and costs only itself."""

import asyncio
import gzip
import json
import math
import threading
import time
import tracemalloc
import zlib
from urllib.parse import quote

import pytest
from support.chatserver import ChatServer, Reply, completion, shown, wait_until
from support.pace import allowed

from mmreward import Engine, Media, Sample, Unscorable, load, models
from mmreward.limits import Limits
from mmreward.models.served import http

OK = Reply(completion("yes"))
YES = ("Yes", math.log(0.9)), ("No", math.log(0.08)), *((f"w{i}", -16.0 - i) for i in range(18))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Retries that wait a tenth of the usual time."""
    monkeypatch.setattr(http, "BACKOFF", 0.05)


GZIP = {"Content-Encoding": "gzip"}
WHOLE = gzip.compress(json.dumps(completion("yes")).encode())


def bomb(gigabytes=1):
    """A megabyte of gzip for each gigabyte of zeros."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    zeros = bytes(1 << 24)
    return b"".join(packer.compress(zeros) for _ in range(64 * gigabytes)) + packer.flush()


def chat(*script, otherwise=OK):
    """An app that answers chat requests from a script, then `otherwise`; it has no other endpoint."""
    left = list(script)

    def app(request):
        if not request.path.endswith("/chat/completions"):
            return Reply({"error": {"message": "no such endpoint"}}, 404)
        return left.pop(0) if left else otherwise

    return app


PASSING = {
    "a server error": Reply({"error": "cuda"}, 500),
    "an overload": Reply({"error": "queue full"}, 503),
    "a request timeout": Reply(b"", 408),
    "a rate limit": Reply({"error": "slow down"}, 429, {"Retry-After": "0"}),
    "a dated rate limit": Reply(b"", 429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "a rate limit that says nonsense": Reply(b"", 429, {"Retry-After": "soon"}),
    "a reset in the body": Reply(completion("no"), torn=150),
    "a reset before the head": Reply(completion("no"), torn=0),
    "a hang-up in the body": Reply(completion("no"), torn=150, politely=True),
    "a hang-up before the head": Reply(completion("no"), torn=0, politely=True),
    "a late answer": Reply(completion("yes"), after=0.3),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_passes_is_retried(serve, gather, fault):
    server, vlm = serve(chat(fault, fault), "?deadline=20")
    (written,) = gather(vlm.write(None, "?"))
    assert (written.text, written.finished, written.tokens) == ("yes", True, 3)
    assert len(server.asked("/v1/chat/completions")) == (1 if fault.after else 3)


LASTING = {
    "a refusal of the request": (Reply({"error": {"message": "image too wide"}}, 400), "image too wide"),
    "no such model": (Reply({"detail": "unknown"}, 404), "/v1"),
    "a redirect": (Reply(b"", 307, {"Location": "http://elsewhere"}), "307"),
    "no JSON": (Reply(b"{'choices': "), "wrong form"),
    "deep JSON": (Reply(b"[" * 100_000), "wrong form"),
    "an error with status 200": (Reply({"error": {"message": "out of credits"}}), "out of credits"),
    "no choices": (Reply({"choices": []}), "choices"),
    "text that is a number": (Reply(completion(7)), "content"),
    "no usage": (Reply({**completion(), "usage": None}), "usage"),
    "a body without end": (Reply(b" " * (Limits().answer_bytes + 1)), "longer"),
    "broken gzip": (Reply(b"plain", headers=GZIP), "DecodingError"),
    "half of a gzip": (Reply(WHOLE[:-9], headers=GZIP), "DecodingError"),
    "an encoding that was not asked for": (
        Reply(b"anything", headers={"Content-Encoding": "br"}),
        "only gzip was asked",
    ),
    "gzip in gzip": (
        Reply(gzip.compress(WHOLE), headers={"Content-Encoding": "gzip, gzip"}),
        "only gzip was asked",
    ),
    "a long line of empty gzips": (Reply(gzip.compress(b"") * (1 << 21), headers=GZIP), "longer"),
}


@pytest.mark.parametrize(("fault", "words"), LASTING.values(), ids=LASTING)
def test_what_lasts_fails_that_call_alone_and_at_once(serve, gather, fault, words):
    server, vlm = serve(chat(fault), "?deadline=20")
    (failed,) = gather(vlm.write(None, "first"))
    assert isinstance(failed, Unscorable) and failed.status == "error" and words in str(failed)
    assert len(server.asked("/v1/chat/completions")) == 1
    assert gather(vlm.write(None, "second"))[0].text == "yes"


@pytest.mark.parametrize(
    "before", [b"", gzip.compress(b""), gzip.compress(b" ")], ids=["one", "two", "three"]
)
def test_an_answer_in_gzip_is_read(serve, gather, before):
    server, vlm = serve(chat(Reply(before + WHOLE, headers=GZIP)))
    assert gather(vlm.write(None, "?"))[0].text == "yes"
    assert server.asked("/v1/chat/completions")[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize("status", [200, 500])
def test_a_bomb_takes_no_more_memory_than_the_limit_and_no_neighbour(serve, gather, status):
    """1 GB of zeros in 1 MB; a mean error that is retried is as dangerous as an answer."""
    packed = bomb()
    assert len(packed) < 2_000_000

    def app(request):
        if not request.path.endswith("/chat/completions"):
            return Reply(b"", 404)
        mean = "bomb" in request.body["messages"][-1]["content"][0]["text"]
        return Reply(packed, status, GZIP) if mean else OK

    _, vlm = serve(app, "?deadline=20")
    gather(vlm.write(None, "what is loaded once"))
    tracemalloc.start()
    try:
        first, failed, last = gather(*(vlm.write(None, text) for text in ("a", "bomb", "b")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (first.text, last.text) == ("yes", "yes")
    assert isinstance(failed, Unscorable) and failed.status == "error" and "longer" in str(failed)
    assert peak < 4 * Limits().answer_bytes, (
        f"{peak >> 20} MiB for an answer of at most {Limits().answer_bytes >> 20}"
    )


UNREADABLE = {
    "a refusal": (completion("", refusal="I cannot look at people"), "look at people"),
    "a filter": (completion("ye", "content_filter"), "filter"),
    "nothing": (completion("", "length"), "empty"),
    "null": (completion(None), "empty"),
}


@pytest.mark.parametrize(
    "listing",
    [
        Reply(b"", 500),
        Reply(b"<html>", 200),
        Reply({"data": [{"id": "a"}]}),
        Reply({"data": 1}),
        Reply(b"", 404),
    ],
)
def test_a_server_that_cannot_list_its_models_is_asked_all_the_same(serve, gather, listing):
    server, vlm = serve(lambda request: listing if request.path == "/v1/models" else OK)
    assert gather(vlm.write(None, "?"))[0].text == "yes"
    assert "top_k" not in server.asked("/v1/chat/completions")[0].body  # OpenAI refuses what it does not know


@pytest.mark.parametrize(("answer", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_answer_without_words_is_unparsable(serve, gather, answer, words):
    _, vlm = serve(chat(Reply(answer)))
    (failed,) = gather(vlm.write(None, "?"))
    assert failed.status == "unparsable" and words in str(failed)


def test_a_cut_off_answer_is_not_finished(serve, gather):
    _, vlm = serve(chat(Reply(completion("the pic", "length"))))
    assert not gather(vlm.write(None, "?"))[0].finished


def test_a_server_that_only_fails_is_given_up_after_a_few_tries(serve, gather):
    server, vlm = serve(chat(otherwise=Reply({"error": "poisoned"}, 500)), "?deadline=20")
    (failed,) = gather(vlm.write(None, "?"))
    assert failed.status == "error" and "poisoned" in str(failed)
    assert len(server.asked("/v1/chat/completions")) == http.TRIES


def test_a_silent_server_costs_one_deadline_however_many_wait(serve, gather):
    """Traps: a deadline that starts in the queue starves a long run; one that does not keeps it for hours."""
    _, vlm = serve(chat(otherwise=Reply(never=True)), "?deadline=0.6&concurrency=4")
    begun = time.monotonic()
    results = gather(*(vlm.write(None, f"{i}") for i in range(200)))
    assert time.monotonic() - begun < allowed(5, time.monotonic)
    assert {failed.status for failed in results} == {"timeout"}


def test_a_queue_longer_than_the_deadline_is_worked_off(serve, gather):
    _, vlm = serve(chat(otherwise=Reply(completion(), after=0.1)), "?deadline=0.5&concurrency=2")
    results = gather(*(vlm.write(None, f"{i}") for i in range(24)))
    assert [written.text for written in results] == ["yes"] * 24


def test_after_a_silence_the_server_is_asked_again(serve, gather):
    _, vlm = serve(chat(Reply(never=True)), "?deadline=0.3&concurrency=1")
    assert gather(vlm.write(None, "a"))[0].status == "timeout"
    assert gather(vlm.write(None, "b"))[0].text == "yes"


def test_no_server_at_all_is_a_timeout_with_a_reason(engine, gather):
    with ChatServer(chat()) as gone:
        name = f"judge@{gone.url}?deadline=0.5"
    (failed,) = gather(models.vlm(name).write(None, "?"))
    assert failed.status == "timeout" and "connect" in str(failed)
    engine.close()


def test_retry_after_is_honoured(serve, gather):
    server, vlm = serve(chat(Reply(b"", 429, {"Retry-After": "1"})), "?deadline=20")
    assert gather(vlm.write(None, "?"))[0].text == "yes"
    first, second = server.asked("/v1/chat/completions")
    assert second.at - first.at >= 1.0


def test_a_wait_beyond_the_deadline_is_not_waited(serve, gather):
    _, vlm = serve(
        chat(otherwise=Reply({"error": "come back"}, 429, {"Retry-After": "3600"})), "?deadline=30"
    )
    begun = time.monotonic()
    (failed,) = gather(vlm.write(None, "?"))
    assert failed.status == "timeout" and "come back" in str(failed)
    assert time.monotonic() - begun < allowed(5, time.monotonic)


def test_cancelling_a_call_closes_its_request(serve, engine):
    server, vlm = serve(chat(otherwise=Reply(never=True)), "?deadline=60")

    async def work():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(vlm.write(None, "?"), 0.3)

    engine.run(work())
    assert server.hung_up.wait(10)


def test_a_mixed_storm_answers_all_that_can_be_answered(serve, gather):
    """One bad row of each kind among many; the good ones do not notice."""
    bad = {"torn": Reply(b"{", torn=20), "400": Reply(b"no", 400), "shape": Reply({"ok": 1})}

    def app(request):
        if not request.path.endswith("/chat/completions"):
            return Reply(b"", 404)
        text = request.body["messages"][-1]["content"][0]["text"]
        return bad.get(text.split()[0], OK)

    _, vlm = serve(app, "?deadline=20")
    asked = [f"{kind} {i}" for i in range(20) for kind in ("good", "torn", "good", "400", "shape")]
    for text, result in zip(asked, gather(*(vlm.write(None, text) for text in asked)), strict=True):
        if text.startswith("good"):
            assert result.text == "yes"
        else:
            assert isinstance(result, Unscorable) and result.status == "error"


def test_concurrency_has_an_upper_limit_and_equal_calls_are_sent_once(serve, gather):
    server, vlm = serve(chat(otherwise=Reply(completion(), after=0.02)), "?concurrency=3")
    gather(*(vlm.write(None, f"{i % 20}") for i in range(60)))
    assert server.busiest <= 3 and len(server.asked("/v1/chat/completions")) == 20


def test_closing_the_engine_gives_the_sockets_back(png):
    before = set(threading.enumerate())  # other tests' engines among them
    with ChatServer(chat(otherwise=Reply(shown(*YES)))) as server:
        with Engine("cpu") as engine:
            vlm = models.vlm(f"judge@{server.url}")
            engine.run(vlm.read(Media(png), "?", ("yes", "no")))
            kept = list(http._lines.values())  # what is still referenced is not closed by accident
            assert server.open > 0 and kept
        wait_until(lambda: server.open == 0)
        assert not http._lines
        ours = ("mmreward-loop", "mmreward-encode")  # their threads are asked to end, and not waited for
        wait_until(lambda: not [t for t in set(threading.enumerate()) - before if t.name.startswith(ours)])


def test_closing_while_calls_wait_ends_them():
    with ChatServer(chat(otherwise=Reply(never=True))) as server:
        engine = Engine("cpu")
        vlm = models.vlm(f"judge@{server.url}?concurrency=2")
        futures = [engine._start(vlm.write(None, f"{i}")) for i in range(10)]
        wait_until(lambda: server.busy == 2)
        engine.close()
        assert all(future.cancelled() for future in futures)
        assert not http._lines


def test_engines_share_a_handle_and_no_connection():
    with ChatServer(chat()) as server, Engine("cpu") as lasting:
        vlm = models.vlm(f"judge@{server.url}")
        for text in "abc":
            with Engine("cpu") as passing:
                assert passing.run(vlm.write(None, text)).text == "yes"
            assert lasting.run(vlm.write(None, text)).text == "yes"
        assert len(http._lines) == 1


def test_models_on_one_server_share_its_pace(engine):
    with ChatServer(chat(otherwise=Reply(completion(), after=0.02))) as server:
        first, second = (models.vlm(f"{name}@{server.url}?concurrency=2") for name in ("one", "two"))

        async def both():
            return await asyncio.gather(
                *(vlm.write(None, f"{i}") for i in range(8) for vlm in (first, second))
            )

        assert len(engine.run(both())) == 16 and server.busiest <= 2
        engine.close()


def test_the_key_is_sent_and_shown_nowhere(serve, gather, monkeypatch, caplog):
    monkeypatch.setenv("JUDGE_KEY", "sk-secret-123")
    refusal = Reply({"error": {"message": "Incorrect API key provided: sk-secret-123"}}, 401)
    caplog.set_level("DEBUG")
    server, vlm = serve(chat(OK, refusal), "?key=JUDGE_KEY")
    (written, failed) = (gather(vlm.write(None, text))[0] for text in "ab")
    assert written.text == "yes"
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer sk-secret-123"}
    everything = [repr(vlm), vlm.name, vlm.fingerprint, str(vars(vlm)), str(failed), caplog.text]
    assert "Incorrect API key" in str(failed) and "sk-secret-123" not in " ".join(everything)


KEY = "sk-secret/123"
ESCAPED = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
SPELLED = json.dumps({"error": {"message": "x"}}).replace("x", ESCAPED).encode()


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"error": {"message": "a" * 294 + KEY}}, 401),  # cut in the middle of the key
        Reply({"error": {"message": " " * 4090 + KEY}}, 500),
        Reply((" " * 4090 + KEY).encode(), 401),
        Reply({"error": {"code": KEY, "got": [KEY]}}, 400),
        Reply(SPELLED, 401),
        Reply(SPELLED),
        Reply(f"<html>Bearer {KEY}</html>".encode()),
        Reply(b"a" * 115 + KEY.encode()),
        Reply({"choices": [{KEY: 1}]}),
        Reply(completion("", refusal="a" * 195 + KEY)),
        Reply(completion("no", finish=KEY)),
        Reply(completion(f"yes, {KEY}")),
    ],
)
def test_a_key_that_a_server_repeats_reaches_no_note(serve, gather, monkeypatch, caplog, reply):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    caplog.set_level("DEBUG")
    _, vlm = serve(chat(otherwise=reply), "?key=JUDGE_KEY&deadline=3")
    (said,) = gather(vlm.write(None, "a"))
    shown = str(said) + caplog.text
    for piece in (KEY, KEY[:6], "secret", quote(KEY, safe=""), ESCAPED):
        assert piece not in shown
    assert "***" in shown


def test_a_short_key_is_hidden_in_failures_and_is_a_word_in_answers(serve, gather, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "EMPTY")
    _, vlm = serve(chat(Reply(completion("EMPTY box")), Reply({"error": "key EMPTY"}, 401)), "?key=JUDGE_KEY")
    written, failed = (gather(vlm.write(None, text))[0] for text in "ab")
    assert written.text == "EMPTY box" and "EMPTY" not in str(failed)


def test_a_reward_on_a_failing_server_scores_nothing_and_says_why(serve, engine, png):
    server, _ = serve(chat(otherwise=Reply({"error": "no GPU left"}, 400)))
    reward = load("checklist", judge=f"judge@{server.url}")
    (score,) = engine.score([Sample(prompt="a red circle", image=Media(png))], reward)["checklist"]
    assert score.status == "error" and "no GPU left" in score.note and math.isnan(score.value)
