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
from support.stand_ins import MarkingJudge
from support.tiny_resnets import save_resnet
from support.tiny_robometer import save_robometer
from support.tiny_sarm import save_sarm
from support.tiny_ui_genie import save_ui_genie

from mmreward import Media, Sample, list_rewards, load, models
from mmreward.evals.published import scalars, scenes
from mmreward.evals.published.amt import save_amt
from mmreward.evals.published.blip import save_blip as save_blip_vqa
from mmreward.evals.published.blip import save_tokenizer
from mmreward.evals.published.blip2 import save_blip2
from mmreward.evals.published.checkpoints import save_blip, save_clip, save_head, save_mps, save_social
from mmreward.evals.published.internvideo import save_internvideo
from mmreward.evals.published.internvl import save_internvl
from mmreward.evals.published.llava import save_llava
from mmreward.evals.published.marking import write_bench
from mmreward.evals.published.owl import save_owl
from mmreward.evals.published.raft import save_raft
from mmreward.evals.published.viclip import save_viclip
from mmreward.evals.published.videoscore import save_videoscore
from mmreward.evals.published.vits import dino_folder, dreamsim_folder
from mmreward.evals.published.vjepa import save_world
from mmreward.evals.published.xcomposer import save_xcomposer
from mmreward.mini.world import describe, render, sample_scene
from mmreward.models.maps import Shift, Transport, write_map
from mmreward.models.step_facts import Steps
from mmreward.models.weights import content_of, locate
from mmreward.registry import find

MINIATURE = {
    "weights": "mini-clip",
    "encoder": "mini-clip",
    "judge": "mini-vlm",
    "alignment": "mini-vlm",
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

PREFERENCES = str(Path(_folder.name) / "preferences")
"""Preference head on mini-clip."""
save_head(Path(PREFERENCES), "mini-clip")
INTERNVL = {kind: save_internvl(Path(_folder.name) / kind, kind) for kind in ("internlm2", "qwen2")}
PUBLISHED = {
    "social_reward": save_social(Path(_folder.name) / "social"),
    "evalmuse": save_blip2(Path(_folder.name) / "blip2"),
    "artimuse": INTERNVL["qwen2"],
    "visualprm": INTERNVL["internlm2"],
    "ixc": save_xcomposer(Path(_folder.name) / "ixc"),
    "cyclereward": save_blip(Path(_folder.name) / "cycle", "CycleReward-Combo.pth", indices=(0, 2, 4, 6, 8)),
    "deqa": save_owl(Path(_folder.name) / "owl"),
    "editreward": scalars.save_editreward(Path(_folder.name) / "editreward"),
    "hpsv3": scalars.save_hpsv3(Path(_folder.name) / "hpsv3"),
    "imagereward": save_blip(Path(_folder.name) / "blip", "ImageReward.pt"),
    "mm_rlhf": save_llava(Path(_folder.name) / "llava") | {"max_tokens": 4},
    "mps": save_mps(Path(_folder.name) / "mps"),
    "skywork_vl": scalars.save_skywork(Path(_folder.name) / "skywork"),
    "videoreward": scalars.save_videoreward(Path(_folder.name) / "videoreward"),
}
PUBLISHED["videoscore"] = save_videoscore(Path(_folder.name) / "videoscore")
PUBLISHED["qalign"] = PUBLISHED["deqa"]
PUBLISHED["dynamic_degree"] = {"file": save_raft(Path(_folder.name) / "raft-things.pth")}
PUBLISHED["motion_smoothness"] = save_amt(Path(_folder.name) / "amt")
PUBLISHED["vip"] = {"weights": save_resnet(Path(_folder.name) / "vip.pt", "vip")}
PUBLISHED["r3m"] = {"weights": save_resnet(Path(_folder.name) / "r3m.pt", "r3m")}
PUBLISHED["ui_genie"] = save_ui_genie(Path(_folder.name) / "ui_genie")
PUBLISHED["robometer"] = save_robometer(Path(_folder.name) / "robometer")
PUBLISHED["robometer_pair"] = PUBLISHED["robometer"]
PUBLISHED["sarm"] = {
    "weights": save_sarm(Path(_folder.name) / "sarm", 128),
    "encoder": "mini-clip",
    "states": "zeros",
}
PUBLISHED["nora"] = save_world(Path(_folder.name) / "world")
PUBLISHED["perceptual"] = {"fitted": str(Path(_folder.name) / "steps.json")}
_step = {"features": (3, 5), "means": (0.0, 0.1), "deviations": (0.1, 0.2)}
_facts = {"encoder": "mini-clip", "content": content_of(locate("mini-clip")), "dtype": "float32"}
_steps = Steps(**_facts, resize="pil", width=128, steps=(_step, _step))
Path(PUBLISHED["perceptual"]["fitted"]).write_text(_steps.model_dump_json())
PUBLISHED["code"] = {"file": str(Path(_folder.name) / "reward.py")}
Path(PUBLISHED["code"]["file"]).write_text("def reward(steps, task):\n    return len(steps) / 10\n")
PUBLISHED["internvideo2"] = save_internvideo(Path(_folder.name) / "internvideo")
PUBLISHED["viclip"] = {"file": save_viclip(Path(_folder.name) / "viclip.pth")}
"""Tiny checkpoints for rewards that take one format alone, which the miniature has not."""
VITS = {
    "background_consistency": save_clip(Path(_folder.name) / "clip"),
    "subject_consistency": _folder.name + "/dino",
    "dino_i": _folder.name + "/dino",
    "dreamsim": _folder.name + "/dreamsim",
}
"""Tiny networks of rewards that the miniature has none for."""
_frames = Path(_folder.name) / "frames.safetensors"
save_file({"weight": torch.linspace(-1, 1, 24)[None], "bias": torch.full((1,), 5.0)}, _frames)
PUBLISHED["aesthetic_quality"] = {"head": str(_frames), "encoder": VITS["background_consistency"]}
Path(VITS["dreamsim"]).mkdir()
dino_folder(Path(VITS["dino_i"]))
dreamsim_folder(Path(VITS["dreamsim"]))

FILES = dict(
    zip(("visionreward", "visionreward_video"), scenes.write_questions(Path(_folder.name)), strict=True)
)
FILES["qwen_image_bench"] = write_bench(Path(_folder.name)) | {"judge": MarkingJudge().name}
"""Files of our own in place of published texts, which are fetched."""
FILES["roboreward"] = {"judge": SCRIPTED.name + "?clips=2"}
FILES["topreward"] = {"judge": "mini-vlm"}

NAMES = [info.name for info in list_rewards()]


def variants(name):
    """The arguments with which the reward runs on the miniature: all of its networks, or each alone."""
    if name in PUBLISHED:
        return [PUBLISHED[name]]
    known = inspect.signature(find(name).factory).parameters
    args = {argument: weights for argument, weights in MINIATURE.items() if argument in known}
    if "words" in known and not {"min_mass", "mode"} & set(known):
        args["judge"] = SCRIPTED.name + "?clips=2"
    if name in FITTED:
        args["fitted"] = str(FITTED[name][0])
    if name == "head":
        args = {"fitted": PREFERENCES}
    if "head" in known:
        args["head"] = str(HEAD)
    if name in VITS:
        args["weights"] = VITS[name]
    args |= FILES.get(name, {})
    if name in ("blip_vqa", "t2i_compbench_3in1"):
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
    moving = bool({"video", "episode"} & set(info.needs))
    inputs = inputs[:1] if name in ("edit_change", "editreward") else inputs  # an edit has one source
    if info.arity != "point":
        return [
            Sample(
                id=str(row),
                prompt=scenes[row - row % 2][0],
                image=scenes[row - row % 2][1] if {"response", "steps"} & set(info.needs) else image,
                steps=[{"action": f"look at {row} shapes"}] if "steps" in info.needs else (),
                group=str(row // 2),
                response=f"There are {row} shapes.",
                meta=info.example.get("meta", {}),
            )
            for row, (_, image) in enumerate(scenes)
        ]
    return [
        Sample(
            **{
                "prompt": prompt,
                "image": None if moving else image,
                "video": clip_of(image, name in ("dynamic_degree", "motion_smoothness")) if moving else None,
                "inputs": inputs,
                "steps": [{"observation": image, "action": "look"}] if "steps" in info.needs else (),
                **info.example,
            }
        )
        for prompt, image in scenes
    ]


def clip_of(image, large=False):
    """A clip of six frames that moves a picture to the right, two pixels a frame; `large`: of 128 pixels at
    least, as optical flow wants it, and three frames at eight a second."""
    frames = np.stack([np.roll(image.array(), 2 * frame, axis=1) for frame in range(6)])
    if large:
        times = 128 // image.size[0]
        frames = frames.repeat(times, 1).repeat(times, 2)
    return Media(frames, "video", fps=16.0 if large else 3.0)
