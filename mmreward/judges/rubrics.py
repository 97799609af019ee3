"""Rubrics learned by contrast from labelled pairs (CDRRM, arXiv:2603.08035), and their filter.

A model is told which of two pictures is better, says how they differ, and makes rubrics of that: what a
better picture has, to be seen in a picture alone. A rubric is kept where it separates pairs that it was not
written from: the judge's probability of yes that it holds is larger for the better picture, in more than half
of them at 95 %. How far the kept ones separate together is said of a third part of the pairs, which decided
nothing. Parts have no prompt in common, so that a rubric cannot name what one request asks for and pass.

The file is what `critique` and `preference` read with `rubric=FILE`.
"""

import hashlib
import math
from asyncio import gather
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import Unscorable
from ..files import whole_file
from ..media import Media
from ..models.vlms.answers import VLM, Writer
from ..monitor.intervals import Array, Interval, Measured, mean_of
from ..rewards.judged.modes import holds_of
from ..rewards.judged.pair_modes import read_rubrics
from .comparison import Comparison

QUESTION = """Two pictures were made for the request: {prompt}
Picture {better} is better. Say how they differ, one line for each respect. Then write one to five rubrics \
made of these differences: each one sentence about a picture, without "picture 1" or "picture 2", that holds \
for the better one and can be seen in a picture alone, for this request and for others.
Contrast: <in one respect, picture 1 and picture 2>
Rubric: <one rubric>"""
PLACES = ("picture 1", "picture 2", "image 1", "image 2", "first picture", "second picture", "the other")
"""Words of a rubric that cannot be seen in a picture alone."""
LEAST = 0.5


class Parts(NamedTuple):
    """Pairs that rubrics are written from, that filter them, and that only say how good they are."""

    written: Sequence[Comparison]
    held_out: Sequence[Comparison]
    tested: Sequence[Comparison]


class Learned(NamedTuple):
    """A rubric and how far it separates held-out pairs: the share in which the better picture has more of it.

    A pair with equal probabilities is half, one that could not be judged none.
    """

    text: str
    separates: Measured

    @property
    def kept(self) -> bool:
        """True where it separates more than half of the pairs at 95 %."""
        found = self.separates.interval
        return found is not None and found.low > LEAST


@dataclass(frozen=True)
class Rubrics:
    """What was learned.

    Args:
        kept: the best ones, the best first.
        refused: of those that do not separate, or are more than are wanted.
        tested: share of right orders by the mean of the kept ones, on pairs that decided nothing; None
            without a rubric.
        failures: writings without a rubric that counts, by reason.
    """

    kept: tuple[Learned, ...]
    refused: tuple[Learned, ...]
    tested: Measured | None
    failures: Mapping[str, int] = field(default_factory=dict)


def parted(compared: Sequence[Comparison], held_out: float, tested: float) -> Parts:
    """Pairs in three parts by their requests, each about as large as it is to be.

    Raises:
        ValueError: shares that leave nothing to write from, or a part without a pair.
    """
    if not (held_out > 0 and tested > 0 and held_out + tested < 1):
        raise ValueError(
            f"held out {held_out:g} and tested {tested:g} are shares above 0 whose sum is below 1"
        )
    requests = sorted({one.request for one in compared}, key=_shuffled)
    ends = [round(len(requests) * share) for share in (tested, tested + held_out)]
    place = {request: sum(row >= end for end in ends) for row, request in enumerate(requests)}
    parts = [[one for one in compared if place[one.request] == number] for number in range(3)]
    if not all(parts):
        raise ValueError(
            f"{len(compared)} pairs of {len(requests)} prompts cannot be parted in three: give more prompts"
        )
    return Parts(parts[2], parts[1], parts[0])


def _shuffled(request: str) -> bytes:
    return hashlib.blake2b(request.encode("utf-8", "replace"), digest_size=8).digest()


async def learn_rubrics(
    writer: Writer,
    judge: VLM,
    parts: Parts,
    *,
    most: int = 5,
    temperature: float = 0.0,
    max_tokens: int = 1024,
    seed: int = 0,
) -> Rubrics:
    """Rubrics of the first part, filtered by the second, and tested on the third. Runs on the engine's loop.

    Args:
        writer: writes rubrics, and is told the label.
        judge: says how probably one holds.
        parts: the labelled pairs.
        most: rubrics to keep.
        temperature, max_tokens, seed: of the writer.

    Raises:
        ValueError: the writer wrote no rubric at all; names its commonest failure.
    """
    texts, failures = await _written(writer, parts.written, temperature, max_tokens, seed)
    if not texts:
        reason = max(failures, key=lambda one: failures[one], default="it was asked of no pair")
        raise ValueError(f"no rubric was written from {len(parts.written)} pairs: {reason}")
    margins = await _margins(judge, texts, parts.held_out)
    units = [one.request for one in parts.held_out]
    learned = [Learned(text, _separating(row, units)) for text, row in zip(texts, margins, strict=True)]
    learned.sort(key=lambda one: -one.separates.mean)  # stable: of equal ones, the first that was written
    kept = [one for one in learned if one.kept][:most]
    tested = None
    if kept:
        together = np.mean(await _margins(judge, [one.text for one in kept], parts.tested), axis=0)
        tested = _separating(together, [one.request for one in parts.tested])
    return Rubrics(tuple(kept), tuple(one for one in learned if one not in kept), tested, failures)


async def _written(
    writer: Writer, compared: Sequence[Comparison], temperature: float, max_tokens: int, seed: int
) -> tuple[list[str], Counter[str]]:
    """Different rubrics in the order of the pairs, and what failed."""

    async def one(comparison: Comparison) -> list[str]:
        asked = QUESTION.replace("{better}", comparison.better).replace("{prompt}", comparison.request)
        said = await writer.write(
            comparison.pictures, asked, max_tokens=max_tokens, temperature=temperature, seed=seed
        )
        if not said.finished:
            raise Unscorable(f"cut off after {said.tokens} tokens", "unparsable")
        return read_rubrics(said.text)

    found: dict[str, str] = {}
    failures: Counter[str] = Counter()
    for said in await gather(*map(one, compared), return_exceptions=True):
        if isinstance(said, Unscorable):
            failures[str(said)] += 1
        elif isinstance(said, BaseException):
            raise said
        else:
            for text in said:
                if any(words in text.casefold() for words in PLACES):
                    failures[f"a rubric compares two pictures: {text}"] += 1
                else:
                    found.setdefault(" ".join(text.casefold().split()).rstrip("."), text)
    return list(found.values()), failures


async def _margins(judge: VLM, rubrics: Sequence[str], compared: Sequence[Comparison]) -> Array:
    """By rubric and pair, how much likelier it holds for the better picture; NaN where nobody can say."""

    async def holds(comparison: Comparison, picture: Media, rubric: str) -> float:
        try:
            return await holds_of(judge, picture, comparison.request, rubric)
        except Unscorable:
            return math.nan

    async def margin(rubric: str, comparison: Comparison) -> float:
        first, second = await gather(*(holds(comparison, one, rubric) for one in comparison.pictures))
        return first - second if comparison.better == "1" else second - first

    flat = await gather(*(margin(rubric, one) for rubric in rubrics for one in compared))
    return np.array(flat, dtype=np.float64).reshape(len(rubrics), len(compared))


def _separating(margins: Iterable[float], units: Sequence[str]) -> Measured:
    """Share of positive margins over prompts; a margin of 0 is half, none at all is wrong."""
    right = [0.0 if math.isnan(one) else 0.5 if one == 0 else float(one > 0) for one in margins]
    return mean_of(right, units)


# --- file -------------------------------------------------------------------------------------------------


def rubric_file(found: Rubrics, judge: str, pairs: str) -> str:
    """YAML that `critique` and `preference` read.

    Raises:
        ValueError: no rubric was kept.
    """
    if not found.kept:
        raise ValueError(
            f"none of {len(found.refused)} rubrics separates the held-out pairs; a stronger judge or more "
            "pairs may"
        )
    import yaml

    rows = [
        {
            "rubric": one.text,
            "separates": round(one.separates.mean, 4),
            "interval": _ends(one.separates.interval),
            "pairs": one.separates.n,
        }
        for one in found.kept
    ]
    told: dict[str, object] = {"judge": judge, "pairs": pairs}
    if found.tested is not None:
        told["tested"] = {
            "right": round(found.tested.mean, 4),
            "interval": _ends(found.tested.interval),
            "pairs": found.tested.n,
        }
    body = yaml.safe_dump({**told, "rubrics": rows}, sort_keys=False, allow_unicode=True, width=100)
    return (
        "# Rubrics that `mmreward judge rubrics` learned; read with critique or preference, rubric=FILE.\n"
        + body
    )


def _ends(interval: Interval | None) -> list[float]:
    return [] if interval is None else [round(end, 4) for end in interval]


def write_rubrics(found: Rubrics, judge: str, pairs: str, out: Path) -> None:
    """Write the file, whole or not at all; raises as `rubric_file`."""
    text = rubric_file(found, judge, pairs)
    with whole_file(out) as part:
        part.write_text(text, encoding="utf-8")
