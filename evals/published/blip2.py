"""A tiny FGA-BLIP2 in its publisher's format, the frozen part in a file of its own, and a second writing of
its score, one head after another in plain torch.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tf

from .checkpoints import LETTERS, SIDE, WORDS
from .upstream import Reference, pixels_of

Args = Mapping[str, Any]
EYES, PATCH, WIDTH, QUERIES, LAYERS = 176, 8, 64, 3, 2
"""Two heads of 88 in the ViT, one of 64 in the Q-Former."""
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def _frozen() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "visual_encoder.cls_token": (1, 1, EYES),
        "visual_encoder.pos_embed": (1, (SIDE // PATCH) ** 2 + 1, EYES),
        "visual_encoder.patch_embed.proj.weight": (EYES, 3, PATCH, PATCH),
        "visual_encoder.patch_embed.proj.bias": (EYES,),
    }
    for layer in range(LAYERS):
        block = f"visual_encoder.blocks.{layer}."
        for name in (
            "norm1.weight",
            "norm1.bias",
            "norm2.weight",
            "norm2.bias",
            "attn.q_bias",
            "attn.v_bias",
        ):
            found[block + name] = (EYES,)
        found[f"{block}attn.qkv.weight"] = (3 * EYES, EYES)
        found[f"{block}attn.proj.weight"], found[f"{block}attn.proj.bias"] = (EYES, EYES), (EYES,)
        found[f"{block}mlp.fc1.weight"], found[f"{block}mlp.fc1.bias"] = (48, EYES), (48,)
        found[f"{block}mlp.fc2.weight"], found[f"{block}mlp.fc2.bias"] = (EYES, 48), (EYES,)
    return found


def _tuned(vocabulary: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "ln_vision.weight": (EYES,),
        "ln_vision.bias": (EYES,),
        "query_tokens": (1, QUERIES, WIDTH),
        "Qformer.bert.embeddings.word_embeddings.weight": (vocabulary, WIDTH),
        "Qformer.bert.embeddings.position_embeddings.weight": (90, WIDTH),
        "Qformer.bert.embeddings.LayerNorm.weight": (WIDTH,),
        "Qformer.bert.embeddings.LayerNorm.bias": (WIDTH,),
        "itm_head.weight": (2, WIDTH),
        "itm_head.bias": (2,),
        "temp": (),
        "vision_proj.weight": (8, WIDTH),
        "mask_proj.layers.0.weight": (4, WIDTH),
        "Qformer.cls.predictions.bias": (vocabulary,),
    }

    def linear(name: str, out: int, given: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (out, given), (out,)

    for layer in range(LAYERS):
        own = f"Qformer.bert.encoder.layer.{layer}."
        for name, context in (("attention", WIDTH), *([("crossattention", EYES)] if layer % 2 == 0 else [])):
            linear(f"{own}{name}.self.query", WIDTH, WIDTH)
            linear(f"{own}{name}.self.key", WIDTH, context)
            linear(f"{own}{name}.self.value", WIDTH, context)
            linear(f"{own}{name}.output.dense", WIDTH, WIDTH)
            linear(f"{own}{name}.output.LayerNorm", WIDTH, 1)
        for name in ("", "_query"):
            linear(f"{own}intermediate{name}.dense", 80, WIDTH)
            linear(f"{own}output{name}.dense", WIDTH, 80)
            linear(f"{own}output{name}.LayerNorm", WIDTH, 1)
    return {name: (WIDTH,) if "LayerNorm" in name else shape for name, shape in found.items()}


def save_blip2(folder: Path, seed: int = 40) -> dict[str, Any]:
    """Pickled files as LAVIS saves them; the arguments of `evalmuse`."""
    folder.mkdir(parents=True)
    marks = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"&,?")
    words = [*marks, *LETTERS, *(f"##{letter}" for letter in LETTERS), *(w for w in WORDS if len(w) > 1)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    draw = torch.Generator().manual_seed(seed)

    def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
        state = {}
        for name, shape in shapes.items():
            wide = 1.0
            for side in shape[1:]:
                wide *= side
            scale = 0.3 if len(shape) < 2 else wide**-0.5 if "embed" not in name or len(shape) == 4 else 1.0
            norm = ("norm" in name or "LayerNorm" in name or "ln_" in name) and name.endswith("weight")
            state[name] = torch.randn(shape, generator=draw) * scale + float(norm)
        return state

    tuned = drawn(_tuned(len(words) + 1))
    for name in tuned:
        if "crossattention" in name and "LayerNorm" not in name:
            tuned[name] *= 3  # else every picture has nearly the same score
    torch.save({"model": drawn(_frozen() | {"itm_head.weight": (2, WIDTH)})}, folder / "coco.pth")
    torch.save({"model": tuned, "epoch": 7, "config": {"run": {"seed": 42}}}, folder / "fga_blip2.pth")
    files = {"weights": "fga_blip2.pth", "base": "coco.pth", "vocabulary": "vocab.txt"}
    return {name: str(folder / file) for name, file in files.items()}


class NaiveBlip2:
    """`element_score` of the publisher's class."""

    def __init__(self, args: Args) -> None:
        from transformers import BertTokenizer

        self.state: dict[str, torch.Tensor] = {}
        for name in ("base", "weights"):
            self.state |= torch.load(args[name], weights_only=True)["model"]
        words = Path(args["vocabulary"]).read_text().split()
        self.tokenizer: Any = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
        self.tokenizer.add_special_tokens({"bos_token": "[DEC]"})

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps)

    def picture(self, pixels: torch.Tensor) -> torch.Tensor:
        own, eyes = "visual_encoder.", 88
        kernel, bias = (self.state[f"{own}patch_embed.proj.{part}"] for part in ("weight", "bias"))
        x = F.conv2d(tf.normalize(pixels, MEAN, STD), kernel, bias, stride=PATCH).flatten(2).transpose(1, 2)
        x = torch.cat([self.state[f"{own}cls_token"], x], 1) + self.state[f"{own}pos_embed"]
        for layer in range(LAYERS):
            block = f"{own}blocks.{layer}."
            y = self.norm(f"{block}norm1", x, 1e-6) @ self.state[f"{block}attn.qkv.weight"].T
            q, k, v = y.chunk(3, -1)
            q, v = q + self.state[f"{block}attn.q_bias"], v + self.state[f"{block}attn.v_bias"]
            heads = []
            for at in range(0, EYES, eyes):
                a, b, c = (part[..., at : at + eyes] for part in (q, k, v))
                heads.append((a @ b.transpose(1, 2) * eyes**-0.5).softmax(-1) @ c)
            x = x + self.linear(f"{block}attn.proj", torch.cat(heads, -1))
            y = F.gelu(self.linear(f"{block}mlp.fc1", self.norm(f"{block}norm2", x, 1e-6)))
            x = x + self.linear(f"{block}mlp.fc2", y)
        return self.norm("ln_vision", x, 1e-5)

    def attended(self, name: str, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        q = self.linear(f"{name}.self.query", x)
        k, v = (self.linear(f"{name}.self.{part}", context) for part in ("key", "value"))
        seen = (q @ k.transpose(1, 2) / 8).softmax(-1) @ v
        return self.norm(f"{name}.output.LayerNorm", self.linear(f"{name}.output.dense", seen) + x, 1e-12)

    def fed(self, own: str, kind: str, x: torch.Tensor) -> torch.Tensor:
        inner = F.gelu(self.linear(f"{own}intermediate{kind}.dense", x))
        whole = self.linear(f"{own}output{kind}.dense", inner) + x
        return self.norm(f"{own}output{kind}.LayerNorm", whole, 1e-12)

    def ids(self, prompt: str) -> list[int]:
        text = re.sub(r"([.!\"()*#:;~])", " ", prompt.lower())
        text = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")
        found: list[int] = self.tokenizer(" ".join(text.split(" ")[:50])).input_ids
        return found

    def matches(self, pixels: torch.Tensor, prompt: str) -> torch.Tensor:
        """Of a picture's pixels (1, 3, SIDE, SIDE): each query's and each token's."""
        picture, ids = self.picture(pixels), self.ids(prompt)
        bert = "Qformer.bert."
        words = self.state[f"{bert}embeddings.word_embeddings.weight"][ids]
        words = words + self.state[f"{bert}embeddings.position_embeddings.weight"][: len(ids)]
        x = torch.cat([self.state["query_tokens"], words[None]], 1)
        x = self.norm(f"{bert}embeddings.LayerNorm", x, 1e-12)
        for layer in range(LAYERS):
            own = f"{bert}encoder.layer.{layer}."
            x = self.attended(f"{own}attention", x, x)
            asking = x[:, :QUERIES]
            if layer % 2 == 0:
                asking = self.attended(f"{own}crossattention", asking, picture)
            x = torch.cat([self.fed(own, "_query", asking), self.fed(own, "", x[:, QUERIES:])], 1)
        return self.linear("itm_head", x).softmax(-1)[0, :, 1]


def matched(args: Args) -> Reference:
    """The mean of the queries, times 4, and 1 more."""
    net = NaiveBlip2(args)

    def of(pixels: torch.Tensor, prompt: str) -> torch.Tensor:
        return net.matches(pixels, prompt)[:QUERIES].mean()[None] * 4 + 1

    def value(picture: Image.Image, prompt: str) -> float:
        return float(of(pixels_of(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)), prompt))

    def tensor(pixels: torch.Tensor, prompt: str) -> torch.Tensor:
        small = tf.resize(pixels, [SIDE, SIDE], InterpolationMode.BICUBIC, antialias=True)
        return of(small.clamp(0, 1) if small.shape != pixels.shape else small, prompt)

    return Reference(value, tensor, resizes=True)
