"""VideoReward (arXiv:2501.13918) in the format of its publisher's code, VideoAlign: a Qwen2-VL that was tuned
by LoRA, with one linear head whose three outputs are read at three tokens.

A folder has `model_config.json` (how clips are read, LoRA's rank, means and deviations of the scores) and one
`checkpoint-STEP` or more: `model.pth`, everything with the adapters beside what they adapt, or
`adapter_model.safetensors` with `non_lora_state_dict.pth`, which the body's own weights must be added to.

Clips are read as that code reads them, which differs from qwen-vl-utils and from transformers: the number of
frames is rounded to an even one and not cut, and frames are brought to 128 * 28 * 28 pixels at least.
"""

import json
import math
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ...errors import Unscorable
from ...media import Media
from ..base import loading
from ..checkpoints import state_of
from ..weights import content_of, folder_of
from .scalar import ScalarVL
from .scalar_files import Tensors, merged, plain_name
from .vision import FPS, Sight, View, Vision

DIMENSIONS = ("VQ", "MQ", "TA")
TOKENS = tuple(f"<|{dimension}_reward|>" for dimension in DIMENSIONS)
CONFIG = "model_config.json"
FEWEST_PIXELS = 128 * 28 * 28
"""Of a frame."""
FEWEST_FRAMES, MOST_FRAMES = 4, 768
PUBLISHED: dict[str, dict[str, Any]] = {
    "data_config": {"prompt_template_type": "detailed_special", "sample_type": "uniform"},
    "model_config": {"use_special_tokens": True, "reward_token": "special", "output_dim": 3},
}
"""What a configuration must say for its scores to be read as they are read here."""


class Reading(NamedTuple):
    """How clips are read: `frames` of each, or `fps` frames a second where it is 0, of at most `pixels`."""

    fps: float
    frames: int
    pixels: int

    def chosen(self, total: int, fps: float) -> list[int]:
        """Numbers of the frames of a clip that are looked at, evenly spaced from the first to the last.

        Raises:
            Unscorable: the clip is shorter than two frames, or than the number that is wanted.
        """
        if self.frames:
            count = _even(self.frames)
        else:
            wanted = max(total / fps * self.fps, FEWEST_FRAMES)
            count = _even(min(wanted, min(MOST_FRAMES, total) // 2 * 2))
        if not 2 <= count <= total:
            raise Unscorable(f"the clip has {total} frames, and {max(count, 2)} are looked at")
        return [int(number) for number in torch.linspace(0, total - 1, count).round().long()]


def _even(number: float) -> int:
    return round(number / 2) * 2


class Clips(Vision):
    """Clips as VideoAlign reads them; pictures are none of its business."""

    def __init__(self, processor: Any, reading: Reading) -> None:
        super().__init__(processor)
        self.reading = reading

    def limits(self, view: View) -> tuple[int, int]:
        return FEWEST_PIXELS, self.reading.pixels

    def frames(self, media: Media, view: View) -> tuple[list[int], dict[str, Any]]:
        total, fps = media.frames, media.fps or FPS
        chosen = self.reading.chosen(total, fps)
        return chosen, {"total_num_frames": total, "fps": fps, "frames_indices": chosen}

    def _clip(self, media: Media, key: tuple[str, View]) -> Sight:
        from torchvision.transforms import functional as tv  # `v2` rounds 8-bit pixels otherwise

        indices, _ = self.frames(media, key[1])
        pixels = torch.from_numpy(np.ascontiguousarray(media.frames_at(indices))).permute(0, 3, 1, 2)
        size = list(self.size(media, key[1]))
        pixels = tv.resize(pixels, size, interpolation=tv.InterpolationMode.BICUBIC, antialias=True)
        inputs = self.processor.video_processor(
            videos=[pixels], do_resize=False, do_sample_frames=False, return_tensors="pt"
        )
        text = self.processor.replace_video_token(inputs, 0)
        patches = inputs["pixel_values_videos"]
        return self._sight(key, "video", inputs["video_grid_thw"][0], text, 0.0, patches)


class VideoAlign(ScalarVL):
    """VideoReward; what it reads of a clip and a prompt is the three tokens' outputs.

    Args:
        weights: a folder or hub id in the published format.
        base: of the body, as for `ScalarVL`.
        checkpoint: name of the folder in it.
        dtype: of the body.
    """

    def __init__(self, weights: str, base: str, checkpoint: str, *, dtype: str = "float32") -> None:
        super().__init__(weights, base, tokens=TOKENS, dtype=dtype)
        self.checkpoint = checkpoint
        there = folder_of(self.source, CONFIG)
        self.source = self.source if there is None else str(there)

    @cached_property
    def folder(self) -> Path:
        """Folder of the configuration and the checkpoint, which are fetched if they are not there yet.

        Raises:
            ValueError: no such checkpoint in it.
        """
        folder = Path(self.source)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(self.source, allow_patterns=[CONFIG, f"{self.checkpoint}/*"]))
        if not (folder / self.checkpoint).is_dir():
            there = ", ".join(sorted(path.name for path in folder.glob("checkpoint-*"))) or "none"
            raise ValueError(f"{self.name} has no {self.checkpoint}; there is {there}")
        return folder

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What `model_config.json` says.

        Raises:
            Unavailable: there is none, no such checkpoint beside it, or scores are read in another way.
        """
        with loading(self.name):
            return self._checked()

    def _checked(self) -> dict[str, Any]:
        settings: dict[str, Any] = json.loads((self.folder / CONFIG).read_text(encoding="utf-8"))
        for section, facts in PUBLISHED.items():
            for key, value in facts.items():
                default = value if key == "sample_type" else None  # which older configurations lack
                if (found := settings[section].get(key, default)) != value:
                    raise ValueError(f"{CONFIG} of {self.name} says {key}: {found!r}; {value!r} is read here")
        return settings

    @property
    def scales(self) -> dict[str, tuple[float, float]]:
        """Mean and deviation of each dimension; empty where the configuration has none, as the publisher's
        code takes it, whose scores then are raw."""
        found = self.settings.get("inference_config") or {}
        return {name: (found[f"{name}_mean"], found[f"{name}_std"]) for name in DIMENSIONS if found}

    @cached_property
    def vision(self) -> Vision:
        data = self.settings["data_config"]
        frames = int(data.get("num_frames") or 0)
        return Clips(self.processor, Reading(float(data["fps"]), frames, int(data["max_frame_pixels"])))

    def tensors(self) -> Tensors:
        place = self.folder / self.checkpoint
        if (whole := place / "model.pth").is_file():
            state = {plain_name(name): tensor for name, tensor in state_of(str(whole)).items()}
        else:
            from transformers import AutoModel

            state = dict(AutoModel.from_pretrained(self.base, dtype=torch.float32).state_dict())
            for file in ("non_lora_state_dict.pth", "adapter_model.safetensors"):
                state |= {plain_name(name): tensor for name, tensor in state_of(str(place / file)).items()}
        lora = self.settings.get("peft_lora_config") or {}
        rank, alpha = lora.get("lora_r", 1), lora.get("lora_alpha", 1)
        return merged(state, alpha / (math.sqrt(rank) if lora.get("use_rslora") else rank), self.name)

    @cached_property
    def content(self) -> str:
        folder = Path(self.source)
        if not folder.is_dir():
            return f"{self.source} {self.checkpoint}"
        files = [folder / CONFIG, *sorted((folder / self.checkpoint).glob("*.*"))]
        return " ".join(content_of(str(file)) for file in files if file.is_file())


# --- VideoScore on a Qwen2-VL -------------------------------------------------------------------------------

RATED_FPS = 8.0
RATED_PIXELS, ALL_PIXELS = 768 * 28 * 28, 24_576 * 28 * 28
"""Of a frame, and of two frames' share of a clip: qwen_vl_utils' own limits when the model was released."""


class RatedClips(Clips):
    """Clips as `qwen_vl_utils` reads them: of many frames, each is smaller."""

    def size(self, media: Media, view: View) -> tuple[int, int]:
        count = len(self.frames(media, view)[0])
        most = max(min(RATED_PIXELS, ALL_PIXELS / count * 2), int(FEWEST_PIXELS * 1.05))
        return RatedClips(self.processor, self.reading._replace(pixels=int(most)))._scaled(media.size, view)


class VideoRater(ScalarVL):
    """VideoScore-Qwen2-VL: a linear head's numbers at the last token of a clip and a text.

    Its forward counts the tokens of frames on like words, as HPSv3's does.

    Args:
        weights: a folder or hub id in the published format, which is its own body.
        dtype: of the body; the head is in float32.
    """

    def __init__(self, weights: str, *, dtype: str = "float32") -> None:
        super().__init__(weights, weights, dtype=dtype)

    @cached_property
    def vision(self) -> Vision:
        return RatedClips(self.processor, Reading(RATED_FPS, 0, RATED_PIXELS))
