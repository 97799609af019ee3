"""Interpreters: rewards that run in another Python, for packages that conflict with ours.

`load("checklist", python="/path/to/venv/bin/python")` gives a reward like any other, which scores in a
child process. Rewards that name the same interpreter share one child, its engine and its weights. The child
starts with the first of them and ends with the last: when it is closed or nothing refers to it any more, and
when this process ends, however it ends.
"""

import atexit
import json
import os
import shutil
import threading
import weakref
from asyncio import wrap_future
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from itertools import count
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pydantic import Field, ValidationError

from ..config import EngineConfig, problems
from ..errors import Unscorable
from ..registry import Reward
from ..trust import SECRET, hide
from ..types import Arity, RewardInfo, Sample
from .child import LOAD, START, Child, Reply, Request
from .protocol import Message, WireError, pack_sample, pack_value, unpack_info, unpack_score

if TYPE_CHECKING:
    import torch


class Interpreter(EngineConfig):
    """Interpreter of a reward: a path, variables for its environment, and the size of the engine there.

    The path is found as a shell would find it. The engine's device, budget and workers are as in
    `EngineConfig`, and those of the child alone; two rewards share a child when all of this is equal. The
    environment is ours without what describes our packages, such as PYTHONPATH, and with `env`.
    `Engine.sleep` does not reach the child's engine: to free its device, close its rewards.
    """

    path: str
    env: dict[str, str] = Field(default_factory=dict)

    @property
    def engine(self) -> EngineConfig:
        return EngineConfig(**self.model_dump(exclude={"path", "env"}))


class _Network(NamedTuple):
    """Name of a network of a reward that runs elsewhere."""

    name: str
    fingerprint: str


def load_in(python: str | PathLike[str] | Mapping[str, Any], name: str, args: Mapping[str, Any]) -> Reward:
    """Make a reward in another interpreter; see `loading.load`.

    Raises:
        ValueError: there is no such interpreter, it has no mmreward that speaks to this one, or the reward
            cannot be loaded there; the message says what it said.
    """
    interpreter = _interpreter(python)
    lease = _Lease(interpreter)
    try:
        return lease.load(name, args)
    except BaseException:
        lease.close()
        raise


class _Lease:
    """Lease of a child by one reward; called with samples, it scores them there."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._number = next(_numbers)
        self._where = interpreter.path
        self._arity: Arity = "point"
        self._child = _lease(interpreter, self._number)
        # The garbage collector runs anywhere, even where the lock is taken: so the child's thread releases.
        self._end = weakref.finalize(
            self, self._child.call_soon, partial(_release, self._child, self._number)
        )
        self._end.atexit = False

    def load(self, name: str, args: Mapping[str, Any]) -> Reward:
        """Load the reward there; the result keeps this lease."""
        try:
            request = Request(partial(_load_message, self._number, name, *_packed(args)), loads=self._number)
            reply = _wait(self._child.submit(request, restart=True))
            facts, bound, networks, release = _facts(reply)
        except (WireError, Unscorable, RuntimeError, TimeoutError) as error:
            raise ValueError(f"{name} in {self._where}: {error}") from None
        self._arity = facts.arity
        return Reward(
            replace(facts, differentiable=False),
            bound,
            self,
            _no_gradients(name, self._where) if facts.differentiable else None,
            networks,
            release=release,
            close=self.close,
        )

    async def __call__(self, *samples: Any) -> Any:
        if not self._end.alive:
            raise Unscorable(f"the reward in {self._where} has been closed")
        members = list(samples[0] if self._arity == "group" else samples)
        request = Request(partial(_score_message, self._number, members))
        match await wrap_future(self._child.submit(request)):
            case {"scores": [*packed]}:
                scores = [unpack_score(score) for score in packed]
                return scores if self._arity == "group" else scores[0]
            case {"failed": packed}:
                failed = unpack_score(packed)
                raise Unscorable(failed.note, failed.status, failed.parts)
            case reply:
                raise WireError(f"no scores: {str(reply)[:100]}")

    def close(self) -> None:
        """End the lease, and wait for the child to end if this was the last."""
        if self._end.detach() and _release(self._child, self._number):
            self._child.join()


_numbers = count(1)
_lock = threading.Lock()
_children: dict[str, tuple[Child, set[int]]] = {}
"""By interpreter: the child, and the numbers of the rewards that lease it."""


def _lease(interpreter: Interpreter, number: int) -> Child:
    key = interpreter.model_dump_json()
    with _lock:
        if key not in _children:
            _children[key] = (Child(interpreter.path, interpreter.engine, interpreter.env), set())
        child, numbers = _children[key]
        numbers.add(number)
        return child


def _release(child: Child, number: int) -> bool:
    """End one lease; the child ends with the last, and then this is true."""
    child.rewards.pop(number, None)
    with _lock:
        for key, (leased, numbers) in list(_children.items()):
            if leased is child:
                numbers.discard(number)
                if not numbers:
                    del _children[key]
                    child.stop()
                    return True
    return False


@atexit.register
def _stop_all() -> None:
    with _lock:
        children = [child for child, _ in _children.values()]
        _children.clear()
    for child in children:
        child.stop()
    for child in children:
        child.join()


def _forget_all() -> None:
    """Forget all children in a fork, which has none of the threads and must not keep the sockets open."""
    for child, _ in _children.values():
        child.close_in_fork()
    _children.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget_all)


def _interpreter(python: str | PathLike[str] | Mapping[str, Any]) -> Interpreter:
    given = {"path": str(python)} if isinstance(python, str | PathLike) else python
    try:
        interpreter = Interpreter.model_validate(given)
    except ValidationError as error:
        raise ValueError("python: " + "; ".join(_problems(error))) from None
    for name, value in interpreter.env.items():
        if SECRET.search(name):
            hide(value)
    found = shutil.which(Path(interpreter.path).expanduser())
    if found is None:
        raise ValueError(f"python: there is no program {interpreter.path}")
    # Not resolved: what a virtual environment links to is another interpreter.
    return interpreter.model_copy(update={"path": str(Path(found).absolute())})


def _problems(error: ValidationError) -> list[str]:
    """Mistakes, without the values of the environment, which may be keys."""
    kept = [one for one in error.errors() if one["loc"][:1] != ("env",) or len(one["loc"]) < 2]
    wrong = [f"env.{one['loc'][1]}: {one['msg']}" for one in error.errors() if one not in kept]
    return wrong or list(problems(error, Interpreter))


def _packed(args: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    packed: dict[str, Any] = {}
    blobs: list[bytes] = []
    for name, value in args.items():
        try:
            packed[name] = pack_value(value, blobs)
        except Unscorable as error:
            raise Unscorable(f"argument {name} {error}") from None
    return packed, blobs


def _load_message(number: int, name: str, args: dict[str, Any], blobs: list[bytes]) -> Message:
    return Message({"op": "load", "reward": name, "args": args, "as": number}, list(blobs))


def _score_message(number: int, samples: Sequence[Sample]) -> Message:
    blobs: list[bytes] = []
    packed = [pack_sample(sample, blobs) for sample in samples]
    return Message({"op": "score", "as": number, "samples": packed}, blobs)


def _wait(reply: "Future[Reply]") -> Reply:
    try:
        return reply.result(START + LOAD)
    except TimeoutError:
        raise TimeoutError(f"not loaded within {START + LOAD:g} s") from None
    finally:
        reply.cancel()  # does nothing to one that is there


def _facts(reply: Reply) -> tuple[RewardInfo, dict[str, Any], tuple[_Network, ...], str]:
    match reply:
        case {"loaded": {"info": info, "args": str(bound), "networks": [*networks], "release": str(release)}}:
            return unpack_info(info), json.loads(bound), tuple(_Network(*one) for one in networks), release
        case {"failed": score}:
            raise Unscorable(unpack_score(score).note)
        case _:
            raise WireError(f"no facts about a reward: {str(reply)[:100]}")


def _no_gradients(name: str, where: str) -> "Callable[[torch.Tensor, Sequence[str]], torch.Tensor]":
    def refuse(pixels: "torch.Tensor", prompts: Sequence[str]) -> NoReturn:
        raise ValueError(f"{name} runs in {where}: gradients do not cross processes; load it without python=")

    return refuse
