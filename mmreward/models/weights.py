"""Arguments of networks: names of weights, where they lie on this machine and the hash of what they hold, of
dtypes, of ways to resize. Imports no torch, so that stored scores are compared with weights without loading.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..assets import ASSETS
from .wants import hub_file

BACKENDS = ("tensor", "pil", "uint8", "draft")
"""Ways to resize a picture, see `pixels`."""

DTYPES = ("float32", "float16", "bfloat16", "float64")

WHOLE = 64 << 20
"""Weight files up to this size enter a fingerprint whole, larger ones by size, header and last megabyte."""

SAYING = (".json", ".safetensors", ".txt", ".jinja", ".bin", ".pt", ".model")
"""Suffixes of a folder's files that enter its hash."""


def is_file_of_weights(weights: str) -> bool:
    """True for a weight file, on this machine or of the hub; False for a folder and all else."""
    return hub_file(weights) is not None or Path(weights).is_file()


def placed(weights: str) -> str:
    """The path of a hub file that the local cache has; any other name unchanged."""
    if (named := hub_file(weights)) is None:
        return weights
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(*named)
    return found if isinstance(found, str) else weights


def fingerprint_of(kind: str, content: str, dtype: object, options: Mapping[str, Any]) -> str:
    """Hash of all that changes a network's numbers: class name, weights, dtype, options; 16 hex digits."""
    facts = [kind, content, str(dtype), sorted(options.items())]
    return hashlib.blake2b(json.dumps(facts, default=str).encode(), digest_size=8).hexdigest()


def locate(weights: str) -> str:
    """The folder of a miniature's weights; any other name unchanged, for the hub or the file system.

    Raises:
        ValueError: a miniature that is not installed, or a path where nothing is.
    """
    if weights.startswith((".", "/", "~")) and not Path(weights).exists():
        raise ValueError(f"no weights at {weights}: there is no such folder or file")
    if not weights.startswith("mini-"):
        return weights
    folder = ASSETS / weights
    if not folder.is_dir():
        names = sorted(p.name for p in ASSETS.glob("mini-*"))
        raise ValueError(f"no miniature named {weights!r}; there are {', '.join(names) or 'none'}")
    return str(folder)


def content_of(source: str) -> str:
    """Hash of a file or of a folder's files, or the commit that a hub id has in the local cache.

    A hub id that has not been downloaded yet is named by itself, which two revisions would share.
    """
    path = Path(source)
    if path.exists():
        members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        digest = hashlib.blake2b(digest_size=16)
        for member in members:
            if member == path or member.suffix in SAYING:
                digest.update(member.name.encode())
                digest.update(_bytes_of(member))
        return digest.hexdigest()
    snapshot = _snapshot(source)
    return f"{source}@{snapshot.name}" if snapshot is not None else source


def weights_key(source: str) -> str:
    """Hash that is equal for two names of the same weights: a hub id counts as its folder in the local
    cache."""
    snapshot = None if Path(source).exists() else _snapshot(source)
    return content_of(source if snapshot is None else str(snapshot))


def folder_of(source: str, file: str = "config.json") -> Path | None:
    """The folder of weights on this machine: the folder itself, or a hub id's in the local cache, where it is
    known by a file that every such repository has."""
    return Path(source) if Path(source).is_dir() else _snapshot(source, file)


def base_of(config: Path | str) -> str:
    """The model that a checkpoint of imscore's was made from, by its config.json (`{"tag": NAME}`); "" of any
    other checkpoint, or where no such file can be read."""
    try:
        facts = json.loads(Path(config).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return ""
    named = isinstance(facts, dict) and "model_type" not in facts and isinstance(facts.get("tag"), str)
    return str(facts["tag"]) if named else ""


def _snapshot(source: str, file: str = "config.json") -> Path | None:
    """The folder of a hub id in the local cache: of weights, or of an adapter."""
    if source.count("/") > 1 or ":" in source:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = [try_to_load_from_cache(source, name) for name in (file, "adapter_config.json")]
    except HFValidationError:
        raise ValueError(f"{source!r} is neither a folder that is there nor the id of a hub") from None
    return next((Path(one).parent for one in found if isinstance(one, str)), None)


def _bytes_of(file: Path) -> bytes:
    size = file.stat().st_size
    if size <= WHOLE:
        return file.read_bytes()
    with file.open("rb") as stream:
        head = stream.read(1 << 20)
        stream.seek(-(1 << 20), 2)
        return str(size).encode() + head + stream.read()


def known_dtype(dtype: str) -> str:
    """Name of a torch dtype by which it is printed; torch is asked about those that rewards seldom name.

    Raises:
        ValueError: no such dtype.
    """
    if dtype in DTYPES:
        return dtype
    import torch

    if not isinstance(found := getattr(torch, dtype, None), torch.dtype):
        raise ValueError(f"dtype {dtype!r} is not a torch dtype; use float32, bfloat16 or float16")
    return str(found).removeprefix("torch.")


def known_backend(resize: str) -> str:
    """The way to resize, if there is such a one.

    Raises:
        ValueError: there is none.
    """
    if resize not in BACKENDS:
        raise ValueError(f"resize is one of {', '.join(BACKENDS)}, not {resize!r}")
    return resize
