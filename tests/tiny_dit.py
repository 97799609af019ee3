"""Diffusers pipelines of transformers, tiny and random, with tokenizers made on the spot: no hub, no files.

Weights are larger than a fresh network's, so that prompts, sizes and guidance show in the pixels.
"""

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

DYNAMIC = {
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 4,
    "max_image_seq_len": 64,
}
"""A scheduler's shift by resolution, scaled to pictures of a few tokens."""


def sd3(t5: bool = True, **scheduler: Any) -> StableDiffusion3Pipeline:
    """2 x 2 pixels per latent, patches of 2 latents, 64 x 64 pixels by default."""
    torch.manual_seed(0)
    parts = {
        "transformer": SD3Transformer2DModel(
            sample_size=32,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            pos_embed_max_size=32,
        ),
        "text_encoder": CLIPTextModelWithProjection(_clip_config(16)),
        "text_encoder_2": CLIPTextModelWithProjection(_clip_config(16)),
        "text_encoder_3": t5_encoder() if t5 else None,
        "vae": vae(4),
    }
    words = clip_tokenizer()
    return StableDiffusion3Pipeline(
        **_loud(parts),
        scheduler=FlowMatchEulerDiscreteScheduler(**scheduler),
        tokenizer=words,
        tokenizer_2=words,
        tokenizer_3=t5_tokenizer() if t5 else None,
    )


def flux(
    guided: bool = True, kind: type[FluxPipeline | FluxKontextPipeline] = FluxPipeline, **scheduler: Any
) -> FluxPipeline | FluxKontextPipeline:
    """2 x 2 pixels per latent."""
    torch.manual_seed(0)
    parts = {
        "transformer": FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=guided,
        ),
        "text_encoder": CLIPTextModel(_clip_config(16)),
        "text_encoder_2": t5_encoder(),
        "vae": vae(4),
    }
    return kind(
        **_loud(parts),
        scheduler=FlowMatchEulerDiscreteScheduler(**scheduler),
        tokenizer=clip_tokenizer(),
        tokenizer_2=t5_tokenizer(),
    )


def vae(channels: int) -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0609,
        scaling_factor=1.5035,
    )


def t5_encoder() -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(vocab_size=200, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, dropout_rate=0.1)
    )


def _clip_config(projection: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(clip_tokenizer()),
        hidden_size=16,
        intermediate_size=37,
        projection_dim=projection,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=24,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def clip_tokenizer() -> CLIPTokenizer:
    """One token per byte, cut at 24."""
    letters = sorted(ByteLevel.alphabet())
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=24)


def t5_tokenizer() -> T5Tokenizer:
    """One token per printable character."""
    pieces = ["<pad>", "</s>", "<unk>", "\u2581", *(chr(code) for code in range(33, 127))]
    return T5Tokenizer(vocab=[(piece, -1.0) for piece in pieces])


def _loud(parts: dict[str, Any]) -> dict[str, Any]:
    """Networks in evaluation mode with random weights of unit gain, so that nothing is close to a no-op."""
    for network in parts.values():
        if network is None:
            continue
        network.eval()
        for name, weight in network.named_parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=(weight[0].numel()) ** -0.5)
            elif name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.1)
    return parts
