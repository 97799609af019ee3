"""mPLUG-Owl2 (arXiv:2311.04257) as DeQA-Score and Q-Align are released: a picture's grade by five words.

Op "levels": the probabilities of "excellent", "good", "fair", "poor" and "bad" against one another, as the
next word of a fixed answer. No current package has the architecture; its tensors are read here by their
published names. A ViT sees the picture, 64 queries gather what it saw and one learnt vector ends it, and a
Llama reads these 65 tokens amid its text with norms, keys and values of their own.

What a port may miss: the gatherer's residual begins at the queries after their norm; its norms have torch's
epsilon but for the one within its MLP; key positions are sines of a grid before which the queries' own stand;
the picture is padded to a square with the mean colour, truncated to whole numbers.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from ..engine.batching import Cost
from ..engine.engine import current
from ..errors import Unscorable
from ..limits import limits, most
from ..media import Media
from .base import TorchNetwork, loading
from .checkpoints import files_of, state_of
from .encoders import recipe_of
from .flan import squared
from .pictures import decoded, distinct, in_turn
from .pieces import Pieces
from .pixels import Recipe, normalise, resize
from .weights import folder_of

LEVELS = ("excellent", "good", "fair", "poor", "bad")
PICTURE = "<|image|>"
"""Mark of the picture's place in a prompt."""
LEFT_OUT = ("rotary_emb.inv_freq", "position_ids")
"""Ends of names of tensors that nothing reads."""
VISION: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 448,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
}
GATHERER: dict[str, Any] = {
    "num_learnable_queries": 64,
    "hidden_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 16,
    "intermediate_size": 2816,
    "layer_norm_eps": 1e-6,
    "encoder_hidden_size": 1024,
    "grid_size": 32,
}
"""Sizes of mPLUG-Owl2-7B, where a config says nothing of them."""


class Graded(NamedTuple):
    """A picture, and the text round it with one `PICTURE`."""

    media: Media
    prompt: str


class GradedBatch(NamedTuple):
    """Pictures without repetition, and of each row: its picture, and the ids before and behind it."""

    pixels: torch.Tensor
    pictures: list[int]
    texts: list[tuple[list[int], list[int]]]


class Owl(TorchNetwork):
    """One checkpoint.

    Args:
        weights: a folder or hub id in the published format: config.json, shards of tensors, tokenizer.model
            and preprocessor_config.json.
        dtype: of all parts; the probabilities are computed in float32.
    """

    def __init__(self, weights: str, *, dtype: str = "float32") -> None:
        super().__init__(weights, dtype=dtype)

    async def levels(self, media: Media, prompt: str) -> tuple[float, ...]:
        """Probabilities of `LEVELS` as the next word of the prompt; they sum to one.

        Args:
            media: the picture.
            prompt: text with `PICTURE` in it, once.

        Raises:
            Unscorable: the picture is broken, or cannot be padded to a square.
        """
        item = Graded(media, prompt)
        found = await current().submit(self, "levels", item, key=(media.key, prompt), share=media.key)
        return cast(tuple[float, ...], found)

    # --- files --------------------------------------------------------------------------------------

    @cached_property
    def folder(self) -> Path:
        """Folder of the weights, which are fetched if they are not there yet."""
        if (there := folder_of(self.source)) is not None and any(files_of(there)):
            return there
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(self.source))

    @cached_property
    def config(self) -> dict[str, Any]:
        """The published config.json.

        Raises:
            Unavailable: it is another model's.
        """
        with loading(self.name):
            config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
            if (kind := config.get("model_type")) != "mplug_owl2":
                raise ValueError(f"it is a {kind}, where an mplug_owl2 is read")
            return cast(dict[str, Any], config)

    @cached_property
    def recipe(self) -> Recipe:
        from transformers import CLIPImageProcessor

        with loading(self.name):
            return recipe_of(CLIPImageProcessor.from_pretrained(self.folder))

    @cached_property
    def pieces(self) -> Pieces:
        with loading(self.name):
            return Pieces(self.folder / "tokenizer.model")

    @cached_property
    def level_ids(self) -> list[int]:
        """First token of each of `LEVELS` as a word of its own."""
        ids = [self.pieces.ids(level)[1] for level in LEVELS]
        if len(set(ids)) < len(ids):
            raise Unscorable(f"{self.name} has no token of its own for each of {', '.join(LEVELS)}")
        return ids

    def build(self) -> nn.Module:
        with torch.device("meta"):
            module = _Whole(self.config)
        state: dict[str, torch.Tensor] = {}
        for file in files_of(self.folder):
            for name, tensor in state_of(str(file)).items():
                if not name.endswith(LEFT_OUT):
                    state[name] = tensor.to(self.dtype)
        found = module.load_state_dict(state, strict=False, assign=True)
        faults = {"missing": found.missing_keys, "unexpected": found.unexpected_keys}
        if said := [f"{len(keys)} tensors {fault} ({keys[0]})" for fault, keys in faults.items() if keys]:
            raise ValueError(f"it is no mPLUG-Owl2: {', '.join(said)}")
        return module

    # --- the engine's side --------------------------------------------------------------------------

    def cost(self, op: str, item: Graded) -> Cost:
        side = max(item.media.size)
        if side * side > limits().pixels:
            raise Unscorable(
                f"padded to a square it has {side} x {side} pixels: the limit is {most('pixels')}"
            )
        return Cost(1200 + len(item.prompt) // 3, 3 * side * side)

    def prepare(self, op: str, items: list[Graded]) -> GradedBatch:
        medias, rows = distinct([item.media for item in items])
        recipe = self.recipe
        fill = [int(mean * 255) for mean in recipe.mean]
        squares = in_turn(medias, lambda index: squared(decoded(medias[index]).cpu(), fill))
        pixels = normalise(torch.stack([resize(one, recipe, "pil") for one in squares]), recipe)
        return GradedBatch(pixels.to(self.dtype), rows, [self._texts(item.prompt) for item in items])

    def _texts(self, prompt: str) -> tuple[list[int], list[int]]:
        # Both sides of the picture are tokenized apart, and the beginning is taken off the second.
        before, mark, after = prompt.partition(PICTURE)
        if not mark or PICTURE in after:
            raise Unscorable(f"the prompt has not one {PICTURE}: {prompt[:80]!r}")
        return self.pieces.ids(before), self.pieces.ids(after)[1:]

    @torch.inference_mode()
    def forward(self, op: str, batch: GradedBatch) -> list[Any]:
        module = self.module
        seen = module.model.seen(batch.pixels.to(self.device))
        ids = torch.tensor(self.level_ids, device=self.device)
        results: list[Any] = [None] * len(batch.texts)
        # Rows of one length run together: a row that is padded would be computed by another kernel.
        for text in dict.fromkeys((tuple(before), tuple(after)) for before, after in batch.texts):
            rows = [
                n for n, (before, after) in enumerate(batch.texts) if (tuple(before), tuple(after)) == text
            ]
            before, after = (torch.tensor(part, device=self.device, dtype=torch.long) for part in text)
            pictures = seen[torch.tensor([batch.pictures[row] for row in rows], device=self.device)]
            last = module.model.read(before, pictures, after)
            logits = F.linear(last, module.lm_head.weight[ids]).float()
            for row, probs in zip(rows, logits.softmax(-1).cpu().tolist(), strict=True):
                results[row] = tuple(probs)
        return results


# --- architecture, by the published names -------------------------------------------------------------------


class _Whole(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = _Llama(config)
        self.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)


def _heads(states: torch.Tensor, count: int) -> torch.Tensor:
    """(N, T, H x D) -> (N, H, T, D)."""
    return states.reshape(*states.shape[:2], count, -1).transpose(1, 2)


def _merged(states: torch.Tensor) -> torch.Tensor:
    return states.transpose(1, 2).flatten(2)


class _VisionAttention(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        self.heads, width = c["num_attention_heads"], c["hidden_size"]
        self.query_key_value = nn.Linear(width, 3 * width)
        self.dense = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Of every head its query, key and value stand together.
        q, k, v = self.query_key_value(x).unflatten(-1, (self.heads, 3, -1)).permute(3, 0, 2, 1, 4)
        return cast(torch.Tensor, self.dense(_merged(F.scaled_dot_product_attention(q, k, v))))


class _VisionLayer(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        width, eps = c["hidden_size"], c["layer_norm_eps"]
        self.input_layernorm = nn.LayerNorm(width, eps)
        self.self_attn = _VisionAttention(c)
        self.post_attention_layernorm = nn.LayerNorm(width, eps)
        hidden = c["intermediate_size"]
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        hidden = self.mlp["fc1"](self.post_attention_layernorm(x))
        return cast(torch.Tensor, x + self.mlp["fc2"](hidden * torch.sigmoid(1.702 * hidden)))


class _Embeddings(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        width, patch = c["hidden_size"], c["patch_size"]
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.patch_embed = nn.Conv2d(3, width, patch, patch, bias=False)
        self.position_embedding = nn.Parameter(torch.empty(1, (c["image_size"] // patch) ** 2 + 1, width))
        self.pre_layernorm = nn.LayerNorm(width, c["layer_norm_eps"])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        whole = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches], dim=1)
        return cast(torch.Tensor, self.pre_layernorm(whole + self.position_embedding))


class _Vision(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        self.embeddings = _Embeddings(c)
        layers = nn.ModuleList(_VisionLayer(c) for _ in range(c["num_hidden_layers"]))
        self.encoder = nn.ModuleDict({"layers": layers})
        self.post_layernorm = nn.LayerNorm(c["hidden_size"], c["layer_norm_eps"])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.embeddings(pixels)
        for layer in cast(nn.ModuleList, self.encoder["layers"]):
            x = layer(x)
        return cast(torch.Tensor, self.post_layernorm(x))


class _Gathering(nn.Module):
    """Attention of the queries to themselves and to the patches."""

    q_pos_embed: torch.Tensor
    k_pos_embed: torch.Tensor

    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        self.heads, width = c["num_attention_heads"], c["hidden_size"]
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(c["encoder_hidden_size"], width)
        self.value = nn.Linear(c["encoder_hidden_size"], width)
        self.register_buffer("q_pos_embed", torch.empty(c["num_learnable_queries"], width))
        self.register_buffer("k_pos_embed", torch.empty(c["grid_size"] ** 2 + 1, width))

    def forward(self, queries: torch.Tensor, everything: torch.Tensor) -> torch.Tensor:
        places = torch.cat([self.q_pos_embed, self.k_pos_embed])
        q = self.query(queries + self.q_pos_embed)
        k, v = self.key(everything + places), self.value(everything)
        q, k, v = (_heads(each, self.heads) for each in (q, k, v))
        return _merged(F.scaled_dot_product_attention(q, k, v))


class _GathererLayer(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        width, hidden = c["hidden_size"], c["intermediate_size"]
        mlp = nn.ModuleDict(
            {
                "w1": nn.Linear(width, hidden),
                "w2": nn.Linear(hidden, width),
                "w3": nn.Linear(width, hidden),
                "ffn_ln": nn.LayerNorm(hidden, c["layer_norm_eps"]),
            }
        )
        output = {"out_proj": nn.Linear(width, width), "norm2": nn.LayerNorm(width), "mlp": mlp}
        self.crossattention = nn.ModuleDict(
            {
                "attention": _Gathering(c),
                "output": nn.ModuleDict(output),
                "norm1": nn.LayerNorm(width),
                "normk": nn.LayerNorm(c["encoder_hidden_size"]),
            }
        )

    def forward(self, queries: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        own = self.crossattention
        output = cast(nn.ModuleDict, own["output"])
        mlp = cast(nn.ModuleDict, output["mlp"])
        queries = own["norm1"](queries)
        everything = torch.cat([queries, own["normk"](patches)], dim=1)
        x = queries + output["out_proj"](own["attention"](queries, everything))
        y = output["norm2"](x)
        return cast(torch.Tensor, x + mlp["w2"](mlp["ffn_ln"](F.silu(mlp["w1"](y)) * mlp["w3"](y))))


class _Gatherer(nn.Module):
    def __init__(self, c: dict[str, Any], width: int) -> None:
        super().__init__()
        layers = nn.ModuleList(_GathererLayer(c) for _ in range(c["num_hidden_layers"]))
        self.encoder = nn.ModuleDict({"layers": layers})
        self.visual_fc = nn.Linear(c["hidden_size"], width)
        self.query_embeds = nn.Parameter(torch.empty(1, c["num_learnable_queries"], c["hidden_size"]))
        self.vit_eos = nn.Parameter(torch.empty(1, 1, width))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        x = self.query_embeds.expand(len(patches), -1, -1)
        for layer in cast(nn.ModuleList, self.encoder["layers"]):
            x = layer(x, patches)
        return torch.cat([self.visual_fc(x), self.vit_eos.expand(len(patches), -1, -1)], dim=1)


class _Two(nn.Module):
    """A module for text and one for pictures, applied to the spans of each; `span` is the pictures'."""

    def __init__(self, text: nn.Module, picture: nn.Module) -> None:
        super().__init__()
        self.multiway = nn.ModuleList([text, picture])

    def forward(self, x: torch.Tensor, span: tuple[int, int]) -> torch.Tensor:
        start, end = span
        text, picture = self.multiway
        return torch.cat([text(x[:, :start]), picture(x[:, start:end]), text(x[:, end:])], dim=1)


class _LlamaLayer(nn.Module):
    def __init__(self, c: dict[str, Any]) -> None:
        super().__init__()
        width, hidden, eps = c["hidden_size"], c["intermediate_size"], c["rms_norm_eps"]
        self.heads = c["num_attention_heads"]
        self.self_attn = nn.ModuleDict(
            {
                "q_proj": nn.Linear(width, width, bias=False),
                "k_proj": _Two(*(nn.Linear(width, width, bias=False) for _ in range(2))),
                "v_proj": _Two(*(nn.Linear(width, width, bias=False) for _ in range(2))),
                "o_proj": nn.Linear(width, width, bias=False),
            }
        )
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(width, hidden, bias=False),
                "up_proj": nn.Linear(width, hidden, bias=False),
                "down_proj": nn.Linear(hidden, width, bias=False),
            }
        )
        self.input_layernorm = _Two(*(nn.RMSNorm(width, eps) for _ in range(2)))
        self.post_attention_layernorm = _Two(*(nn.RMSNorm(width, eps) for _ in range(2)))

    def forward(
        self, x: torch.Tensor, span: tuple[int, int], turn: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        attn, mlp = self.self_attn, self.mlp
        y = self.input_layernorm(x, span)
        q = _turned(_heads(attn["q_proj"](y), self.heads), *turn)
        k = _turned(_heads(attn["k_proj"](y, span), self.heads), *turn)
        v = _heads(attn["v_proj"](y, span), self.heads)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + attn["o_proj"](_merged(out))
        y = self.post_attention_layernorm(x, span)
        return cast(torch.Tensor, x + mlp["down_proj"](F.silu(mlp["gate_proj"](y)) * mlp["up_proj"](y)))


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class _Llama(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        heads = config["num_attention_heads"]
        if config.get("num_key_value_heads") not in (None, heads):
            raise ValueError("its Llama shares keys between heads, which mPLUG-Owl2's own code cannot do")
        if config.get("rope_scaling") or config.get("attention_bias"):
            raise ValueError("its Llama has rope_scaling or attention_bias, and none of those published has")
        visual = config.get("visual_config") or {}
        self.size = config["hidden_size"] // config["num_attention_heads"]
        self.base = float(config.get("rope_theta") or 10000.0)
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(_LlamaLayer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self.vision_model = _Vision(VISION | visual.get("visual_model", {}))
        gatherer = GATHERER | visual.get("visual_abstractor", {})
        self.visual_abstractor = _Gatherer(gatherer, config["hidden_size"])

    def seen(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, queries + 1, width) of N pictures."""
        return cast(torch.Tensor, self.visual_abstractor(self.vision_model(pixels)))

    def read(self, before: torch.Tensor, pictures: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """State (N, width) that predicts what follows N rows of one text, each with its own picture."""
        texts = (self.embed_tokens(part).expand(len(pictures), -1, -1) for part in (before, after))
        first, second = texts
        x = torch.cat([first, pictures, second], dim=1)
        span = (len(before), len(before) + pictures.shape[1])
        steps = torch.arange(0, self.size, 2, device=x.device).float() / self.size
        angles = torch.outer(torch.arange(x.shape[1], device=x.device).float(), self.base**-steps)
        angles = torch.cat([angles, angles], dim=-1)
        turn = (angles.cos().to(x.dtype), angles.sin().to(x.dtype))
        for layer in self.layers:
            x = layer(x, span, turn)
        return cast(torch.Tensor, self.norm(x[:, -1]))
