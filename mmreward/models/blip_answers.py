"""BLIP's visual question answering (arXiv:2201.12086), from the file that its publisher released.

Op "yes": the probability of yes against no as an answer's first word. The file is read into transformers'
modules, with the publisher's settings where transformers has others: 12 heads in the text (its default is 8),
an epsilon of 1e-6 in the vision tower (1e-5), pictures of the size of the file's position embeddings (its
default is 384), and a question that begins with [ENC], which transformers' processor leaves at [CLS].
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple, cast

import torch

from ..engine.batching import Cost
from ..engine.engine import current
from ..media import Media
from .base import TorchNetwork, loading
from .checkpoints import fill, state_of
from .pictures import distinct, in_turn, resized
from .pixels import Recipe, normalise

MOST = 35
"""Tokens of a question; the rest is cut."""
HEAD = 64
"""Width of an attention head, which gives their number in a network of any width."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BLOCK = r"visual_encoder\.blocks\.(\d+)"
RENAMED = (
    (r"^visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (rf"^{BLOCK}\.norm([12])\.", r"vision_model.encoder.layers.\1.layer_norm\2."),
    (rf"^{BLOCK}\.attn\.qkv\.", r"vision_model.encoder.layers.\1.self_attn.qkv."),
    (rf"^{BLOCK}\.attn\.proj\.", r"vision_model.encoder.layers.\1.self_attn.projection."),
    (rf"^{BLOCK}\.mlp\.", r"vision_model.encoder.layers.\1.mlp."),
)
"""Published name -> transformers' name; text tensors have the same in both."""
DROPPED = re.compile(r"([.!\"()*#:;~])")
"""Marks that are taken out of a question."""


class BlipQuestion(NamedTuple):
    """A question about a picture."""

    media: Media
    question: str


class BlipBatch(NamedTuple):
    """Pictures without repetition, each row's picture, and each row's tokens."""

    pixels: torch.Tensor
    pictures: list[int]
    tokens: list[list[int]]


class BlipVQA(TorchNetwork):
    """BLIP with an answer decoder, of any size.

    Args:
        weights: the published file: a pickle of tensors (.pth) under the key `model`, or safetensors.
        tokenizer: hub id or folder of the BERT tokenizer.
        dtype: of the network; the probability is computed in float32.
    """

    def __init__(self, weights: str, tokenizer: str, *, dtype: str = "float32") -> None:
        super().__init__(weights, dtype=dtype, tokenizer=tokenizer)

    async def yes(self, media: Media, question: str) -> float:
        """P(yes) / (P(yes) + P(no)), 0 to 1.

        Raises:
            Unscorable: the picture is broken.
        """
        asked = BlipQuestion(media, question)
        key = (media.key, question)
        return cast(float, await current().submit(self, "yes", asked, key=key, share=media.key))

    @cached_property
    def state(self) -> dict[str, torch.Tensor]:
        """Tensors by transformers' names."""
        with loading(self.name):
            named = state_of(self.source)
            return {
                renamed(name): tensor for name, tensor in named.items() if not name.endswith("position_ids")
            }

    @cached_property
    def recipe(self) -> Recipe:
        with loading(self.name):
            side, _ = _sides(self.state, self.name)
        common: Any = {"mean": MEAN, "std": STD, "fit": "squash", "kernel": "bicubic"}
        return Recipe(size=(side, side), **common)

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with loading(self.name):
            tokenizer: Any = AutoTokenizer.from_pretrained(self.options["tokenizer"])
            tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
            return tokenizer

    def build(self) -> torch.nn.Module:
        from transformers import BlipConfig, BlipForQuestionAnswering

        (side, _), (_, patch) = self.recipe.size, _sides(self.state, self.name)
        words = self.state["text_encoder.embeddings.word_embeddings.weight"]
        vision = self.state["vision_model.embeddings.class_embedding"].shape[-1]
        positions = self.state["text_encoder.embeddings.position_embeddings.weight"].shape[0]
        text = {
            **self._sizes("text_encoder.encoder.layer", "intermediate.dense.weight", words.shape[1]),
            "vocab_size": words.shape[0],
            "encoder_hidden_size": vision,
            "max_position_embeddings": positions,
            "bos_token_id": words.shape[0] - 2,
            "sep_token_id": 0,
            "layer_norm_eps": 1e-12,
        }
        seen = {
            **self._sizes("vision_model.encoder.layers", "mlp.fc1.weight", vision),
            "image_size": side,
            "patch_size": patch,
            "layer_norm_eps": 1e-6,
        }
        config = BlipConfig(text_config=text, vision_config=seen)
        module: torch.nn.Module = BlipForQuestionAnswering(config).to(self.dtype)
        fill(module, self.state, self.name)
        del self.state  # the recipe, which needs it, is known by now
        return module

    def _sizes(self, layers: str, wide: str, hidden: int) -> dict[str, int]:
        own = [name.removeprefix(f"{layers}.") for name in self.state if name.startswith(f"{layers}.")]
        return {
            "hidden_size": hidden,
            "intermediate_size": self.state[f"{layers}.0.{wide}"].shape[0],
            "num_hidden_layers": len({name.split(".")[0] for name in own}),
            "num_attention_heads": max(1, hidden // HEAD),
        }

    def cost(self, op: str, item: BlipQuestion) -> Cost:
        height, width = item.media.size
        return Cost(1024, 3 * height * width)

    def prepare(self, op: str, items: list[BlipQuestion]) -> BlipBatch:
        medias, rows = distinct([item.media for item in items])
        with self.processing:
            recipe, tokenizer = self.recipe, self.tokenizer
            texts = [plain(item.question) for item in items]
            tokens = tokenizer(texts, truncation=True, max_length=MOST).input_ids
            first = tokenizer.convert_tokens_to_ids("[ENC]")
        pictures = in_turn(medias, lambda index: resized(medias[index], recipe, "pil"))
        pixels = normalise(torch.stack(pictures), recipe).to(self.dtype)
        return BlipBatch(pixels, rows, [[first, *ids[1:]] for ids in tokens])

    @torch.inference_mode()
    def forward(self, op: str, batch: BlipBatch) -> list[Any]:
        module = self.module
        pictures = module.vision_model(pixel_values=batch.pixels.to(self.device)).last_hidden_state
        words = [self.tokenizer.convert_tokens_to_ids(token) for token in ("[DEC]", "yes", "no")]
        results = [0.0] * len(batch.tokens)
        # By length and without padding: transformers 5 drops the mask of a BLIP's cross-attention, and the
        # decoder would read the padding, too.
        lengths = [len(ids) for ids in batch.tokens]
        for length in sorted(set(lengths)):
            rows = [row for row, own in enumerate(lengths) if own == length]
            seen = pictures[[batch.pictures[row] for row in rows]]
            ids = torch.tensor([batch.tokens[row] for row in rows], device=self.device)
            read = module.text_encoder(input_ids=ids, encoder_hidden_states=seen)[0]
            start = torch.full((len(rows), 1), words[0], device=self.device)
            out = module.text_decoder(input_ids=start, encoder_hidden_states=read, use_cache=False)
            sure = out.logits[:, 0, words[1:]].float().softmax(-1)[:, 0].cpu().tolist()
            for row, value in zip(rows, sure, strict=True):
                results[row] = value
        return results


def renamed(name: str) -> str:
    """Transformers' name of a published tensor."""
    for pattern, new in RENAMED:
        name, found = re.subn(pattern, new, name)
        if found:
            break
    return name


def plain(question: str) -> str:
    """The question as BLIP was trained on it: lower case, without some marks, of 50 words at most."""
    words = DROPPED.sub("", question.lower()).rstrip(" ").split(" ")
    return " ".join(words[:50])


def _sides(state: Mapping[str, torch.Tensor], name: str) -> tuple[int, int]:
    """Side of the input and of a patch, in pixels."""
    positions = state.get("vision_model.embeddings.position_embedding")
    kernel = state.get("vision_model.embeddings.patch_embedding.weight")
    if positions is None or kernel is None:
        raise ValueError(f"{name} is no BLIP: it has no visual_encoder")
    patch = int(kernel.shape[-1])
    return round((positions.shape[1] - 1) ** 0.5) * patch, patch
