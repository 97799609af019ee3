"""CLIP-FlanT5 (VQAScore, arXiv:2404.01291): a T5 that reads a picture's CLIP patches amid its question.

Op "answer": log-probability of each token of a short answer. The published files (zhiqiulin/clip-flant5-xxl
and -xl) belong to a class that no current package has: a T5 whose folder also holds `vision_tower` and
`mm_projector`. They are read here as they are, sharded or not, safetensors or pickled tensors.

What the publisher's code (t2v_metrics up to 3.0) does and a port may miss: the text before the picture and
the text after it are tokenised apart, and both keep their end token; the picture is padded to a square with
the mean colour, truncated to whole numbers; patches are those of the last layer but one, without the class
token; the answer's end token is part of the answer.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F

from ..engine.batching import Cost
from ..engine.engine import current
from ..errors import Unscorable
from ..limits import limits, most
from ..media import Media
from .base import TorchNetwork, loading
from .checkpoints import files_of, state_of
from .encoders import recipe_of
from .pictures import decoded, distinct, in_turn
from .pixels import Group, Recipe, normalise, resize, to_input
from .weights import folder_of

TOKENIZER = "google/flan-t5-xxl"
"""Of all sizes; used where the weights' folder has none."""
TOWER = "openai/clip-vit-large-patch14-336"
"""Vision tower of the published sizes."""
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions."
)
BEFORE, AFTER = f"{SYSTEM} USER: ", "\n{question} ASSISTANT: "
"""Text around the picture."""
MOST = 2048
"""Tokens of a question, the picture counted as one; the rest is cut, as published."""
PREFIXES = {"vision_tower.vision_tower.": "vision.", "mm_projector.": "projector."}
"""Published prefix -> ours; all other tensors are T5's."""
DERIVED = ("embed_tokens.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""Other names of `shared.weight`."""
LEFT_OUT = re.compile(r"EncDecAttention\.relative_attention_bias|\.position_ids$")
"""Tensors of old files that nothing reads."""


class Asked(NamedTuple):
    """A question about a picture, and the answer whose probability is wanted."""

    media: Media
    question: str
    answer: str


class Answered(NamedTuple):
    """Log-probability of each token of the answer, the end token last; `truncated`: the question was cut."""

    each: tuple[float, ...]
    truncated: bool


class Batch(NamedTuple):
    """Pictures without repetition, and of each row: its picture, the tokens around it, the answer's."""

    pixels: torch.Tensor
    pictures: list[int]
    before: list[list[int]]
    after: list[list[int]]
    answers: list[list[int]]
    truncated: list[bool]


def is_clip_t5(weights: str) -> bool:
    """True for a CLIP-FlanT5 by its files, or by its name where they are not on this machine."""
    folder = folder_of(weights)
    if folder is None or not (folder / "config.json").is_file():
        return "clip-flant5" in weights.lower() and "@" not in weights
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return "CLIPT5ForConditionalGeneration" in (config.get("architectures") or ())


def companions(weights: str, words: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """What else a CLIP-FlanT5 takes, as hub id or folder with its files: its vision tower's settings, and a
    tokenizer (of the files `words`) where its own folder has none."""
    folder, tower = folder_of(weights), TOWER
    if folder is not None and (folder / "config.json").is_file():
        tower = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("mm_vision_tower", TOWER)
    own = folder is not None and (folder / "tokenizer.json").is_file()
    settings = (tower, ("config.json", "preprocessor_config.json"))
    return [settings] if own else [settings, (TOKENIZER, words)]


class ClipT5(TorchNetwork):
    """CLIP-FlanT5 of any size.

    Args:
        weights: a folder or hub id in the published format; the vision tower that its config names must be
            there as well, for its preprocessing.
        dtype: of all parts; log-probabilities are computed in float32.
    """

    def __init__(self, weights: str, *, dtype: str = "float32") -> None:
        super().__init__(weights, dtype=dtype)

    async def likelihood(self, media: Media, question: str, answer: str) -> Answered:
        """Log-probabilities of the answer's tokens.

        Raises:
            Unscorable: the picture is broken, or cannot be padded to a square.
        """
        asked = Asked(media, question, answer)
        key = (media.key, question, answer)
        share = media.key
        return cast(Answered, await current().submit(self, "answer", asked, key=key, share=share))

    @cached_property
    def folder(self) -> Path:
        """Folder of the weights, which are fetched if they are not there yet."""
        if (there := folder_of(self.source)) is not None and any(files_of(there)):
            return there
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(self.source))

    @cached_property
    def config(self) -> dict[str, Any]:
        """The published config.json."""
        with loading(self.name):
            text = (self.folder / "config.json").read_text(encoding="utf-8")
            return cast(dict[str, Any], json.loads(text))

    @cached_property
    def recipe(self) -> Recipe:
        """Preprocessing of the vision tower."""
        from transformers import CLIPImageProcessor

        with loading(self.name):
            return recipe_of(CLIPImageProcessor.from_pretrained(self.config["mm_vision_tower"]))

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import T5TokenizerFast

        with loading(self.name):
            own = (self.folder / "tokenizer.json").is_file()  # a spiece.model takes a package more to read
            return T5TokenizerFast.from_pretrained(self.folder if own else TOKENIZER)

    def build(self) -> torch.nn.Module:
        from transformers import CLIPVisionConfig, CLIPVisionModel, T5Config, T5ForConditionalGeneration

        config = self.config
        known = {key: value for key, value in config.items() if key not in ("architectures", "model_type")}
        with torch.device("meta"):
            t5 = T5ForConditionalGeneration(T5Config(**known))
        vision = CLIPVisionModel(CLIPVisionConfig.from_pretrained(config["mm_vision_tower"]))
        projector = _projector(config, vision.config.hidden_size)
        states: dict[str, dict[str, torch.Tensor]] = {"t5": {}, "vision": {}, "projector": {}}
        for name, tensor in self._tensors():
            part, _, own = name.partition(".")
            states[part][own] = tensor.to(self.dtype)
        if not states["vision"]:
            published = CLIPVisionModel.from_pretrained(config["mm_vision_tower"], dtype=self.dtype)
            states["vision"] = dict(published.state_dict())
        _filled(t5, _shared(states["t5"], bool(config.get("tie_word_embeddings", True))), self.name)
        # transformers 5 ties a T5's output layer to its embeddings whatever its config says: `tie_weights`
        # would overwrite a Flan-T5's own.
        t5.encoder.set_input_embeddings(t5.shared)
        t5.decoder.set_input_embeddings(t5.shared)
        _filled(vision, states["vision"], self.name)
        _filled(projector, states["projector"], self.name)
        parts: dict[str, torch.nn.Module] = {"t5": t5, "vision": vision, "projector": projector}
        return torch.nn.ModuleDict(parts)

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Tensors of all files, by our names."""
        for file in files_of(self.folder):
            for name, tensor in state_of(str(file)).items():
                if LEFT_OUT.search(name):
                    continue
                prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
                own = name.removeprefix(prefix)
                if prefix.startswith("vision"):  # of transformers before 5
                    own = own.removeprefix("vision_model.")
                yield PREFIXES.get(prefix, "t5.") + own, tensor

    def cost(self, op: str, item: Asked) -> Cost:
        height, width = item.media.size
        side = max(height, width)
        if side * side > limits().pixels:
            raise Unscorable(
                f"padded to a square it has {side} x {side} pixels: the limit is {most('pixels')}"
            )
        text = min(MOST, len(item.question) // 3 + 64)
        return Cost(640 + text, 3 * side * side)

    def prepare(self, op: str, items: list[Asked]) -> Batch:
        medias, rows = distinct([item.media for item in items])
        recipe = self.recipe
        fill = [int(mean * 255) for mean in recipe.mean]
        squares = in_turn(medias, lambda index: squared(decoded(medias[index]).cpu(), fill))
        pixels = normalise(torch.stack([resize(one, recipe, "pil") for one in squares]), recipe)
        texts = self._worded([item.question for item in items], [item.answer for item in items])
        return Batch(pixels.to(self.dtype), rows, *texts)

    def _worded(self, questions: Sequence[str], answers: Sequence[str]) -> tuple[Any, ...]:
        """Tokens before and after each picture and of each answer, and whether a question was cut."""
        texts = [AFTER.replace("{question}", question) for question in questions]
        with self.processing:
            tokenize = self.tokenizer
            (before,) = tokenize([BEFORE]).input_ids
            after = tokenize(texts).input_ids
            answered = tokenize(list(answers)).input_ids
        room = max(0, MOST - len(before) - 1)
        return (
            [before] * len(texts),
            [ids[:room] for ids in after],
            [ids[:MOST] for ids in answered],
            [len(ids) > room for ids in after],
        )

    def likelihood_pixels(
        self, pixels: torch.Tensor, questions: Sequence[str], answer: str
    ) -> list[torch.Tensor]:
        """Log-probabilities of the answer's tokens as `likelihood` has them, one vector per picture,
        differentiable in float pixels (N, 3, H, W) in [0, 1].

        Runs where the pixels are: the weights are moved there. Resizes in float where `likelihood` resizes
        8-bit values: equal for squares of the tower's own size.
        """
        if self.device != pixels.device:
            self.load(str(pixels.device))
        recipe = self.recipe
        fill = torch.tensor([int(mean * 255) / 255 for mean in recipe.mean], device=pixels.device)
        whole = _in_square(pixels.float(), fill)
        given = to_input([Group(list(range(len(whole))), whole)], recipe).to(self.dtype)
        texts = self._worded(questions, [answer] * len(pixels))
        return self._logprobs(Batch(given, list(range(len(pixels))), *texts))

    @torch.inference_mode()
    def forward(self, op: str, batch: Batch) -> list[Any]:
        found = self._logprobs(batch)
        return [
            Answered(tuple(each.cpu().tolist()), cut)
            for each, cut in zip(found, batch.truncated, strict=True)
        ]

    def _logprobs(self, batch: Batch) -> list[torch.Tensor]:
        """Log-probability of each token of each answer."""
        t5 = self.module["t5"]
        patches = self._patches(batch.pixels.to(self.device))
        rows = [
            torch.cat([self._embedded(before), patches[picture], self._embedded(after)])
            for before, picture, after in zip(batch.before, batch.pictures, batch.after, strict=True)
        ]
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = torch.arange(padded.shape[1], device=self.device) < lengths[:, None]
        # The decoder begins with the pad token and reads each token of the answer after the one before it.
        start = t5.config.decoder_start_token_id
        answers = [torch.tensor(ids, device=self.device) for ids in batch.answers]
        shifted = [torch.tensor([start, *ids[:-1]], device=self.device) for ids in batch.answers]
        given = torch.nn.utils.rnn.pad_sequence(shifted, batch_first=True)
        out = t5(inputs_embeds=padded, attention_mask=mask.long(), decoder_input_ids=given, use_cache=False)
        return [
            F.log_softmax(logits[: len(ids)].float(), dim=-1).gather(1, ids[:, None])[:, 0]
            for logits, ids in zip(out.logits, answers, strict=True)
        ]

    def _embedded(self, ids: list[int]) -> torch.Tensor:
        return cast(torch.Tensor, self.module["t5"].shared(torch.tensor(ids, device=self.device)))

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, patches, width of T5)."""
        layer = self.config.get("mm_vision_select_layer", -2)
        hidden = self.module["vision"](pixel_values=pixels, output_hidden_states=True).hidden_states[layer]
        whole = self.config.get("mm_vision_select_feature", "patch") == "cls_patch"
        return cast(torch.Tensor, self.module["projector"](hidden if whole else hidden[:, 1:]))


def squared(picture: torch.Tensor, fill: list[int]) -> torch.Tensor:
    """The uint8 picture CHW in the middle of a square of one colour, nearer to the top or left by half a
    pixel."""
    height, width = picture.shape[1:]
    if height == width:
        return picture
    side = max(height, width)
    square = torch.tensor(fill, dtype=torch.uint8)[:, None, None].repeat(1, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    square[:, top : top + height, left : left + width] = picture
    return square


def _in_square(pixels: torch.Tensor, fill: torch.Tensor) -> torch.Tensor:
    """`squared` of float pictures (N, 3, H, W) of one shape, differentiable."""
    height, width = pixels.shape[2:]
    if height == width:
        return pixels
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    edges = (left, side - width - left, top, side - height - top)
    padded = F.pad(pixels, edges)
    inside = F.pad(torch.ones_like(pixels[:1, :1]), edges)
    return padded + (1 - inside) * fill[:, None, None]


def _projector(config: Mapping[str, Any], width: int) -> torch.nn.Module:
    kind, hidden = str(config.get("mm_projector_type", "linear")), config["d_model"]
    if kind == "linear":
        return torch.nn.Linear(width, hidden)
    if not (found := re.fullmatch(r"mlp(\d+)x_gelu", kind)):
        raise ValueError(f"mm_projector_type {kind!r} is neither linear nor mlp2x_gelu")
    layers: list[torch.nn.Module] = [torch.nn.Linear(width, hidden)]
    for _ in range(1, int(found[1])):
        layers += [torch.nn.GELU(), torch.nn.Linear(hidden, hidden)]
    return torch.nn.Sequential(*layers)


def _shared(state: dict[str, torch.Tensor], tied: bool) -> dict[str, torch.Tensor]:
    """T5's tensors with its token embeddings under all of their names; `tied`: the output layer is one."""
    named = next((state[name] for name in ("shared.weight", *DERIVED) if name in state), None)
    if named is None:
        return state
    output = {} if not tied else {"lm_head.weight": named}
    kept = {name: tensor for name, tensor in state.items() if name not in DERIVED}
    return {**output, **kept, **dict.fromkeys(("shared.weight", *DERIVED[1:]), named)}


def _filled(module: torch.nn.Module, state: dict[str, torch.Tensor], name: str) -> None:
    """Put tensors of exactly its names and shapes in the place of a module's own.

    Raises:
        ValueError: names are missing or left over, or shapes differ.
    """
    found = module.load_state_dict(state, strict=False, assign=True)
    faults = {"missing": found.missing_keys, "unexpected": found.unexpected_keys}
    said = [f"{len(keys)} tensors {fault} ({keys[0]})" for fault, keys in faults.items() if keys]
    if said:
        raise ValueError(f"{name} is no CLIP-FlanT5: {', '.join(said)}")
