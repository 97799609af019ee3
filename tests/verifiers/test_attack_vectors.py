"""Every published way to game a verifier, or to lose a right answer to one: what the project it was found in
pays, and what is paid here.

Each row names the attack and where it comes from. An attack never earns more than the honest answer beside
it, and what it earns is written down; where the other project's formula is carried for comparison, its number
is reproduced, too.
"""

import asyncio
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from mmreward import Sample, Score, Unscorable, load
from mmreward.shaping.brevity import length_scaled
from mmreward.verifiers import algebra_worker
from mmreward.verifiers.boxes import Box
from mmreward.verifiers.grade import parse_grade
from mmreward.verifiers.numbers import chartqa_relaxed
from mmreward.verifiers.peers import answers, judges, shaping
from mmreward.verifiers.peers.rex_omni import rex_omni_f1
from mmreward.verifiers.peers.vision_r1 import vision_r1_format, vision_r1_precision, vision_r1_recall
from mmreward.verifiers.peers.visual_rft import Confident, visual_rft_confidence, visual_rft_grounding
from mmreward.verifiers.peers.vlm_r1 import vlm_r1_iou
from mmreward.verifiers.probes import pearl_probe_accuracy, probes_of

Paid = Callable[[Sample], float]


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One attack.

    Args:
        name: what is done, and to whom.
        reward: of ours, with `args`.
        honest: a response that deserves its pay.
        attack: the response that games, or is lost by, the other project.
        wanted: what the attack is worth here.
        peer: what the other project pays for it, `theirs`; None where there is no formula to carry.
    """

    name: str
    reward: str
    honest: str
    attack: str
    wanted: float
    target: Any = None
    args: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    peer: Paid | None = None
    theirs: float = math.nan

    def sample(self, response: str) -> Sample:
        return Sample(prompt="?", response=response, target=self.target, meta=self.meta)


def worth(sample: Sample, name: str, **args: Any) -> Score:
    return asyncio.run(load(name, **args)(sample))


def said(answer: str) -> str:
    return f"<think>I look at it.</think>\n<answer>\n{answer}\n</answer>"


def by(name: str, **args: Any) -> Paid:
    """A reward of ours that reproduces another project's."""
    return lambda sample: worth(sample, name, **args).value


# --- boxes ----------------------------------------------------------------------------------------

CAT, DOG, BIRD = ([0, 0, 100, 100], "cat"), ([200, 200, 300, 300], "dog"), ([500, 500, 700, 600], "bird")
KITTEN = ([200, 200, 300, 300], "cat")
JUNK = [([800, i, 810, i + 10], "cat") for i in range(98)]


def objects(*boxes: tuple[list[float], str]) -> list[dict[str, Any]]:
    return [{"bbox_2d": corners, "label": label} for corners, label in boxes]


def listed(*boxes: tuple[list[float], str]) -> str:
    return said(json.dumps(objects(*boxes)))


def on(formula: Callable[..., float], **options: Any) -> Paid:
    """A formula of boxes, on those of the response and the target."""

    def paid(sample: Sample) -> float:
        written = json.loads(sample.response.partition("<answer>")[2].partition("</answer>")[0])
        found, truth = (
            [Box(*one["bbox_2d"], one["label"]) for one in some] for some in (written, sample.target)
        )
        return formula(found, truth, **options)

    return paid


def junk_without_confidence(found: list[Box], truth: list[Box]) -> float:
    return visual_rft_confidence([Confident(box, 0.0) for box in found], truth)


def v_triune(**args: Any) -> Paid:
    return by("v_triune", **{"threshold": 0.5, "format_ratio": 0.0, **args})


BY_BOXES = {"ratios": {"iou_max_iou_first": 1.0}}
BY_MAP = {"ratios": {"map": 1.0}}


def boxes(name: str, attack: str, wanted: float, peer: Paid | None, theirs: float, **more: Any) -> Vector:
    """Perfect boxes are the honest answer."""
    given = {"reward": "iou", "target": objects(CAT), **more}
    honest = said(json.dumps(given["target"]))
    return Vector(name=name, attack=attack, wanted=wanted, peer=peer, theirs=theirs, honest=honest, **given)


THREE = {"target": objects(CAT, DOG, BIRD)}
TWO = {"target": objects(CAT, DOG)}
CATS = {"target": objects(CAT, KITTEN)}
NEAR = ([0, 0, 100, 96.6], "cat")
SMALL = {"target": [{"bbox_2d": [101, 203, 141, 243], "label": "cat"}], "meta": {"size": (476, 644)}}
SMALL_IN_PIXELS = listed(([65, 97, 91, 116], "cat"))
GOOD = json.dumps(objects(CAT))

BOXES = [
    boxes(
        "V-Triune loses three perfect boxes in another order",
        *(listed(BIRD, CAT, DOG), 1.0, v_triune(**BY_BOXES), 0.0),
        **THREE,
    ),
    boxes(
        "V-Triune loses a perfect box to one of another label after it",
        *(listed(CAT, ([900, 900, 950, 950], "dog")), 2 / 3, v_triune(**BY_BOXES), 0.0),
    ),
    boxes("V-Triune after one junk box", listed(CAT, DOG, JUNK[0]), 0.8, v_triune(), 0.57, **TWO),
    boxes("V-Triune after ten junk boxes", listed(CAT, DOG, *JUNK[:10]), 4 / 14, v_triune(), 0.0050, **TWO),
    boxes("V-Triune for one of two", listed(CAT), 2 / 3, v_triune(), 0.345, **TWO),
    boxes(
        "98 junk boxes after two true ones are free under average precision (VLM-R1)",
        *(listed(CAT, KITTEN, *JUNK), 4 / 102, by("vlm_r1", formula="map"), 1.0),
        **CATS,
    ),
    boxes(
        "the same in V-Triune, but for its penalty of the number",
        *(listed(CAT, *JUNK[:1]), 2 / 3, v_triune(**BY_MAP), 0.6),
    ),
    boxes(
        "98 junk boxes before two true ones are not",
        *(listed(*JUNK, CAT, KITTEN), 4 / 102, by("vlm_r1", formula="map"), 0.020),
        **CATS,
    ),
    boxes(
        "the length factor makes junk dear and no more (VLM-R1, odLength)",
        *(listed(CAT, KITTEN, *JUNK), 4 / 102, by("vlm_r1", formula="od_length"), 0.02),
        **CATS,
    ),
    boxes("the same box five times (VLM-R1)", listed(*[CAT] * 5), 2 / 6, by("vlm_r1", formula="ap50"), 1.0),
    boxes("the same box ten times (Rex-Omni, issue 146)", listed(*[CAT] * 10), 2 / 11, on(rex_omni_f1), 1.0),
    boxes(
        "the same box five times in V-Triune, which forgets four", listed(*[CAT] * 5), 2 / 6, v_triune(), 1.0
    ),
    boxes(
        "a label that is not in the truth is free (VLM-R1)",
        *(listed(CAT, ([1, 1, 9, 9], "ghost")), 2 / 3, by("vlm_r1", formula="map"), 1.0),
    ),
    boxes(
        "perfect boxes under wrong labels (VLM-R1, weighted sum)",
        *(listed((CAT[0], "cow"), (DOG[0], "cow")), 0.0, by("vlm_r1", formula="weighted_sum"), 0.3),
        **TWO,
    ),
    boxes(
        "perfect boxes under wrong labels (Vision-R1)",
        *(listed((CAT[0], "cow"), (DOG[0], "cow")), 0.0, on(vision_r1_recall, step=0), 1.0),
        **TWO,
    ),
    boxes(
        "nine junk boxes beside a true one (Vision-R1, first release)",
        *(listed(CAT, *JUNK[:9]), 2 / 11, on(vision_r1_precision, step=0), 1.0),
    ),
    boxes(
        "one junk box that is sure to be junk (Visual-RFT, confidence 0)",
        *(listed(JUNK[0]), 0.0, on(junk_without_confidence), 1.0),
    ),
    boxes(
        "a box that is nearly right, a quarter into V-Triune's training",
        *(listed(NEAR), 1.0, v_triune(threshold="dynamic"), 0.976),
        **{"reward": "dynamic_iou", "meta": {"progress": 0.25}},
    ),
    boxes(
        "the same box just after, where V-Triune pays nothing",
        *(listed(NEAR), 1.0, v_triune(threshold="dynamic"), 0.0),
        **{"reward": "dynamic_iou", "meta": {"progress": 0.26}},
    ),
    boxes(
        "the same box at the end of V-Triune's training",
        *(listed(NEAR), 0.993, v_triune(threshold="dynamic"), 0.0),
        **{"reward": "dynamic_iou", "meta": {"progress": 1.0}},
    ),
    Vector(
        name="a small box rounded to pixels, rightly, at V-Triune's last stage",
        reward="dynamic_iou",
        args={"space": "pixel", "progress": 1.0},
        honest=SMALL_IN_PIXELS,
        attack=SMALL_IN_PIXELS,
        wanted=1.0,
        peer=v_triune(threshold=0.99, pixels=True),
        theirs=0.0,
        **SMALL,
    ),
    boxes(
        "an apostrophe in a label (V-Triune)",
        *(said("[{'bbox_2d': [0, 0, 100, 100], 'label': 'cat's toy'}]"), 1.0, v_triune(), 0.0),
        target=objects((CAT[0], "cat's toy")),
    ),
    boxes("a code fence (V-Triune)", said(f"```json\n{GOOD}\n```"), 1.0, v_triune(), 0.0),
    boxes("a single object (V-Triune)", said(GOOD[1:-1]), 1.0, v_triune(), 0.0),
    boxes("an infinite edge (V-Triune)", said(GOOD.replace("[0,", "[-1e999,")), 0.0, v_triune(), 0.0),
    boxes(
        "boxes in the thinking, and none in the answer (V-Triune)",
        *(f"<think><answer>{GOOD}</answer></think><answer>[]</answer>", 0.0, v_triune(), 1.0),
    ),
    boxes("nothing on an empty picture (V-Triune)", said("[]"), 1.0, v_triune(), 0.0, target=[]),
    boxes("nothing on an empty picture (VLM-R1)", said("[]"), 1.0, by("vlm_r1"), 1.0, target=[]),
    boxes(
        "nonsense on an empty picture (Vision-R1)",
        *(said("[oops"), 0.0, lambda _: vision_r1_format("[oops", 0), 1.0),
        target=[],
    ),
    boxes(
        "an honest nothing on an empty picture (Vision-R1)",
        *(said("[]"), 1.0, lambda _: vision_r1_format("[]", 0), 0.0),
        target=[],
    ),
    boxes(
        "any JSON is in form (Vision-R1)", said("{}"), 0.0, lambda _: vision_r1_format("{}", 1), 1.0, **TWO
    ),
    boxes(
        "the IoU of fractions (VLM-R1)",
        *(listed(([0, 0, 0.5, 0.5], "cat")), 1.0, lambda _: vlm_r1_iou(*[Box(0, 0, 0.5, 0.5)] * 2), 0.0),
        target=objects(([0, 0, 0.5, 0.5], "cat")),
        args={"space": "norm_1", "target_space": "norm_1"},
    ),
    boxes("a box without area (VLM-R1 divides by zero)", listed(([5, 5, 5, 5], "cat")), 0.0, None, 0.0),
    boxes("a box without a label (VLM-R1 fails)", said('[{"bbox_2d": [0, 0, 100, 100]}]'), 0.0, None, 0.0),
    Vector(
        name="a box that misses is paid for (Visual-RFT, grounding)",
        reward="grounding",
        args={"measure": "giou"},
        target={"bbox_2d": [900, 900, 1000, 1000]},
        honest=said("[900, 900, 1000, 1000]"),
        attack=said("[0, 0, 100, 100]"),
        wanted=0.0,
        peer=lambda _: visual_rft_grounding(Box(0, 0, 0.1, 0.1), Box(0.9, 0.9, 1, 1)),
        theirs=0.02,
    ),
    Vector(
        name="several boxes where one is asked for",
        reward="grounding",
        target={"bbox_2d": [0, 0, 100, 100]},
        honest=said("[0, 0, 100, 100]"),
        attack=said("[[0, 0, 100, 100], [50, 50, 100, 100]]"),
        wanted=0.0,
    ),
]

# --- short answers --------------------------------------------------------------------------------


def text(formula: Callable[..., float], *more: Any) -> Paid:
    """A formula of response and gold text."""
    return lambda sample: formula(sample.response, f"<answer>{sample.target}</answer>", *more)


def bare(formula: Callable[..., float], *more: Any) -> Paid:
    return lambda sample: formula(sample.response, sample.target, *more)


def answer(
    name: str,
    reward: str,
    target: Any,
    written: str,
    wanted: float,
    peer: Paid | None,
    theirs: float,
    **more: Any,
) -> Vector:
    """What is written stands in the tags, unless `attack` says all; the honest answer is the target."""
    given = {"honest": said(str(target)), "attack": said(written), **more}
    return Vector(name=name, reward=reward, target=target, wanted=wanted, peer=peer, theirs=theirs, **given)


LETTER, WORD, LABEL = (
    text(answers.vlm_r1_choice),
    text(answers.vlm_r1_yes_no),
    text(answers.visual_rft_label),
)
ANIMALS = {"meta": {"labels": ["tiger cat", "dog", "lynx"]}}
OPTIONS = {"meta": {"options": ["cat", "dog", "cow", "horse"]}}
ALL = {"args": {"select": "all"}}
PROBES = [{"question": "Colour?", "answer": "red"}, {"question": "How many?", "answer": "3"}]
CLASSES = ["healthy", "myopathy"]
THOUGHT = "The motor units fire late, with long polyphasic waves."

ANSWERS = [
    answer("an option in brackets (VLM-R1)", "choice", "A", "(A)", 1, LETTER, 0, **OPTIONS),
    answer("an option with one bracket (VLM-R1)", "choice", "A", "A)", 1, LETTER, 0, **OPTIONS),
    answer("an option in a sentence (VLM-R1)", "choice", "D", "Option D is right", 1, LETTER, 0, **OPTIONS),
    answer("B, not C, where B is right", "choice", "B", "I think it is B, not C.", 0, LETTER, 0, **OPTIONS),
    answer("B, not C, where C is right", "choice", "C", "I think it is B, not C.", 0, LETTER, 1, **OPTIONS),
    answer("all options (VLM-R1)", "choice", "D", "A, B, C, D", 0, LETTER, 1, **OPTIONS),
    answer("an article for an option (VLM-R1)", "choice", "A", "the cat is a", 0, LETTER, 1, **OPTIONS),
    answer(
        "one option again and again, and another", "choice", "B", "B. B. B. B. or A", 0, LETTER, 1, **OPTIONS
    ),
    answer("know holds no (VLM-R1)", "yes_no", "no", "I do not know", 0, WORD, 1),
    answer("nothing holds no (VLM-R1)", "yes_no", "no", "nothing", 0, WORD, 1),
    answer("yesterday holds yes (VLM-R1)", "yes_no", "yes", "yesterday", 0, WORD, 1),
    answer("no and yes (VLM-R1)", "yes_no", "no", "no, yes", 0, WORD, 1),
    answer("an empty answer (Visual-RFT, issue 176)", "label", "tiger cat", "", 0, LABEL, 1, **ANIMALS),
    answer(
        "the list of all classes (Visual-RFT, issue 79)",
        *("label", "tiger cat", "tiger cat, dog, lynx", 0, LABEL, 1),
        **ANIMALS,
    ),
    answer("a single letter (Visual-RFT, issue 70)", "label", "tiger cat", "t", 0, LABEL, 1, **ANIMALS),
    answer(
        "any text that names the class (Visual-RFT)",
        *("label", "tiger cat", "", 0, LABEL, 1),
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
        bare(answers.sophia_ocr),
        math.exp(-1),
    ),
    answer(
        "two options in order (SophiaVL-R1)", "choice", "A,B", "A,B", 1, bare(answers.sophia_choice), 0, **ALL
    ),
    answer("one option twice (SophiaVL-R1)", "choice", "AB", "A,A", 0, bare(answers.sophia_choice), 1, **ALL),
    answer(
        "a number that resembles the true one (VLM-R1)",
        *("answer", "1,234", "1,235", 0, text(answers.vlm_r1_default), 0.8),
    ),
    answer(
        "1950 for 2010 (ChartQA)",
        *("answer", "1950", "2010", 0, lambda sample: chartqa_relaxed(sample.target, "2010"), 1),
        args={"tolerance": 0.05, "relax": "integers"},
    ),
    answer(
        "a class named in the thinking (TimeMaster)",
        *("time_series", "myopathy", "", 0, bare(answers.timemaster, CLASSES), 1.0),
        honest=f"<think>{THOUGHT}</think><class>myopathy</class>",
        attack=f"<think>{THOUGHT} <class>myopathy</class></think><class>healthy</class>",
        meta={"labels": CLASSES},
    ),
    answer(
        "the easy probe alone (PEARL)",
        *("probes", None, "", 1 / 2),
        *(lambda sample: pearl_probe_accuracy(sample.response, probes_of(PROBES)), 1.0),
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
    answer("a tower of powers hangs", "math", "5", r"\boxed{9^{9^{9^9}}}", 0, None, 0),
    answer("factorials of factorials hang", "math", "5", "((3!)!)!", 0, None, 0),
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

VECTORS = [*BOXES, *ANSWERS, *MATHS, *FORMS]


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector.name) for vector in VECTORS])
def test_an_attack_earns_no_more_than_the_honest_answer(vector):
    begun = time.monotonic()
    honest, attack = (
        worth(vector.sample(response), vector.reward, **vector.args)
        for response in (vector.honest, vector.attack)
    )
    assert honest.value == pytest.approx(1.0)
    assert attack.value == pytest.approx(vector.wanted, abs=1e-3)
    assert list(attack.parts) == list(honest.parts)  # trainers take their columns from the first sample
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("vector", [pytest.param(one, id=one.name) for one in VECTORS if one.peer])
def test_the_other_project_pays_what_it_is_known_to_pay(vector):
    assert vector.peer(vector.sample(vector.attack)) == pytest.approx(vector.theirs, abs=5e-4)


def test_no_two_vectors_have_one_name():
    assert len({vector.name for vector in VECTORS}) == len(VECTORS)


# --- what judges write, and lengths ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "wanted", "theirs"),
    [
        ("0.85", 0.85, 0.0),
        ("0.95", 0.95, 0.0),
        (".7", 0.7, 0.0),
        ("85%", 0.85, 0.0),
        ("7/10", 0.7, 0.0),
        ("<answer>0.85</answer>", 0.85, 0.0),
        ("0.8", 0.8, 0.8),
        (r"\boxes{0.8}", None, 0.8),
        ("**Total Wrong Steps**: 3", None, 1.0),
        ("**2 wrong steps**", None, 1.0),
        ("Step 1 is wrong: 0.2", None, 1.0),
        ("</think> 0.25", 0.25, 0.0),
        ("</think> 2.5.5", None, 0.0),
        ("I cannot tell.", None, 0.0),
    ],
)
def test_grades_that_sophiavl_r1_misreads(written, wanted, theirs):
    """None: no grade is read, and the score fails rather than being 0 or 1."""
    assert judges.sophia_grade(written) == theirs
    if wanted is None:
        with pytest.raises(Unscorable):
            parse_grade(written)
    else:
        assert parse_grade(written) == pytest.approx(wanted)


@pytest.mark.parametrize(("written", "theirs"), [("1", 1), ("0", -1), ("1.0", -1), ("10", -1), ("yes", 0)])
def test_r1_rewards_referee_takes_any_0_for_a_no(written, theirs):
    assert judges.r1_reward_referee(written) == theirs


def test_a_short_wrong_answer_is_paid_as_a_right_one_by_vlm_r1():
    assert (
        shaping.vlm_r1_cosine(0.0, 100) == shaping.vlm_r1_cosine(1.0, 100) == pytest.approx(0.988, abs=5e-4)
    )
    wrong, right = length_scaled([Score(0.0), Score(1.0)], [100, 100], limit=1024)
    assert wrong.value <= 0 < 0.5 <= right.value


def test_an_endless_answer_is_paid_as_an_empty_one_by_vlm_r1():
    assert [shaping.vlm_r1_cosine(0.0, n) for n in (0, 1024, 2048)] == pytest.approx([1.0, 0.5, 1.0])
    short, long, longer = length_scaled([Score(1.0)] * 3, [0, 1024, 2048], limit=1024)
    assert short.value == 1.0 and long.value == longer.value == 0.5


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        ("108 seconds in VLM-R1's repetition", '[{"bbox_2d""label"' * 400),
        ("1.4 seconds in EasyR1's and verl's format", "<think>" * 1300 + "</think>" * 1300),
    ],
)
def test_texts_that_choke_an_expression_take_no_time(name, attack):
    begun = time.process_time()
    shaping.vlm_r1_repetition(attack)
    for reward in ("repetition", "format"):
        worth(Sample(response=attack), reward)
    worth(Sample(response=said(attack), target=objects(CAT)), "iou")
    assert time.process_time() - begun < 0.2, name
