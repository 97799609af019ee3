"""Chat models that see a picture as tiles (LLaVA-OneVision, InternVL, InternLM-XComposer), as bodies of
reward models: rows of text with pictures in them, and the states of their tokens.

`TiledVLM` is what such networks share. A picture is cut into tiles, which one tower encodes and a projector
brings among the words; its features are kept by content, so that many responses to one picture look at it
once. Rows of a batch are padded on the right, where causal attention never looks: a row's states are those
that it has alone. What is read of the states is each network's own.
"""

import json
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import nn

from ...engine.batching import Cost
from ...engine.cache import ByteLRU
from ...engine.engine import current
from ...errors import Unscorable
from ...media import Media
from ..base import TorchNetwork, loading
from ..checkpoints import files_of, misfits, state_of
from ..pictures import decoded, in_turn
from ..weights import folder_of
from .answers import Sampling
from .decoding import CACHE, Start, decode, forked
from .vision import KEPT

Tensors = dict[str, torch.Tensor]


class Chat(NamedTuple):
    """Pictures and the texts round them: one text before each picture, and one behind the last. `tiles` is
    what a picture may have at most; 0 leaves that to the network."""

    media: tuple[Media, ...]
    texts: tuple[str, ...]
    tiles: int = 0


class Question(NamedTuple):
    """One call; `detail` is the network's own, and hashable."""

    chat: Chat
    detail: Any


class Tiles(NamedTuple):
    """Picture as its network takes it: normalised tiles (n, 3, side, side), and how they lie."""

    pixels: torch.Tensor
    layout: tuple[int, ...]


class Row(NamedTuple):
    """Ids of a chat's texts, and the places of its pictures among those of the batch."""

    ids: list[list[int]]
    pictures: list[int]


class Batch(NamedTuple):
    """Pictures without repetition, their tiles where their features are not kept, and the rows."""

    looks: list[tuple[Media, int]]
    tiles: list[Tiles | None]
    rows: list[Row]
    details: list[Any]


class Embedded(NamedTuple):
    """A row's tokens: vectors (L, width), and ids (L,) with -1 for those of a picture."""

    vectors: torch.Tensor
    ids: torch.Tensor


class _Speaker(NamedTuple):
    """The language model as `decoding.decode` calls it, whose positions have an axis more."""

    whole: Any

    @property
    def lm_head(self) -> nn.Module:
        return cast(nn.Module, self.whole.lm_head)

    def model(self, *, position_ids: torch.Tensor, **given: Any) -> Any:
        return self.whole.language(position_ids=position_ids[0], **given)


class TiledVLM(TorchNetwork):
    """One checkpoint in its published format: config.json, shards of tensors, a tokenizer's files.

    Args:
        weights: a folder or hub id.
        dtype: of the tower and the language model; what is read of the states is computed in float32.
    """

    kind = ""
    """`model_type` of the config that it reads."""

    def __init__(self, weights: str, *, dtype: str = "float32", **options: Any) -> None:
        super().__init__(weights, dtype=dtype, **options)
        self._features = ByteLRU(KEPT)

    async def _ask(self, op: str, chat: Chat, detail: Any = None) -> Any:
        item = Question(chat, detail)
        key = (*(media.key for media in chat.media), chat.texts, chat.tiles, detail)
        share = chat.media[0].key if chat.media else None
        return await current().submit(self, op, item, key=key, share=share)

    # --- what a network is ------------------------------------------------------------------------

    @abstractmethod
    def usual(self, size: tuple[int, ...], most: int) -> int:
        """Tokens of a picture of this (height, width), about and without the weights."""

    @abstractmethod
    def measure(self, size: tuple[int, ...], most: int) -> int:
        """Tokens of a picture of this (height, width) in `most` tiles (see `Chat.tiles`)."""

    @abstractmethod
    def tiles(self, picture: Image.Image, most: int) -> Tiles:
        """A picture cut into tiles, as its publisher does it."""

    @abstractmethod
    def encoded(self, text: str, first: bool) -> list[int]:
        """Ids of a text; the first of a row begins as the tokenizer begins."""

    @abstractmethod
    def seen(self, pixels: torch.Tensor, layouts: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        """Features (T, width) of each picture, of all their tiles in turn."""

    @abstractmethod
    def read(self, op: str, states: torch.Tensor, row: Embedded, detail: Any) -> Any:
        """What the network says of one row by its states (L, width)."""

    def vectors(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings (L, width) of words."""
        return cast(torch.Tensor, self.module.language.get_input_embeddings()(ids))

    def run(self, vectors: torch.Tensor, pictured: torch.Tensor) -> torch.Tensor:
        """States (R, L, width) of rows; `pictured` (R, L) marks the tokens of pictures."""
        places = torch.arange(vectors.shape[1], device=vectors.device)[None]
        output = self.module.language(inputs_embeds=vectors, position_ids=places, use_cache=False)
        return cast(torch.Tensor, output.last_hidden_state)

    # --- files ------------------------------------------------------------------------------------

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
            config: dict[str, Any] = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
            if (kind := config.get("model_type")) != self.kind:
                raise ValueError(f"it is a {kind}, where a {self.kind} is read")
            return config

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with loading(self.name):
            return AutoTokenizer.from_pretrained(self.folder)

    def state(self) -> Tensors:
        """All tensors by their published names."""
        return {
            name: tensor for file in files_of(self.folder) for name, tensor in state_of(str(file)).items()
        }

    @property
    def longest(self) -> int:
        """Tokens of a row, at most."""
        return int(self.config["max_position_embeddings"])

    # --- the engine's side ------------------------------------------------------------------------

    def unload(self) -> None:
        self._features.clear()
        super().unload()

    def cost(self, op: str, item: Question) -> Cost:
        tokens = sum(self.usual(media.size, item.chat.tiles) for media in item.chat.media)
        tokens += sum(map(len, item.chat.texts)) // 3 + 24
        pixels = sum(3 * media.size[0] * media.size[1] for media in item.chat.media)
        return Cost(tokens + self.ahead(op, item.detail), pixels)

    def ahead(self, op: str, detail: Any) -> int:
        """Tokens that a call writes, at most."""
        return 0

    def prepare(self, op: str, items: list[Question]) -> Batch:
        looks: dict[Hashable, tuple[Media, int]] = {}
        for item in items:
            for media in item.chat.media:
                looks.setdefault((media.key, item.chat.tiles), (media, item.chat.tiles))
        places = {key: place for place, key in enumerate(looks)}
        missing = [(key, *look) for key, look in looks.items() if key not in self._features]
        made = in_turn([media for _, media, _ in missing], lambda index: self._tiles(*missing[index][1:]))
        fresh = {key: tiles for (key, *_), tiles in zip(missing, made, strict=True)}
        tiles = [fresh.get(key) for key in looks]
        with self.processing:
            rows = [
                Row(
                    [self.encoded(text, not place) for place, text in enumerate(item.chat.texts)],
                    [places[media.key, item.chat.tiles] for media in item.chat.media],
                )
                for item in items
            ]
        lengths = [self.measure(media.size, most) for media, most in looks.values()]
        for row in rows:
            length = sum(map(len, row.ids)) + sum(lengths[place] for place in row.pictures)
            if length > self.longest:
                raise Unscorable(
                    f"the prompt has {length} tokens, and {self.name} reads at most {self.longest}"
                )
        return Batch(list(looks.values()), tiles, rows, [item.detail for item in items])

    def _tiles(self, media: Media, most: int) -> Tiles:
        return self.tiles(Image.fromarray(decoded(media).cpu().permute(1, 2, 0).numpy()), most)

    @torch.inference_mode()
    def forward(self, op: str, batch: Batch) -> list[Any]:
        features = self._encoded(batch)
        rows = [self._embedded(row, features) for row in batch.rows]
        return self.answers(op, rows, batch.details)

    def answers(self, op: str, rows: list[Embedded], details: list[Any]) -> list[Any]:
        """One answer for each row."""
        states = self.run(*padded(rows))
        return [
            self.read(op, states[number, : len(row.ids)], row, detail)
            for number, (row, detail) in enumerate(zip(rows, details, strict=True))
        ]

    def written(
        self, rows: list[Embedded], most: Sequence[int], stops: set[int], penalty: float = 1.0
    ) -> list[tuple[list[int], bool]]:
        """What the language model writes after each row, greedily: ids, and whether it ended by itself.

        Args:
            rows: the prompts.
            most: ids of each answer, at most.
            stops: ids that end one.
            penalty: of what was written before.
        """
        vectors, _ = padded(rows)
        lengths = torch.tensor([len(row.ids) for row in rows], device=self.device)
        places = torch.arange(vectors.shape[1], device=self.device)
        output = self.module.language(inputs_embeds=vectors, position_ids=places[None], use_cache=True)
        numbers = torch.arange(len(rows), device=self.device)
        cache = forked(getattr(output, CACHE), numbers, places.expand(len(rows), -1))
        mask = (places < lengths[:, None]).long()
        last = (lengths - 1)[None].expand(4, -1)
        start = Start(output.last_hidden_state[numbers, lengths - 1], cache, mask, last)
        samplings = [Sampling(int(each), 0.0, 0) for each in most]
        # Generation from vectors knows no ids of the prompt, and penalises what is written alone.
        nothing = [np.empty(0, np.int64)] * len(rows)
        found = decode(_Speaker(self.module), start, samplings, stops, penalty, nothing)
        return [(list(ids), bool(ended)) for ids, ended in found]

    def _encoded(self, batch: Batch) -> list[torch.Tensor]:
        """Features of each picture of the batch; those that are not kept go through the tower in one call."""
        keys = [(media.key, most) for media, most in batch.looks]
        found = [self._features.get(key) for key in keys]
        wanted = [place for place, one in enumerate(found) if one is None]
        if wanted:
            tiles = [batch.tiles[place] or self._tiles(*batch.looks[place]) for place in wanted]
            pixels = torch.cat([each.pixels for each in tiles]).to(self.device, self.dtype)
            made = self.seen(pixels, [each.layout for each in tiles])
            for place, features in zip(wanted, made, strict=True):
                found[place] = features
                self._features.put(keys[place], features.clone())
        return found

    def _embedded(self, row: Row, features: list[torch.Tensor]) -> Embedded:
        vectors, ids = [], []
        for place, text in enumerate(row.ids):
            known = torch.tensor(text, dtype=torch.long, device=self.device)
            vectors.append(self.vectors(known))
            ids.append(known)
            if place < len(row.pictures):
                picture = features[row.pictures[place]]
                vectors.append(picture.to(vectors[-1]))  # it may have been kept before the weights moved
                ids.append(known.new_full((len(picture),), -1))
        return Embedded(torch.cat(vectors), torch.cat(ids))


def padded(rows: Sequence[Embedded]) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (R, L, width) of rows, zeros behind their ends, and marks (R, L) of the tokens of pictures."""
    vectors = nn.utils.rnn.pad_sequence([row.vectors for row in rows], batch_first=True)
    ids = nn.utils.rnn.pad_sequence([row.ids for row in rows], batch_first=True)
    return vectors, ids == -1


def taken(state: Tensors, names: Mapping[str, str]) -> Tensors:
    """Tensors whose names begin with a key of `names`, under its value in the key's place; they leave the
    state."""
    found: Tensors = {}
    for name in list(state):
        prefix = next((prefix for prefix in names if name.startswith(prefix)), None)
        if prefix is not None:
            found[names[prefix] + name.removeprefix(prefix)] = state.pop(name)
    return found


def native(kind: Any, config: Any, tensors: Tensors, dtype: torch.dtype, name: str) -> nn.Module:
    """A module of transformers with exactly these tensors.

    Args:
        kind: its class.
        config: of that class.
        tensors: by its names.
        dtype: of the module.
        name: of the weights, for the message.

    Raises:
        ValueError: names are missing or left over, or shapes differ.
    """
    with torch.device("meta"):
        bare = kind(config)
    if said := misfits(bare.state_dict(), tensors):
        raise ValueError(f"{name} does not fit its config.json, in the {kind.__name__}: {said}")
    module = kind.from_pretrained(
        None, config=config, state_dict=tensors, dtype=dtype, attn_implementation="sdpa"
    )
    return cast(nn.Module, module)


def linear(weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> nn.Linear:
    """A linear layer of these tensors."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=dtype)
    layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return layer


def linears(state: Tensors, prefix: str, dtype: torch.dtype, name: str) -> dict[str, nn.Linear]:
    """Linear layers whose tensors are `prefix`, then a name without dots, then weight and bias; they leave
    the state.

    Raises:
        ValueError: there are none.
    """
    found: dict[str, nn.Linear] = {}
    tensors = taken(state, {prefix: ""})
    for key in sorted(name for name in tensors if name.endswith(".weight")):
        stem = key.removesuffix(".weight")
        found[stem] = linear(tensors[key], tensors.get(f"{stem}.bias"), dtype)
    if not found:
        raise ValueError(f"{name} has no {prefix}: is it a reward model?")
    return found


def left_over(state: Tensors, name: str) -> None:
    """Refuse tensors that nothing has taken.

    Raises:
        ValueError: there are some; the first is named.
    """
    if state:
        raise ValueError(f"{name} has {len(state)} tensors that nothing reads ({min(state)})")
