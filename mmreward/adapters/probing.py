"""Perception probes as conversations for the policy, and what it said as a response that the reward `probes`
reads. Knows no trainer."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..failures import Unscorable
from ..verifiers.probes import TAG, probe_prompt, probes_of

Turn = list[dict[str, Any]]
"""A conversation of one message by the user."""
THOUGHT = ("<think>", "</think>")


def probe_turns(prompt: Any, entries: Any, *, together: bool) -> list[Turn]:
    """What to ask about the pictures of a prompt; nothing where the probes make no sense, which the reward
    `probes` tells of.

    Args:
        prompt: the question's own conversation, of which the pictures are taken, or text.
        entries: probes as a data row has them, see `verifiers.probes.probes_of`.
        together: all in one conversation, to be answered as `<a1>...</a1><a2>...</a2>`; else one each, to be
            answered as its question says.
    """
    try:
        probes = probes_of(entries)
    except Unscorable:
        return []
    shown = _pictures(prompt)
    questions = [probe_prompt(probes)] if together else [probe.question for probe in probes]
    return [_turn(shown, question) for question in questions]


def probe_response(said: Sequence[str], *, together: bool) -> str:
    """What was said to the turns of `probe_turns`, as one response.

    Of answers apart, one that writes answer or thinking tags itself is left out, so that none can speak for
    another.
    """
    if together:
        return "".join(said)
    return "".join(f"<a{k}>{text}</a{k}>" for k, text in enumerate(said, start=1) if _plain(text))


def _plain(text: str) -> bool:
    return TAG.search(text) is None and not any(tag in text for tag in THOUGHT)


def _pictures(prompt: Any) -> list[Mapping[str, Any]]:
    if isinstance(prompt, str):
        return []
    contents = [message.get("content") for message in prompt]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return [part for part in parts if part.get("type") == "image"]


def _turn(shown: Sequence[Mapping[str, Any]], question: str) -> Turn:
    """Without pictures plain text: chat templates of language models take no lists."""
    asked = {"type": "text", "text": question}
    return [{"role": "user", "content": [*shown, asked] if shown else question}]
