"""A generator of 8x8 pictures in one or two colours, quick enough to be trained in a test."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from mmreward import Media
from mmreward.generator import Conditioning

SIDE = 4
"""Pixels that a latent is wide."""
VARIANCE = 0.5
"""Of the finished latents before anything is tuned."""


class Denoiser(torch.nn.Module):
    """Latents (N, 3, h, w), levels (N,), prompts (N, 4) -> velocity; it sees the means of their quarters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(12 + 1 + 4, 48)
        self.second = torch.nn.Linear(48, 12)

    def forward(self, latents: torch.Tensor, sigma: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        quarters = torch.nn.functional.adaptive_avg_pool2d(latents, 2)
        flat = torch.cat([quarters.flatten(1), sigma[:, None], prompt], 1)
        out = self.second(torch.nn.functional.silu(self.first(flat))).view_as(quarters)
        return torch.nn.functional.interpolate(out, size=latents.shape[2:])

    def save_pretrained(self, folder: Path) -> None:
        save_file(self.state_dict(), folder / "diffusion_pytorch_model.safetensors")


class ToyGenerator:
    """Draws pictures of any colour until it is tuned; `visits` counts rows through the network."""

    lora_targets: tuple[str, ...] = ("first", "second")
    steps = 6
    guidance = 1.0
    fps: float | None = None
    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, seed: int = 0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = Denoiser()
            with torch.no_grad():
                self.network.second.weight.mul_(0.1)
        self.visits = 0
        self.latents = (3, 2, 2)

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return {"network": self.network}

    def at(self, height: int, width: int) -> "ToyGenerator":
        if height % SIDE or width % SIDE:
            raise ValueError(f"{height} x {width} is not a multiple of {SIDE}")
        other = copy.copy(self)
        other.latents = (3, height // SIDE, width // SIDE)
        return other

    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        codes = [[float(len(p) % 5), float(p.count("a")), float("red" in p), 1.0] for p in prompts]
        return Conditioning({"prompt": torch.tensor(codes) / 4})

    def noise(self, seeds: Sequence[int], steps: int | None = None) -> torch.Tensor:
        drawn = [torch.randn(self.latents, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(drawn)

    def velocity(
        self,
        latents: torch.Tensor,
        sigma: torch.Tensor | float,
        conditioning: Conditioning,
        guidance: float = 1.0,
    ) -> torch.Tensor:
        self.visits += len(latents)
        levels = torch.as_tensor(sigma, dtype=torch.float32).expand(len(latents))
        # The exact velocity for normal latents of this variance, and what the network adds to it.
        s = levels.view(-1, 1, 1, 1)
        known = latents * (s - (1 - s) * VARIANCE) / ((1 - s) ** 2 * VARIANCE + s**2)
        return known + self.network(latents, levels, conditioning.given["prompt"]).float()

    def sigmas(self, steps: int) -> torch.Tensor:
        return torch.linspace(1, 0, steps + 1)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(latents.float()).repeat_interleave(SIDE, 2).repeat_interleave(SIDE, 3)

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.logit(pixels[:, :, ::SIDE, ::SIDE].float().clamp(1e-3, 1 - 1e-3))
