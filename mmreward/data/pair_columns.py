"""Columns of scores that preference pairs are made of: read from files, or judged now.

A reward of one sample gives each row a score and, where it says so, how sure it is of it. A judge of pairs
compares every two rows of a group in both orders. Knows nothing of which pairs are taken.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

from ..engine.engine import Engine
from ..errors import Unscorable
from ..models.vlms.answers import shown_to
from ..registry import Reward
from ..trajectories import column, with_media
from ..types import Sample, Score
from .columns import Columns
from .inputs import Inputs
from .results import TOTAL, about, read

Halves = Literal["media", "responses", "actions"]
"""What is compared: pictures and clips, responses to one question, or chunks of actions from one moment."""
LARGEST = 64
"""Rows of a group that a judge of pairs compares at most: 2016 pairs, in both orders."""


class Direct(NamedTuple):
    """Comparison of two samples by a judge of pairs, in both orders: by how much the first is better, from -1
    to 1 (NaN where it failed), and what the judge says of it."""

    lead: float
    parts: Mapping[str, float] = {}

    @property
    def turned(self) -> "Direct":
        return Direct(-self.lead, self.parts)


class Drawn(NamedTuple):
    """A row that may become half of a pair."""

    id: str
    sample: Sample
    group: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """The scores of a reward by row, NaN where they failed; `sign` is -1 where lower is better."""

    sign: int
    values: dict[str, float] = field(default_factory=dict)
    parts: dict[str, Mapping[str, float]] = field(default_factory=dict)
    """What the judge says of its scores, by row."""
    directs: Mapping[tuple[str, str], Direct] | None = None
    """Comparisons, of a judge of pairs."""
    stale: set[str] = field(default_factory=set)
    """Rows that have changed since they were scored."""

    @property
    def changed(self) -> int:
        return len(self.stale - self.values.keys())

    def worth(self, row: str) -> float:
        """Higher is better; NaN also where there is no score."""
        return self.sign * self.values.get(row, math.nan)


# --- from files -------------------------------------------------------------------------------------------


def mapping_of(data: Path, paths: Iterable[Path]) -> Columns:
    """The mapping of columns that the scores were made with; empty where nothing says."""
    for path in paths:
        for name, columns in (about(path).get("columns", {}) if path.is_file() else {}).items():
            if (path.parent / name).resolve() == data.resolve():
                return dict(columns)
    return {}


def read_columns(paths: Iterable[Path], inputs: Inputs) -> dict[str, Column]:
    """The scores of every reward that are of the rows as they are now.

    Parquet says whether lower is better; in JSONL higher is.
    """
    columns: dict[str, Column] = {}
    for path in paths:
        facts = about(path).get("rewards", {}) if path.is_file() else {}
        stored = read(path)
        current = {id(result) for result in inputs.sort(stored).kept}
        here: set[tuple[str, str]] = set()
        for result in stored:
            rises = facts.get(result.reward, {}).get("higher_is_better", True)
            column = columns.setdefault(result.reward, Column(1 if rises else -1))
            if id(result) not in current:
                if result.id in inputs:
                    column.stale.add(result.id)
                continue
            if result.id in column.values and result.key not in here:
                raise ValueError(f"{path}: another file has a score of {result.reward} for {result.id!r} too")
            here.add(result.key)
            column.values[result.id] = result.score.value
            column.parts[result.id] = result.score.parts
    return columns


def picked(reward: str | None, columns: Mapping[str, Column]) -> str:
    there = ", ".join(columns) or "none"
    if reward is not None:
        if reward not in columns:
            raise ValueError(f"no scores of {reward!r}; the rewards are {there}")
        return reward
    if TOTAL in columns:
        return TOTAL
    if len(columns) != 1:
        raise ValueError(f"say by which reward, with --reward; there are {there}")
    return next(iter(columns))


def others_of(columns: Mapping[str, Column], name: str) -> str:
    return ", ".join(other for other in columns if other != name) or "none"


def content_of(sample: Sample | None, halves: Halves = "media") -> str:
    """Hash of what is compared; empty where a sample cannot be part of a pair."""
    if halves == "responses":
        return _response_of(sample)
    if halves == "actions":
        return _actions_of(sample)
    if sample is None or sample.shown is None or not sample.prompt.strip():
        return ""
    try:
        _ = sample.shown.size, [media.size for media in sample.inputs]
        return sample.shown.key
    except Unscorable:
        return ""


def _response_of(sample: Sample | None) -> str:
    if sample is None or not (sample.response or "").strip() or not sample.prompt.strip():
        return ""
    try:
        _ = [media.size for media in shown_to(sample)]
    except Unscorable:
        return ""
    return _hash(str(sample.response))


def _actions_of(sample: Sample | None) -> str:
    actions = [] if sample is None else column(sample.steps, "action")
    if sample is None or not actions or None in actions or not sample.prompt.strip():
        return ""
    try:
        _ = [media.size for _, media in sample.media()]
    except Unscorable:
        return ""
    return _told(actions)


def group_of(sample: Sample, halves: Halves = "media") -> tuple[str, ...]:
    """What the samples that meet have in common: group, prompt and given pictures; of responses also the
    pictures that they are about, and what was done before; of actions what was seen before, and the state."""
    named = sample.prompt if sample.group is None else sample.group
    if halves == "responses":
        before = (_told(sample.steps),) if sample.steps else ()
        return (named, sample.prompt, "text", *(media.key for media in shown_to(sample)), *before)
    given = [media.key for media in sample.inputs]
    if halves == "actions":
        image = () if sample.image is None else (sample.image.key,)
        return (named, sample.prompt, "actions", _told(_moment_of(sample)), *image, *given)
    kind = sample.shown.kind if sample.shown is not None else ""
    return (named, sample.prompt, kind, *given)


def _moment_of(sample: Sample) -> list[Any]:
    """The beginning of a candidate: what is seen before its first action, and the state."""
    return [{key: one for key, one in sample.steps[0].items() if key in ("observation", "state")}]


def _told(steps: Sequence[Any]) -> str:
    """Hash of steps; of a picture in them its own."""
    bare = with_media(steps, lambda media, _: media.key)
    return _hash(json.dumps(bare, sort_keys=True, default=str))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def axis_of(name: str, columns: Mapping[str, Column]) -> Column | None:
    """Column of one part of a reward, REWARD/PART: a dimension that pairs are made by; None for other names.

    Raises:
        ValueError: no score of the reward has such a part.
    """
    reward, slash, part = name.partition("/")
    if not slash or reward not in columns:
        return None
    whole = columns[reward]
    values = {row: parts[part] for row, parts in whole.parts.items() if part in parts}
    if not values:
        there = sorted({each for parts in whole.parts.values() for each in parts})
        raise ValueError(
            f"no score of {reward} has the part {part!r}; there are {', '.join(there) or 'none'}"
        )
    return Column(whole.sign, values, whole.parts, stale=whole.stale)


# --- judged now -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judging:
    """Rewards that judge rows now.

    Args:
        engine: runs them.
        rewards: by name, of one sample, of two, or of a group.
        timeout: seconds one score may take.
    """

    engine: Engine
    rewards: Mapping[str, Reward]
    timeout: float | None = None

    def judged(self, rows: Sequence[Drawn]) -> dict[str, Column]:
        """A column of each reward.

        Raises:
            ValueError: a group that is too large for a judge of pairs, or a reward that works for no row.
        """
        return {
            name: self._compared(name, reward, rows)
            if reward.info.arity == "pair"
            else self._scored(name, reward, rows)
            for name, reward in self.rewards.items()
        }

    def _scored(self, name: str, reward: Reward, rows: Sequence[Drawn]) -> Column:
        numbers = {
            group: str(number) for number, group in enumerate(dict.fromkeys(row.group for row in rows))
        }
        samples = [replace(row.sample, group=numbers[row.group]) for row in rows]
        scores = self.engine.score(samples, {name: reward}, timeout=self.timeout)[name]
        return Column(
            1 if reward.info.higher_is_better else -1,
            {row.id: score.value for row, score in zip(rows, scores, strict=True)},
            {row.id: score.parts for row, score in zip(rows, scores, strict=True)},
        )

    def _compared(self, name: str, reward: Reward, rows: Sequence[Drawn]) -> Column:
        groups: dict[tuple[str, ...], list[Drawn]] = {}
        for row in rows:
            groups.setdefault(row.group, []).append(row)
        if large := next((group for group, members in groups.items() if len(members) > LARGEST), None):
            raise ValueError(
                f"group {large[0]!r} has {len(groups[large])} rows; {name} compares {LARGEST} at most"
            )
        pairs = [pair for members in groups.values() for pair in combinations(members, 2)]
        # Each pair is a group of its own: the engine asks about it in both orders, and the two scores are
        # those of this comparison alone.
        samples = [
            replace(row.sample, group=str(number)) for number, pair in enumerate(pairs) for row in pair
        ]
        scores = self.engine.score(samples, {name: reward}, timeout=self.timeout)[name] if samples else []
        directs = {
            (one.id, other.id): _direct_of(score, reward)
            for (one, other), score in zip(pairs, scores[::2], strict=True)
        }
        return Column(1, _shares(rows, directs), directs=directs)


def _direct_of(score: Score, reward: Reward) -> Direct:
    low, high = reward.info.range
    sign = 1 if reward.info.higher_is_better else -1
    return Direct(sign * (2 * (score.value - low) / (high - low) - 1), score.parts)


def _shares(rows: Iterable[Drawn], directs: Mapping[tuple[str, str], Direct]) -> dict[str, float]:
    """Share of the others of its group that each row leads; NaN where no comparison of it could be read."""
    won: dict[str, list[float]] = {row.id: [] for row in rows}
    for (one, other), direct in directs.items():
        if math.isfinite(direct.lead):
            won[one].append((1 + direct.lead) / 2)
            won[other].append((1 - direct.lead) / 2)
    return {row: fmean(shares) if shares else math.nan for row, shares in won.items()}
