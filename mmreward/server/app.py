"""The HTTP application: V-Triune's GET / and POST /judge, and OpenRLHF's POST /get_reward.

Scoring runs on the engine's thread; the event loop here only waits, so that the server answers while a check
computes. A body that is too large is refused before it is read into memory.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from ..adapters.openrlhf import answered, query_batch
from ..adapters.rows import Batch
from ..adapters.scorer import Failed, Given, Scorer, flat
from .vtriune import Payload, UnknownVerifierError, refused, reply, sample_from

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_BYTES = 8 << 20
"""A response of 65,536 characters and a page of parameters need far less."""


class BodyLimit:
    """Middleware: 413 for a body above the limit, whether its length is announced or not."""

    def __init__(self, app: App, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not announced.isdigit() or int(announced) > self._max_bytes:
            await _refuse(send, self._max_bytes)
            return
        parts: list[Message] = []
        size = 0
        while True:  # a body without a length, or with a false one
            message = await receive()
            parts.append(message)
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                await _refuse(send, self._max_bytes)
                return
            if not message.get("more_body", False):
                break
        read = iter(parts)

        async def replay() -> Message:
            return next(read, None) or await receive()

        await self._app(scope, replay, send)


async def _refuse(send: Send, limit: int) -> None:
    body = f'{{"detail":"the body has more than {limit} bytes"}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})


ROUTES, TIMEOUT, FAILED = "MMREWARD_ROUTES", "MMREWARD_TIMEOUT", "MMREWARD_FAILED"
"""Environment variables from which workers read what to serve."""


class Queries(BaseModel):
    """Body of /get_reward, as OpenRLHF posts it."""

    query: list[str]
    prompts: list[str]
    labels: list[Any]


def create_app(
    rewards: Given = None,
    *,
    failed: Failed = "raise",
    timeout: float | None = 60.0,
    max_bytes: int = MAX_BYTES,
) -> FastAPI:
    """The application. A total that failed has a `status` other than "ok" (/judge). Status 404: no such
    verifier; 413: a body above the limit; 422: a payload that makes no sense; 503: a score failed, and
    /get_reward may not call it a number.

    Args:
        rewards: see `Scorer`; what /get_reward pays, and /judge where no verifier is named.
        failed: what /get_reward pays a total that failed, with `failed` 1 beside it; see `scorer.Failed`.
        timeout: seconds one score may take.
        max_bytes: of a body.

    Raises:
        ValueError: rewards that make no sense.
    """
    scorer = Scorer(rewards, timeout=timeout)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        scorer.close()

    app = FastAPI(title="mmreward", version=version("mmreward"), lifespan=lifespan)
    app.add_middleware(BodyLimit, max_bytes=max_bytes)

    @app.get("/")
    async def health() -> dict[str, str]:
        return {"message": "Reward Judge Server", "version": version("mmreward")}

    @app.post("/judge")
    async def judge(payload: Payload) -> dict[str, Any]:
        try:
            sample = sample_from(payload)
        except UnknownVerifierError as error:
            raise HTTPException(404, str(error)) from None
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        routed = await scorer.ascore(Batch([sample], {}))
        return reply(payload, routed.totals[0], routed.scores[0])

    @app.post("/get_reward")
    async def get_reward(queries: Queries) -> dict[str, Any]:
        try:
            batch = query_batch(queries.query, queries.prompts, queries.labels)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        for row, sample in enumerate(batch.samples):
            if why := refused(sample):
                batch.problems[row] = why
        routed = await scorer.ascore(batch)
        try:
            return answered(flat(scorer, routed, failed))
        except RuntimeError as error:
            raise HTTPException(503, str(error)) from None

    return app


def app_of_environment() -> FastAPI:
    """For uvicorn's workers, which import the application each for itself; `serve` has set what it reads."""
    number = os.environ.get(FAILED)
    failed: Failed = "raise" if number is None else float(number)
    return create_app(Path(os.environ[ROUTES]), failed=failed, timeout=float(os.environ[TIMEOUT]))


def serve(
    routes: Path, host: str, port: int, workers: int, timeout: float, failed: float | None = None
) -> None:
    """Check the routes, then serve them until interrupted; `failed` None is "raise"."""
    import uvicorn

    create_app(routes, timeout=timeout)
    os.environ[ROUTES], os.environ[TIMEOUT] = str(routes.resolve()), str(timeout)
    if failed is not None:
        os.environ[FAILED] = str(failed)
    application = f"{__name__}:app_of_environment"
    uvicorn.run(application, factory=True, host=host, port=port, workers=workers, log_level="warning")
