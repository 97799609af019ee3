"""What may be said of labels when only some tokens are visible."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chatserver import Reply, shown

from mmreward import Unscorable
from mmreward.models.served.tokens import MAX_SHIFT, Seen, read_of
from mmreward.models.vlms.answers import spellings

LABELS = ("yes", "no")
NAMES = tuple(frozenset(spellings(label)) for label in LABELS)
WORDS = sorted({*NAMES[0], *NAMES[1], *(f"w{i}" for i in range(24))})


@st.composite
def distributions(draw):
    """Probabilities of WORDS from flat to peaked; some spellings may be no token of the model at all."""
    sharpness = draw(st.floats(0.1, 8.0))
    logits = [sharpness * draw(st.floats(-3, 3)) for _ in WORDS]
    absent = draw(st.sets(st.sampled_from(WORDS), max_size=8))
    weights = [0.0 if word in absent else math.exp(one) for word, one in zip(WORDS, logits, strict=True)]
    return {word: weight / math.fsum(weights) for word, weight in zip(WORDS, weights, strict=True) if weight}


@given(distributions(), st.integers(1, 30))
def test_an_answered_read_is_right_whatever_is_hidden(probs, top):
    best = sorted(probs.items(), key=lambda item: -item[1])[:top]
    truth = [math.fsum(probs.get(name, 0.0) for name in spelled) for spelled in NAMES]
    try:
        read = read_of([Seen(*one) for one in best], LABELS, NAMES, whole_words=False)
    except Unscorable as refused:
        assert refused.status == "unparsable"
        return
    for label, mass in zip(LABELS, truth, strict=True):
        assert read.probs[label] == pytest.approx(mass / math.fsum(truth), abs=MAX_SHIFT)
    assert read.mass <= math.fsum(truth) + 1e-9


def test_both_spellings_count_and_a_hidden_label_does_not_become_zero_by_chance():
    tail = [Seen(f"w{i}", 1e-7) for i in range(16)]
    read = read_of(
        [Seen("Yes", 0.6), Seen(" yes", 0.2), Seen("NO", 0.1), *tail], LABELS, NAMES, whole_words=True
    )
    assert read.probs["yes"] == pytest.approx(0.8 / 0.9) and read.mass == pytest.approx(0.9)
    with pytest.raises(Unscorable, match=r"no not visible.*up to 0\.1"):
        read_of([Seen("Yes", 0.6), Seen("maybe", 0.3)], LABELS, NAMES, whole_words=True)


def test_the_visible_beginning_of_a_longer_label_is_not_taken_for_its_absence():
    """Trap: "red circle" is never one token, so it is never visible, however sure the model is of it."""
    names = (NAMES[0], frozenset(spellings("red circle")))
    tail = [Seen(f"w{i}", 1e-9) for i in range(16)]
    with pytest.raises(Unscorable, match="red circle not visible"):
        read_of([Seen("red", 0.5), Seen("yes", 0.5), *tail], ("yes", "red circle"), names, whole_words=False)


def test_scores_that_are_no_probabilities_are_refused():
    with pytest.raises(Unscorable, match="raw_logprobs"):
        read_of([Seen("Yes", 1.0), Seen("No", 0.5)], LABELS, NAMES, whole_words=True)


TAIL = [(f"w{i}", -17.0 - i) for i in range(18)]
ANSWERS = {
    "enough": (shown(("Yes", math.log(0.75)), ("No", math.log(0.25)), *TAIL), "ok"),
    "one label hidden far below": (shown(("Yes", -1e-6), ("w", -15.0), *TAIL), "ok"),
    "one label hidden near": (shown(("Yes", -0.2), ("w", -3.0)), "unparsable"),
    "no label": (shown(("I", -0.1), ("w", -3.0)), "unparsable"),
    "impossible zeros": (shown(("Yes", -0.2), ("No", -9999.0)), "ok"),
    "only the sampled token": (shown(("Yes", -0.2)), "unparsable"),
    "a positive log-probability": (shown(("Yes", 12.5), ("No", 3.0)), "error"),
    "no number": (shown(("Yes", "-0.1")), "unparsable"),
    "not a number": (shown(("Yes", math.nan)), "error"),
    "no log-probabilities": ({**shown(("Yes", 0.0)), "choices": [{"message": {"content": "yes"}}]}, "error"),
}


@pytest.mark.parametrize(("answer", "outcome"), ANSWERS.values(), ids=ANSWERS)
def test_what_a_server_may_show(serve, gather, answer, outcome):
    chat = "/v1/chat/completions"
    _, vlm = serve(lambda request: Reply(answer) if request.path == chat else Reply(b"", 404))
    (read,) = gather(vlm.read(None, "Is it so?", LABELS))
    if outcome == "ok":
        assert read.answer == "yes" and math.fsum(read.probs.values()) == pytest.approx(1.0)
    else:
        assert isinstance(read, Unscorable) and read.status == outcome


def test_a_server_that_never_shows_any_is_not_asked_for_ever(serve, gather):
    chat = "/v1/chat/completions"
    bare = {**shown(("Yes", 0.0)), "choices": [{"message": {"content": "yes"}}]}
    server, vlm = serve(lambda request: Reply(bare) if request.path == chat else Reply(b"", 404))
    for i in range(8):
        (failed,) = gather(vlm.read(None, f"{i}", LABELS))
        assert failed.status == "error" and "no log-probabilities" in str(failed)
    assert len(server.asked(chat)) == 3


def test_one_answer_without_them_costs_only_itself(serve, gather):
    bare = {**shown(("Yes", 0.0)), "choices": [{"message": {"content": "yes"}}]}
    full = shown(("Yes", math.log(0.75)), ("No", math.log(0.25)), *TAIL)

    def app(request):
        if request.path != "/v1/chat/completions":
            return Reply(b"", 404)
        return Reply(bare if request.body["messages"][-1]["content"][-1]["text"] == "bad" else full)

    _, vlm = serve(app)
    assert gather(vlm.read(None, "good", LABELS))[0].answer == "yes"
    results = [
        gather(vlm.read(None, text, LABELS, system=str(i)))[0] for i in range(5) for text in ("bad", "good")
    ]
    assert [isinstance(one, Unscorable) for one in results] == [True, False] * 5
