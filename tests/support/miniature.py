"""Every registered reward with the miniature's weights, and samples that it scores.

An argument named as in MINIATURE is filled with the miniature's weights; a reward whose networks exclude each
other has one case with each.
"""

import inspect
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.judgements import ScriptedJudge
from support.tiny_blip import save_blip as save_blip_vqa
from support.tiny_blip import save_tokenizer

from mmreward import Media, Sample, list_rewards, load, models
from mmreward.evals.published.checkpoints import save_blip, save_mps
from mmreward.evals.published.vits import dino_folder, dreamsim_folder
from mmreward.mini.world import describe, render, sample_scene
from mmreward.models.maps import Shift, Transport, write_map
from mmreward.registry import find

MINIATURE = {
    "weights": "mini-clip",
    "encoder": "mini-clip",
    "judge": "mini-vlm",
    "listener": "mini-vlm",
    "classifier": "mini-artifact",
    "detector": "oracle",
    "words": "own",
}
SCRIPTED = ScriptedJudge()
"""A judge for published judges' grammars, which the miniature does not write."""
_folder = TemporaryDirectory()
FITTED = {
    "d2_align": (Path(_folder.name) / "bias.safetensors", Shift(torch.linspace(-0.05, 0.05, 128))),
    "pisces": (Path(_folder.name) / "transport.safetensors", Transport(128, 4)),
}
"""Maps on mini-clip for the rewards that need a file."""
HEAD = Path(_folder.name) / "head.safetensors"
"""Aesthetic head on mini-clip."""
save_file({"weight": torch.linspace(-1, 1, 128)[None], "bias": torch.full((1,), 5.0)}, HEAD)
_vqa = Path(_folder.name) / "blip-vqa"
_vqa.mkdir()
BLIP, _ = save_blip_vqa(_vqa)
TOKENIZER = save_tokenizer(_vqa)
for _file, _map in FITTED.values():
    write_map(_file, _map, models.clip("mini-clip"), rows=1)

PUBLISHED = {
    "cyclereward": save_blip(Path(_folder.name) / "cycle", "CycleReward-Combo.pth", indices=(0, 2, 4, 6, 8)),
    "imagereward": save_blip(Path(_folder.name) / "blip", "ImageReward.pt"),
    "mps": save_mps(Path(_folder.name) / "mps"),
}
"""Tiny checkpoints for rewards that take one format alone, which the miniature has not."""
VITS = {"dino_i": _folder.name + "/dino", "dreamsim": _folder.name + "/dreamsim"}
"""Tiny networks of rewards that the miniature has none for."""
Path(VITS["dreamsim"]).mkdir()
dino_folder(Path(VITS["dino_i"]))
dreamsim_folder(Path(VITS["dreamsim"]))

NAMES = [info.name for info in list_rewards()]


def variants(name):
    """The arguments with which the reward runs on the miniature: all of its networks, or each alone."""
    if name in PUBLISHED:
        return [PUBLISHED[name]]
    known = inspect.signature(find(name).factory).parameters
    args = {argument: weights for argument, weights in MINIATURE.items() if argument in known}
    if "words" in known and "min_mass" not in known:
        args["judge"] = SCRIPTED.name + "?clips=2"
    if name in FITTED:
        args["fitted"] = str(FITTED[name][0])
    if "head" in known:
        args["head"] = str(HEAD)
    if name in VITS:
        args["weights"] = VITS[name]
    if name == "blip_vqa":
        args |= {"file": BLIP, "tokenizer": TOKENIZER}
    try:
        load(name, **args)
        return [args]
    except ValueError:
        return [{argument: weights} for argument, weights in args.items()]


CASES = [
    pytest.param(name, args, id=f"{name}-{'-'.join(args) or 'plain'}")
    for name in NAMES
    for args in variants(name)
]
SINGLE = [case for case in CASES if find(case.values[0]).info.arity == "point"]
PAIRED = [case for case in CASES if find(case.values[0]).info.arity == "pair"]


def draw_scenes():
    """Six captions with their pictures, in two sizes."""
    rng = np.random.default_rng(3)
    drawn = [sample_scene(rng) for _ in range(6)]
    return [
        (str(describe(scene)), Media(render(scene, size)))
        for scene, size in zip(drawn, (64, 32) * 3, strict=True)
    ]


def samples_for(name, scenes):
    """One sample per scene; for a reward that compares, two scenes each are one group with one prompt."""
    info = find(name).info
    inputs = (scenes[0][1], scenes[1][1]) if "inputs" in info.needs else ()
    if info.arity != "point":
        return [
            Sample(
                id=str(row),
                prompt=scenes[row - row % 2][0],
                image=scenes[row - row % 2][1] if "response" in info.needs else image,
                group=str(row // 2),
                response=f"There are {row} shapes.",
            )
            for row, (_, image) in enumerate(scenes)
        ]
    return [
        Sample(**{"prompt": prompt, "image": image, "inputs": inputs, **_clip(info, image), **info.example})
        for prompt, image in scenes
    ]


def _clip(info, image):
    """A clip of the picture, for a reward that needs one."""
    return {"video": Media(np.stack([image.array()] * 4), "video", fps=2.0)} if "video" in info.needs else {}
