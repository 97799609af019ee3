"""A served model gives the numbers of the same model in this process, wherever it can give numbers at all."""

import numpy as np
import pytest
from support.emulated import EmulatedVLLM

from mmreward import Media, Sample, Unscorable, load, models
from mmreward.mini.world import describe, render, sample_scene
from mmreward.models.vlms.answers import Turn
from mmreward.models.weights import locate

QUESTION = "Is there a red circle? Answer yes or no."
COUNT = "How many shapes are there? Answer with one number."
DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(5)
    return [(str(describe(scene)), render(scene, 64)) for scene in (sample_scene(rng) for _ in range(4))]


@pytest.fixture(scope="module")
def emulated():
    return EmulatedVLLM(locate("mini-vlm"))


@pytest.fixture
def here():
    return models.vlm("mini-vlm")


def close(got, want):
    assert got.mass == pytest.approx(want.mass, abs=1e-4)
    assert got.probs == pytest.approx(want.probs, abs=1e-4)


def test_reads_on_vllm_are_exact(serve, gather, emulated, here, scenes):
    server, there = serve(emulated)
    media = [Media(picture) for _, picture in scenes]
    asked = [(one, QUESTION, ("yes", "no")) for one in media]
    asked += [
        (media[0], COUNT, DIGITS),
        ((media[1], media[2]), "Which is better? Answer 1 or 2.", ("1", "2")),
    ]
    got = gather(*(there.read(*args, system="Look closely.") for args in asked))
    want = gather(*(here.read(*args, system="Look closely.") for args in asked))
    for mine, theirs in zip(got, want, strict=True):
        close(mine, theirs)
    assert {len(r.body["logprob_token_ids"]) for r in server.asked("/v1/chat/completions")} >= {len(DIGITS)}
    assert len(server.asked("/v1/models")) == 1


def test_what_is_learned_about_a_server_is_asked_once(serve, gather, emulated, scenes):
    server, there = serve(emulated)
    media = [Media(picture) for _, picture in scenes]
    gather(*(there.read(one, QUESTION, ("yes", "no")) for one in media))
    before = len(server.requests)
    gather(*(there.read(one, QUESTION + " Now.", ("yes", "no")) for one in media))
    assert len(server.requests) == before + len(media)


@pytest.mark.parametrize(("owner", "aside"), [("vllm", False), ("sglang", False), ("", False)])
def test_reads_from_the_top_tokens_are_close(
    serve, gather, emulated, here, scenes, monkeypatch, owner, aside
):
    monkeypatch.setattr(emulated, "owner", owner)
    monkeypatch.setattr(emulated, "aside", aside)
    _, there = serve(emulated)
    media = [Media(picture) for _, picture in scenes]
    got = gather(*(there.read(one, QUESTION, ("yes", "no")) for one in media))
    want = gather(*(here.read(one, QUESTION, ("yes", "no")) for one in media))
    for mine, theirs in zip(got, want, strict=True):
        assert mine.probs == pytest.approx(theirs.probs, abs=1.1e-3)
        assert mine.mass <= theirs.mass + 1e-4


def test_a_short_top_k_is_refused_and_never_zero(serve, gather, emulated, scenes, monkeypatch):
    monkeypatch.setattr(emulated, "owner", "")
    monkeypatch.setattr(emulated, "top", 1)
    _, there = serve(emulated)
    words = ("red", "blue", "green", "circle")
    results = gather(*(there.read(Media(picture), COUNT, words) for _, picture in scenes))
    for failed in results:
        assert (
            isinstance(failed, Unscorable) and failed.status == "unparsable" and "not visible" in str(failed)
        )


def test_greedy_words_are_equal(serve, gather, emulated, here, scenes):
    _, there = serve(emulated)
    calls = [(Media(picture), question) for _, picture in scenes for question in (QUESTION, COUNT)]
    more = {"max_tokens": 24, "system": "Look closely."}
    told = {**more, "history": [Turn(COUNT, "3"), Turn(QUESTION, "no")]}
    got = gather(*(there.write(*call, **given) for call in calls for given in (more, told)))
    want = gather(*(here.write(*call, **given) for call in calls for given in (more, told)))
    assert got == want and all(written.text for written in want)


def test_the_logprob_of_a_given_text_is_equal(serve, gather, emulated, here, scenes):
    _, there = serve(emulated)
    media = Media(scenes[0][1])
    for continuation in ("yes", "no", "yes, a red circle"):
        (got,), (want,) = (gather(vlm.logprob(media, QUESTION, continuation)) for vlm in (there, here))
        assert got.tokens == want.tokens and got.total == pytest.approx(want.total, abs=1e-3)
        assert got.each == pytest.approx(want.each, abs=1e-3) and got.certainty is None
    calls = (vlm.logprob(media, QUESTION, "red circle", given="yes, a ") for vlm in (there, here))
    (got,), (want,) = (gather(call) for call in calls)
    assert got.tokens == want.tokens and got.each == pytest.approx(want.each, abs=1e-3)
    assert isinstance(gather(there.logprob(media, QUESTION, ""))[0], Unscorable)


def test_a_template_that_changes_the_given_text_is_noticed(serve, gather, emulated, monkeypatch):
    plain = emulated.rendered
    monkeypatch.setattr(
        emulated, "rendered", lambda turns, opens, more=False: plain(turns, opens, more) + "no" * more
    )
    _, there = serve(emulated)
    (failed,) = gather(there.logprob(None, QUESTION, "yes"))
    assert isinstance(failed, Unscorable) and "template" in str(failed)


def test_the_logprob_of_a_given_text_is_vllm_s_alone(serve, gather, emulated, monkeypatch):
    monkeypatch.setattr(emulated, "owner", "sglang")
    _, there = serve(emulated)
    (failed,) = gather(there.logprob(None, QUESTION, "yes"))
    assert failed.status == "error" and "only vLLM" in str(failed)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(("yes",), "two or more"), (("yes", "red circle"), "not one token"), (("yes", "Yes"), "share a token")],
)
def test_labels_that_cannot_be_told_apart_are_refused(serve, gather, emulated, labels, message):
    _, there = serve(emulated)
    (failed,) = gather(there.read(None, QUESTION, labels))
    assert type(failed) is ValueError and message in str(failed)


REWARDS = {
    "checklist": ("judge", {"soft": True}, {}),
    "listener": (
        "listener",
        {},
        {"response": "<think>The picture shows a red circle.</think><answer>yes</answer>", "target": "yes"},
    ),
    "critique": ("judge", {"max_tokens": 200}, {}),
}


@pytest.mark.parametrize("name", REWARDS)
def test_rewards_score_alike_here_and_there(serve, engine, emulated, scenes, name):
    argument, options, extra = REWARDS[name]
    server, _ = serve(emulated)
    samples = [Sample(prompt=text, image=Media(picture), **extra) for text, picture in scenes]
    local = engine.score(samples, load(name, **{argument: "mini-vlm"}, **options))[name]
    served = engine.score(samples, load(name, **{argument: f"judge@{server.url}"}, **options))[name]
    assert any(score.ok for score in local)
    for mine, theirs in zip(served, local, strict=True):
        assert (mine.status, mine.note) == (theirs.status, theirs.note)
        assert mine.value == pytest.approx(theirs.value, abs=1e-4, nan_ok=True)
        assert dict(mine.parts) == pytest.approx(dict(theirs.parts), abs=1e-4)
