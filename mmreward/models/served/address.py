"""Addresses of served models: `MODEL@URL`, with settings in the URL's query.

Read when a reward is named, long before anything is sent: imports no client.
"""

import math
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from ...errors import nearest
from ...trust import hide

MARK = "@http"
USUAL_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class Address:
    """Address of one model behind one OpenAI-compatible server.

    Args:
        model: its name at the server.
        url: the beginning of the API, such as "http://localhost:8000/v1"; no query and no credentials.
        key: the environment variable that holds the bearer key; empty sends none.
        deadline: seconds one request may take with all its retries; waiting for its turn does not count.
        concurrency: requests under way at once, at most. How many there are adapts to the server.
        clips: how clips are sent: "video" (the file), or the number of their frames; empty refuses them.
    """

    model: str
    url: str
    key: str = ""
    deadline: float = 300.0
    concurrency: int = 128
    clips: str = ""

    @property
    def name(self) -> str:
        return f"{self.model}@{self.url}"

    @property
    def root(self) -> str:
        """The server without the API's version, where vLLM and SGLang keep their own endpoints."""
        return self.url.removesuffix("/v1")

    @property
    def secret(self) -> str:
        """The key itself. It goes into the request's header and nowhere else."""
        return os.environ.get(self.key, "") if self.key else ""


def is_served(weights: str) -> bool:
    """True for the name of a served model, MODEL@URL."""
    return MARK in weights


def parse_address(weights: str) -> Address:
    """Address in `MODEL@URL?key=ENV_NAME&deadline=SECONDS&concurrency=N&clips=8`; every setting is optional.

    Raises:
        ValueError: no model, credentials in the URL, a setting that does not exist or has no such value, or
            a key whose environment variable is not set.
    """
    model, _, rest = weights.partition(MARK)
    try:
        parts = urlsplit(MARK[1:] + rest)
        host, _ = parts.hostname, parts.port  # a port that is no number raises here
    except ValueError:  # its message would quote what may be a password
        raise ValueError(
            f"the URL of {model!r} cannot be read: expected http://HOST:PORT/v1 with a number as the port"
        ) from None
    if not model or parts.scheme not in ("http", "https") or not host:
        raise ValueError(
            f"a served model is named MODEL@http://HOST:PORT/v1, and {model!r} is not followed by it"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            f"the URL of {model!r} holds credentials: put the key into an environment variable, ?key=NAME"
        )
    if parts.fragment:
        raise ValueError(f"the URL of {model!r} has a fragment (#...), which no server sees")
    url = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    settings = _settings(parts.query)
    key = settings.get("key", USUAL_KEY if os.environ.get(USUAL_KEY) else "")
    if "key" in settings and not os.environ.get(key):
        raise ValueError("?key= names an environment variable that is not set (it is not the key itself)")
    secret = os.environ.get(key, "")
    if not secret.isascii() or not secret.isprintable():
        raise ValueError(f"the key in {key} holds a line break or another character no HTTP header can carry")
    hide(secret)
    given: dict[str, Any] = {}
    if "deadline" in settings:
        given["deadline"] = _number(settings["deadline"], "deadline", float)
    if "concurrency" in settings:
        given["concurrency"] = _number(settings["concurrency"], "concurrency", int)
    if (clips := settings.get("clips", "video")) != "video":
        _number(clips, "clips", int)
    if "clips" in settings:
        given["clips"] = clips
    return Address(model, url, key, **given)


def _settings(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    known = ("key", "deadline", "concurrency", "clips")
    for name, value in pairs:
        if name not in known:
            raise ValueError(f"a served model has no setting {name!r}: {nearest(name, known)}")
        if not value:
            raise ValueError(f"the setting {name!r} of a served model has no value")
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a setting of a served model is given twice")
    return dict(pairs)


def _number(text: str, name: str, kind: type[int] | type[float]) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        what = "a whole number above 0" if kind is int else "a number of seconds above 0"
        raise ValueError(f"{name}={text} of a served model: expected {what}")
    return value
