"""Scalar reward models as their publishers run them, one request at a time: a plain transformers body,
embeddings with the pictures' features put in, no positions (or transformers' own), states at the reward's
tokens.

Shares nothing with the code under test but the files.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from qwen_vl_utils.vision_process import fetch_image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor


class NaiveQwen:
    """A body and its heads' tensors.

    Args:
        base: folder of configuration and processor.
        state: tensors under the names of transformers before 4.52.
        tokens: that are added to the vocabulary.
    """

    def __init__(self, base: str, state: dict[str, torch.Tensor], tokens: Sequence[str]) -> None:
        self.processor = AutoProcessor.from_pretrained(base)
        self.processor.tokenizer.add_tokens(list(tokens), special_tokens=True)
        self.ids = self.processor.tokenizer.convert_tokens_to_ids(list(tokens))
        config = AutoConfig.from_pretrained(base)
        if tokens:
            config.get_text_config().vocab_size = len(self.processor.tokenizer)
        self.model = AutoModelForImageTextToText.from_config(config).eval()
        names = {
            name.replace("model.visual.", "visual.").replace("model.language_model.", "model."): name
            for name in self.model.state_dict()
        }
        self.heads = {name: tensor.float() for name, tensor in state.items() if name not in names}
        body = {names[name]: tensor for name, tensor in state.items() if name in names}
        self.model.load_state_dict(body, strict=not tokens or "lm_head.weight" in state)

    def inputs(
        self,
        images: Sequence[Image.Image],
        text: str,
        pixels: int | None = None,
        video: torch.Tensor | None = None,
    ) -> Any:
        """Tensors of one request; `video` is (T, 3, H, W), of a size that is kept."""
        content = [*({"type": "image"} for _ in images)]
        content += [] if video is None else [{"type": "video"}]
        turns = [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
        return self.chat_inputs(images, turns, True, pixels, video)

    def chat_inputs(
        self,
        images: Sequence[Image.Image],
        turns: list[dict[str, Any]],
        asks: bool = False,
        pixels: int | None = None,
        video: torch.Tensor | None = None,
    ) -> Any:
        chat = self.processor.apply_chat_template(turns, add_generation_prompt=asks)
        limits = {} if pixels is None else {"min_pixels": pixels, "max_pixels": pixels}
        patch = self.processor.image_processor.patch_size
        resized = [fetch_image({"image": image, **limits}, image_patch_size=patch) for image in images]
        clip = None if video is None else [video]
        more = {} if video is None else {"do_sample_frames": False}
        return self.processor(
            text=[chat], images=resized or None, videos=clip, do_resize=False, return_tensors="pt", **more
        )

    def states(self, inputs: Any, *, flat: bool = True) -> torch.Tensor:
        """(tokens, width): hidden states at the reward's tokens, or at the last one; with a gradient where an
        input has one."""
        ids = inputs["input_ids"]
        with torch.set_grad_enabled(any(tensor.requires_grad for tensor in inputs.values())):
            if flat:
                embedded = self.model.get_input_embeddings()(ids)
                for kind in ("image", "video"):
                    name = "pixel_values" if kind == "image" else "pixel_values_videos"
                    if name in inputs:
                        features = self.model.model.visual(inputs[name], inputs[f"{kind}_grid_thw"])
                        mask = ids == getattr(self.model.config, f"{kind}_token_id")
                        where = mask[..., None].expand_as(embedded)
                        embedded = embedded.masked_scatter(where, features.pooler_output)
                positions = torch.arange(ids.shape[1]).expand(3, 1, -1)
                output = self.model.model.language_model(
                    inputs_embeds=embedded, position_ids=positions, attention_mask=inputs["attention_mask"]
                )
            else:
                self.model.model.rope_deltas = None
                output = self.model.model(**inputs)
        hidden: torch.Tensor = output.last_hidden_state[0]
        if not self.ids:
            return hidden[-1:]
        mask = torch.isin(ids[0], torch.tensor(self.ids))
        return hidden[mask]

    def ranknet(self, hidden: torch.Tensor, prefix: str) -> torch.Tensor:
        for index in (0, 3, 5):
            weight, bias = (self.heads[f"{prefix}.{index}.{part}"] for part in ("weight", "bias"))
            hidden = hidden @ weight.T + bias
            hidden = hidden if index == 5 else hidden.relu()
        return hidden


def noise(height: int, width: int, seed: int) -> Image.Image:
    """A picture of coarse noise, which resizing changes."""
    draw = np.random.default_rng(seed)
    small = draw.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height))
