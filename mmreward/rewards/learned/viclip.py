"""ViCLIP (arXiv:2307.06942) as a reward of clips: the cosine of a clip with its prompt."""

from functools import partial
from typing import Any, Literal

from ... import models
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

URL = "https://pjlab-gvm-data.oss-cn-shanghai.aliyuncs.com/internvideo/viclip/ViClip-InternVid-10M-FLT.pth"


@reward(
    "viclip",
    needs=("prompt", "video"),
    range=(-1.0, 1.0),
    paper="arXiv:2307.06942",
    licence="Apache-2.0 (InternVideo); the file names none",
    example={"prompt": "a red circle"},
)
def viclip(
    file: str | None = None,
    protocol: Literal["vbench", "t2v_turbo"] = "vbench",
    seed: int = 0,
    dtype: str = "float32",
) -> Any:
    """Cosine of a clip and its prompt by ViCLIP, which reads eight frames together.

    VBench's overall_consistency and temporal_style are this number. The frames are those in the middle of
    eight equal stretches of the clip; a shorter one repeats its last. "vbench" takes the middle of each frame
    and CLIP's normalisation. "t2v_turbo" is the reward of that training: ImageNet's normalisation, and a
    crop at a place drawn by lot, which is the same here for all frames of a clip and drawn anew for every
    `seed` and shape, so that a score can be had again; upstream it cannot. Values of the two do not compare.

    A prompt is read up to 32 tokens, and `parts["truncated"]` is 1 for a longer one. Frames are resized with
    antialiasing, which torchvision's default is from 0.17 on.

    Args:
        file: ViClip-InternVid-10M-FLT.pth, by path or OWNER/NAME/FILE; without it, that in torch.hub's cache.
        protocol: how frames are prepared.
        seed: of the crop of "t2v_turbo".
        dtype: of both sides.

    Raises:
        ValueError: the file is not on this machine, with the command that fetches it.
    """
    network = models.video_encoder(models.downloaded(URL) if file is None else file, dtype=dtype)

    async def score(sample: Sample) -> Score:
        assert sample.video is not None
        from ...models.viclip import Frames, shown

        pictures = await aside(partial(shown, sample.video))
        crop = seed if protocol == "t2v_turbo" else None
        text, cut = await network.text(sample.prompt)
        value = float(await network.clip(Frames(pictures, protocol, crop)) @ text)
        noted("cosine", "{} of {} frames and the prompt", value, len(pictures))
        return Score(value, {"truncated": float(cut)})

    return score
