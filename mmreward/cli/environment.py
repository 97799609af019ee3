"""`mmreward env`: versions, devices and switches, to paste into a bug report."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from re import match

import typer

from .app import app

SWITCHES = ("MMREWARD_", "HF_HUB_OFFLINE", "HF_HOME", "CUDA_VISIBLE_DEVICES", "TRANSFORMERS_OFFLINE")
"""Beginnings of the names of environment variables that change a run; only their values are shown."""
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")


@app.command()
def env() -> None:
    """Print versions, devices and switches, for a bug report. Keys and the names of users are left out."""
    found = list(facts())
    width = max(len(name) for name, _ in found)
    for name, value in found:
        typer.echo(f"{name:<{width}}  {value}")


def facts() -> Iterator[tuple[str, str]]:
    """(name, value) of the system, of this package and what it needs, of the device, of the switches."""
    yield "mmreward", version("mmreward")
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} CPUs"
    for name in declared():
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"
    yield "device", _device()
    home = str(Path.home())
    for name, value in sorted(os.environ.items()):
        if name.startswith(SWITCHES):
            hidden = any(word in name for word in SECRET)
            yield name, "(set)" if hidden else value.replace(home, "~")


def declared() -> list[str]:
    """Names of the packages that this one declares, those of extras included, each once."""
    names = (match(r"[\w.-]+", line) for line in requires("mmreward") or ())
    return sorted({found.group() for found in names if found}, key=str.lower)


def _device() -> str:
    """CUDA devices with their memory, as torch sees them."""
    import torch

    if not torch.cuda.is_available():
        return f"no CUDA ({torch.get_num_threads()} threads of torch)"
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return ", ".join(f"{card.name} {card.total_memory / 2**30:.0f} GiB" for card in found)
