"""A second writing of Social Reward's cosine: OpenAI's CLIP with its quick GELU, layer by layer in plain
torch, from what the publisher's training saves.
"""

from collections.abc import Mapping
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
SEES = 16
"""Width of one attention head of both towers."""


class _Clip:
    def __init__(self, args: Args) -> None:
        import open_clip

        self.state: dict[str, torch.Tensor] = torch.load(args["fitted"], weights_only=True)
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
            for at in range(0, x.shape[-1], SEES):
                a, b, c = (part[:, at : at + SEES] for part in (q, k, v))
                heads.append((a @ b.T / SEES**0.5 + hidden).softmax(-1) @ c)
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
    net = _Clip(args)

    def middle(pixels: torch.Tensor) -> Any:
        small = tf.resize(pixels, SIDE, InterpolationMode.BICUBIC, antialias=True)
        small = small.clamp(0, 1) if small.shape != pixels.shape else small
        return tf.center_crop(small, [SIDE])

    def value(picture: Image.Image, prompt: str) -> float:
        small = tf.center_crop(tf.resize(picture, SIDE, InterpolationMode.BICUBIC), [SIDE])
        return float(net.picture(pixels_of(small)) @ net.text(prompt))

    return Reference(
        value,
        lambda pixels, prompt: (net.picture(middle(pixels)) * net.text(prompt)).sum()[None],
        resizes=True,
    )
