"""Fingerprints of every registered reward stay what they were: stored scores are found again after a
refactoring.

A change of `fingerprints.json` is a change of numbers, or of how they are named: say which in the CHANGELOG.
`python tests/contract/test_fingerprints.py` prints the file anew.
"""

import inspect
import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from support.miniature import MINIATURE

from mmreward import list_rewards, load
from mmreward.registry import find

FITTED = (
    "social_reward",
    "evalmuse",
    "artimuse",
    "visualprm",
    "ixc",
    "aesthetic",
    "aesthetic_quality",
    "background_consistency",
    "blip_vqa",
    "code",
    "cyclereward",
    "d2_align",
    "deqa",
    "dino_i",
    "dreamsim",
    "dynamic_degree",
    "editreward",
    "hpsv3",
    "head",
    "imagereward",
    "imaging_quality",
    "iqa",
    "mm_rlhf",
    "motion_smoothness",
    "mps",
    "nora",
    "perceptual",
    "pisces",
    "qalign",
    "qwen_image_bench",
    "subject_consistency",
    "t2i_compbench_3in1",
    "internvideo2",
    "viclip",
    "vip",
    "r3m",
    "robometer",
    "robometer_pair",
    "sarm",
    "skywork_vl",
    "visionreward",
    "visionreward_video",
    "videoreward",
    "videoscore",
)
"""These name files of the user's, whose place on the machine is part of their fingerprint, or (`iqa`) a
package that need not be here."""
NUDENET = "3.4.2"
"""The wheel of which the stored fingerprint of `nsfw` has the weights; others have their own."""
STORED = Path(__file__).with_name("fingerprints.json")


def arguments(name: str) -> dict[str, dict[str, str]]:
    """The default arguments where nothing must be fetched for them, and the miniature's, all or each
    alone."""
    known = inspect.signature(find(name).factory).parameters
    mini = {argument: weights for argument, weights in MINIATURE.items() if argument in known}
    if not mini:
        return {"default": {}}
    try:
        load(name, **mini)
        return {"miniature": mini}
    except ValueError:
        return {argument: {argument: weights} for argument, weights in mini.items()}


def fingerprints() -> dict[str, str]:
    """`reward/arguments` -> fingerprint."""
    return {
        f"{info.name}/{kind}": load(info.name, **args).fingerprint
        for info in list_rewards()
        if info.name not in FITTED
        for kind, args in arguments(info.name).items()
    }


def test_every_fingerprint_is_the_stored_one():
    found, stored = fingerprints(), json.loads(STORED.read_text())
    if version("nudenet") != NUDENET:
        assert found.pop("nsfw/default") != stored.pop("nsfw/default")
    assert {name: found.get(name) for name in stored} == stored
    unknown = sorted(set(found) - set(stored))
    assert not unknown, f"new rewards: add their fingerprints to {STORED.name}: {unknown}"


@pytest.mark.parametrize("name", ["iou", "oracle"])
def test_an_argument_changes_it(name):
    changed = {"iou": {"threshold": 0.5}, "oracle": {"strict": True}}[name]
    assert load(name).fingerprint != load(name, **changed).fingerprint


if __name__ == "__main__":
    json.dump(fingerprints(), sys.stdout, indent=1)
