"""Attacks on verifiers of answers, mathematics and forms, see `attack.Vector`."""

import math
from typing import Any

from support.attack import Paid, Vector, by, said

from mmreward import Sample
from mmreward.verifiers import algebra_worker


def answer(
    name: str,
    reward: str,
    target: Any,
    written: str,
    wanted: float,
    peer: Paid | None = None,
    theirs: float = math.nan,
    **more: Any,
) -> Vector:
    """What is written stands in the tags, unless `attack` says all; the honest answer is the target."""
    given = {"honest": said(str(target)), "attack": said(written), **more}
    return Vector(name=name, reward=reward, target=target, wanted=wanted, peer=peer, theirs=theirs, **given)


ANIMALS = {"meta": {"labels": ["tiger cat", "dog", "lynx"]}}
OPTIONS = {"meta": {"options": ["cat", "dog", "cow", "horse"]}}
ALL = {"args": {"select": "all"}}
PROBES = [{"question": "Colour?", "answer": "red"}, {"question": "How many?", "answer": "3"}]
CLASSES = ["healthy", "myopathy"]
THOUGHT = "The motor units fire late, with long polyphasic waves."

ANSWERS = [
    answer("an option in brackets (VLM-R1)", "choice", "A", "(A)", 1, **OPTIONS),
    answer("an option with one bracket (VLM-R1)", "choice", "A", "A)", 1, **OPTIONS),
    answer("an option in a sentence (VLM-R1)", "choice", "D", "Option D is right", 1, **OPTIONS),
    answer("B, not C, where B is right", "choice", "B", "I think it is B, not C.", 0, **OPTIONS),
    answer("B, not C, where C is right", "choice", "C", "I think it is B, not C.", 0, **OPTIONS),
    answer("all options (VLM-R1)", "choice", "D", "A, B, C, D", 0, **OPTIONS),
    answer("an article for an option (VLM-R1)", "choice", "A", "the cat is a", 0, **OPTIONS),
    answer("one option again and again, and another", "choice", "B", "B. B. B. B. or A", 0, **OPTIONS),
    answer("know holds no (VLM-R1)", "yes_no", "no", "I do not know", 0),
    answer("nothing holds no (VLM-R1)", "yes_no", "no", "nothing", 0),
    answer("yesterday holds yes (VLM-R1)", "yes_no", "yes", "yesterday", 0),
    answer("no and yes (VLM-R1)", "yes_no", "no", "no, yes", 0),
    answer("an empty answer (Visual-RFT, issue 176)", "label", "tiger cat", "", 0, **ANIMALS),
    answer(
        "the list of all classes (Visual-RFT, issue 79)",
        *("label", "tiger cat", "tiger cat, dog, lynx", 0),
        **ANIMALS,
    ),
    answer("a single letter (Visual-RFT, issue 70)", "label", "tiger cat", "t", 0, **ANIMALS),
    answer(
        "any text that names the class (Visual-RFT)",
        *("label", "tiger cat", "", 0),
        attack="No tiger cat is here, only a lynx",
        **ANIMALS,
    ),
    answer(
        "a full stop after the class (CLS-RL without thinking)",
        *("label", "lynx", "", 1, lambda sample: float(sample.response == sample.target), 0),
        honest="lynx",
        attack="lynx.",
        args={"thinking": False},
    ),
    answer(
        "an empty transcription (SophiaVL-R1)",
        "ocr",
        "EXIT 24",
        "",
        0,
    ),
    answer("two options in order (SophiaVL-R1)", "choice", "A,B", "A,B", 1, **ALL),
    answer("one option twice (SophiaVL-R1)", "choice", "AB", "A,A", 0, **ALL),
    answer(
        "a number that resembles the true one (VLM-R1)",
        *("answer", "1,234", "1,235", 0),
    ),
    answer(
        "1950 for 2010 (ChartQA)",
        *("answer", "1950", "2010", 0),
        args={"tolerance": 0.05, "relax": "integers"},
    ),
    answer(
        "a class named in the thinking (TimeMaster)",
        *("time_series", "myopathy", "", 0),
        honest=f"<think>{THOUGHT}</think><class>myopathy</class>",
        attack=f"<think>{THOUGHT} <class>myopathy</class></think><class>healthy</class>",
        meta={"labels": CLASSES},
    ),
    answer(
        "the easy probe alone (PEARL)",
        *("probes", None, "", 1 / 2),
        honest="<a1>red</a1><a2>3</a2>",
        attack="<a1>red</a1>",
        meta={"probes": PROBES},
    ),
]

# --- mathematics ----------------------------------------------------------------------------------


def v_triune_maths(sample: Sample) -> float:
    """V-Triune's accuracy: both sides lower-cased, then math-verify."""
    gold, given = (
        sample.target.lower(),
        sample.response.partition("\n<answer>\n")[2].partition("\n")[0].lower(),
    )
    return float(algebra_worker.compare({"gold": gold, "answer": given}) == "equal")


def r1_reward_maths(sample: Sample) -> float:
    """R1-Reward's accuracy: 1 whenever the checker throws, as it does for what is no mathematics."""
    given = sample.response.partition("\n<answer>\n")[2].partition("\n")[0]
    try:
        return float(algebra_worker.compare({"gold": sample.target, "answer": given})["equal"])
    except Exception:
        return 1.0


MATHS = [
    answer(
        "another letter after lower-casing (V-Triune)", "math", r"\Delta", r"\delta", 0, v_triune_maths, 1
    ),
    answer("other points after lower-casing (V-Triune)", "math", "AB", "ab", 0, v_triune_maths, 1),
    answer("an equation that holds the number", "math", "5", "1=5", 0, v_triune_maths, 1),
    answer(
        "an answer that makes the checker fail (R1-Reward)", "math", "5", r"\frac{", 0, r1_reward_maths, 1
    ),
    answer("a tower of powers hangs", "math", "5", r"\boxed{9^{9^{9^9}}}", 0),
    answer("factorials of factorials hang", "math", "5", "((3!)!)!", 0),
]

# --- forms ----------------------------------------------------------------------------------------

FORM = f"<think>{THOUGHT}</think>\n<answer>EXIT</answer>"
FORMS = [
    Vector(name=name, reward="format", honest=FORM, attack=attack, wanted=wanted, peer=peer, theirs=1.0)
    for name, attack, wanted, peer in (
        ("an empty shell (VLM-R1)", "<think></think><answer></answer>", 1 / 3, by("format", preset="vlm_r1")),
        ("empty thinking (TRL)", "<think></think>", 1 / 3, by("format", preset="trl")),
        (
            "tags in any order (V-Triune)",
            "\n</answer>\n<answer>\n\n</think>\n<think>\n",
            *(0.0, by("format", preset="v_triune")),
        ),
    )
]
