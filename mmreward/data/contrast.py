"""Preference pairs from groups of rollouts, by more than the answer (after VerIPO, arXiv:2505.19000):
`mmreward pairs --responses --contrast`.

Training on answers alone lets reasoning and answer drift apart, and DPO on "right against wrong" does not
mend it. Here the chosen rollout is always right, consistent and free of repetition, and every flaw is
contrasted by itself. The values of a rollout come from rewards that have scored it.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from .columns import Columns
from .inputs import Inputs
from .pair_columns import axis_of, content_of, group_of, mapping_of, picked, read_columns
from .pair_folder import refuse_present
from .pairs import BEST_AGAINST_WORST, Candidate, Counts, Pair, Rules, choose_pairs
from .response_pairs import write_response_pairs
from .rows import read_rows

Flaw = Literal["wrong", "inconsistent", "repetitive"]
FLAWS: tuple[Flaw, ...] = get_args(Flaw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A response and its values by rewards, each 0 to 1 and NaN where it failed.

    Args:
        id: names it; must be unique.
        group: of the rollouts that answer one prompt.
        text: the response.
        accuracy: of its answer.
        consistency: of its reasoning with its answer, such as the reward `consistency`.
        repetition: share of it that repeats itself; higher is worse.
    """

    id: str
    group: str
    text: str
    accuracy: float
    consistency: float
    repetition: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Thresholds from which a rollout counts as right, as consistent, and as repetitive.

    Raises:
        ValueError: a limit outside [0, 1].
    """

    right: float = 0.5
    consistent: float = 0.5
    repetitive: float = 0.3

    def __post_init__(self) -> None:
        for name in ("right", "consistent", "repetitive"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it lies in [0, 1]")


USUAL = Limits()


def flaw_of(rollout: Rollout, limits: Limits = USUAL) -> Flaw | None:
    """The first flaw of wrong, inconsistent, repetitive; None for a sound rollout.

    Raises:
        ValueError: a reward failed, so nothing can be said.
    """
    if not is_judged(rollout):
        raise ValueError(f"a reward failed on rollout {rollout.id!r}")
    if rollout.accuracy < limits.right:
        return "wrong"
    if rollout.consistency < limits.consistent:
        return "inconsistent"
    return "repetitive" if rollout.repetition > limits.repetitive else None


def is_judged(rollout: Rollout) -> bool:
    """True where no reward failed on it."""
    return all(map(math.isfinite, (rollout.accuracy, rollout.consistency, rollout.repetition)))


def contrast_pairs(
    rollouts: Iterable[Rollout],
    rules: Rules = BEST_AGAINST_WORST,
    *,
    limits: Limits = USUAL,
    keep_solved: float = 0.0,
) -> dict[Flaw, tuple[list[Pair], Counts]]:
    """For every flaw the pairs of a sound rollout and one with that flaw, in the form of `pairs`.

    Rollouts of one text count once. `Counts.failed` are rollouts on which a reward failed; they take no part.

    Args:
        rollouts: of any number of prompts.
        rules: how pairs are chosen among the sound and the flawed rollouts of a prompt, which score 1 and 0.
        limits: thresholds of the flaws.
        keep_solved: share of the prompts all of whose rollouts are right that is kept. They teach nothing
            about the answer, and consistency can be learned elsewhere; VerIPO keeps 0.2. Which ones does not
            depend on order.

    Raises:
        ValueError: a share outside [0, 1].
    """
    if not 0 <= keep_solved <= 1:
        raise ValueError(f"keep_solved is {keep_solved}; it is a share from 0 to 1")
    groups: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        groups.setdefault(rollout.group, []).append(rollout)
    kept = [
        rollout
        for group, members in groups.items()
        if not _solved(members, limits) or _draw(group) < keep_solved
        for rollout in members
    ]
    return {flaw: choose_pairs(_candidates(kept, flaw, limits), rules) for flaw in FLAWS}


def parse_axes(given: Sequence[str]) -> dict[Flaw, str]:
    """Flaw -> reward, from FLAW=REWARD as on a command line, in the order of `FLAWS`.

    Raises:
        ValueError: another form, no such flaw, or one twice.
    """
    axes = dict(text.partition("=")[::2] for text in given)
    if len(axes) < len(given) or any(flaw not in FLAWS or not axis for flaw, axis in axes.items()):
        raise ValueError(
            f"contrast is FLAW=REWARD, a flaw of {', '.join(FLAWS)} once each, not {', '.join(given)}"
        )
    return {flaw: axes[flaw] for flaw in FLAWS if flaw in axes}


@dataclass(frozen=True, slots=True)
class ContrastSummary:
    """Counts of the pairs of every flaw, of a data set's rows, and of those that are no response to a
    question or on which a reward failed."""

    rows: int
    unusable: int
    failed: int
    counts: Mapping[Flaw, Counts]
    out: Path

    def __str__(self) -> str:
        lines = [f"{self.rows} rows, left out: a reward failed on {self.failed}, unusable {self.unusable}"]
        lines += [f"sound against {flaw}: {counts.pairs} pairs" for flaw, counts in self.counts.items()]
        return "\n".join([*lines, f"-> {self.out}"])


def contrast_file(
    data: Path,
    results: Sequence[Path],
    out: Path,
    axes: Mapping[Flaw, str],
    *,
    rules: Rules = BEST_AGAINST_WORST,
    limits: Limits = USUAL,
    keep_solved: float = 0.0,
    columns: Columns | None = None,
) -> ContrastSummary:
    """Build pairs of responses from stored scores and write them to the folder `out`, see `response_pairs`;
    the column `flaw` says what is wrong with the rejected one.

    Args:
        data: as `mmreward score` reads it; rows need a prompt and a response.
        results: files that `mmreward score` wrote for it.
        out: a new folder.
        axes: flaw -> the reward that shows it, or REWARD/PART, 0 to 1 and higher is better: accuracy,
            consistency, and 1 - repetition, as `repetition` scores it. `wrong` is needed, what is not given
            is not looked at.
        rules: see `contrast_pairs`, as `limits` and `keep_solved`.
        limits: the same.
        keep_solved: the same.
        columns: as the rows were scored by, see `read_rows`; default: what `results` say.

    Raises:
        ValueError: no reward for `wrong`, no such reward, files that cannot be read, no pair at all, or an
            `out` that is not empty.
    """
    refuse_present(out)
    if "wrong" not in axes:
        raise ValueError("contrast needs a reward of the answer: give wrong=REWARD")
    rows = list(read_rows(data, columns if columns is not None else mapping_of(data, results)))
    scored = read_columns(results, Inputs(rows))
    values = {}
    for flaw, axis in axes.items():
        if axis not in scored and (column := axis_of(axis, scored)) is not None:
            scored[axis] = column
        values[flaw] = scored[picked(axis, scored)]
    samples = {
        row.id: row.sample for row in rows if row.sample is not None and content_of(row.sample, "responses")
    }
    rollouts = [
        Rollout(
            id=name,
            group="\n".join(group_of(sample, "responses")),
            text=sample.response or "",
            accuracy=values["wrong"].worth(name),
            consistency=values["inconsistent"].worth(name) if "inconsistent" in values else 1.0,
            repetition=1 - values["repetitive"].worth(name) if "repetitive" in values else 0.0,
        )
        for name, sample in samples.items()
    ]
    found = contrast_pairs(rollouts, rules, limits=limits, keep_solved=keep_solved)
    counts = {flaw: found[flaw][1] for flaw in axes}
    failed = sum(not is_judged(rollout) for rollout in rollouts)
    summary = ContrastSummary(len(rows), len(rows) - len(samples), failed, counts, out)
    pairs = [(flaw, pair) for flaw in axes for pair in found[flaw][0]]
    if not pairs:
        raise ValueError(f"no pairs, so nothing was written:\n{summary}")
    facts = [
        {
            "flaw": flaw,
            "reward": axes[flaw],
            "chosen_score": values[flaw].values[pair.chosen.id],
            "rejected_score": values[flaw].values[pair.rejected.id],
            "chosen_id": pair.chosen.id,
            "rejected_id": pair.rejected.id,
        }
        for flaw, pair in pairs
    ]
    write_response_pairs(
        out, [(samples[pair.chosen.id], samples[pair.rejected.id]) for _, pair in pairs], facts
    )
    return summary


def _solved(members: Sequence[Rollout], limits: Limits) -> bool:
    return all(member.accuracy >= limits.right for member in members if not math.isnan(member.accuracy))


def _candidates(rollouts: Sequence[Rollout], flaw: Flaw, limits: Limits) -> list[Candidate]:
    """Sound rollouts, those with the flaw, and those on which a reward failed, to be counted."""
    found = []
    for rollout in rollouts:
        if not is_judged(rollout):
            score = math.nan
        elif (own := flaw_of(rollout, limits)) in (None, flaw):
            score = float(own is None)
        else:
            continue
        content = hashlib.blake2b(rollout.text.encode("utf-8", "replace"), digest_size=16).hexdigest()
        found.append(Candidate(rollout.id, (rollout.group,), score, content))
    return found


def _draw(group: str) -> float:
    """A number in [0, 1) that only the group's name decides."""
    digest = hashlib.blake2b(group.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
