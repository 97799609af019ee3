"""VLAC (InternRobotics/VLAC): a critic of two moments of an episode, and the value that its critiques add up
to.

The published model is an InternVL2 with InternLM2 in its publisher's format, which is read here without its
code; it may be asked behind a server too, and any other VLM can stand for it. A critique is a percentage from
-100 to 100 of how much closer the second picture is. The published update takes a step back as a share of
what remains, so that values fall below 0; here it is a share of what was made ("share"), or the authors'
other form ("mix").
"""

import json
import re
from asyncio import gather
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ... import models
from ...engine.episodes import frames_of
from ...errors import Unscorable
from ...media import Media
from ...models.pinned import Pin
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...trajectories import check_rule
from ...types import Sample, Score
from ...verifiers.text import nfkc
from ..published.grammar import LONGEST, MINUS
from ..published.wording import PICTURE, Prompt, values_of, worded
from .values import SIGNED, Walked, covered, curve_parts, voc, walked

Update = Literal["share", "mix"]
TAGS = re.compile(r"</?\s*score\s*>", re.IGNORECASE)
_VLAC = ("InternRobotics/VLAC", "71acb22a04ee2ec499ecdf7d6032285a77b7e1a1")
PROMPT = Prompt(
    # The model's own class puts this prompt in the place of the one that its data processor has.
    pins=(
        Pin(*_VLAC, "evo_vlac/utils/model_utils.py",
            "GAC_model.__init__.self.dataclient.prompt_templete['v3']",
            "d5838085e71a9012fd063938e0e977538a30d922dde4d4a0f7d9c798b619e49e"),
    ),
    system=(
        Pin(*_VLAC, "evo_vlac/utils/data_processing_vlm.py", "DataProcessor.__init__.self.system_prompt",
            "03d4553e3c49b0b66a8fa0aad50692844d26c5d0fc54333e933d9ee8875b1cb8"),
    ),
    fields={"{}": "prompt"},
    own=f"First: {PICTURE} Second: {PICTURE} A robot was told: {{prompt}} By how many percent of the way is "
    "the second picture closer to that, from -100 to 100? The number alone:",
)  # fmt: skip


def read_critique(text: Any) -> float:
    """A critique from -1 to 1: the one signed number that the answer is, a percentage whatever its size.

    Downstream code divides by 100 only where an episode has a value above 1, and takes 0.4 % for 40 %.

    Raises:
        Unscorable: "unparsable" for anything but one number, "out_of_range".
    """
    if not isinstance(text, str) or len(text) > LONGEST:
        raise Unscorable(f"no_number: {'no text' if not isinstance(text, str) else 'too long'}", "unparsable")
    bare = TAGS.sub(" ", nfkc(text).translate(MINUS)).strip().removesuffix("%").strip()
    if SIGNED.fullmatch(bare) is None:
        raise Unscorable(f"no_number: the critique is {text.strip()[:60]!r}", "unparsable")
    percent = float(bare)
    if not -100 <= percent <= 100:
        raise Unscorable(f"out_of_range: {percent:g} is outside -100 to 100", "out_of_range")
    return percent / 100


def _is_own(judge: str) -> bool:
    """True for VLAC in its publisher's format, by a folder's configuration or by its name on the hub."""
    file = Path(judge) / "config.json"
    if file.is_file():
        return bool(json.loads(file.read_text(encoding="utf-8")).get("model_type") == "internvl_chat")
    return "@" not in judge and judge.startswith("InternRobotics/VLAC")


def stretched(media: Media, side: int) -> Media:
    """A picture of side by side pixels, whatever its shape was; itself where the side is 0."""
    if not side:
        return media
    from PIL import Image

    picture = Image.fromarray(media.still())
    if picture.size == (side, side):
        return media
    return Media(np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)))


def mixed(hops: Sequence[float | None]) -> Walked:
    """The authors' other update, brought to 0..1: above one half a step back is what would be left if the
    step had been forward, and falls to 0.1 at the least; the rest is as of `walked`.

    >>> [round(value, 4) for value in mixed([0.8, -0.2]).progress]
    [0.0, 0.8, 0.75]
    """
    progress, gaps = [0.0], 0
    for hop in hops:
        before = progress[-1]
        if hop is None:
            gaps += 1
            progress.append(before)
        elif hop < 0 and before > 0.5:
            left = max(1 - before, 0.01)
            progress.append(max(0.1, 1 - left / (1 + hop)) if hop > -1 else 0.1)
        else:
            progress.append(walked([hop], before).progress[-1])
    return Walked(tuple(progress), gaps)


@reward("vlac", needs=("prompt", "episode"), range=(0.0, 1.0), licence="see the model card")
def vlac(
    judge: str = "InternRobotics/VLAC",
    update: Update = "share",
    frames: str | int = "every 5",
    max_frames: int = 32,
    view: str = "",
    side: int = 448,
    most_gaps: float = 0.2,
    words: str = "published",
    max_tokens: int = 64,
    dtype: str = "float32",
) -> Any:
    """Progress of an episode at its end, 0 to 1, from a critic's comparisons of each frame with the next.

    `parts` holds the value at each frame as `frame_N`, `voc`, `negative` (share of critiques below 0: high in
    a demonstration that is bad) and `gaps` (share that could not be read, at which the value holds). The
    authors count a value of 0.9 as done.

    Args:
        judge: VLAC (hub id, or a folder in its format), one behind a server,
            "InternRobotics/VLAC@http://localhost:8000/v1", or another VLM.
        update: "share", or the authors' "mix"; see `mixed`.
        frames: which frames are looked at, see `trajectories`; two at least.
        max_frames: evenly spaced ones of those, where they are more.
        view: whose, where the steps have several.
        side: pixels to which the authors stretch every picture, one square tile of their model; 0 leaves
            pictures as they are, for another VLM.
        most_gaps: largest share of critiques that may be unreadable; above it the episode is a failure.
        words: "published", "own", or a file; see `published.wording.worded`.
        max_tokens: length at which an answer is cut off.
        dtype: of a judge in this process.

    Raises:
        ValueError: `update` or `frames` is something else, or a negative side.
    """
    if side < 0:
        raise ValueError(f"side is {side}: pixels, or 0 for pictures as they are")
    if update not in get_args(Update):
        raise ValueError(f"update is {update!r}: one of {', '.join(get_args(Update))}")
    rule = check_rule(frames)
    wording = worded(words, PROMPT)
    vlm: Any = (
        models.internvl(judge, writes=True, dtype=dtype) if _is_own(judge) else models.vlm(judge, dtype=dtype)
    )

    async def score(sample: Sample) -> Score:
        seen = await frames_of(sample, rule, view=view, at_most=max_frames)
        if len(seen.pictures) < 2:
            raise Unscorable("one frame is compared with nothing: an episode has two at least", "na")
        pictures = await aside(lambda: [stretched(media, side) for media in seen.pictures])
        text, places = wording.filled(values_of((sample,)))

        async def critique(pair: Sequence[Any]) -> float | None:
            said = await vlm.write(pair, text, max_tokens=max_tokens, system=wording.system, places=places)
            try:
                return read_critique(said.text)
            except Unscorable as error:
                noted("gap", "{}", str(error))
                return None

        found: list[float | None] = list(await gather(*map(critique, pairwise(pictures))))
        noted("critiques", "{}", found)
        curve = mixed(found) if update == "mix" else walked(found)
        parts = {"gaps": 1 - covered(found), **curve_parts(seen.numbers, curve.progress)}
        parts["negative"] = sum(one is not None and one < 0 for one in found) / len(found)
        if (order := voc(curve.progress)) is not None:
            parts["voc"] = order
        if parts["gaps"] > most_gaps:
            said = f"{parts['gaps']:.0%} of {len(found)} critiques could not be read"
            raise Unscorable(f"{said}, more than {most_gaps:.0%}", "unparsable", parts)
        return Score(curve.progress[-1], parts)

    return score
