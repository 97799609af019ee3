"""The HTTP application: V-Triune's GET / and POST /judge, and OpenRLHF's POST /get_reward.

Scoring runs on the engine's thread and large bodies are read by a process; the event loop here only waits, so
that the server answers while a check computes. What a client may send and hold is bounded by `guard`.
"""

import asyncio
import gc
import inspect
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ..adapters.scorer import Failed, Given, Scorer
from ..limits import limits
from ..trust import hide
from .bodies import LARGE, Bodies, Scoring
from .calls import GET_REWARD, JUDGE, Call, Refused
from .guard import BodyLimit, Bounds, Key, Turns
from .vtriune import RELEASE

M = TypeVar("M", bound=BaseModel)
GRACE = 2
"""Seconds that requests get to end at SIGTERM, and then the engine."""
SWITCH = 1e-4
"""Seconds after which a thread that computes lets another one run: a fiftieth of Python's own. A request goes
from thread to thread, and waits for it at each step."""
ROUTES, TIMEOUT, FAILED = "MMREWARD_ROUTES", "MMREWARD_TIMEOUT", "MMREWARD_FAILED"
KEY_ENV = "MMREWARD_KEY_ENV"
"""Environment variables from which workers read what to serve."""


_reader = ThreadPoolExecutor(1, "mmreward-body")
"""Maker of the samples of bodies above `LARGE`, one body after another."""


class Reply(JSONResponse):
    """Answer in JSON whatever a note holds: half a surrogate pair becomes a question mark."""

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def create_app(
    rewards: Given = None,
    *,
    failed: Failed = "raise",
    timeout: float | None = 60.0,
    max_bytes: int | None = None,
    bounds: Bounds | None = None,
    key: str = "",
    leave: bool = False,
) -> FastAPI:
    """The application. A total that failed has a `status` other than "ok" (/judge). Status 401: without the
    key; 404: no such verifier; 408: a body that does not come; 413: a body or a batch above the limit; 422: a
    payload that makes no sense; 503: too many requests wait, or a score failed, and /get_reward may not call
    it a number.

    Args:
        rewards: see `Scorer`; what /get_reward pays, and /judge where no verifier is named.
        failed: what /get_reward pays a total that failed, with `failed` 1 beside it; see `scorer.Failed`.
        timeout: seconds one score may take.
        max_bytes: of a body; default: of `bounds`.
        bounds: the other limits, see `guard.Bounds`.
        key: what clients must send as "Authorization: Bearer KEY"; empty asks for none.
        leave: end the process where the engine has not stopped `GRACE` seconds after the last request.

    Raises:
        ValueError: rewards that make no sense.
    """
    scorer = Scorer(rewards, timeout=timeout)
    bounds = bounds or Bounds()
    max_bytes = bounds.body_bytes if max_bytes is None else max_bytes
    hide(key)

    scoring = None
    if isinstance(rewards, Path) and scorer.light and timeout is not None:
        scoring = Scoring(rewards, timeout, failed)
    bodies = Bodies(max_bytes, bounds.rows, bounds.body_seconds, scoring)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if leave:  # what is there by now stays: to go through it for garbage stops every thread
            gc.collect()
            gc.freeze()
        yield
        bodies.close()
        if leave:
            overdue = threading.Timer(GRACE, os._exit, (0,))
            overdue.daemon = True
            overdue.start()
        scorer.close()

    app = FastAPI(title="mmreward", version=RELEASE, lifespan=lifespan, default_response_class=Reply)
    # The last one that is added is the first that sees a request.
    app.add_middleware(Turns, concurrency=bounds.concurrency, waiting=bounds.waiting)
    app.add_middleware(
        BodyLimit, max_bytes=max_bytes, held_bytes=bounds.held_bytes, seconds=bounds.body_seconds
    )
    app.add_middleware(Key, key=key)
    app.state.compares = scorer.compares

    @app.exception_handler(HTTPException)
    async def refused_with(_: Request, error: HTTPException) -> Reply:
        return Reply({"detail": error.detail}, error.status_code)

    @app.get("/")
    async def health() -> dict[str, str]:
        return {"message": "Reward Judge Server", "version": RELEASE}

    async def answer(request: Request, call: Call[M]) -> Reply:
        data = await request.body()
        client = request.client.host if request.client else ""
        try:
            if bodies.scores(data):
                return Reply(await bodies.answer(data, call, client))
            body = await bodies.read(data, call, client)
            if len(data) <= LARGE:
                batch = call.batch(body)
            else:
                batch = await asyncio.get_running_loop().run_in_executor(_reader, call.batch, body)
            return Reply(call.answer(scorer, body, await scorer.ascore(batch), failed))
        except Refused as refusal:
            raise HTTPException(refusal.status, refusal.reason) from None

    async def judge(request: Request) -> Reply:
        return await answer(request, JUDGE)

    async def get_reward(request: Request) -> Reply:
        return await answer(request, GET_REWARD)

    # Plain routes: both read their bodies themselves, and FastAPI would spend a quarter of a request's time
    # on dependencies that neither has.
    app.add_route("/judge", judge, methods=["POST"])
    app.add_route("/get_reward", get_reward, methods=["POST"])
    return app


def app_of_environment() -> FastAPI:
    """For uvicorn's workers, which import the application each for itself; `serve` has set what it reads."""
    sys.setswitchinterval(SWITCH)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_outlived, args=(parent,), name="mmreward-parent", daemon=True).start()
    number = os.environ.get(FAILED)
    failed: Failed = "raise" if number is None else float(number)
    key = key_of(os.environ.get(KEY_ENV, ""))
    return create_app(
        Path(os.environ[ROUTES]), failed=failed, timeout=float(os.environ[TIMEOUT]), key=key, leave=True
    )


def _outlived(parent: Any) -> None:
    """End this worker in good order once its parent is gone, which was killed and could tell nobody: the
    workers would go on and hold the port."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def key_of(variable: str) -> str:
    """The key in an environment variable; empty where none is named.

    Raises:
        ValueError: the variable is not set, or holds what no header can carry.
    """
    if not variable:
        return ""
    key = os.environ.get(variable, "")
    if not key:
        raise ValueError("--key-env names an environment variable that is not set (it is not the key itself)")
    if not key.isascii() or not key.isprintable():
        raise ValueError(f"the key in {variable} holds a character no HTTP header can carry")
    return key


def _check_address(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":  # as uvicorn sets it: what lingers of a server before is no hindrance
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"cannot listen at {host}:{port} ({reason}): give another --port or --host"
        ) from None


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def serve(
    routes: Path,
    host: str,
    port: int,
    workers: int,
    timeout: float,
    failed: float | None = None,
    key_env: str = "",
    say: Callable[[str], None] = _to_stderr,
) -> None:
    """Check the routes and the address, say where they are served, and serve them until interrupted.

    Args:
        routes: the YAML file.
        host: the address it listens at.
        port: of it.
        workers: processes.
        timeout: seconds one score may take.
        failed: what a failed score is paid; None is "raise".
        key_env: see `key_of`.
        say: called with a line for whoever started it, once nothing is left that could be refused.

    Raises:
        ValueError: as `create_app` and `key_of`, or an address that cannot be listened at.
    """
    import uvicorn

    app = create_app(routes, timeout=timeout, key=key_of(key_env))
    _check_address(host, port)
    say(f"http://{host}:{port}/judge and /get_reward")
    if app.state.compares:
        say(
            "the total compares the responses of a group: /judge, which gets one response, fails as "
            "`missing`; /get_reward needs whole groups in one request, with `group` in each label's envelope"
        )
    os.environ[ROUTES], os.environ[TIMEOUT] = str(routes.resolve()), str(timeout)
    os.environ[KEY_ENV] = key_env
    if failed is not None:
        os.environ[FAILED] = str(failed)
    settings: dict[str, Any] = {
        "app": f"{__name__}:app_of_environment",
        "factory": True,
        "host": host,
        "port": port,
        "workers": workers,
        "log_level": "warning",
        "timeout_graceful_shutdown": GRACE,
        "limit_concurrency": limits().connections,
    }
    if workers == 1:
        uvicorn.run(**settings)
    else:
        _serve_by_several(uvicorn.Config(**settings))


def _serve_by_several(config: Any) -> None:
    """Serve as `uvicorn.run` does with several workers, which send what they have at once.

    asyncio sets TCP_NODELAY where it has made a socket, and not where uvicorn has: an answer's body waited
    until the client had acknowledged its head, which takes 40 ms. What is accepted inherits it.
    """
    from uvicorn import Server
    from uvicorn.supervisors import Multiprocess

    listening = config.bind_socket()
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    older = "target" in inspect.signature(Multiprocess).parameters
    given: dict[str, Any] = {"target": Server(config).run} if older else {}
    Multiprocess(config, sockets=[listening], **given).run()
