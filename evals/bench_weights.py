"""Random weights in the real formats, so that every contender loads them as it would load a hub checkpoint.

Each matrix is drawn with the spread that keeps a signal's size through it: values then differ between
questions and pictures, and an equality test means something.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    GenerationConfig,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from mmreward.mini import vlm_build

from .bench_scales import Scale, Stack

NUM_HEADS = 3
PATCH = 16
MAX_PIXELS = 1 << 24


class Checkpoints(NamedTuple):
    """Where the weights lie: one judge, two dual encoders, and heads on the first of these."""

    judge: Path
    first: Path
    second: Path
    heads: tuple[Path, ...]


def save_all(folder: Path, scale: Scale, texts: Iterable[str], dtype: torch.dtype) -> Checkpoints:
    """Draw and save every checkpoint; the judge's tokenizer knows the words of `texts`."""
    _save_judge(folder / "judge", scale, texts, dtype)
    for seed, name in enumerate(("first", "second")):
        save_dual_encoder(folder / name, scale, seed, dtype)
    heads = tuple(folder / f"head-{number}.safetensors" for number in range(NUM_HEADS))
    for seed, path in enumerate(heads):
        drawn = torch.randn(1, scale.embedding, generator=torch.Generator().manual_seed(seed))
        save_file({"weight": drawn, "bias": torch.zeros(1)}, path)
    return Checkpoints(folder / "judge", folder / "first", folder / "second", heads)


def judge_config(scale: Scale, tokenizer: Any) -> Qwen3VLConfig:
    """A Qwen3-VL of this scale around the tokenizer."""
    text, eyes = scale.text, scale.eyes
    size = text.width // text.heads
    pairs = size // 2
    sections = [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3]
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": sections, "mrope_interleaved": True}
    marks = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    marks |= {f"vision_{end}_token_id": f"<|vision_{end}|>" for end in ("start", "end")}
    return Qwen3VLConfig(
        text_config={
            **_stack(text),
            "vocab_size": len(tokenizer),
            "num_key_value_heads": scale.kv_heads,
            "head_dim": size,
            "max_position_embeddings": 1 << 15,
            "rope_parameters": rope,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": eyes.depth,
            "hidden_size": eyes.width,
            "intermediate_size": eyes.hidden,
            "num_heads": eyes.heads,
            "patch_size": PATCH,
            "out_hidden_size": text.width,
            "deepstack_visual_indexes": list(scale.deepstack),
        },
        tie_word_embeddings=True,
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in marks.items()},
    )


def _save_judge(folder: Path, scale: Scale, texts: Iterable[str], dtype: torch.dtype) -> None:
    processor = vlm_build.build_processor(texts, patch=PATCH, low=32 * 32, high=MAX_PIXELS)
    tokenizer = processor.tokenizer
    model = _drawn(Qwen3VLForConditionalGeneration(judge_config(scale, tokenizer)), seed=0)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.to(dtype).save_pretrained(folder)
    processor.save_pretrained(folder)


def save_dual_encoder(folder: Path, scale: Scale, seed: int, dtype: torch.dtype) -> None:
    """A CLIP in transformers format, its tokenizer spelling byte by byte."""
    folder.mkdir(parents=True)
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    side = {"image_size": scale.clip_side, "patch_size": scale.clip_patch}
    config = CLIPConfig(
        text_config={**_stack(scale.clip_text), **ends, "vocab_size": len(tokenizer)},
        vision_config={**_stack(scale.clip_eyes), **side},
        projection_dim=scale.embedding,
    )
    _drawn(CLIPModel(config), seed + 1).to(dtype).save_pretrained(folder)
    square = {"height": scale.clip_side, "width": scale.clip_side}
    pictures = CLIPImageProcessor(size={"shortest_edge": scale.clip_side}, crop_size=square)
    CLIPProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(folder)


def _stack(stack: Stack) -> dict[str, int]:
    return {
        "hidden_size": stack.width,
        "num_hidden_layers": stack.depth,
        "num_attention_heads": stack.heads,
        "intermediate_size": stack.hidden,
    }


def _drawn(model: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            fan_in = parameter[0].numel()
            torch.nn.init.normal_(parameter, std=fan_in**-0.5, generator=generator)
    return model
