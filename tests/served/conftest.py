"""Fixtures for served models."""

import asyncio
from contextlib import ExitStack

import pytest
from support.chatserver import ChatServer

from mmreward import Engine, models


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    """Nobody's real key is sent to a test server."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def engine():
    """An engine of each test's own: `serve` closes it while the server still runs."""
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture
def serve(engine):
    """`serve(app, query="", **options)` starts a server and names a model on it: (server, vlm)."""
    with ExitStack() as stack:

        def start(app, query="", **options):
            server = stack.enter_context(ChatServer(app))
            return server, models.vlm(f"judge@{server.url}{query}", **options)

        yield start
        engine.close()


@pytest.fixture
def gather(engine):
    """Run calls side by side on the engine; results and exceptions in order."""

    def run(*calls):
        async def work():
            return await asyncio.gather(*calls, return_exceptions=True)

        return engine.run(work())

    return run
