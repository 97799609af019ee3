"""Tiny VLMs of the published families, with fresh weights and the real processors."""

import torch

from mmreward.mini import vlm_build


def qwen3(processor, **config):
    """Qwen3-VL of two layers, without DeepStack as the miniature, and its processor."""
    model = vlm_build.build_model(processor.tokenizer, width=64, depth=2)
    for name, value in config.items():
        setattr(model.config, name, value)
        setattr(model.config.text_config, name, value)
    return type(model)(model.config), processor


def qwen2_5(processor, **others):
    """Qwen2.5-VL of two layers, and its processor."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

    tokenizer = processor.tokenizer
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in vlm_build._TOKEN_IDS.items()}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
            "window_size": 32,
        },
        **ids,
        **others,
    )
    torch.manual_seed(4)
    parts = {"image_processor": processor.image_processor, "video_processor": processor.video_processor}
    other = Qwen2_5_VLProcessor(tokenizer=tokenizer, chat_template=vlm_build.TEMPLATE, **parts)
    return Qwen2_5_VLForConditionalGeneration(config), other
