"""Worker process of a reward's own interpreter: `python -m mmreward.isolation.worker FD ENGINE`.

FD is an inherited socket, ENGINE the engine's size as JSON. Requests are answered as they finish, so the
engine here batches over all of them. The process ends with the socket: it never outlives its parent.

Requests, each with an "id" (replies carry the same):
    load    {"reward", "args", "as"}  -> {"loaded": {...}} or {"failed": score}
    score   {"as", "samples"}         -> {"scores": [...]} or {"failed": score}
    cancel                            -> the request's own reply, {"cancelled": true} if it came in time
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from importlib.metadata import version
from typing import Any, NoReturn

from ..config import EngineConfig
from ..engine.device_thread import deliverable
from ..engine.engine import Engine
from ..errors import Unscorable
from ..evaluation import checked, failure, its_own
from ..loading import load
from ..registry import Reward
from ..types import Sample, Score
from . import protocol
from .process import inherited
from .protocol import Message, WireError, hello, pack_info, pack_score, unpack_sample, unpack_value

Reply = dict[str, Any]


class Worker:
    """Server of one socket: answers its requests on one engine, each as soon as it is done."""

    def __init__(self, engine: Engine, writer: asyncio.StreamWriter) -> None:
        self._engine = engine
        self._writer = writer
        self._rewards: dict[int, Reward | Exception] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Say hello, then accept requests until the parent is gone."""
        await self._send(hello().header)
        while (message := await protocol.read(reader)) is not None:
            self._take(message)

    def _take(self, message: Message) -> None:
        match message.header:
            case {"op": "load", "id": int(number), "reward": str(name), "args": args, "as": int(reward)}:
                work = self._load(name, args, message.blobs, reward)
            case {"op": "score", "id": int(number), "as": int(reward), "samples": [*samples]}:
                work = self._score(reward, samples, message.blobs)
            case {"op": "cancel", "id": int(number)}:
                if number in self._tasks:  # not at once: a task that has not begun could not reply
                    asyncio.get_running_loop().call_soon(self._tasks[number].cancel)
                return
            case _:
                raise WireError(f"no such request: {str(message.header)[:100]}")
        task = asyncio.create_task(self._answer(number, work))
        self._tasks[number] = task
        task.add_done_callback(lambda _: self._tasks.pop(number))

    async def _answer(self, number: int, work: Coroutine[Any, Any, Reply]) -> None:
        try:
            reply = await work
        except asyncio.CancelledError:
            work.close()
            # Said by the engine's own loop, so that a reward that blocks it cannot claim to have stopped.
            await self._engine.arun(_nothing())
            reply = {"cancelled": True}
        except BaseException as error:  # becomes the status and note of these rows alone
            reply = {"failed": pack_score(failure(deliverable(error), None))}
        try:
            await self._send({"id": number, **reply})
        except WireError as error:  # a note above the limits, for one
            await self._send({"id": number, "failed": pack_score(failure(error, None))})

    async def _load(self, name: str, args: Any, blobs: list[bytes], reward: int) -> Reply:
        try:
            loaded, facts = await asyncio.to_thread(_loaded, name, unpack_value(args, blobs))
        except Exception as error:  # also raised by requests to score with it, should it have worked before
            self._rewards[reward] = error
            raise
        self._rewards[reward] = loaded
        return {"loaded": facts}

    async def _score(self, number: int, samples: list[Any], blobs: list[bytes]) -> Reply:
        reward = self._rewards[number]
        if isinstance(reward, Exception):
            raise reward
        scores = await self._engine.arun(_evaluate(reward, [unpack_sample(one, blobs) for one in samples]))
        return {"scores": [pack_score(score) for score in scores]}

    async def _send(self, header: Reply) -> None:
        self._writer.write(protocol.pack(Message(header, [])))
        await self._writer.drain()


async def _evaluate(reward: Reward, samples: list[Sample]) -> list[Score]:
    """One evaluation, as in `scoring`, without its timeout, which is the parent's."""
    task = asyncio.current_task()
    try:
        scores = await reward(samples) if reward.info.arity == "group" else [await reward(*samples)]
    except (
        BaseException
    ) as error:  # an interrupt would end the loop, and a cancellation look like the parent's
        if not its_own(error, task):
            raise
        raise deliverable(error) from None
    return [checked(score, reward) for score in scores]


async def _nothing() -> None:
    pass


def _loaded(name: str, args: dict[str, Any]) -> tuple[Reward, Reply]:
    """A reward, and the facts by which the parent describes it and names its scores as this process would."""
    try:
        reward = load(name, **args)
    except ValueError as error:  # meant for the user as it is
        raise Unscorable(str(error)) from None
    facts = {
        "info": pack_info(reward.info),
        "args": json.dumps(dict(reward.args), default=str),
        "networks": [[network.name, network.fingerprint] for network in reward.networks],
        "release": version("mmreward"),
    }
    return reward, facts


async def _run(sock: socket.socket, engine: EngineConfig) -> NoReturn:
    reader, writer = await asyncio.open_unix_connection(sock=sock, limit=1 << 20)
    try:
        await Worker(Engine.from_config(engine), writer).serve(reader)
    except WireError as error:
        print(error, file=sys.stderr, flush=True)
    _end()


def _end() -> NoReturn:
    """End at once, with all this process has started: nobody waits for what is still under way."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def main() -> None:
    asyncio.run(_run(inherited(), EngineConfig.model_validate_json(sys.argv[2])))


if __name__ == "__main__":
    main()
