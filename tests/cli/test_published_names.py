"""Published names: each is found by `mmreward list`, or told by the hint of a name that nothing has."""

import re
from inspect import signature

import pytest

from mmreward import list_rewards, other_names, registry
from mmreward.cli.arguments import chosen_rewards
from mmreward.scales import scales_of

OURS = re.findall(
    r"\w+",
    """
    aesthetic aesthetic_quality artifact artimuse background_consistency blip_vqa clip_i clipscore
    colour_entropy cyclereward d2_align dark_share deqa dino_i dpg dreamsim dynamic_degree edge_density
    edit_change editreward evalmuse geneval geneval2 harmonic hpsv2 hpsv3 imagereward imaging_quality
    iqa ixc jpeg_compressibility jpeg_incompressibility mm_rlhf motion_smoothness mps nsfw ocr_image
    pickscore pisces qalign qwen_image_bench sharpness skywork_vl social_reward subject_consistency
    t2i_compbench_3in1 t2i_compbench_spatial temporal_flickering internvideo2 viclip videoreward videoscore
    videoscore2 visionreward visionreward_video visualprm vqascore
    """,
)
"""Names of the zoo."""
TOLD = {
    "aesthetic-shadow-v2": "artifact:classifier=shadowlilac/aesthetic-shadow-v2,clean_label=hq",
    "aesthetic_v2_5": "aesthetic:head=v2.5",
    "BaseReward": "head",
    "BLIP-VQA": "blip_vqa",
    "brisque": "iqa:metric=brisque",
    "CLIP-FlanT5": "vqascore",
    "CLIP-I": "clip_i",
    "CLIPScore": "clipscore",
    "clip_score": "clipscore",
    "clipscore_pyiqa": other_names.AUTHORS_CLIPSCORE,
    "DeQA-Score": "deqa",
    "DINO-I": "dino_i",
    "DPG-Bench": "dpg",
    "DreamSim": "dreamsim",
    "FGA-BLIP2": "evalmuse",
    "GenEval2": "geneval2",
    "hps": "hpsv2",
    "HPSv2.1": "hpsv2",
    "ImageReward-v1.0": "imagereward",
    "IXC-2.5-Reward": "ixc",
    "LAION-aesthetics": "aesthetic",
    "lpips": "iqa:metric=lpips",
    "MM-RLHF-Reward": "mm_rlhf",
    "MUSIQ": "iqa:metric=musiq",
    "NudeNet": "nsfw",
    "OneAlign": "qalign",
    "overall_consistency": "viclip",
    "PaddleOCR": "ocr_image",
    "Pick-a-Pic": "pickscore",
    "PrefPaint": "head",
    "Q-Align": "qalign",
    "NORA-1.5": "nora",
    "pyiqa clipscore": other_names.AUTHORS_CLIPSCORE,
    "Qwen-Image-Bench": "qwen_image_bench",
    "RapidOCR": "ocr_image",
    "SigLIP": "clipscore",
    "Skywork-VL-Reward": "skywork_vl",
    "Social-Reward": "social_reward",
    "Soft-TIFA": "geneval2",
    "temporal_style": "viclip",
    "topiq_nr": "iqa:metric=topiq_nr",
    "VideoAlign": "videoreward",
    "VideoScore-v1.1": "videoscore",
    "InternVid2": "internvideo2",
    "InternVideo2": "internvideo2",
    "vi_clip2": "internvideo2",
    "ViCLIP": "viclip",
    "VisualPRM-8B-v1_1": "visualprm",
}
"""A name as a paper or another suite has it -> what is offered."""


def test_every_name_of_the_zoo_is_listed():
    assert set(OURS) <= {info.name for info in list_rewards()}


@pytest.mark.parametrize(("name", "meant"), TOLD.items())
def test_a_published_name_points_to_the_reward(name, meant):
    with pytest.raises(
        ValueError, match=rf"^no reward named {re.escape(repr(name))}: did you mean"
    ) as caught:
        registry.find(name)
    assert str(caught.value).endswith(f"did you mean {meant!r}?")


def test_what_is_offered_can_be_asked_for():
    for meant in other_names.ELSEWHERE.values():
        ((name, own),) = chosen_rewards({}, [meant]).items()
        known = signature(registry.find(name).factory).parameters
        assert set(own or ()) <= {*known, "scale"}, meant
        assert (own or {}).get("scale") in {None, *scales_of(name)}, meant


@pytest.mark.parametrize(("suite", "part"), [("VBench", "motion_smoothness"), ("T2I-CompBench", "blip_vqa")])
def test_a_suite_is_told_by_its_parts(suite, part):
    with pytest.raises(ValueError, match="its parts are .*" + part):
        registry.find(suite)
    assert all(own in OURS for parts in other_names.SUITES.values() for own in parts)
