"""Responses that models wrote for real users, with their right values: paid where clear, refused where wrong.

`tests/cases/verifiers.jsonl` has a reward, its arguments, a sample, the right value (a number, a range, or a
status), why, and where the case is from. `python tests/rewards/test_cases.py [REWARD]` prints every
disagreement.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mmreward import Engine, Sample, Score, load

CASES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "cases" / "verifiers.jsonl").read_text("utf-8").splitlines()
]
REWARDS = sorted({case["reward"] for case in CASES})
PAID = 0.97
"""Share of right answers that must be paid, by reward; wrong ones are refused without exception."""
ARGUED: dict[str, str] = {}
"""Responses whose stored value we disagree with -> why."""


def scored(reward: str) -> list[tuple[dict[str, Any], Score]]:
    """Every case of a reward with the score it gets."""
    cases = [case for case in CASES if case["reward"] == reward]
    by_args: dict[str, list[dict[str, Any]]] = {}
    for case in cases:
        by_args.setdefault(json.dumps(case["args"], sort_keys=True), []).append(case)
    found = []
    with Engine("cpu") as engine:
        for args, group in by_args.items():
            samples = [Sample(**{**case["sample"], "id": str(row)}) for row, case in enumerate(group)]
            made = load(reward, **json.loads(args))
            found += list(zip(group, engine.score(samples, made)[reward], strict=True))
    return found


def agrees(case: dict[str, Any], score: Score) -> bool:
    """Within 0.02 of a number, within a range, or of the status."""
    wanted = case["expected_value"]
    if isinstance(wanted, str):
        return score.status == wanted
    if isinstance(wanted, list):
        return score.ok and wanted[0] - 1e-6 <= score.value <= wanted[1] + 1e-6
    return score.ok and abs(score.value - wanted) <= 0.02


def kind_of(case: dict[str, Any]) -> str:
    wanted = case["expected_value"]
    if isinstance(wanted, str | list):
        return "range"
    return "right" if wanted > 0.5 else "wrong"


@pytest.mark.parametrize("reward", REWARDS)
def test_right_answers_are_paid_and_wrong_ones_are_not(reward):
    tally: Counter[tuple[str, bool]] = Counter()
    lost = []
    for case, score in scored(reward):
        good = agrees(case, score) or case["sample"]["response"] in ARGUED
        tally[kind_of(case), good] += 1
        if not good:
            lost.append((kind_of(case), case["sample"]["response"], case["sample"]["target"], str(score)))
    right = tally["right", True] + tally["right", False]
    assert tally["right", True] >= PAID * right, lost
    assert not [row for row in lost if row[0] != "right"], lost


if __name__ == "__main__":
    for name in sys.argv[1:] or REWARDS:
        results = scored(name)
        bad = [(case, score) for case, score in results if not agrees(case, score)]
        for case, score in bad:
            sample = json.dumps(case["sample"], ensure_ascii=False)[:300]
            due = f"due {case['expected_value']}, got {score.value} {score.status} {score.note[:100]!r}"
            print(f"{name} {case['args']} {sample}\n    {due} ({case['why']}; {case['kind']})")
        totals = Counter(kind_of(case) for case, _ in results)
        misses = Counter(kind_of(case) for case, _ in bad)
        shares = (f"{kind} {totals[kind] - misses[kind]}/{totals[kind]}" for kind in totals)
        print(f"{name}: {', '.join(shares)}")
