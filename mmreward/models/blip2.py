"""BLIP-2 as FGA-BLIP2 is released (EvalMuse, arXiv:2412.18150): an EVA ViT, and a Q-Former whose queries look
at the picture while they read the prompt.

`Matched` has the names of the published state dict. Each query and each word of the prompt has two numbers,
whose softmax says whether it matches: the mean over queries is the pair's score, and that of a word the
word's. Sizes are read off the tensors. What no tensor says: heads of 88 in the ViT and 64 in the Q-Former,
its epsilons, and that every query looks at the picture in every layer that has the tensors for it.

What a port may miss: the file leaves out the ViT, which was frozen, and the rest of BLIP-2's own file (tuned
on COCO at 364 pixels) stands for what it lacks; transformers' BLIP-2 has another epsilon behind the ViT.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from ..engine.engine import current
from ..media import Media
from .base import loading
from .blip import MEAN, STD, Added, Attention
from .checkpoints import fetched, fill, state_of
from .paired import PairScorer, Tokens
from .pixels import Recipe
from .weights import content_of, placed

EYES = 88
"""Width of one attention head of the ViT."""
UNUSED = re.compile(
    r"temp|(vision|text)_proj\..*|mask_proj\..*|Qformer\.cls\..*|Qformer\.bert\.(pooler\..*|.*position_ids)"
)
"""Names in published files of what the score does not go through."""
VOCABULARY = "Qformer.bert.embeddings.word_embeddings.weight"
ADDED = "[DEC]"
"""Token that is appended to BERT's vocabulary."""
WORDS = 50
"""Of a prompt, at most."""
LENGTH = 64
"""Tokens of a prompt, about, for the size of a batch."""


class Match(NamedTuple):
    """Mean of a pair's queries, 0 to 1; the same of each token, with its id; whether the prompt was cut."""

    value: float
    tokens: tuple[float, ...]
    ids: tuple[int, ...]
    truncated: bool


# --- the module ---------------------------------------------------------------------------------------------


class _Eyes(nn.Module):
    """The ViT's attention, whose keys have no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_bias, self.v_bias = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        parts = F.linear(x, self.qkv.weight, bias).chunk(3, dim=-1)
        q, k, v = (part.reshape(*x.shape[:2], -1, EYES).transpose(1, 2) for part in parts)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return cast(torch.Tensor, self.proj(seen))


class _Block(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = _Eyes(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return cast(torch.Tensor, x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))))


class _Vision(nn.Module):
    def __init__(self, width: int, patch: int, tokens: int, inner: int, depth: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.blocks = nn.ModuleList(_Block(width, inner) for _ in range(depth))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return x


class _Layer(nn.Module):
    """Layer of the Q-Former; `looks`: its queries attend to the picture."""

    def __init__(self, width: int, context: int, inner: int, looks: bool) -> None:
        super().__init__()
        self.attention = Attention(width, width)
        if looks:
            self.crossattention = Attention(width, context)
        self.looks = looks
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.intermediate_query = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output, self.output_query = Added(inner, width), Added(inner, width)

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor, picture: torch.Tensor, queries: int
    ) -> torch.Tensor:
        x = self.attention(x, x, mask)
        asking, words = x[:, :queries], x[:, queries:]
        if self.looks:
            asking = self.crossattention(asking, picture, None)
        asking = self.output_query(F.gelu(self.intermediate_query["dense"](asking)), asking)
        words = self.output(F.gelu(self.intermediate["dense"](words)), words)
        return torch.cat([asking, words], dim=1)


class Matched(nn.Module):
    """All of it; made on the "meta" device from a state's shapes.

    Args:
        state: names and tensors, as published.

    Raises:
        ValueError: the names are not BLIP-2's.
    """

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        eyes, words = "visual_encoder.", "Qformer.bert."
        try:
            width, _, patch, _ = shapes[f"{eyes}patch_embed.proj.weight"]
            tokens = shapes[f"{eyes}pos_embed"][1]
            inner = shapes[f"{eyes}blocks.0.mlp.fc1.weight"][0]
            vocabulary, narrow = shapes[VOCABULARY]
            positions = shapes[f"{words}embeddings.position_embeddings.weight"][0]
            within = shapes[f"{words}encoder.layer.0.intermediate.dense.weight"][0]
            queries = shapes["query_tokens"][1]
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"no FGA-BLIP2: {error} is not as it should be") from None
        depth = len({name.split(".")[2] for name in shapes if name.startswith(f"{eyes}blocks.")})
        stem = f"{words}encoder.layer."
        layers = sorted({int(name[len(stem) :].split(".")[0]) for name in shapes if name.startswith(stem)})
        looks = [f"{stem}{n}.crossattention.self.query.weight" in shapes for n in layers]
        self.visual_encoder = _Vision(width, patch, tokens, inner, depth)
        self.ln_vision = nn.LayerNorm(width, eps=1e-5)
        self.query_tokens = nn.Parameter(torch.empty(1, queries, narrow))
        embeddings = {
            "word_embeddings": nn.Embedding(vocabulary, narrow),
            "position_embeddings": nn.Embedding(positions, narrow),
            "LayerNorm": nn.LayerNorm(narrow, eps=1e-12),
        }
        encoder = {"layer": nn.ModuleList(_Layer(narrow, width, within, look) for look in looks)}
        bert = {"embeddings": nn.ModuleDict(embeddings), "encoder": nn.ModuleDict(encoder)}
        self.Qformer = nn.ModuleDict({"bert": nn.ModuleDict(bert)})
        self.itm_head = nn.Linear(narrow, 2)

    @property
    def size(self) -> int:
        """Height and width of the picture."""
        patch = cast(nn.Conv2d, self.visual_encoder.patch_embed["proj"]).kernel_size[0]
        return patch * math.isqrt(self.visual_encoder.pos_embed.shape[1] - 1)

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """(N, 1 + T), float32: the mean of a pair's queries, and each of its T tokens."""
        picture = self.ln_vision(self.visual_encoder(pixels).float())
        bert = cast(nn.ModuleDict, self.Qformer["bert"])
        parts, encoder = cast(nn.ModuleDict, bert["embeddings"]), cast(nn.ModuleDict, bert["encoder"])
        places = cast(nn.Embedding, parts["position_embeddings"]).weight[: ids.shape[1]]
        asking = self.query_tokens.expand(len(ids), -1, -1)
        count = asking.shape[1]
        x = parts["LayerNorm"](torch.cat([asking, parts["word_embeddings"](ids) + places], dim=1))
        mask = torch.cat([attended.new_ones(len(ids), count), attended], dim=1).bool()[:, None, None]
        for layer in cast(nn.ModuleList, encoder["layer"]):
            x = layer(x, mask, picture, count)
        matches = self.itm_head(x).softmax(-1)[..., 1]
        return torch.cat([matches[:, :count].mean(1, keepdim=True), matches[:, count:]], dim=1)


# --- the network --------------------------------------------------------------------------------------------


class Matcher(PairScorer):
    """FGA-BLIP2 of a picture and a prompt; see `mmreward.models.matcher`."""

    def __init__(self, weights: str, base: str, vocabulary: str, *, dtype: str, resize: str) -> None:
        words = content_of(placed(vocabulary))
        before = content_of(placed(base)) if base else ""
        super().__init__(weights, dtype=dtype, resize=resize, length=LENGTH, vocabulary=words, base=before)
        self.base, self.vocabulary = base, vocabulary

    async def match(self, media: Media, prompt: str) -> Match:
        """How well one picture matches a prompt, and each of its words."""
        return cast(Match, await current().submit(self, "pair", (media, prompt), key=(media.key, prompt)))

    def ids_of(self, text: str) -> tuple[int, ...]:
        """Ids of a text's words, without the ends."""
        with self.processing:
            return tuple(self._tokenizer.encode(text).ids[1:-1])

    @cached_property
    def recipe(self) -> Recipe:
        """The whole picture, squashed."""
        side = self.module.size
        return Recipe(size=(side, side), mean=MEAN, std=STD, fit="squash")

    def build(self) -> nn.Module:
        state = (state_of(self.base) if self.base else {}) | state_of(self.name)
        state = {name: value for name, value in state.items() if not UNUSED.fullmatch(name)}
        with torch.device("meta"):
            module = Matched(state)
        module.to_empty(device="cpu")
        fill(module, {name: value.float() for name, value in state.items()}, self.name)
        module.visual_encoder.to(self.dtype)
        words, wanted = self._tokenizer.get_vocab_size(), len(state[VOCABULARY])
        if words != wanted:
            raise ValueError(f"{self.vocabulary} has {words} words with {ADDED}, and {self.name} {wanted}")
        return module

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers.implementations import BertWordPieceTokenizer

        with loading(self.vocabulary):
            tokenizer = BertWordPieceTokenizer(str(fetched(self.vocabulary)), lowercase=True)
            tokenizer.add_special_tokens([ADDED])
        return tokenizer

    def tokenize(self, prompts: Sequence[str]) -> Tokens:
        """Ids and mask, padded to the longest prompt and cut only where there are no positions."""
        captions = [caption_of(prompt) for prompt in prompts]
        most = self.module.Qformer["bert"]["embeddings"]["position_embeddings"].num_embeddings
        with self.processing:
            found = [self._tokenizer.encode(caption).ids for caption, _ in captions]
        end = found[0][-1]
        cut = [short or len(ids) > most for ids, (_, short) in zip(found, captions, strict=True)]
        found = [ids if len(ids) <= most else [*ids[: most - 1], end] for ids in found]
        ids = torch.zeros(len(found), max(map(len, found)), dtype=torch.long)
        attended = torch.zeros_like(ids)
        for row, one in enumerate(found):
            ids[row, : len(one)] = torch.tensor(one)
            attended[row, : len(one)] = 1
        return Tokens((ids, attended), cut)

    def values_of(self, pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        return super().values_of(pixels, prompts)[:, 0]

    @torch.inference_mode()
    def forward(self, op: str, batch: Any) -> list[Any]:
        pictures, tokens = batch
        ids, attended = tokens.tensors
        found = self._run(pictures.on(self.device, self.recipe), tokens).cpu().tolist()
        lengths = attended.sum(1).tolist()
        return [
            Match(row[0], tuple(row[1 : length + 1]), tuple(own[:length]), cut)
            for row, own, length, cut in zip(found, ids.tolist(), lengths, tokens.cut, strict=True)
        ]


def caption_of(prompt: str) -> tuple[str, bool]:
    """A prompt as BLIP reads captions: small letters, without signs but commas, `WORDS` words; and whether
    there were more."""
    text = re.sub(r"([.!\"()*#:;~])", " ", prompt.lower())
    text = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")
    words = text.split(" ")
    return " ".join(words[:WORDS]), len(words) > WORDS
