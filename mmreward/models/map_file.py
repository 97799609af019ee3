"""The file a fitted map lies in: safetensors, with what it was fitted on in the header.

A map belongs to the weights it was fitted on, because another model's embeddings lie elsewhere.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .base import content_of
from .encoders import Encoder
from .maps import Shift, Transport

Map = Shift | Transport
SUFFIX = ".safetensors"
"""Of every such file: only known suffixes enter a fingerprint."""


class Origin(NamedTuple):
    """What a map was fitted on."""

    kind: str
    encoder: str
    """The dual encoder's name then."""
    content: str
    """Of its weights, see `base.content_of`."""
    rows: int
    """Pictures with prompts it was fitted on."""

    def check(self, file: str, kind: str, encoder: Encoder) -> None:
        """Refuse a map that does not belong where it is used.

        Raises:
            ValueError: the map is of another kind, or the encoder has other weights.
        """
        if self.kind != kind:
            raise ValueError(f"{file} was fitted for {self.kind}, not for {kind}")
        source = encoder.network.source
        content = content_of(source)
        unknown = content == source and encoder.name == self.encoder  # a hub id that is not here yet
        if content != self.content and not unknown:
            raise ValueError(
                f"{file} was fitted on {self.encoder}, and {encoder.name} has other weights: "
                f"run `mmreward fit {kind}` with --weights {encoder.name}"
            )


def write_map(file: Path, moved: Map, encoder: Encoder, rows: int) -> None:
    """Write a map that was fitted on `rows` pictures and prompts of this encoder.

    Raises:
        ValueError: the map holds numbers that are not finite, or as `check_new`.
    """
    check_new(file)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in moved.state_dict().items()}
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError(f"the map for {moved.kind} is not finite: fit it with fewer steps or more pictures")
    facts = {
        "kind": moved.kind,
        "encoder": encoder.name,
        "content": content_of(encoder.network.source),
        "rows": str(rows),
        "width": str(moved.width),
    }
    if isinstance(moved, Shift):
        facts["weight"] = repr(moved.weight)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    save_file(tensors, part, metadata=facts)
    part.replace(file)  # whole or not at all


def read_map(file: Path) -> tuple[Map, Origin]:
    """The map, and what it was fitted on.

    Raises:
        ValueError: there is no such file, or no map in it.
    """
    _check_suffix(file)
    if not file.is_file():
        raise ValueError(f"no file {file}; `mmreward fit` makes one")
    try:
        with safe_open(file, framework="pt") as opened:
            facts = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
        origin = Origin(facts["kind"], facts["encoder"], facts["content"], int(facts["rows"]))
        return _built(facts, tensors), origin
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{file} holds no map that `mmreward fit` made: {error}") from None


def check_new(file: Path) -> None:
    """Before a fit: will its map find a place?

    Raises:
        ValueError: another suffix than `SUFFIX`, or a file that is there already.
    """
    _check_suffix(file)
    if file.exists():
        raise ValueError(f"{file} is there already, and rewards may read it: give the new map another name")


def _check_suffix(file: Path) -> None:
    if file.suffix != SUFFIX:
        raise ValueError(f"{file}: a fitted map lies in a file that ends in {SUFFIX}")


def _built(facts: dict[str, str], tensors: dict[str, torch.Tensor]) -> Map:
    width = int(facts["width"])
    moved: Map
    if facts["kind"] == Shift.kind:
        moved = Shift(torch.zeros(width), float(facts["weight"]))
    elif facts["kind"] == Transport.kind:
        moved = Transport(width, hidden=len(tensors["layers.0.bias"]))
    else:
        raise ValueError(f"unknown kind {facts['kind']!r}")
    moved.load_state_dict(tensors)
    return moved
