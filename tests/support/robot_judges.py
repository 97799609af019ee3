"""A scripted VLM that sees how grey a picture is, and episodes for it: grey from 0 to 250 is progress."""

import json
import math
import re

import numpy as np

from mmreward import Media, Sample, models
from mmreward.errors import Unscorable
from mmreward.models.vlms.answers import LogProb, Written


def grey(level: float, size: int = 8) -> np.ndarray:
    return np.full((size, size, 3), round(level), np.uint8)


def film(*levels: float, fps: float = 1.0) -> Media:
    return Media(np.stack([grey(level) for level in levels]), "video", fps=fps)


CLIPS = {
    "good": (0, 50, 100, 150, 200, 250),
    "failed": (0, 30, 60, 60, 30, 20),
    "reversed": (250, 200, 150, 100, 50, 0),
    "frozen": (0, 0, 0, 0, 0, 0),
    "shuffled": (0, 200, 50, 250, 100, 150),
}
"""An episode of each kind, as progress / 250 of its frames."""


def episode(kind: str, **fields) -> Sample:
    return Sample(
        id=kind, prompt="push the block", video=film(*CLIPS[kind]), inputs=(Media(grey(250)),), **fields
    )


def levels_of(media) -> list[float]:
    """Progress 0..1 of the pictures shown, those of a clip in turn."""
    shown = (media,) if isinstance(media, Media) else media
    found = []
    for one in shown:
        frames = one.array() if one.kind == "video" else one.still()[None]
        found += [float(frame.mean()) / 250 for frame in frames]
    return found


class Judge:
    """A VLM whose answer is a function of the progress it sees and of the question.

    `said` is its text; `sure` the probability it gives to a continuation.
    """

    name = fingerprint = "scripted"
    read_pixels = None

    def __init__(self, said=None, sure=None):
        self.said, self.sure = said, sure
        self.calls = []

    async def write(self, media, prompt, *, max_tokens=512, **options):
        seen = levels_of(media)
        self.calls.append((seen, prompt, options))
        text = self.said(seen, prompt)
        if isinstance(text, Written):
            return text
        return Written(text, True, len(text) // 4)

    async def logprob(self, media, prompt, continuation, *, given="", **options):
        seen = levels_of(media)
        self.calls.append((seen, prompt, {**options, "given": given, "continuation": continuation}))
        p = self.sure(seen, prompt, continuation)
        if p is None:
            raise Unscorable("it is several tokens")
        return LogProb(math.log(p), 1, (math.log(p),))


def use(monkeypatch, judge: Judge) -> Judge:
    for name in ("vlm", "internvl"):  # VLAC by its name is an InternVL in this process
        monkeypatch.setattr(models, name, lambda *args, **options: judge)
    return judge


def marked(seen, prompt):
    """RoboReward's answer: by the last frame alone."""
    return f"The end is what counts.\nANSWER: {1 + round(4 * min(1.0, seen[-1]))}"


def listed(seen, prompt):
    """GVL's answer about the frames after the anchor, in the order in which they are shown."""
    key = "task_completion_percentage"
    rows = [
        {"frame_number": n, "frame_description": "x", key: round(100 * p)} for n, p in enumerate(seen[1:], 1)
    ]
    return f"Here:\n{json.dumps(rows)[:-1]},]"


def hopped(seen, prompt):
    """Robo-Dopamine's answer by the first cameras: what changed of what was left, or of what was made."""
    views = (len(seen) - 2) // 2
    before, after = seen[2], seen[2 + views]
    if after >= before:
        hop = (after - before) / (1 - before) if before < 1 else 0.0
    else:
        hop = (after - before) / before
    return f"<score>{round(100 * hop):+d}%</score>"


def believed(seen, prompt, word):
    """TOPReward's: True as likely as the last frame is far, whatever the statement denies."""
    sure = 0.05 + 0.9 * seen[-1]
    sure = 1 - sure if re.search("not complete|False", prompt + word) and "completes" not in prompt else sure
    return sure if word.strip().lower() == "true" else 1 - sure
