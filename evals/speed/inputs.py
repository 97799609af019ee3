"""Inputs of the speed comparison: sizes, random weights in the real formats, pictures, clips and words.

Every contender loads the weights as it would load a hub checkpoint. Each matrix is drawn with the spread that
keeps a signal's size through it: values then differ between questions and pictures, and an equality test
means something. Every round has pictures of its own, so no cache of any contender can help it from one round
to the next. Of the scales, "small" keeps the real geometry (patches of 16 merged by 2, deepstack, grouped
queries, CLIP ViT-B/32) at widths a laptop's processor can run; "large" has the widths and depths of
Qwen3-VL-2B and CLIP ViT-L/14; "toy" only shows that everything fits together. Knows nothing of timing.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
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

from mmreward import Media, Sample
from mmreward.mini import vlm_build
from mmreward.rewards.judged import critique, listener

PROMPTS = (
    "a red bicycle leaning against a white wall in the evening light",
    "two cats asleep on a blue sofa beside an open window",
    "a lighthouse on a cliff above a stormy sea, seen from a boat",
    "an old man reading a newspaper in a crowded station",
    "three green apples and a knife on a wooden table",
    "a small robot watering flowers on a balcony at dawn",
    "a mountain lake with a single yellow tent on the far shore",
    "a street market at night with lanterns over the stalls",
)
QUESTIONS = (
    "Is the main subject of the picture complete?",
    "Is there a person in the picture?",
    "Are all the objects that the request names visible?",
    "Is the number of objects right?",
    "Is anything in the picture blurred or out of focus?",
    "Is the light consistent with the time of day?",
    "Are the colours of the objects as the request demands?",
    "Is there any text in the picture?",
    "Does every shadow fall in the same direction?",
    "Is the background plausible for this scene?",
    "Are the proportions of the objects natural?",
    "Is the largest object in the middle?",
    "Are there objects that nobody asked for?",
    "Is the horizon level?",
    "Do the materials look real?",
    "Is the picture free of noise and distortion?",
)
THOUGHTS = (
    "The object in the middle is large and clearly outlined.",
    "Its colour is close to what was named, perhaps a little darker.",
    "I count the things on the left one by one and find them all.",
    "The light falls from the right and the shadows agree with it.",
    "Behind it there is an open space with little detail.",
    "The surface looks rough, as wood or stone would.",
    "One edge near the bottom is slightly blurred.",
    "Nothing in the background contradicts the scene.",
)
FPS = 2.0
"""Frames per second of a clip: as many as judges look at."""


def texts() -> list[str]:
    """Everything a judge will read, for its tokenizer."""
    fixed = [listener.PROMPT, critique.PROMPT, *critique.ASPECTS, *critique.ASPECTS.values()]
    words = "Answer Yes yes or No no. take user assistant system seconds Is it so in the left right half"
    return [*PROMPTS, *QUESTIONS, *THOUGHTS, *fixed, words]


def draw_pictures(folder: Path, sizes: Sequence[tuple[int, int]], seed: int) -> list[Path]:
    """Write one PNG file per (height, width): soft shapes with a little grain, like photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = []
    for index, (height, width) in enumerate(sizes):
        coarse = rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        grain = rng.integers(-6, 7, soft.shape)
        paths.append(folder / f"{index:04d}.png")
        Image.fromarray((soft + grain).clip(0, 255).astype(np.uint8)).save(paths[-1], compress_level=1)
    return paths


def draw_samples(
    media: Iterable[Path | Sequence[Path]], *, per_prompt: int = 1, questions: int = 4
) -> list[Sample]:
    """One sample for each picture or clip (a sequence of frames), with fresh `Media` that nobody has read.

    Every sample has a prompt (the same for `per_prompt` in a row), a checklist, and a response that argues.
    """
    checklist = [{"question": f"{text} Answer yes or no.", "answer": "yes"} for text in QUESTIONS[:questions]]
    samples = []
    for index, source in enumerate(media):
        number, again = divmod(index // per_prompt, len(PROMPTS))[::-1]
        clip = None if isinstance(source, Path) else Media(tuple(source), kind="video", fps=FPS)
        samples.append(
            Sample(
                id=str(index),
                prompt=PROMPTS[number] + (f", take {again}" if again else ""),
                image=Media(source) if clip is None else None,
                video=clip,
                response=f"<think>{_thought(index)}</think><answer>yes</answer>",
                target="yes",
                meta={"checklist": checklist},
            )
        )
    return samples


def _thought(index: int) -> str:
    return " ".join(THOUGHTS[(index + step) % len(THOUGHTS)] for step in range(5))


class Stack(NamedTuple):
    """A stack of transformer layers."""

    width: int
    depth: int
    heads: int
    hidden: int
    """Width inside the feed-forward part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Sizes of networks, pictures and sets.

    Args:
        text: the judge's language model.
        kv_heads: its key and value heads.
        eyes: the judge's vision tower, patches of 16.
        deepstack: layers of `eyes` whose output enters the language model early.
        clip_eyes, clip_text: both dual encoders' towers.
        clip_side, clip_patch: pixels of a dual encoder's input and of its patches.
        embedding: width of the dual encoders' common space.
        sizes: (height, width) of the pictures, in turn; multiples of 32, so that no judge resizes them.
        pictures: how many a checklist, a writing and a mixed set have.
        prompts: groups of the CLIP-family set; each has GROUP pictures.
        words: tokens a critique is long.
        frames: of a clip.
    """

    text: Stack
    kv_heads: int
    eyes: Stack
    deepstack: tuple[int, ...]
    clip_eyes: Stack
    clip_text: Stack
    clip_side: int
    clip_patch: int
    embedding: int
    sizes: tuple[tuple[int, int], ...]
    pictures: int
    prompts: int
    words: int
    frames: int


GROUP = 8
"""Samples of one prompt, as in GRPO."""

SCALES = {
    "toy": Scale(
        text=Stack(64, 2, 4, 128),
        kv_heads=2,
        eyes=Stack(32, 2, 2, 64),
        deepstack=(0,),
        clip_eyes=Stack(32, 2, 2, 64),
        clip_text=Stack(32, 2, 2, 64),
        clip_side=32,
        clip_patch=8,
        embedding=24,
        sizes=((64, 64), (64, 96)),
        pictures=2,
        prompts=1,
        words=6,
        frames=4,
    ),
    "small": Scale(
        text=Stack(512, 8, 8, 1536),
        kv_heads=2,
        eyes=Stack(384, 6, 6, 1536),
        deepstack=(1, 3),
        clip_eyes=Stack(768, 12, 12, 3072),
        clip_text=Stack(512, 12, 8, 2048),
        clip_side=224,
        clip_patch=32,
        embedding=512,
        sizes=((512, 512), (512, 640)),
        pictures=2,
        prompts=2,
        words=24,
        frames=4,
    ),
    "large": Scale(
        text=Stack(2048, 28, 16, 6144),
        kv_heads=8,
        eyes=Stack(1024, 24, 16, 4096),
        deepstack=(5, 11, 17),
        clip_eyes=Stack(1024, 24, 16, 4096),
        clip_text=Stack(768, 12, 12, 3072),
        clip_side=224,
        clip_patch=14,
        embedding=768,
        sizes=((1024, 1024), (768, 1024), (1024, 768), (512, 768)),
        pictures=16,
        prompts=16,
        words=128,
        frames=8,
    ),
}


PATCH = 16
MAX_PIXELS = 1 << 24


class Checkpoints:
    """Random weights of a scale, each drawn and saved when a workload first needs it.

    Args:
        folder: for them.
        scale: sizes.
        texts: whose words the judge's tokenizer knows.
        dtype: of the networks.
    """

    def __init__(self, folder: Path, scale: Scale, texts: Iterable[str], dtype: torch.dtype) -> None:
        self._folder, self._scale, self._texts, self._dtype = folder, scale, texts, dtype

    @cached_property
    def judge(self) -> Path:
        """A Qwen3-VL."""
        folder = self._folder / "judge"
        _save_judge(folder, self._scale, self._texts, self._dtype)
        return folder

    def encoders(self, count: int) -> tuple[Path, ...]:
        """Different dual encoders, so many of three."""
        places = tuple(self._folder / name for name in ("first", "second", "third")[:count])
        for seed, path in enumerate(places):
            if not path.exists():
                save_dual_encoder(path, self._scale, seed, self._dtype)
        return places

    def heads(self, count: int) -> tuple[Path, ...]:
        """Heads on the first dual encoder."""
        self._folder.mkdir(parents=True, exist_ok=True)
        places = tuple(self._folder / f"head-{number}.safetensors" for number in range(count))
        for seed, path in enumerate(places):
            drawn = torch.randn(1, self._scale.embedding, generator=torch.Generator().manual_seed(seed))
            save_file({"weight": drawn, "bias": torch.zeros(1)}, path)
        return places


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


def save_byte_tokenizer(folder: Path) -> tuple[CLIPTokenizer, dict[str, int]]:
    """A CLIP tokenizer that spells byte by byte, saved in a new folder, and what a text config says of it."""
    folder.mkdir(parents=True)
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    return CLIPTokenizer.from_pretrained(folder), {"vocab_size": len(words), **ends}


def save_dual_encoder(folder: Path, scale: Scale, seed: int, dtype: torch.dtype) -> None:
    """A CLIP in transformers format, its tokenizer spelling byte by byte."""
    tokenizer, vocabulary = save_byte_tokenizer(folder)
    side = {"image_size": scale.clip_side, "patch_size": scale.clip_patch}
    config = CLIPConfig(
        text_config={**_stack(scale.clip_text), **vocabulary},
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
