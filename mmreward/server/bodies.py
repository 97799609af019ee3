"""Bodies of requests, read as JSON and held against their model; large ones by a process of their own.

Reading JSON holds Python's lock until the last bracket: a body of 8 MB that is nothing but brackets takes a
second, in which the server answers nobody. What takes long is values, not text, so a body is looked over for
commas first, and one with many is read, counted and held against its model in a killable process (`Bodies`),
one at a time; clients that wait for it take turns. What comes back is what the model asks for.

Where all rewards are rules (`Scorer.light`) the process also scores what it has read: a verifier that takes a
tenth of a second would else keep Python's lock from every request that is being answered meanwhile.

Run as `python -m mmreward.server.bodies FD BYTES` by `killable.Killable`, this is that process.
"""

import asyncio
import json
import os
from collections import OrderedDict, deque
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from ..adapters.scorer import Failed, Scorer
from ..config import EngineConfig, problems
from ..isolation.killable import Killable, answer_jobs
from ..isolation.protocol import WireError
from ..limits import most
from .calls import CALLS, Call, Queries, Refused

M = TypeVar("M", bound=BaseModel)
COMMAS = 1 << 14
"""Commas of a body that is read where it is, in a few milliseconds at most: no value is without one, but for
the first of a list or object, and lists inside one another end at a depth."""
LARGE = 64 << 10
"""Bytes of a body that is scored where it is."""
MEMORY, TIMES = 1 << 30, 32
"""Bytes of address space of the process, and as many times a body more."""
NICE = 10
"""Niceness of the process: an answer that others wait for comes first."""
LATEST = 10
"""Timeouts of a score that all scores of one body may take together."""


class Scoring(NamedTuple):
    """What the process scores by: the file of the routes, seconds of one score, and pay of a failed one."""

    routes: Path
    timeout: float
    failed: Failed


def read(data: bytes, model: type[M], rows: int) -> M:
    """A body as its model.

    Args:
        data: JSON.
        model: of the call.
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
        scoring: by which large bodies are scored; None where they are only read.
    """

    def __init__(self, max_bytes: int, rows: int, seconds: float, scoring: Scoring | None = None) -> None:
        self._rows, self._seconds, self._scoring = rows, seconds, scoring
        self._memory = MEMORY + TIMES * max_bytes
        self._process: Killable | None = None
        self._turn = Turn()

    def scores(self, data: bytes) -> bool:
        """True for a body that `answer` takes."""
        return self._scoring is not None and (len(data) > LARGE or data.count(b",") > COMMAS)

    async def answer(self, data: bytes, call: Call[Any], client: str) -> Any:
        """The content of the answer to a body; `client` is whoever takes turns with the others.

        Raises:
            Refused: as `read` and `Call`.
        """
        assert self._scoring is not None, "asked before: `scores`"
        routes, timeout, failed = self._scoring
        job = {"routes": str(routes), "timeout": timeout, "failed": failed}
        return await self._in_turn(data, call, client, job, self._seconds + LATEST * timeout)

    async def read(self, data: bytes, call: Call[M], client: str) -> M:
        """A body as its model; `client` is whoever takes turns with the others.

        Raises:
            Refused: as `read`; 413, it takes too long or too much memory; 503, the process died.
        """
        if data.count(b",") <= COMMAS:
            return read(data, call.model, self._rows)
        fields = await self._in_turn(data, call, client, {}, self._seconds)
        return call.model.model_construct(**fields)

    async def _in_turn(self, data: bytes, call: Call[Any], client: str, job: Any, seconds: float) -> Any:
        await self._turn.take(client)
        job = {"call": call.name, "rows": self._rows, **job}
        # A client that goes meanwhile ends neither the process nor the turn: to start one costs more.
        return await asyncio.shield(asyncio.ensure_future(self._aside(data, job, seconds)))

    async def _aside(self, data: bytes, job: Any, seconds: float) -> Any:
        if self._process is None:
            self._process = Killable(__spec__.name, workers=1, memory=self._memory)
        try:
            answer = await asyncio.wrap_future(self._process.submit(job, seconds, [data]))
        except TimeoutError:
            reason = f"the body takes more than {most('body_seconds', 's')} to read"
            if "routes" in job:
                reason += f", or {LATEST} timeouts of a score to be scored"
            raise Refused(413, reason) from None
        except RecursionError as error:
            raise Refused(422, str(error)) from None
        except (RuntimeError, WireError) as error:  # Killed, or closed at the server's end
            raise Refused(503, f"a large body could not be read: {error}") from None
        finally:
            self._turn.give()
        match answer:
            case {"made": made}:
                return made
            case {"text": str(text)}:
                return json.loads(text)
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


@cache
def _scorer(routes: str, timeout: float) -> Scorer:
    return Scorer(Path(routes), engine=EngineConfig(device="cpu"), timeout=timeout)


def _answer(job: dict[str, Any], data: bytes) -> dict[str, Any]:
    """The process's side: fields of the model, or content of the answer, or why there are none."""
    call = CALLS[job["call"]]
    try:
        body = read(data, call.model, job["rows"])
        if "routes" in job:
            scorer = _scorer(job["routes"], job["timeout"])
            return {"made": call.answer(scorer, body, scorer.score(call.batch(body)), job["failed"])}
    except Refused as refused:
        return {"refused": [refused.status, refused.reason]}
    fields = {name: getattr(body, name) for name in type(body).model_fields}
    try:
        json.dumps([field for field in fields.values() if not isinstance(field, str)], allow_nan=False)
    except ValueError:  # 1e999 is a number in JSON, and infinity here, which no message holds
        return {"text": json.dumps(fields)}
    return {"made": fields}


def _yield_to_others() -> None:
    """Take the niceness, and give it to the session too: where Linux shares processors out among sessions
    (sched_autogroup_enabled), as this process has its own, a process's niceness alone says nothing."""
    os.nice(NICE)
    with suppress(OSError):  # no such file elsewhere
        Path("/proc/self/autogroup").write_text(str(NICE))


if __name__ == "__main__":
    _yield_to_others()
    answer_jobs(_answer, lambda: None)
