"""How large the networks and the work of the speed comparison are. Knows nothing of timing.

"small" keeps the real geometry (patches of 16 merged by 2, deepstack, grouped queries, CLIP ViT-B/32) at
widths a laptop's processor can run; "large" has the widths and depths of Qwen3-VL-2B and CLIP ViT-L/14;
"toy" only shows that everything fits together.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Stack(NamedTuple):
    """A stack of transformer layers."""

    width: int
    depth: int
    heads: int
    hidden: int
    """Width inside the feed-forward part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Sizes of networks, pictures and sets.

    Args:
        text: the judge's language model.
        kv_heads: its key and value heads.
        eyes: the judge's vision tower, patches of 16.
        deepstack: layers of `eyes` whose output enters the language model early.
        clip_eyes, clip_text: both dual encoders' towers.
        clip_side, clip_patch: pixels of a dual encoder's input and of its patches.
        embedding: width of the dual encoders' common space.
        sizes: (height, width) of the pictures, in turn; multiples of 32, so that no judge resizes them.
        pictures: how many a checklist, a writing and a mixed set have.
        prompts: groups of the CLIP-family set; each has GROUP pictures.
        words: tokens a critique is long.
        frames: of a clip.
    """

    text: Stack
    kv_heads: int
    eyes: Stack
    deepstack: tuple[int, ...]
    clip_eyes: Stack
    clip_text: Stack
    clip_side: int
    clip_patch: int
    embedding: int
    sizes: tuple[tuple[int, int], ...]
    pictures: int
    prompts: int
    words: int
    frames: int


GROUP = 8
"""Samples of one prompt, as in GRPO."""

SCALES = {
    "toy": Scale(
        text=Stack(64, 2, 4, 128),
        kv_heads=2,
        eyes=Stack(32, 2, 2, 64),
        deepstack=(0,),
        clip_eyes=Stack(32, 2, 2, 64),
        clip_text=Stack(32, 2, 2, 64),
        clip_side=32,
        clip_patch=8,
        embedding=24,
        sizes=((64, 64), (64, 96)),
        pictures=2,
        prompts=1,
        words=6,
        frames=4,
    ),
    "small": Scale(
        text=Stack(512, 8, 8, 1536),
        kv_heads=2,
        eyes=Stack(384, 6, 6, 1536),
        deepstack=(1, 3),
        clip_eyes=Stack(768, 12, 12, 3072),
        clip_text=Stack(512, 12, 8, 2048),
        clip_side=224,
        clip_patch=32,
        embedding=512,
        sizes=((512, 512), (512, 640)),
        pictures=2,
        prompts=2,
        words=24,
        frames=4,
    ),
    "large": Scale(
        text=Stack(2048, 28, 16, 6144),
        kv_heads=8,
        eyes=Stack(1024, 24, 16, 4096),
        deepstack=(5, 11, 17),
        clip_eyes=Stack(1024, 24, 16, 4096),
        clip_text=Stack(768, 12, 12, 3072),
        clip_side=224,
        clip_patch=14,
        embedding=768,
        sizes=((1024, 1024), (768, 1024), (1024, 768), (512, 768)),
        pictures=16,
        prompts=16,
        words=128,
        frames=8,
    ),
}
