"""Random Stable Diffusion pipelines of every kind, a few channels wide, in the real format."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

WIDTH = 16
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
"""Of every Stable Diffusion model."""
DDIM: dict[str, Any] = {**BETAS, "clip_sample": False, "set_alpha_to_one": True, "steps_offset": 1}


def tokenizer() -> CLIPTokenizer:
    """CLIP's rules with the letters alone for a vocabulary."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({token: i for i, token in enumerate(tokens)}, [], model_max_length=77)


def text_encoder(kind: Any = CLIPTextModel) -> Any:
    words = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return kind(config)


def vae() -> AutoencoderKL:
    """Halves each side; its posterior has next to no variance, so that a draw from it is its mean."""
    made = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )
    with torch.no_grad():
        made.quant_conv.weight[4:] = 0
        made.quant_conv.bias[4:] = -30
    return made


def unet(in_channels: int = 4, width: int = WIDTH, **config: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=4,
        cross_attention_dim=width,
        **config,
    )


def pipeline(*, scheduler: Any = None, inpaints: bool = False, **config: Any) -> Any:
    """Of the kind of Stable Diffusion 1 and 2."""
    torch.manual_seed(0)
    kind = StableDiffusionInpaintPipeline if inpaints else StableDiffusionPipeline
    return _quiet(
        kind(
            vae(),
            text_encoder(),
            tokenizer(),
            unet(9 if inpaints else 4, **config),
            scheduler or DDIMScheduler(**DDIM),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def pipeline_xl(*, scheduler: Any = None, inpaints: bool = False, **config: Any) -> Any:
    """Of the kind of SDXL: two text encoders, and sizes as conditions."""
    torch.manual_seed(0)
    kind = StableDiffusionXLInpaintPipeline if inpaints else StableDiffusionXLPipeline
    conditions = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": WIDTH + 6 * 4,
    }
    return _quiet(
        kind(
            vae(),
            text_encoder(),
            text_encoder(CLIPTextModelWithProjection),
            tokenizer(),
            tokenizer(),
            unet(9 if inpaints else 4, 2 * WIDTH, **conditions),
            scheduler or DDIMScheduler(**DDIM),
            add_watermarker=False,
            **config,
        )
    )


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe
