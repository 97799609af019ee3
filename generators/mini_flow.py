"""mini-flow as a `Generator`. How it is trained and stored: `mmreward.mini.flow`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from mmreward.media import Media
from mmreward.mini import flow
from mmreward.tune.generator import Conditioning


class MiniFlow:
    """The miniature's text-to-image model: 32x32 pictures of shapes world (see `tune.generator`)."""

    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
    steps = flow.STEPS
    guidance = flow.GUIDANCE
    fps: float | None = None

    def __init__(
        self, folder: Path | str = flow.FOLDER, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        parts = flow.load(Path(folder), dtype)
        self.network: torch.nn.Module = parts.unet.to(device)
        self.text_encoder = parts.text_encoder.to(device).requires_grad_(False)
        self.tokenizer = parts.tokenizer
        self.scheduler = parts.scheduler
        self.device, self.dtype = torch.device(device), dtype

    @property
    def parts(self) -> Mapping[str, torch.nn.Module]:
        return {"network": self.network, "text_encoder": self.text_encoder}

    def encode(self, prompts: Sequence[str], inputs: Sequence[Sequence[Media]] = ()) -> Conditioning:
        """Hidden states (N, 20, 96) and pooled embeddings (N, 96). Words of no caption become <unk>."""
        if inputs:
            raise ValueError("mini-flow takes no condition pictures")
        tokens = flow.tokenize(self.tokenizer, [*prompts, ""]).to(self.device)
        with torch.no_grad():
            hidden, pooled = flow.encode(self.text_encoder, tokens)
        number = len(prompts)
        blank = {"hidden": hidden[-1:].expand(number, -1, -1), "pooled": pooled[-1:].expand(number, -1)}
        return Conditioning({"hidden": hidden[:-1], "pooled": pooled[:-1]}, blank)

    def noise(self, seeds: Sequence[int], steps: int | None = None) -> torch.Tensor:
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
        levels = torch.as_tensor(sigma, dtype=latents.dtype, device=latents.device).expand(len(latents))
        if guidance == 1:
            return flow.velocity(self.network, latents, levels, **conditioning.given)
        both = {
            name: torch.cat([tensor, conditioning.blank[name]]) for name, tensor in conditioning.given.items()
        }
        out = flow.velocity(self.network, torch.cat([latents, latents]), levels.repeat(2), **both)
        given, blank = out.chunk(2)
        return blank + guidance * (given - blank)

    def sigmas(self, steps: int) -> torch.Tensor:
        """Evenly spaced noise levels, as FLUX hands them to its scheduler (shift 1)."""
        return torch.linspace(1, 0, steps + 1, device=self.device)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, 32, 32) in [0, 1]; differentiable inside the range."""
        return flow.unfold(latents.float())

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, 32, 32) in [0, 1] to latents (N, 12, 16, 16), float32; `decode` gives them back."""
        if pixels.ndim != 4 or pixels.shape[1:] != (3, flow.SIZE, flow.SIZE):
            raise ValueError(f"pixels have shape {tuple(pixels.shape)}, not (N, 3, {flow.SIZE}, {flow.SIZE})")
        return flow.fold(pixels.float().to(self.device))
