"""Oracle of shapes world as a reward: classical vision reads a picture, and its scene is compared with the
caption.

It is the held-out judge of the miniature: nothing is ever trained on it, and it shares no code with a
network.
"""

from typing import Any

from ..errors import Unscorable
from ..reading import aside
from ..registry import reward
from ..types import Sample, Score


@reward("oracle", needs=("prompt", "image"), range=(0.0, 1.0))
def oracle(strict: bool = False) -> Any:
    """Object F1, 0 to 1, of a shapes-world picture against its caption; blind to pictures of anything else.

    `parts["strict"]` is 1 when exactly the asked shapes are there and the asked relation holds.

    Args:
        strict: make that the value.
    """
    from ..mini.oracle import judge
    from ..mini.world import noun_phrase, parse_caption

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        try:
            caption = parse_caption(sample.prompt)
        except ValueError as error:
            raise Unscorable(str(error), "na") from None
        verdict = judge(await aside(sample.image.array), caption)
        seen = ", ".join(noun_phrase(*thing.kind) for thing in verdict.seen) or "nothing"
        parts = {"f1": verdict.f1, "strict": float(verdict.strict), "seen": float(len(verdict.seen))}
        return Score(parts["strict"] if strict else verdict.f1, parts, note=f"sees {seen}")

    return score
