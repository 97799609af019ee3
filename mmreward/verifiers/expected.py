"""What to do with a response that says several things where one was asked for."""

from collections.abc import Sequence
from typing import Literal, TypeVar

from ..failures import Unscorable

Several = Literal["refuse", "first", "last"]
Thing = TypeVar("Thing")


def expect_one(things: Sequence[Thing], several: Several, what: str) -> Thing:
    """The one thing, or the declared one of several; never the best of them, which would pay for guessing.

    Raises:
        Unscorable: "unparsable" for none, and for several unless one is declared.
    """
    if not things:
        raise Unscorable(f"no {what} where one is expected", "unparsable")
    if len(things) > 1 and several == "refuse":
        raise Unscorable(f"{len(things)} answers where one {what} is expected", "unparsable")
    return things[-1] if several == "last" else things[0]
