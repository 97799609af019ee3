"""Preference heads on a dual encoder's embeddings of a picture and its prompt: their form, their folder, and
the network that applies them.

A head is fitted once on compared pairs (`mmreward fit head`, `mmreward.tune.fit_head`). It begins as the
encoder's own scaled cosine, to which an MLP adds what the pairs teach. Its folder holds tensors
(safetensors) and `head.json`, which names the encoder: another model's embeddings lie elsewhere, and
`FittedHead` refuses any other. Knows nothing of how heads are fitted.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ..engine.batching import Cost
from ..engine.engine import current
from ..engine.together import together
from ..files import whole_folder
from ..media import Media
from .base import TorchNetwork
from .checkpoints import fill
from .encoder_handle import Encoder
from .head_facts import FACTS, TENSORS, Form, HeadFacts, read_facts
from .weights import content_of

WIDEST = 3.0
"""Largest logarithm of a standard deviation that a head gives."""

# --- the head -----------------------------------------------------------------------------------------------


class Values(NamedTuple):
    """Rewards (N,); logarithms of their standard deviations (N,), None of a head that gives none; and the
    features (N, H) before the last layer."""

    mean: torch.Tensor
    log_sigma: torch.Tensor | None
    features: torch.Tensor


class PreferenceHead(nn.Module):
    """Head of a picture's and a prompt's unit embedding: scale * cosine + MLP(picture, prompt, product).

    The MLP's last layer is zero at first, so that an unfitted head ranks as the encoder does. `precision` is
    the inverse of PrefPaint's design matrix of the features that the head was fitted on, for its uncertainty;
    zero of a head that gives a standard deviation instead.

    Args:
        width: of the embeddings, D.
        hidden: width of the two layers between, H.
        normal: give a standard deviation as well.
        scale: of the cosine at first.
    """

    def __init__(self, width: int, hidden: int = 256, *, normal: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.width, self.hidden, self.normal = width, hidden, normal
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        self.body = nn.Sequential(
            nn.Linear(3 * width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.last = nn.Linear(hidden, 2 if normal else 1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)
        self.precision = nn.Buffer(torch.zeros(hidden, hidden))

    def forward(self, images: torch.Tensor, texts: torch.Tensor) -> Values:
        """Embeddings (N, D) of pictures and of their prompts to `Values`."""
        features = self.body(self.given(images, texts))
        last = self.last(features)
        mean = self.scale * self.start(images, texts) + last[:, 0]
        return Values(mean, last[:, 1].clamp(max=WIDEST) if self.normal else None, features)

    def start(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """Ranking of the backbone as it is, (N,): the cosine."""
        return (images * texts).sum(-1)

    def given(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """What the MLP reads."""
        # Numbers of a unit vector are about 1 / sqrt(D); layers are initialised for numbers about 1.
        root = math.sqrt(self.width)
        return torch.cat([root * images, root * texts, self.width * (images * texts)], dim=-1)

    def uncertainty(self, values: Values) -> torch.Tensor:
        """Uncertainty (N,): the standard deviation, or PrefPaint's || V^-1 f || (arXiv:2410.21966), large in
        directions that few of the fitted pairs had."""
        if values.log_sigma is not None:
            return values.log_sigma.exp()
        lengths: torch.Tensor = torch.linalg.vector_norm(values.features @ self.precision, dim=-1)
        return lengths


class StateHead(PreferenceHead):
    """Head of a Qwen-VL's reading of a picture and its prompt: scale * odds + MLP(state).

    A reading is the state where the answer begins and, behind it, the odds: log P("yes") - log P("no") of
    the question whether the picture shows the prompt. An unfitted head ranks by them. In place of the images
    it takes readings (N, D + 1), and no texts.
    """

    def __init__(self, width: int, hidden: int = 256, *, normal: bool = False, scale: float = 1.0) -> None:
        super().__init__(width, hidden, normal=normal, scale=scale)
        self.body[0] = nn.Linear(width, hidden)

    def start(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        return images[:, -1]

    def given(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        # States have a few numbers in the hundreds beside others below 1, and no common length.
        return nn.functional.layer_norm(images[:, :-1], (self.width,))


class BaseRewardHead(StateHead):
    """Head of BaseReward's form (arXiv:2509.16127) on a Qwen-VL's reading: two linear layers on the state,
    SiLU between them, and nothing of the odds. An unfitted one gives every picture the same.
    """

    def __init__(self, width: int, hidden: int = 256, *, normal: bool = False, scale: float = 0.0) -> None:
        super().__init__(width, hidden, normal=normal, scale=0.0)
        self.body = nn.Sequential(nn.Linear(width, hidden), nn.SiLU())
        self.scale.requires_grad_(False)


FORMS: dict[Form, type[StateHead]] = {"usual": StateHead, "basereward": BaseRewardHead}


# --- its folder ---------------------------------------------------------------------------------------------


def write_head(
    folder: Path, head: PreferenceHead, facts: HeadFacts, beside: Callable[[Path], None] | None = None
) -> None:
    """Write a head and its facts; the folder appears whole or not at all.

    Args:
        beside: writes what else belongs into the folder.

    Raises:
        ValueError: something is there already, or the head holds numbers that are not finite.
    """
    check_new(folder)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError("the head is not finite: fit it with a smaller rate, or with more pairs")
    with whole_folder(folder) as part:
        save_file(tensors, part / TENSORS)
        if beside is not None:
            beside(part)
        (part / FACTS).write_text(json.dumps(facts.model_dump(), indent=1) + "\n", encoding="utf-8")


def read_head(folder: Path) -> tuple[PreferenceHead, HeadFacts]:
    """The head in a folder, and its facts.

    Raises:
        ValueError: no such folder, or no head in it.
    """
    facts = read_facts(folder)
    file = folder / TENSORS
    if not file.is_file():
        raise ValueError(f"{folder} is no fitted head: it has no {TENSORS}; `mmreward fit head` makes one")
    try:
        state = load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} holds no tensors: {error}") from None
    kind = FORMS[facts.form] if facts.question else PreferenceHead
    head = kind(facts.width, facts.hidden, normal=facts.normal)
    fill(head, state, str(file))
    return head, facts


def check_new(folder: Path) -> None:
    """Refuse a place where something is already; called before the fit.

    Raises:
        ValueError: a file, or a folder.
    """
    if folder.exists():
        raise ValueError(f"{folder} is there already, and rewards may read it: give the head another name")


def check_encoder(facts: HeadFacts, folder: str, name: str, source: str) -> None:
    """Refuse a backbone of other weights than the head was fitted on.

    Raises:
        ValueError: its weights are others.
    """
    content = content_of(source)
    unknown = content == source and name == facts.encoder  # a hub id that is not here yet
    if content != facts.content and not unknown:
        raise ValueError(
            f"{folder} was fitted on {facts.encoder}, and {name} has other weights: "
            f"run `mmreward fit head` with --backbone {name}"
        )


# --- applying it --------------------------------------------------------------------------------------------


class Rated(NamedTuple):
    """Reward of a picture and its prompt, and its uncertainty; `truncated` when the prompt was longer than
    the encoder reads."""

    value: float
    uncertainty: float
    truncated: bool


class FittedHead(TorchNetwork):
    """Dual encoder with a preference head that was fitted on it; op "pair", float32.

    Args:
        folder: that `write_head` wrote.
        encoder: embeds pictures and prompts.

    Raises:
        ValueError: no such folder, no head in it, or one that was fitted on other weights.
    """

    def __init__(self, folder: str, encoder: Encoder) -> None:
        read_facts(folder)
        super().__init__(folder, encoder=encoder.fingerprint)
        self.encoder = encoder
        self.content = content_of(self.source)  # now, as it is read: the folder may be written again
        self._head, self.facts = read_head(Path(self.source))
        check_encoder(self.facts, self.source, encoder.name, encoder.network.source)

    def build(self) -> torch.nn.Module:
        # Again: of an encoder on the hub, the content was not known before it had been downloaded.
        check_encoder(self.facts, self.source, self.encoder.name, self.encoder.network.source)
        return self._head

    async def read(self, media: Sequence[Media], prompt: str, response: str = "") -> Rated:
        """The reward of one picture and prompt; a dual encoder reads no response."""
        (picture,) = media
        image, text = await together(self.encoder.image(picture), self.encoder.text(prompt))
        item = np.stack([image, text.vector])
        value, doubt = await current().submit(self, "pair", item, key=(picture.key, prompt))
        return Rated(value, doubt, text.truncated)

    def values_of(self, pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Differentiable rewards (N,) of float pixels (N, 3, H, W) in [0, 1] with N prompts, run where the
        pixels are; resizes as `Encoder.embed_pixels` does."""
        images = self.encoder.embed_pixels(pixels)
        if self.device != images.device:
            self.load(str(images.device))
        return cast(torch.Tensor, self.module(images, self.encoder.embed_texts(prompts)).mean)

    def cost(self, op: str, item: Any) -> Cost:
        return Cost(1, item.nbytes)

    def prepare(self, op: str, items: list[Any]) -> Any:
        return torch.from_numpy(np.stack(items))

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        images, texts = batch.to(self.device).unbind(1)
        values = self.module(images, texts)
        doubts = self.module.uncertainty(values)
        return list(zip(values.mean.cpu().tolist(), doubts.cpu().tolist(), strict=True))
