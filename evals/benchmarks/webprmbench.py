"""WebPRMBench (arXiv:2601.21872): judges of web agents' steps, one right action against each of four others.

Labels are the published rows (ZYao720/WEBPRMBENCH, JSON or Parquet): state_idx, pair_idx, expected (1 or 2:
the response that is better), prompt, source_name. 1,150 states with four pairs each. Ids are
"SOURCE/STATE/PAIR"; the unit is the state.

A prediction is `choice` (1 or 2) or `raw_text`, of which what stands in `<answer>`, or else the last line,
must name one of the two. Pairwise accuracy counts pairs; best-of-n accuracy states all of whose pairs are
won. An undecided judge has lost. The order of the two is fixed in the labels, so how often the first is
chosen, and what is won where the first and where the second is better, stand beside them.

A reward is given the two responses as candidates of one step, taken out of the prompt by its headings
(`#### Intent ####`, `#### AXTREE ####`, ..., `[The Begin of Response 1]`); a row without them is refused. A
judge of pairs such as `webarbiter` is asked in both orders, and one that goes by the place is undecided; any
other reward chooses the candidate that it scores higher.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmreward.errors import Unscorable
from mmreward.registry import Reward
from mmreward.types import Score
from mmreward.verifiers.response import tidy_tags

from .benchmark import COPY, VALID, Answers, Benchmark, Cells, Columns, Item, Rule, Table
from .clicks import expected, files_of, rows_of
from .figures import codes, macro, mean, mean_of_known

PAIRS = 4600
NAMED = re.compile(r"(?:response|assistant|action|option|answer)?\W{0,4}\b([12])\b", re.IGNORECASE)
MAX_VERDICT = 400


def read(path: Path) -> list[Item]:
    """The pairs of a file, or of all files of a folder.

    Raises:
        ValueError: no such file, a row that is not of its form, or a pair twice.
    """
    files = [file for ending in ("json", "jsonl", "parquet") for file in files_in(path, ending)]
    items: dict[str, Item] = {}
    for file in files or files_of(path, "*.json", "rows of WebPRMBench"):
        for number, row in rows_of(file):
            where = f"{file}, row {number + 1}"
            try:
                names = [str(row[key]) for key in ("source_name", "state_idx", "pair_idx")]
                better = int(row["expected"])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{where} has no source_name, state_idx, pair_idx and expected: {error}"
                ) from None
            if better not in (1, 2):
                raise ValueError(f"{where}: expected is {better}, not 1 or 2")
            name = "/".join(names)
            if name in items:
                raise ValueError(f"{where}: the pair {name} is there twice")
            state, source = "/".join(names[:2]), names[0]
            facts = {"source": source, "environment": environment(source), "prompt": row.get("prompt")}
            items[name] = Item(id=name, gold=better, unit=state, facts=facts)
    return list(items.values())


def files_in(path: Path, ending: str) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == f".{ending}" else []
    return sorted(path.glob(f"**/*.{ending}"))


def environment(source: str) -> str:
    """Environment of a source: Mind2Web has three."""
    return "mind2web" if source.lower().startswith(("mind2web", "cross")) else source.lower()


def answer(record: Mapping[str, Any], item: Item) -> int:
    """The response that a judge chose.

    Raises:
        Unscorable: none, or both.
    """
    given = record.get("choice")
    text = str(given) if given is not None else record.get("raw_text", record.get("response"))
    if not isinstance(text, str):
        raise Unscorable("the prediction has no choice and no raw_text", "missing")
    body = tidy_tags(text).rpartition("</think>")[2]
    tags = re.findall(r"<answer>([^<]{0,400})</answer>", body, re.IGNORECASE)
    lines = [line for line in body.splitlines() if line.strip()]
    words = tags[-1] if tags else lines[-1] if lines else ""
    named = set(NAMED.findall(words[:MAX_VERDICT]))
    if len(named) != 1:
        raise Unscorable(f"{words[:60]!r} names {'none' if not named else 'both'} of 1 and 2", "unparsable")
    return int(named.pop())


def columns(items: Sequence[Item], answers: Sequence[int | None]) -> dict[str, np.ndarray[Any, Any]]:
    """What is won, and where."""
    better = np.array([item.gold for item in items])
    said = np.array([0 if one is None else one for one in answers])
    won = (said == better).astype(np.float64)
    return {
        "won": won,
        "first": np.where(said == 0, math.nan, (said == 1).astype(np.float64)),
        "won 1": np.where(better == 1, won, math.nan),
        "won 2": np.where(better == 2, won, math.nan),
        "state": codes([item.unit for item in items]),
        "source": codes([item.facts["source"] for item in items]),
        "environment": codes([item.facts["environment"] for item in items]),
    }


def best_of(by: str = "") -> Callable[[Columns], float]:
    """The share of states all of whose pairs are won, or its mean over strata."""

    def of(found: Columns) -> float:
        key = found["state"] * (int(found[COPY].max()) + 1) + found[COPY]
        _, first, place = np.unique(key, return_index=True, return_inverse=True)
        states = (np.bincount(place, weights=1 - found["won"]) == 0).astype(np.float64)
        if not by:
            return float(states.mean())
        strata = found[by][first]
        return float(np.mean([states[strata == one].mean() for one in np.unique(strata)]))

    return of


# --- rows for a reward --------------------------------------------------------------------------------------

SECTION = re.compile(
    r"^[ \t]*####[ \t]*(intent|axtree|trajectory|start url|current url|assistant responses)[ \t]*####",
    re.IGNORECASE | re.MULTILINE,
)
RESPONSE = re.compile(
    r"\[The Begin of Response ([12])\](.*?)\[The End of Response \1\]", re.IGNORECASE | re.DOTALL
)
NOTE = re.compile(r"\A\s*(?:Note:|The URL provides clues)[^\n]*\n")
"""What the prompt says of a section in its first line."""


def rows(item: Item, reward: Reward) -> list[dict[str, Any]]:
    """The two responses as candidates of one step.

    Raises:
        ValueError: the prompt is not of the published form.
    """
    prompt = _text(item.facts["prompt"])
    heads = list(SECTION.finditer(prompt))
    ends = [*(head.start() for head in heads), len(prompt)][1:]
    parts = {
        " ".join(head[1].lower().split()): NOTE.sub("", prompt[head.end() : end]).strip()
        for head, end in zip(heads, ends, strict=True)
    }
    responses = {
        number: text.strip() for number, text in RESPONSE.findall(parts.get("assistant responses", ""))
    }
    if absent := [name for name in ("intent", "axtree") if not parts.get(name)]:
        raise ValueError(f"{item.id}: its prompt has no #### {absent[0]} ####")
    if set(responses) != {"1", "2"}:
        raise ValueError(f"{item.id}: its prompt has no [The Begin of Response 1] and 2 with their ends")
    told = {
        "axtree": parts["axtree"],
        "url": parts.get("current url"),
        "start_url": parts.get("start url"),
        "trajectory": parts.get("trajectory"),
    }
    shared = {
        "prompt": parts["intent"],
        "group": item.id,
        **{key: text for key, text in told.items() if text},
    }
    return [shared | {"response": responses[number]} for number in "12"]


def _text(prompt: Any) -> str:
    """A prompt that is a text, or messages, of which the parts of text follow each other."""
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, Mapping):
        return _text(prompt.get("content", prompt.get("text", "")))
    if isinstance(prompt, Iterable):
        return "\n".join(map(_text, prompt))
    return ""


def scored(item: Item, scores: Sequence[Score], reward: Reward) -> int:
    """The response that a reward scores higher.

    Raises:
        Unscorable: neither.
    """
    first, second = (score.value if reward.info.higher_is_better else -score.value for score in scores)
    if math.isclose(first, second, abs_tol=1e-9):
        swing = scores[0].parts.get("swing", 0.0)
        said = "it names the same place in both orders" if swing else "both responses score alike"
        raise Unscorable(said, "unparsable")
    return 1 if first > second else 2


RULES = (
    Rule(name="pairwise", words="pairs that are won, every pair alike", of=mean("won")),
    Rule(name="pairwise/sources", words="mean over the sources", of=macro("won", "source")),
    Rule(name="best of n", words="states all of whose pairs are won", of=best_of()),
    Rule(name="best of n/sources", words="mean over the sources", of=best_of("source")),
    Rule(name="best of n/environments", words="mean over the environments; Mind2Web is one",
         of=best_of("environment")),
    Rule(name="won as first", words="pairs whose first response is better", of=mean("won 1")),
    Rule(name="won as second", words="pairs whose second response is better", of=mean("won 2")),
    Rule(name="first", words="verdicts for the first; far from a half it goes by the place", of=mean("first"),
         worst=False, higher_is_better=None),
)  # fmt: skip


def tables(items: Sequence[Item], found: Columns) -> list[Table]:
    """Pairs and states by source."""
    names = np.array([item.facts["source"] for item in items])
    rows: list[Cells] = []
    for name in sorted(set(names.tolist())):
        own = names == name
        part = {key: column[own] for key, column in found.items()}
        part[COPY] = np.zeros(int(own.sum()), dtype=np.int64)
        read = mean_of_known(found["won"][own & found[VALID]])
        rows.append((str(name), int(own.sum()), float(part["won"].mean()), read, best_of()(part)))
    return [Table("by source", ("source", "pairs", "pairwise", "pairwise, valid", "best of n"), rows)]


def cautions(items: Sequence[Item], answers: Answers) -> list[str]:
    return expected(items, PAIRS, "pairs")


BENCHMARK = Benchmark(
    name="webprmbench",
    summary="judges of web agents' steps: one right action against each of four others",
    paper="arXiv:2601.21872",
    unit="state",
    labels="the published rows, JSON or Parquet, or their folder",
    read=read,
    answer=answer,
    columns=columns,
    rules=RULES,
    rows=rows,
    scored=scored,
    cautions=cautions,
    tables=tables,
)
