"""Judgements in the published grammars, in our own words: golden transcripts, and a server that writes them.

Each function is one grammar as its family's prompt lays it out, without a line of anybody's code.
"""

import hashlib

from support.chatserver import ChatServer, Reply, completion

RR_NAMES = {
    "t2i": ("Text Faithfulness", "Physical and Visual Quality", "Text Rendering"),
    "edit": ("Text Faithfulness", "Image Faithfulness", "Physical and Visual Quality", "Text Rendering"),
}


def rational(*marks, task="t2i"):
    """RationalRewards of one picture."""
    blocks = "".join(
        f"{number}. {name}:\n## Justification: There is a 3 in this sentence, and a hat.\n## Score: {mark}\n"
        for number, (name, mark) in enumerate(zip(RR_NAMES[task], marks, strict=True), 1)
    )
    return (
        "# User Request Analysis\nText Rendering: nothing to write. Score: 4 would be bold.\n"
        f"# Detailed Judgement\n{blocks}# Summary: Text Faithfulness is fine.\n\n# User Request Refinement:\n"
        "## Refinement Comments: name the hat\n## Refined Request: a dog with a red hat\n## Score: 4.0"
    )


def rational_pair(*marks, winners=None, task="t2i"):
    """RationalRewards of two pictures; `marks` are (a, b)."""
    said = winners or [
        "N/A" if a == "N/A" else "Image A" if a > b else "Image B" if b > a else "It's a tie"
        for a, b in marks
    ]
    blocks = "".join(
        f"{number}. {name}:\n## Justification: A has two dogs, B one.\n## Score A: {a}\n## Score B: {b}\n"
        f"## Winner: {winner}\n"
        for number, (name, (a, b), winner) in enumerate(zip(RR_NAMES[task], marks, said, strict=True), 1)
    )
    return f"# User Request Analysis\nOne dog.\n# Detailed Judgement\n{blocks}# Summary: It is close."


# --- a server ---------------------------------------------------------------------------------------------


def numbers_of(request):
    """A number from 0 to 1 for each picture that a request shows, by its content, and the text."""
    parts = [
        part for m in request.body["messages"] if isinstance(m["content"], list) for part in m["content"]
    ]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    return [hashlib.sha256(url.encode()).digest()[0] / 255 for url in urls], text


WRITERS = {}
"""Words that occur in a prompt of ours -> what answers it, given the pictures' numbers."""


def scripted(request):
    """The app of `ChatServer`: a judge that marks a picture by its content, in the grammar it is asked for."""
    if request.path != "/v1/chat/completions":
        return Reply({"object": "list", "data": []})
    numbers, text = numbers_of(request)
    words = next(write(numbers) for mark, write in WRITERS.items() if mark in text)
    return Reply(completion(words))


def _rr(numbers):
    return rational(*(round(1 + 3 * number, 2) for number in (numbers[-1], numbers[-1] / 2)), "N/A")


def _rr_pair(numbers):
    a, b = (round(1 + 3 * number, 2) for number in numbers[-2:])
    return rational_pair((a, b), (b, b), ("N/A", "N/A"))


WRITERS["Judge this picture"] = _rr
WRITERS["Compare two pictures made for the request"] = _rr_pair


class ScriptedJudge:
    """One server for a whole test session; `name` is what a reward calls it by."""

    def __init__(self):
        self.server = ChatServer(scripted).__enter__()
        self.name = f"judge@{self.server.url}"
