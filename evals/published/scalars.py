"""Tiny scalar reward models on Qwen-VL bodies, saved as their publishers save them.

The bodies have random weights and the words of the miniature's tokenizer; prompts are of our own, in files of
the publishers' form (`stand_ins`).
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mmreward.mini import vlm_build
from mmreward.models import pins
from mmreward.models.building import building
from mmreward.models.pinned import Pin

WIDTH = 64
PATCH = 8
INSTRUCTION = (
    "\nIs it the picture?\nYes or no: the shape, the colour, the place.\nTextual prompt - {text_prompt}\n\n"
)
END = "\nHow many are there: <|Reward|>\n\nEND\n"
CLIP = (
    "\nIs it the shape?\nRate it: <|VQ_reward|>\nEND\nhow many: <|MQ_reward|>\nEND\n"
    "Textual prompt - {text_prompt}\nyes or no: <|TA_reward|>\nEND\n"
)
FRAMES = 'Rate this in five ways.\nThe text is "{text_prompt}", the frames are:\n'
EDITS = (
    "\nIs it the colour?\nTextual prompt - {text_prompt}\nyes\n",
    "\nIs it the shape, the place?\nhow many: {text_prompt}\nno\n",
)
TEXTS = {
    "editreward following": EDITS[0],
    "editreward quality": EDITS[1],
    "editreward end": END,
} | {"hpsv3": INSTRUCTION, "hpsv3 end": END, "videoreward": CLIP, "videoscore": FRAMES}
"""Name of a published text -> what stands for it."""


@contextmanager
def stand_ins() -> Iterator[Mapping[str, Pin]]:
    """Block in which the hashes of published texts are those of our own."""
    published = dict(pins.PINS)
    try:
        for name, text in TEXTS.items():
            digest = hashlib.sha256(text.encode()).hexdigest()
            pins.PINS[name] = replace(published[name], sha256=digest)
        yield published
    finally:
        pins.PINS.update(published)


def worded(folder: Path, **texts: str) -> str:
    """A folder with texts by name, as `words` of a reward."""
    place = folder / "words"
    place.mkdir(exist_ok=True, parents=True)
    for name, text in texts.items():
        (place / f"{name}.txt").write_text(text)
    return str(place)


def save_base(folder: Path, family: str = "qwen2_vl", *, weights: bool = False) -> str:
    """A body's repository: configuration, tokenizer, processor; its weights where they are wanted."""
    from transformers import AutoModelForImageTextToText, Qwen2VLProcessor, Qwen2VLVideoProcessor

    processor = vlm_build.build_processor(patch=PATCH, low=32 * 32, high=4096 * 4096)
    shape = {"patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2}
    videos = Qwen2VLVideoProcessor(size={"shortest_edge": 32 * 32, "longest_edge": 4096 * 4096}, **shape)
    tokenizer = processor.tokenizer
    parts = {"image_processor": processor.image_processor, "video_processor": videos}
    Qwen2VLProcessor(tokenizer=tokenizer, chat_template=vlm_build.TEMPLATE, **parts).save_pretrained(folder)
    # As on the hub, the embedding has more rows than there are tokens.
    config = config_of(family, tokenizer, len(tokenizer) + 7)
    config.save_pretrained(folder)
    if weights:
        with building():
            model = AutoModelForImageTextToText.from_config(config)
        _randomised(model, 3).save_pretrained(folder)
    return str(folder)


def config_of(family: str, tokenizer: Any, vocabulary: int) -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig

    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in vlm_build._TOKEN_IDS.items()}
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]}
    if family == "qwen3_vl":
        rope = {**rope, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    text = {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "rope_parameters": rope,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = {
        "depth": 2,
        "num_heads": 2,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "intermediate_size": 64,
    }
    if family == "qwen2_vl":
        text.pop("head_dim")
        own = {"embed_dim": 32, "hidden_size": WIDTH, "mlp_ratio": 2}
        return Qwen2VLConfig(text_config=text, vision_config={**vision, **own}, **ids)
    own = {"hidden_size": 32, "out_hidden_size": WIDTH}
    if family == "qwen2_5_vl":
        text.pop("head_dim")
        more = {"fullatt_block_indexes": [1], "window_size": 32}
        return Qwen2_5_VLConfig(text_config=text, vision_config={**vision, **own, **more}, **ids)
    more = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    return Qwen3VLConfig(text_config=text, vision_config={**vision, **own, **more}, **ids)


def full_state(base: str, tokens: tuple[str, ...], seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors of a fine-tuned body under the names of transformers before 4.52, with a row for each token."""
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

    config = AutoConfig.from_pretrained(base)
    if tokens:
        config.get_text_config().vocab_size = len(AutoTokenizer.from_pretrained(base)) + len(tokens)
    with building():
        model = AutoModelForImageTextToText.from_config(config)
    state = _randomised(model, seed).state_dict()
    return {published_name(name): tensor.clone() for name, tensor in state.items()}


def published_name(name: str) -> str:
    """The name of a tensor in transformers before 4.52."""
    return name.replace("model.visual.", "visual.").replace("model.language_model.", "model.")


def _randomised(model: torch.nn.Module, seed: int) -> Any:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
    return model.eval()


def ranknet(prefix: str, seed: int, outputs: int = 2) -> dict[str, torch.Tensor]:
    """A head of HPSv3's form: three linear layers at 0, 3 and 5."""
    draw = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for index, width, inputs in ((0, 40, WIDTH), (3, 16, 40), (5, outputs, 16)):
        state[f"{prefix}.{index}.weight"] = torch.randn(width, inputs, generator=draw) / inputs**0.5
        state[f"{prefix}.{index}.bias"] = torch.randn(width, generator=draw) / 4
    return state


def save_hpsv3(folder: Path) -> dict[str, Any]:
    """HPSv3's file, a body beside it, and our prompt."""
    folder.mkdir(exist_ok=True)
    base = save_base(folder)
    file = folder / "HPSv3.safetensors"
    save_file({**full_state(base, ("<|Reward|>",)), **ranknet("rm_head", 1)}, file)
    return {"weights": str(file), "base": base, "words": worded(folder, prompt=INSTRUCTION + END)}


def save_editreward(folder: Path) -> dict[str, Any]:
    """EditReward's file, with two heads, a body beside it, and our prompts."""
    folder.mkdir(exist_ok=True)
    base = save_base(folder, "qwen2_5_vl")
    file = folder / "model.safetensors"
    heads = {**ranknet("rm_heads.head_0", 5), **ranknet("rm_heads.head_1", 6)}
    save_file({**full_state(base, ("<|Reward|>",), 4), **heads}, file)
    return {
        "weights": str(file),
        "base": base,
        "words": worded(folder, following=EDITS[0] + END, quality=EDITS[1] + END),
    }


DIMENSIONS = ("VQ", "MQ", "TA")
STANDARD = {"VQ": (3.6757, 2.2476), "MQ": (1.1646, 1.3811), "TA": (2.8105, 2.5121)}
"""Mean and deviation of the published checkpoint."""
LORA = {"lora_enable": True, "lora_r": 4, "lora_alpha": 8, "use_rslora": False}


def save_videoreward(folder: Path, *, adapters: bool = False, pixels: int = 200_704) -> dict[str, Any]:
    """VideoReward's folder, whole or as adapters beside a body, which is the same network, and our prompt."""
    folder.mkdir(exist_ok=True)
    tokens = tuple(f"<|{name}_reward|>" for name in DIMENSIONS)
    base = save_base(folder / "body", weights=adapters)
    place = folder / "VideoReward" / "checkpoint-11352"
    place.mkdir(parents=True)
    scales = {f"{name}_mean": mean for name, (mean, _) in STANDARD.items()}
    scales |= {f"{name}_std": deviation for name, (_, deviation) in STANDARD.items()}
    config = {
        "data_config": {
            "meta_data": "x.csv",
            "data_dir": "x",
            "max_frame_pixels": pixels,
            "num_frames": None,
            "fps": 2.0,
            "eval_dim": list(DIMENSIONS),
            "prompt_template_type": "detailed_special",
            "sample_type": "uniform",
        },
        "model_config": {"use_special_tokens": True, "reward_token": "special", "output_dim": 3},
        "peft_lora_config": LORA,
        "inference_config": scales,
    }
    (folder / "VideoReward" / "model_config.json").write_text(json.dumps(config))
    state = adapted(full_state(base, tokens), tokens=tokens, trained=base if adapters else None)
    if adapters:
        lora = {name.replace(".default", ""): tensor for name, tensor in state.items() if ".lora_" in name}
        save_file(lora, place / "adapter_model.safetensors")
        kept = ("visual.", "rm_head.", "embed_tokens.")
        rest = {name: tensor for name, tensor in state.items() if any(part in name for part in kept)}
        torch.save(rest, place / "non_lora_state_dict.pth")
    else:
        torch.save(state, place / "model.pth")
    return {"weights": str(folder / "VideoReward"), "base": base, "words": worded(folder, prompt=CLIP)}


def adapted(
    state: dict[str, torch.Tensor], tokens: tuple[str, ...], trained: str | None
) -> dict[str, torch.Tensor]:
    """The state as peft saves it: adapters on every linear layer of the language model, and a head.

    Args:
        state: of a whole body.
        tokens: that were added.
        trained: a body whose language model is adapted in the place of the state's.
    """
    if trained is not None:
        from transformers import AutoModelForImageTextToText

        own = AutoModelForImageTextToText.from_pretrained(trained).state_dict()
        named = {published_name(name): tensor for name, tensor in own.items()}
        state = {n: named[n] if ".layers." in n or n == "model.norm.weight" else t for n, t in state.items()}
    draw = torch.Generator().manual_seed(8)
    wrapped: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if re.fullmatch(r"model\.layers\..*_proj\.weight", name):
            width, inputs = tensor.shape
            wrapped[f"{stem}.base_layer.weight"] = tensor
            wrapped[f"{stem}.lora_A.default.weight"] = torch.randn(4, inputs, generator=draw) / 8
            wrapped[f"{stem}.lora_B.default.weight"] = torch.randn(width, 4, generator=draw) / 8
        elif re.fullmatch(r"model\.layers\..*_proj\.bias", name):
            wrapped[f"base_model.model.{name.removesuffix('.bias')}.base_layer.bias"] = tensor
        else:
            wrapped[f"base_model.model.{name}"] = tensor
    head = torch.randn(len(tokens), WIDTH, generator=draw) / 4
    return {**wrapped, "base_model.model.rm_head.weight": head}


def save_skywork(folder: Path) -> dict[str, Any]:
    """Skywork-VL-Reward's folder: a Qwen2.5-VL in shards, and its value head in a file of its own."""
    folder.mkdir(exist_ok=True)
    save_base(folder, "qwen2_5_vl")
    state = full_state(str(folder), (), 9)
    names = sorted(state)
    shards = (names[::2], names[1::2])
    files = [f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    for file, own in zip(files, shards, strict=True):
        save_file({name: state[name] for name in own}, folder / file, metadata={"format": "pt"})
    places = {name: file for file, own in zip(files, shards, strict=True) for name in own}
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    draw = torch.Generator().manual_seed(10)
    head = {"v_head.summary.weight": torch.randn(1, WIDTH, generator=draw) / 4}
    save_file({**head, "v_head.summary.bias": torch.tensor([0.5])}, folder / "value_head.safetensors")
    return {"weights": str(folder)}


def save_rater(folder: Path) -> dict[str, Any]:
    """VideoScore-Qwen2-VL's folder: a Qwen2-VL with a linear head of five in the place of its words' one."""
    save_base(folder)
    state = {
        name: tensor for name, tensor in full_state(str(folder), (), 12).items() if name != "lm_head.weight"
    }
    draw = torch.Generator().manual_seed(13)
    head = {
        "score.weight": torch.randn(5, WIDTH, generator=draw) / 4,
        "score.bias": torch.arange(5) / 2 + 1.0,
    }
    save_file({**state, **head}, folder / "model.safetensors", metadata={"format": "pt"})
    return {"weights": str(folder), "words": worded(folder, prompt=FRAMES)}
