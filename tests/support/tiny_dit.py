"""Diffusers pipelines of transformers, tiny and random, with tokenizers made on the spot: no hub, no files.

Weights are larger than a fresh network's, so that prompts, sizes and guidance show in the pixels.
"""

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3Config,
    Qwen3Model,
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

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


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


def qwen_image(**scheduler: Any) -> QwenImagePipeline:
    """4 x 4 pixels per latent."""
    return QwenImagePipeline(**_qwen_parts(scheduler))


def qwen_image_edit(
    plus: bool = False, **scheduler: Any
) -> QwenImageEditPipeline | QwenImageEditPlusPipeline:
    """4 x 4 pixels per latent; the text encoder sees 28 x 28 pixels per token."""
    parts = _qwen_parts(scheduler)
    words = parts["tokenizer"]
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(size={"shortest_edge": 28 * 28, "longest_edge": 56 * 56}),
        words,
        Qwen2VLVideoProcessor(),
        chat_template=CHAT,
    )
    return (QwenImageEditPlusPipeline if plus else QwenImageEditPipeline)(processor=processor, **parts)


def _qwen_parts(scheduler: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    words = qwen_tokenizer()
    networks = {
        "transformer": QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ),
        "text_encoder": Qwen2_5_VLForConditionalGeneration(_qwen_vl_config(words)),
        "vae": AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 0.8, 1.2, 1.0],
        ),
    }
    return {
        **_loud(networks),
        "scheduler": FlowMatchEulerDiscreteScheduler(**scheduler),
        "tokenizer": words,
    }


def _qwen_vl_config(words: Qwen2Tokenizer) -> Qwen2_5_VLConfig:
    ids = {name: words.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    return Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1000000.0},
            "vocab_size": len(words),
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            "fullatt_block_indexes": [1],
        },
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        image_token_id=words.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=words.convert_tokens_to_ids("<|video_pad|>"),
    )


def z_image(**scheduler: Any) -> ZImagePipeline:
    """2 x 2 pixels per latent."""
    torch.manual_seed(0)
    words = qwen_tokenizer()
    networks = {
        "transformer": ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[8, 4, 4],
            axes_lens=[256, 32, 32],
        ),
        "text_encoder": Qwen3Model(
            Qwen3Config(
                vocab_size=len(words),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
            )
        ),
        "vae": vae(4),
    }
    scheduler = FlowMatchEulerDiscreteScheduler(**scheduler)
    return ZImagePipeline(**_loud(networks), scheduler=scheduler, tokenizer=words)


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


def qwen_tokenizer() -> Qwen2Tokenizer:
    """One token per byte, and the special tokens of Qwen's chats."""
    marks = ["im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad"]
    pieces = ["<|endoftext|>", *sorted(ByteLevel.alphabet())]
    return Qwen2Tokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[],
        additional_special_tokens=[f"<|{mark}|>" for mark in marks],
        chat_template=CHAT,
    )


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
