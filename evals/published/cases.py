"""Scorers beside their publishers' code: for each, a tiny checkpoint, packages, and what is compared."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmreward import Media, Sample

from . import (
    blip,
    blip2,
    clips,
    flan,
    internvl,
    llava,
    marking,
    owl,
    readers,
    scalars,
    scenes,
    videoscore,
    vits,
    vjepa,
    xcomposer,
)
from . import checkpoints as tiny

Args = dict[str, Any]
SIZES = ((32, 32), (33, 32), (31, 47), (97, 31), (211, 50), (640, 427), (224, 100), (61, 333), (1023, 767))
"""(width, height); the first is the networks' input."""
LONG = "a red circle above two blue squares " * 60
PROMPTS = ("a red circle", "Two blue squares, & a fox!", "x", LONG, LONG.replace("red", "green"))
TEXTS = ("EXIT 24A", "Open daily", "mmreward", "No entry")


def _picture(row: int, size: tuple[int, int]) -> Image.Image:
    """Noise with a photo's spectrum and clipped lights and shadows, which a bicubic kernel overshoots."""
    draw = np.random.default_rng(row)
    total = np.full((size[1], size[0], 3), 128.0)
    for cells in (2, 5, 11, 40):
        coarse = Image.fromarray(draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += 1.5 * (np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), float) - 128)
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def _sign(text: str, size: int) -> Image.Image:
    picture = Image.new("RGB", (400, 120 + size), "white")
    ImageDraw.Draw(picture).text((20, 30), text, fill="black", font=ImageFont.load_default(size))
    return picture


PICTURES = [_picture(row, size) for row, size in enumerate(SIZES)]
SIGNS = [_sign(text, 20 + 8 * row) for row, text in enumerate(TEXTS)]
INPUTS = (1, 4)
"""The pictures that stand as references, where a scorer wants some."""
ANY_SIZE = (2, 3)
"""Pictures whose gradient is compared with a second writing; a package's, which resizes no tensors, on the
first alone."""


class Case(NamedTuple):
    """A scorer with a checkpoint of one format, and what it is held against.

    `build` writes the checkpoint in a folder and returns the scorer's arguments; `packages` have their own
    code in `upstream`, with the arguments that ours takes to do as they do (how pictures are resized).
    """

    scorer: str
    variant: str
    build: Callable[[Path], Args]
    packages: Mapping[str, Args] = {}
    second: Args | None = None
    """Arguments that ours takes beside the second writing; None: there is none."""
    samples: str = "pictures"
    rows: Callable[[], list[Sample]] | None = None
    """Samples of its own, for a scorer that reads more than a picture and its prompt; its second writing
    takes samples."""
    top: float = 1.0
    """Differences are given as a part of it: for marks out of a hundred, 100."""

    @property
    def name(self) -> str:
        return f"{self.scorer} {self.variant}".rstrip()


def rows_of(case: Case) -> tuple[list[Image.Image], list[str], list[Sample]]:
    """Pictures and prompts of a case, and the same as samples."""
    if case.samples == "signs":
        pictures, prompts = (
            SIGNS,
            [f'a sign that says "{text}"' for text in (*TEXTS[:2], "reward", "No exit")],
        )
    else:
        pictures, prompts = PICTURES, [PROMPTS[row % len(PROMPTS)] for row in range(len(PICTURES))]
    inputs = tuple(Media(PICTURES[row]) for row in INPUTS) if case.samples == "references" else ()
    samples = [
        Sample(id=str(row), prompt=prompt, image=Media(picture), inputs=inputs)
        for row, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True))
    ]
    return pictures, prompts, samples


def _layers(name: str, indices: tuple[int, ...], encoder: Callable[[Path], str], width: int) -> Any:
    def build(folder: Path) -> Args:
        weights = encoder(folder / "encoder")
        return {"head": tiny.save_layers(folder / "head.pth", name, indices, 6, width), "encoder": weights}

    return build


def _referenced(save: Callable[[Path], Args], side: int) -> Callable[[Path], Args]:
    """With reference pictures of the network's input size, which are resized by nobody."""

    def build(folder: Path) -> Args:
        files = [folder / f"reference-{row}.png" for row in INPUTS]
        for row, file in zip(INPUTS, files, strict=True):
            _picture(row, (side, side)).save(file)
        return {**save(folder), "references": [str(file) for file in files]}

    return build


def _dreamsim(variant: str) -> Callable[[Path], Args]:
    def save(folder: Path) -> Args:
        vits.dreamsim_folder(folder, variant, vits.PUBLISHED_DEPTH)
        return {"variant": variant, "weights": str(folder)}

    return _referenced(save, 224)


def _none(folder: Path) -> Args:
    return {}


def _read(
    scorer: str,
    variant: str,
    save: Callable[[Path], Args],
    rows: Callable[[], list[Sample]],
    top: float = 1.0,
) -> Case:
    """A case over samples of its own, beside a second writing."""
    return Case(scorer, variant, lambda folder: save(folder / "weights"), second={}, rows=rows, top=top)


PIL = {"resize": "pil"}
LAION = (0, 2, 4, 6, 7)
CASES = (
    Case(
        "clipscore",
        "transformers",
        lambda folder: {"weights": tiny.save_clip(folder / "clip")},
        {"torchmetrics": PIL, "transformers": PIL},
        PIL,
    ),
    Case(
        "clipscore",
        "SigLIP",
        lambda folder: {"weights": tiny.save_siglip(folder / "siglip")},
        {"transformers": PIL},
    ),
    Case(
        "clipscore",
        "open_clip",
        lambda folder: {"weights": tiny.save_open_clip(folder / "open_clip")},
        {"open_clip": PIL},
    ),
    Case(
        "clipscore",
        "pyiqa",
        lambda folder: {"weights": tiny.save_openai(folder / "openai"), "scale": "clipscore/pyiqa"},
        {"pyiqa": PIL},
        PIL,
    ),
    Case("d2_align", "", lambda folder: tiny.save_map(folder, "d2-align"), second=PIL),
    Case(
        "head",
        "",
        lambda folder: tiny.save_head(folder / "head", tiny.save_clip(folder / "clip")),
        second={},
    ),
    Case("pisces", "", lambda folder: tiny.save_map(folder, "pisces"), second=PIL),
    Case(
        "harmonic",
        "",
        lambda folder: {"weights": tiny.save_clip(folder / "clip")},
        second=PIL,
        samples="references",
    ),
    Case("clip_i", "", _referenced(lambda f: {"weights": tiny.save_clip(f / "clip")}, 32), second={}),
    Case("dino_i", "DINO", _referenced(lambda f: {"weights": vits.dino_folder(f / "vit")}, 36), second={}),
    Case(
        "dino_i",
        "DINOv2",
        _referenced(lambda f: {"weights": vits.dino_folder(f / "vit", "dinov2")}, 36),
        second={},
    ),
    Case("dreamsim", "ensemble", _dreamsim("ensemble"), {"dreamsim": {}}, {}),
    Case("dreamsim", "clip_vitb32", _dreamsim("clip_vitb32"), {"dreamsim": {}}, {}),
    Case(
        "pickscore",
        "v1",
        lambda folder: {"weights": tiny.save_clip(folder / "clip")},
        {"transformers": {}},
        {},
    ),
    *(
        Case(
            "pickscore",
            f"imscore {kind}",
            lambda folder, kind=kind: {"weights": tiny.save_imscore(folder / "own", kind.lower())},  # type: ignore
            {"imscore": {"resize": "tensor"}},
            {"resize": "tensor"},
        )
        for kind in ("CLIP", "SigLIP")
    ),
    Case(
        "hpsv2",
        "2.0",
        lambda folder: tiny.save_hps(folder / "hps", "HPS_v2_compressed.pt"),
        {"hpsv2": {}},
        {},
    ),
    Case(
        "hpsv2",
        "2.1",
        lambda folder: tiny.save_hps(folder / "hps", "HPS_v2.1_compressed.pt", 7),
        {"hpsv2": {}},
        {},
    ),
    Case(
        "imagereward",
        "1.0",
        lambda folder: tiny.save_blip(folder / "blip", "ImageReward.pt"),
        {"ImageReward": {}},
        {},
    ),
    Case(
        "cyclereward",
        "Combo",
        lambda folder: tiny.save_blip(folder / "blip", "CycleReward-Combo.pth", indices=(0, 2, 4, 6, 8)),
        {"cyclereward": {}},
        {},
    ),
    Case("social_reward", "", lambda folder: tiny.save_social(folder / "social"), second={}),
    Case("evalmuse", "FGA-BLIP2", lambda folder: blip2.save_blip2(folder / "blip2"), second={}),
    Case(
        "mps",
        "overall",
        lambda folder: tiny.save_mps(folder / "mps"),
        {"imscore": {"threshold": 0.01}},
        {},
    ),
    Case("aesthetic", "v1", _layers("", (0,), tiny.save_clip, 24), second={}),
    Case("aesthetic", "v2", _layers("layers", LAION, tiny.save_clip, 24), second={}),
    Case(
        "aesthetic",
        "v2.5",
        _layers("scoring_head", (0, 2, 4, 6, 8), tiny.save_siglip, 32),
        {"aesthetic_predictor_v2_5": {}},
        {},
    ),
    Case("deqa", "Mix3", lambda folder: owl.save_owl(folder / "owl"), second={}),
    Case("qalign", "quality", lambda folder: owl.save_owl(folder / "owl", 30), second={}),
    Case(
        "artifact",
        "classifier",
        lambda folder: {"classifier": tiny.save_classifier(folder / "vit")},
        {"transformers": {}},
    ),
    Case("saturation", "", _none, second={}),
    Case("sharpness", "", _none, second={}),
    Case("edge_density", "", _none, second={}),
    Case("colour_entropy", "", _none, second={}),
    Case("dark_share", "", _none, second={}),
    Case("jpeg_compressibility", "", _none, second={}),
    Case("jpeg_incompressibility", "", _none, second={}),
    Case("nsfw", "320n", _none, {"nudenet": {}}),
    Case("ocr_image", "RapidOCR", lambda folder: {"text": "prompt"}, {"rapidocr": {}}, samples="signs"),
    _read("hpsv3", "", scalars.save_hpsv3, readers.prompted),
    _read("editreward", "", scalars.save_editreward, readers.edits),
    _read("videoreward", "", scalars.save_videoreward, readers.clips),
    _read("videoscore", "v1.1", videoscore.save_videoscore, readers.clips),
    _read("videoscore", "Qwen2-VL", scalars.save_rater, readers.clips),
    _read("skywork_vl", "", scalars.save_skywork, readers.answered),
    _read("mm_rlhf", "", lambda folder: llava.save_llava(folder) | {"max_tokens": 6}, readers.few),
    _read("ixc", "2.5", xcomposer.save_xcomposer, readers.placed),
    _read("visualprm", "8B", internvl.save_internvl, readers.stepped),
    _read("visualprm", "8B-v1_1", lambda folder: internvl.save_internvl(folder, "qwen2"), readers.stepped),
    _read("artimuse", "", lambda folder: internvl.save_internvl(folder, "qwen2"), readers.prompted, 100),
    *(
        _read(name, "", clips.SAVED[name], rows)
        for name, rows in (
            ("subject_consistency", clips.shown),
            ("background_consistency", clips.shown),
            ("temporal_flickering", clips.shown),
            ("aesthetic_quality", clips.flowing),
            ("dynamic_degree", clips.flowing),
            ("motion_smoothness", clips.flowing),
            ("viclip", clips.told),
            ("internvideo2", clips.told),
        )
    ),
    _read("vqascore", "CLIP-FlanT5", flan.save_judge, readers.prompted),
    _read("vqascore", "VLM", lambda _: {"judge": "mini-vlm"}, scenes.described),
    _read("blip_vqa", "", blip.save_parts, blip.asked),
    _read("geneval", "official", lambda _: {"detector": "oracle"}, scenes.prompted),
    _read("geneval2", "GM", lambda _: {"judge": "mini-vlm", "how": "gm"}, scenes.counted),
    _read("dpg", "", lambda _: {"judge": "mini-vlm", "min_mass": 0.0}, scenes.depending),
    _read("t2i_compbench_spatial", "", lambda _: {"detector": "oracle"}, scenes.placed),
    _read("t2i_compbench_3in1", "", scenes.save_parts, scenes.mixed),
    _read("edit_change", "", lambda _: {}, scenes.overpainted),
    _read("qwen_image_bench", "", marking.save_bench, marking.pictured, 100),
    _read("visionreward", "", scenes.save_list, scenes.described),
    _read("visionreward_video", "", scenes.save_clips_list, scenes.moved),
    _read("nora", "V-JEPA 2-AC", vjepa.save_world, vjepa.candidates),
)
"""Every scorer of `rewards/learned` and `rewards/pictures` has at least one, or stands in `ELSEWHERE`; of
other rooms `vqascore`, and of robots' rewards those with a published network that no package has."""
ELSEWHERE = {
    "imaging_quality": ("tests/rewards/test_iqa.py", "pyiqa's MUSIQ itself, which has no second writing"),
    "iqa": ("tests/rewards/test_iqa.py", "runs pyiqa itself"),
}
"""Scorers without a case: the tests that hold them against a second writing, and the reason."""
