"""VBench's dimensions and ViCLIP: moving clips of awkward shapes, and second writings of their publishers'
lines, one clip at a time.

Checkpoints are those of `amt`, `internvideo`, `raft`, `viclip`, `vits` and `checkpoints`.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Lambda, Normalize, Resize

from mmreward import Media, Sample

from . import amt, internvideo, raft, viclip, vits
from .checkpoints import SIDE, save_clip
from .readers import Sampled
from .upstream import Args

Clip = np.ndarray[Any, Any]
"""(T, H, W, 3) of 8 bits."""
Embed = Callable[[Clip], torch.Tensor]
"""A vector for each frame."""
SHAPES = ((5, 40, 64), (3, 70, 33), (4, 32, 32), (2, 100, 41))
LARGE = ((5, 128, 144), (3, 150, 133), (4, 121, 128))
"""Shapes that RAFT's four levels take."""
TOLD = ((12, 40, 64), (8, 70, 33), (3, 32, 32), (1, 50, 41), (30, 36, 36))
PROMPTS = ("a red circle", "Two blue squares, & a fox!", "x", "a fox " * 60, "a red circle")


def moving(shape: tuple[int, int, int], seed: int, cells: tuple[int, int] = (6, 0), margin: int = 0) -> Clip:
    """A soft picture that is shifted by five pixels from frame to frame.

    Args:
        shape: (frames, height, width).
        seed: of its colours.
        cells: (down, across) of the coarse colours; across 0 follows the number of frames.
        margin: pixels that the whole picture is wider than a frame; 0 follows the number of frames.
    """
    count, height, width = shape
    draw = np.random.default_rng(seed)
    size = (1, 3, cells[0], cells[1] or 7 + count)
    coarse = torch.tensor(draw.integers(0, 256, size).astype(np.float32))
    sized = (height, width + (margin or 6 * count))
    whole = F.interpolate(coarse, size=sized, mode="bilinear")[0].permute(1, 2, 0)
    frames = torch.stack([whole[:, 5 * n : 5 * n + width] for n in range(count)])
    return np.asarray(frames.round().clamp(0, 255).to(torch.uint8))


def samples_of(clips: Sequence[Clip], prompts: Sequence[str] = ()) -> list[Sample]:
    """Samples of clips at eight frames a second."""
    texts = prompts or [""] * len(clips)
    return [
        Sample(id=str(row), prompt=prompt, video=Media(clip, "video", fps=8.0))
        for row, (clip, prompt) in enumerate(zip(clips, texts, strict=True))
    ]


def shown() -> list[Sample]:
    """Clips alone."""
    return samples_of([moving(shape, seed) for seed, shape in enumerate(SHAPES)])


def flowing() -> list[Sample]:
    """Clips large enough for optical flow."""
    return samples_of([moving(shape, seed, (9, 12), 60) for seed, shape in enumerate(LARGE)])


def told() -> list[Sample]:
    """Clips with a prompt."""
    return samples_of([moving(shape, seed) for seed, shape in enumerate(TOLD)], PROMPTS)


def clip_of(sample: Sample) -> Clip:
    """All frames of a sample's clip."""
    assert sample.video is not None
    return sample.video.frames_at(range(sample.video.frames))


# --- consistency --------------------------------------------------------------------------------------------


def dino_places(module: Any, rows: int, columns: int) -> torch.Tensor:
    """DINO's `interpolate_pos_encoding`."""
    known: torch.Tensor = module.embeddings.position_embeddings
    grid = int(math.sqrt(known.shape[1] - 1))
    if rows == columns == grid:
        return known
    patches = known[:, 1:].reshape(1, grid, grid, known.shape[2]).permute(0, 3, 1, 2)
    scale = ((rows + 0.1) / math.sqrt(grid**2), (columns + 0.1) / math.sqrt(grid**2))
    patches = F.interpolate(patches, scale_factor=scale, mode="bicubic")
    assert patches.shape[2:] == (rows, columns)
    patches = patches.permute(0, 2, 3, 1).reshape(1, -1, known.shape[2])
    return torch.cat((known[:, :1], patches), dim=1)


def dino(folder: str) -> Embed:
    """VBench's DINO features: the class token of frames whose shorter side is the input's."""
    from transformers import ViTModel

    module: Any = ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    sized = Compose(
        [
            Resize(32, antialias=False),
            Lambda(lambda x: x.float().div(255.0)),
            Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    def embed(clip: Clip) -> torch.Tensor:
        vectors = []
        for image in sized(torch.Tensor(clip).permute(0, 3, 1, 2)):
            places = dino_places(module, image.shape[1] // 8, image.shape[2] // 8)
            # transformers' own stretch is put out of the way by positions that fit already.
            module.embeddings.interpolate_pos_encoding = lambda *_, places=places: places
            cut = image[None, :, : image.shape[1] // 8 * 8, : image.shape[2] // 8 * 8]
            vectors.append(module(cut, interpolate_pos_encoding=True).last_hidden_state[0, 0])
        return torch.stack(vectors)

    return embed


def clip_tower(folder: str) -> Embed:
    """VBench's CLIP features: the middle square of frames that are resized without antialiasing."""
    from transformers import CLIPModel

    module: Any = CLIPModel.from_pretrained(folder).eval()
    sized = Compose(
        [
            Resize(SIDE, interpolation=InterpolationMode.BICUBIC, antialias=False),
            CenterCrop(SIDE),
            Lambda(lambda x: x.float().div(255.0)),
            Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )

    def embed(clip: Clip) -> torch.Tensor:
        found = module.get_image_features(pixel_values=sized(torch.Tensor(clip).permute(0, 3, 1, 2)))
        vectors: torch.Tensor = getattr(found, "pooler_output", found)
        return vectors

    return embed


def consistency(embed: Embed, clip: Clip) -> float:
    """Mean cosine of every frame with the one before and the first."""
    with torch.no_grad():
        features = F.normalize(embed(clip), dim=-1, p=2)
    total = 0.0
    for place in range(1, len(features)):
        one = features[place][None]
        before = max(0.0, F.cosine_similarity(features[place - 1][None], one).item())
        first = max(0.0, F.cosine_similarity(features[0][None], one).item())
        total += (before + first) / 2
    return total / (len(features) - 1)


def subject_consistency(args: Args) -> Sampled:
    """By DINO."""
    embed = dino(args["weights"])
    return Sampled(lambda sample: consistency(embed, clip_of(sample)))


def background_consistency(args: Args) -> Sampled:
    """By CLIP."""
    embed = clip_tower(args["weights"])
    return Sampled(lambda sample: consistency(embed, clip_of(sample)))


def flicker(clip: Clip) -> float:
    """VBench's temporal flickering: how little neighbouring frames differ."""
    import cv2

    apart = [float(np.mean(cv2.absdiff(one, other))) for one, other in pairwise(clip)]
    return (255.0 - float(np.mean(apart))) / 255.0


# --- beauty and motion --------------------------------------------------------------------------------------


def save_rated(folder: Path) -> Args:
    """LAION's linear head in its file, and a CLIP."""
    folder.mkdir(exist_ok=True)
    draw = torch.Generator().manual_seed(4)
    head = {"weight": torch.randn(1, 24, generator=draw), "bias": torch.tensor([5.0])}
    torch.save(head, folder / "sa_0_4_vit_l_14_linear.pth")
    return {"head": str(folder / "sa_0_4_vit_l_14_linear.pth"), "encoder": save_clip(folder / "clip")}


def aesthetic_quality(args: Args) -> Sampled:
    """Mean of LAION's head over the frames, as a part of ten."""
    embed = clip_tower(args["encoder"])
    state = torch.load(args["head"], weights_only=True)

    def value(sample: Sample) -> float:
        with torch.no_grad():
            unit = F.normalize(embed(clip_of(sample)), dim=-1, p=2)
            return float((F.linear(unit, state["weight"], state["bias"]).squeeze(-1) / 10).mean())

    return Sampled(value)


def save_flow(folder: Path) -> Args:
    """RAFT's file."""
    folder.mkdir(exist_ok=True)
    return {"file": raft.save_raft(folder / "raft-things.pth")}


def dynamic_degree(args: Args) -> Sampled:
    """1 where enough pairs of frames move."""
    naive = raft.NaiveRaft(args["file"])
    return Sampled(lambda sample: float(raft.degree(naive, clip_of(sample))[1]))


def motion_smoothness(args: Args) -> Sampled:
    """Likeness of frames and what is interpolated."""
    naive = amt.NaiveAmt(args["file"])
    return Sampled(lambda sample: amt.smoothness(naive, clip_of(sample)))


def cosines(args: Args) -> Sampled:
    """ViCLIP's cosine."""
    naive = viclip.NaiveViclip(args["file"])
    return Sampled(lambda sample: viclip.cosine(naive, clip_of(sample), sample.prompt))


def internvideo2(args: Args) -> Sampled:
    """InternVideo2's cosine, as T2V-Turbo takes it."""
    naive = internvideo.NaiveInternVideo(args, 8, fused=True)
    return Sampled(
        lambda sample: internvideo.cosine(naive, internvideo.cropped(clip_of(sample)), sample.prompt)
    )


SAVED: dict[str, Callable[[Path], Args]] = {
    "aesthetic_quality": save_rated,
    "background_consistency": lambda folder: {"weights": save_clip(folder)},
    "dynamic_degree": save_flow,
    "internvideo2": internvideo.save_internvideo,
    "motion_smoothness": amt.save_amt,
    "subject_consistency": lambda folder: {"weights": vits.dino_folder(folder)},
    "temporal_flickering": lambda _: {},
    "viclip": lambda folder: {"file": viclip.save_viclip(folder / "ViClip-InternVid-10M-FLT.pth")},
}
"""Scorer -> its checkpoint."""
CLIPS: dict[str, Callable[[Args], Sampled]] = {
    "aesthetic_quality": aesthetic_quality,
    "background_consistency": background_consistency,
    "dynamic_degree": dynamic_degree,
    "internvideo2": internvideo2,
    "motion_smoothness": motion_smoothness,
    "subject_consistency": subject_consistency,
    "temporal_flickering": lambda _: Sampled(lambda sample: flicker(clip_of(sample))),
    "viclip": cosines,
}
"""Scorer -> its second writing, from the arguments of ours."""
