"""Tree packing: a branch of a packed row is answered as if it were asked alone."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from mmreward.mini.vlm import Branch, Row, pack
from mmreward.mini.vlm_build import build_model, build_processor
from mmreward.mini.vlm_pretrain import draw_picture, draw_scene, patchify

BRANCHES = (
    Branch("Is there a red circle? Answer yes or no.", "yes"),
    Branch(
        "Locate every shape. Answer with a JSON list of bbox_2d and label.",
        '[{"bbox_2d": [0, 16, 1000, 500], "label": "x"}]',
    ),
    Branch("How many shapes are there? Answer with one number.", "3"),
)


@pytest.fixture(scope="module")
def processor() -> Qwen3VLProcessor:
    return build_processor()


@pytest.fixture(scope="module")
def model(processor: Qwen3VLProcessor) -> Qwen3VLForConditionalGeneration:
    torch.manual_seed(0)
    return build_model(processor.tokenizer, width=64, depth=2).eval()


def pictures(count: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(count)
    return tuple(draw_picture(draw_scene(rng), rng).pixels for _ in range(count))


@torch.no_grad()
def test_packed_equals_alone(processor: Qwen3VLProcessor, model: Qwen3VLForConditionalGeneration) -> None:
    rows = [Row(pictures(1), BRANCHES), Row(pictures(2), BRANCHES[::-1][:2])]
    batch = pack(rows, processor.tokenizer)
    packed = batch.logits(model)
    alone, said = [], []
    for row in rows:
        seen = [Image.fromarray(picture) for picture in row.pictures]
        for branch in row.branches:
            content = [*({"type": "image"} for _ in seen), {"type": "text", "text": branch.question}]
            turns = [{"role": "user", "content": content}]
            header = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            answer = branch.answer + "<|im_end|>"
            inputs = processor(text=[header + answer], images=seen, return_tensors="pt")
            size = len(processor.tokenizer(answer, add_special_tokens=False)["input_ids"])
            alone.append(model(**inputs, use_cache=False).logits[0, -size - 1 : -1])
            said.append(inputs["input_ids"][0, -size:])
    assert torch.equal(batch.targets, torch.cat(said))
    assert torch.allclose(packed, torch.cat(alone), atol=1e-4)


def test_patches_equal_the_processor(processor: Qwen3VLProcessor) -> None:
    seen = pictures(6)
    wanted = processor.image_processor(images=[Image.fromarray(p) for p in seen], return_tensors="pt")
    assert torch.equal(patchify(list(seen)), wanted["pixel_values"])


def test_every_answer_weighs_the_same(processor: Qwen3VLProcessor) -> None:
    batch = pack([Row(pictures(1), BRANCHES)], processor.tokenizer)
    assert batch.weights.sum().item() == pytest.approx(len(BRANCHES))
