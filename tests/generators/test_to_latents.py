"""Pictures and clips back to latents: what every family makes of them is what its VAE says of them."""

import pytest
import torch
from support import tiny_dit, tiny_stable_diffusion
from support.clip_pipelines import ltx, wan, wan_image_to_video

from mmreward.generators.flux import Flux
from mmreward.generators.ltx import LTX
from mmreward.generators.mini_flow import MiniFlow
from mmreward.generators.qwen_image import QwenImage
from mmreward.generators.sd3 import SD3
from mmreward.generators.stable_diffusion import StableDiffusion, StableDiffusionXL
from mmreward.generators.wan import Wan, WanImageToVideo
from mmreward.generators.z_image import ZImage

SIZE = {"height": 32, "width": 48}
CLIP = {**SIZE, "frames": 5}
PICTURES = {
    "sd": lambda: StableDiffusion(tiny_stable_diffusion.pipeline(), **SIZE),
    "sdxl": lambda: StableDiffusionXL(tiny_stable_diffusion.pipeline_xl(), **SIZE),
    "sd3": lambda: SD3(tiny_dit.sd3(), **SIZE),
    "flux": lambda: Flux(tiny_dit.flux(), **SIZE),
    "qwen-image": lambda: QwenImage(tiny_dit.qwen_image(), **SIZE),
    "z-image": lambda: ZImage(tiny_dit.z_image(), **SIZE),
}
CLIPS = {
    "wan": lambda: Wan(wan(), **CLIP),
    "wan-i2v": lambda: WanImageToVideo(wan_image_to_video(), **CLIP),
    "ltx": lambda: LTX(ltx(), height=32, width=64, frames=9),
}


def pixels_of(generator):
    """Two rows of pixels in the size the generator makes."""
    with torch.no_grad():
        shape = generator.decode(generator.noise([1, 2])).shape
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", [*PICTURES, *CLIPS])
def test_the_vae_is_handed_back_the_mean_it_gave(name, monkeypatch):
    """`decode` agrees with the pipelines of diffusers, so its way to the VAE is the yardstick."""
    generator = {**PICTURES, **CLIPS}[name]()
    vae, pixels = generator.parts["vae"], pixels_of(generator)
    given = pixels * 2 - 1
    if name in CLIPS:
        given = given.movedim(1, 2)
    elif name == "qwen-image":
        given = given[:, :, None]
    with torch.no_grad():
        expected = vae.encode(given).latent_dist.mode()
    latents = generator.to_latents(pixels)
    assert latents.shape == generator.noise([1, 2]).shape and latents.dtype == torch.float32
    assert not latents.requires_grad
    seen = []
    plain = vae.decode

    def decode(raw, *args, **kwargs):
        seen.append(raw)
        return plain(raw, *args, **kwargs)

    monkeypatch.setattr(vae, "decode", decode)
    with torch.no_grad():
        generator.decode(latents)
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [*PICTURES, *CLIPS])
def test_another_size_is_refused(name):
    generator = {**PICTURES, **CLIPS}[name]()
    pixels = pixels_of(generator)
    for wrong in (pixels[..., :16], pixels[0], pixels[:, :1]):
        with pytest.raises(ValueError, match="this generator makes"):
            generator.to_latents(wrong)


def test_mini_flow_gives_back_every_picture_exactly():
    generator = MiniFlow()
    pixels = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0)) / 255
    latents = generator.to_latents(pixels)
    assert latents.shape == generator.noise([1, 2, 3]).shape
    torch.testing.assert_close(generator.decode(latents), pixels, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match=r"not \(N, 3, 32, 32\)"):
        generator.to_latents(pixels[..., :16])
