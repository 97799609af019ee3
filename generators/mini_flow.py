"""mini-flow as a `Generator`. How it is trained and stored: `mmreward.mini.flow`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from mmreward.generator import Conditioning
from mmreward.media import Media
from mmreward.mini import flow

from .conditioning import guided, last_is_blank
from .latents import Canvas, resized


class MiniFlow:
    """The miniature's text-to-image model: pictures of shapes world (see `mmreward.generator`).

    Args:
        folder: a saved mini-flow.
        device: of its networks.
        dtype: likewise.
        height: of the pictures in pixels, a multiple of 4; the network was trained at 32.
        width: likewise.

    Raises:
        ValueError: no mini-flow in the folder, or a side is not a multiple of 4.
    """

    lora_targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
    steps = flow.STEPS
    guidance = flow.GUIDANCE
    fps: float | None = None
    at = resized

    def __init__(
        self,
        folder: Path | str = flow.FOLDER,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        height: int = flow.SIZE,
        width: int = flow.SIZE,
    ) -> None:
        # The UNet halves its latents once, so that the places it attends to are 2 x 2 of them.
        self.canvas = Canvas(height, width, 3 * flow.FOLD**2, flow.FOLD, patch=2)
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
        return last_is_blank({"hidden": hidden, "pooled": pooled})

    def noise(self, seeds: Sequence[int], steps: int | None = None) -> torch.Tensor:
        """Gaussian latents (N, 12, H/2, W/2); a seed means the same on every device."""
        return self.canvas.noise(seeds).to(self.device, self.dtype)

    def velocity(
        self,
        latents: torch.Tensor,
        sigma: torch.Tensor | float,
        conditioning: Conditioning,
        guidance: float = 1.0,
    ) -> torch.Tensor:
        """Velocity in the shape of `latents`; guidance 1 costs one forward per latent, anything else two."""
        levels = torch.as_tensor(sigma, dtype=latents.dtype, device=latents.device).expand(len(latents))
        return guided(self._forward, latents, levels, conditioning, guidance)

    def _forward(
        self, latents: torch.Tensor, levels: torch.Tensor, given: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return flow.velocity(self.network, latents, levels, **given)

    def sigmas(self, steps: int) -> torch.Tensor:
        """Evenly spaced noise levels, as FLUX hands them to its scheduler (shift 1)."""
        return torch.linspace(1, 0, steps + 1, device=self.device)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [0, 1]; differentiable inside the range."""
        return flow.unfold(latents.float())

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (N, 3, H, W) in [0, 1] to latents (N, 12, H/2, W/2), float32; `decode` gives them back."""
        height, width = self.canvas.height, self.canvas.width
        if pixels.ndim != 4 or pixels.shape[1:] != (3, height, width):
            raise ValueError(f"pixels have shape {tuple(pixels.shape)}, not (N, 3, {height}, {width})")
        return flow.fold(pixels.float().to(self.device))
