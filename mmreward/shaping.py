"""Shaping: what a right answer earns on top, or loses, for how it was reached and how long it is.

Pure functions over columns of scores, one per published method; `shaping_steps` makes them options of
`compose:` and `routes:` in YAML.

- Trust (SophiaVL-R1): a thinking reward that counts less where it prefers the reasoning of wrong answers, and
  less and less as training goes on. To see that preference the judge must have graded wrong answers too.
- Bonuses (Video-VER, R1-Reward): for evidence, for consistency; a wrong answer never earns any.
- Hybrids (HARMO): a rule where it can decide and a model where it cannot. Which of the two is a property of
  the question: were it one of the response, a policy could pick the softer judge by writing what the rule
  cannot read.
- Brevity (the cosine reward, Kimi k1.5): short right answers above long ones. What is wrong stays wrong: no
  length makes it worth more than nothing.

A failed accuracy fails the result. What a failed judge does is said by `failed`, as in `compose`: "propagate"
fails the result, "drop" leaves the bonus out. Knows nothing of how accuracy is scored.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

from .compose import Policy, by_group, check_policy
from .errors import Unscorable
from .types import Score

# --- What is read off a response and its row ---

LengthUnit = Literal["tokens", "words", "characters"]
Curve = Literal["cosine", "linear"]


def length_of(text: str, meta: Mapping[str, Any], unit: LengthUnit) -> int:
    """Length of a response; tokens are counted by the trainer, which has the tokenizer, in `meta["tokens"]`.

    Raises:
        Unscorable: "missing" when tokens are wanted and not given, or given as no whole number of at least 0.
    """
    if unit == "words":
        return len(text.split())
    if unit == "characters":
        return len(text)
    tokens = meta.get("tokens")
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
        raise Unscorable(
            f'meta["tokens"] is {tokens!r}: give the number of tokens of the response, or count its words',
            "missing",
        )
    return tokens


def falling(length: float, limit: float, span: float, curve: Curve = "cosine") -> float:
    """1 up to limit - span, 0 from limit on, and falling in between: half a cosine wave, or a straight line.

    Clamped, so a response beyond the limit gains nothing back. With span = limit and "cosine" it is the
    cosine of arXiv:2502.03373 on [0, 1]; with "linear" it is DAPO's soft overlong punishment
    (arXiv:2503.14476) plus 1, span being its cache.

    >>> [falling(length, limit=100, span=40, curve="linear") for length in (60, 80, 120)]
    [1.0, 0.5, 0.0]
    """
    over = min(max((length - limit + span) / span, 0.0), 1.0)
    return 1 - over if curve == "linear" else (1 + math.cos(math.pi * over)) / 2


def progress_of(meta: Mapping[str, Any]) -> float:
    """Progress of training, 0 to 1: `meta["progress"]`, else `meta["step"] / meta["total_steps"]`, cut at 1.

    Raises:
        Unscorable: "missing" when there is neither, since a guess would train at the wrong threshold; "error"
            when they are no such numbers.
    """
    if meta.get("progress") is not None:
        return _share(meta["progress"], 1.0, "progress")
    if meta.get("step") is None or meta.get("total_steps") is None:
        raise Unscorable(
            'the schedule needs meta["progress"] in [0, 1], or meta["step"] and meta["total_steps"]',
            "missing",
        )
    return _share(meta["step"], meta["total_steps"], "step / total_steps")


def _share(part: Any, whole: Any, name: str) -> float:
    try:
        share = float(part) / float(whole)
    except (TypeError, ValueError, ZeroDivisionError):
        share = math.nan
    if not 0 <= share < math.inf:
        raise Unscorable(f"{name} is {part!r} of {whole!r}, not a share from 0 to 1")
    return min(share, 1.0)


# --- Trust ---

ALPHA = 0.3
"""The paper's weight of the thinking reward at the first step."""


def trust_weight(right: Sequence[float], wrong: Sequence[float]) -> float:
    """exp(min(0, mean thinking of right answers - mean thinking of wrong ones)): (0, 1] for grades of 0 to 1.

    1 where one side is empty: then there is nothing to compare.

    >>> round(trust_weight(right=[0.2, 0.4], wrong=[0.9]), 3)
    0.549
    """
    if not right or not wrong:
        return 1.0
    return math.exp(min(0.0, fmean(right) - fmean(wrong)))


def annealed(progress: float, alpha: float = ALPHA) -> float:
    """alpha * exp(-progress): from alpha at the first step down to alpha / e at the last.

    >>> [round(annealed(progress), 2) for progress in (0, 0.5, 1)]
    [0.3, 0.18, 0.11]

    Raises:
        ValueError: a progress outside [0, 1].
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is {progress}; it lies in [0, 1]")
    return alpha * math.exp(-progress)


def trusted(
    accuracy: Sequence[Score],
    thinking: Sequence[Score],
    groups: Sequence[str | None],
    progress: Sequence[float],
    *,
    alpha: float = ALPHA,
    right: float = 0.5,
) -> list[Score]:
    """accuracy + trust * alpha * exp(-progress) * thinking, with one trust per group (Trust-GRPO of
    SophiaVL-R1, arXiv:2505.17018).

    Range: 0 to 1 + alpha for both rewards in [0, 1]. `parts` holds the accuracy, the summand and the trust.
    Where one of the two failed the sum fails the same way, and neither enters the trust. The paper's code
    does not judge wrong answers, and counts them as a thinking reward of 0; its trust is 1 whatever the judge
    thinks of them.

    >>> right, wrong = Score(1.0), Score(0.0)
    >>> paid = trusted([right, wrong], [Score(0.5), Score(1.0)], ["a", "a"], [0.0, 0.0])
    >>> [round(one.value, 3) for one in paid]
    [1.091, 0.182]

    Args:
        accuracy: of every sample.
        thinking: scores of the reward `thinking`, of right and wrong responses alike.
        groups: the GRPO group of each.
        progress: how far training is, 0 to 1, of each.
        alpha: 0.3 in the paper.
        right: accuracies from here up count as right; 0.5 in the paper.

    Raises:
        ValueError: columns of unequal length, or as `annealed` and `compose.by_group`.
    """
    if not len(accuracy) == len(thinking) == len(progress):
        raise ValueError(
            f"{len(accuracy)} accuracies, {len(thinking)} thinking rewards, {len(progress)} of the progress"
        )
    trust = {}
    for group, rows in by_group(groups, len(accuracy)).items():
        judged = [row for row in rows if accuracy[row].ok and thinking[row].ok]
        good = [thinking[row].value for row in judged if accuracy[row].value >= right]
        bad = [thinking[row].value for row in judged if accuracy[row].value < right]
        trust[group] = trust_weight(good, bad)
    return [
        _with_thinking(given, graded, trust[str(group)], annealed(done, alpha))
        for given, graded, group, done in zip(accuracy, thinking, groups, progress, strict=True)
    ]


def _with_thinking(accuracy: Score, thinking: Score, trust: float, scale: float) -> Score:
    for name, score in (("accuracy", accuracy), ("thinking", thinking)):
        if not score.ok:
            return _failed(name, score)
    extra = trust * scale * thinking.value
    return Score(accuracy.value + extra, {"accuracy": accuracy.value, "thinking": extra, "trust": trust})


# --- Bonuses ---


def evidence_bonus(
    accuracy: Sequence[Score],
    evidence: Sequence[Score],
    *,
    bonus: float = 0.3,
    right: float = 0.5,
    grounded: float = 0.5,
    failed: Policy = "propagate",
) -> list[Score]:
    """accuracy + bonus where the answer is right and grounded, else accuracy (Video-VER, arXiv:2510.06077).

    Missing evidence is not punished. Range: that of the accuracy, with the bonus on top.

    >>> [one.value for one in evidence_bonus([Score(1.0), Score(0.0)], [Score(0.9), Score(0.9)])]
    [1.3, 0.0]

    Args:
        accuracy: of every sample; from `right` up it counts as right.
        evidence: scores of the reward `evidence`; from `grounded` up the reasoning is grounded.
        bonus: 0.3 in the paper.
        right, grounded: the thresholds.
        failed: what a failed evidence score does to a right answer; to a wrong one it makes no difference.

    Raises:
        ValueError: columns of unequal length, or an unknown policy.
    """
    check_policy(failed)
    results = []
    for given, shown in zip(accuracy, evidence, strict=True):
        matters = given.ok and given.value >= right
        if not given.ok:
            results.append(_failed("accuracy", given))
        elif matters and not shown.ok and failed == "propagate":
            results.append(_failed("evidence", shown))
        else:
            extra = bonus if matters and shown.ok and shown.value >= grounded else 0.0
            results.append(Score(given.value + extra, {"accuracy": given.value, "evidence": extra}))
    return results


def consistent(
    accuracy: Sequence[Score],
    consistency: Sequence[Score],
    *,
    weight: float = 0.5,
    failed: Policy = "drop",
) -> list[Score]:
    """accuracy * (1 + weight * c), where c is 1 for consistent, -1 for not, 0 for a judge that failed.

    R1-Reward's form (arXiv:2505.02835): the range is 0 to 1 + weight for an accuracy of 0 to 1.

    >>> [one.value for one in consistent([Score(1.0), Score(1.0)], [Score(0.8), Score(0.1)])]
    [1.5, 0.5]

    Args:
        accuracy: of every sample.
        consistency: scores of the reward `consistency`; above 0.5 is consistent.
        weight: 0.5 in the paper; in [0, 1], so that being right never costs.
        failed: "drop" is c = 0.

    Raises:
        ValueError: columns of unequal length, an unknown policy, or a weight outside [0, 1].
    """
    check_policy(failed)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight is {weight}; it lies in [0, 1]")
    results = []
    for given, judged in zip(accuracy, consistency, strict=True):
        if not given.ok:
            results.append(_failed("accuracy", given))
        elif not judged.ok and failed == "propagate":
            results.append(_failed("consistency", judged))
        else:
            sign = 0.0 if not judged.ok else 1.0 if judged.value > 0.5 else -1.0
            factor = 1 + weight * sign
            results.append(Score(given.value * factor, {"accuracy": given.value, "consistency": sign}))
    return results


# --- Hybrids ---


def hybrid(
    rule: Sequence[Score], model: Sequence[Score], confidence: Sequence[float], *, sure: str = ""
) -> list[Score]:
    """confidence * rule + (1 - confidence) * model, per sample; both in the same range, which it keeps.

    A score of weight 0 is not looked at, so its failure makes no difference; any other failure fails the
    outcome. `parts` holds both summands and the confidence.

    >>> hybrid([Score(1.0)], [Score(0.5)], [0.5])[0].value
    0.75

    Args:
        rule: of a verifier.
        model: of a reward model or judge.
        confidence: how far the rule can decide this question, from 0 (open-ended) to 1 (verifiable).
        sure: the model's part that says how sure it is of this score, 0 to 1, such as `confidence` of a judge
            that votes; its weight is times that, and the two weights are put to 1. A question that the rule
            cannot decide at all, and of which the model is not sure at all, is "na".

    Raises:
        ValueError: columns of unequal length, or a confidence outside [0, 1].
    """
    results = []
    for row, (ruled, judged, share) in enumerate(zip(rule, model, confidence, strict=True)):
        if not 0 <= share <= 1:
            raise ValueError(f"the confidence of sample {row} is {share}; it lies in [0, 1]")
        trust = _sureness(judged, sure) if sure and share < 1 else 1.0
        if isinstance(trust, Score):
            results.append(trust)
            continue
        whole = share + (1 - share) * trust
        if whole == 0:
            results.append(Score.failed("na", "the rule cannot decide it, and the model is not sure at all"))
            continue
        share = share / whole
        needed = {"rule": (ruled, share), "model": (judged, 1 - share)}
        broken = {name: score for name, (score, weight) in needed.items() if weight and not score.ok}
        if broken:
            name, score = next(iter(broken.items()))
            results.append(_failed(name, score))
            continue
        parts = {name: weight * score.value if weight else 0.0 for name, (score, weight) in needed.items()}
        results.append(Score(sum(parts.values()), {**parts, "confidence": share}))
    return results


def _sureness(judged: Score, part: str) -> float | Score:
    """How sure the model is; a failure where it does not say so. A failed model is left to its weight."""
    if not judged.ok:
        return 1.0
    said = judged.parts.get(part)
    if said is None or not 0 <= said <= 1:
        there = ", ".join(judged.parts) or "none"
        return Score.failed("missing", f"model: the part {part!r} is {said}, not 0 to 1; there are {there}")
    return said


# --- Brevity ---


def length_scaled(
    accuracy: Sequence[Score],
    lengths: Sequence[float],
    *,
    limit: float,
    right: tuple[float, float] = (1.0, 0.5),
    wrong: tuple[float, float] = (-0.5, 0.0),
    threshold: float = 0.5,
) -> list[Score]:
    """The cosine length reward (arXiv:2502.03373): short right answers above long ones, long wrong ones above
    short.

    A right answer goes from right[0] at length 0 to right[1] at the limit and beyond, a wrong one from
    wrong[0] to wrong[1]. A failed score stays failed. `parts` are the accuracy, the length and the cosine
    from 1 to 0.

    >>> [one.value for one in length_scaled([Score(1.0), Score(1.0)], [0, 900], limit=500)]
    [1.0, 0.5]

    Args:
        accuracy: one score per response; from `threshold` on it is right.
        lengths: of the responses, in the unit of `limit`.
        limit: the length from which nothing changes any more.
        right: worth of an empty right answer, and of one at the limit.
        wrong: the same of a wrong answer; neither above 0, nor above what a right one is worth.
        threshold: the accuracy of a right answer.

    Raises:
        ValueError: columns of unequal length, a limit that is not positive, or a wrong answer that would be
            worth more than 0 or than a right one.
    """
    if len(accuracy) != len(lengths):
        raise ValueError(f"{len(accuracy)} scores and {len(lengths)} lengths")
    if limit <= 0:
        raise ValueError(f"limit is {limit}, and a length is positive")
    if max(wrong) > min(0.0, *right):
        raise ValueError(f"wrong answers, worth {wrong}, may not exceed 0 nor right ones, worth {right}")
    return [
        _scaled(score, length, falling(length, limit, limit), right if score.value >= threshold else wrong)
        for score, length in zip(accuracy, lengths, strict=True)
    ]


def _scaled(score: Score, length: float, kept: float, worth: tuple[float, float]) -> Score:
    if not score.ok:
        return score
    short, long = worth
    parts = {"accuracy": score.value, "length": float(length), "cosine": kept}
    return Score(long + (short - long) * kept, parts, note=score.note)


def length_shares(
    lengths: Sequence[float], accuracy: Sequence[Score], groups: Sequence[str | None], *, right: float = 0.5
) -> list[float]:
    """Lengths compared within a group: from 0.5 for the shortest response to -0.5 for the longest.

    It is 0.5 - (length - shortest) / (longest - shortest), and at most 0 for a wrong answer, so that short
    and wrong earns nothing (Kimi k1.5, arXiv:2501.12599). 0 where all lengths are equal, and for a failed
    accuracy. Add it with a weight below the worth of being right.

    >>> length_shares([10, 20, 15], [Score(1.0), Score(1.0), Score(0.0)], ["a", "a", "a"])
    [0.5, -0.5, 0.0]

    Args:
        lengths: in tokens or characters.
        accuracy: of every response.
        groups: the GRPO group of each.
        right: accuracies from here up count as right.

    Raises:
        ValueError: columns of unequal length, a sample without a group, or a length that is negative or no
            number.
    """
    for row, length in enumerate(lengths):
        if not (math.isfinite(length) and length >= 0):
            raise ValueError(f"the length of sample {row} is {length}")
    members = by_group(groups, len(lengths))
    ends = {
        group: (min(lengths[row] for row in rows), max(lengths[row] for row in rows))
        for group, rows in members.items()
    }
    shares = []
    for length, given, group in zip(lengths, accuracy, groups, strict=True):
        low, high = ends[str(group)]
        share = 0.5 - (length - low) / (high - low) if high > low and given.ok else 0.0
        shares.append(share if given.ok and given.value >= right else min(0.0, share))
    return shares


def _failed(name: str, score: Score) -> Score:
    return Score.failed(score.status, f"{name}: {score.note}", score.parts)
