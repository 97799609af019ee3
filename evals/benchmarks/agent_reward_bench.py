"""AgentRewardBench (arXiv:2504.08942): judges of web agents' trajectories against experts.

Labels are the published `annotations.csv`: annotator_name, benchmark, task_id, model_name,
trajectory_success ("Successful", "Unsuccessful", "Unsure"), trajectory_side_effect, trajectory_optimality
("1. Complete Failure" to "4. Completely Optimal"), trajectory_looping. 1,408 rows of 1,302 trajectories; of
one that several annotated the first row counts. Ids are "BENCHMARK/MODEL/TASK". "Unsure" counts in no figure.

A prediction is `raw_text` with the judge's tags `<success>`, `<side>`, `<optimal>` and `<loop>`, or has the
fields success, side_effect, optimality and looping. The headline is the precision of success: false
successes are what training is hurt by. By the published code a missing verdict is a failure, which nobody
would notice in a precision; here it is the wrong verdict in the strict reading, and the published number
stands beside it.

A reward is given the published trajectories where they lie below the labels' folder, as they were downloaded:
`cleaned/BENCHMARK/MODEL/**/TASK.json`, and `screenshots/` beside `cleaned/`. A step has `action`, `thought`,
`url`, `axtree` and its screenshot; `agent_judge` answers with its four verdicts, any other reward with a
success from the middle of its range up.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmreward.errors import Unscorable
from mmreward.registry import Reward
from mmreward.types import Score

from .benchmark import VALID, Answers, Benchmark, Cells, Columns, Item, Rule, Table
from .clicks import expected, files_of, rows_of
from .figures import Array, mean

TRAJECTORIES = 1302
FIELDS = ("success", "side_effect", "optimality", "looping")
TAGS = {"success": "success", "side_effect": "side", "optimality": "optimal", "looping": "loop"}
YES, NO = ("successful", "yes", "success", "true", "1"), ("unsuccessful", "no", "failure", "false", "0")
OPTIMALITY = re.compile(r"\s*([1-4])\b")
MAX_VERDICT = 200


class Verdict(NamedTuple):
    """What a judge says; NaN for what it does not, which only success may not be."""

    success: float
    side_effect: float = math.nan
    optimality: float = math.nan
    looping: float = math.nan


def verdict_in(field: str, given: Any) -> float:
    """The number of a verdict: 1 or 0, of optimality 1 to 4; NaN for none, "n/a" and "unsure".

    Raises:
        Unscorable: it is something else.
    """
    words = "" if given is None else str(given).strip().strip("'\"").lower()[:MAX_VERDICT]
    if words in ("", "n/a", "unsure", "nan", "none"):
        return math.nan
    if field == "optimality":
        found = OPTIMALITY.match(words)
        if found is None:
            raise Unscorable(f"the optimality is {words[:40]!r}, not 1 to 4", "unparsable")
        return float(found[1])
    if words in YES or words in NO:
        return float(words in YES)
    raise Unscorable(f"{field} is {words[:40]!r}, not yes or no", "unparsable")


def read(path: Path) -> list[Item]:
    """The trajectories of annotations.csv, or of the folder it lies in.

    Raises:
        ValueError: no such file, or a row that is not of its form.
    """
    (file, *_) = files_of(path, "**/annotations.csv", "annotations.csv")
    there = trajectories(path if path.is_dir() else path.parent)
    items: dict[str, Item] = {}
    for number, row in rows_of(file):
        try:
            name = "/".join(str(row[key]) for key in ("benchmark", "model_name", "task_id"))
            gold = Verdict(*(verdict_in(field, row[f"trajectory_{field}"]) for field in FIELDS))
        except KeyError as error:
            raise ValueError(f"{file}, row {number + 1} has no {error.args[0]}") from None
        except Unscorable as error:
            raise ValueError(f"{file}, row {number + 1}: {error}") from None
        if name not in items:
            facts = {"benchmark": str(row["benchmark"]), "task": str(row["task_id"])}
            place = (facts["benchmark"], str(row["model_name"]), _plain(facts["task"]))
            facts |= {"file": str(there[place])} if place in there else {}
            items[name] = Item(id=name, gold=gold, unit=facts["task"], facts=facts)
    return list(items.values())


# --- trajectories for a reward ------------------------------------------------------------------------------


def trajectories(folder: Path) -> dict[tuple[str, str, str], Path]:
    """Files of trajectories below a folder, by benchmark, model and task."""
    found: dict[tuple[str, str, str], Path] = {}
    for cleaned in sorted(folder.glob("**/cleaned")):
        for file in sorted(cleaned.glob("*/*/**/*.json")):
            bench, model, *_ = file.relative_to(cleaned).parts
            found.setdefault((bench, model, _plain(file.stem)), file)
    return found


def _plain(task: str) -> str:
    """A task's name without what upstream adds where it was run anew."""
    return task.replace(".resized", "").replace(".improved", "")


def rows(item: Item, reward: Reward) -> list[dict[str, Any]]:
    """A trajectory as a record with steps.

    Raises:
        ValueError: its file is not there, or not of the published form.
    """
    if "file" not in item.facts:
        raise ValueError(
            f"{item.id} has no trajectory: put the published cleaned/ and screenshots/ below the labels"
        )
    file = Path(item.facts["file"]).resolve()
    base = next(parent for parent in file.parents if parent.name == "cleaned").parent
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        steps = [_step(step, base) for step in held["steps"]]
        return [{"prompt": str(held["goal"]), "steps": steps}]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is no trajectory with a goal and steps: {error!r}") from None


def _step(step: Mapping[str, Any], base: Path) -> dict[str, Any]:
    made = {"action": step["action"], "thought": step.get("reasoning"), "url": step.get("url")}
    made["axtree"] = step.get("axtree")
    _, there, place = str(step.get("screenshot_path") or "").replace("\\", "/").rpartition("screenshots/")
    return {"observation": str(base / there / place), **made} if place else made


def scored(item: Item, scores: Sequence[Score], reward: Reward) -> Verdict:
    """The verdicts of a reward; of several votes what most say.

    Raises:
        Unscorable: success is undecided, or the reward has no range to say what the middle is.
    """
    (score,) = scores
    parts = score.parts
    if "success" in parts:
        share = parts["success"]
    else:
        low, high = reward.info.range
        if not (math.isfinite(low) and math.isfinite(high)):
            raise Unscorable("the reward has no range, whose upper half would be success", "unparsable")
        share = (score.value - low) / (high - low)
        share = share if reward.info.higher_is_better else 1 - share
    if share == 0.5 and "success" in parts:
        raise Unscorable("as many votes are for success as against it", "unparsable")
    others = [parts.get(name, math.nan) for name in FIELDS[1:]]
    said = [math.nan if math.isnan(one) else math.floor(one + 0.5) for one in others]
    return Verdict(float(share >= 0.5), *map(float, said))


# --- answers ------------------------------------------------------------------------------------------------


def answer(record: Mapping[str, Any], item: Item) -> Verdict:
    """The verdict of a prediction.

    Raises:
        Unscorable: it does not say whether the trajectory succeeded, or says it twice.
    """
    text = record.get("raw_text", record.get("response"))
    if isinstance(text, str):
        said: dict[str, Any] = {field: _tagged(text, tag) for field, tag in TAGS.items()}
    else:
        said = {field: record.get(field, record.get(f"trajectory_{field}")) for field in FIELDS}
    found = Verdict(*(verdict_in(field, said[field]) for field in FIELDS))
    if math.isnan(found.success):
        raise Unscorable("the judge does not say whether it succeeded", "unparsable")
    return found


def _tagged(text: str, tag: str) -> str | None:
    """What stands in the only pair of such tags.

    Raises:
        Unscorable: two that differ.
    """
    body = text.rpartition("</reasoning>")[2]
    found = {one.partition(f"</{tag}>")[0].strip().lower() for one in body.split(f"<{tag}>")[1:]}
    if len(found) > 1:
        raise Unscorable(f"two verdicts that differ in <{tag}>", "unparsable")
    return next(iter(found), None)


def columns(items: Sequence[Item], answers: Sequence[Verdict | None]) -> dict[str, np.ndarray[Any, Any]]:
    """For every field what is true and what was said: without an answer, what is wrong."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    for place, field in enumerate(FIELDS):
        true = np.array([item.gold[place] for item in items], dtype=np.float64)
        said = np.array([math.nan if one is None else one[place] for one in answers], dtype=np.float64)
        found[f"{field} true"] = true
        found[f"{field} kit"] = np.nan_to_num(said, nan=0.0)
        worst = np.where(true >= 3, 1.0, 4.0) if field == "optimality" else 1 - true
        found[f"{field} said"] = np.where(np.isnan(said), worst, said)
    apart = np.abs(found["optimality said"] - found["optimality true"])
    known = ~np.isnan(found["optimality true"])
    found["optimal"] = np.where(known, apart == 0, math.nan)
    found["nearly optimal"] = np.where(known, apart <= 1, math.nan)
    found["benchmark"] = np.array([item.facts["benchmark"] for item in items])
    return found


def precision(true: Array, said: Array) -> float:
    """Share of what is called positive that is; NaN where nothing is called so."""
    return float((true[said == 1] == 1).mean()) if (said == 1).any() else math.nan


def recall(true: Array, said: Array) -> float:
    return float((said[true == 1] == 1).mean()) if (true == 1).any() else math.nan


def f1(true: Array, said: Array) -> float:
    hits = float(((true == 1) & (said == 1)).sum())
    wrong = float(((true == 1) != (said == 1)).sum())
    return 2 * hits / (2 * hits + wrong) if hits or wrong else math.nan


def specificity(true: Array, said: Array) -> float:
    return float((said[true == 0] != 1).mean()) if (true == 0).any() else math.nan


def negative_value(true: Array, said: Array) -> float:
    return float((true[said == 0] == 0).mean()) if (said == 0).any() else math.nan


def accuracy(true: Array, said: Array) -> float:
    return float((true == said).mean()) if len(true) else math.nan


Figured = Callable[[Array, Array], float]
FIGURES: Mapping[str, tuple[Figured, str]] = {
    "precision": (precision, "of what is called so, what is"),
    "recall": (recall, "of what is so, what is called so"),
    "f1": (f1, "harmonic mean of precision and recall"),
    "accuracy": (accuracy, "verdicts that are right"),
    "tnr": (specificity, "of what is not so, what is not called so"),
    "npv": (negative_value, "of what is called not so, what is not"),
}


def of_field(
    field: str, figure: Callable[[Array, Array], float], said: str = "said"
) -> Callable[[Columns], float]:
    """The rule of a figure of one field, over what experts are sure of."""

    def of(found: Columns) -> float:
        known = ~np.isnan(found[f"{field} true"])
        return figure(found[f"{field} true"][known], found[f"{field} {said}"][known])

    return of


def _published(figure: Figured) -> Figured:
    """The published figure: 0 where it is undefined."""

    def of(true: Array, said: Array) -> float:
        value = figure(true, said)
        return 0.0 if math.isnan(value) else value

    return of


RULES = (
    *(
        Rule(name=f"{field}/{name}", words=words, of=of_field(field, figure))
        for field in ("success", "side_effect", "looping")
        for name, (figure, words) in FIGURES.items()
    ),
    Rule(name="optimality", words="the same of four degrees", of=mean("optimal")),
    Rule(name="optimality/within 1", words="at most a degree off", of=mean("nearly optimal")),
    *(
        Rule(name=f"published/{name}", words="of success; no verdict is a failure, undefined is 0",
             of=of_field("success", _published(FIGURES[name][0]), "kit"), legacy=True, worst=False,
             every=True)
        for name in ("precision", "recall", "f1")
    ),
)  # fmt: skip


def tables(items: Sequence[Item], found: Columns) -> list[Table]:
    """Precision, recall and F1 of success by benchmark, over the valid verdicts."""
    rows: list[Cells] = []
    for name in sorted(set(found["benchmark"].tolist())):
        own = (found["benchmark"] == name) & found[VALID] & ~np.isnan(found["success true"])
        true, said = found["success true"][own], found["success said"][own]
        rows.append((name, int(own.sum()), precision(true, said), recall(true, said), f1(true, said)))
    return [Table("by benchmark", ("benchmark", "trajectories", "precision", "recall", "f1"), rows)]


def cautions(items: Sequence[Item], answers: Answers) -> list[str]:
    return expected(items, TRAJECTORIES, "trajectories")


BENCHMARK = Benchmark(
    name="agentrewardbench",
    summary="judges of web agents: success, side effects, optimality and loops, against experts",
    paper="arXiv:2504.08942",
    unit="task",
    labels="annotations.csv, or its folder",
    read=read,
    answer=answer,
    columns=columns,
    rules=RULES,
    rows=rows,
    scored=scored,
    cautions=cautions,
    tables=tables,
)
