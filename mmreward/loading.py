"""Loading: a reward from its name and arguments, here or in another interpreter."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from os import PathLike
from typing import Any

from .errors import Unavailable, missing, nearest
from .registry import Reward, amending, find, recording_networks
from .types import Sample

Rewards = str | Reward | Sequence[str | Reward] | Mapping[str, str | Reward | Mapping[str, Any]]

_FIELDS = tuple(f.name for f in fields(Sample))
LISTS = ("tuple_type", "list_type", "sequence_str")
"""Kinds of pydantic's errors where something else stands in the place of a list."""


def load(
    name: str, /, *, python: "str | PathLike[str] | Mapping[str, Any] | None" = None, **args: Any
) -> Reward:
    """Make a reward. Networks load their weights when a sample first needs them.

    >>> load("iou", threshold=0.5).args["threshold"]
    0.5

    Args:
        name: of the reward.
        python: run it in another interpreter, in whose environment the reward and mmreward are installed; a
            path, or a mapping (see `interpreters.Interpreter`). Scores are the same; gradients stay behind.
        args: the reward's arguments. One that scores one picture takes `frames` beside its own: "mean",
            "min", "first" or a number, with which it scores clips, too (see `engine.clips.over_frames`).
            `scale` names one of `scales.SCALES`, such as "pickscore/26". `references` stand for the `inputs`
            of rows that have none.

    Raises:
        ValueError: no such reward, an argument it does not take or one it cannot do without, a value of the
            wrong type, or an interpreter that cannot load it.
        Unavailable: a package that it needs is not installed.
    """
    if python is not None:
        from .isolation.interpreters import load_in

        return load_in(python, name, args)
    entry = find(name)
    known = inspect.signature(entry.factory).parameters
    if "scale" in args and "scale" not in known:
        from .scales import scaled

        scale = args.pop("scale")
        return scaled(load(name, **args), scale)
    if "frames" in args and "frames" not in known:
        from .engine.clips import over_frames

        frames = args.pop("frames")
        return over_frames(load(name, **args), frames)
    for given in args:
        if given not in known:
            raise ValueError(
                f"{name} has no argument {given!r}: {nearest(given, known, otherwise='it takes')}"
            )
    try:
        bound = inspect.signature(entry.factory).bind(**args)
    except TypeError as error:
        raise ValueError(f"{name}: {error}; `mmreward show {name}` says what it is") from None
    # A tenth of a second that `mmreward list` does not pay.
    from pydantic import ConfigDict, ValidationError, validate_call

    try:
        with recording_networks() as networks, amending() as amended:
            loaded = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(entry.factory)(**args)
    except ModuleNotFoundError as error:
        raise Unavailable(f"{name}: {missing(error)}") from error
    except ValidationError as error:
        raise ValueError(f"{name}: {'; '.join(map(_mistake, error.errors(include_url=False)))}") from None
    fn, tensor_fn = loaded if entry.info.differentiable else (loaded, None)
    info = replace(entry.info, differentiable=tensor_fn is not None, **amended)
    if args.get("references"):  # pictures that stand for those of every row
        info = replace(info, needs=tuple(need for need in info.needs if need != "inputs"))
    if not inspect.iscoroutinefunction(fn):
        raise ValueError(f"the factory of {name!r} must return an async function, not {type(fn).__name__}")
    bound.apply_defaults()  # so that a changed default is a changed fingerprint
    return Reward(info, bound.arguments, fn, tensor_fn, tuple(networks))


def _mistake(problem: Mapping[str, Any]) -> str:
    """One of pydantic's errors in a line, with the fix where there is one to tell."""
    argument = ".".join(map(str, problem["loc"]))
    fix = f"; a list is written {argument}=[a,b]" if problem["type"] in LISTS else ""
    return f"{argument} is {str(problem['input'])[:60]!r}: {problem['msg']}{fix}"


def resolve(rewards: Rewards) -> dict[str, Reward]:
    """Rewards by a name of their own: the mapping's keys, or the rewards' own names.

    In a mapping's arguments, `reward` names the reward when the key is a name of yours, `columns` maps fields
    of Sample to keys of `meta`, and `python` names the interpreter it runs in, as for `load`; `frames` lets a
    reward of pictures score clips, and `scale` puts it on a named scale.

    Raises:
        ValueError: nothing given, something that is no reward, the same name twice, or as `load`.
    """
    if isinstance(rewards, str | Reward):
        rewards = [rewards]
    if not isinstance(rewards, Sequence | Mapping):
        raise _no_reward(rewards)
    if not rewards:
        raise ValueError("no rewards given")
    if isinstance(rewards, Mapping):
        return {name: _resolve_one(name, given) for name, given in rewards.items()}
    resolved: dict[str, Reward] = {}
    for given in rewards:
        if not isinstance(given, str | Reward):
            raise _no_reward(given)
        loaded = given if isinstance(given, Reward) else load(given)
        if loaded.info.name in resolved:
            raise ValueError(f"{loaded.info.name} is given twice: pass a mapping to give each its own name")
        resolved[loaded.info.name] = loaded
    return resolved


def _resolve_one(name: str, given: str | Reward | Mapping[str, Any]) -> Reward:
    if isinstance(given, Reward):
        return given
    if isinstance(given, str):
        return load(given)
    if not isinstance(given, Mapping):
        raise _no_reward(given)
    args = {key: value for key, value in given.items() if key not in ("reward", "columns")}
    columns = dict(given.get("columns", {}))
    for column in columns:
        if column not in _FIELDS:
            raise ValueError(
                f"{name}: columns maps fields of Sample, and {column!r} is none of {', '.join(_FIELDS)}"
            )
    return replace(load(given.get("reward", name), **args), columns=columns)


def _no_reward(given: object) -> ValueError:
    fix = "; register a function of yours with `@mmreward.reward` and load it" if callable(given) else ""
    return ValueError(
        f"a reward is a name, a loaded Reward or its arguments, not {type(given).__name__}{fix}"
    )
