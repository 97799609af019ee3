"""Plan-RewardBench (arXiv:2604.08178): judges of whole trajectories with tools, one good against one that is
nearly so.

Labels are the published folder `benchmark/`: a JSONL file for each of seven splits, rows {query, tools, uuid,
chosen: {messages}, reject: {messages}}. 1,171 pairs. A uuid names a request, of which a file has up to four
pairs, so ids are "SPLIT/UUID/NUMBER" and the unit is the request. The published code goes on after an
interrupt by uuid, and then leaves out all but those pairs of a request that it had done.

A prediction is two verdicts, `winner` with the chosen one as A and `winner_swapped` with it as B, each "A",
"B" or "Tie" in the dress of the published prompt, or `raw_text` and `raw_text_swapped`; or the scores of a
judge of one, `chosen_score` and `rejected_score`. The published accuracy counts each order for itself, a tie
for a half and an answer that cannot be read for a loss, which is the strict reading here; its average is that
of the splits.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmreward.errors import Unscorable
from mmreward.registry import Reward
from mmreward.rewards.gui.plan_judge import read_winner
from mmreward.rewards.published.votes import by_verdict
from mmreward.types import Score

from .benchmark import VALID, Answers, Benchmark, Cells, Columns, Item, Rule, Table
from .clicks import expected, files_of, rows_of
from .figures import codes, macro, mean, mean_of_known

SPLITS = {
    "planning_multi_easy": 109,
    "planning_multi_hard": 73,
    "planning_single_easy": 144,
    "planning_single_hard": 158,
    "robust_recovery": 361,
    "safety_refusal": 51,
    "tool_irrelevance": 275,
}
LENGTHS = ((16_000, "to 16k"), (32_000, "to 32k"), (64_000, "to 64k"), (math.inf, "longer"))
"""Characters of both trajectories: about four to a token."""


class Won(NamedTuple):
    """What the chosen one wins as the first and as the second: 1, 0, or 0.5 of a tie."""

    first: float
    second: float


def read(path: Path) -> list[Item]:
    """The pairs of a file, or of all splits of a folder.

    Raises:
        ValueError: no such file, or a row that is not of its form.
    """
    items: list[Item] = []
    for file in files_of(path, "**/*.jsonl", "the splits of Plan-RewardBench"):
        split = file.stem.removesuffix("_unified")
        seen: Counter[str] = Counter()
        for number, row in rows_of(file):
            where = f"{file}, row {number + 1}"
            try:
                request = str(row.get("uuid") or row["parent_uuid"])
                sides = [
                    _messages(row[key]) for key in ("chosen", "reject" if "reject" in row else "rejected")
                ]
                query, tools = str(row["query"]), row.get("tools") or []
            except (KeyError, TypeError) as error:
                raise ValueError(
                    f"{where} has no uuid, query, chosen and reject with messages: {error}"
                ) from None
            name = f"{split}/{request}/{seen[request]}"
            seen[request] += 1
            length = sum(len(str(one.get("content", ""))) for side in sides for one in side)
            facts = {"split": split, "query": query, "tools": tools, "sides": sides, "length": length}
            items.append(Item(id=name, gold="chosen", unit=f"{split}/{request}", facts=facts))
    return items


def _messages(side: Any) -> list[Mapping[str, Any]]:
    found = side["messages"] if isinstance(side, Mapping) else side
    if not isinstance(found, list) or not found or not all(isinstance(one, Mapping) for one in found):
        raise TypeError("a trajectory is a list of messages")
    return list(found)


def answer(record: Mapping[str, Any], item: Item) -> Won:
    """What the chosen one wins by a prediction.

    Raises:
        Unscorable: a verdict or score that is missing, or cannot be read.
    """
    scores = [record.get(f"{side}_score") for side in ("chosen", "rejected")]
    if any(score is not None for score in scores):
        chosen, rejected = (_number(score) for score in scores)
        won = 0.5 if chosen == rejected else float(chosen > rejected)
        return Won(won, won)
    first, second = (_verdict(record, ending) for ending in ("", "_swapped"))
    return Won(first, 1 - second)


def _number(score: Any) -> float:
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise Unscorable(f"a score is {str(score)[:40]!r}, which is no number", "unparsable")
    return float(score)


def _verdict(record: Mapping[str, Any], ending: str) -> float:
    """What A wins."""
    winner, text = record.get(f"winner{ending}"), record.get(f"raw_text{ending}")
    if winner is None and not isinstance(text, str):
        raise Unscorable(f"the prediction has no winner{ending} and no raw_text{ending}", "missing")
    return by_verdict(read_winner(json.dumps({"winner": winner}) if winner is not None else str(text)))


# --- rewards ------------------------------------------------------------------------------------------------


def rows(item: Item, reward: Reward) -> list[dict[str, Any]]:
    """Both trajectories as records with steps; the last message of each is also its response."""
    shared = {"prompt": item.facts["query"], "group": item.id, "tools": item.facts["tools"]}
    return [
        {**shared, "steps": [dict(one) for one in side], "response": str(side[-1].get("content", ""))}
        for side in item.facts["sides"]
    ]


def scored(item: Item, scores: Sequence[Score], reward: Reward) -> Won:
    """What the chosen one wins: of a judge of pairs in both orders, of any other by the higher score."""
    chosen, rejected = (one.value if reward.info.higher_is_better else -one.value for one in scores)
    if reward.info.arity != "pair":
        won = 0.5 if chosen == rejected else float(chosen > rejected)
        return Won(won, won)
    low, high = reward.info.range
    share, swing = (chosen - low) / (high - low), scores[0].parts.get("swing", 0.0) / (high - low)
    # The mean of both orders is the share, and their difference the swing; which order was which is not said.
    return Won(min(1.0, share + swing / 2), max(0.0, share - swing / 2))


# --- figures ------------------------------------------------------------------------------------------------


def columns(items: Sequence[Item], answers: Sequence[Won | None]) -> dict[str, np.ndarray[Any, Any]]:
    """What is won in each order: without an answer nothing."""
    first = np.array([0.0 if one is None else one.first for one in answers])
    second = np.array([0.0 if one is None else one.second for one in answers])
    known = np.array([one is not None for one in answers])
    lengths = [
        next(n for n, (most, _) in enumerate(LENGTHS) if item.facts["length"] <= most) for item in items
    ]
    return {
        "won": (first + second) / 2,
        "both": ((first == 1) & (second == 1)).astype(np.float64),
        "tie": np.where(known, ((first == 0.5).astype(float) + (second == 0.5)) / 2, math.nan),
        "agree": np.where(known, (first == second).astype(np.float64), math.nan),
        "split": codes([item.facts["split"] for item in items]),
        "length": np.array(lengths),
    }


RULES = (
    Rule(name="accuracy/splits", words="mean over the splits; both orders, a tie is a half",
         of=macro("won", "split")),
    Rule(name="accuracy", words="every pair alike", of=mean("won")),
    Rule(name="won both ways", words="pairs that the chosen one wins in both orders", of=mean("both")),
    Rule(name="agree", words="pairs with the same verdict in both orders", of=mean("agree"), worst=False),
    Rule(name="ties", words="verdicts that are ties", of=mean("tie"), worst=False, higher_is_better=None),
)  # fmt: skip


def tables(items: Sequence[Item], found: Columns) -> list[Table]:
    """Accuracy by split, and by the length of both trajectories."""
    names = np.array([item.facts["split"] for item in items])
    by_split = [_cells(str(name), names == name, found) for name in sorted(set(names.tolist()))]
    lengths = [_cells(name, found["length"] == number, found) for number, (_, name) in enumerate(LENGTHS)]
    heads = ("pairs", "accuracy", "accuracy, valid", "won both ways")
    return [
        Table("by split", ("split", *heads), by_split),
        Table("by characters", ("characters", *heads), [row for row in lengths if row[1]]),
    ]


def _cells(name: str, own: np.ndarray[Any, Any], found: Columns) -> Cells:
    read = mean_of_known(found["won"][own & found[VALID]])
    return (name, int(own.sum()), mean_of_known(found["won"][own]), read, mean_of_known(found["both"][own]))


def cautions(items: Sequence[Item], answers: Answers) -> list[str]:
    return expected(items, sum(SPLITS.values()), "pairs")


BENCHMARK = Benchmark(
    name="plan-rewardbench",
    summary="judges of whole trajectories with tools: one good against one that is nearly so",
    paper="arXiv:2604.08178",
    unit="request",
    labels="the published folder benchmark/, a JSONL file for each split",
    read=read,
    answer=answer,
    columns=columns,
    rules=RULES,
    rows=rows,
    scored=scored,
    cautions=cautions,
    tables=tables,
    strata="split",
    headline="accuracy",
)
