"""Tiny checkpoints with random weights, saved in the real formats, for parity with the upstream packages."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_vlms import qwen2_5

from mmreward import Engine
from mmreward.evals.published import vlm as naive_vlm
from mmreward.mini import vlm_build
from mmreward.mini.world import render, sample_scene


@pytest.fixture(scope="session")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture(scope="session")
def pictures():
    """Photo-like noise in three aspect ratios, and a scene."""
    rng = np.random.default_rng(0)
    shapes = [(48, 48), (40, 90), (120, 33)]
    noise = [
        Image.fromarray(rng.integers(0, 256, (h // 4, w // 4, 3), dtype=np.uint8)).resize((w, h))
        for h, w in shapes
    ]
    return [*noise, render(sample_scene(rng), 64)]


def save_clip_tokenizer(folder: Path) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A CLIP of a few thousand weights in transformers format."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    save_clip_tokenizer(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**size, "vocab_size": len(tokenizer), "bos_token_id": 512, "eos_token_id": 513},
        vision_config={**size, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def open_clip_folder(tmp_path_factory):
    """An open_clip model from a JSON config, with open_clip's own tokenizer."""
    import open_clip
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("open_clip")
    model_cfg = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    preprocess_cfg = {
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
        "interpolation": "bicubic",
        "resize_mode": "longest",
    }
    torch.manual_seed(1)
    model = open_clip.CLIP(**model_cfg)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture(scope="session")
def siglip_folder(tmp_path_factory):
    """A SigLIP of a few thousand weights in transformers format, with four words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import (
        PreTrainedTokenizerFast,
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
        SiglipProcessor,
    )

    folder = tmp_path_factory.mktemp("siglip")
    core = Tokenizer(WordLevel({"<pad>": 0, "<unk>": 1, "red": 2, "circle": 3}, unk_token="<unk>"))
    core.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", model_input_names=["input_ids"]
    )
    size = {"hidden_size": 24, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(6)
    config = SiglipConfig(
        text_config={**size, "vocab_size": 4, "max_position_embeddings": 16},
        vision_config={**size, "image_size": 32, "patch_size": 8},
    )
    SiglipModel(config).save_pretrained(folder)
    images = SiglipImageProcessor(size={"height": 32, "width": 32})
    SiglipProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(2)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        id2label={0: "artifact", 1: "clean", 2: "other"},
        label2id={"artifact": 0, "clean": 1, "other": 2},
        initializer_range=0.3,
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session", params=["qwen3_vl", "qwen2_5_vl", "qwen2_vl", "qwen3_5"])
def vlm_folder(request, tmp_path_factory):
    """A tiny VLM of each family with the real processor, random weights large enough to have opinions."""
    folder = tmp_path_factory.mktemp(request.param)
    processor = vlm_build.build_processor()
    torch.manual_seed(3)
    if request.param == "qwen3_vl":
        config = vlm_build.build_model(processor.tokenizer, width=64, depth=2).config
        config.vision_config.deepstack_visual_indexes = [
            0,
            2,
        ]  # as the published models have, the miniature not
        model = type(vlm_build.build_model(processor.tokenizer, width=64, depth=2))(config)
    elif request.param == "qwen2_5_vl":
        model, processor = qwen2_5(processor)
    elif request.param == "qwen2_vl":
        model, processor = qwen2(processor)
    else:
        model = qwen3_5(processor.tokenizer)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def naive(vlm_folder):
    return naive_vlm.load(vlm_folder)


def qwen2(processor):
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = processor.tokenizer
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in vlm_build._TOKEN_IDS.items()}
    config = Qwen2VLConfig(
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
            "embed_dim": 32,
            "hidden_size": 64,
            "mlp_ratio": 2,
            "num_heads": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
        },
        **ids,
    )
    torch.manual_seed(5)
    shape = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2}
    videos = Qwen2VLVideoProcessor(size={"shortest_edge": 4096, "longest_edge": 4096}, **shape)
    parts = {"image_processor": processor.image_processor, "video_processor": videos}
    other = Qwen2VLProcessor(tokenizer=tokenizer, chat_template=vlm_build.TEMPLATE, **parts)
    return Qwen2VLForConditionalGeneration(config), other


def qwen3_5(tokenizer):
    """Three layers in four are linear attention, as in the published models."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    config = Qwen3_5Config(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
                "partial_rotary_factor": 0.25,
            },
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
            "num_position_embeddings": 64,
        },
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in vlm_build._TOKEN_IDS.items()},
    )
    return Qwen3_5ForConditionalGeneration(config)
