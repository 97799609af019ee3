"""Every registered reward with the miniature's weights, and samples that it scores.

An argument named as in MINIATURE is filled with the miniature's weights; a reward whose networks exclude each
other has one case with each.
"""

import inspect

import numpy as np
import pytest

from mmreward import Media, Sample, list_rewards, load
from mmreward.mini.world import describe, render, sample_scene
from mmreward.registry import find

MINIATURE = {
    "weights": "mini-clip",
    "encoder": "mini-clip",
    "judge": "mini-vlm",
    "listener": "mini-vlm",
    "classifier": "mini-artifact",
}
NAMES = [info.name for info in list_rewards()]


def variants(name):
    """The arguments with which the reward runs on the miniature: all of its networks, or each alone."""
    known = inspect.signature(find(name).factory).parameters
    args = {argument: weights for argument, weights in MINIATURE.items() if argument in known}
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


def draw_scenes():
    """Six captions with their pictures, in two sizes."""
    rng = np.random.default_rng(3)
    drawn = [sample_scene(rng) for _ in range(6)]
    return [
        (str(describe(scene)), Media(render(scene, size)))
        for scene, size in zip(drawn, (64, 32) * 3, strict=True)
    ]


def samples_for(name, scenes):
    info = find(name).info
    inputs = (scenes[0][1], scenes[1][1]) if "inputs" in info.needs else ()
    return [
        Sample(**{"prompt": prompt, "image": image, "inputs": inputs, **info.example})
        for prompt, image in scenes
    ]
