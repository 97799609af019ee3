"""Agents of browser tasks: a Python object by its name, a server over HTTP, and the best of k by a judge.

An agent is any callable that gives words for a `tasks.Seen`. `agent_of` finds one by name. A server is sent
one JSON object by POST for each step: {"intent", "screenshot" (PNG in base64), "width", "height", "said",
"url", "tree", "elements", "steps"}, and answers {"response": words}.
"""

import base64
import importlib
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mmreward.data.choosing import choose
from mmreward.engine.engine import Engine
from mmreward.media import Media
from mmreward.registry import Reward
from mmreward.types import Sample

from .tasks import Agent, AgentError, Seen

LARGEST = 1 << 20
"""Bytes of an answer."""


def agent_of(name: str, *, timeout: float = 120.0) -> Agent:
    """The agent of a name.

    Args:
        name: MODULE:NAME of a callable, or of a class that is called without arguments for one; or
            http://..., https://...
        timeout: seconds within which a server answers.

    Raises:
        ValueError: there is none of this name, or it cannot be called.
    """
    if name.startswith(("http://", "https://")):
        if not urlparse(name).hostname:
            raise ValueError(f"{name!r} is no address of a server")
        return Remote(name, timeout)
    module, _, attribute = name.partition(":")
    if not module or not attribute.isidentifier():
        raise ValueError(f"the agent {name!r} is neither MODULE:NAME nor http://...")
    here = str(Path.cwd())
    sys.path.insert(0, here)  # as `python -m` has it, and the installed command has not
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"no agent {name!r}: {error}") from None
    finally:
        sys.path.remove(here)
    agent = found() if isinstance(found, type) else found
    if not callable(agent):
        raise ValueError(f"the agent {name!r} is {type(agent).__name__}, which cannot be called")
    return guarded(agent)


def guarded(agent: Callable[[Seen], Any]) -> Agent:
    """The agent, with whatever it raises, and words that are none, as AgentError."""

    def words(seen: Seen) -> str:
        try:
            said = agent(seen)
        except Exception as error:  # somebody's code: one task fails, the others go on
            raise AgentError(f"{type(error).__name__}: {error}") from error
        if not isinstance(said, str):
            raise AgentError(f"it gave {type(said).__name__}, not words")
        return said

    return words


def as_json(seen: Seen) -> dict[str, Any]:
    """What a server is sent; of earlier steps without their pictures' files, which are not its."""
    steps = [{key: value for key, value in step.items() if key != "observation"} for step in seen.steps]
    return {
        "intent": seen.intent, "screenshot": base64.b64encode(seen.screenshot).decode(), "width": seen.width,
        "height": seen.height, "said": list(seen.said), "url": seen.url, "tree": seen.tree,
        "elements": [dict(one) for one in seen.elements], "steps": steps,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Remote:
    """Agent behind an HTTP server.

    Args:
        url: that every step is sent to.
        timeout: seconds within which it answers.
    """

    url: str
    timeout: float

    def __call__(self, seen: Seen) -> str:
        """Words of the server.

        Raises:
            AgentError: it is not there, is late, or answers something else.
        """
        body = json.dumps(as_json(seen)).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as reply:
                answer = json.loads(reply.read(LARGEST + 1)[:LARGEST])
        except urllib.error.HTTPError as error:
            raise AgentError(f"{self.url} answers {error.code} {error.reason}") from None
        except (OSError, ValueError) as error:
            raise AgentError(f"{self.url}: {getattr(error, 'reason', error)}") from None
        said = answer.get("response") if isinstance(answer, Mapping) else None
        if not isinstance(said, str):
            raise AgentError(f'{self.url} answers no {{"response": words}}')
        return said


@dataclass(slots=True)
class BestOf:
    """Agent that is asked k times, and does what a judge ranks first.

    Of an agent that gives the same words each time the k are one. Where the judge can say nothing of any
    candidate the first one is done.

    Args:
        agent: gives the candidates.
        count: k.
        reward: the judge: of steps, of pairs of steps, or a rule.
        engine: runs it.
        timeout: seconds one score may take.
        chosen: of each step the candidates, the number of the one that was done, and its margin.
    """

    agent: Agent
    count: int
    reward: Reward
    engine: Engine
    timeout: float | None = None
    chosen: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, seen: Seen) -> str:
        """Words of the best candidate."""
        said = [self.agent(seen) for _ in range(self.count)]
        if not any(words.strip() for words in said):
            return said[0]
        found = choose(
            [candidate(seen, words) for words in said], self.reward, self.engine, timeout=self.timeout
        )
        number = int(found.id) if found.id else 0
        self.chosen.append({**found.record(), "candidates": said, "chosen": number})
        return said[number]


def candidate(seen: Seen, words: str) -> Sample:
    """A candidate for the next step, as judges of steps read it."""
    return Sample(
        prompt=seen.intent,
        image=Media(seen.screenshot),
        steps=tuple(dict(step) for step in seen.steps),
        response=words,
        meta={
            "axtree": seen.tree,
            "url": seen.url,
            "start_url": seen.steps[0]["url"] if seen.steps else seen.url,
            "size": (seen.height, seen.width),
        },
    )
