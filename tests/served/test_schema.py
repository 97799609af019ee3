"""Answers of a given form: asked of the server, and checked here."""

import json

import pytest
from support.chatserver import ChatServer, Reply, completion

from mmreward import Unscorable
from mmreward.models.vlms.constrained import check_answer

SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 4}, "why": {"type": "string"}},
    "required": ["score"],
    "additionalProperties": False,
}
GOOD = json.dumps({"score": 3, "why": "clean"})
BAD = {
    "out of range": '{"score": 7}',
    "wrong type": '{"score": "3"}',
    "missing": "{}",
    "more than asked": '{"score": 3, "x": 1}',
    "words around it": f"Sure! {GOOD}",
    "cut": GOOD[:-3],
    "deep": "[" * 100_000,
}


def says(text, finish="stop"):
    chat = "/v1/chat/completions"
    return lambda request: Reply(completion(text, finish)) if request.path == chat else Reply(b"", 404)


def test_the_server_is_asked_for_the_schema_and_the_answer_handed_on(serve, gather):
    server, vlm = serve(says(GOOD))
    (written,) = gather(vlm.write(None, "Judge.", schema=SCHEMA))
    asked = server.asked("/v1/chat/completions")[0].body["response_format"]
    assert written.text == GOOD
    assert asked["type"] == "json_schema" and asked["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_an_answer_of_another_form_is_unparsable(serve, gather, text):
    _, vlm = serve(says(text))
    (failed,) = gather(vlm.write(None, "Judge.", schema=SCHEMA))
    assert isinstance(failed, Unscorable) and failed.status == "unparsable"


def test_a_cut_off_answer_is_not_taken_even_when_it_happens_to_fit(serve, gather):
    _, vlm = serve(says(GOOD, "length"))
    (failed,) = gather(vlm.write(None, "Judge.", schema=SCHEMA))
    assert failed.status == "unparsable" and "cut off" in str(failed)


def test_what_is_no_schema_is_refused_before_anything_is_sent(serve, gather):
    server, vlm = serve(says(GOOD))
    (failed,) = gather(vlm.write(None, "Judge.", schema={"type": "objekt"}))
    assert isinstance(failed, ValueError) and "schema" in str(failed) and not server.requests


def test_two_schemas_are_two_questions(serve, gather):
    server, vlm = serve(says(GOOD))
    gather(
        *(vlm.write(None, "Judge.", schema=schema) for schema in (SCHEMA, {"type": "object"}, None, SCHEMA))
    )
    assert len(server.asked("/v1/chat/completions")) == 3


def test_a_reference_to_another_document_is_not_fetched():
    with ChatServer(lambda request: Reply({"type": "object"})) as elsewhere:
        with pytest.raises(Unscorable, match="cannot be applied"):
            check_answer("{}", {"$ref": f"{elsewhere.url}/schema.json"})
        assert not elsewhere.requests


def test_a_number_json_does_not_have_is_refused():
    with pytest.raises(Unscorable, match="NaN is not JSON"):
        check_answer('{"score": NaN}', {"type": "object"})
