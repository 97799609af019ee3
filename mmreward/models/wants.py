"""Weights that rewards need: what a reward's arguments name, asked without loading or looking for anything.

Inside `collecting` the functions of `mmreward.models` make no network. They note what they would have read,
and a reward is loaded as usual otherwise. `fetching` brings what was noted.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..assets import ASSETS
from .served.http import is_served

Kind = Literal["hub", "hub file", "url", "archive", "open_clip", "server", "package", "local", "absent"]


class Want(NamedTuple):
    """Weights that a reward names.

    `kind` is where they come from: a repository or one file of the hub, an address, an archive at an address,
    open_clip's table, a server, a package's wheel; "local" is on this machine, "absent" a path where nothing
    is. `name` is the hub id, file, address or path; `to` where an address belongs; `use` the function of
    `mmreward.models` that asked; `parts` what is read of an archive.
    """

    kind: Kind
    name: str
    use: str
    to: str = ""
    parts: tuple[str, ...] = ()


NAMED = {
    "clip": ("weights",),
    "embedder": ("weights",),
    "head": ("weights", "encoder"),
    "_mapped": ("encoder",),
    "classifier": ("weights",),
    "vlm": ("weights",),
}
"""Function of `mmreward.models` -> its arguments that name weights."""
PACKAGES = {"text_reader": "rapidocr", "nudity": "nudenet"}
"""Function -> the package whose wheel has the weights."""

_wants: ContextVar[list[Want] | None] = ContextVar("wants", default=None)


@contextmanager
def collecting() -> Iterator[list[Want]]:
    """Weights that rewards loaded inside the block name, as a list that fills; such rewards cannot score."""
    wants: list[Want] = []
    token = _wants.set(wants)
    try:
        yield wants
    finally:
        _wants.reset(token)


def noting() -> bool:
    """True inside `collecting`."""
    return _wants.get() is not None


def note(want: Want) -> None:
    """Add to the list of the surrounding `collecting`; once."""
    wants = _wants.get()
    if wants is not None and want not in wants:
        wants.append(want)


def note_call(function: str, arguments: Mapping[str, Any]) -> None:
    """Note what a call of a function of `mmreward.models` would read."""
    if function in PACKAGES:
        note(Want("package", PACKAGES[function], function))
    for argument in NAMED.get(function, ()):
        note(want_of(str(arguments[argument]), function))


def want_of(weights: str, use: str) -> Want:
    """The want of one name of weights."""
    if is_served(weights):
        return Want("server", weights, use)
    if weights.startswith("mini-"):
        return Want("local", str(ASSETS / weights), use)
    if weights.startswith("open_clip:"):
        return Want("open_clip", weights, use)
    if weights.startswith((".", "/", "~")) or Path(weights).exists():
        wants = _wants.get() or ()
        if any(want.to == weights for want in wants):
            return Want("local", weights, use)  # it comes from an address that is noted
        return Want("local" if Path(weights).exists() else "absent", weights, use)
    from .checkpoints import hub_file

    return Want("hub file" if hub_file(weights) else "hub", weights, use)
