"""From keys in a YAML file to the arguments of a function or a settings class, checked by its signature."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ValidationError, create_model

from ...config import Strict, problems

T = TypeVar("T")


def _named(given: str | dict[str, Any]) -> str | dict[str, Any]:
    if isinstance(given, dict) and not isinstance(given.get("name"), str):
        raise ValueError("a mapping needs the key 'name'")
    return given


Named = Annotated[str | dict[str, Any], AfterValidator(_named)]
"""A name, or a mapping with the key `name` and options."""


def split(given: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and options of a `Named`."""
    if isinstance(given, str):
        return given, {}
    return given["name"], {key: value for key, value in given.items() if key != "name"}


def picked(name: str, table: Mapping[str, T], what: str) -> T:
    """The entry of this name.

    Raises:
        ValueError: there is none; the message offers the nearest.
    """
    if name not in table:
        near = get_close_matches(name, table, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(table)}"
        raise ValueError(f"no {what} named {name!r}: {hint}")
    return table[name]


def called(make: Callable[..., T], given: Mapping[str, Any], where: str, **fixed: Any) -> T:
    """`make(**given, **fixed)`, the given ones checked against its annotations.

    Args:
        make: a function, or a settings dataclass.
        given: what the user wrote; a key of `fixed` is unknown here.
        where: the section of the file, for messages.
        fixed: arguments that come from elsewhere.

    Raises:
        ValueError: an unknown key, a missing one, a value of the wrong type, or one that `make` refuses.
    """
    fields: dict[str, Any] = {
        name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(make).parameters.items()
        if name not in fixed
    }
    model = create_model(where, __base__=Strict, **fields)
    try:
        options = model.model_validate(dict(given))
    except ValidationError as error:
        raise ValueError(f"{where}: " + "; ".join(problems(error, model))) from None
    try:
        return make(**{name: getattr(options, name) for name in fields}, **fixed)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
