"""One request at a time through transformers, sharing nothing with the code under test but the weights."""

import torch


def load(folder):
    """(model, processor, inputs): `inputs(images, text, answer)` is one request, processed as published."""
    from qwen_vl_utils.vision_process import fetch_image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)

    def inputs(images, text, answer=""):
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": text}]
        chat = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        size = processor.image_processor.size
        limits = {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
        patch = processor.image_processor.patch_size
        resized = [fetch_image({"image": image, **limits}, image_patch_size=patch) for image in images]
        return processor(text=[chat + answer], images=resized or None, do_resize=False, return_tensors="pt")

    return model, processor, inputs


def naive_logprobs(naive, images, text, answer=""):
    """(L, V): what the model thinks of every next token."""
    model, _, inputs = naive
    with torch.no_grad():
        model.model.rope_deltas = None
        return model(**inputs(images, text, answer)).logits[0].log_softmax(-1)
