"""Rewards as they are written down: a text such as "clipscore:weights=mini-clip", a function, a function in a
file of one's own.

For the command line and `mmreward.score`, which an operator types. Nothing here is ever given what stands in
data, a config or a request: a text may name a file whose code is run.
"""

import hashlib
import importlib.util
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any, cast

from .errors import Unscorable, nearest
from .loading import resolve
from .reading import aside
from .registry import Reward
from .strict_yaml import parse_yaml
from .types import RewardInfo, Sample, Score

OWN = re.compile(r"^(?P<file>[^:=,]+\.py):(?P<function>[^:]*)(?::(?P<rest>.*))?$", re.DOTALL)
"""FILE.py:FUNCTION[:ARGUMENT=VALUE,...]"""

Described = str | Reward | Callable[..., Any]
"""A spec, a loaded reward, or a function of one sample."""
Descriptions = Described | Sequence[Described] | Mapping[str, Described | Mapping[str, Any]]


def rewards_of(given: Descriptions) -> dict[str, Reward]:
    """Rewards by a name of their own, from all the ways in which they can be written down.

    Args:
        given: a spec, a `Reward` or a function; several of these; or a mapping from your name to one of them
            or to a reward's arguments. Functions without a name of theirs are lambda, lambda2, ...

    Raises:
        ValueError: nothing given, something that is no reward, a name twice, or as `loading.load`.
    """
    if isinstance(given, Mapping):
        return resolve({str(name): _named(str(name), one) for name, one in given.items()})
    several = isinstance(given, Sequence) and not isinstance(given, str)
    chosen: dict[str, Any] = {}
    for one in cast(Sequence[Any], given) if several else [given]:
        name, description = _alone(one, chosen)
        if name in chosen:
            raise ValueError(f"{name} is given twice: pass a mapping to give each its own name")
        chosen[name] = description
    if not chosen:
        raise ValueError("no rewards given")
    return resolve(chosen)


def _alone(given: Any, taken: Mapping[str, Any]) -> tuple[str, Any]:
    """The name and description of a reward that was given without a name."""
    if isinstance(given, str):
        return parse_reward(given)
    if isinstance(given, Reward):
        return given.info.name, given
    if callable(given) and not isinstance(given, type):
        name = name_of(given)
        if name == "lambda":
            name = next(n for n in map("lambda{}".format, ("", *range(2, 10_000))) if n not in taken)
        return name, plain_reward(given, name)
    raise ValueError(
        "a reward is a spec such as 'clipscore:weights=mini-clip', a loaded Reward or a function of one "
        f"sample, not {type(given).__name__}"
    )


def _named(name: str, given: Any) -> Any:
    if isinstance(given, Mapping | Reward):
        return given
    kind, description = _alone(given, {})
    if isinstance(description, Reward):
        return description if isinstance(given, Reward) else _renamed(given, name)
    return {"reward": kind, **description}


def _renamed(given: Any, name: str) -> Reward:
    if isinstance(given, str):
        return cast(Reward, parse_reward(f"{name}={given}")[1])
    return plain_reward(given, name)


# --- texts ----------------------------------------------------------------------------------------


def parse_reward(text: str) -> tuple[str, dict[str, Any] | Reward]:
    """The name and arguments in [YOURS=]NAME:ARGUMENT=VALUE,..., with values in YAML's notation: scalars and
    lists: "critique:tools=[crop,calculate],calls=4".

    NAME may be FILE.py:FUNCTION, a function of one sample; then the file is run, and the second is the loaded
    reward. Two of one kind have names of their own: "fast=clipscore:weights=mini-clip".

    Raises:
        ValueError: another form, or a file or function that is not there or cannot be used.
    """
    own, named, kind = text.partition("=") if "=" in text.partition(":")[0] else ("", "", text)
    if named and not (own and kind):
        raise ValueError(
            f"reward {text!r}: expected NAME:ARGUMENT=VALUE,... or YOURS=NAME:ARGUMENT=VALUE,..."
        )
    if (found := OWN.match(kind)) is not None:
        args = _arguments(found["rest"] or "", text)
        function = function_in(Path(found["file"]), found["function"])
        name = own or found["function"]
        return name, plain_reward(function, name, args)
    name, _, rest = kind.partition(":")
    args = _arguments(rest, text)
    return (own, {"reward": name, **args}) if named else (name, args)


BETWEEN = re.compile(r",(?![^\[\]]*\])")
"""Commas between arguments, not those within a list."""


def _arguments(rest: str, text: str) -> dict[str, Any]:
    args = {}
    for pair in filter(None, BETWEEN.split(rest)):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"reward {text!r}: {pair!r} is not ARGUMENT=VALUE")
        args[key.strip()] = parse_yaml(value)
    return args


# --- functions ------------------------------------------------------------------------------------


def function_in(file: Path, name: str) -> Callable[..., Any]:
    """A function of a Python file, which is run for it.

    Raises:
        ValueError: no such file or function, or code that cannot be run; in one line.
    """
    if not file.is_file():
        raise ValueError(f"no file at {file}: a reward of your own is FILE.py:FUNCTION")
    module = f"mmreward_own_{hashlib.blake2b(str(file.resolve()).encode(), digest_size=6).hexdigest()}"
    if module not in sys.modules:
        spec = importlib.util.spec_from_file_location(module, file)
        assert spec is not None and spec.loader is not None  # it is a .py file
        sys.modules[module] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[module])
        except (Exception, SystemExit) as error:  # somebody's code, which may raise anything
            del sys.modules[module]
            words = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(f"{file} cannot be run: {words}") from None
    functions = {
        key: value
        for key, value in vars(sys.modules[module]).items()
        if inspect.isfunction(value) and value.__module__ == module
    }
    if name not in functions:
        hint = nearest(name, functions, otherwise="it has")
        raise ValueError(f"{file} has no function {name!r}: {hint}")
    return functions[name]


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function, "lambda" for one without."""
    name = str(getattr(function, "__name__", type(function).__name__))
    return "lambda" if name == "<lambda>" else name


def plain_reward(
    function: Callable[..., Any], name: str = "", args: Mapping[str, Any] | None = None
) -> Reward:
    """A function as a point reward: it is given a `Sample`, and returns a number, a bool or a `Score`.

    It may be async. One that is not runs on a thread of its own, so that it may take its time. What it raises
    is the failure of that sample. Its fingerprint covers its own code, not what that calls.

    Args:
        function: of one sample, and of `args` by name.
        name: of the reward; default: the function's.
        args: for its other parameters.

    Raises:
        ValueError: it cannot be called with one sample and these arguments.
    """
    name, args = name or name_of(function), dict(args or {})
    try:
        inspect.signature(function).bind(Sample(), **args)
    except TypeError as error:
        raise ValueError(f"{name} cannot be called as {name}(sample{_listed(args)}): {error}") from None

    async def score(sample: Sample) -> Score:
        call = partial(function, sample, **args)
        value = call() if inspect.iscoroutinefunction(function) else await aside(call)
        return _score_of(await value if inspect.isawaitable(value) else value, name)

    summary = (inspect.getdoc(function) or f"{name}, a function.").split("\n")[0]
    info = RewardInfo(name=name, needs=(), range=(-math.inf, math.inf), summary=summary)
    return Reward(info, {**args, "code": _code(function)}, score)


def _listed(args: Mapping[str, Any]) -> str:
    return "".join(f", {key}={value!r}" for key, value in args.items())


def _score_of(value: Any, name: str) -> Score:
    if isinstance(value, Score):
        return value
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise Unscorable(f"{name} returned {value!r:.80}: return a finite number or a Score")
    return Score(number)


def _code(function: Callable[..., Any]) -> str:
    """Hash of what a function does: instructions and constants, and the plain values it is closed over."""
    found = _compiled(getattr(function, "__code__", None) or type(function).__call__)
    closed = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if _filled(cell)]
    plain = [value for value in closed if isinstance(value, str | int | float | None)]
    facts = (found, getattr(function, "__defaults__", None), plain)
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()


def _compiled(code: Any) -> Any:
    """The instructions of compiled code and of the functions inside it, without their place in a file."""
    if not isinstance(code, CodeType):
        return getattr(code, "__qualname__", "") if callable(code) else code
    return code.co_code, code.co_names, code.co_varnames, tuple(map(_compiled, code.co_consts))


def _filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return False
    return True
