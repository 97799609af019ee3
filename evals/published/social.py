"""A second writing of OpenAI's CLIP with its quick GELU, layer by layer in plain torch: Social Reward's
cosine, from what the publisher's training saves, and CLIPScore as its authors' code and pyiqa have it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as tf

from .checkpoints import SIDE
from .upstream import Reference, pixels_of

Args = Mapping[str, Any]
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


class _Clip:
    """Both towers of a file of tensors, whose attention heads are `sees` wide."""

    def __init__(self, file: str, sees: int) -> None:
        import open_clip

        self.state: dict[str, torch.Tensor] = torch.load(file, weights_only=True)
        self.sees = sees
        self.tokenizer: Any = open_clip.get_tokenizer("ViT-L-14")

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def layers(self, own: str, x: torch.Tensor, hidden: torch.Tensor | float) -> torch.Tensor:
        """(T, width) through all layers of a tower."""
        number = 0
        while f"{own}resblocks.{number}.ln_1.weight" in self.state:
            block = f"{own}resblocks.{number}."
            weight, bias = (self.state[f"{block}attn.in_proj_{part}"] for part in ("weight", "bias"))
            q, k, v = (self.norm(f"{block}ln_1", x) @ weight.T + bias).chunk(3, -1)
            heads = []
            for at in range(0, x.shape[-1], self.sees):
                a, b, c = (part[:, at : at + self.sees] for part in (q, k, v))
                heads.append((a @ b.T / self.sees**0.5 + hidden).softmax(-1) @ c)
            x = x + self.linear(f"{block}attn.out_proj", torch.cat(heads, -1))
            y = self.linear(f"{block}mlp.c_fc", self.norm(f"{block}ln_2", x))
            x = x + self.linear(f"{block}mlp.c_proj", y * torch.sigmoid(1.702 * y))
            number += 1
        return x

    def picture(self, pixels: torch.Tensor) -> torch.Tensor:
        kernel = self.state["visual.conv1.weight"]
        x = F.conv2d(tf.normalize(pixels, MEAN, STD), kernel, stride=kernel.shape[-1])[0].flatten(1).T
        x = torch.cat([self.state["visual.class_embedding"][None], x])
        x = self.norm("visual.ln_pre", x + self.state["visual.positional_embedding"])
        x = self.norm("visual.ln_post", self.layers("visual.transformer.", x, 0.0)[0])
        return F.normalize(x @ self.state["visual.proj"], dim=-1)

    def text(self, prompt: str) -> torch.Tensor:
        ids = self.tokenizer([prompt])[0]
        x = self.state["token_embedding.weight"][ids] + self.state["positional_embedding"]
        x = self.layers("transformer.", x, torch.full((len(ids), len(ids)), -torch.inf).triu(1))
        last = self.norm("ln_final", x)[int(ids.argmax())]  # the end token has the highest id
        return F.normalize(last @ self.state["text_projection"], dim=-1)


def social(args: Args) -> Reference:
    """Product of both unit embeddings, as the publisher's validation has it."""
    return _of_both(_Clip(args["fitted"], 16), "", lambda cosine: cosine)


def clipscore(args: Args) -> Reference:
    """2.5 max(cosine, 0) of the picture and "A photo depicts", a space and the prompt."""
    net = _Clip(f"{args['weights']}/openai.pt", 64)
    return _of_both(net, "A photo depicts ", lambda cosine: 2.5 * cosine.clamp(min=0))


def _of_both(net: _Clip, before: str, made: Callable[[torch.Tensor], torch.Tensor]) -> Reference:
    """What is made of the product of both unit embeddings, the prompt's with words before it."""

    def middle(pixels: torch.Tensor) -> Any:
        small = tf.resize(pixels, SIDE, InterpolationMode.BICUBIC, antialias=True)
        small = small.clamp(0, 1) if small.shape != pixels.shape else small
        return tf.center_crop(small, [SIDE])

    def value(picture: Image.Image, prompt: str) -> float:
        small = tf.center_crop(tf.resize(picture, SIDE, InterpolationMode.BICUBIC), [SIDE])
        return float(made(net.picture(pixels_of(small)) @ net.text(before + prompt)))

    return Reference(
        value,
        lambda pixels, prompt: made((net.picture(middle(pixels)) * net.text(before + prompt)).sum()[None]),
        resizes=True,
    )
