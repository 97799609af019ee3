"""Pipelines of clips with tiny random networks in the real format: 8 x 8 latents, a few frames."""

import numpy as np
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from mmreward import Media
from mmreward.mini.loop import tokenizer

PROMPTS = ["a red circle", "two blue squares above a green triangle"]
WORDS = 64


def pictures(number: int, size: int = 32) -> list[list[Media]]:
    """One noisy picture for each of `number` rows."""
    rng = np.random.default_rng(number)
    return [[Media(rng.integers(0, 256, (size, size, 3), dtype=np.uint8))] for _ in range(number)]


def wan(*, shift: float = 3.0, experts: bool = False, **config) -> WanPipeline:
    """Text to video; `experts` gives it a second transformer and a boundary in the middle of the noise."""
    torch.manual_seed(0)
    parts = {**_wan_parts(), "scheduler": FlowMatchEulerDiscreteScheduler(shift=shift)}
    parts["transformer"] = wan_transformer(**config)
    parts["transformer_2"] = wan_transformer(**config) if experts else None
    return quiet(WanPipeline(**parts, boundary_ratio=0.7 if experts else None))


def wan_image_to_video(*, clip: bool = True, experts: bool = False) -> WanImageToVideoPipeline:
    """Image to video; `clip` gives it an image encoder, as Wan 2.1 has one."""
    torch.manual_seed(0)
    parts = {**_wan_parts(), "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0)}
    sees = {"image_dim": 4, "added_kv_proj_dim": 12} if clip else {}
    if clip:
        parts["image_encoder"] = CLIPVisionModelWithProjection(_vision()).eval()
        parts["image_processor"] = CLIPImageProcessor(crop_size=32, size=32)
    parts["transformer"] = wan_transformer(in_channels=12, **sees)
    parts["transformer_2"] = wan_transformer(in_channels=12, **sees) if experts else None
    return quiet(WanImageToVideoPipeline(**parts, boundary_ratio=0.7 if experts else None))


def wan_per_token(kind: type) -> WanPipeline | WanImageToVideoPipeline:
    """Wan 2.2 5B in small: every token has its own timestep, the VAE is residual and shrinks by 16."""
    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.7, 1.0, 1.2],
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    ).eval()
    parts = {**_wan_parts(), "vae": vae, "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0)}
    return quiet(kind(**parts, transformer=wan_transformer(), expand_timesteps=True))


def wan_transformer(**config) -> WanTransformer3DModel:
    small = {"num_attention_heads": 2, "attention_head_dim": 6, "num_layers": 2, "in_channels": 4}
    small |= {"out_channels": 4, "text_dim": 16, "freq_dim": 16, "ffn_dim": 16, "rope_max_seq_len": 32}
    return WanTransformer3DModel(**small | config).eval()


def ltx(kind: type = LTXPipeline, *, denoising_vae: bool = False) -> LTXPipeline:
    """LTX-Video; `denoising_vae` makes its decoder look at a timestep and draw noise, as that of 0.9.1."""
    torch.manual_seed(0)
    text = T5Config(vocab_size=128, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=6,
        cross_attention_dim=12,
        num_layers=2,
        caption_channels=16,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.9, max_shift=2.0, base_image_seq_len=1024, shift_terminal=0.1
    )
    vae = _ltx_vae(denoising_vae)
    vae.latents_mean.normal_(std=0.2)
    vae.latents_std.uniform_(0.5, 1.5)
    parts = {"scheduler": scheduler, "vae": vae, "transformer": transformer.eval()}
    return quiet(kind(**parts, text_encoder=T5EncoderModel(text).eval(), tokenizer=tokenizer(WORDS)))


def _ltx_vae(denoising: bool) -> AutoencoderKLLTXVideo:
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(denoising,) * 5,
        timestep_conditioning=denoising,
        patch_size=1,
    ).eval()
    for name, parameter in vae.named_parameters():
        if "per_channel_scale" in name:
            torch.nn.init.constant_(parameter, 0.5)  # as trained: at 0 no noise would be seen
    return vae


def _wan_parts() -> dict:
    vae = AutoencoderKLWan(
        base_dim=8,  # the decoder halves it: the norm of one channel would be its sign
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.7, 1.0, 1.2],
    )
    text = UMT5Config(vocab_size=128, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    return {"vae": vae.eval(), "text_encoder": UMT5EncoderModel(text).eval(), "tokenizer": tokenizer(WORDS)}


def _vision() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=4,
        projection_dim=4,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        intermediate_size=8,
        patch_size=8,
    )


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe
