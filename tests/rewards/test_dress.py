"""Right answers in every dress that models write, and hedges in the same: the first are paid, the second not.

The rewards of short answers share one reader, so each is tried with tags, without them, and on the hedges
that its own words allow; `tests/cases/dress.jsonl` holds them.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from support.growth import assert_linear

from mmreward import Sample, load
from mmreward.evaluation import score_one

PETS = {"options": ["dog", "cat", "horse", "cow"]}
LABELS = {"labels": ["tiger cat", "lynx", "tabby"]}


def worth(name: str, response: str, target: Any, meta: dict[str, Any] | None = None, **args: Any) -> float:
    sample = Sample(response=response, target=target, meta=meta or {})
    score = asyncio.run(score_one(sample, load(name, **args)))
    assert score.ok, (response, score)
    return score.value


def both(text: str) -> list[tuple[str, dict[str, Any]]]:
    """A response with tags, and the text alone."""
    return [(f"<think>x</think><answer>{text}</answer>", {}), (text, {"bare": True})]


ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "cases" / "dress.jsonl").read_text("utf-8").splitlines()
]
"""A reward, its arguments, meta, and either a target with answers that are right, or targets with hedges."""
RIGHT = [row for row in ROWS if "right" in row]
HEDGES = [row for row in ROWS if "hedges" in row]


def named(row: dict[str, Any]) -> str:
    return f"{row['reward']}-{row.get('target')}"


@pytest.mark.parametrize("row", RIGHT, ids=named)
def test_right_answers_are_paid_in_any_dress(row):
    lost = [
        response
        for text in row["right"]
        for response, given in both(text)
        if worth(row["reward"], response, row["target"], row["meta"], **row["args"], **given) < 0.99
    ]
    assert not lost


@pytest.mark.parametrize("row", HEDGES, ids=named)
def test_hedges_are_paid_under_no_target(row):
    paid = [
        (response, target)
        for text in row["hedges"]
        for response, given in both(text)
        for target in row["targets"]
        if worth(row["reward"], response, target, row["meta"], **row["args"], **given) > 0.99
    ]
    assert not paid


@pytest.mark.parametrize(
    ("name", "target", "meta", "plain", "dressed"),
    [
        ("choice", "B", PETS, "B. cat", r"\boxed{\text{B}}"),
        ("choice", "B", PETS, "cat", "### Answer\n\nB"),
        ("yes_no", "yes", None, "Yes", r"\text{Yes}"),
        ("yes_no", "yes", None, "Yes, on the left", "True"),
        ("count", 3, None, "3 birds", "3 birds over the lake"),
        ("label", "tiger cat", LABELS, "Tiger_cat.", "Class: tiger cat"),
        ("answer", "Paris", None, "paris.", "The answer is Paris."),
        ("answer", 5000, None, "5,000", "5k"),
        ("ocr", "EXIT", None, "EXIT", "**EXIT**"),
    ],
)
def test_the_strict_reading_takes_the_plain_form_alone(name, target, meta, plain, dressed):
    tagged = "<think>x</think><answer>{}</answer>"
    for reading, paid in (("clear", 1.0), ("strict", 0.0)):
        args = {"mode": "exact"} if name == "ocr" else {}
        assert worth(name, tagged.format(plain), target, meta, reading=reading, **args) == 1
        assert worth(name, tagged.format(dressed), target, meta, reading=reading, **args) == paid
        spaced = f"<think>x</think>< ANSWER >{plain}</ answer >"
        assert worth(name, spaced, target, meta, reading=reading, **args) == paid


def test_the_class_of_a_time_series_is_read_in_any_dress_and_its_form_as_it_stands():
    meta = {"labels": ["healthy", "neuropathy"]}
    thought = "<think>The motor units fire late, with long polyphasic waves.</think>"
    for inside in ("Class: neuropathy", "Answer: neuropathy", r"\text{neuropathy}"):
        response = f"{thought}<class>{inside}</class>"
        assert worth("time_series", response, "neuropathy", meta) == 1
        assert worth("time_series", response, "neuropathy", meta, reading="strict") == 0
    spaced = f"{thought}< Class >neuropathy</ class >"
    assert worth("time_series", spaced, "neuropathy", meta) == pytest.approx(0.9), "the form is not kept"


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "- ",
            "**",
            "Answer: B. ",
            "the final ",
            "one hundred and ",
            "\\boxed{B}",
            "\\text{",
            "</s>",
            "not ",
        ),
        *(
            "option A ",
            "\u7b54\u6848\u662fB",
            "\u4e09",
            "\u9009",
            "A\n",
            "3 : ",
            "1 to 2 ",
            "<|begin_of_box|>",
            "``",
        ),
    ],
)
@pytest.mark.parametrize("name", ["choice", "yes_no", "count", "label", "ocr", "answer"])
def test_reading_is_linear(name, unit):
    target = {"choice": "B", "count": 3, "yes_no": "yes"}.get(name, "EXIT")

    def read(size):
        for response, given in both((unit * size)[:size]):
            worth(name, response, target, PETS, **given)

    assert_linear(read, 64_000)


def test_an_answer_after_long_reasoning_is_read():
    """Without tags, only what is announced must be short."""
    reasoning = "The picture shows many things. " * 2000
    for end in ("\n\nAnswer: B", r"So the answer is \boxed{B}"):
        assert worth("choice", reasoning + end, "B", PETS, bare=True) == 1
