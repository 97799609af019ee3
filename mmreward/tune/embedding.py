"""What an encoder sees in the samples of a round, kept until all of them are drawn."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray

from .. import models
from ..registry import Reward


class Embeddings:
    """Embeds pictures as they are drawn.

    Args:
        encoder: weights of a dual encoder, as for `models.clip`.
        rewards: none of which may be made of it: what it calls different would then be what is optimised.

    Raises:
        ValueError: one is.
    """

    def __init__(self, encoder: str, rewards: Iterable[Reward]) -> None:
        self._encoder = models.clip(encoder)
        taken = {network.fingerprint for reward in rewards for network in reward.networks}
        if self._encoder.fingerprint in taken:
            raise ValueError(f"gardo.encoder {encoder!r}: a reward is made of it; take another encoder")
        self._seen: list[tuple[Sequence[int], torch.Tensor]] = []

    @torch.no_grad()
    def see(self, index: Sequence[int], pixels: torch.Tensor) -> None:
        """Pixels (N, 3, H, W) in [0, 1] of these rows; or clips (N, T, 3, H, W), averaged over frames."""
        frames = pixels.flatten(0, 1) if pixels.ndim == 5 else pixels
        vectors = self._encoder.embed_pixels(frames).float().cpu()
        self._seen.append((index, vectors.reshape(len(pixels), -1, vectors.shape[-1]).mean(1)))

    def collect(self, processes: int = 1) -> NDArray[np.float64]:
        """Those of all rows of all processes, (N, D) in the order of their index; they are forgotten here."""
        parts = gather_object(self._seen) if processes > 1 else self._seen
        self._seen = []
        index = np.concatenate([np.asarray(rows) for rows, _ in parts])
        vectors = torch.cat([vectors for _, vectors in parts]).double().numpy()
        return np.asarray(vectors[np.argsort(index)])
