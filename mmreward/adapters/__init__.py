"""Rewards for trainers: one file per trainer (trl, verl, easyr1, ms_swift, openrlhf), see the README.

`rows` makes samples of a trainer's columns, `scorer` makes totals of samples; what is left to a file is its
trainer's form of a call. No trainer is imported here, except by `trl_gate`, which is a trainer. `notebook` is
for no trainer: `mmreward.score`, from a script or a notebook.
"""

from importlib import import_module
from types import ModuleType

TRAINERS = ("easyr1", "ms_swift", "openrlhf", "trl", "verl")


def __getattr__(name: str) -> ModuleType:
    """`mmreward.adapters.trl` and its like, imported when they are asked for."""
    if name in TRAINERS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
