"""Weights that rewards need: what a reward's arguments name, asked without loading or looking for anything.

Inside `collecting` the functions of `mmreward.models` make no network. They note what they would have read,
and a reward is loaded as usual otherwise. `fetching` brings what was noted.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote

from ..assets import ASSETS
from .served.address import is_served

Kind = Literal["hub", "hub file", "url", "archive", "open_clip", "server", "package", "local", "absent"]


class Want(NamedTuple):
    """Weights that a reward names.

    `kind` is where they come from: a repository or one file of the hub, an address, an archive at an address,
    open_clip's table, a server, a package's wheel; "local" is on this machine, "absent" a path where nothing
    is. `name` is the hub id, file, address or path; `to` where an address belongs; `use` the function of
    `mmreward.models` that asked; `parts` what is read of an archive or of a repository.
    """

    kind: Kind
    name: str
    use: str
    to: str = ""
    parts: tuple[str, ...] = ()


NAMED = {
    "clip": ("weights",),
    "embedder": ("weights",),
    "head": ("weights", "encoder"),
    "_mapped": ("encoder",),
    "_preference_head": ("encoder",),
    "_state_head": ("encoder",),
    "classifier": ("weights",),
    "blip_head": ("weights", "vocabulary"),
    "matcher": ("weights", "base", "vocabulary"),
    "detector": ("weights",),
    "clip_t5": ("weights",),
    "crossed": ("weights",),
    "blip_vqa": ("file",),
    "grader": ("weights",),
    "internvl": ("weights",),
    "llava_reward": ("weights",),
    "xcomposer": ("weights",),
    "scalar_vlm": ("weights",),
    "video_reward": ("weights",),
    "video_scorer": ("weights",),
    "video_rater": ("weights",),
    "robometer": ("weights",),
    "goal_resnet": ("weights",),
    "sarm": ("weights", "encoder"),
    "world_model": ("weights", "predictor"),
    "frame_embedder": ("weights",),
    "frame_head": ("weights", "encoder"),
    "optical_flow": ("file",),
    "interpolator": ("file",),
    "video_encoder": ("file",),
    "clip_and_text": ("weights", "vocabulary"),
    "vlm": ("weights",),
}
"""Function of `mmreward.models` -> its arguments that name weights."""
CLIP_T5 = ("zhiqiulin/clip-flant5-xxl", "zhiqiulin/clip-flant5-xl")
CLIP_T5_BESIDE = {
    "openai/clip-vit-large-patch14-336": (),
    "google/flan-t5-xxl": ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
}
"""What these read besides: the vision tower that their config names, and a tokenizer."""
BODY = ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json")
"""Files that every Qwen-VL's repository has beside its weights."""
PROCESSOR = (
    *BODY,
    "video_preprocessor_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
)
"""What is read of a repository beside its weights, as far as it has it: a Qwen-VL's, a CLIP's or BERT's."""
WORDS = ("--include '*.json'", "--include '*.jinja'", "--include '*.txt'")
"""What brings `PROCESSOR` by hand: the names of files that a repository lacks would be errors."""
BASED = {"scalar_vlm": "base", "video_reward": "base"}
"""Function that loads a VLM -> its argument of which the configuration, the tokenizer and the processor alone
are read."""
WORDED = {**BASED, "crossed": "processor", "blip_vqa": "tokenizer"}
"""The same of all functions."""
VLMS = (
    "vlm",
    "clip_t5",
    "grader",
    "internvl",
    "llava_reward",
    "robometer",
    "video_rater",
    "video_scorer",
    "xcomposer",
    "_state_head",
    *BASED,
)
"""Functions that load a language model which sees."""
PACKAGES = {"text_reader": "rapidocr", "nudity": "nudenet", "measure": "pyiqa"}
"""Function -> the package whose wheel has the weights."""

FILES = (".pt", ".pth", ".bin", ".safetensors")
"""Suffixes of weight files."""
VOCABULARIES = (".txt",)
"""Suffixes of a tokenizer's one file."""
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names that the weights of a hub id go by."""

_wants: ContextVar[list[Want] | None] = ContextVar("wants", default=None)


@contextmanager
def collecting() -> Iterator[list[Want]]:
    """Weights that rewards loaded inside the block name, as a list that fills; such rewards cannot score."""
    wants: list[Want] = []
    token = _wants.set(wants)
    try:
        yield wants
    finally:
        _wants.reset(token)


def noting() -> bool:
    """True inside `collecting`."""
    return _wants.get() is not None


def note(want: Want) -> None:
    """Add to the list of the surrounding `collecting`; once."""
    wants = _wants.get()
    if wants is not None and want not in wants:
        wants.append(want)


SPEEDS = ("no network", "a small network on the CPU", "a pass of an encoder", "a VLM")


def speed_of(wants: Iterable[Want]) -> str:
    """Class of a reward's speed, one of `SPEEDS`, by the slowest of what it reads."""
    read = [want for want in wants if want.use != "published"]  # texts
    ranks = [3 if want.use in VLMS else 1 if want.kind == "package" else 2 for want in read]
    return SPEEDS[max(ranks, default=0)]


def note_call(function: str, arguments: Mapping[str, Any]) -> None:
    """Note what a call of a function of `mmreward.models` would read."""
    if function in PACKAGES:
        note(Want("package", PACKAGES[function], function))
    if function == "vlm":
        _note_vlm(str(arguments["weights"]))
        return
    for argument in NAMED.get(function, ()):
        if not arguments[argument]:
            continue  # a file that is not asked for
        want = want_of(str(arguments[argument]), function)
        if function == "video_reward" and want.kind == "hub":
            want = want._replace(parts=("model_config.json", f"{arguments['checkpoint']}/model.pth"))
        note(want)
    beside = arguments.get(WORDED.get(function, ""))
    if beside and beside != arguments.get("weights"):
        base = want_of(str(beside), function)
        note(base._replace(parts=PROCESSOR) if base.kind == "hub" else base)
    if function == "clip_t5" and str(arguments["weights"]) in CLIP_T5:
        for name, parts in CLIP_T5_BESIDE.items():
            note(Want("hub", name, function, parts=parts))


def _note_vlm(weights: str) -> None:
    base, adapter = adapted(weights)
    settled = is_served(weights) or Path(base).exists()
    note(want_of(base if settled else base.partition("?")[0], "vlm"))
    if adapter:
        there = Path(adapter).exists() or adapter.startswith((".", "/", "~"))
        note(want_of(adapter, "vlm") if there else Want("hub", adapter, "vlm", parts=ADAPTER))


ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
"""Files of a LoRA adapter in peft's format."""


def adapted(weights: str) -> tuple[str, str]:
    """A model's name without the setting `adapter=NAME` behind it, and that adapter; empty where there is
    none.

    Raises:
        ValueError: two adapters, or an empty name.
    """
    name, mark, query = weights.partition("?")
    if not mark or is_served(weights) or Path(weights).exists():
        return weights, ""
    settings = parse_qsl(query, keep_blank_values=True)
    adapters = [value for setting, value in settings if setting == "adapter"]
    if not adapters:
        return weights, ""
    if len(adapters) > 1 or adapters == [""]:
        raise ValueError(f"adapter= of {name} is one hub id or folder, not {adapters}")
    rest = "&".join(f"{setting}={value}" for setting, value in settings if setting != "adapter")
    return (f"{name}?{rest}" if rest else name), "".join(adapters)


def want_of(weights: str, use: str) -> Want:
    """The want of one name of weights."""
    if is_served(weights):
        return Want("server", weights, use)
    if weights.startswith("mini-"):
        return Want("local", str(ASSETS / weights), use)
    if weights.startswith("open_clip:"):
        return Want("open_clip", weights, use)
    if weights.startswith((".", "/", "~")) or Path(weights).exists():
        wants = _wants.get() or ()
        if any(want.to == weights for want in wants):
            return Want("local", weights, use)  # it comes from an address that is noted
        return Want("local" if Path(weights).exists() else "absent", weights, use)
    return Want("hub file" if hub_file(weights) else "hub", weights, use)


def hub_file(weights: str) -> tuple[str, str] | None:
    """Hub id and file name of OWNER/NAME/FILE, where FILE may lie in a folder; None for any other name."""
    parts = weights.split("/", 2)
    if len(parts) < 3 or ":" in weights or weights.startswith((".", "/", "~")) or Path(weights).exists():
        return None
    known = Path(weights).suffix in (*FILES, *VOCABULARIES)
    return (f"{parts[0]}/{parts[1]}", parts[2]) if known else None


def hub_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises where there is no network: OSError, and what httpx2 has (httpx before
    huggingface_hub 2), whichever is loaded; for an `except` clause, which asks when something was raised."""
    clients = (sys.modules.get(name) for name in ("httpx2", "httpx"))
    return OSError, *(client.HTTPError for client in clients if client is not None)


def hub_folder() -> Path:
    """The folder of weight files in torch.hub's cache; asks torch where it is loaded, and else does as torch
    does."""
    if (torch := sys.modules.get("torch")) is not None:
        return Path(torch.hub.get_dir()) / "checkpoints"
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    return Path(os.environ.get("TORCH_HOME", cache)).expanduser() / "hub" / "checkpoints"


def address_of(url: str) -> Path:
    """Place of a published file in torch.hub's cache."""
    return hub_folder() / unquote(url.rpartition("/")[2])
