"""Tiny random checkpoints in the publishers' file formats: the same keys, containers and suffixes.

Every matrix keeps a signal's size, so that values differ between pictures and a wrong step is seen. All
networks look at 32 x 32 pixels.
"""

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from mmreward import models
from mmreward.models.head_facts import HeadFacts
from mmreward.models.maps import Map, Shift, Transport, write_map
from mmreward.models.preferences import PreferenceHead, write_head
from mmreward.models.weights import content_of

from ..speed.inputs import save_byte_tokenizer

SIDE = 32
"""Height and width of the networks' input."""
STACK = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
ENDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
WORDS = ("a", "red", "circle", "above", "two", "blue", "squares", "fox", "photo", "of", "the", "at", "night")
OPEN_CLIP: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
HEAD = (1024, 128, 64, 16, 1)
"""Widths of an aesthetic predictor's layers after the embedding."""


def drawn(module: torch.nn.Module, seed: int) -> Any:
    """The module in evaluation mode, its matrices drawn anew with the spread that keeps a signal's size."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                fan = 1 if "embed" in name and parameter.ndim < 4 else parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / fan**0.5)
            elif name.endswith("bias"):
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=draw))
    return module.eval()


def save_clip(folder: Path, seed: int = 0, space: int = 24) -> str:
    """A CLIP in transformers format with embeddings of `space` numbers; its tokenizer spells byte by byte."""
    _, vocabulary = save_byte_tokenizer(folder)
    config = CLIPConfig(
        text_config={**STACK, **vocabulary},
        vision_config={**STACK, "image_size": SIDE, "patch_size": 8},
        projection_dim=space,
    )
    drawn(CLIPModel(config), seed).save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=square)
    images.save_pretrained(folder)  # no processor around both: so it was published, before transformers 5
    return str(folder)


def save_siglip(folder: Path, seed: int = 1) -> str:
    """A SigLIP in transformers format, with a vocabulary of words."""
    words = {word: index for index, word in enumerate(("<pad>", "<unk>", *WORDS))}
    core = Tokenizer(WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", model_input_names=["input_ids"]
    )
    config = SiglipConfig(
        text_config={**STACK, "vocab_size": len(words), "max_position_embeddings": 16, **ENDS},
        vision_config={**STACK, "image_size": SIDE, "patch_size": 8},
    )
    drawn(SiglipModel(config), seed).save_pretrained(folder)
    images = SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    SiglipProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    images.save_pretrained(folder)
    return str(folder)


def save_imscore(folder: Path, kind: str) -> str:
    """imscore's form of a preference scorer: a CLIP's or a SigLIP's tensors under `model.`, and the name of
    the model (in `base`) whose configuration and processor it takes."""
    from safetensors.torch import load_file, save_file

    base = folder / "base"
    (save_clip if kind == "clip" else save_siglip)(base, 13)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.model_max_length = 77 if kind == "clip" else 16  # which imscore asks
    tokenizer.save_pretrained(base)
    facts = (base / "tokenizer_config.json").read_text()  # imscore has transformers 4, which lacks this class
    (base / "tokenizer_config.json").write_text(facts.replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    state = {f"model.{name}": 1.1 * one for name, one in load_file(base / "model.safetensors").items()}
    if kind == "siglip":
        state |= {"model.logit_scale": torch.tensor([4.3]), "model.logit_bias": torch.tensor([-15.0])}
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"tag": str(base)}))
    return str(folder)


def save_open_clip(folder: Path, seed: int = 2) -> str:
    """open_clip's own folder: open_clip_config.json beside the weights."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    model = drawn(open_clip.CLIP(**OPEN_CLIP), seed)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    config = {"model_cfg": OPEN_CLIP, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return str(folder)


def save_openai(folder: Path, seed: int = 12) -> str:
    """OpenAI's tensors, in half precision as published: open_clip's folder of them, and `openai.pt` beside
    it, which OpenAI's own package reads. Heads are 64 wide, as that package takes for granted."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    towers: dict[str, Any] = {
        "vision_cfg": {"width": 64, "head_width": 64},
        "text_cfg": {"width": 64, "heads": 1},
    }
    config: dict[str, Any] = {"quick_gelu": True, "embed_dim": OPEN_CLIP["embed_dim"]}
    config |= {name: {**OPEN_CLIP[name], **sizes} for name, sizes in towers.items()}
    state = drawn(open_clip.CLIP(**config), seed).state_dict()
    state = {name: tensor.half().float() for name, tensor in state.items()}
    save_file(state, folder / "open_clip_model.safetensors")
    torch.save(state, folder / "openai.pt")
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    facts = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(facts))
    return str(folder)


def save_hps(folder: Path, file: str, seed: int = 3) -> dict[str, Any]:
    """HPSv2's format, a pickled dict with `state_dict`, of an architecture that open_clip is told of.

    Returns:
        Arguments of `hpsv2`.
    """
    import open_clip

    folder.mkdir(parents=True)
    (folder / "tiny-H.json").write_text(json.dumps(OPEN_CLIP))
    open_clip.add_model_config(folder / "tiny-H.json")
    model = drawn(open_clip.CLIP(**OPEN_CLIP), seed)
    torch.save({"epoch": 1, "name": "HPSv2", "state_dict": model.state_dict()}, folder / file)
    return {"weights": str(folder / file), "architecture": "tiny-H"}


def save_social(folder: Path, seed: int = 9) -> dict[str, Any]:
    """What Social Reward's training saves: OpenAI's tensors by name, of an architecture with the quick GELU.

    Returns:
        Arguments of `social_reward`.
    """
    import open_clip

    folder.mkdir(parents=True)
    config = OPEN_CLIP | {"quick_gelu": True}
    (folder / "tiny-L-quickgelu.json").write_text(json.dumps(config))
    model = drawn(open_clip.CLIP(**config), seed)
    torch.save(model.state_dict(), folder / "clip_epoch_9_global_step_final.pth")
    return {
        "fitted": str(folder / "clip_epoch_9_global_step_final.pth"),
        "architecture": str(folder / "tiny-L-quickgelu.json"),
    }


def save_layers(file: Path, name: str, indices: Sequence[int], seed: int, width: int) -> str:
    """A pickled chain of linear layers, NAME.0.weight, NAME.0.bias and so on; "" for one layer without a
    name."""
    draw = torch.Generator().manual_seed(seed)
    sizes = (width, *HEAD) if name else (width, 1)
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    for index, given, made in zip(indices, sizes[:-1], sizes[1:], strict=True):
        stem = f"{name}.{index}." if name else ""
        state[f"{stem}weight"] = 2 * torch.randn(made, given, generator=draw) / given**0.5
        state[f"{stem}bias"] = torch.randn(made, generator=draw)
    torch.save(state, file)
    return str(file)


def save_classifier(folder: Path, seed: int = 4) -> str:
    """An image classifier in transformers format with the label "clean"."""
    labels = ("artifact", "clean", "other")
    config = ViTConfig(
        **STACK,
        image_size=SIDE,
        patch_size=8,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    drawn(ViTForImageClassification(config), seed).save_pretrained(folder)
    ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return str(folder)


def save_map(folder: Path, kind: str, seed: int = 5) -> dict[str, Any]:
    """A CLIP, and the file that `mmreward fit` writes of a map on it; arguments of that map's reward."""
    weights = save_clip(folder / "clip")
    torch.manual_seed(seed)
    moved: Map = Shift(0.3 * torch.randn(24)) if kind == Shift.kind else drawn(Transport(24, 16), seed)
    write_map(folder / "map.safetensors", moved, models.clip(weights), rows=8)
    return {"fitted": str(folder / "map.safetensors"), "weights": weights}


def save_head(folder: Path, weights: str, seed: int = 5) -> dict[str, Any]:
    """The folder that `mmreward fit head` writes of a head on a CLIP; arguments of the reward."""
    encoder = models.clip(weights)
    width = encoder.embed_texts(["a"]).shape[1]
    head = drawn(PreferenceHead(width, 16, normal=True, scale=2.0), seed)
    write_head(
        folder,
        head,
        HeadFacts(
            encoder=encoder.name,
            content=content_of(encoder.network.source),
            dtype="float32",
            resize="pil",
            loss="integrated",
            width=width,
            hidden=16,
        ),
    )
    return {"fitted": str(folder)}


# --- BLIP with a head ---------------------------------------------------------------------------------------

WIDTH, PATCH, DEPTH, LETTERS = 128, 8, 2, "abcdefghijklmnopqrstuvwxyz0123456789"
"""Two heads of 64 in either encoder."""


def save_blip(
    folder: Path, file: str, *, indices: Sequence[int] = (0, 2, 4, 6, 7), seed: int = 8
) -> dict[str, Any]:
    """ImageReward's format, and CycleReward's: a pickled dict of tensors, with those that the score does not
    use; beside it med_config.json and BERT's vocab.txt.

    Returns:
        Arguments of `imagereward` and `cyclereward`.
    """
    folder.mkdir(parents=True)
    marks = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"!#&,.?")
    words = [*marks, *LETTERS, *(f"##{letter}" for letter in LETTERS), *(w for w in WORDS if len(w) > 1)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    config = {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": WIDTH,
        "initializer_range": 0.02,
        "intermediate_size": 2 * WIDTH,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 160,
        "model_type": "bert",
        "num_attention_heads": WIDTH // 64,
        "num_hidden_layers": DEPTH,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": len(words) + 2,
        "encoder_width": WIDTH,
        "add_cross_attention": True,
    }
    (folder / "med_config.json").write_text(json.dumps(config))
    torch.save(_blip_state(config, indices, seed), folder / file)
    return {"weights": str(folder / file), "vocabulary": str(folder / "vocab.txt")}


def _blip_state(config: dict[str, Any], indices: Sequence[int], seed: int) -> OrderedDict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    state: OrderedDict[str, torch.Tensor] = OrderedDict()

    def linear(name: str, given: int, made: int, scale: float = 1.0) -> None:
        state[f"{name}.weight"] = scale * torch.randn(made, given, generator=draw) / given**0.5
        state[f"{name}.bias"] = 0.2 * torch.randn(made, generator=draw)

    def norm(name: str) -> None:
        state[f"{name}.weight"] = 1 + 0.2 * torch.randn(WIDTH, generator=draw)
        state[f"{name}.bias"] = 0.2 * torch.randn(WIDTH, generator=draw)

    eyes, words = "blip.visual_encoder", "blip.text_encoder"
    state[f"{eyes}.cls_token"] = torch.randn(1, 1, WIDTH, generator=draw)
    state[f"{eyes}.pos_embed"] = torch.randn(1, 1 + (SIDE // PATCH) ** 2, WIDTH, generator=draw)
    kernel = torch.randn(WIDTH, 3, PATCH, PATCH, generator=draw)
    state[f"{eyes}.patch_embed.proj.weight"] = kernel / (3 * PATCH * PATCH) ** 0.5
    state[f"{eyes}.patch_embed.proj.bias"] = torch.randn(WIDTH, generator=draw)
    for block in (f"{eyes}.blocks.{number}" for number in range(DEPTH)):
        norm(f"{block}.norm1")
        linear(f"{block}.attn.qkv", WIDTH, 3 * WIDTH, 1.5)
        linear(f"{block}.attn.proj", WIDTH, WIDTH)
        norm(f"{block}.norm2")
        linear(f"{block}.mlp.fc1", WIDTH, 4 * WIDTH)
        linear(f"{block}.mlp.fc2", 4 * WIDTH, WIDTH)
    norm(f"{eyes}.norm")
    state[f"{words}.embeddings.position_ids"] = torch.arange(config["max_position_embeddings"])[None]
    for name, rows in (("word", config["vocab_size"]), ("position", config["max_position_embeddings"])):
        state[f"{words}.embeddings.{name}_embeddings.weight"] = torch.randn(rows, WIDTH, generator=draw)
    norm(f"{words}.embeddings.LayerNorm")
    for layer in (f"{words}.encoder.layer.{number}" for number in range(DEPTH)):
        for attention in ("attention", "crossattention"):
            for part in ("query", "key", "value"):
                linear(f"{layer}.{attention}.self.{part}", WIDTH, WIDTH, 1.5)
            linear(f"{layer}.{attention}.output.dense", WIDTH, WIDTH)
            norm(f"{layer}.{attention}.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", WIDTH, 2 * WIDTH)
        linear(f"{layer}.output.dense", 2 * WIDTH, WIDTH)
        norm(f"{layer}.output.LayerNorm")
    linear("blip.vision_proj", WIDTH, 256)
    linear("blip.text_proj", WIDTH, 256)
    for index, given, made in zip(indices, (WIDTH, *HEAD[:-1]), HEAD, strict=True):
        linear(f"mlp.layers.{index}", given, made)
    return state


# --- MPS ----------------------------------------------------------------------------------------------------

CROSS_HEADS, CROSS_HEAD = 4, 8
"""Heads of the cross attention, and their width; the space has as many numbers as all of them together."""


def save_mps(folder: Path, seed: int = 9) -> dict[str, Any]:
    """imscore's copy of MPS: one safetensors file, with the CLIP under `mps.model` and the cross attention.

    Returns:
        Arguments of `mps`.
    """
    from safetensors.torch import save_file

    width = CROSS_HEADS * CROSS_HEAD
    clip = save_clip(folder / "clip", seed, width)
    draw = torch.Generator().manual_seed(seed)
    state = {f"mps.model.{name}": one for name, one in CLIPModel.from_pretrained(clip).state_dict().items()}
    fused = width + 2 * CROSS_HEAD + 8 * width
    shapes = {
        "0.fn.to_q": (width, width),
        "0.fn.to_kv": (2 * CROSS_HEAD, width),
        "0.fn.to_out": (width, width),
        "0.fn.ff.0": (8 * width, width),
        "0.fn.ff.2": (width, 4 * width),
        "1.fn.fused_attn_ff_proj": (fused, width),
        "1.fn.attn_out": (width, width),
        "1.fn.ff_out.1": (width, 4 * width),
    }
    for layer in (f"mps.cross_model.layers.{number}." for number in range(DEPTH)):
        for name, shape in shapes.items():
            state[f"{layer}{name}.weight"] = 1.5 * torch.randn(shape, generator=draw) / shape[1] ** 0.5
        for part in ("0", "1"):
            state[f"{layer}{part}.fn.norm.weight"] = 1 + 0.2 * torch.randn(width, generator=draw)
            state[f"{layer}{part}.fn.norm.bias"] = torch.zeros(width)
        steps = torch.arange(0, CROSS_HEAD, 2).float() / CROSS_HEAD
        state[f"{layer}1.fn.rotary_emb.inv_freq"] = 1.0 / 10000**steps
    save_file({name: one.contiguous() for name, one in state.items()}, folder / "model.safetensors")
    return {"weights": str(folder / "model.safetensors"), "processor": clip}
