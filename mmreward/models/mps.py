"""MPS: a CLIP whose picture attends to the tokens of the prompt that matter under a condition.

The picture's tokens, the prompt's and those of the condition are all projected into CLIP's space. Tokens of
the prompt that are like none of the condition's are hidden; the picture's attend to the others through four
layers of cross attention, each followed by a parallel block with rotary positions; keys and values have one
head. The score is exp(logit_scale) times the cosine of the picture's first token and the prompt's end token.

`Crossed` has exactly the names of the published state dict. The towers are transformers' CLIP.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from .base import loading
from .checkpoints import fill, state_of
from .encoders import recipe_of
from .paired import PairScorer, Tokens
from .pixels import Recipe
from .weights import content_of, locate

CONTEXT = 77
POSITIONS = ("model.text_model.embeddings.position_ids", "model.vision_model.embeddings.position_ids")
"""Counters that transformers wrote into files before 4.31."""

# --- the module ---------------------------------------------------------------------------------------------


class _Norm(nn.Module):
    """Layer norm whose bias is no parameter, and zero as published."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Buffer(torch.empty(width))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(tokens, tokens.shape[-1:], self.weight, self.bias)


def _attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any = None) -> torch.Tensor:
    """(N, heads, T, D) by one head (N, S, D); returns (N, T, heads x D)."""
    heads = query.shape[1]
    key, value = (one[:, None].expand(-1, heads, -1, -1) for one in (key, value))
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return seen.transpose(1, 2).flatten(2)


def _heads(tensor: torch.Tensor, width: int) -> torch.Tensor:
    return tensor.view(*tensor.shape[:-1], -1, width).transpose(1, 2)


def _gated(tensor: torch.Tensor) -> torch.Tensor:
    value, gate = tensor.chunk(2, dim=-1)
    return F.silu(gate) * value


class _Cross(nn.Module):
    def __init__(self, width: int, all_heads: int, head: int, inner: int) -> None:
        super().__init__()
        self.norm = _Norm(width)
        self.to_q = nn.Linear(width, all_heads, bias=False)
        self.to_kv = nn.Linear(width, 2 * head, bias=False)
        self.to_out = nn.Linear(all_heads, width, bias=False)
        layers = {"0": nn.Linear(width, 2 * inner, bias=False), "2": nn.Linear(inner, width, bias=False)}
        self.ff = nn.ModuleDict(layers)
        self.head = head

    def forward(self, tokens: torch.Tensor, context: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        normed = self.norm(tokens)
        key, value = self.to_kv(context).chunk(2, dim=-1)
        seen = self.to_out(_attended(_heads(self.to_q(normed), self.head), key, value, mask))
        return cast(torch.Tensor, tokens + seen + self.ff["2"](_gated(self.ff["0"](normed))))


class _Parallel(nn.Module):
    def __init__(self, width: int, all_heads: int, head: int, inner: int) -> None:
        super().__init__()
        self.norm = _Norm(width)
        self.parts = (all_heads, head, head, 2 * inner)
        self.fused_attn_ff_proj = nn.Linear(width, sum(self.parts), bias=False)
        self.attn_out = nn.Linear(all_heads, width, bias=False)
        self.ff_out = nn.ModuleDict({"1": nn.Linear(inner, width, bias=False)})
        self.rotary_emb = nn.Module()
        self.rotary_emb.inv_freq = nn.Buffer(torch.empty(head // 2))
        self.head = head

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        query, key, value, wide = self.fused_attn_ff_proj(self.norm(tokens)).split(self.parts, dim=-1)
        places = torch.arange(tokens.shape[1], device=tokens.device, dtype=torch.float32)
        angles = torch.outer(places, cast(torch.Tensor, self.rotary_emb.inv_freq).float())
        cosine, sine = (turn.to(tokens.dtype).repeat(1, 2) for turn in (angles.cos(), angles.sin()))

        def turned(tensor: torch.Tensor) -> torch.Tensor:
            one, other = tensor.chunk(2, dim=-1)
            return tensor * cosine + torch.cat((-other, one), dim=-1) * sine

        seen = self.attn_out(_attended(turned(_heads(query, self.head)), turned(key), value))
        return cast(torch.Tensor, tokens + seen + self.ff_out["1"](_gated(wide)))


class _Residual(nn.Module):
    """Names its part `fn`, which adds its own input."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn


class Crossed(nn.Module):
    """CLIP with cross attention; made on the "meta" device from a state's shapes.

    Args:
        config: of the CLIP.
        state: names and tensors, as published.
        threshold: likeness to the condition, as a part of the prompt's largest, above which a token is seen.

    Raises:
        ValueError: the names are not those of MPS.
    """

    def __init__(self, config: Any, state: Mapping[str, torch.Tensor], threshold: float) -> None:
        from transformers import CLIPModel

        super().__init__()
        stem = "cross_model.layers."
        try:
            all_heads, width = state[f"{stem}0.0.fn.to_q.weight"].shape
            head = state[f"{stem}0.0.fn.to_kv.weight"].shape[0] // 2
            inner = state[f"{stem}0.0.fn.ff.2.weight"].shape[1]
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"no MPS: {error} is not as it should be") from None
        depth = len({name[len(stem) :].split(".")[0] for name in state if name.startswith(stem)})
        sizes = (width, all_heads, head, inner)
        layers = [
            nn.ModuleList([_Residual(_Cross(*sizes)), _Residual(_Parallel(*sizes))]) for _ in range(depth)
        ]
        self.model: Any = CLIPModel(config)
        self.cross_model = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.threshold = threshold

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Scores (N,), float32, of normalised pixels, as many prompts, and one condition (N times)."""
        read = self.model.text_model(input_ids=torch.cat([ids, condition[:1]]))
        words = self.model.text_projection(read.last_hidden_state)
        text, wanted = words[:-1], words[-1]
        end = self.model.text_projection(read.pooler_output[:-1]).float()
        likeness = (text @ wanted.T).amax(-1)
        # By the row's own largest: over the batch, as published, a score would hang on its neighbours.
        shown = likeness / likeness.amax(-1, keepdim=True) > self.threshold
        mask = torch.zeros_like(likeness).masked_fill(~shown, -torch.inf)[:, None, None]
        seen = self.model.vision_model(pixel_values=pixels).last_hidden_state
        tokens = self.model.visual_projection(seen)
        for cross, parallel in cast(Any, self.cross_model["layers"]):
            tokens = parallel.fn(cross.fn(tokens, text, mask))
        cosine = (F.normalize(tokens[:, 0].float(), dim=-1) * F.normalize(end, dim=-1)).sum(-1)
        return cast(torch.Tensor, self.model.logit_scale.float().exp() * cosine)


# --- the network --------------------------------------------------------------------------------------------


class MpsScorer(PairScorer):
    """The score of a picture and a prompt; see `mmreward.models.crossed`."""

    def __init__(
        self, weights: str, processor: str, condition: str, threshold: float, *, dtype: str, resize: str
    ) -> None:
        words = content_of(locate(processor))
        asked = {"condition": condition, "threshold": threshold, "processor": words}
        super().__init__(weights, dtype=dtype, resize=resize, length=CONTEXT, **asked)
        self.processor, self.condition, self.threshold = processor, condition, threshold

    def build(self) -> nn.Module:
        from transformers import CLIPConfig

        state = {name.removeprefix("mps."): value for name, value in state_of(self.name).items()}
        state = {name: value for name, value in state.items() if name not in POSITIONS}
        with torch.device("meta"):
            module = Crossed(CLIPConfig.from_pretrained(self.processor), state, self.threshold)
        module.to_empty(device="cpu")
        for tower in (module.model.text_model, module.model.vision_model):
            counter = tower.embeddings.position_ids  # in no file, and empty since "meta"
            tower.embeddings.position_ids = torch.arange(counter.shape[-1])[None]
        fill(module, state, self.name)
        return module.to(self.dtype)

    @cached_property
    def _parts(self) -> tuple[Any, Recipe]:
        """Tokenizer and preprocessing, the CLIP's own."""
        from transformers import AutoImageProcessor, AutoTokenizer

        with loading(self.processor):
            pictures = AutoImageProcessor.from_pretrained(self.processor)
            return AutoTokenizer.from_pretrained(self.processor), recipe_of(pictures)

    @property
    def recipe(self) -> Recipe:
        with self.processing:
            return self._parts[1]

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Ids of the prompts, and of the condition for each; padded, and without a mask, as trained."""
        texts = [*prompts, self.condition]
        with self.processing:
            tokenizer, _ = self._parts
            options = {"padding": "max_length", "truncation": True, "max_length": CONTEXT}
            ids = tokenizer(texts, **options, return_tensors="pt")["input_ids"]
            lengths = [len(one) for one in tokenizer(list(prompts))["input_ids"]]
        return Tokens((ids[:-1], ids[-1:].expand(len(prompts), -1)), [length > CONTEXT for length in lengths])
