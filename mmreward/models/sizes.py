"""Sizes of published weights: parameters of every file and repository that a reward reads by default, and the
licence of those that belong to no reward.

Parameters are counted on the architecture as its configuration is published, by what a file holds; that does
not change with the dtype it is stored in. Bytes are the hub's own words, which `mmreward fetch` prints. A
test holds that nothing is read by default which is not here.
"""

from collections.abc import Iterable
from urllib.parse import unquote

from .wants import ADAPTER, FILES, Want

QWEN2_VL_2B, QWEN2_VL_7B = 2209.0, 8291.0
QWEN25_VL_3B, QWEN25_VL_7B = 3755.0, 8292.0
QWEN3_VL_4B, QWEN3_VL_8B = 4438.0, 8767.0
CLIP_B32, CLIP_L14, CLIP_H14 = 151.3, 427.6, 986.1
BLIP_L, OWL2 = 446.0, 8198.0

MILLIONS = {
    # VLMs
    "CodeGoat24/UnifiedReward-2.0-qwen3vl-8b": QWEN3_VL_8B,
    "CodeGoat24/UnifiedReward-Think-qwen3vl-8b": QWEN3_VL_8B,
    "CodeGoat24/UnifiedReward-qwen-7b": QWEN25_VL_7B,
    "HanXiao1999/UI-Genie-RM-7B": QWEN25_VL_7B,
    "InternRobotics/VLAC": 2206.0,
    "KlingTeam/VideoReward": QWEN2_VL_2B,
    "MizzenAI/HPSv3/HPSv3.safetensors": QWEN2_VL_7B,
    "OpenGVLab/VisualPRM-8B": 8075.0,
    "Qwen/Qwen-Image-Bench": 27000.0,
    "Qwen/Qwen2.5-VL-7B-Instruct": QWEN25_VL_7B,
    "Qwen/Qwen3-VL-8B-Instruct": QWEN3_VL_8B,
    "Skywork/Skywork-VL-Reward-7B": QWEN25_VL_7B,
    "TIGER-Lab/EditReward-MiMo-VL-7B-SFT-2508/model.safetensors": 8302.0,
    "TIGER-Lab/RationalRewards-8B-T2I": QWEN3_VL_8B,
    "TIGER-Lab/VideoScore-v1.1": 8403.0,
    "TIGER-Lab/VideoScore2": QWEN25_VL_7B,
    "Thunderbolt215215/ArtiMuse": 7944.0,
    "ZYao720/WebArbiter-7B": 7616.0,
    "internlm/internlm-xcomposer2d5-7b-reward": 8300.0,
    "lerobot/Robometer-4B": QWEN3_VL_4B,
    "lmms-lab/LLaVA-Critic-R1-7B": QWEN25_VL_7B,
    "q-future/one-align": OWL2,
    "tanhuajie2001/Robo-Dopamine-GRM-3B": QWEN25_VL_3B,
    "teetone/RoboReward-8B": QWEN3_VL_8B,
    "yifanzhang114/MM-RLHF-Reward-7B-llava-ov-qwen": 8030.0,
    "yifanzhang114/R1-Reward": QWEN25_VL_7B,
    "zhiqiulin/clip-flant5-xxl": 11025.0,
    "zhiyuanyou/DeQA-Score-Mix3": OWL2,
    # dual encoders
    "jasonyma/LIV/model.pt": 102.0,
    "openai/clip-vit-base-patch32": CLIP_B32,
    "openai/clip-vit-large-patch14": CLIP_L14,
    "openai/clip-vit-large-patch14-336": 427.9,
    "xswu/HPSv2/HPS_v2.1_compressed.pt": CLIP_H14,
    "yuvalkirstain/PickScore_v1": CLIP_H14,
    "ViClip-InternVid-10M-FLT.pth": 427.6,
    "OpenGVLab/InternVideo2/InternVideo2-stage2_1b-224p-f4.pt": 1400.0,
    # pictures and words together
    "RE-N-Y/mpsv1/model.safetensors": 1104.0,
    "hanshuhao/FGA-BLIP2/fga_blip2.pth": 187.0,
    "CycleReward-Combo.pth": BLIP_L,
    "model_base_vqa_capfilt_large.pth": 385.0,
    "blip2_finetune_coco.pth": 1173.0,
    "zai-org/ImageReward/ImageReward.pt": BLIP_L,
    # pictures alone
    "facebook/dino-vitb16": 85.8,
    "facebook/dino-vits16": 21.7,
    "facebook/mask2former-swin-small-coco-instance": 68.7,
    "dino_vitbase16_pretrain.pth": 85.8,
    "sa_0_4_vit_l_14_linear.pth": 0.000769,
    "sac+logos+ava1-l14-linearMSE.pth": 0.926,
    "dreamsim_ensemble_checkpoint.zip": 173.0,
    # motion
    "raft_large_C_T_V1-22a6c225.pth": 5.26,
    "vjepa2-ac-vitg.pt": 1317.4,
    "lalala125/AMT/amt-s.pth": 3.0,
}
"""Weights by the name that asks for them, of an address its last part -> millions of parameters."""
ESTIMATED = {
    "InternRobotics/VLAC",
    "OpenGVLab/InternVideo2/InternVideo2-stage2_1b-224p-f4.pt",
    "dreamsim_ensemble_checkpoint.zip",
    "hanshuhao/FGA-BLIP2/fga_blip2.pth",
    "internlm/internlm-xcomposer2d5-7b-reward",
    "jasonyma/LIV/model.pt",
}
"""Those whose parameters were not counted, but added up from what is said of the architecture."""
LICENCES = {"Qwen/Qwen2.5-VL-7B-Instruct": "Apache-2.0", "Qwen/Qwen3-VL-8B-Instruct": "Apache-2.0"}
"""Licences of general models, by their cards: those of a reward that has weights of its own are its own."""


def weighing(wants: Iterable[Want]) -> list[Want]:
    """Those of a reward's wants that are weights of a network: neither texts nor tokenizers, nor the place
    on this machine of what comes from an address, nor an adapter, which is small beside its base."""
    wants = list(wants)
    placed = {want.to for want in wants}
    return [
        want for want in wants if want.use != "published" and want.name not in placed and not _beside(want)
    ]


def _beside(want: Want) -> bool:
    """True where what is read holds no weights, or only an adapter's."""
    if want.kind != "hub" and want.kind != "hub file":
        return False
    names = want.parts or (want.name,) if want.kind == "hub file" else want.parts
    return bool(names) and (want.parts == ADAPTER or not any(name.endswith(FILES) for name in names))


def millions_of(wants: Iterable[Want]) -> float | None:
    """Millions of parameters of what a reward reads; None where not all of it is known, such as a server's
    or a folder's."""
    sizes = [MILLIONS.get(name) for name in {_named(want) for want in weighing(wants)}]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _named(want: Want) -> str:
    return unquote(want.name.rpartition("/")[2]) if want.kind in ("url", "archive") else want.name


def size_words(wants: Iterable[Want]) -> str:
    """The same in words: "8.3B parameters", "about 102M parameters" (estimated), "no weights"."""
    read = weighing(wants)
    if not read:
        return "no weights"
    if all(want.kind == "package" for want in read):
        return f"weights in {read[0].name}'s wheel"
    millions = millions_of(read)
    if millions is None:
        return "size not known"
    about = "about " if any(_named(want) in ESTIMATED for want in read) else ""
    return f"{about}{_short(millions)} parameters"


def _short(millions: float) -> str:
    """Two significant digits below ten of a unit, whole units above."""
    for size, unit in ((1e3, "B"), (1.0, "M"), (1e-3, "k")):
        if (number := millions / size) >= 1:
            return f"{number:.1f}{unit}" if number < 10 or unit == "B" else f"{number:.0f}{unit}"
    return f"{millions * 1e6:.0f}"


def licence_of(wants: Iterable[Want]) -> str:
    """Licences of the general models among what a reward reads, each with its name."""
    read = {want.name: LICENCES[want.name] for want in weighing(wants) if want.name in LICENCES}
    return ", ".join(f"{licence} ({name})" for name, licence in read.items())
