"""Networks by the name of their weights: dual encoders, heads, detectors, vision-language models, others.

Start with the functions here: `clip`, `embedder`, `dreamsim`, `head`, `mapped`, `classifier`, `detector` and
`vlm` return what a reward awaits one sample at a time; `text_reader`, `nudity` and `measure` (in `packaged`)
do so for what a package brings, those in `moving` for clips and their frames, in `robots` for episodes, in
`pairs` for a picture with a text, and in `fitted` for what `mmreward fit` wrote. Importing this package
imports no torch; calling one of its functions does.

Equal arguments give the same network, so rewards that name the same weights share one copy of them. The
miniature's names ("mini-clip", "mini-vlm", "mini-artifact") stand where a hub id or a folder would.

In the room: `base` (torch modules behind the engine's `Network` protocol), `encoders`, `features`, `frames`,
`resnets` and `perceptual` (of pictures alone), `heads`, `maps`, `preferences` (with the light `head_facts`),
`step_facts` (of demonstrations), `paired`, `blip`, `blip2`, `blip_answers`, `mps`, `flan` and `owl` (with a
text), `viclip`, `flow` and `amt` (a clip), `stages` and `vjepa` (episodes), `pieces` (Llama's tokenizer),
`scalars` (reward models on a VLM's body), `detectors`, `pictures` and `pixels` (decoded pictures and a
network's input), `sharing` (one network per arguments), `wants` and `fetching` (weights that are needed),
`pinned` and `published` (texts of others), `onnx`, `texts` and `bodies` (out of wheels), `vlms/` (in this
process) and `served/` (over HTTP). Knows nothing of samples, rewards or scores.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import nearest
from .fitted import mapped as mapped
from .fitted import preference_head as preference_head
from .moving import clip_and_text as clip_and_text
from .moving import clip_encoder as clip_encoder
from .moving import frame_embedder as frame_embedder
from .moving import frame_head as frame_head
from .moving import interpolator as interpolator
from .moving import optical_flow as optical_flow
from .moving import reads_clips as reads_clips
from .moving import video_encoder as video_encoder
from .packaged import measure as measure
from .packaged import nudity as nudity
from .packaged import text_reader as text_reader
from .pairs import blip_head as blip_head
from .pairs import blip_vqa as blip_vqa
from .pairs import crossed as crossed
from .pairs import matcher as matcher
from .pins import prompt_of as prompt_of
from .robots import goal_resnet as goal_resnet
from .robots import robometer as robometer
from .robots import sarm as sarm
from .robots import world_model as world_model
from .scalars import grader as grader
from .scalars import internvl as internvl
from .scalars import llava_reward as llava_reward
from .scalars import on_qwen as on_qwen
from .scalars import scalar_vlm as scalar_vlm
from .scalars import video_rater as video_rater
from .scalars import video_reward as video_reward
from .scalars import video_scorer as video_scorer
from .scalars import xcomposer as xcomposer
from .served.address import is_served
from .sharing import shared
from .wants import Want, adapted, address_of, note, noting

if TYPE_CHECKING:
    from .detectors import Detector
    from .encoder_handle import Encoder
    from .features import VisionTransformer
    from .flan import ClipT5
    from .heads import Classifier, Head
    from .perceptual import DreamSim
    from .vlms.answers import VLM
    from .vlms.qwen import QwenVL

TOKENIZER = ("config.json", "tokenizer.json", "tokenizer_config.json")
"""Files of a hub id by which its tokenizer is made."""


@shared
def clip(
    weights: str,
    *,
    dtype: str = "float32",
    resize: str = "tensor",
    architecture: str = "",
    letterbox: bool = False,
) -> "Encoder":
    """A dual encoder: CLIP or SigLIP in transformers format, or an open_clip model.

    Handles of the same content and dtype share one network, whatever the weights are called and however the
    pictures are resized.

    Preprocessing is the checkpoint's own. A transformers processor is followed in `do_resize`, `size`,
    `do_center_crop`, `crop_size`, `do_rescale`, `rescale_factor`, `do_normalize`, mean, std and kernel; one
    that does anything else is refused when the weights are read. The crop begins where the checkpoint's own
    package begins it: transformers rounds an odd margin down, open_clip to even. With "pil" and "uint8" the
    embeddings are those of transformers' backends "pil" and "torchvision" to 2e-6.

    Args:
        weights: a hub id or folder in transformers format, or one that holds an `open_clip_config.json`, or
            "open_clip:ARCHITECTURE/TAG" (such as "open_clip:ViT-B-32/laion2b_s34b_b79k").
        dtype: of the towers; embeddings are normalised in float32 whatever it is.
        resize: "tensor" in float; "pil" with Pillow on 8-bit values, as the published preprocessing does;
            "uint8" on 8-bit values with torchvision, the quickest on a CPU; "draft" likewise, JPEG files
            being decoded at the smallest scale that leaves enough for the network. "tensor" runs on the
            device, the others on the CPU. `evals/drift.md` has what each does to the scores.
        architecture: open_clip's name of it, or a .json file of its configuration, where weights are one
            published file (.pt, .pth or .safetensors; a path, or OWNER/NAME/FILE of the hub); not looked at
            for a folder.
        letterbox: scale the longer side to the input and pad with black, as HPSv2 does, whatever the
            checkpoint's own preprocessing is.

    Raises:
        ValueError: no such dtype or resize.
    """
    from .encoder_handle import Encoder

    return Encoder(weights, dtype=dtype, resize=resize, architecture=architecture, letterbox=letterbox)


@shared
def head(weights: str, encoder: str, *, dtype: str = "float32", resize: str = "tensor") -> "Head":
    """A linear or MLP head on a dual encoder's image embedding, such as an aesthetic predictor.

    Args:
        weights: a safetensors file, or a pickle of tensors alone (.pth).
        encoder, dtype, resize: the dual encoder, as for `clip`; the head itself is float32.
    """
    from .heads import Head

    return Head(weights, clip(encoder, dtype=dtype, resize=resize))


@shared
def embedder(
    weights: str, *, dtype: str = "float32", resize: str = "pil", processing: str = "publisher"
) -> "VisionTransformer":
    """A self-supervised ViT (DINO, DINOv2) in transformers format; a picture's embedding is its class token.

    Args:
        weights: a hub id or folder.
        dtype: of the network; embeddings are normalised in float32 whatever it is.
        resize: as for `clip`.
        processing: "publisher" is DINO's own evaluation for a ViT (the shorter side to 8/7 of the input,
            bicubic, and the middle), and the checkpoint's processor for others; "checkpoint" is the processor
            of the folder, which for DINO's on the hub squashes the picture.

    DINOv2's positions are interpolated as transformers does it, not with the tenth of a patch that its
    publisher adds.

    Raises:
        ValueError: no such dtype, resize or processing.
    """
    from .features import VisionTransformer

    return VisionTransformer(weights, dtype=dtype, resize=resize, processing=processing)


def dreamsim(
    variant: str = "ensemble", *, weights: str = "", dtype: str = "float32", resize: str = "pil"
) -> "DreamSim":
    """DreamSim, from the publisher's files: an embedding of pictures, whose cosine distance is its number.

    Args:
        variant: "ensemble" (DINO, CLIP and OpenCLIP, ViT-B/16), or one backbone: "dino_vitb16",
            "clip_vitb32", "open_clip_vitb32", "dinov2_vitb14", "synclr_vitb16"; "dino_vitb16_patch" and
            "dinov2_vitb14_patch" compare patches as well.
        weights: the folder into which the publisher's archive was unpacked; "" for ours, in torch.hub's
            cache. DINO's and DINOv2's own weights may lie there, in its `checkpoints`, or in torch.hub's.
        dtype: of the networks.
        resize: as for `clip`; "pil" is the publisher's.

    Raises:
        ValueError: no such variant, or its files are not on this machine.
    """
    from .perceptual_files import VARIANTS, lacking, place_of, wanted

    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} of DreamSim: {nearest(variant, VARIANTS)}")
    folder = place_of(weights)
    if noting():
        for want in wanted(folder, variant):
            note(want)
    elif missing := lacking(folder, variant):
        raise ValueError(
            f"DreamSim {variant} is not on this machine: {folder} has no {', '.join(missing)}; fetch it with "
            f"`mmreward fetch dreamsim:variant={variant}`"
        )
    return _dreamsim(str(folder), variant, dtype, resize)


@shared
def _dreamsim(folder: str, variant: str, dtype: str, resize: str) -> "DreamSim":
    from .perceptual import DreamSim

    return DreamSim(folder, variant, dtype=dtype, resize=resize)


def needed(weights: str, *files: str) -> None:
    """Check of published weights before any row: here, or within reach of the hub.

    Args:
        weights: a hub id, a file of one (OWNER/NAME/FILE), a folder, a file or a miniature.
        files: of a hub id, those that are needed, where its weights are not.

    Raises:
        ValueError: neither, with the command that fetches them.
    """
    if noting():
        return
    from .checkpoints import needed

    needed(weights, *files)


def downloaded(url: str) -> str:
    """The path, in torch.hub's cache, of a file that was published by an address and not on a hub.

    Raises:
        ValueError: it is not there, with the command that fetches it.
    """
    if noting():
        note(Want("url", url, "head", to=str(address_of(url))))
        return str(address_of(url))
    from .checkpoints import downloaded

    return downloaded(url)


@shared
def classifier(weights: str, *, dtype: str = "float32") -> "Classifier":
    """An image classifier in transformers format (`AutoModelForImageClassification`)."""
    from .heads import Classifier

    return Classifier(weights, dtype=dtype)


@shared
def detector(weights: str, *, dtype: str = "float32") -> "Detector":
    """A detector of objects in transformers format: Mask2Former, or a model of boxes such as DETR."""
    from .detectors import Detector

    return Detector(weights, dtype=dtype)


def is_clip_t5(weights: str) -> bool:
    """True for a CLIP-FlanT5, which `clip_t5` reads; False for all else, such as a model for `vlm`."""
    if weights.startswith("mini-") or is_served(weights):
        return False
    if noting() and not Path(weights).is_dir():
        return "clip-flant5" in weights.lower()  # by its name alone, without torch
    from .flan import is_clip_t5

    return is_clip_t5(weights)


@shared
def clip_t5(weights: str, *, dtype: str = "float32") -> "ClipT5":
    """CLIP-FlanT5 in its published format: the probability of an answer to a question about a picture.

    Raises:
        ValueError: the weights, the vision tower's settings or a tokenizer are neither here nor within reach.
    """
    from .flan import ClipT5, companions

    needed(weights)
    for name, files in companions(weights, TOKENIZER):
        needed(name, *files)
    return ClipT5(weights, dtype=dtype)


@shared
@shared
def _qwen(weights: str, dtype: str, adapter: str = "") -> "QwenVL":
    from .vlms.qwen import QwenVL

    return QwenVL(weights, dtype=dtype, adapter=adapter)


@shared
def vlm(
    weights: str,
    *,
    dtype: str = "float32",
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    max_frames: int | None = None,
    do_sample_frames: bool = False,
) -> "VLM":
    """A vision-language model: Qwen2-VL to Qwen3.5 through transformers, or one behind a server.

    Args:
        weights: a hub id or folder; or MODEL@URL for a model behind an OpenAI-compatible server, such as
            "Qwen/Qwen3-VL-8B-Instruct@http://localhost:8000/v1" (its settings: see `served.address.Address`).
        dtype: of the weights; label probabilities are computed in float32 whatever it is. A served model's is
            its server's, so only the default is accepted there.
        min_pixels: pictures with fewer pixels are enlarged; None takes the checkpoint's own limit.
        max_pixels: pictures with more are reduced. The first lever on cost: tokens grow with it.
        max_frames: frames a clip is thinned to (two a second are taken); None takes the family's own limit.
            At least 2.
        do_sample_frames: True leaves the choice of a clip's frames to the checkpoint's video processor, as
            its argument of this name does in transformers; False takes the frames that qwen-vl-utils, the
            reference of the model cards, takes. They differ in clips with an odd number of frames at two a
            second (Qwen3-VL's processor reads them all, and the last one twice; qwen-vl-utils one less), and
            in all clips of Qwen2.5-VL. Frames are resized alike, as with `cap_pixels_per_frame=True`.

    A LoRA adapter in peft's format, as some judges are published, stands behind its base:
    "Qwen/Qwen2.5-VL-7B-Instruct?adapter=EditScore/EditScore-7B"; it is added to the weights. A server has
    its own name for it.

    The four last can also stand behind the name, which is how a reward's `judge` says them: in YAML, on the
    command line or in Python, as in "Qwen/Qwen3-VL-8B-Instruct?max_frames=32&do_sample_frames=true".

    Raises:
        ValueError: a setting behind the name that does not exist, stands there twice or has no such value;
            fewer than two frames; frames of a served model, whose address says `?clips=8`.

    Answers are written with the checkpoint's `repetition_penalty` (1.05 for Qwen2.5-VL), locally and by a
    server; temperature and length are the caller's.
    """
    if is_served(weights):
        from .served.client import ServedVLM

        for name, given in (("max_frames", max_frames is not None), ("do_sample_frames", do_sample_frames)):
            if given:
                raise ValueError(f"{name} does not apply to {weights}: say ?clips=8 behind the address")
        return ServedVLM(weights, dtype=dtype, min_pixels=min_pixels, max_pixels=max_pixels)
    from .vlms.handle import LocalVLM
    from .vlms.vision import View, named

    base, adapter = adapted(weights)
    base, view = named(base, View(min_pixels, max_pixels, max_frames, do_sample_frames))
    return LocalVLM(_qwen(base, dtype, adapter), view)
