"""Bodies of requests, read as JSON and held against their model; large ones by a process of their own.

Reading JSON holds Python's lock until the last bracket: a body of 8 MB that is nothing but brackets takes a
second, in which the server answers nobody. What takes long is values, not text, so a body is looked over for
commas first, and one with many is read, counted and held against its model in a killable process (`Bodies`),
one at a time; clients that wait for it take turns. What comes back is what the model asks for.

Run as `python -m mmreward.server.bodies FD BYTES` by `killable.Killable`, this is that process.
"""

import asyncio
import json
import os
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ..config import problems
from ..isolation.killable import Killable, answer_jobs
from ..isolation.protocol import WireError
from ..limits import most
from .vtriune import Payload

M = TypeVar("M", bound=BaseModel)
COMMAS = 1 << 14
"""Commas of a body that is read where it is, in a few milliseconds at most: no value is without one, but for
the first of a list or object, and lists inside one another end at a depth."""
MEMORY, TIMES = 1 << 30, 32
"""Bytes of address space of the process, and as many times a body more."""
NICE = 5
"""Niceness of the process: an answer that others wait for comes first."""


class Queries(BaseModel):
    """Body of /get_reward, as OpenRLHF posts it."""

    query: list[str]
    prompts: list[str]
    labels: list[Any]


MODELS: Mapping[str, type[BaseModel]] = {model.__name__: model for model in (Payload, Queries)}


class Refused(Exception):  # noqa: N818 - reads as what it says at the raise
    """A body that is refused.

    Args:
        status: of the answer.
        reason: in words.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason[:2000]


def read(data: bytes, model: type[M], rows: int) -> M:
    """A body as its model.

    Args:
        data: JSON.
        model: `Payload` or `Queries`.
        rows: that a batch may have; more are refused before they are held against the model, which takes
            longer than to read them.

    Raises:
        Refused: 422, what is wrong, key by key; 413, too many rows.
    """
    try:
        given = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(422, str(error)) from None
    if model is Queries and isinstance(given, dict):
        columns = (given.get(name) for name in Queries.model_fields)
        number = max((len(column) for column in columns if isinstance(column, list)), default=0)
        if number > rows:
            raise Refused(413, f"{number} rows; the limit of one request is {rows} (limits.request_rows)")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise Refused(422, "; ".join(problems(error, model))) from None


def _no_number(text: str) -> Any:
    raise ValueError(f"the body is not JSON: {text} is no number")


class Bodies:
    """Reader of bodies for one event loop.

    Args:
        max_bytes: of one body.
        rows: that a batch may have.
        seconds: that a large body may take to be read.
    """

    def __init__(self, max_bytes: int, rows: int, seconds: float) -> None:
        self._rows, self._seconds = rows, seconds
        self._memory = MEMORY + TIMES * max_bytes
        self._process: Killable | None = None
        self._turn = Turn()

    async def read(self, data: bytes, model: type[M], client: str) -> M:
        """A body as its model; `client` is whoever takes turns with the others.

        Raises:
            Refused: as `read`; 413, it takes too long or too much memory; 503, the process died.
        """
        if data.count(b",") <= COMMAS:
            return read(data, model, self._rows)
        await self._turn.take(client)
        # A client that goes meanwhile ends neither the process nor the turn: to start one costs more.
        return await asyncio.shield(asyncio.ensure_future(self._aside(data, model)))

    async def _aside(self, data: bytes, model: type[M]) -> M:
        if self._process is None:
            self._process = Killable(__spec__.name, workers=1, memory=self._memory)
        job = {"model": model.__name__, "rows": self._rows}
        try:
            answer = await asyncio.wrap_future(self._process.submit(job, self._seconds, [data]))
        except TimeoutError:
            reason = f"the body takes more than {most('body_seconds', 's')} to read"
            raise Refused(413, reason) from None
        except RecursionError as error:
            raise Refused(422, str(error)) from None
        except (RuntimeError, WireError) as error:  # Killed, or closed at the server's end
            raise Refused(503, f"a large body could not be read: {error}") from None
        finally:
            self._turn.give()
        match answer:
            case {"read": fields}:
                return model.model_construct(**fields)
            case {"text": str(text)}:
                return model.model_construct(**json.loads(text))
            case {"refused": [int(status), str(reason)]}:
                raise Refused(status, reason)
            case {"raised": "RecursionError"}:
                raise Refused(422, "the body's lists and objects are too deep inside one another")
            case _:  # MemoryError, or more than a message may hold
                raise Refused(413, f"the body holds too much to be read: {answer}")

    def close(self) -> None:
        """End the process. Closing twice is harmless."""
        if self._process is not None:
            self._process.close()


class Turn:
    """One turn at a time: clients that wait take it one after another, each its own in order. For one event
    loop."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, client: str) -> None:
        """Wait for the turn of this client; cancelled meanwhile, it is out of the line."""
        if not self._taken:
            self._taken = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it had just been given
                self.give()
            raise

    def give(self) -> None:
        """Give the turn to the next one that still waits."""
        while self._waiting:
            client, line = self._waiting.popitem(last=False)
            turn = line.popleft()
            if line:
                self._waiting[client] = line  # behind the others
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False


def _answer(job: dict[str, Any], body: bytes) -> dict[str, Any]:
    """The process's side: fields of the model, or why there are none."""
    try:
        payload = read(body, MODELS[job["model"]], job["rows"])
    except Refused as refused:
        return {"refused": [refused.status, refused.reason]}
    fields = {name: getattr(payload, name) for name in type(payload).model_fields}
    try:
        json.dumps([field for field in fields.values() if not isinstance(field, str)], allow_nan=False)
    except ValueError:  # 1e999 is a number in JSON, and infinity here, which no message holds
        return {"text": json.dumps(fields)}
    return {"read": fields}


if __name__ == "__main__":
    os.nice(NICE)
    answer_jobs(_answer, lambda: None)
