"""Label tokens from a server's tokenizer: the rule of the in-process labels, with no tokenizer at hand."""

import asyncio
import json

import pytest

from mmreward import Unscorable
from mmreward.models.served.tokens import chat_tail, continuation_ids, label_ids

WORDS = ["<unk>", "<user>", "<bot>", "?", "yes", "no", "Yes"]


class Words:
    """A server whose tokenizer knows whole words only; whatever else is one unknown word."""

    def __init__(self, chat="<user> ? <bot>"):
        self.chat = chat

    async def post(self, path, body):
        if path == "/detokenize":
            return json.dumps({"prompt": " ".join(WORDS[one] for one in body["tokens"])}).encode()
        text = body.get("prompt", self.chat)
        tokens = [WORDS.index(word) if word in WORDS else 0 for word in text.split()]
        return json.dumps({"tokens": tokens, "count": len(tokens)}).encode()


def test_the_unknown_word_spells_no_label():
    """Trap: it is one token for every unknown spelling, so both labels would seem to share it."""
    assert asyncio.run(label_ids(Words().post, "<bot> ", ("yes", "no"))) == [[4, 6], [5]]


def test_a_label_that_has_only_unknown_spellings_is_refused():
    with pytest.raises(ValueError, match="'maybe' is not one token"):
        asyncio.run(label_ids(Words().post, "<bot> ", ("yes", "maybe")))


def test_the_tail_is_what_follows_the_question():
    assert asyncio.run(chat_tail(Words().post)) == " <bot>"


def test_a_template_without_the_question_is_refused():
    with pytest.raises(Unscorable, match="template"):
        asyncio.run(chat_tail(Words("<user> <bot>").post))


def test_a_continuation_is_counted_after_the_tail_and_must_stand_alone():
    assert asyncio.run(continuation_ids(Words().post, "<bot> ", "", "yes no")) == ([2, 4, 5], 2)
    with pytest.raises(Unscorable, match="token of its own"):
        asyncio.run(continuation_ids(Words().post, "<bot>", "", "ish"))
