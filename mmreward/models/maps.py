"""Fitted maps of prompt embeddings: their form, their file, and the dual encoder that applies them.

A map takes text embeddings to text embeddings, and is fitted once (`mmreward fit`, `mmreward.tune.fit_maps`)
before pictures are compared with the moved prompts. `Shift` (D2-Align, arXiv:2512.24146) and `Transport`
(PISCES, arXiv:2602.01624) are the forms.

Its file is safetensors with the encoder it was fitted on in the header: a map belongs to those weights,
because another model's embeddings lie elsewhere. `MappedEncoder` refuses any other. Knows nothing of how maps
are fitted.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from ..engine.batching import Cost
from ..engine.engine import current
from ..files import whole_file
from ..media import Media
from .base import TorchNetwork
from .encoder_handle import Encoder, Text, Vector
from .weights import content_of

if TYPE_CHECKING:
    from .viclip import ClipEncoder

# --- forms of maps --------------------------------------------------------------------------------


def shifted(texts: torch.Tensor, bias: torch.Tensor, weight: float = 1.5) -> torch.Tensor:
    """Text embeddings (N, D) moved along a bias (D2-Align, arXiv:2512.24146): e~ = e- + weight (e+ - e-) with
    e+- = unit(e +- bias).

    Brought back to unit length, so that the product with an image embedding stays a cosine. A bias of 0
    changes nothing; `weight` 0.5 takes the middle, and 1.5 is the paper's.
    """
    plus, minus = F.normalize(texts + bias, dim=-1), F.normalize(texts - bias, dim=-1)
    return F.normalize(minus + weight * (plus - minus), dim=-1)


class Shift(nn.Module):
    """Shift of text embeddings along a fitted bias; see `shifted`.

    Args:
        bias: (D,).
        weight: as for `shifted`; the one that the bias was learned with.
    """

    kind: ClassVar = "d2-align"

    def __init__(self, bias: torch.Tensor, weight: float = 1.5) -> None:
        super().__init__()
        self.bias = nn.Buffer(bias)
        self.weight = weight

    @property
    def width(self) -> int:
        return len(self.bias)

    def forward(self, texts: torch.Tensor) -> torch.Tensor:
        """(N, D) to unit vectors (N, D)."""
        return shifted(texts, self.bias, self.weight)


class Transport(nn.Module):
    """Residual map from text embeddings to picture embeddings, y + MLP(y): three layers, the identity at
    first.

    Args:
        width: of the embeddings, D.
        hidden: width of the layers between.
    """

    kind: ClassVar = "pisces"

    def __init__(self, width: int, hidden: int = 256) -> None:
        super().__init__()
        self.width = width
        self.layers = mlp(width, hidden, width)
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, texts: torch.Tensor) -> torch.Tensor:
        """(..., D) to (..., D)."""
        return texts + torch.as_tensor(self.layers(texts))

    def quality(self, texts: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Reward of the fit: cosine, -1 to 1, of each picture's embedding with its mapped prompt's, (N,)."""
        return F.cosine_similarity(self(texts), images, dim=-1)


def mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    """Multi-layer perceptron of three linear layers with SiLU between them, (..., width) to (..., out)."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, out)
    )


Map = Shift | Transport

# --- the file of a map ----------------------------------------------------------------------------

SUFFIX = ".safetensors"
"""The suffix of every such file: only known suffixes enter a fingerprint."""


class Origin(NamedTuple):
    """Origin of a fitted map: its kind, the encoder and the number of pictures it was fitted on."""

    kind: str
    encoder: str
    """The dual encoder's name at that time."""
    content: str
    """Hash of its weights, see `weights.content_of`."""
    rows: int
    """Pictures with prompts it was fitted on."""

    def check(self, file: str, kind: str, encoder: "Encoder | ClipEncoder") -> None:
        """Refuse a map of another kind or other weights.

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


def write_map(file: Path, moved: Map, encoder: "Encoder | ClipEncoder", rows: int) -> None:
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
    with whole_file(file) as part:
        save_file(tensors, part, metadata=facts)


def read_map(file: Path) -> tuple[Map, Origin]:
    """The map in a file, and its origin.

    Raises:
        ValueError: there is no such file, or no map in it.
    """
    _check_map(file)
    try:
        with safe_open(file, framework="pt") as opened:
            facts = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
        origin = Origin(facts["kind"], facts["encoder"], facts["content"], int(facts["rows"]))
        return _built(facts, tensors), origin
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{file} holds no map that `mmreward fit` made: {error}") from None


def check_new(file: Path) -> None:
    """Refuse a file that cannot take a new map; called before the fit.

    Raises:
        ValueError: another suffix than `SUFFIX`, or a file that is there already.
    """
    _check_suffix(file)
    if file.exists():
        raise ValueError(f"{file} is there already, and rewards may read it: give the new map another name")


def _check_suffix(file: Path) -> None:
    if file.suffix != SUFFIX:
        raise ValueError(f"{file}: a fitted map lies in a file that ends in {SUFFIX}")


def _check_map(file: Path) -> None:
    _check_suffix(file)
    if not file.is_file():
        raise ValueError(f"no file {file}; `mmreward fit` makes one")


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


# --- applying a map -------------------------------------------------------------------------------


class MappedEncoder(TorchNetwork):
    """Dual encoder whose prompt embeddings are moved by a fitted map; pictures are its encoder's. Op "text",
    float32.

    Args:
        file: path of a file that `write_map` wrote.
        kind: of the map it must hold, "d2-align" or "pisces".
        encoder: embeds pictures and prompts.

    Raises:
        ValueError: no such file, no map in it, one of another kind, or one that was fitted on other weights.
    """

    def __init__(self, file: str, kind: str, encoder: "Encoder | ClipEncoder") -> None:
        _check_map(Path(file))
        super().__init__(file, kind=kind, encoder=encoder.fingerprint)
        self.encoder = encoder
        self._kind = kind
        self.content = content_of(self.source)  # now, as it is read: the file may be written again
        self._map, self.origin = read_map(Path(self.source))
        self.origin.check(self.source, kind, encoder)

    def build(self) -> torch.nn.Module:
        # Again: of an encoder on the hub, the content was not known before it had been downloaded.
        self.origin.check(self.source, self._kind, self.encoder)
        return self._map

    async def image(self, media: Media) -> Vector:
        """The encoder's unit embedding of a picture, or of a clip by a ViCLIP, (D,)."""
        return await self.encoder.image(media)

    async def text(self, text: str) -> Text:
        """The moved embedding of a text, (D,), of unit length."""
        plain = await self.encoder.text(text)
        moved = await current().submit(self, "text", plain.vector, key=text)
        return Text(cast(Vector, moved), plain.truncated)

    def similarity(self, pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Differentiable cosines (N,) of float pixels (N, 3, H, W) in [0, 1] with N moved prompts, where the
        pixels are; see `Encoder.similarity`."""
        assert isinstance(self.encoder, Encoder), "a ViCLIP has no pixels with a gradient"
        images = self.encoder.embed_pixels(pixels)
        if self.device != images.device:
            self.load(str(images.device))
        return (images * self._moved(self.encoder.embed_texts(prompts))).sum(-1)

    def cost(self, op: str, item: Any) -> Cost:
        return Cost(1, item.nbytes)

    def prepare(self, op: str, items: list[Any]) -> Any:
        return torch.from_numpy(np.stack(items))

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        return list(self._moved(batch.to(self.device)).cpu().numpy())

    def _moved(self, texts: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.module(texts), dim=-1)
