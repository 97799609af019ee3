"""CLIP-FlanT5 (VQAScore): a tiny random checkpoint in the published format, and a second writing of the
publisher's lines, one row at a time; VQAScore by any other judge, one request at a time.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tf

from mmreward import Sample
from mmreward.assets import ASSETS
from mmreward.models.flan import SYSTEM
from mmreward.rewards.judged.vqascore import FLAN_T5, VLM

from .readers import Sampled, pictures_of
from .upstream import Args
from .vlm import load, naive_logprobs

SIDE = 32
"""Height and width of the vision tower's input."""
WORDS = ("Yes", "USER:", "Does", "figure", "show", "ASSISTANT:", "a")


class Parts(NamedTuple):
    """T5, vision tower and projector, and the folder of the tower alone."""

    t5: Any
    vision: Any
    projector: Any
    folder: Path


def tokenizer_of() -> Any:
    """A T5 tokenizer that knows some words of the question, and letters."""
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -3.0)]
    pieces += [(f"\u2581{word}", -1.0) for word in WORDS]
    pieces += [(chr(code), -4.0) for code in range(33, 127)]
    build: Any = T5Tokenizer
    return build(vocab=pieces, extra_ids=0)


def made_parts(folder: Path) -> Parts:
    """Random parts; the tower and its preprocessing are saved in the folder."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModel,
        T5Config,
        T5ForConditionalGeneration,
    )

    torch.manual_seed(11)
    sizes: Any = {"vocab_size": 128, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2}
    ends: Any = {"tie_word_embeddings": False, "decoder_start_token_id": 0}
    t5: Any = T5ForConditionalGeneration(T5Config(**sizes, **ends, feed_forward_proj="gated-gelu")).eval()
    seen: Any = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    vision: Any = CLIPVisionModel(CLIPVisionConfig(**seen, image_size=SIDE, patch_size=8)).eval()
    projector = torch.nn.Sequential(torch.nn.Linear(24, 32), torch.nn.GELU(), torch.nn.Linear(32, 32))
    with torch.no_grad():  # else every picture and question gives nearly the same number
        for layer in projector:
            if isinstance(layer, torch.nn.Linear):
                layer.weight.mul_(8)
        # transformers 5 ties it to the embeddings, which a Flan-T5's is not.
        t5.lm_head.weight = torch.nn.Parameter(torch.randn(128, 32) / 4)
    vision.save_pretrained(folder)
    crop = {"height": SIDE, "width": SIDE}
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=crop).save_pretrained(folder)
    return Parts(t5, vision, projector, folder)


def save_flan(parts: Parts, folder: Path, *, vision: bool = True) -> str:
    """The files of zhiqiulin/clip-flant5-xxl: two shards of pickled tensors, an index and a config.

    Args:
        parts: what is saved.
        folder: where.
        vision: False leaves the tower to its own folder.
    """
    t5, tower, projector, tower_folder = parts
    whole = t5.state_dict()
    first = {name: tensor for name, tensor in whole.items() if name.startswith(("shared", "encoder"))}
    first["embed_tokens.weight"] = t5.shared.weight.data
    second = {name: tensor for name, tensor in whole.items() if name not in first}
    second |= {f"mm_projector.{name}": tensor for name, tensor in projector.state_dict().items()}
    if vision:
        prefix = "vision_tower.vision_tower.vision_model."
        second |= {prefix + name: tensor for name, tensor in tower.state_dict().items()}
        second[f"{prefix}embeddings.position_ids"] = torch.arange(17)[None]
    names = [f"pytorch_model-{number:05d}-of-00002.bin" for number in (1, 2)]
    for name, state in zip(names, (first, second), strict=True):
        torch.save(state, folder / name)
    places = dict.fromkeys(first, names[0]) | dict.fromkeys(second, names[1])
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    config = t5.config.to_dict() | {
        "architectures": ["CLIPT5ForConditionalGeneration"],
        "model_type": "clip_t5",
        "mm_vision_tower": str(tower_folder),
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_projector_type": "mlp2x_gelu",
        "mm_hidden_size": 24,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer_of().save_pretrained(folder)
    return str(folder)


def save_judge(folder: Path) -> Args:
    """The arguments of `vqascore` by a tiny CLIP-FlanT5."""
    (folder / "tower").mkdir(parents=True)
    return {"judge": save_flan(made_parts(folder / "tower"), folder)}


def likelihood(parts: Parts, values: Any, prompt: str, question: str = FLAN_T5) -> Any:
    """One row by the publisher's lines, from the tower's input (1, 3, H, W): P(Yes) and P(</s>), each that of
    the next token over the whole vocabulary."""
    t5, vision, projector, _ = parts
    tokenizer = tokenizer_of()
    text = f"{SYSTEM} USER: <image>\n{question.replace('{prompt}', prompt)} ASSISTANT: "
    before, _, after = text.partition("<image>")
    chunks = [torch.tensor(tokenizer(chunk).input_ids) for chunk in (before, after)]
    assert all(chunk[-1] == tokenizer.eos_token_id for chunk in chunks)
    labels = torch.tensor([tokenizer("Yes").input_ids])
    assert labels.shape == (1, 2)
    hidden = vision.pre_layrnorm(vision.embeddings(values))
    for layer in vision.encoder.layers[:-1]:
        out = layer(hidden, None)
        hidden = out[0] if isinstance(out, tuple) else out
    row = torch.cat([t5.shared(chunks[0]), projector(hidden[0, 1:]), t5.shared(chunks[1])])[None]
    logits = t5(inputs_embeds=row, labels=labels).logits[0]
    return logits.softmax(-1).gather(1, labels[0][:, None])[:, 0]


def squared(parts: Parts, image: Image.Image) -> Any:
    """The tower's input of a picture: padded to a square with the mean colour, then by its own processor."""
    from transformers import AutoImageProcessor

    processor: Any = AutoImageProcessor.from_pretrained(parts.folder, backend="pil")
    side = max(image.size)
    colour = tuple(int(mean * 255) for mean in processor.image_mean)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - image.size[0]) // 2, (side - image.size[1]) // 2))
    return processor(square, return_tensors="pt")["pixel_values"]


def _squared_pixels(parts: Parts, pixels: torch.Tensor) -> Any:
    """The same of float pixels, resized in float."""
    facts = json.loads((parts.folder / "preprocessor_config.json").read_text())
    height, width = pixels.shape[-2:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    colour = torch.tensor([int(mean * 255) / 255 for mean in facts["image_mean"]])
    square = colour[None, :, None, None].repeat(1, 1, side, side)
    square[..., top : top + height, left : left + width] = pixels
    if side != SIDE:
        square = tf.resize(square, [SIDE, SIDE], InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    return tf.normalize(square, facts["image_mean"], facts["image_std"])


def vqascore(args: Args) -> Sampled:
    """exp of minus the mean loss of "Yes" and the end token; of a judge that is no CLIP-FlanT5, P("Yes")."""
    if args["judge"] == "mini-vlm":
        return _vlm()
    folder = Path(args["judge"])
    parts = _read(folder)

    def value(sample: Sample) -> float:
        (image,) = pictures_of(sample)
        with torch.no_grad():
            return math.exp(float(likelihood(parts, squared(parts, image), sample.prompt).log().mean()))

    return Sampled(
        value,
        lambda pixels, prompt: likelihood(parts, _squared_pixels(parts, pixels), prompt).log().mean().exp(),
    )


def _read(folder: Path) -> Parts:
    """The parts of `save_judge`, filled from the published files."""
    parts = made_parts(folder / "tower")
    state: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.bin")):
        state |= torch.load(file, weights_only=True)
    stems = ("mm_projector.", "vision_tower.vision_tower.vision_model.")
    for module, stem in zip((parts.projector, parts.vision), stems, strict=True):
        own = {name.removeprefix(stem): tensor for name, tensor in state.items() if name.startswith(stem)}
        own.pop("embeddings.position_ids", None)
        module.load_state_dict(own)
    known = parts.t5.state_dict()
    parts.t5.load_state_dict({name: state[name] for name in known})
    return parts


def _vlm() -> Sampled:
    naive = load(str(ASSETS / "mini-vlm"))
    (token,) = naive.processor.tokenizer.encode("Yes", add_special_tokens=False)

    def value(sample: Sample) -> float:
        asked = VLM.replace("{prompt}", sample.prompt)
        return float(naive_logprobs(naive, pictures_of(sample), asked)[-1].exp()[token])

    return Sampled(value)
