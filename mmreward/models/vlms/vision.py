"""Pictures and clips for Qwen-family vision towers: patches, placeholders in the prompt, encoded features.

Features are kept by content, so that a picture is encoded once. `patches_of` is the differentiable form: what
the checkpoint's image processor does to 8-bit pictures, done to float tensors. Knows nothing of questions.
"""

from collections.abc import Iterable
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qsl

import numpy as np
import torch

from ...engine.cache import ByteLRU
from ...errors import nearest
from ...media import Media
from ..pictures import decoded
from ..pixels import Recipe, normalise, resize_float


class Patches(NamedTuple):
    """Vision-tower input: `values` (N * height * width, features) of N pictures in turn; `grid` is (time,
    height, width) of each."""

    values: torch.Tensor
    grid: tuple[int, int, int]


def patches_of(pixels: torch.Tensor, size: tuple[int, int], images: Any) -> Patches:
    """Patches of float pictures, resized and normalised, with a gradient.

    Args:
        pixels: (N, 3, H, W) float in [0, 1].
        size: (height, width) to resize to, multiples of a token's side.
        images: the checkpoint's image processor.
    """
    mean, std = tuple(images.image_mean), tuple(images.image_std)
    recipe = Recipe(size=size, mean=mean, std=std, fit="squash")
    side, merge = images.patch_size, images.merge_size
    ready = normalise(resize_float(pixels, recipe), recipe)
    # Rows and columns of tokens (R, X), of patches in a token (r, x), of pixels in a patch (y, c).
    across = (size[1] // (merge * side), merge, side)
    cut = ready.reshape(*ready.shape[:2], size[0] // (merge * side), merge, side, *across)
    # N C R r y X x c -> N R X r x C y c: patches in the order of their tokens.
    ordered = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
    frames = ordered.expand(*[-1] * 6, images.temporal_patch_size, -1, -1)  # a picture is a clip at rest
    height, width = size[0] // side, size[1] // side
    return Patches(frames.flatten(5).flatten(0, 4), (1, height, width))


FPS = 24.0
"""Frames per second of a clip that does not say: what transformers assumes."""
KEPT = 2 << 30
"""Bytes of vision-tower output kept by one model, on its device: about 1100 pictures of 256 tokens for
Qwen2.5-VL-7B in bfloat16. They leave with the weights."""


class View(NamedTuple):
    """Limits on resolution and frames. Pictures are brought between `low` and `high` pixels; None leaves that
    to the checkpoint. Of a clip, two frames a second are taken, at most `frames`: those that qwen-vl-utils
    takes, or with `do_sample_frames` those that the checkpoint's own video processor in transformers takes.
    """

    low: int | None = None
    high: int | None = None
    frames: int | None = None
    do_sample_frames: bool = False

    @property
    def facts(self) -> str:
        """The view as it enters a fingerprint: its default stands as it did before there was another."""
        return str(tuple(self) if self.do_sample_frames else tuple(self)[:3])


SETTINGS = {
    "min_pixels": "low",
    "max_pixels": "high",
    "max_frames": "frames",
    "do_sample_frames": "do_sample_frames",
}
"""Names of a view's fields as a caller of `mmreward.models.vlm` knows them."""


def named(weights: str, view: View = View()) -> tuple[str, View]:  # noqa: B008 - immutable
    """A model's name without the settings behind it, and the view with them.

    Args:
        weights: a hub id or folder, as in "Qwen/Qwen3-VL-8B-Instruct?max_frames=32&do_sample_frames=true". A
            folder whose own name has a question mark is left as it is.
        view: what the caller said in arguments; the name may not say it again.

    Raises:
        ValueError: a setting that does not exist, is given twice or has no such value; fewer than two frames.
    """
    name, mark, query = weights.partition("?")
    if mark and not Path(weights).exists():
        for setting, text in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
            if setting not in SETTINGS:
                known = nearest(setting, (*SETTINGS, "adapter"))
                raise ValueError(f"{name} has no setting {setting!r}: {known}")
            field = SETTINGS[setting]
            if getattr(view, field) not in (None, False):
                raise ValueError(f"{setting} of {name} is given twice")
            value: Any = _flag(text) if field == "do_sample_frames" else _count(setting, text)
            view = view._replace(**{field: value})
        weights = name
    if view.frames is not None and view.frames < 2:
        raise ValueError(f"max_frames={view.frames}: a clip is read two frames at a time, so give 2 or more")
    return weights, view


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"do_sample_frames={text}: expected true or false")
    return text.lower() == "true"


def _count(setting: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ValueError(f"{setting}={text}: expected a whole number above 0")
    return int(text)


class Sight(NamedTuple):
    """Prepared picture or clip: its patches, and the text that stands for it in the prompt.

    `text` stands for it in the prompt, with `tokens` placeholders in it. `grid` is (time, height, width) in
    patches, `seconds` the time between a clip's patches. `patches` is None for what has been encoded already.
    """

    key: tuple[str, View]
    kind: str
    grid: tuple[int, int, int]
    tokens: int
    text: str
    seconds: float
    patches: torch.Tensor | None
    media: Media | None = None
    """The source, for when the features have left the cache by the time they are needed."""


class Features(NamedTuple):
    """Vision-tower output of one picture or clip: (tokens, hidden), and the same of deeper levels."""

    embedding: torch.Tensor
    deep: tuple[torch.Tensor, ...]


class Vision:
    """Prepares pictures and clips on worker threads, and encodes them on the device's.

    Args:
        processor: the checkpoint's own.
        kept: bytes of features to keep.
    """

    def __init__(self, processor: Any, kept: int = KEPT) -> None:
        self.processor = processor
        self._features = ByteLRU(kept)
        self._known: dict[tuple[str, View], Sight] = {}

    def limits(self, view: View) -> tuple[int, int]:
        """(fewest, most) pixels of a picture."""
        size = self.processor.image_processor.size
        return view.low or size["shortest_edge"], view.high or size["longest_edge"]

    def size(self, media: Media, view: View) -> tuple[int, int]:
        """(height, width) a picture is brought to, from its header alone.

        Raises:
            ValueError: one side is more than 200 times the other.
        """
        return self._scaled(media.size, view)

    def _scaled(self, size: tuple[int, ...], view: View) -> tuple[int, int]:
        from qwen_vl_utils.vision_process import smart_resize

        low, high = self.limits(view)
        height, width = smart_resize(*size, factor=self.factor, min_pixels=low, max_pixels=high)
        # Few pixels of a thin picture leave its short side none at all; transformers gives it one token's.
        return max(self.factor, int(height)), max(self.factor, int(width))

    @property
    def factor(self) -> int:
        """Pixels a side of one token."""
        images = self.processor.image_processor
        return int(images.patch_size * images.merge_size)

    def frames(self, media: Media, view: View) -> tuple[list[int], dict[str, Any]]:
        """Numbers of the frames of a clip that the model looks at, and what `VideoMetadata` says of them."""
        videos = self.processor.video_processor if view.do_sample_frames else None
        return looked_at(media, view.frames, videos)

    def look(self, media: Media, view: View) -> Sight:
        """Patches of a picture or clip, or its record without patches where its features are in the cache."""
        key = (media.key, view)
        known = self._known.get(key)
        if known is not None and key in self._features:
            return known._replace(media=media)
        return self._look(media, key)

    def _look(self, media: Media, key: tuple[str, View]) -> Sight:
        return self._clip(media, key) if media.kind == "video" else self._picture(media, key)

    def _picture(self, media: Media, key: tuple[str, View]) -> Sight:
        from PIL import Image

        whole = decoded(media).cpu()
        size = self._scaled(tuple(whole.shape[1:]), key[1])
        if tuple(whole.shape[1:]) != size:  # as qwen-vl-utils does: Pillow's default kernel
            picture = Image.fromarray(whole.permute(1, 2, 0).numpy()).resize(size[::-1])
            whole = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        images, channels = self.processor.image_processor, "channels_first"
        inputs = images(images=[whole], do_resize=False, input_data_format=channels, return_tensors="pt")
        text = self.processor.replace_image_token(inputs, 0)
        return self._sight(key, "image", inputs["image_grid_thw"][0], text, 0.0, inputs["pixel_values"])

    def _clip(self, media: Media, key: tuple[str, View]) -> Sight:
        from transformers.video_utils import VideoMetadata

        indices, about = self.frames(media, key[1])
        about = VideoMetadata(**about)
        videos = self.processor.video_processor
        options: dict[str, Any] = {"do_sample_frames": False, "return_metadata": True, "return_tensors": "pt"}
        if getattr(videos, "cap_pixels_per_frame", True) is None:
            options["cap_pixels_per_frame"] = True  # as qwen-vl-utils, the models' reference, does
        pixels = torch.from_numpy(np.ascontiguousarray(media.frames_at(indices))).permute(0, 3, 1, 2)
        inputs = videos(videos=[pixels], video_metadata=[about], **options)
        text = self.processor.replace_video_token(inputs, 0)
        seconds = videos.temporal_patch_size / about.sampled_fps
        patches = inputs["pixel_values_videos"]
        return self._sight(key, "video", inputs["video_grid_thw"][0], text, seconds, patches)

    def _sight(
        self,
        key: tuple[str, View],
        kind: str,
        grid: Any,
        text: str,
        seconds: float,
        patches: torch.Tensor | None,
    ) -> Sight:
        time, height, width = (int(side) for side in grid)
        tokens = time * height * width // self.processor.image_processor.merge_size**2
        return Sight(key, kind, (time, height, width), tokens, text, seconds, patches)

    # --- on the device's thread -------------------------------------------------------------------

    def encode(self, model: Any, sights: Iterable[Sight], device: torch.device) -> dict[Any, Features]:
        """The features of each sight by its key; all that are missing go through the tower in one call."""
        wanted = {sight.key: sight for sight in sights}
        found: dict[Any, Features] = {key: self._features.get(key) for key in wanted}
        for kind, encoder in (("image", model.get_image_features), ("video", model.get_video_features)):
            missing = [s for key, s in wanted.items() if found[key] is None and s.kind == kind]
            if missing:
                pixels = torch.cat([self._patches(sight) for sight in missing]).to(device)
                output = encoder(pixels, torch.tensor([sight.grid for sight in missing], device=device))
                levels = getattr(output, "deepstack_features", None) or []
                for index, sight in enumerate(missing):
                    features = Features(
                        output.pooler_output[index].clone(), tuple(level[index].clone() for level in levels)
                    )
                    found[sight.key] = features
                    self._features.put(sight.key, features)
                    self._known[sight.key] = sight._replace(patches=None)
        if len(self._known) > 2 * len(self._features) + 64:
            self._known = {key: sight for key, sight in self._known.items() if key in self._features}
        return found

    def _patches(self, sight: Sight) -> torch.Tensor:
        if sight.patches is None:
            sight = self._look(cast(Media, sight.media), sight.key)
        return cast(torch.Tensor, sight.patches)

    def encode_pixels(self, model: Any, pixels: torch.Tensor, view: View) -> dict[Sight, Features]:
        """Differentiable features of float pixels (N, 3, H, W) in [0, 1], in their order; keeps nothing.

        Raises:
            ValueError: one side is more than 200 times the other.
        """
        patches = patches_of(
            pixels, self._scaled(tuple(pixels.shape[-2:]), view), self.processor.image_processor
        )
        grids = torch.tensor([patches.grid] * len(pixels), device=pixels.device)
        output = model.get_image_features(patches.values, grids)
        levels = getattr(output, "deepstack_features", None) or []
        return {
            self._sight((f"pixels {index}", view), "image", patches.grid, "", 0.0, None): Features(
                embedding, tuple(level[index] for level in levels)
            )
            for index, embedding in enumerate(output.pooler_output)
        }

    def forget(self) -> None:
        """Drop all features, so that their memory is the device's again."""
        self._features.clear()
        self._known = {}


def looked_at(media: Media, most: int | None, videos: Any = None) -> tuple[list[int], dict[str, Any]]:
    """Numbers of the frames that a model looks at, two a second, and what `VideoMetadata` says about them.

    A frame's time is the file's. Where the rate varies, frames are taken at equal distances in time instead
    of by number. The one frame of a clip of one is looked at twice: a patch holds two.

    Args:
        media: the clip.
        most: frames, at most; None leaves that to the family.
        videos: the checkpoint's video processor, which then chooses the frames; else qwen-vl-utils does.
    """
    total, fps, times = media.frames, media.fps or FPS, media.times
    if total < 2:
        return [0, 0], {"total_num_frames": 2, "fps": fps, "frames_indices": [0, 0]}
    chosen = sampled(total, fps, most) if videos is None else own_frames(videos, total, fps, most)
    if times is None or media.timeline.even:
        return chosen, {"total_num_frames": total, "fps": fps, "frames_indices": chosen}
    wanted = np.linspace(0, times[-1], len(chosen))
    after = np.searchsorted(times, wanted, side="right")  # the frame on display at that moment
    indices = [max(0, int(number) - 1) for number in after]
    # In milliseconds instead of frames: then the processor's n / fps is the frame's own time.
    stamps = [round(1000 * times[number]) for number in indices]
    return indices, {
        "total_num_frames": round(1000 * total / fps),
        "fps": 1000.0,
        "frames_indices": stamps,
    }


def sampled(total: int, fps: float, most: int | None) -> list[int]:
    """Indices of the frames a model looks at: two a second, as the Qwen models were trained.

    An even number, as the model cards' qwen-vl-utils takes: a clip of 7 frames at 2 a second is read at 6 of
    them, evenly spaced. `own_frames` takes all 7, so scores of such clips differ.

    Raises:
        ValueError: fewer than two frames.
    """
    from qwen_vl_utils.vision_process import smart_nframes

    wanted: dict[str, Any] = {"fps": 2.0} if most is None else {"fps": 2.0, "max_frames": most}
    # All frames of a clip below two a second are taken; asked for two of them, it warns at every clip.
    count = smart_nframes(wanted, total_frames=total, video_fps=max(fps, 2.0))
    return [int(index) for index in np.linspace(0, total - 1, count).round()]


def own_frames(videos: Any, total: int, fps: float, most: int | None) -> list[int]:
    """Indices of the frames that a checkpoint's video processor takes itself, with `do_sample_frames=True`.

    At its own rate, or two a second where it names none (Qwen2.5-VL's). Qwen3-VL's takes an odd number where
    that is what the clip has, and the last frame of it is read twice; Qwen2.5-VL's takes an even number, each
    at the beginning of its share of the clip. Sizes of frames are the same either way.

    Args:
        videos: the checkpoint's `video_processor`.
        total: frames of the clip.
        fps: of the clip.
        most: frames, at most; None takes the processor's own `max_frames`.
    """
    from transformers.video_utils import VideoMetadata

    videos = copy(videos)
    if most is not None:  # an attribute: as an argument, Qwen3-VL's passes over it without a word
        videos.max_frames = most
    about = VideoMetadata(total_num_frames=total, fps=fps)
    return [int(index) for index in videos.sample_frames(about, fps=videos.fps or 2.0)]
