"""BLIP with a scalar head (ImageReward, CycleReward): a ViT, a BERT that looks at it, and linear layers.

`BLIP` has exactly the names of the published state dicts, so that a file fits or is refused. Widths, depths
and the size of the picture are read off the tensors; what no tensor says (heads of 64, GELU, the epsilons of
both layer norms) is that of BLIP and BERT. `BlipScorer` is the network: the text encoder attends to the
picture at each of its layers.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from .base import loading
from .checkpoints import fetched, fill, state_of
from .paired import PairScorer, Tokens
from .pixels import Recipe
from .weights import content_of, placed

HEAD_WIDTH = 64
"""Width of one attention head, in both encoders."""
UNUSED = (
    "blip.vision_proj.",
    "blip.text_proj.",
    "blip.text_encoder.embeddings.position_ids",
)
"""Names in published files of what the score does not go through."""
ADDED = ("[DEC]", "[ENC]")
"""Tokens that BLIP appends to BERT's vocabulary."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


# --- the module ---------------------------------------------------------------------------------------------


def _split(tensor: torch.Tensor) -> torch.Tensor:
    """(N, T, width) to (N, heads, T, 64)."""
    return tensor.view(*tensor.shape[:-1], -1, HEAD_WIDTH).transpose(1, 2)


def _joined(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.transpose(1, 2).flatten(2)


class _Qkv(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        query, key, value = (_split(part) for part in self.qkv(tokens).chunk(3, dim=-1))
        return cast(torch.Tensor, self.proj(_joined(F.scaled_dot_product_attention(query, key, value))))


class _Mlp(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.fc2(F.gelu(self.fc1(tokens))))


class _Block(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = _Qkv(width), _Mlp(width, inner)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return cast(torch.Tensor, tokens + self.mlp(self.norm2(tokens)))


class Vision(nn.Module):
    """ViT that returns all its tokens, normalised; (N, 3, side, side) to (N, 1 + patches, width)."""

    def __init__(self, width: int, patch: int, tokens: int, inner: int, depth: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.blocks = nn.ModuleList(_Block(width, inner) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return cast(torch.Tensor, self.norm(tokens))


class _Projections(nn.Module):
    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key, self.value = nn.Linear(context, width), nn.Linear(context, width)


class Added(nn.Module):
    """Linear layer, added to what came before it, and normalised."""

    def __init__(self, given: int, width: int) -> None:
        super().__init__()
        self.dense, self.LayerNorm = nn.Linear(given, width), nn.LayerNorm(width, eps=1e-12)

    def forward(self, hidden: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.LayerNorm(self.dense(hidden) + before))


class Attention(nn.Module):
    """BERT's attention to a context, added to the tokens and normalised."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.self, self.output = _Projections(width, context), Added(width, width)

    def forward(self, tokens: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        query, key = _split(self.self.query(tokens)), _split(self.self.key(context))
        value = _split(self.self.value(context))
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return cast(torch.Tensor, self.output(_joined(seen), tokens))


class _Layer(nn.Module):
    def __init__(self, width: int, context: int, inner: int) -> None:
        super().__init__()
        self.attention, self.crossattention = Attention(width, width), Attention(width, context)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = Added(inner, width)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        tokens = self.attention(tokens, tokens, mask)
        tokens = self.crossattention(tokens, picture, None)
        return cast(torch.Tensor, self.output(F.gelu(self.intermediate["dense"](tokens)), tokens))


class TextEncoder(nn.Module):
    """BERT whose layers attend to a picture's tokens as well; (N, T) ids to (N, T, width)."""

    def __init__(
        self, width: int, context: int, inner: int, depth: int, vocabulary: int, positions: int
    ) -> None:
        super().__init__()
        parts = {
            "word_embeddings": nn.Embedding(vocabulary, width),
            "position_embeddings": nn.Embedding(positions, width),
            "LayerNorm": nn.LayerNorm(width, eps=1e-12),
        }
        self.embeddings = nn.ModuleDict(parts)
        layers = nn.ModuleList(_Layer(width, context, inner) for _ in range(depth))
        self.encoder = nn.ModuleDict({"layer": layers})

    def forward(self, ids: torch.Tensor, attended: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        places = cast(nn.Embedding, self.embeddings["position_embeddings"]).weight[: ids.shape[1]]
        tokens = self.embeddings["LayerNorm"](self.embeddings["word_embeddings"](ids) + places)
        mask = attended.bool()[:, None, None]
        for layer in cast(nn.ModuleList, self.encoder["layer"]):
            tokens = layer(tokens, mask, picture)
        return cast(torch.Tensor, tokens)


class BLIP(nn.Module):
    """Both encoders and the head on the text's first token; made on the "meta" device from a state's shapes.

    Args:
        state: names and tensors, as published.
        activation: GELU between the head's layers.

    Raises:
        ValueError: the names are not those of BLIP with a head.
    """

    def __init__(self, state: Mapping[str, torch.Tensor], activation: bool) -> None:
        super().__init__()
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        eyes, words = "blip.visual_encoder.", "blip.text_encoder."
        try:
            width, _, patch, _ = shapes[f"{eyes}patch_embed.proj.weight"]
            vision = (
                width,
                patch,
                shapes[f"{eyes}pos_embed"][1],
                shapes[f"{eyes}blocks.0.mlp.fc1.weight"][0],
            )
            vocabulary, narrow = shapes[f"{words}embeddings.word_embeddings.weight"]
            inner = shapes[f"{words}encoder.layer.0.intermediate.dense.weight"][0]
            positions = shapes[f"{words}embeddings.position_embeddings.weight"][0]
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"no BLIP with a head: {error} is not as it should be") from None
        depths = [_depth(shapes, f"{eyes}blocks."), _depth(shapes, f"{words}encoder.layer.")]
        parts = {
            "visual_encoder": Vision(*vision, depths[0]),
            "text_encoder": TextEncoder(narrow, width, inner, depths[1], vocabulary, positions),
        }
        self.blip = nn.ModuleDict(parts)
        self.mlp = nn.ModuleDict({"layers": nn.ModuleDict(_head(shapes, activation))})
        self.activation = activation

    @property
    def size(self) -> int:
        """Height and width of the picture."""
        vision = cast(Vision, self.blip["visual_encoder"])
        patch = cast(nn.Conv2d, vision.patch_embed["proj"]).kernel_size[0]
        return patch * math.isqrt(vision.pos_embed.shape[1] - 1)

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """The head's output (N,), float32, of normalised pixels and as many prompts."""
        picture = self.blip["visual_encoder"](pixels)
        hidden = self.blip["text_encoder"](ids, attended, picture)[:, 0].float()
        for number, layer in enumerate(cast(nn.ModuleDict, self.mlp["layers"]).values()):
            hidden = layer(F.gelu(hidden) if number and self.activation else hidden)
        return cast(torch.Tensor, hidden[:, 0])


def _head(shapes: Mapping[str, Any], activation: bool) -> dict[str, nn.Linear]:
    """Layers by index, without their tensors."""
    stem, tail = "mlp.layers.", ".weight"
    found = sorted(int(n[len(stem) : -len(tail)]) for n in shapes if n.startswith(stem) and n.endswith(tail))
    wanted = [0, 2, 4, 6, 8] if activation else [0, 2, 4, 6, 7]
    if found != wanted:
        # The indices count what stands between the layers, which the tensors alone do not tell.
        raise ValueError(f"the head's layers are {found}, and not {wanted}: this is another scorer's file")
    return {str(n): nn.Linear(*reversed(shapes[f"{stem}{n}{tail}"])) for n in found}


def _depth(names: Mapping[str, Any], stem: str) -> int:
    return len({name[len(stem) :].split(".")[0] for name in names if name.startswith(stem)})


# --- the network --------------------------------------------------------------------------------------------


class BlipScorer(PairScorer):
    """The head's output for a picture and a prompt; see `mmreward.models.blip_head`."""

    def __init__(
        self, weights: str, vocabulary: str, tokens: int, *, dtype: str, resize: str, activation: bool
    ) -> None:
        options = {"tokens": tokens, "activation": activation}
        words = content_of(placed(vocabulary))
        super().__init__(weights, dtype=dtype, resize=resize, length=tokens, vocabulary=words, **options)
        self.vocabulary, self.activation = vocabulary, activation

    @cached_property
    def recipe(self) -> Recipe:
        """Shorter side to the input, bicubic, and the middle of it; torchvision's transforms as published."""
        side = self.module.size
        return Recipe(size=(side, side), mean=MEAN, std=STD)

    def build(self) -> nn.Module:
        state = {name: value for name, value in state_of(self.name).items() if not name.startswith(UNUSED)}
        with torch.device("meta"):
            module = BLIP(state, self.activation)
        module.to_empty(device="cpu")
        fill(module, state, self.name)
        module.blip.to(self.dtype)
        module.mlp.float()
        return module

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers.implementations import BertWordPieceTokenizer

        with loading(self.vocabulary):
            tokenizer = BertWordPieceTokenizer(str(fetched(self.vocabulary)), lowercase=True)
            tokenizer.add_special_tokens(list(ADDED))
            wanted = self.module.blip["text_encoder"].embeddings["word_embeddings"].num_embeddings
            if (words := tokenizer.get_vocab_size()) != wanted:
                added = " and ".join(ADDED)
                raise ValueError(f"{words} words with {added}, and {self.name} has {wanted}")
        return tokenizer

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Ids and mask, padded and cut to the published length."""
        with self.processing:
            tokenizer = self._tokenizer
            found = [tokenizer.encode(prompt).ids for prompt in prompts]
        pad, end = (tokenizer.token_to_id(token) for token in ("[PAD]", "[SEP]"))
        cut = [len(ids) > self.length for ids in found]
        kept = self.length - 1
        found = [[*ids[:kept], end] if long else ids for ids, long in zip(found, cut, strict=True)]
        ids = torch.full((len(found), self.length), pad)
        attended = torch.zeros_like(ids)
        for row, one in enumerate(found):
            ids[row, : len(one)] = torch.tensor(one)
            attended[row, : len(one)] = 1
        return Tokens((ids, attended), cut)
