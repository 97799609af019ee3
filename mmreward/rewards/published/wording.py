"""Words of a published judge: the publisher's, found by their hash (see `models.pinned`), ours, or a file's.

A template is text with placeholders for the request and the responses, and `<image>` where a picture stands;
all are filled at once, so that a request is never read as a template.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...models.pinned import Pin, needed
from ...registry import record_network
from ...types import Sample
from .tools import document_of

PICTURE = "<image>"
"""Mark of a picture's place in a template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Prompt of one form of a judge.

    Args:
        pins: the published text's pieces.
        own: our words for the same form, in the same grammar.
        fields: placeholder in the published text -> what stands there, a key of `values_of`. Ours has the
            same keys in braces.
        make: the text from its pieces; by default they follow each other.
        system: the published system message's pieces, if there is one.
        make_system: the system message from its pieces; by default they follow each other.
        own_system: ours.
    """

    pins: tuple[Pin, ...] = ()
    own: str
    fields: Mapping[str, str] = field(default_factory=lambda: {"{prompt}": "prompt"})
    make: Callable[[Sequence[str]], str] = "".join
    system: tuple[Pin, ...] = ()
    make_system: Callable[[Sequence[str]], str] = "".join
    own_system: str = ""


class Wording(NamedTuple):
    """A template and its system message, with placeholder -> key of `values_of`. Hashed into the
    fingerprint."""

    text: str
    system: str
    fields: tuple[tuple[str, str], ...]
    facts: str

    @property
    def name(self) -> str:
        return "words"

    @property
    def fingerprint(self) -> str:
        return hashlib.blake2b(self.facts.encode(), digest_size=8).hexdigest()

    def filled(self, values: Mapping[str, str]) -> tuple[str, tuple[int, ...]]:
        """The text with all values at once, so that none is read as a placeholder, and the places of its
        pictures."""
        known = dict(self.fields)
        marks = re.compile("|".join(re.escape(mark) for mark in (*known, PICTURE)))
        text, places, end = "", [], 0
        for mark in marks.finditer(self.text):
            text += self.text[end : mark.start()]
            end = mark.end()
            if mark[0] == PICTURE:
                places.append(len(text))
            else:
                text += values[known[mark[0]]]
        return text + self.text[end:], tuple(places)


def worded(words: str, prompt: Prompt, name: str = "") -> Wording:
    """Words of a judge, noted in the fingerprint of the reward that is being loaded.

    Args:
        words: "published", "own", a file with the prompt (or a copy of the publisher's Python file), or a
            folder: the publisher's repository, or one with NAME.txt, which judges with several prompts need.
        prompt: what is published, and ours.
        name: of the prompt in such a folder; empty for a judge's only one.

    Raises:
        ValueError: the text is not on this machine, is not the pinned one, or was never published.
    """
    own_fields = tuple((f"{{{key}}}", key) for key in dict.fromkeys(prompt.fields.values()))
    if words == "own":
        found = Wording(prompt.own, prompt.own_system, own_fields, f"own {prompt.own_system} {prompt.own}")
    elif words == "published":
        if not (prompt.pins or prompt.system):
            raise ValueError("the words of this judge were never published: say words=own, or words=FILE")
        pins = (*prompt.system, *prompt.pins)
        there = [needed(pin) for pin in pins]
        try:
            text = prompt.make([pin.text() for pin in prompt.pins]) if all(there) else ""
            system = prompt.make_system([pin.text() for pin in prompt.system]) if all(there) else ""
        except ValueError as error:
            raise ValueError(
                f"{error}, or `mmreward fetch` the reward; words=own asks in our words"
            ) from None
        found = Wording(text, system, tuple(prompt.fields.items()), " ".join(pin.sha256 for pin in pins))
    else:
        found = _from_file(Path(words), prompt, name, own_fields)
    record_network(found)
    return found


def _from_file(path: Path, prompt: Prompt, name: str, own_fields: tuple[tuple[str, str], ...]) -> Wording:
    pins = (*prompt.system, *prompt.pins)
    copies = {pin: path / pin.path if path.is_dir() else path for pin in pins}
    if pins and all(copy.suffix == ".py" and copy.is_file() for copy in copies.values()):
        text = prompt.make([pin.text(copies[pin]) for pin in prompt.pins])
        system = prompt.make_system([pin.text(copies[pin]) for pin in prompt.system])
        return Wording(text, system, tuple(prompt.fields.items()), " ".join(pin.sha256 for pin in pins))
    if name and path.is_file():
        raise ValueError(f"this judge has several prompts: words={str(path)!r} is no folder with {name}.txt")
    file = path / f"{name or 'prompt'}.txt" if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"words={str(path)!r} is neither published, own nor a file that can be read ({error})"
        ) from None
    if absent := [mark for mark, _ in own_fields if mark not in text]:
        raise ValueError(f"{file} has no {absent[0]}, which stands for what the judge is told")
    return Wording(text, prompt.own_system, own_fields, f"file {prompt.own_system} {text}")


def values_of(samples: Sequence[Sample]) -> dict[str, str]:
    """Texts that a prompt can hold: `prompt`, `json` (the prompt as it stands within JSON's quotes),
    `document`, and `response` or `first` and `second`."""
    texts = [sample.response or "" for sample in samples]
    names = ("response",) if len(samples) == 1 else ("first", "second")
    told = {
        "prompt": samples[0].prompt,
        "json": json.dumps(samples[0].prompt, ensure_ascii=False)[1:-1],
        "document": document_of(samples[0]),
    }
    return {**told, **dict(zip(names, texts, strict=True))}
