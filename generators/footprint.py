"""How large a generator's networks are, read from the headers of their files. Loads no weights."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from safetensors import SafetensorError, safe_open

from mmreward.mini import flow

from .loading import DTYPES, INDEX, read_index

NETWORKS = ("unet", "transformer", "transformer_2")
"""Folders of what a `Generator` calls its network."""
UNUSED = ("safety_checker",)
"""Folders that are never loaded."""


class Footprint(NamedTuple):
    """Of one role."""

    bytes: int
    parameters: int


def footprint(name: str, dtype: str = "float32") -> Mapping[str, Footprint]:
    """Bytes and parameters by role ("network", "vae", "text_encoder", ...), as `load` would hold them.

    Args:
        name: "mini-flow", a folder in diffusers' format, or an id of the hub that has been downloaded.
        dtype: that the networks will have, as for `load`.

    Raises:
        ValueError: not there, without safetensors, a file that is none, or an unknown dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f"{dtype!r} is no dtype: there are {', '.join(DTYPES)}")
    folder = _folder(name)
    counts: dict[str, int] = {}
    for part in read_index(str(folder)):
        if part not in UNUSED and (files := _weights(folder / part)):
            role = "network" if part in NETWORKS else part
            counts[role] = counts.get(role, 0) + sum(_parameters(file) for file in files)
    if not counts:
        raise ValueError(f"no safetensors in {str(folder)!r}")
    return {role: Footprint(count * DTYPES[dtype].itemsize, count) for role, count in counts.items()}


def _folder(name: str) -> Path:
    if name == "mini-flow":
        return flow.FOLDER
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, EntryNotFoundError):
        raise ValueError(
            f"{name!r} is neither a folder with a {INDEX} nor a model of the hub that lies here; get one "
            f"from the hub with: hf download {name}"
        ) from None


def _weights(folder: Path) -> list[Path]:
    """The files of the default variant: no "fp16" or the like before their ending."""
    files = sorted(folder.glob("*.safetensors"))
    return [file for file in files if "." not in file.name.removesuffix(".safetensors")]


def _parameters(file: Path) -> int:
    try:
        with safe_open(file, framework="pt") as tensors:
            return sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{str(file)!r} is no safetensors file: {error}") from None
