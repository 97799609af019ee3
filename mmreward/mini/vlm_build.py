"""Tokenizer, processor, chat template, configuration and fresh weights of the mini-vlm.

They are saved and loaded as a normal Qwen3-VL checkpoint. This file knows the words of the tasks but not how
the model is trained on them.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from . import tasks

SIDE = 64
"""Every square picture is brought to SIDE x SIDE pixels: the only resolution the model is trained on."""
PATCH, MERGE = 8, 2
CELLS = (SIDE // (PATCH * MERGE)) ** 2
"""Image tokens of one square picture."""
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<unk>",
)
MARKS = ("<tool_call>", "</tool_call>", "<think>", "</think>", "<answer>", "</answer>")
"""Tokens that decoding keeps."""
PHRASES = ('{"bbox_2d": [', '], "label": "', '"}')
"""The fixed parts of a box in JSON, one token each: a box costs a dozen tokens instead of thirty-five."""
SPLIT = "|".join(
    (*map(re.escape, PHRASES), r", (?=[0-9{])", " ?[a-z]+", "1000|[1-9][0-9]{0,2}|0", r"[^a-z0-9]")
)

TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- else %}
        {%- for item in message.content %}
            {%- if item.type == 'image' or 'image' in item or 'image_url' in item %}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif item.type == 'video' or 'video' in item %}
                {{- '<|vision_start|><|video_pad|><|vision_end|>' }}
            {%- elif 'text' in item %}
                {{- item.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Word-level tokenizer over the words of `texts`, each with and without a leading space, and 0 to 1000.

    Decoding is concatenation, so text in known words comes back exactly, in lower case.
    """
    pieces = [f"{gap}{word}" for word in sorted(_words(texts)) for gap in ("", " ")]
    pieces += [str(number) for number in range(1001)]
    pieces += [chr(code) for code in range(32, 127) if not chr(code).isalnum()]
    pieces += ["\n", "\t", ", ", *PHRASES]
    vocabulary = {piece: index for index, piece in enumerate([*SPECIALS, *MARKS, *dict.fromkeys(pieces)])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIALS])
    core.add_tokens([AddedToken(token, normalized=False, special=False) for token in MARKS])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE,
        model_max_length=2048,
    )


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall("[a-z]+", text.lower())}


def build_processor(
    texts: Iterable[str] | None = None, *, patch: int = PATCH, low: int = SIDE * SIDE, high: int = SIDE * SIDE
) -> Qwen3VLProcessor:
    """Qwen3-VL processor; by default 64 x 64 pixels per square picture, patches of 8, 16 image tokens.

    Args:
        texts: whose words the tokenizer knows; None takes the tasks'.
        patch: side of a patch in pixels.
        low, high: pictures with fewer or more pixels are resized.
    """
    shape = {"patch_size": patch, "merge_size": MERGE, "temporal_patch_size": 2}
    scale = {"image_mean": list(MEAN), "image_std": list(STD)}
    pixels = {"shortest_edge": low, "longest_edge": high}
    clip = {"shortest_edge": low * 2, "longest_edge": high * 32}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, **shape, **scale),
        tokenizer=build_tokenizer(tasks.words() if texts is None else texts),
        video_processor=Qwen3VLVideoProcessor(size=clip, cap_pixels_per_frame=False, **shape, **scale),
        chat_template=TEMPLATE,
    )


def build_model(
    tokenizer: PreTrainedTokenizerFast, *, width: int = 192, depth: int = 5
) -> Qwen3VLForConditionalGeneration:
    """Qwen3-VL model with fresh weights, about five million weights at the default size."""
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in _TOKEN_IDS.items()}
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": width * 8 // 3,
            "num_hidden_layers": depth,
            "num_attention_heads": width // 32,
            "num_key_value_heads": width // 32,
            "head_dim": 32,
            "max_position_embeddings": 2048,
            "initializer_range": 0.05,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 160,
            "intermediate_size": 640,
            "num_heads": 5,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "out_hidden_size": width,
            "num_position_embeddings": (SIDE // PATCH) ** 2,
            "deepstack_visual_indexes": [],
            "initializer_range": 0.05,
        },
        tie_word_embeddings=True,
        **ids,
    )
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=256,
    )
    return model


_TOKEN_IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


def save(model: Qwen3VLForConditionalGeneration, processor: Qwen3VLProcessor, folder: Path) -> None:
    """Write a checkpoint that `AutoModelForImageTextToText` and `AutoProcessor` load.

    The weights are stored in half precision and load as float32, in which they were trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copy = Qwen3VLForConditionalGeneration(model.config)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = model.generation_config
    copy.to(torch.float16).save_pretrained(folder)
    processor.save_pretrained(folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"float16"', '"float32"'))
