"""Attacks on verifiers of boxes, see `attack.Vector`."""

import json
import math
from typing import Any

from support.attack import Paid, Vector, by, said

from mmreward.rewards.peers.vlm_r1 import inclusive_iou
from mmreward.verifiers.boxes import Box

CAT, DOG, BIRD = ([0, 0, 100, 100], "cat"), ([200, 200, 300, 300], "dog"), ([500, 500, 700, 600], "bird")
KITTEN = ([200, 200, 300, 300], "cat")
JUNK = [([800, i, 810, i + 10], "cat") for i in range(98)]


def objects(*boxes: tuple[list[float], str]) -> list[dict[str, Any]]:
    return [{"bbox_2d": corners, "label": label} for corners, label in boxes]


def listed(*boxes: tuple[list[float], str]) -> str:
    return said(json.dumps(objects(*boxes)))


def v_triune(**args: Any) -> Paid:
    return by("v_triune", **{"threshold": 0.5, "format_ratio": 0.0, **args})


BY_BOXES = {"ratios": {"iou_max_iou_first": 1.0}}
BY_MAP = {"ratios": {"map": 1.0}}


def boxes(
    name: str, attack: str, wanted: float, peer: Paid | None = None, theirs: float = math.nan, **more: Any
) -> Vector:
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
    boxes("the same box ten times (Rex-Omni, issue 146)", listed(*[CAT] * 10), 2 / 11),
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
        *(listed((CAT[0], "cow"), (DOG[0], "cow")), 0.0),
        **TWO,
    ),
    boxes(
        "nine junk boxes beside a true one (Vision-R1, first release)",
        *(listed(CAT, *JUNK[:9]), 2 / 11),
    ),
    boxes(
        "one junk box that is sure to be junk (Visual-RFT, confidence 0)",
        *(listed(JUNK[0]), 0.0),
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
        *(said("[oops"), 0.0),
        target=[],
    ),
    boxes(
        "an honest nothing on an empty picture (Vision-R1)",
        *(said("[]"), 1.0),
        target=[],
    ),
    boxes("any JSON is in form (Vision-R1)", said("{}"), 0.0, **TWO),
    boxes(
        "the IoU of fractions (VLM-R1)",
        *(listed(([0, 0, 0.5, 0.5], "cat")), 1.0, lambda _: inclusive_iou(*[Box(0, 0, 0.5, 0.5)] * 2), 0.0),
        target=objects(([0, 0, 0.5, 0.5], "cat")),
        args={"space": "norm_1", "target_space": "norm_1"},
    ),
    boxes("a box without area (VLM-R1 divides by zero)", listed(([5, 5, 5, 5], "cat")), 0.0),
    boxes("a box without a label (VLM-R1 fails)", said('[{"bbox_2d": [0, 0, 100, 100]}]'), 0.0),
    Vector(
        name="a box that misses is paid for (Visual-RFT, grounding)",
        reward="grounding",
        args={"measure": "giou"},
        target={"bbox_2d": [900, 900, 1000, 1000]},
        honest=said("[900, 900, 1000, 1000]"),
        attack=said("[0, 0, 100, 100]"),
        wanted=0.0,
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
