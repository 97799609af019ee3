"""mini-flow behind the generator protocol. How it is trained and stored: `mmreward.mini.flow`."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from mmreward.mini import flow

from . import protocol
from .protocol import Conditioning


class MiniFlow:
    """The miniature's text-to-image model: 32x32 pictures of shapes world (see `protocol.Generator`)."""

    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
    steps = flow.STEPS
    guidance = flow.GUIDANCE

    def __init__(
        self, folder: Path | str = flow.FOLDER, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        parts = flow.load(Path(folder), dtype)
        self.network: torch.nn.Module = parts.unet.to(device)
        self.text_encoder = parts.text_encoder.to(device).requires_grad_(False)
        self.tokenizer = parts.tokenizer
        self.scheduler = parts.scheduler
        self.device, self.dtype = torch.device(device), dtype

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Hidden states (N, 20, 96) and pooled embeddings (N, 96). Words of no caption become <unk>."""
        tokens = flow.tokenize(self.tokenizer, [*prompts, ""]).to(self.device)
        with torch.no_grad():
            hidden, pooled = flow.encode(self.text_encoder, tokens)
        return Conditioning(hidden[:-1], pooled[:-1], hidden[-1:], pooled[-1:])

    def noise(self, seeds: Sequence[int]) -> torch.Tensor:
        """Gaussian latents (N, 12, 16, 16); a seed means the same on every device."""
        return flow.noise(seeds).to(self.device, self.dtype)

    def velocity(
        self,
        latents: torch.Tensor,
        sigma: torch.Tensor | float,
        conditioning: Conditioning,
        guidance: float = 1.0,
    ) -> torch.Tensor:
        """Velocity in the shape of `latents`; guidance 1 costs one forward per latent, anything else two."""
        count = len(latents)
        levels = torch.as_tensor(sigma, dtype=latents.dtype, device=latents.device).expand(count)
        if guidance == 1:
            return flow.velocity(self.network, latents, levels, conditioning.hidden, conditioning.pooled)
        hidden = torch.cat([conditioning.hidden, conditioning.blank_hidden.expand(count, -1, -1)])
        pooled = torch.cat([conditioning.pooled, conditioning.blank_pooled.expand(count, -1)])
        both = flow.velocity(self.network, torch.cat([latents, latents]), levels.repeat(2), hidden, pooled)
        given, blank = both.chunk(2)
        return blank + guidance * (given - blank)

    def sigmas(self, steps: int) -> torch.Tensor:
        """Evenly spaced noise levels, as FLUX hands them to its scheduler (shift 1)."""
        return torch.linspace(1, 0, steps + 1, device=self.device)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, 32, 32) in [0, 1]; differentiable inside the range."""
        return flow.unfold(latents.float())

    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        steps: int | None = None,
        guidance: float | None = None,
    ) -> list[Image.Image]:
        """One picture per (prompt, seed)."""
        return protocol.sample(self, prompts, seeds, steps, guidance)
