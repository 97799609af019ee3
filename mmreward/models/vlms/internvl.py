"""InternVL 2.5 and 3 in the format of their publisher's code (`internvl_chat`), as VisualPRM and ArtiMuse are
released: an InternViT and an InternLM2 or Qwen2, of which the probabilities of a few tokens are read.

Op "marks": probabilities of labels against one another, at every place where a given answer stands, or as the
next token. Op "write": an answer, greedily, as VLAC (an InternVL 2) gives it. The published tensors become
transformers' own InternViT, Llama and Qwen2, so that no code of the checkpoint runs; InternLM2 is a Llama
whose query, key and value lie in one matrix, group by group.

What a port may miss: a picture is stretched to the nearest sheet of tiles, and where sheets are equally near
the order decides in which Python keeps a set; the thumbnail comes last, and only beside several tiles; the
system message is the config's where it has one, and else a Chinese sentence.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from ...errors import Unscorable
from ...media import Media
from ..base import loading
from ..pieces import Pieces, pieces_of
from .answers import Written
from .tiled import Chat, Embedded, Tensors, TiledVLM, Tiles, left_over, linear, native, taken

BEGIN, END = "<|im_start|>", "<|im_end|>"
USER, ASSISTANT = f"{BEGIN}user\n", f"{BEGIN}assistant\n"
CLOSE = f"{END}\n"
PICTURE = "<image>"
"""Mark of a picture in a prompt."""
MARKS = (BEGIN, END, "<img>", "</img>", "<IMG_CONTEXT>")
"""Tokens that nobody's text may have."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SETTINGS = {"select_layer": -1, "ps_version": "v2", "downsample_ratio": 0.5}
"""What a config must say for its network to be run as it is run here."""
TEMPLATES = ("internvl2_5", "internlm2-chat")
"""Chats that are known: of InternVL 2.5, and of InternVL 2 with InternLM2."""
LAYERS = {
    "attn.proj": "attention.projection_layer",
    "attn.q_norm": "attention.q_norm",
    "attn.k_norm": "attention.k_norm",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
"""Parts of an InternViT's layer: published name -> transformers'."""
WORDS = {
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
"""Parts of an InternLM2's layer: published name -> a Llama's in transformers."""
FACTS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_theta",
    "max_position_embeddings",
    "vocab_size",
)
"""Sizes of a language model, by one name in every config."""
LAST = 2
"""Id of the end of a text in InternLM2."""
Marks = tuple[tuple[float, ...], ...]
"""For each place that is read, the probabilities of the labels."""


class InternVL(TiledVLM):
    """One checkpoint.

    Args:
        weights: a folder or hub id in the published format.
        writes: answers are written, and the older InternVL 2 is read too; else labels are read.
        dtype: of all parts; probabilities are computed in float32.
    """

    kind = "internvl_chat"

    def __init__(self, weights: str, *, writes: bool = False, dtype: str = "float32") -> None:
        super().__init__(weights, dtype=dtype, **({"writes": True} if writes else {}))
        self._templates = TEMPLATES if writes else TEMPLATES[:1]
        self._label_ids: dict[tuple[str, ...], list[int]] = {}

    async def marks(
        self,
        text: str,
        media: tuple[Media, ...],
        labels: tuple[str, ...],
        *,
        answer: str = "",
        tiles: int = 12,
    ) -> Marks:
        """Probabilities of labels, which sum to one, at each place of the text where they are read.

        Args:
            text: the whole chat, with one `PICTURE` for each picture.
            media: its pictures.
            labels: tokens of one piece each.
            answer: that stands in every turn of the assistant: the labels are read where it is predicted.
                Empty reads them as the next token of the chat.
            tiles: of a picture, at most, its thumbnail not counted.

        Raises:
            Unscorable: not as many places as pictures.
        """
        texts = text.split(PICTURE, len(media))
        if len(texts) != len(media) + 1:
            raise Unscorable(f"{len(media)} pictures need as many places ({PICTURE}), not {len(texts) - 1}")
        parts = [
            ("</img>" if place else "") + part + ("<img>" if place < len(media) else "")
            for place, part in enumerate(texts)
        ]
        return cast(Marks, await self._ask("marks", Chat(media, tuple(parts), tiles), (labels, answer)))

    async def write(
        self,
        media: Sequence[Media],
        prompt: str,
        *,
        max_tokens: int = 512,
        system: str = "",
        places: Sequence[int] = (),
        tiles: int = 1,
    ) -> Written:
        """An answer, greedily, in the chat of ms-swift, by which VLAC was trained.

        Args:
            media: pictures.
            prompt: of the user's turn.
            max_tokens: at which the answer is cut off.
            system: message; "" for none.
            places: characters of the prompt before each picture; () shows them first.
            tiles: of a picture, at most.

        Raises:
            Unscorable: the prompt has one of the chat's own tokens.
        """
        for mark in MARKS:
            if mark in prompt + system:
                raise Unscorable(f"the prompt has {mark}, a token of the chat's own")
        ends = [0, *(places or [0] * len(media)), len(prompt)]
        cut = [prompt[start:end] for start, end in pairwise(ends)]
        before = (f"{BEGIN}system\n{system}{CLOSE}" if system else "") + USER
        parts = [
            ("</img>\n" if place else before)
            + part
            + ("<img>" if place < len(media) else f"{CLOSE}{ASSISTANT}")
            for place, part in enumerate(cut)
        ]
        return cast(Written, await self._ask("write", Chat(tuple(media), tuple(parts), tiles), max_tokens))

    def system(self, usual: str, strictly: bool = False) -> str:
        """The system message: the config's where it has one, else the usual one.

        Args:
            usual: of the publisher's template.
            strictly: a config that names the setting is followed though it is empty, as ArtiMuse's code does:
                null then becomes the word None.
        """
        if strictly and "system_message" in self.config:
            return str(self.config["system_message"])
        return str(self.config.get("system_message") or usual)

    # --- words ------------------------------------------------------------------------------------

    @cached_property
    def pieces(self) -> Pieces | None:
        """InternLM2's tokenizer; None where the checkpoint has another."""
        if not (self.folder / "tokenizer.model").is_file():
            return None
        with loading(self.name):
            return pieces_of(self.folder)

    def encoded(self, text: str, first: bool) -> list[int]:
        if self.pieces is not None:
            return self.pieces.ids(text, beginning=first)
        return cast(list[int], self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def label_ids(self, labels: tuple[str, ...]) -> list[int]:
        """Ids of labels that are one piece each.

        Raises:
            Unscorable: one is not.
        """
        if labels not in self._label_ids:
            if self.pieces is not None:
                found = [self.pieces.id_of(label) for label in labels]
            else:
                vocabulary = self.tokenizer.get_vocab()
                found = [vocabulary.get(label) for label in labels]
            known = [number for number in found if number is not None]
            if len(known) < len(labels):
                lacking = labels[found.index(None)]
                raise Unscorable(f"{self.name} has no token {lacking!r}, which its publisher's code reads")
            self._label_ids[labels] = known
        return self._label_ids[labels]

    @property
    def _words(self) -> dict[str, Any]:
        return cast(dict[str, Any], self.config["llm_config"])

    @property
    def longest(self) -> int:
        return int(self._words["max_position_embeddings"])

    # --- the picture ------------------------------------------------------------------------------

    @property
    def side(self) -> int:
        """Pixels of a tile's side."""
        return int(self.config.get("force_image_size") or self.config["vision_config"]["image_size"])

    @property
    def grid(self) -> int:
        """Tokens of a tile's side."""
        return self.side // int(self.config["vision_config"]["patch_size"]) // 2

    def usual(self, size: tuple[int, ...], most: int) -> int:
        return self.measure(size, most)

    def measure(self, size: tuple[int, ...], most: int) -> int:
        rows, columns = self.sheet(size[1], size[0], most)
        count = rows * columns
        return (count + (count > 1)) * self.grid**2

    def sheet(self, width: int, height: int, most: int) -> tuple[int, int]:
        """Rows and columns of the tiles of a picture."""
        # As published, a set: where two of as many tiles are equally near, the one that it gives first wins.
        every = {
            (i, j)
            for n in range(1, most + 1)
            for i in range(1, n + 1)
            for j in range(1, n + 1)
            if i * j <= most
        }
        best, nearest = (1, 1), math.inf
        for across, down in sorted(every, key=lambda pair: pair[0] * pair[1]):
            apart = abs(width / height - across / down)
            large = width * height > 0.5 * self.side * self.side * across * down
            if apart < nearest or (apart == nearest and large):
                best, nearest = (across, down), apart
        return best[1], best[0]

    def tiles(self, picture: Image.Image, most: int) -> Tiles:
        side = self.side
        rows, columns = self.sheet(*picture.size, most)
        sheet = picture.resize((columns * side, rows * side))
        squares = [
            sheet.crop((x * side, y * side, (x + 1) * side, (y + 1) * side))
            for y in range(rows)
            for x in range(columns)
        ]
        if len(squares) > 1:
            squares.append(picture.resize((side, side)))
        values = np.stack([np.asarray(square, np.float32) for square in squares])
        pixels = torch.from_numpy(values).permute(0, 3, 1, 2) / 255
        mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
        return Tiles((pixels - mean) / std, (len(squares),))

    def seen(self, pixels: torch.Tensor, layouts: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        module = self.module
        states = module.vision(pixels).last_hidden_state[:, 1:]
        half = self.grid
        fours = states.reshape(len(states), half, 2, half, 2, -1).transpose(2, 3).flatten(3).flatten(1, 2)
        tokens = module.projector(fours)
        return [each.flatten(0, 1) for each in tokens.split([count for (count,) in layouts])]

    # --- what is read and written -----------------------------------------------------------------

    def ahead(self, op: str, detail: Any) -> int:
        return int(detail) if op == "write" else 0

    def answers(self, op: str, rows: list[Embedded], details: list[Any]) -> list[Any]:
        if op != "write":
            return super().answers(op, rows, details)
        found = self.written(rows, details, set(self.label_ids((END,))) | self._ends)
        return [Written(self._text(ids).strip(), ended, len(ids)) for ids, ended in found]

    @property
    def _ends(self) -> set[int]:
        """Ids that end a text, besides the end of a turn."""
        if self.pieces is not None:
            return {LAST}
        end = self.tokenizer.eos_token_id
        return set() if end is None else {int(end)}

    def _text(self, ids: Sequence[int]) -> str:
        if self.pieces is not None:
            return self.pieces.text_of(ids)
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def read(self, op: str, states: torch.Tensor, row: Embedded, detail: Any) -> Marks:
        labels, answer = detail
        places = self._places(row.ids.tolist(), answer) if answer else [len(row.ids) - 1]
        weights = self.module.lm_head.weight[torch.tensor(self.label_ids(labels), device=states.device)]
        logits = F.linear(states[torch.tensor(places, device=states.device)], weights).float()
        return tuple(tuple(row) for row in logits.softmax(-1).cpu().tolist())

    def _places(self, ids: list[int], answer: str) -> list[int]:
        """Places that predict an answer, by the tokens of the whole turn as published."""
        before, turn = self.encoded(ASSISTANT, False), self.encoded(ASSISTANT + answer + CLOSE, False)
        return [
            at + len(before) - 1 for at in range(len(ids) - len(turn) + 1) if ids[at : at + len(turn)] == turn
        ]

    # --- the module -------------------------------------------------------------------------------

    def build(self) -> nn.Module:
        for key, value in SETTINGS.items():
            if (found := self.config.get(key)) != value:
                raise ValueError(f"{self.name} says {key}: {found!r}; {value!r} is read here")
        if (template := self.config.get("template")) not in self._templates:
            known = ", ".join(map(repr, self._templates))
            raise ValueError(f"{self.name} says template: {template!r}; {known} is read here")
        state = {name: value for name, value in self.state().items() if not name.endswith("inv_freq")}
        kind = self._words["architectures"][0]
        if kind not in ("InternLM2ForCausalLM", "Qwen2ForCausalLM"):
            raise ValueError(f"{self.name} speaks with a {kind}; InternLM2 and Qwen2 are read here")
        vision = self._vision(taken(state, {"vision_model.": ""}))
        middle = taken(state, {"mlp1.": ""})
        language, head = self._language(kind, taken(state, {"language_model.": ""}))
        left_over(state, self.name)
        norm = nn.LayerNorm(len(middle["0.weight"]), dtype=self.dtype)
        norm.load_state_dict({part: middle[f"0.{part}"] for part in ("weight", "bias")})
        layers = [linear(middle[f"{n}.weight"], middle[f"{n}.bias"], self.dtype) for n in (1, 3)]
        projector = nn.Sequential(norm, layers[0], nn.GELU(), layers[1])
        parts = {"vision": vision, "projector": projector, "language": language, "lm_head": head}
        return _Whole(parts)

    def _vision(self, state: Tensors) -> nn.Module:
        from transformers import InternVLVisionConfig
        from transformers.models.internvl.modeling_internvl import InternVLVisionModel

        c = self.config["vision_config"]
        config = InternVLVisionConfig(
            hidden_size=c["hidden_size"],
            intermediate_size=c["intermediate_size"],
            num_hidden_layers=c["num_hidden_layers"],
            num_attention_heads=c["num_attention_heads"],
            image_size=c["image_size"],
            patch_size=c["patch_size"],
            layer_norm_eps=c.get("layer_norm_eps", 1e-6),
            norm_type=c.get("norm_type", "rms_norm"),
            use_qk_norm=bool(c.get("qk_normalization", True)),
            attention_bias=bool(c.get("qkv_bias", False)),
            use_mean_pooling=True,
            use_absolute_position_embeddings=True,
        )
        tensors: Tensors = {
            "embeddings.cls_token": state.pop("embeddings.class_embedding"),
            "embeddings.position_embeddings": state.pop("embeddings.position_embedding"),
        }
        for name, tensor in state.items():
            where, _, rest = name.partition("layers.")
            layer, _, part = rest.partition(".")
            stem, _, end = part.rpartition(".")
            stem, end = (part, "") if part in LAYERS else (stem, f".{end}")
            if where == "embeddings.patch_embedding.weight" or where == "embeddings.patch_embedding.bias":
                tensors[f"embeddings.patch_embeddings.projection.{where.rpartition('.')[2]}"] = tensor
            elif stem == "attn.qkv":
                for own, piece in zip("qkv", tensor.chunk(3), strict=True):
                    tensors[f"encoder.layer.{layer}.attention.{own}_proj{end}"] = piece
            else:
                tensors[f"encoder.layer.{layer}.{LAYERS.get(stem, stem)}{end}"] = tensor
        return native(InternVLVisionModel, config, tensors, self.dtype, self.name)

    def _language(self, kind: str, state: Tensors) -> tuple[nn.Module, nn.Module]:
        from transformers import LlamaConfig, LlamaModel, Qwen2Config, Qwen2Model

        c = dict(self._words)
        scaling = c.get("rope_scaling")
        if scaling and (scaling.get("type") or scaling.get("rope_type")) != "dynamic":
            # "dynamic" changes nothing within the positions that the config names: longer rows are refused.
            raise ValueError(f"{self.name} says rope_scaling: {scaling}, and dynamic is read here")
        facts: dict[str, Any] = {name: c[name] for name in FACTS}
        if kind == "Qwen2ForCausalLM":
            head = state.pop("lm_head.weight")
            tensors = taken(state, {"model.": ""})
            left_over(state, self.name)
            module = native(Qwen2Model, Qwen2Config(**facts), tensors, self.dtype, self.name)
        else:
            head = state.pop("output.weight")
            tensors = _as_llama(taken(state, {"model.": ""}), c)
            left_over(state, self.name)
            facts["attention_bias"] = bool(c.get("bias", False))
            module = native(LlamaModel, LlamaConfig(**facts), tensors, self.dtype, self.name)
        return module, linear(head, None, self.dtype)


class _Whole(nn.Module):
    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        self.vision, self.projector = parts["vision"], parts["projector"]
        self.language, self.lm_head = parts["language"], parts["lm_head"]


def _as_llama(state: Tensors, config: dict[str, Any]) -> Tensors:
    """InternLM2's tensors by a Llama's names: of each group of heads its queries, its key and its value lie
    together."""
    heads, keys = int(config["num_attention_heads"]), int(config["num_key_value_heads"])
    size = int(config["hidden_size"]) // heads
    tensors: Tensors = {}
    for name, tensor in state.items():
        if not name.startswith("layers."):
            tensors[name.replace("tok_embeddings", "embed_tokens")] = tensor
            continue
        _, layer, rest = name.split(".", 2)
        stem, _, end = rest.rpartition(".")
        if stem != "attention.wqkv":
            tensors[f"layers.{layer}.{WORDS.get(stem, stem)}.{end}"] = tensor
            continue
        groups = tensor.reshape(keys, heads // keys + 2, size, *tensor.shape[1:])
        parts = {"q": groups[:, :-2], "k": groups[:, -2], "v": groups[:, -1]}
        for own, part in parts.items():
            flat = part.reshape(-1, *tensor.shape[1:])
            tensors[f"layers.{layer}.self_attn.{own}_proj.{end}"] = flat.contiguous()
    return tensors
