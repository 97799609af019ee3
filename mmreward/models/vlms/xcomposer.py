"""InternLM-XComposer2.5-Reward (arXiv:2501.12368) as it is released: a CLIP ViT of 560 pixels, an InternLM2
whose every matrix has a low-rank part for the tokens of pictures, and a scalar of the last token.

Op "value". No current package has the architecture; its tensors are read here by their published names. What
a port may miss: the low-rank parts (PLoRA) are weights, which act on pictures alone, and no adapter to be
merged; query, keys and values lie in one matrix, group by group; four patches make one token; the whole
picture comes first, shrunk from its normalised pixels without anti-aliasing; learnt vectors end each line and
the whole. A row longer than the publisher's 16,384 tokens is cut there before its reward is read, wherever
that is: here it is refused.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from ...errors import Unscorable
from ...media import Media
from ..base import loading
from ..checkpoints import misfits
from ..pieces import Pieces, pieces_of
from .tiled import Chat, Embedded, Tensors, TiledVLM, Tiles, left_over, linear, linears, native, taken

PICTURE = "<ImageHere>"
"""Mark of a picture in a prompt."""
BEGIN, END, READ = "[UNUSED_TOKEN_146]", "[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_130]"
"""Tokens that begin and end a turn, and the one whose state is the reward's."""
LONGEST = 16384
"""Tokens of a row, at most."""
SEVERAL = 6
"""Tiles of each of several pictures, at most."""
HEADS = 16
"""Attention heads of the tower, which no tensor tells."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TOWER = "vit.vision_tower.vision_model."
UNREAD = ("position_ids", "rotary_emb.inv_freq")
"""Ends of names of tensors that nothing reads."""


class XComposer(TiledVLM):
    """One checkpoint.

    Args:
        weights: a folder or hub id in the published format.
        tiles: of a picture, at most (`hd_num`).
        dtype: of all parts but the score's, which is in float32.
    """

    kind = "internlm2"

    def __init__(self, weights: str, *, tiles: int = 9, dtype: str = "float32") -> None:
        super().__init__(weights, dtype=dtype, tiles=tiles)
        self.most = tiles

    async def value(self, question: str, response: str, media: tuple[Media, ...]) -> float:
        """The score of a response to a question.

        Raises:
            Unscorable: question or response have a token that begins or ends something, or the question has
                not one `PICTURE` for each of several pictures.
        """
        for token in (*self.pieces.marks, PICTURE):
            if token in response or (token in question and token != PICTURE):
                raise Unscorable(f"prompt or response contain {token}, which parts the chat")
        text = f"{BEGIN}user\n{question}{END}\n{BEGIN}assistant\n{response}{END}\n</s>{READ}"
        text = PICTURE + text if len(media) == 1 and PICTURE not in text else text
        texts = tuple(text.split(PICTURE))
        if len(texts) != len(media) + 1:
            raise Unscorable(
                f"{len(media)} pictures need as many places ({PICTURE}) in the prompt, not {len(texts) - 1}"
            )
        most = SEVERAL if len(media) > 1 else self.most
        return cast(float, await self._ask("value", Chat(media, texts, most)))

    # --- words ------------------------------------------------------------------------------------

    @cached_property
    def pieces(self) -> Pieces:
        with loading(self.name):
            return pieces_of(self.folder)

    def encoded(self, text: str, first: bool) -> list[int]:
        return self.pieces.ids(text, beginning=first)

    @property
    def longest(self) -> int:
        return min(LONGEST, super().longest)

    # --- the picture ------------------------------------------------------------------------------

    @property
    def side(self) -> int:
        """Pixels of a tile's side."""
        return int(self.module.tower.config.image_size)

    @property
    def grid(self) -> int:
        """Tokens of a tile's side."""
        return self.side // int(self.module.tower.config.patch_size) // 2

    def usual(self, size: tuple[int, ...], most: int) -> int:
        return 420 * (most + 1)

    def measure(self, size: tuple[int, ...], most: int) -> int:
        height, width = size
        grid = self.grid
        _, _, rows, columns = self.sheet(width, height, most)
        return (rows * columns + 1) * grid * grid + 1 + (rows + 1) * grid

    def sheet(self, width: int, height: int, most: int) -> tuple[int, int, int, int]:
        """(width, height) in pixels that a picture is brought to before it is padded, and the rows and
        columns of its tiles; a picture that is higher than wide lies on its side meanwhile.

        Raises:
            Unscorable: nothing would be left of its shorter side.
        """
        if width < height:
            across, down, rows, columns = self.sheet(height, width, most)
            return down, across, columns, rows
        ratio, scale = width / height, 1
        while (scale + 1) * math.ceil((scale + 1) / ratio) <= most:
            scale += 1
        scale = min(math.ceil(width / self.side), scale)
        across = scale * self.side
        down = int(across / ratio)
        if not down:
            raise Unscorable(f"a picture of {width} x {height} pixels has no height when it is {across} wide")
        return across, down, math.ceil(down / self.side), scale

    def tiles(self, picture: Image.Image, most: int) -> Tiles:
        side = self.side
        lying = picture.width < picture.height
        across, down, rows, columns = self.sheet(*picture.size, most)
        if lying:  # the padding is below it as it lies: at the right when it stands
            picture = picture.transpose(Image.Transpose.TRANSPOSE)
            across, down = down, across
        small = picture.resize((across, down), Image.Resampling.BILINEAR)
        whole = Image.new("RGB", (across, math.ceil(down / side) * side), (255, 255, 255))
        whole.paste(small, (0, 0))
        whole = whole.transpose(Image.Transpose.TRANSPOSE) if lying else whole
        values = torch.from_numpy(np.asarray(whole, np.float32)).permute(2, 0, 1) / 255
        pixels = (values - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        cut = pixels.reshape(3, rows, side, columns, side).permute(1, 3, 0, 2, 4).flatten(0, 1)
        shrunk = F.interpolate(pixels[None], size=(side, side), mode="bicubic")
        return Tiles(torch.cat([shrunk, cut]), (rows, columns))

    def seen(self, pixels: torch.Tensor, layouts: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        module = self.module
        states = module.tower(pixels).last_hidden_state[:, 1:]
        pictures = states.split([rows * columns + 1 for rows, columns in layouts])
        laid = [self._laid(each, *layout) for each, layout in zip(pictures, layouts, strict=True)]
        return [module.projector(each) for each in laid]

    def _laid(self, tiles: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """(T, 4 width) of a picture's tiles (n, patches, width): four patches to a token, the whole picture,
        its end, and the tiles as one sheet; each line with its end."""
        grid = self.grid
        fours = tiles.reshape(len(tiles), grid, 2, grid, 2, -1).transpose(2, 3).flatten(3)
        sheet = fours[1:].reshape(rows, columns, grid, grid, -1).transpose(1, 2)
        sheet = sheet.reshape(rows * grid, columns * grid, -1)
        lines = []
        for part in (fours[0], sheet):
            ends = self.module.line_end.expand(len(part), 1, -1).to(part.dtype)
            lines.append(torch.cat([part, ends], dim=1).flatten(0, 1))
        return torch.cat([lines[0], self.module.end.to(tiles.dtype), lines[1]])

    # --- the language model -----------------------------------------------------------------------

    def vectors(self, ids: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.module.model.tok_embeddings(ids))

    def run(self, vectors: torch.Tensor, pictured: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.module.model(vectors, pictured))

    def read(self, op: str, states: torch.Tensor, row: Embedded, detail: Any) -> float:
        return float(self.module.score(states[-1].float()))

    def build(self) -> nn.Module:
        from transformers import CLIPVisionConfig, CLIPVisionModel

        state = {name: tensor for name, tensor in self.state().items() if not name.endswith(UNREAD)}
        own = taken(state, {TOWER: ""})
        if "embeddings.patch_embedding.weight" not in own or "score.weight" not in state:
            raise ValueError(f"{self.name} has no tower, or no score: is it InternLM-XComposer2.5-Reward?")
        width, _, patch, _ = own["embeddings.patch_embedding.weight"].shape
        side = math.isqrt(len(own["embeddings.position_embedding.weight"]) - 1) * patch
        names = {name.split(".")[2] for name in own if name.startswith("encoder.layers.")}
        seeing = CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=len(own["encoder.layers.0.mlp.fc1.bias"]),
            num_hidden_layers=len(names),
            num_attention_heads=HEADS,
            image_size=side,
            patch_size=patch,
        )
        score = linear(state.pop("score.weight"), None, torch.float32)
        ends = {name: state.pop(f"plora_{name}_GN").to(self.dtype) for name in ("glb", "sub")}
        projector = linears(state, "vision_proj.", self.dtype, self.name)
        tensors = {name: tensor.to(self.dtype) for name, tensor in taken(state, {"model.": ""}).items()}
        left_over(state, self.name)
        parts = {
            "tower": native(CLIPVisionModel, seeing, own, self.dtype, self.name),
            "projector": nn.Sequential(projector["0"], nn.GELU(), projector["2"]),
            "model": language(self.config, tensors, self.name),
            "score": score,
        }
        return _Whole(parts, ends["glb"][0], ends["sub"][0])


# --- architecture, by the published names -------------------------------------------------------------------


class _Whole(nn.Module):
    def __init__(self, parts: dict[str, nn.Module], end: torch.Tensor, line_end: torch.Tensor) -> None:
        super().__init__()
        self.tower, self.projector = parts["tower"], parts["projector"]
        self.model, self.score = parts["model"], parts["score"]
        self.end, self.line_end = nn.Parameter(end), nn.Parameter(line_end)


class _Partial(nn.Linear):
    """Linear layer with a low-rank part for the tokens of pictures."""

    def __init__(self, given: int, out: int, rank: int, bias: bool = False) -> None:
        super().__init__(given, out, bias=bias)
        self.Plora_A = nn.Linear(given, rank, bias=False)
        self.Plora_B = nn.Linear(rank, out, bias=False)

    def forward(self, x: torch.Tensor, pictured: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        out = super().forward(x)
        out[pictured] += self.Plora_B(self.Plora_A(x[pictured]))
        return out


class _Layer(nn.Module):
    def __init__(self, c: dict[str, Any], rank: int) -> None:
        super().__init__()
        width, hidden, eps = c["hidden_size"], c["intermediate_size"], c["rms_norm_eps"]
        self.heads, self.keys = c["num_attention_heads"], c["num_key_value_heads"]
        self.size = width // self.heads
        bias = bool(c.get("bias", False))
        mixed = (self.heads + 2 * self.keys) * self.size
        self.attention = nn.ModuleDict(
            {"wqkv": _Partial(width, mixed, rank, bias), "wo": _Partial(width, width, rank, bias)}
        )
        self.feed_forward = nn.ModuleDict(
            {
                "w1": _Partial(width, hidden, rank),
                "w3": _Partial(width, hidden, rank),
                "w2": _Partial(hidden, width, rank),
            }
        )
        self.attention_norm, self.ffn_norm = nn.RMSNorm(width, eps), nn.RMSNorm(width, eps)

    def forward(
        self, x: torch.Tensor, pictured: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        attention, feed = self.attention, self.feed_forward
        mixed = attention["wqkv"](self.attention_norm(x), pictured)
        # Of every group of heads its queries, its key and its value stand together.
        groups = mixed.unflatten(-1, (self.keys, self.heads // self.keys + 2, self.size))
        q = groups[..., :-2, :].flatten(2, 3).transpose(1, 2)
        k, v = (groups[..., place, :].transpose(1, 2) for place in (-2, -1))
        q, k = (_turned(each, *turn) for each in (q, k))
        k, v = (each.repeat_interleave(self.heads // self.keys, dim=1) for each in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + attention["wo"](out, pictured)
        y = self.ffn_norm(x)
        hidden = F.silu(feed["w1"](y, pictured)) * feed["w3"](y, pictured)
        return cast(torch.Tensor, x + feed["w2"](hidden, pictured))


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class _InternLM2(nn.Module):
    def __init__(self, c: dict[str, Any], rank: int) -> None:
        super().__init__()
        self.size = c["hidden_size"] // c["num_attention_heads"]
        self.base = float(c["rope_theta"])
        self.tok_embeddings = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(_Layer(c, rank) for _ in range(c["num_hidden_layers"]))
        self.norm = nn.RMSNorm(c["hidden_size"], c["rms_norm_eps"])

    def forward(self, x: torch.Tensor, pictured: torch.Tensor) -> torch.Tensor:
        steps = torch.arange(0, self.size, 2, device=x.device).float() / self.size
        angles = torch.outer(torch.arange(x.shape[1], device=x.device).float(), self.base**-steps)
        angles = torch.cat([angles, angles], dim=-1)
        turn = (angles.cos().to(x.dtype), angles.sin().to(x.dtype))
        for layer in self.layers:
            x = layer(x, pictured, turn)
        return cast(torch.Tensor, self.norm(x))


def language(config: dict[str, Any], tensors: Tensors, name: str) -> nn.Module:
    """InternLM2 with low-rank parts, of these tensors.

    Raises:
        ValueError: names are missing or left over, or shapes differ; positions of a kind that none has.
    """
    scaling = config.get("rope_scaling")
    if scaling and scaling.get("type") != "dynamic":
        # "dynamic" changes nothing within the positions that the config names, and longer rows are refused.
        raise ValueError(f"{name} says rope_scaling: {scaling}, and dynamic is read here")
    ranks = {len(tensor) for key, tensor in tensors.items() if key.endswith("Plora_A.weight")}
    if len(ranks) != 1:
        raise ValueError(f"{name} has low-rank parts of ranks {sorted(ranks)}, and one is read here")
    with torch.device("meta"):
        module = _InternLM2(config, ranks.pop())
    if said := misfits(module.state_dict(), tensors):
        raise ValueError(f"{name} does not fit its config.json, in the InternLM2: {said}")
    module.load_state_dict(tensors, assign=True)
    return module
