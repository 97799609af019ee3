"""One request at a time through transformers, sharing nothing with the code under test but the weights."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image


class NaiveVLM(NamedTuple):
    """`inputs(images, text, answer, video)` is one request, processed as published; `video`, (T, 3, H, W) at
    two frames a second, is read whole and at the size it has."""

    model: Any
    processor: Any
    inputs: Callable[..., Any]


def load(folder: str) -> NaiveVLM:
    """A vision-language model of transformers."""
    from qwen_vl_utils.vision_process import fetch_image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor: Any = AutoProcessor.from_pretrained(folder)

    def inputs(
        images: Sequence[Image.Image], text: str, answer: str = "", video: torch.Tensor | None = None
    ) -> Any:
        shown = [*("image" for _ in images), *(() if video is None else ("video",))]
        content = [*({"type": kind} for kind in shown), {"type": "text", "text": text}]
        chat = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        size = processor.image_processor.size
        limits = {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
        patch = processor.image_processor.patch_size
        resized = [fetch_image({"image": image, **limits}, image_patch_size=patch) for image in images]
        clip: dict[str, Any] = {}
        if video is not None:
            about = {"total_num_frames": len(video), "fps": 2.0, "frames_indices": list(range(len(video)))}
            clip = {"videos": [video], "do_sample_frames": False, "video_metadata": [about]}
        return processor(
            text=[chat + answer], images=resized or None, do_resize=False, return_tensors="pt", **clip
        )

    return NaiveVLM(model, processor, inputs)


def naive_logprobs(
    naive: NaiveVLM,
    images: Sequence[Image.Image],
    text: str,
    answer: str = "",
    video: torch.Tensor | None = None,
) -> torch.Tensor:
    """(L, V): what the model thinks of every next token."""
    model, _, inputs = naive
    with torch.no_grad():
        model.model.rope_deltas = None
        found: torch.Tensor = model(**inputs(images, text, answer, video)).logits[0].log_softmax(-1)
    return found
