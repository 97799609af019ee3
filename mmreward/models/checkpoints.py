"""Published weight files: where they lie on this machine, whether they can be had, and reading them safely.

Many scorers were published as one pickled file (.pt, .pth) and not as a folder. A pickle can run any code
when it is opened, so such a file is read with torch's restricted reader, which makes tensors and plain
containers and refuses all else.

Knows nothing of what the weights are for.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch

from .wants import BODY, WEIGHTS, WORDS, address_of, hub_errors, hub_file

WRAPPED = ("state_dict", "model")
"""Keys under which a pickled file may have its tensors."""


def needed(weights: str, *files: str) -> None:
    """See `mmreward.models.needed`."""
    if weights.startswith(("mini-", "open_clip:", ".", "/", "~")) or Path(weights).exists():
        return  # `locate` and `open_clip` speak for these
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    repository, file = hub_file(weights) or (weights, "")
    said = WORDS if files == BODY else files
    command = " ".join(["hf download", repository, *([file] if file else said)])
    enough = all if files else any
    try:
        names = files or _names(file)
        if enough(isinstance(try_to_load_from_cache(repository, name), str) for name in names):
            return
        get_hf_file_metadata(hf_hub_url(repository, file or (*files, "config.json")[0]), timeout=5)
    except HFValidationError:
        raise ValueError(f"{weights!r} is neither a folder or file that is there nor a hub's name") from None
    except hub_errors() as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(
            f"{weights} is not on this machine: fetch it with `{command}` ({type(error).__name__}: {reason})"
        ) from None


def downloaded(url: str) -> str:
    """See `mmreward.models.downloaded`."""
    path = address_of(url)
    if not path.is_file():
        command = f"curl -fL --create-dirs -o '{path}' '{url}'"
        raise ValueError(f"{path.name} is not on this machine: fetch it with `{command}`")
    return str(path)


def _names(file: str) -> tuple[str, ...]:
    return (file,) if file else WEIGHTS


def fetched(file: str) -> Path:
    """The path of a file, or of one of the hub (OWNER/NAME/FILE), which is fetched if it is not there yet.

    Raises:
        ValueError: no such file.
    """
    path = Path(file)
    if (named := hub_file(file)) is not None:
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(*named))
    if not path.is_file():
        raise ValueError(f"no file at {file}")
    return path


def files_of(folder: Path) -> list[Path]:
    """Weight files of a folder, by its index where it has one."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if index.is_file():
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            return [folder / shard for shard in sorted(set(names))]
        if (folder / name).is_file():
            return [folder / name]
    return []


def state_of(weights: str, key: str = "") -> dict[str, torch.Tensor]:
    """Tensors by name from a weight file, on the CPU; those under `key` or a name of `WRAPPED`, where a file
    has one.

    Args:
        weights: as for `fetched`.
        key: name that the publisher gave to the tensors, beside other things.

    Raises:
        ValueError: no such file, one that holds more than tensors, or none.
    """
    path = fetched(weights)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    state = _unpickled(path)
    if isinstance(state, dict):
        state = next((state[name] for name in (key, *WRAPPED) if isinstance(state.get(name), dict)), state)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path.name} is no state dict: it holds more than tensors by name")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def parts_of(weights: str, *parts: str) -> dict[str, torch.Tensor]:
    """Tensors of several state dicts in one file, on the CPU, as `part.name`.

    In a pickled file a part is a dict under its name; in safetensors its names begin with the part's. What
    lies beside them, such as an optimizer's state, stays on the disk.

    Args:
        weights: as for `fetched`.
        parts: their names.

    Raises:
        ValueError: no such file, one that holds more than tensors and plain values, or one without a part.
    """
    path = fetched(weights)
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            wanted = [name for name in file.keys() if name.split(".")[0] in parts]  # noqa: SIM118 - no mapping
            found = {name: file.get_tensor(name) for name in wanted}
    else:
        # Mapped into memory, which a file of torch before 1.6 cannot be.
        whole = _unpickled(path, mapped=is_zipfile(path))
        held = {part: whole.get(part) if isinstance(whole, dict) else None for part in parts}
        found = {
            f"{part}.{name}": tensor
            for part, state in held.items()
            for name, tensor in (state if isinstance(state, dict) else {}).items()
        }
    for part in parts:
        if not any(name.startswith(f"{part}.") for name in found):
            raise ValueError(f"{path.name} has no {part}: {', '.join(parts)} are read")
    if not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ValueError(f"{path.name} has more than tensors by name in {', '.join(parts)}")
    return {_bare(name): tensor for name, tensor in found.items()}


def _bare(name: str) -> str:
    """A part's name without what wrapped its module in training."""
    part, _, rest = name.partition(".")
    return f"{part}.{rest.removeprefix('module.').removeprefix('backbone.')}"


def _unpickled(path: Path, mapped: bool = False) -> Any:
    from pickle import UnpicklingError

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (UnpicklingError, EOFError, RuntimeError) as error:
        # torch's own words advise weights_only=False, which would run what the file says.
        raise ValueError(
            f"{path.name} is broken, or asks to run code when it is opened, and is refused: its tensors can "
            "be read without its code, by "
            f"`python -m mmreward.models.conversion {path} {path.stem}.safetensors`"
        ) from error


def misfits(wanted: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str:
    """Names that are missing, left over or of another shape, counted, with the first of each; "" for none."""
    faults = {
        "missing": [key for key in wanted if key not in state],
        "unexpected": [key for key in state if key not in wanted],
        "of another shape": [k for k in wanted if k in state and wanted[k].shape != state[k].shape],
    }
    return ", ".join(f"{len(keys)} tensors {fault} ({keys[0]})" for fault, keys in faults.items() if keys)


def fill(module: torch.nn.Module, state: dict[str, torch.Tensor], name: str) -> None:
    """Copy a state dict into a module that has exactly its names and shapes.

    Raises:
        ValueError: names are missing or left over, or shapes differ; the first of each is named.
    """
    if said := misfits(module.state_dict(), state):
        raise ValueError(f"{name} does not fit the architecture: {said}")
    module.load_state_dict(state)
