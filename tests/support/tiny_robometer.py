"""A tiny random Robometer in LeRobot's format, with tokenizer and processor beside it."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mmreward.evals.published.scalars import WIDTH, config_of
from mmreward.mini import vlm_build
from mmreward.models.building import building

TOKENS = ("<|split_token|>", "<|reward_token|>", "<|pref_token|>", "<|sim_token|>", "<|prog_token|>")
BINS = 10
SEEN = "{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
NUMBERED = vlm_build.TEMPLATE.replace(SEEN, "{{- 'Picture: ' if add_vision_id else '' }}" + SEEN)
"""As Qwen's templates with `add_vision_id`, but for the number."""


def head(outputs: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    half = WIDTH // 2
    shapes = {"0.weight": (half, WIDTH), "0.bias": (half,), "1.weight": (half,), "1.bias": (half,)}
    shapes |= {"4.weight": (outputs, half), "4.bias": (outputs,)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def save_robometer(folder: Path) -> dict[str, Any]:
    """The arguments of `robometer`: its folder, and the words of ours."""
    from transformers import Qwen3VLForConditionalGeneration

    base, place = folder / "base", folder / "Robometer"
    processor = vlm_build.build_processor(patch=8, low=32 * 32, high=256 * 256)
    processor.chat_template = NUMBERED
    processor.save_pretrained(base)
    config = config_of("qwen3_vl", processor.tokenizer, len(processor.tokenizer) + len(TOKENS))
    with building():
        model = Qwen3VLForConditionalGeneration(config)
    draw = torch.Generator().manual_seed(4)
    state = {
        f"model.{name}": torch.randn(tensor.shape, generator=draw) * 0.15 if tensor.ndim > 1 else tensor
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    for name, outputs in (("progress_head", BINS), ("success_head", 1), ("preference_head", 1)):
        state |= {f"{name}.{key}": tensor for key, tensor in head(outputs, draw).items()}
    state["frame_pool_attn.weight"] = torch.randn((1, WIDTH), generator=draw)
    place.mkdir(parents=True)
    save_file({name: tensor.clone() for name, tensor in state.items()}, place / "model.safetensors")
    told = {
        "type": "robometer",
        "base_model_id": str(base),
        "use_multi_image": True,
        "use_per_frame_progress_token": True,
        "progress_loss_type": "discrete",
        "progress_discrete_bins": BINS,
        "vlm_config": config.to_dict(),
    }
    (place / "config.json").write_text(json.dumps(told))
    return {"weights": str(place), "words": "own"}
