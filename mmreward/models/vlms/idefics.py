"""VideoScore (arXiv:2406.15252) in its published format: an Idefics2 with a linear head on its last token.

Op "score": the head's numbers of frames that stand behind a text. transformers has no such class; the body is
its Idefics2, whose tensors bear the published names, and the head is `score`, with a bias. Each frame is 64
tokens, whatever its size. The publisher's class reads the token before the first padding token; one clip at a
time, as its scripts run it, that is the last token, which is read here in any batch.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from ...engine.batching import Cost
from ...engine.engine import current
from ...errors import Unscorable
from ...media import Media
from ..base import TorchNetwork, loading
from ..checkpoints import files_of, misfits, state_of
from ..pictures import in_turn
from ..weights import folder_of

PICTURE, BOUNDARY = "<image>", "<fake_token_around_image>"
UNREAD = ("lm_head.weight", "model.text_model.lm_head.weight")
"""Tensors of the generating model that it was trained from."""


class Watched(NamedTuple):
    """Frames of one clip, all of one size, and the text before them."""

    frames: tuple[Media, ...]
    text: str


class Scored(torch.nn.Module):
    """A body and its head, in float32."""

    def __init__(self, body: Any, outputs: int) -> None:
        super().__init__()
        self.body = body
        self.score = torch.nn.Linear(body.config.text_config.hidden_size, outputs)


class IdeficsScorer(TorchNetwork):
    """One checkpoint.

    Args:
        weights: a hub id or folder in the published format.
        dtype: of the body; the head is in float32.
    """

    def __init__(self, weights: str, *, dtype: str = "float32") -> None:
        super().__init__(weights, dtype=dtype)

    async def score(self, frames: tuple[Media, ...], text: str) -> tuple[float, ...]:
        """The head's numbers of a clip's frames.

        Raises:
            Unscorable: the text has a token of the model's own, or frames and text do not fit its context.
        """
        key = (tuple(frame.key for frame in frames), text)
        found = await current().submit(self, "score", Watched(frames, text), key=key)
        return cast("tuple[float, ...]", found)

    @cached_property
    def folder(self) -> Path:
        """Folder of the weights, which are fetched if they are not there yet."""
        if (there := folder_of(self.source)) is not None and any(files_of(there)):
            return there
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(self.source))

    @cached_property
    def config(self) -> Any:
        from transformers import AutoConfig

        with loading(self.name):
            config: Any = AutoConfig.from_pretrained(self.folder)
            if config.model_type != "idefics2":
                raise ValueError(f"it is a {config.model_type}, and VideoScore is an idefics2")
            return config

    @cached_property
    def sizing(self) -> Any:
        """The checkpoint's image processor, with Pillow as the publisher had it."""
        from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil

        with loading(self.name):
            processor: Any = Idefics2ImageProcessorPil.from_pretrained(self.folder)
            if processor.do_image_splitting:
                raise ValueError("its processor splits pictures in four, which VideoScore's does not")
            return processor

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        with loading(self.name):
            tokenizer: Any = AutoTokenizer.from_pretrained(self.folder)
            known = tokenizer.get_vocab()
            if lacking := [token for token in (PICTURE, BOUNDARY) if token not in known]:
                raise ValueError(f"its tokenizer has no {' or '.join(lacking)}")
            return tokenizer

    @property
    def length(self) -> int:
        """Tokens of one frame."""
        return int(self.config.perceiver_config.resampler_n_latents)

    def build(self) -> torch.nn.Module:
        from transformers import Idefics2Model

        state: dict[str, torch.Tensor] = {}
        for file in files_of(self.folder):
            state |= state_of(str(file))
        head = {name: state.pop(f"score.{name}", None) for name in ("weight", "bias")}
        if head["weight"] is None or head["bias"] is None:
            raise ValueError("it has no score.weight and score.bias: is it a VideoScore?")
        tensors = {name.removeprefix("model."): each for name, each in state.items() if name not in UNREAD}
        with torch.device("meta"):
            bare = Idefics2Model(self.config)
        if said := misfits(bare.state_dict(), tensors):
            raise ValueError(f"it does not fit its own configuration: {said}")
        given = {"config": self.config, "state_dict": tensors, "dtype": self.dtype}
        body = Idefics2Model.from_pretrained(None, **given, attn_implementation="sdpa")
        module = Scored(body, len(head["weight"]))
        module.score.load_state_dict({name: cast(torch.Tensor, each).float() for name, each in head.items()})
        return module

    def cost(self, op: str, item: Watched) -> Cost:
        height, width = self._scaled(item.frames[0].size)
        patch = int(self.config.vision_config.patch_size)
        seen = (height // patch) * (width // patch)
        tokens = len(item.frames) * (seen + self.length + 3) + len(item.text) // 3
        return Cost(tokens, 12 * height * width * len(item.frames))

    def _scaled(self, size: tuple[int, int]) -> tuple[int, int]:
        """Size of a frame in the network: as it is, with both sides within the processor's limits."""
        from transformers.models.idefics2.image_processing_pil_idefics2 import get_resize_output_image_size

        if not self.sizing.do_resize:
            return size
        empty = np.empty((3, *size), np.bool_)
        return cast("tuple[int, int]", get_resize_output_image_size(empty, self.sizing.size))

    def prepare(self, op: str, items: list[Watched]) -> list[tuple[list[int], torch.Tensor]]:
        shots = [frame for item in items for frame in item.frames]
        arrays = in_turn(shots, lambda index: torch.from_numpy(np.array(shots[index].still())))
        ready, start = [], 0
        for item in items:
            seen = [array.numpy() for array in arrays[start : start + len(item.frames)]]
            start += len(seen)
            pixels = self.sizing([seen], return_tensors="pt")["pixel_values"][0]
            ready.append((self._ids(item), pixels))
        return ready

    def _ids(self, item: Watched) -> list[int]:
        """Tokens of the text with a stretch for each frame behind it."""
        with self.processing:
            tokenize = self.tokenizer
            for token in tokenize.all_special_tokens:
                if token in item.text:
                    raise Unscorable(f"the prompt contains {token}, which is a token of the model's own")
            frame = f"{BOUNDARY}{PICTURE * self.length}{BOUNDARY} "
            ids: list[int] = tokenize(item.text + frame * len(item.frames))["input_ids"]
        most = int(self.config.text_config.max_position_embeddings)
        if len(ids) > most:
            raise Unscorable(f"{len(item.frames)} frames and the prompt have {len(ids)} tokens, above {most}")
        return ids

    @torch.inference_mode()
    def forward(self, op: str, batch: list[tuple[list[int], torch.Tensor]]) -> list[tuple[float, ...]]:
        body, own = self.module.body, self.config.image_token_id
        rows = [torch.tensor(ids, device=self.device) for ids, _ in batch]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        mask = torch.arange(padded.shape[1], device=self.device) < lengths[:, None]
        embedded = body.get_input_embeddings()(padded)
        for row, (_, pixels) in enumerate(batch):
            seen = body.get_image_features(pixels[None].to(self.device, self.dtype), return_dict=True)
            embedded[row, (padded[row] == own) & mask[row]] = torch.cat(list(seen.pooler_output))
        out = body.text_model(inputs_embeds=embedded, attention_mask=mask.long(), use_cache=False)
        last = out.last_hidden_state[torch.arange(len(rows), device=self.device), lengths - 1]
        return [tuple(each) for each in self.module.score(last.float()).cpu().tolist()]
