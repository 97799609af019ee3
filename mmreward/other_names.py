"""Names by which people ask for a reward that has another name here: those of papers, of other suites, and of
the networks behind a score. They are hints of the error that an unknown name gets, and never stand for the
reward: what another suite computes under its name may be another number.
"""

from collections.abc import Collection

from .errors import nearest

MEASURES = ("brisque", "clipiqa", "dists", "hyperiqa", "liqe", "lpips", "maniqa", "musiq", "nima", "niqe",
            "psnr", "ssim", "topiq_nr", "topiq_fr")  # fmt: skip
"""Of pyiqa, as it spells them: those that people ask for by name."""
SHADOW = "artifact:classifier=shadowlilac/aesthetic-shadow-v2,clean_label=hq"
AUTHORS_CLIPSCORE = "clipscore:weights=open_clip:ViT-B-32-quickgelu/openai,resize=pil,scale=clipscore/pyiqa"
ELSEWHERE = {
    **{"".join(each.split("_")): f"iqa:metric={each}" for each in MEASURES},
    "3in1": "t2i_compbench_3in1",
    "aestheticpredictor": "aesthetic",
    "aestheticpredictorv25": "aesthetic:head=v2.5",
    "aestheticv25": "aesthetic:head=v2.5",
    "aestheticshadow": SHADOW,
    "aestheticshadowv2": SHADOW,
    "aesthetics": "aesthetic",
    "aestheticscore": "aesthetic",
    "artimuseava": "artimuse",
    "basereward": "head",
    "clip": "clipscore",
    "clipflant5": "vqascore",
    "clipflant5xl": "vqascore",
    "clipflant5xxl": "vqascore",
    "clipimage": "clip_i",
    "clipscorepyiqa": AUTHORS_CLIPSCORE,
    "clipsim": "clipscore",
    "clipt": "clipscore",
    "cliptext": "clipscore",
    "compressibility": "jpeg_compressibility",
    "deqascore": "deqa",
    "dino": "dino_i",
    "dinoscore": "dino_i",
    "dinov2": "dino_i",
    "dpgbench": "dpg",
    "flicker": "temporal_flickering",
    "hps": "hpsv2",
    "hpsv20": "hpsv2",
    "hpsv21": "hpsv2",
    "edit": "editreward",
    "editrewardbench": "editreward",
    "evalmuse40k": "evalmuse",
    "fgablip2": "evalmuse",
    "hps3": "hpsv3",
    "hpsv37b": "hpsv3",
    "humanpreferencescore": "hpsv2",
    "imagesimilarity": "clip_i",
    "improvedaestheticpredictor": "aesthetic",
    "incompressibility": "jpeg_incompressibility",
    "internlmxcomposer25reward": "ixc",
    "internlmxcomposer2d57breward": "ixc",
    "ixc25reward": "ixc",
    "ixcreward": "ixc",
    "jpeg": "jpeg_compressibility",
    "laion": "aesthetic",
    "laionaesthetic": "aesthetic",
    "laionaesthetics": "aesthetic",
    "amt": "motion_smoothness",
    "amts": "motion_smoothness",
    "mmrlhfreward": "mm_rlhf",
    "mmrlhfreward7b": "mm_rlhf",
    "nudenet": "nsfw",
    "nudity": "nsfw",
    "onealign": "qalign",
    "overallconsistency": "viclip",
    "paddleocr": "ocr_image",
    "pick": "pickscore",
    "pickapic": "pickscore",
    "pyiqaclipscore": AUTHORS_CLIPSCORE,
    "nora15": "nora",
    "qjudger": "qwen_image_bench",
    "qwenimagebenchmark": "qwen_image_bench",
    "rapidocr": "ocr_image",
    "safety": "nsfw",
    "temporalflicker": "temporal_flickering",
    "picsart": "social_reward",
    "skywork": "skywork_vl",
    "skyworkvlreward": "skywork_vl",
    "skyworkvlreward7b": "skywork_vl",
    "prefpaint": "head",
    "shadow": SHADOW,
    "siglip": "clipscore",
    "softtifa": "geneval2",
    "temporalstyle": "viclip",
    "textrendering": "ocr_image",
    "tifa": "geneval2",
    "videoalign": "videoreward",
    "videoscorev11": "videoscore",
    "klingvideoreward": "videoreward",
    "unifiedrewardflex": "unifiedreward_pair",
    "unifiedrewardthink": "unifiedreward_pair",
    "internvid2": "internvideo2",
    "internvideo": "internvideo2",
    "viclip2": "internvideo2",
    "viescore": "editscore",
    "visualprm8b": "visualprm",
    "visualprm8bv11": "visualprm",
}
"""Names that other suites and papers have, without case and signs -> ours. They are told to whoever asks for
one, and never stand for it: two suites mean two numbers by one name. Some need an argument."""


SUITES = {
    "vbench": ("subject_consistency", "background_consistency", "temporal_flickering", "motion_smoothness",
               "dynamic_degree", "aesthetic_quality", "imaging_quality", "viclip"),
    "t2icompbench": ("blip_vqa", "t2i_compbench_spatial", "t2i_compbench_3in1"),
}  # fmt: skip
"""Names of suites, spelled as in `ELSEWHERE` -> our rewards, one for each of their numbers."""


def meant_by(name: str, known: Collection[str]) -> str:
    """Ending of the message about a name that nothing has: the reward that is meant, or the nearest ones.

    >>> meant_by("CLIP_Score", ["clipscore", "hpsv2"])
    "did you mean 'clipscore'?"
    """
    plain = {_plain(own): own for own in known}
    meant = plain.get(_plain(name)) or ELSEWHERE.get(_plain(name), "")
    if meant.partition(":")[0] in known:
        return f"did you mean {meant!r}?"
    if family := [own for own in SUITES.get(_plain(name), ()) if own in known]:
        return f"its parts are {', '.join(family)}"
    return nearest(name, sorted(known), limit=3)


def _plain(name: str) -> str:
    """Letters and digits alone, in small letters."""
    return "".join(sign for sign in name.lower() if sign.isalnum())
