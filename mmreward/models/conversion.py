"""Tensors of a pickled module, without its code: `python -m mmreward.models.conversion FILE OUT.safetensors`.

Some publishers saved a whole module with `torch.save`. Opening such a file imports its classes and may call
anything. Here every class and function that it names becomes a stand-in that does nothing and keeps what it
is given; only tensors and plain containers are made. The parameters and buffers are then read off the
stand-ins and written under the names that `state_dict` gives them. It runs in a child process with an empty
environment.

What is left is torch's own reader of storages, which a file cannot choose.
"""

import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, cast

import torch

DEEPEST = 200
"""Modules in one another."""
MADE = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,  # as protocol 2 calls it
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}
"""All that is called of what a file may name; torch's own reader makes the storages."""


class StandIn:
    """Object of a class that is not imported; `held` is the state that it was given."""

    held: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> "StandIn":
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Takes anything: a pickle may call its classes with what it likes."""

    def __setstate__(self, state: Any) -> None:
        self.held = state

    def _ignored(self, *args: Any) -> None:
        """What a pickle does to containers of its own."""

    __setitem__ = append = extend = add = _ignored


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        made = MADE.get((module, name))
        return made or type(name.rpartition(".")[2], (StandIn,), {"__module__": module})


def _reader() -> ModuleType:
    """What torch.load takes for `pickle`."""
    reader: Any = ModuleType("stand_ins")
    reader.Unpickler = _Unpickler
    reader.load = lambda file, **options: _Unpickler(file, **options).load()
    return cast(ModuleType, reader)


def tensors_in(file: Path) -> dict[str, torch.Tensor]:
    """Tensors of a pickled module by the names of its `state_dict`; of a dict, under `state_dict`, flat, or
    of the dicts in it as `key.name`.

    Raises:
        ValueError: the file is broken, or holds none.
    """
    try:
        found = torch.load(file, map_location="cpu", weights_only=False, pickle_module=_reader())
    except Exception as error:  # the stand-ins may be used in any way, and none of it is worth a traceback
        raise ValueError(f"{file.name} cannot be read: {type(error).__name__}: {error}") from error
    if isinstance(found, Mapping):
        found = found.get("state_dict", found)
        state = dict(_of_mapping(found)) if isinstance(found, Mapping) else {}
    else:
        state = dict(_of_module(found, "", 0))
    if not state:
        raise ValueError(f"{file.name} holds neither a module nor tensors by name")
    return {name: one.detach().clone().contiguous() for name, one in state.items()}


def _of_mapping(found: Mapping[Any, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, one in found.items():
        if isinstance(one, torch.Tensor):
            yield str(name), one
        elif isinstance(one, Mapping):  # a state dict among several, as a training keeps them
            for inner, tensor in one.items():
                if isinstance(tensor, torch.Tensor):
                    yield f"{name}.{inner}", tensor


def _of_module(module: Any, stem: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    held = getattr(module, "held", None)
    if not isinstance(held, dict):
        return
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} modules in one another")
    passing = held.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, one in (held.get(kind) or {}).items():
            if isinstance(one, torch.Tensor) and name not in passing:
                yield f"{stem}{name}", one
    for name, one in (held.get("_modules") or {}).items():
        yield from _of_module(one, f"{stem}{name}.", depth + 1)


def main(file: str, out: str) -> int:
    """Read in a child, and say how many tensors there are; 1 and one line where there are none."""
    source, target = Path(file).absolute(), Path(out).absolute()
    if not source.is_file() or target.suffix != ".safetensors" or target.exists():
        print(f"give a file that is there and a new one.safetensors, not {file} and {out}", file=sys.stderr)
        return 1
    with TemporaryDirectory() as folder:
        code = "import sys; from mmreward.models.conversion import child; sys.exit(child(*sys.argv[1:]))"
        command = [sys.executable, "-I", "-W", "ignore", "-c", code, str(source), str(target)]
        return subprocess.run(command, cwd=folder, env={}, stdin=subprocess.DEVNULL, check=False).returncode


def child(file: str, out: str) -> int:
    """The command's work."""
    from safetensors.torch import save_file

    try:
        state = tensors_in(Path(file))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    save_file(state, out)
    print(f"{len(state)} tensors in {out}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m mmreward.models.conversion FILE OUT.safetensors")
    sys.exit(main(*sys.argv[1:]))
