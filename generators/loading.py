"""Loading of generators by name, folder or id of the hub; and their size in memory.

A family is a class whose constructor takes a loaded diffusers pipeline and keyword options. `FAMILIES` says
which class belongs to which pipeline, as model_index.json names it; the miniature alone is loaded from its
own folder. Only safetensors are read, and no code that comes with a model is run. `footprint` reads the
headers of the files alone and loads no weights.
"""

import importlib
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import diffusers
import torch
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from safetensors import SafetensorError, safe_open

from mmreward.errors import nearest
from mmreward.generator import Generator
from mmreward.mini import flow

from .mini_flow import MiniFlow

INDEX = "model_index.json"
UNREADABLE = (HFValidationError, EntryNotFoundError, HfHubHTTPError, OSError, json.JSONDecodeError)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FAMILIES: Mapping[str, str] = {
    # Text to picture.
    "StableDiffusionPipeline": "stable_diffusion:StableDiffusion",  # 1.x and 2.x, SD-Turbo
    "StableDiffusionXLPipeline": "stable_diffusion:StableDiffusionXL",  # also SDXL-Turbo
    "StableDiffusion3Pipeline": "sd3:SD3",  # 3 and 3.5
    "FluxPipeline": "flux:Flux",  # FLUX.1 dev and schnell
    "QwenImagePipeline": "qwen_image:QwenImage",
    "ZImagePipeline": "z_image:ZImage",  # also Turbo
    # Text and pictures to picture: edits.
    "FluxKontextPipeline": "flux:FluxKontext",  # one picture
    "QwenImageEditPipeline": "qwen_image:QwenImageEdit",  # one picture
    "QwenImageEditPlusPipeline": "qwen_image:QwenImageEdit",  # up to three
    # Text, picture and mask to picture: inpainting.
    "StableDiffusionInpaintPipeline": "stable_diffusion:StableDiffusionInpaint",
    "StableDiffusionXLInpaintPipeline": "stable_diffusion:StableDiffusionXLInpaint",
    # Text to clip.
    "LTXPipeline": "ltx:LTX",
    "WanPipeline": "wan:Wan",  # 2.1 and 2.2
    # Text and a first frame to clip.
    "LTXImageToVideoPipeline": "ltx:LTXImageToVideo",
    "WanImageToVideoPipeline": "wan:WanImageToVideo",
}
"""Class of the pipeline to "module:class" of its family; a module is imported when a model needs it."""

# Loading.


def load(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "float32",
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
    **options: Any,
) -> Generator:
    """A generator, on its device and ready to sample.

    Args:
        name: "mini-flow", a folder in diffusers' format, or an id of the hub, which is downloaded.
        device: "auto" is the GPU where there is one.
        dtype: of the networks: "float32", "bfloat16" or "float16".
        height, width: in pixels; the model's own where not given.
        frames: of a clip; the model's own where not given.
        options: further arguments of the family, such as `steps`, `guidance` or `negative_prompt`.

    Raises:
        ValueError: no such model, a pipeline of no family, an option that the family does not take, an
            unknown dtype, or weights that are no safetensors.
    """
    if dtype not in DTYPES:
        raise ValueError(_unknown("dtype", dtype, list(DTYPES)))
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    size = {"height": height, "width": width, "frames": frames}
    options |= {key: value for key, value in size.items() if value is not None}
    index = read_index(name)
    family = _family(index)
    _check_options(family, options)
    if family is MiniFlow:
        return MiniFlow(flow.FOLDER if name == "mini-flow" else name, device, DTYPES[dtype], **options)
    return cast(Generator, family(_pipeline(name, index, DTYPES[dtype]).to(device), **options))


def read_index(name: str) -> Mapping[str, Any]:
    """Contents of a model's model_index.json: class of the pipeline, and its parts.

    Raises:
        ValueError: there is no such file.
    """
    folder = flow.FOLDER if name == "mini-flow" else Path(name)
    try:
        file = folder / INDEX if folder.is_dir() else Path(hf_hub_download(name, INDEX))
        return cast(Mapping[str, Any], json.loads(file.read_text()))
    except UNREADABLE as error:
        raise ValueError(
            f"no model {name!r}: give 'mini-flow', a folder with a {INDEX}, or an id of the Hugging Face "
            f"hub, downloaded or reachable: {str(error).splitlines()[0]}"
        ) from None


def _family(index: Mapping[str, Any]) -> type[Any]:
    pipeline = str(index.get("_class_name"))
    if pipeline == "MiniFlow":
        return MiniFlow
    if pipeline not in FAMILIES:
        raise ValueError(f"no family for {pipeline!r}; there are {', '.join(sorted(FAMILIES))}")
    module, _, family = FAMILIES[pipeline].partition(":")
    return cast(type[Any], getattr(importlib.import_module(f".{module}", __package__), family))


def _check_options(family: type[Any], options: Mapping[str, Any]) -> None:
    takes = [p.name for p in inspect.signature(family).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in takes:
            raise ValueError(_unknown(f"option of {family.__name__}", option, takes))


def _unknown(what: str, given: str, known: Sequence[str]) -> str:
    return f"{given!r} is no {what}: {nearest(given, known)}"


def _pipeline(name: str, index: Mapping[str, Any], dtype: torch.dtype) -> Any:
    # What a safety checker blackens would be scored as a picture.
    has_checker = "safety_checker" in index
    unchecked = {"safety_checker": None, "requires_safety_checker": False} if has_checker else {}
    try:
        return getattr(diffusers, index["_class_name"]).from_pretrained(
            name, torch_dtype=dtype, use_safetensors=True, **unchecked
        )
    except OSError as error:
        raise ValueError(f"cannot load {name!r} from safetensors: {error}") from error


# Size in memory.

NETWORKS = ("unet", "transformer", "transformer_2")
"""Folders of the weights of `Generator.network`."""
UNUSED = ("safety_checker",)
"""Folders that are never loaded."""


class Footprint(NamedTuple):
    """Size of the networks of one role: bytes in the wanted type, and parameters."""

    bytes: int
    parameters: int


def footprint(name: str, dtype: str = "float32") -> Mapping[str, Footprint]:
    """Bytes and parameters by role ("network", "vae", "text_encoder", ...), as `load` would hold them.

    Args:
        name: "mini-flow", a folder in diffusers' format, or an id of the hub that has been downloaded.
        dtype: of the networks, as for `load`.

    Raises:
        ValueError: not there, without safetensors, a file that is none, or an unknown dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f"{dtype!r} is no dtype: there are {', '.join(DTYPES)}")
    folder = _folder(name)
    counts: dict[str, int] = {}
    for part in read_index(str(folder)):
        if part not in UNUSED and (files := _weights(folder / part)):
            role = "network" if part in NETWORKS else part
            counts[role] = counts.get(role, 0) + sum(_parameters(file) for file in files)
    if not counts:
        raise ValueError(f"no safetensors in {str(folder)!r}")
    return {role: Footprint(count * DTYPES[dtype].itemsize, count) for role, count in counts.items()}


def _folder(name: str) -> Path:
    if name == "mini-flow":
        return Path(flow.FOLDER)
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, EntryNotFoundError):
        raise ValueError(
            f"{name!r} is neither a folder with a {INDEX} nor a model of the hub that lies here; get one "
            f"from the hub with: hf download {name}"
        ) from None


def _weights(folder: Path) -> list[Path]:
    """The files of the default variant: no "fp16" or the like before their ending."""
    files = sorted(folder.glob("*.safetensors"))
    return [file for file in files if "." not in file.name.removesuffix(".safetensors")]


def _parameters(file: Path) -> int:
    try:
        with safe_open(file, framework="pt") as tensors:
            return sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{str(file)!r} is no safetensors file: {error}") from None
