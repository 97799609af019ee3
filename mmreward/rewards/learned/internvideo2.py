"""InternVideo2 (arXiv:2403.15377) as a reward of clips: the cosine of a clip with its prompt."""

from functools import partial
from typing import Any, Literal

from ... import models
from ...errors import Unscorable
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score


@reward(
    "internvideo2",
    needs=("prompt", "video"),
    range=(-1.0, 1.0),
    paper="arXiv:2403.15377",
    licence="Apache-2.0 (InternVideo's code); the file's card asks for its own terms to be accepted",
    example={"prompt": "a red circle"},
)
def internvideo2(
    weights: str = "OpenGVLab/InternVideo2/InternVideo2-stage2_1b-224p-f4.pt",
    vocabulary: str = "google-bert/bert-base-uncased/vocab.txt",
    protocol: Literal["t2v_turbo", "demo"] = "t2v_turbo",
    seed: int = 0,
    dtype: str = "float32",
) -> Any:
    """Cosine of a clip and its prompt by InternVideo2 of stage 2, which reads a clip's frames together.

    "t2v_turbo" is the reward of T2V-Turbo v2: eight frames (here those in the middle of eight equal
    stretches; a shorter clip repeats its last), shorter side to 224, and a crop at a place drawn by lot,
    which is the same for all frames of a clip and drawn anew for every `seed` and shape, so that a score can
    be had again; upstream it cannot. The file is of four frames: its positions are stretched to eight,
    linearly, as there. It runs in half precision with flash-attn's fused layers, whose GELU is an
    approximation, and so is ours. "demo" is the publisher's demonstration: every n-th of the clip, four
    frames, squashed to 224 x 224 by OpenCV's arithmetic, and the exact GELU. Values of the two do not
    compare.

    A prompt is read up to 40 tokens, its end token kept, and `parts["truncated"]` is 1 for a longer one.
    Layers that fuse clip and prompt (the matching head) take no part, as in both.

    Args:
        weights: the publisher's file, by path or OWNER/NAME/FILE.
        vocabulary: BERT's vocab.txt, likewise; that of the large model is the same.
        protocol: frames, their preparation, and the GELU.
        seed: of the crop of "t2v_turbo".
        dtype: of both sides.

    Raises:
        ValueError: a file is not on this machine, with the command that fetches it.
    """
    models.needed(weights)
    models.needed(vocabulary)
    network = models.clip_and_text(weights, vocabulary, protocol=protocol, dtype=dtype)

    async def score(sample: Sample) -> Score:
        assert sample.video is not None
        from ...models.internvideo import PROTOCOLS, Shots, placed_evenly
        from ...models.viclip import middles, shown

        count = PROTOCOLS[protocol].frames
        places = partial(middles if protocol == "t2v_turbo" else placed_evenly, count=count)
        if protocol == "demo" and sample.video.frames < count:
            raise Unscorable(
                f"the clip has {sample.video.frames} frames, and the demonstration reads {count}"
            )
        pictures = await aside(partial(shown, sample.video, places))
        text, cut = await network.text(sample.prompt)
        value = float(await network.clip(Shots(pictures, seed)) @ text)
        noted("cosine", "{} of {} frames and the prompt", value, len(pictures))
        return Score(value, {"truncated": float(cut)})

    return score
