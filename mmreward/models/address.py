"""How a served model is named: `MODEL@URL`, with settings in the URL's query. Knows nothing of HTTP."""

import math
import os
from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import parse_qsl, urlsplit, urlunsplit

MARK = "@http"
USUAL_KEY = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class Address:
    """One model behind one OpenAI-compatible server.

    Args:
        model: the name the server knows it by.
        url: where the API begins, such as "http://localhost:8000/v1"; no query and no credentials.
        key: the environment variable that holds the bearer key; empty sends none.
        deadline: seconds one call may take from its first request to its last retry.
        concurrency: requests under way at once, at most.
    """

    model: str
    url: str
    key: str = ""
    deadline: float = 300.0
    concurrency: int = 256

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
    """Whether a name of weights names a served model."""
    return MARK in weights


def parse_address(weights: str) -> Address:
    """Read `MODEL@URL?key=ENV_NAME&deadline=SECONDS&concurrency=N`; every setting is optional.

    Raises:
        ValueError: no model, credentials in the URL, a setting that does not exist or has no such value, or
            a key whose environment variable is not set.
    """
    model, _, rest = weights.partition(MARK)
    try:
        parts = urlsplit(MARK[1:] + rest)
        host, _ = parts.hostname, parts.port  # a port that is no number raises here
    except ValueError as error:
        raise ValueError(f"the URL of {model!r} cannot be read: {error}") from None
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
        raise ValueError(f"?key={key} names an environment variable that is not set")
    secret = os.environ.get(key, "")
    if not secret.isascii() or not secret.isprintable():
        raise ValueError(f"the key in {key} holds a line break or another character no HTTP header can carry")
    deadline = _number(settings.get("deadline", "300"), "deadline", float)
    concurrency = _number(settings.get("concurrency", "256"), "concurrency", int)
    return Address(model, url, key, float(deadline), int(concurrency))


def _settings(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    known = ("key", "deadline", "concurrency")
    for name, value in pairs:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"a served model has no setting {name!r}: {hint}")
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
