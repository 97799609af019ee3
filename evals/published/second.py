"""Second writings of the scorers' formulas, for those whose publisher has no package, or none that is here.

Each is written from the publication in plain torch, transformers, open_clip and Pillow calls, and shares
nothing with ours. Those of networks also resize in float, so that their gradient is compared on
pictures of any size.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tf

from . import blip2, dual, likeness, owl, social
from .checkpoints import SIDE
from .second_pixels import PIXELS
from .upstream import Reference, pixels_of

Args = Mapping[str, Any]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's, of CLIP's pictures."""


def hpsv2(args: Args) -> Reference:
    """The publisher's lines: longest side to the input in float, black around, product of unit embeddings."""
    import open_clip

    model: Any = open_clip.create_model(args["architecture"]).eval()
    model.load_state_dict(torch.load(args["weights"], weights_only=True)["state_dict"])
    tokenizer: Any = open_clip.get_tokenizer("ViT-H-14")

    def product(pixels: torch.Tensor, prompt: str) -> torch.Tensor:
        scale = SIDE / float(max(pixels.shape[-2:]))
        if scale != 1.0:
            height, width = (round(side * scale) for side in pixels.shape[-2:])
            pixels = tf.resize(pixels, [height, width], InterpolationMode.BICUBIC, antialias=True)
            down, right = SIDE - height, SIDE - width
            pixels = tf.pad(pixels, [right // 2, down // 2, right - right // 2, down - down // 2], fill=0)
        image = F.normalize(model.encode_image(tf.normalize(pixels, list(MEAN), list(STD))), dim=-1)
        return (image @ F.normalize(model.encode_text(tokenizer([prompt])), dim=-1).T)[0]

    return Reference(
        lambda picture, prompt: product(pixels_of(picture), prompt).item(), product, resizes=True
    )


# --- BLIP with a head ---------------------------------------------------------------------------------------


class _Blip:
    """BLIP by its state dict's names, one line of the papers after another."""

    def __init__(self, args: Args, tokens: int) -> None:
        from transformers import BertTokenizer

        self.state = torch.load(args["weights"], weights_only=True)
        words = Path(args["vocabulary"]).read_text().split()
        self.tokenizer: Any = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
        self.tokenizer.add_special_tokens({"additional_special_tokens": ["[DEC]", "[ENC]"]})
        self.tokens = tokens

    def linear(self, name: str, given: torch.Tensor) -> Any:
        return given @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name: str, given: torch.Tensor, tiny: float) -> Any:
        centred = given - given.mean(-1, keepdim=True)
        unit = centred / (centred.pow(2).mean(-1, keepdim=True) + tiny).sqrt()
        return unit * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    @staticmethod
    def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any = 0) -> torch.Tensor:
        heads = []
        for start in range(0, query.shape[-1], 64):
            q, k, v = (part[..., start : start + 64] for part in (query, key, value))
            heads.append((q @ k.transpose(-1, -2) / 8 + mask).softmax(-1) @ v)
        return torch.cat(heads, -1)

    def picture(self, pixels: torch.Tensor) -> Any:
        small = tf.resize(pixels, SIDE, InterpolationMode.BICUBIC, antialias=True)
        small = small.clamp(0, 1) if small.shape != pixels.shape else small
        return self.seen(tf.center_crop(small, [SIDE]))

    def seen(self, pixels: torch.Tensor) -> Any:
        stem = "blip.visual_encoder."
        kernel, bias = (self.state[f"{stem}patch_embed.proj.{part}"] for part in ("weight", "bias"))
        values = tf.normalize(pixels, list(MEAN), list(STD))
        patches = F.conv2d(values, kernel, bias, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.state[f"{stem}cls_token"], patches], 1) + self.state[f"{stem}pos_embed"]
        number = 0
        while f"{stem}blocks.{number}.norm1.weight" in self.state:
            block = f"{stem}blocks.{number}."
            parts = self.linear(f"{block}attn.qkv", self.norm(f"{block}norm1", tokens, 1e-6)).chunk(3, -1)
            tokens = tokens + self.linear(f"{block}attn.proj", self.attended(*parts))
            inner = F.gelu(self.linear(f"{block}mlp.fc1", self.norm(f"{block}norm2", tokens, 1e-6)))
            tokens = tokens + self.linear(f"{block}mlp.fc2", inner)
            number += 1
        return self.norm(f"{stem}norm", tokens, 1e-6)

    def first(self, picture: torch.Tensor, prompt: str) -> Any:
        """The text's first token after all layers, (1, width)."""
        options = {
            "padding": "max_length",
            "truncation": True,
            "max_length": self.tokens,
            "return_tensors": "pt",
        }
        read = self.tokenizer(prompt, **options)
        stem = "blip.text_encoder."
        places = self.state[f"{stem}embeddings.position_embeddings.weight"][: self.tokens]
        tokens = self.state[f"{stem}embeddings.word_embeddings.weight"][read.input_ids] + places
        tokens = self.norm(f"{stem}embeddings.LayerNorm", tokens, 1e-12)
        mask = (1.0 - read.attention_mask[:, None]) * -10000.0
        number = 0
        while f"{stem}encoder.layer.{number}.output.dense.weight" in self.state:
            layer = f"{stem}encoder.layer.{number}."
            for name, context, hidden in (("attention", None, mask), ("crossattention", picture, 0)):
                other = tokens if context is None else context
                query = self.linear(f"{layer}{name}.self.query", tokens)
                key, value = (self.linear(f"{layer}{name}.self.{part}", other) for part in ("key", "value"))
                seen = self.linear(f"{layer}{name}.output.dense", self.attended(query, key, value, hidden))
                tokens = self.norm(f"{layer}{name}.output.LayerNorm", seen + tokens, 1e-12)
            inner = F.gelu(self.linear(f"{layer}intermediate.dense", tokens))
            inner = self.linear(f"{layer}output.dense", inner)
            tokens = self.norm(f"{layer}output.LayerNorm", inner + tokens, 1e-12)
            number += 1
        return tokens[:, 0]


def _blip(args: Args, tokens: int, layers: tuple[int, ...], scaled: Callable[[Any], Any]) -> Reference:
    """The head's layers on the text's first token, GELU between them where the indices leave room for it."""
    net = _Blip(args, tokens)

    def of(picture: torch.Tensor, prompt: str) -> Any:
        hidden = net.first(picture, prompt)
        for index in layers:
            hidden = F.gelu(hidden) if index and layers[-1] == 8 else hidden
            hidden = net.linear(f"mlp.layers.{index}", hidden)
        return scaled(hidden[:, 0])

    def value(picture: Image.Image, prompt: str) -> float:
        width, height = picture.size
        scale = SIDE / min(width, height)
        size = [SIDE if side == min(width, height) else int(side * scale) for side in (width, height)]
        small = picture.resize(size, Image.Resampling.BICUBIC)
        return float(of(net.seen(tf.center_crop(pixels_of(small), [SIDE])), prompt))

    return Reference(value, lambda pixels, prompt: of(net.picture(pixels), prompt), resizes=True)


def imagereward(args: Args) -> Reference:
    """No activations, 35 tokens, and the publisher's mean and deviation."""
    return _blip(args, 35, (0, 2, 4, 6, 7), lambda head: (head - 0.16717362830052426) / 1.0333394966054072)


def cyclereward(args: Args) -> Reference:
    """GELU between the layers, 128 tokens, and the head's own number."""
    return _blip(args, 128, (0, 2, 4, 6, 8), lambda head: head)


# --- MPS ----------------------------------------------------------------------------------------------------

OVERALL = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, "
    "instance, texture, quantity, attributes, position, number, location, word, things."
)


class _Mps:
    """The publisher's evaluation for one picture and one prompt, with the state's names."""

    def __init__(self, args: Args) -> None:
        from safetensors.torch import load_file

        self.clip = dual.Clip(args["processor"])
        self.state = {name.removeprefix("mps."): one for name, one in load_file(args["weights"]).items()}
        own = {n.removeprefix("model."): one for n, one in self.state.items() if n.startswith("model.")}
        self.clip.model.load_state_dict(own)

    def features(self, text: str) -> tuple[Any, Any]:
        model, cut = self.clip.model, {"padding": "max_length", "truncation": True, "max_length": 77}
        ids = self.clip.tokenizer(text, **cut, return_tensors="pt").input_ids
        hidden = model.text_model(input_ids=ids).last_hidden_state
        end = int((ids[0] == ids.max()).int().argmax())
        return model.text_projection(hidden), model.text_projection(hidden[:, end])

    def part(self, name: str, given: Any) -> Any:
        return given @ self.state[f"cross_model.layers.{name}.weight"].T

    def normed(self, name: str, given: Any) -> Any:
        names = (f"cross_model.layers.{name}.norm.{part}" for part in ("weight", "bias"))
        return F.layer_norm(given, given.shape[-1:], *(self.state[one] for one in names))

    @staticmethod
    def attended(query: Any, key: Any, value: Any, mask: Any = 0) -> Any:
        width, heads = key.shape[-1], []
        for start in range(0, query.shape[-1], width):
            one = query[..., start : start + width] / width**0.5
            heads.append((one @ key.transpose(-1, -2) + mask).softmax(-1) @ value)
        return torch.cat(heads, -1)

    def turned(self, name: str, given: Any) -> Any:
        """Rotary positions, as complex numbers, head by head."""
        turn = self.state[f"cross_model.layers.{name}.rotary_emb.inv_freq"]
        angles = torch.arange(given.shape[1])[:, None] * turn
        circle = torch.polar(torch.ones_like(angles), angles)
        done = []
        for start in range(0, given.shape[-1], 2 * len(turn)):
            one, other = given[..., start : start + 2 * len(turn)].chunk(2, -1)
            moved = torch.complex(one, other) * circle
            done += [moved.real, moved.imag]
        return torch.cat(done, -1)

    def score(self, values: torch.Tensor, prompt: str) -> Any:
        model = self.clip.model
        text, end = self.features(prompt)
        wanted, _ = self.features(OVERALL)
        likeness = torch.einsum("bid,bjd->bji", text, wanted).max(1, keepdim=True)[0]
        mask = torch.where(likeness / likeness.max() > 0.3, 0, float("-inf"))
        tokens = model.visual_projection(model.vision_model(pixel_values=values).last_hidden_state)
        number = 0
        while f"cross_model.layers.{number}.0.fn.to_q.weight" in self.state:
            cross, own = f"{number}.0.fn", f"{number}.1.fn"
            normed = self.normed(cross, tokens)
            key, value = self.part(f"{cross}.to_kv", text).chunk(2, -1)
            seen = self.attended(self.part(f"{cross}.to_q", normed), key, value, mask)
            inner, gate = self.part(f"{cross}.ff.0", normed).chunk(2, -1)
            inner = self.part(f"{cross}.ff.2", F.silu(gate) * inner)
            tokens = tokens + self.part(f"{cross}.to_out", seen) + inner
            fused = self.part(f"{own}.fused_attn_ff_proj", self.normed(own, tokens))
            head, all_heads = key.shape[-1], tokens.shape[-1]
            query, key, value = fused[..., : all_heads + 2 * head].split((all_heads, head, head), -1)
            seen = self.attended(self.turned(own, query), self.turned(own, key), value)
            inner, gate = fused[..., all_heads + 2 * head :].chunk(2, -1)
            inner = self.part(f"{own}.ff_out.1", F.silu(gate) * inner)
            tokens = tokens + self.part(f"{own}.attn_out", seen) + inner
            number += 1
        cosine = F.cosine_similarity(tokens[:, 0], end, dim=-1)
        return model.logit_scale.detach().exp() * cosine


def mps(args: Args) -> Reference:
    """Tokens that are like none of the condition's hidden at 0.3 of the prompt's largest likeness."""
    net = _Mps(args)
    return Reference(
        lambda picture, prompt: float(net.score(net.clip.values(picture), prompt)),
        lambda pixels, prompt: net.score(net.clip.middle(pixels), prompt),
        resizes=True,
    )


SECOND: dict[str, Callable[[Args], Reference]] = {
    **PIXELS,
    "aesthetic": dual.aesthetic,
    "clip_i": likeness.clip_i,
    "clipscore": dual.clipscore,
    "cyclereward": cyclereward,
    "d2_align": dual.d2_align,
    "deqa": owl.graded,
    "dino_i": likeness.dino_i,
    "dreamsim": likeness.dreamsim,
    "evalmuse": blip2.matched,
    "harmonic": dual.harmonic,
    "head": dual.head,
    "hpsv2": hpsv2,
    "imagereward": imagereward,
    "mps": mps,
    "pickscore": dual.pickscore,
    "pisces": dual.pisces,
    "qalign": owl.graded,
    "social_reward": social.social,
}
"""Scorer -> its second writing, from the arguments of ours."""
