"""Frames of an episode, whatever it was given as: pictures of `Sample.steps`, a clip, or one picture.

`frames_of` picks by a named rule (see `trajectories`) and opens no frame that is not picked; those of one
clip are decoded together when a network first looks at one of them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from ..errors import Unscorable
from ..examining import examined
from ..media import Media
from ..reading import aside
from ..streams import Frame
from ..tracing import noted
from ..trajectories import check_rule, column, picked, seen_in, views_of
from ..types import Sample
from .clips import chosen


class Episode(NamedTuple):
    """Frames that were picked of an episode.

    Args:
        pictures: in order.
        numbers: of the frames among all that the view has; of steps, those of the steps.
        times: seconds from the start of each; None where nothing says.
        total: frames that there were to pick from.
    """

    pictures: tuple[Media, ...]
    numbers: tuple[int, ...]
    times: tuple[float, ...] | None
    total: int

    def evened(self) -> "Episode":
        """The episode with an even number of frames, the last twice where it is odd: as Qwen's models take a
        list of frames, two at a time."""
        if len(self.pictures) % 2 == 0:
            return self
        times = None if self.times is None else (*self.times, self.times[-1])
        return self._replace(
            pictures=(*self.pictures, self.pictures[-1]),
            numbers=(*self.numbers, self.numbers[-1]),
            times=times,
        )

    def clip(self, fps: float | None = None) -> Media:
        """The frames as one clip.

        Args:
            fps: its rate; default: the mean by the frames' times, and none where nothing says.
        """
        if fps is None and self.times is not None and len(self.times) > 1 and self.times[-1] > self.times[0]:
            fps = (len(self.times) - 1) / (self.times[-1] - self.times[0])
        return Media(list(self.pictures), "video", fps=fps)


def views(sample: Sample) -> tuple[str, ...]:
    """Names of an episode's views; ("",) for a clip, a picture, or steps with one view without a name."""
    found = views_of(sample.steps)
    return found or (() if sample.shown is None else ("",))


async def frames_of(sample: Sample, rule: str = "all", *, view: str = "", at_most: int = 0) -> Episode:
    """Frames of one view of an episode.

    Args:
        sample: its steps' pictures are taken where it has some, else its video, else its image.
        rule: which; see `trajectories`.
        view: whose; "" where there is one alone.
        at_most: evenly spaced ones of those that the rule picks, where they are more; 0 for no bound.

    Raises:
        ValueError: no such rule.
        Unscorable: "missing" where there is nothing to see, no such view, or several and none was named;
            fewer frames, or none whose time is known, where the rule wants it.
    """
    check_rule(rule)

    def pick(total: int, times: Sequence[float] | None) -> list[int]:
        return _bounded(picked(total, rule, times), at_most)

    episode = await _seen(sample, view, pick)
    _note(episode, rule, view)
    return episode


async def first_of(sample: Sample, *, view: str = "") -> Media:
    """The picture before an episode's first action: of its first step, or the first of its clip, or its
    image.

    Args:
        sample, view: as for `frames_of`.

    Raises:
        Unscorable: as `frames_of`; "missing" where the first step shows nothing.
    """
    episode = await _seen(sample, view, lambda total, times: [0])
    if episode.numbers[0] != 0:
        raise Unscorable(f"step 0 has no observation; step {episode.numbers[0]} is the first", "missing")
    return episode.pictures[0]


class Windows(NamedTuple):
    """Frames that were picked of an episode, each with those round it.

    Args:
        episode: every frame that a window has, once.
        rows: of each window, the places of its frames in `episode`, in the order of the offsets.
        numbers: of the frames that were picked, as `Episode.numbers`.
    """

    episode: Episode
    rows: tuple[tuple[int, ...], ...]
    numbers: tuple[int, ...]


async def windows_of(sample: Sample, rule: str, offsets: Sequence[int], *, view: str = "") -> Windows:
    """Frames of one view with the frames round each; before the first is the first, after the last the last.

    Args:
        sample, rule, view: as for `frames_of`.
        offsets: of a window's frames from the one that is picked, in frames.

    Raises:
        ValueError, Unscorable: as `frames_of`.
    """
    check_rule(rule)
    found: list[list[int]] = []

    def pick(total: int, times: Sequence[float] | None) -> list[int]:
        centres = picked(total, rule, times)
        found[:] = [[min(max(at + one, 0), total - 1) for one in (0, *offsets)] for at in centres]
        return sorted({at for window in found for at in window})

    episode = await _seen(sample, view, pick)
    places = {at: place for place, at in enumerate(sorted({at for window in found for at in window}))}
    rows = [tuple(places[at] for at in window) for window in found]
    _note(episode, rule, view)
    return Windows(episode, tuple(row[1:] for row in rows), tuple(episode.numbers[row[0]] for row in rows))


Pick = Callable[[int, Sequence[float] | None], list[int]]
"""Numbers of the frames to take, rising, of so many that are shown at such times."""


async def _seen(sample: Sample, view: str, pick: Pick) -> Episode:
    if not any(True for _ in seen_in(sample.steps)):
        episode = await aside(partial(_of_clip, sample, view, pick))
        await examined(episode.pictures)
        return episode
    found = _view_of(sample, view)
    times = _times([column(sample.steps, "time")[number] for number, _ in found])
    at = pick(len(found), times)
    medias = [found[place][1] for place in at]
    episode = Episode(
        tuple(await aside(partial(_together, medias))),
        tuple(found[place][0] for place in at),
        None if times is None else tuple(times[place] for place in at),
        len(found),
    )
    await examined(episode.pictures)
    return episode


def _view_of(sample: Sample, view: str) -> list[tuple[int, Media]]:
    """Numbers of steps, and what they have of a view."""
    there = views_of(sample.steps)
    if not view and len(there) > 1:
        raise Unscorable(f"the steps are seen in {', '.join(there)}: name one view", "missing")
    wanted = view or there[0]
    if wanted not in there:
        raise Unscorable(f"no step has a view {view!r}; there is {', '.join(map(repr, there))}", "missing")
    return [(seen.step, seen.media) for seen in seen_in(sample.steps) if seen.view == wanted]


def _of_clip(sample: Sample, view: str, pick: Pick) -> Episode:
    if view:
        raise Unscorable(f"there is no view {view!r}: the episode is one clip without steps", "missing")
    if sample.video is None:
        if sample.image is None:
            raise Unscorable("the sample has no steps with an observation, no video and no image", "missing")
        pick(1, (0.0,))
        return Episode((sample.image,), (0,), (0.0,), 1)
    clip = sample.video

    def rule_of(total: int) -> Sequence[int]:
        times = clip.times if clip.times is not None and len(clip.times) == total else None
        return pick(total, times)

    shots = chosen(clip, rule_of)
    numbers = tuple(shot.number for shot in shots)
    known = clip.times
    times = None if known is None or numbers[-1] >= len(known) else tuple(known[n] for n in numbers)
    if times is None and clip.fps:
        times = tuple(number / clip.fps for number in numbers)
    return Episode(tuple(shots), numbers, times, shots[0].total)


def _bounded(numbers: list[int], at_most: int) -> list[int]:
    if not at_most or len(numbers) <= at_most:
        return numbers
    return [numbers[place] for place in picked(len(numbers), str(at_most))]


def _times(given: Sequence[object]) -> list[float] | None:
    """Times of steps; None where one has none, or they do not rise."""
    times = [float(one) for one in given if isinstance(one, int | float) and not isinstance(one, bool)]
    rising = all(before <= after for before, after in pairwise(times))
    return times if len(times) == len(given) and rising else None


def _together(medias: Sequence[Media]) -> list[Media]:
    """The pictures, those that are frames of one clip as frames that are decoded together."""
    clips: dict[str, tuple[Media, set[int]]] = {}
    keys = [media.source.clip.key if isinstance(media.source, Frame) else "" for media in medias]
    for media, key in zip(medias, keys, strict=True):
        if isinstance(media.source, Frame):
            clips.setdefault(key, (media.source.clip, set()))[1].add(media.source.number)
    for clip, numbers in clips.values():
        if max(numbers) >= clip.frames:
            last = f"the steps show its frame {max(numbers)}"
            raise Unscorable(f"{clip!r} has {clip.frames} frames, and {last}")
    shots = {
        (key, shot.number): shot
        for key, (clip, numbers) in clips.items()
        for shot in chosen(clip, lambda _, numbers=numbers: sorted(numbers))  # type: ignore[misc]
    }
    return [
        shots[key, media.source.number] if isinstance(media.source, Frame) else media
        for media, key in zip(medias, keys, strict=True)
    ]


def _note(episode: Episode, rule: str, view: str) -> None:
    of = f" of the view {view!r}" if view else ""
    noted("frames", "{} by the rule {}, of {}" + of, list(episode.numbers), rule, episode.total)
