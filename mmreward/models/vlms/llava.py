"""LLaVA-OneVision with a reward head, as MM-RLHF-Reward is released (arXiv:2502.10391): a Qwen2 that sees
through a SigLIP, writes a critique of a response, and gives a number to what it has read.

Ops "write" (the critique, greedily) and "value" (the head at the last token). The format is that of the
LLaVA-NeXT code, `llava_qwen`, which transformers has under other names and with another packing: here the
published tensors become transformers' SigLIP and Qwen2, and the tiles lie as that code lays them.

What a port may miss: the publisher's evaluation hands over one tensor of tiles where the code expects a list,
and so shows the model the first of them alone, the whole picture squashed to a square, without the line ends
that it was trained with (`whole`); the tower's last layer is not there; the greedy critique is shaped by the
checkpoint's repetition penalty, over what is written and not over the prompt.
"""

import math
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from ...media import Media
from ..base import loading
from .qwen import SHAPES
from .tiled import Chat, Embedded, TiledVLM, Tiles, left_over, linear, linears, native, taken

HEADS = 16
"""Attention heads of SigLIP-so400m, which no tensor tells."""
PATCHES = 729
"""Of one of its tiles."""
NORM = 1e-6
"""Epsilon of its layer norms."""
MEAN = STD = 0.5
TURNS = ("<|im_start|>", "<|im_end|>")
PICTURE = "<image>"
"""Mark of the picture in a prompt."""
SETTINGS = {"mm_projector_type": "mlp2x_gelu", "mm_patch_merge_type": "spatial_unpad"}
"""What a config must say for the picture to be read as it is read here."""
VISION = "model.vision_tower.vision_tower.vision_model."


def chat_of(text: str, answer: str, picture: Media | None) -> Chat:
    """The chat that a text and an answer make in ChatML, up to where an answer begins if there is none yet.

    Args:
        text: of the user's turn, with one `PICTURE` where there is a picture.
        answer: the assistant's; empty for none.
        picture: what it is about.
    """
    begin, end = TURNS
    whole = f"{begin}system\nYou are a helpful assistant.{end}\n{begin}user\n{text}{end}\n{begin}assistant\n"
    whole += f"{answer}{end}\n" if answer else ""
    if picture is None:
        return Chat((), (whole,))
    before, _, after = whole.partition(PICTURE)
    return Chat((picture,), (before, after))


class Whole(nn.Module):
    """Tower, projector, the vector that ends a line of tiles, the language model and both heads."""

    def __init__(self, parts: dict[str, nn.Module], newline: torch.Tensor) -> None:
        super().__init__()
        self.vision, self.language = parts["vision"], parts["language"]
        self.projector, self.lm_head = parts["projector"], parts["lm_head"]
        self.rm_head = parts["rm_head"]
        self.image_newline = nn.Parameter(newline)


class Llava(TiledVLM):
    """One checkpoint.

    Args:
        weights: a folder or hub id in the published format.
        whole: show the first tile alone, as the publisher's evaluation does; False shows all of them, as in
            training.
        dtype: of tower and language model; the reward head is in float32.
    """

    kind = "llava_qwen"

    def __init__(self, weights: str, *, whole: bool = True, dtype: str = "float32") -> None:
        super().__init__(weights, dtype=dtype, whole=whole)
        self.whole = whole

    async def write(self, chat: Chat, max_tokens: int) -> tuple[str, bool]:
        """The answer, greedily, and whether it ended by itself."""
        return cast(tuple[str, bool], await self._ask("write", chat, max_tokens))

    async def value(self, chat: Chat) -> float:
        """The reward head at the chat's last token."""
        return cast(float, await self._ask("value", chat))

    # --- the picture ------------------------------------------------------------------------------

    @property
    def side(self) -> int:
        """Pixels of a tile's side."""
        return int(self.module.vision.config.image_size)

    @property
    def grid(self) -> int:
        """Patches of a tile's side."""
        return self.side // int(self.module.vision.config.patch_size)

    @cached_property
    def most(self) -> int:
        """Tiles' worth of tokens that a picture has at most: 9 of "anyres_max_9"."""
        said = str(self.config.get("image_aspect_ratio"))
        with loading(self.name):
            if (found := re.fullmatch(r"anyres_max_(\d+)", said)) is None:
                raise ValueError(f"its config says image_aspect_ratio: {said}; anyres_max_N is read here")
            return int(found[1])

    @cached_property
    def sheets(self) -> list[tuple[int, int]]:
        """(width, height) in pixels that a picture may be brought to, in the config's order."""
        points = self.config["image_grid_pinpoints"]
        if isinstance(points, str):
            ends = [(int(a), int(b)) for a, b in re.findall(r"\((\d+)x(\d+)\)", points)]
            (left, top), (right, bottom) = ends[0], ends[-1]
            points = [(a, b) for a in range(left, right + 1) for b in range(top, bottom + 1)]
            return [(a * self.side, b * self.side) for a, b in points]
        return [(int(width), int(height)) for width, height in points]

    def sheet(self, width: int, height: int) -> tuple[int, int]:
        """That of `sheets` which keeps most of a picture, and then wastes least."""
        best, kept, wasted = self.sheets[0], 0, math.inf
        for size in self.sheets:
            scale = min(size[0] / width, size[1] / height)
            useful = min(int(width * scale) * int(height * scale), width * height)
            waste = size[0] * size[1] - useful
            if useful > kept or (useful == kept and waste < wasted):
                best, kept, wasted = size, useful, waste
        return best

    def usual(self, size: tuple[int, ...], most: int) -> int:
        return PATCHES if self.whole else PATCHES * (self.most + 1)

    def measure(self, size: tuple[int, ...], most: int) -> int:
        grid = self.grid
        if self.whole:
            return grid * grid
        height, width = size
        sheet = self.sheet(width, height)
        rows, columns = self._unpadded(sheet, (width, height))
        times = self._times(rows, columns)
        rows, columns = (int(rows // times), int(columns // times)) if times > 1.1 else (rows, columns)
        return grid * grid + rows * (columns + 1)

    def _times(self, rows: int, columns: int) -> float:
        return math.sqrt(rows * columns / (self.most * self.grid**2))

    def _unpadded(self, sheet: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of patches of a sheet that the picture of this (width, height) covers."""
        width, height = sheet[0] // self.side * self.grid, sheet[1] // self.side * self.grid
        top, left = margins((height, width), size)
        return height - 2 * top, width - 2 * left

    def tiles(self, picture: Image.Image, most: int) -> Tiles:
        side = self.side
        squares = [picture.resize((side, side))]
        sheet = self.sheet(*picture.size)
        if not self.whole:
            padded = on_black(picture, sheet)
            squares += [
                padded.crop((left, top, left + side, top + side))
                for top in range(0, sheet[1], side)
                for left in range(0, sheet[0], side)
            ]
        values = np.stack([np.asarray(square, np.float32) for square in squares])
        pixels = torch.from_numpy(values).permute(0, 3, 1, 2) / 255
        return Tiles((pixels - MEAN) / STD, (*picture.size, *sheet, len(squares)))

    def seen(self, pixels: torch.Tensor, layouts: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        module = self.module
        vision = module.vision
        states = vision.encoder(inputs_embeds=vision.embeddings(pixels)).last_hidden_state
        features = module.projector(states)
        pictures = features.split([layout[-1] for layout in layouts])
        return [self._laid(each, layout) for each, layout in zip(pictures, layouts, strict=True)]

    def _laid(self, tiles: torch.Tensor, layout: tuple[int, ...]) -> torch.Tensor:
        """(T, width) of a picture's tiles (n, patches, width): the first, and the others as one sheet, whose
        padding is cut off and whose rows end with the line's end."""
        if self.whole:
            return tiles[0]
        *size, across, down, _ = layout
        rows, columns = down // self.side, across // self.side
        grid = self.grid
        sheet = tiles[1:].reshape(rows, columns, grid, grid, -1).permute(4, 0, 2, 1, 3)
        sheet = sheet.flatten(1, 2).flatten(2, 3)
        top, left = margins((sheet.shape[1], sheet.shape[2]), (size[0], size[1]))
        sheet = sheet[:, top : sheet.shape[1] - top, left : sheet.shape[2] - left]
        high, wide = sheet.shape[1:]
        if (times := self._times(high, wide)) > 1.1:
            smaller = [int(high // times), int(wide // times)]
            sheet = F.interpolate(sheet[None], smaller, mode="bilinear")[0]
        ends = self.module.image_newline[:, None, None].expand(-1, sheet.shape[1], 1).to(sheet.dtype)
        lines = torch.cat([sheet, ends], dim=-1).flatten(1, 2).T
        return torch.cat([tiles[0], lines])

    # --- words ------------------------------------------------------------------------------------

    def encoded(self, text: str, first: bool) -> list[int]:
        return cast(list[int], self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def ahead(self, op: str, detail: Any) -> int:
        return int(detail) if op == "write" else 0

    def answers(self, op: str, rows: list[Embedded], details: list[Any]) -> list[Any]:
        if op != "write":
            return super().answers(op, rows, details)
        written = self.written(rows, details, self._stops, self._penalty)
        texts = [self.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids, _ in written]
        return [(text, stopped) for text, (_, stopped) in zip(texts, written, strict=True)]

    def read(self, op: str, states: torch.Tensor, row: Embedded, detail: Any) -> float:
        head = self.module.rm_head
        return float(head["out_proj"](head["dense"](states[-1].float()).tanh()))

    @cached_property
    def _generation(self) -> Any:
        from transformers import GenerationConfig

        if not (self.folder / "generation_config.json").is_file():
            return GenerationConfig(eos_token_id=self.config.get("eos_token_id"))
        return GenerationConfig.from_pretrained(self.folder)

    @property
    def _stops(self) -> set[int]:
        stops = self._generation.eos_token_id
        stops = self.tokenizer.eos_token_id if stops is None else stops
        return set(stops) if isinstance(stops, list) else {stops}

    @property
    def _penalty(self) -> float:
        shaped = [name for name in SHAPES if getattr(self._generation, name, None) not in (None, 0, [], {})]
        if shaped:
            raise ValueError(f"the generation config of {self.name} sets {', '.join(shaped)}, unknown here")
        return float(self._generation.repetition_penalty or 1.0)

    # --- the module -------------------------------------------------------------------------------

    def build(self) -> nn.Module:
        from transformers import Qwen2Config, Qwen2Model, SiglipVisionConfig, SiglipVisionModel

        for key, value in SETTINGS.items():
            if (found := self.config.get(key)) != value:
                raise ValueError(f"{self.name} says {key}: {found!r}; {value!r} is read here")
        state = self.state()
        vision = taken(state, {VISION: ""})
        if "embeddings.patch_embedding.weight" not in vision:
            raise ValueError(f"{self.name} has no vision tower among its tensors")
        own = {name: tensor for name, tensor in vision.items() if not name.startswith("head.")}
        names = {name.split(".")[2] for name in own if name.startswith("encoder.layers.")}
        width, _, patch, _ = own["embeddings.patch_embedding.weight"].shape
        patches = math.isqrt(len(own["embeddings.position_embedding.weight"]))
        seeing = SiglipVisionConfig(
            hidden_size=width,
            intermediate_size=len(own["encoder.layers.0.mlp.fc1.bias"]),
            num_hidden_layers=len(names),
            num_attention_heads=HEADS,
            image_size=patches * patch,
            patch_size=patch,
            layer_norm_eps=NORM,
            hidden_act="gelu_pytorch_tanh",
            vision_use_head=False,
        )
        # The publisher's code drops a `rope_scaling` as well.
        words = Qwen2Config(**self.config | {"model_type": "qwen2", "rope_scaling": None})
        newline = state.pop("model.image_newline").to(self.dtype)
        head = state.pop("lm_head.weight", state["model.embed_tokens.weight"])
        projector = linears(state, "model.mm_projector.", self.dtype, self.name)
        parts = {
            "vision": native(SiglipVisionModel, seeing, own, self.dtype, self.name),
            "projector": nn.Sequential(projector["0"], nn.GELU(), projector["2"]),
            "rm_head": nn.ModuleDict(linears(state, "rm_head.", torch.float32, self.name)),
            "lm_head": linear(head, None, self.dtype),
            "language": native(Qwen2Model, words, taken(state, {"model.": ""}), self.dtype, self.name),
        }
        left_over(state, self.name)
        return Whole(parts, newline)


def margins(sheet: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """(rows at the top and bottom, columns at the left and right) of a sheet's (height, width) that the
    padding of a picture of this (width, height) fills."""
    high, wide = sheet
    width, height = size
    if width / height > wide / high:
        return (high - int(height * (wide / width))) // 2, 0
    return 0, (wide - int(width * (high / height))) // 2


def on_black(picture: Image.Image, sheet: tuple[int, int]) -> Image.Image:
    """A picture in its own proportions in the middle of a black sheet of this (width, height)."""
    across, down = sheet[0] / picture.width, sheet[1] / picture.height
    if across < down:
        size = (sheet[0], min(math.ceil(picture.height * across), sheet[1]))
    else:
        size = (min(math.ceil(picture.width * down), sheet[0]), sheet[1])
    whole = Image.new("RGB", sheet, (0, 0, 0))
    whole.paste(picture.resize(size), ((sheet[0] - size[0]) // 2, (sheet[1] - size[1]) // 2))
    return whole
