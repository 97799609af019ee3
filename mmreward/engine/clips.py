"""Clips for picture rewards: `frames=` scores chosen frames of `Sample.video`, whatever the reward.

The frames are evenly spaced by their number, in the order in which they are shown, the first and the last
included; a clip with fewer than that has each of its frames scored once. `mean` and `min` look at `USUAL`.
A frame is a picture that is decoded when a network first needs it, together with the clip's other chosen
frames and no others, and once for all rewards that look at it: it is named by the clip's content and its
number.
"""

import asyncio
import hashlib
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import register_at_fork
from statistics import fmean
from typing import Any

import numpy as np

from ..errors import Unscorable
from ..evaluation import score_one
from ..limits import limits
from ..media import Media
from ..reading import aside
from ..registry import Reward
from ..types import Sample, Score
from .cache import ByteLRU

USUAL = 8
"""Frames that `mean` and `min` look at."""
KEPT = 256 << 20
"""Bytes of decoded frames kept for the rewards that ask next: five clips of 8 frames of 1920 x 1080."""
WORDS = ("mean", "min", "first")


def over_frames(reward: Reward, frames: object) -> Reward:
    """The reward with `frames=`: pictures as before, clips by their frames.

    A sample with both is scored by its picture. One frame that cannot be scored fails the clip, with that
    frame's status and reason. The fingerprint is another one.

    Args:
        reward: a point reward that needs a picture.
        frames: "mean" or "min" (the lowest value) of `USUAL` frames, "first" for the first alone, or a number
            of frames, for their mean.

    Raises:
        ValueError: the reward takes no single picture, or `frames` is something else.
    """
    name = reward.info.name
    if reward.info.arity != "point" or "image" not in reward.info.needs:
        raise ValueError(
            f"{name} has no argument 'frames': it is for rewards that score one picture, and {name} is a "
            f"{reward.info.arity} reward that needs {reward.info.needed}"
        )
    count = _count_of(name, frames)
    needs = tuple("shown" if need == "image" else need for need in reward.info.needs)

    async def score(sample: Sample) -> Score:
        if sample.image is not None or sample.video is None:
            result: Score = await reward(sample)
            return result
        return await _over(reward, sample, sample.video, count, lowest=frames == "min")

    return replace(
        reward,
        info=replace(reward.info, needs=needs),
        args={**reward.args, "frames": frames},
        fn=score,
    )


def _count_of(name: str, frames: object) -> int:
    if isinstance(frames, str) and frames in WORDS:
        return 1 if frames == "first" else USUAL
    most = limits().frames
    if isinstance(frames, int) and not isinstance(frames, bool) and 2 <= frames <= most:
        return frames
    fix = "; for one frame say first" if frames == 1 else ""
    raise ValueError(f"{name}: frames={frames!r} is none of {', '.join(WORDS)} and no number 2..{most}{fix}")


async def _over(reward: Reward, sample: Sample, clip: Media, count: int, *, lowest: bool) -> Score:
    """Score of a clip by its frames, chosen anew where decoding finds fewer than the clip's index counts."""
    while True:
        shots = await aside(partial(spread, clip, count))
        scores = await asyncio.gather(
            *(
                score_one(replace(sample, image=shot, video=None), reward, f"frame {shot.number + 1}")
                for shot in shots
            )
        )
        if _recounted.get(clip.key, shots[0].total) == shots[0].total:
            break
    for shot, score in zip(shots, scores, strict=True):
        if not score.ok:
            where = f" (frame {shot.number + 1} of {shot.total})"
            raise Unscorable(score.note + where, score.status, score.parts)
    values = [score.value for score in scores]
    worst = scores[values.index(min(values))]
    facts = {"frames": float(len(scores)), "frames_min": min(values), "frames_max": max(values)}
    facts["frames_mean"] = fmean(values)
    if lowest:
        return Score(worst.value, {**worst.parts, **facts}, note=worst.note)
    notes = {score.note for score in scores}
    note = notes.pop() if len(notes) == 1 else ""
    return Score(facts["frames_mean"], {**_means([score.parts for score in scores]), **facts}, note=note)


def _means(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each part that all frames have."""
    shared = [name for name in parts[0] if all(name in others for others in parts)]
    return {name: fmean(float(others[name]) for others in parts) for name in shared}


# --- frames as pictures ---------------------------------------------------------------------------


def numbers(total: int, count: int) -> list[int]:
    """Numbers of `count` evenly spaced frames of `total`, the last included; of one, the first.

    Raises:
        Unscorable: the clip has no frame.
    """
    if total < 1:
        raise Unscorable("the video has no frames")
    if count == 1:
        return [0]
    if total <= count:
        return list(range(total))
    return [(2 * place * (total - 1) + count - 1) // (2 * (count - 1)) for place in range(count)]


def spread(clip: Media, count: int) -> "list[Shot]":
    """Evenly spaced frames of a clip, as pictures.

    Raises:
        Unscorable: the clip has no frame, or cannot be opened.
    """
    return chosen(clip, lambda total: numbers(total, count))


def chosen(clip: Media, rule: Callable[[int], Sequence[int]]) -> "list[Shot]":
    """Frames of a clip as pictures.

    Args:
        rule: numbers of the frames, in rising order, of a clip of so many.

    Raises:
        Unscorable: as `spread`.
    """
    total = _recounted.get(clip.key, clip.frames)
    reel = _reel_of(clip, tuple(rule(total)))
    return [Shot(reel, place, total) for place in range(len(reel.numbers))]


_recounted: dict[str, int] = {}
"""By content: frames that can be decoded, of the few clips whose index counts more."""


class Reel:
    """Chosen frames of one clip, decoded together by the first thread that needs one."""

    def __init__(self, clip: Media, chosen: tuple[int, ...]) -> None:
        self.clip = clip
        self.numbers = chosen
        self._lock = threading.Lock()

    def at(self, place: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """The frame, not to be written to.

        Raises:
            Unscorable: as `Media.frames_at`.
        """
        key = (self.clip.key, self.numbers)
        with self._lock:
            stack = _kept(lambda kept: kept.get(key))
            if stack is None:
                indexed = self.clip.frames
                stack = self.clip.frames_at(self.numbers)
                if self.clip.frames != indexed:
                    _recounted[self.clip.key] = self.clip.frames
                _kept(lambda kept: kept.put(key, stack))
        frame: np.ndarray[Any, np.dtype[np.uint8]] = stack[place]
        return frame


class Shot(Media):
    """One frame of a clip as a picture; its pixels are decoded when they are looked at."""

    def __init__(self, reel: Reel, place: int, total: int) -> None:
        self.kind = "image"
        self.given_fps = None
        self.reel = reel
        self.place = place
        self.number = reel.numbers[place]
        self.total = total
        name = f"{reel.clip.key} frame {self.number} of {total}"
        self.__dict__["key"] = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        self.__dict__["size"] = reel.clip.size

    @property
    def source(self) -> Any:  # type: ignore[override]
        """The pixels, which is what a picture without a file is made of."""
        return self.reel.at(self.place)

    def __repr__(self) -> str:
        return f"frame {self.number + 1} of {self.total} of {self.reel.clip!r}"

    def __reduce__(self) -> tuple[Callable[..., Media], tuple[Any, str]]:
        return _picture, (np.ascontiguousarray(self.source), self.key)


def _picture(pixels: Any, key: str) -> Media:
    """The frame on another machine: a picture in memory under the same name."""
    media = Media(pixels)
    media.__dict__["key"] = key
    return media


class _Memo:
    """Reels that are being scored, so that all rewards share one, and the frames decoded last."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.lock = threading.Lock()
        self.reels: weakref.WeakValueDictionary[tuple[str, tuple[int, ...]], Reel] = (
            weakref.WeakValueDictionary()
        )
        self.frames = ByteLRU(KEPT)


_memo = _Memo()


def _reel_of(clip: Media, chosen: tuple[int, ...]) -> Reel:
    key = (clip.key, chosen)
    with _memo.lock:
        reel = _memo.reels.get(key)
        if reel is None:
            reel = _memo.reels[key] = Reel(clip, chosen)
        return reel


def _kept(use: Callable[[ByteLRU], Any]) -> Any:
    with _memo.lock:
        return use(_memo.frames)


def forget() -> None:
    """Drop all kept frames; in a fork, also the locks that its parent's threads may have held."""
    _memo.clear()


register_at_fork(after_in_child=forget)
