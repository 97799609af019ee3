"""Maps that are fitted once and move a prompt's embedding before a picture is compared with it.

Text embeddings in, text embeddings out. How they are fitted is `mmreward.tune.directional` and
`mmreward.tune.transport`; `mapped_encoder` applies them.
"""

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F


def shifted(texts: torch.Tensor, bias: torch.Tensor, weight: float = 1.5) -> torch.Tensor:
    """Text embeddings (N, D) moved along a bias (D2-Align, arXiv:2512.24146): e~ = e- + weight (e+ - e-) with
    e+- = unit(e +- bias).

    Brought back to unit length, so that the product with an image embedding stays a cosine. A bias of 0
    changes nothing; `weight` 0.5 takes the middle, and 1.5 is the paper's.
    """
    plus, minus = F.normalize(texts + bias, dim=-1), F.normalize(texts - bias, dim=-1)
    return F.normalize(minus + weight * (plus - minus), dim=-1)


class Shift(nn.Module):
    """`shifted` with a bias that stays.

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
    """A map from text embeddings to picture embeddings, y + MLP(y): three layers, the identity to begin with.

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
        """The reward: cosine, -1 to 1, of each picture's embedding with its mapped prompt's, (N,)."""
        return F.cosine_similarity(self(texts), images, dim=-1)


def mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    """Three linear layers, SiLU between them."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, out)
    )
