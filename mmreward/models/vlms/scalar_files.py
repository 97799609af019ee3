"""Files of scalar reward models on a Qwen-VL body: names of tensors, LoRA adapters, heads.

Publishers save what they trained with: names of transformers before 4.52 (`visual.`, `model.layers.`) or
since (`model.visual.`, `model.language_model.`), a wrapper of peft before them, and the heads beside. Here
they become a body of today's transformers and heads in float32. Names and shapes must be exactly the
architecture's: weights that were trained on another body do not load.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

import torch

from ..checkpoints import fill, misfits

Tensors = dict[str, torch.Tensor]
HEAD = re.compile(r"(score|rm_head|rm_heads\.\w+?|v_head\.summary)\.((?:\d+\.)?(?:weight|bias))")
WRAPPER = "base_model.model."
"""Before every name, where peft saved it."""
UNREAD = re.compile(r"lm_head\.weight|.*\.inv_freq")
"""Tensors that a scalar model does not read."""


def parted(state: Mapping[str, torch.Tensor], name: str) -> tuple[Tensors, dict[str, Tensors]]:
    """The body's tensors by the names of transformers' model without its language head, and each head's.

    Raises:
        ValueError: no heads.
    """
    body: Tensors = {}
    heads: dict[str, Tensors] = {}
    for key, tensor in state.items():
        own = plain_name(key)
        if UNREAD.fullmatch(own):
            continue
        if (found := HEAD.fullmatch(own)) is not None:
            heads.setdefault(found[1], {})[found[2]] = tensor
        else:
            body[own] = tensor
    if not heads:
        raise ValueError(f"{name} has no head (score, rm_head, rm_heads or v_head): is it a reward model?")
    return body, heads


def plain_name(name: str) -> str:
    """Today's name of a body's tensor, without its language head's model and without a wrapper's prefix."""
    name = name.removeprefix(WRAPPER)
    for prefix in ("model.visual.", "model.language_model."):
        if name.startswith(prefix):
            return name.removeprefix("model.")
    return f"language_model.{name.removeprefix('model.')}" if name.startswith("model.") else name


def merged(state: Mapping[str, torch.Tensor], scale: float, name: str) -> Tensors:
    """Tensors with every LoRA adapter added to the weight that it adapts, in float32.

    Args:
        state: names of peft: `X.base_layer.weight` or `X.weight`, with `X.lora_A.weight` and
            `X.lora_B.weight` (`.default` in between or not).
        scale: of the product: alpha / rank, or alpha / sqrt(rank) with rsLoRA.
        name: of the weights, for the message.

    Raises:
        ValueError: half an adapter, or one of a weight that is not there.
    """
    plain: Tensors = {}
    factors: dict[str, Tensors] = {}
    for key, tensor in state.items():
        found = re.fullmatch(r"(.+)\.lora_([AB])(?:\.default)?\.weight", key)
        if found is not None:
            factors.setdefault(found[1], {})[found[2]] = tensor
        else:
            plain[key.replace(".base_layer.", ".")] = tensor
    for module, pair in factors.items():
        weight = plain.get(f"{module}.weight")
        if set(pair) != {"A", "B"} or weight is None:
            raise ValueError(f"{name} has an adapter of {module} without its other half or its weight")
        plain[f"{module}.weight"] = weight.float() + scale * (pair["B"].float() @ pair["A"].float())
    return plain


def head_of(tensors: Tensors, name: str) -> torch.nn.Sequential:
    """A head in float32: one linear layer, or several with ReLU between them (dropout, which is in between
    as well, does nothing when a score is read).

    Raises:
        ValueError: layers that do not chain.
    """
    stems = sorted({key.rpartition(".")[0] for key in tensors}, key=lambda stem: int(stem or 0))
    layers: list[torch.nn.Module] = []
    for stem in stems:
        dot = f"{stem}." if stem else ""
        width, inputs = tensors[f"{dot}weight"].shape
        linear = torch.nn.Linear(inputs, width, bias=f"{dot}bias" in tensors)
        own = {key.removeprefix(dot): value.float() for key, value in tensors.items() if key.startswith(dot)}
        fill(linear, own, name)
        if layers and cast(torch.nn.Linear, layers[-1]).out_features != inputs:
            raise ValueError(f"the head of {name} does not chain at layer {stem}")
        layers += [torch.nn.ReLU(), linear] if layers else [linear]
    return torch.nn.Sequential(*layers)


class Body(torch.nn.Module):
    """A body without its language head (`model`), and heads on its hidden states, in the order of their
    names."""

    def __init__(self, model: torch.nn.Module, heads: list[torch.nn.Sequential]) -> None:
        super().__init__()
        self.model = model
        self.heads = torch.nn.ModuleList(heads)

    def scores(self, hidden: torch.Tensor) -> torch.Tensor:
        """(N, outputs of all heads) of states (N, width), in float32."""
        return torch.cat([head(hidden.float()) for head in self.heads], dim=-1)


def body_of(config: Any, state: Mapping[str, torch.Tensor], vocabulary: int, dtype: Any, name: str) -> Body:
    """The network of a published file.

    Args:
        config: of the body it was trained on.
        state: tensors by their published names.
        vocabulary: number of tokens, with those that were added for reading; 0 leaves that to the body.
        dtype: of the body.
        name: of the weights.

    Raises:
        ValueError: another vocabulary, or names or shapes that are not this body's.
    """
    from transformers import AutoModel

    tensors, heads = parted(state, name)
    text = config.get_text_config()
    rows = tensors.get("language_model.embed_tokens.weight")
    if vocabulary and rows is not None:
        if len(rows) != vocabulary:
            raise ValueError(
                f"{name} has {len(rows)} tokens and the tokenizer {vocabulary}: it was trained on another "
                "body"
            )
        text.vocab_size = vocabulary
    with torch.device("meta"):
        bare = AutoModel.from_config(config)
    if said := misfits(bare.state_dict(), tensors):
        raise ValueError(f"{name} was not trained on this body, a {config.model_type}: {said}")
    model = type(bare).from_pretrained(
        None, config=config, state_dict=tensors, dtype=dtype, attn_implementation="sdpa"
    )
    width = text.hidden_size
    made = [head_of(heads[key], name) for key in sorted(heads)]
    for head in made:
        reads = cast(torch.nn.Linear, head[0]).in_features
        if reads != width:
            raise ValueError(f"the head of {name} reads {reads} numbers, and its body has {width}")
    return Body(model, made)
