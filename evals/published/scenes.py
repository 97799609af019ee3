"""Rules and question lists over pictures of shapes world, and second writings of their publishers' lines.

A rule reads what the scene was drawn from in the place of a detector; a list is asked one question at a time.
Also the table of all second writings that take whole samples.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmreward import Media, Sample
from mmreward.assets import ASSETS
from mmreward.mini.world import Scene, Thing, render
from mmreward.rewards.judged.vqascore import VLM as ALIGNED
from mmreward.rewards.pictures import dpg, geneval2
from mmreward.rewards.pictures.visionreward import SUFFIX

from . import blip, clips, flan, marking, readers, vjepa
from .checkpoints import save_clip
from .dual import clipscore
from .readers import Sampled, pictures_of
from .upstream import Args
from .vlm import NaiveVLM, load, naive_logprobs

SIDE = 64
SCENES = (
    Scene((Thing("red", "circle", 0.25, 0.5, 0.12), Thing("blue", "square", 0.75, 0.5, 0.12))),
    Scene((Thing("red", "circle", 0.5, 0.2, 0.12), Thing("blue", "square", 0.5, 0.8, 0.12))),
    Scene((Thing("red", "circle", 0.2, 0.2, 0.12), Thing("blue", "square", 0.8, 0.7, 0.12))),
    Scene((Thing("yellow", "circle", 0.5, 0.2, 0.12),)),
    Scene(
        (
            Thing("red", "circle", 0.25, 0.25, 0.12),
            Thing("red", "circle", 0.25, 0.75, 0.12),
            Thing("blue", "square", 0.75, 0.5, 0.12),
        )
    ),
)


def drawn(texts: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Sample]:
    """Every scene with every prompt and its metadata; the id begins with the scene's number."""
    pictures = [Media(render(scene, SIDE)) for scene in SCENES]
    return [
        Sample(id=f"{row}-{place}", prompt=prompt, image=picture, meta=dict(meta))
        for row, picture in enumerate(pictures)
        for place, (prompt, meta) in enumerate(texts)
    ]


def things_of(sample: Sample) -> tuple[Thing, ...]:
    """What the sample's picture was drawn from."""
    return SCENES[int(sample.id.partition("-")[0])].things


# --- GenEval ------------------------------------------------------------------------------------------------

ASKED: tuple[dict[str, Any], ...] = (
    {"tag": "single_object", "include": [{"class": "circle", "count": 1}]},
    {"tag": "two_object", "include": [{"class": "circle", "count": 1}, {"class": "square", "count": 1}]},
    {
        "tag": "counting",
        "include": [{"class": "circle", "count": 2}],
        "exclude": [{"class": "circle", "count": 3}],
    },
    {
        "tag": "counting",
        "include": [{"class": "circle", "count": 1}],
        "exclude": [{"class": "circle", "count": 2}],
    },
    {"tag": "colors", "include": [{"class": "circle", "count": 1, "color": "yellow"}]},
    *(
        {
            "tag": "position",
            "include": [
                {"class": "circle", "count": 1},
                {"class": "square", "count": 1, "position": [where, 0]},
            ],
        }
        for where in ("left of", "right of", "above", "below")
    ),
    {
        "tag": "color_attr",
        "include": [
            {"class": "circle", "count": 1, "color": "red"},
            {"class": "square", "count": 1, "color": "blue"},
        ],
    },
)
"""Each of the six tags as GenEval's file has them."""


def prompted() -> list[Sample]:
    """Scenes with rows of GenEval's file."""
    return drawn([("shapes", row) for row in ASKED])


def relations(one: Thing, other: Thing) -> set[str]:
    """GenEval's `relative_position`, whose threshold is a tenth of both sides."""
    first, second = (np.array(thing.box).reshape(2, 2) * SIDE for thing in (one, other))
    offset = first.mean(0) - second.mean(0)
    slack = 0.1 * ((first[1] - first[0]) + (second[1] - second[0]))
    revised = np.maximum(np.abs(offset) - slack, 0) * np.sign(offset)
    if np.all(np.abs(revised) < 1e-3):
        return set()
    across, down = revised / np.linalg.norm(offset)
    found = {"left of": across < -0.5, "right of": across > 0.5, "above": down < -0.5, "below": down > 0.5}
    return {name for name, holds in found.items() if holds}


def evaluated(things: Sequence[Thing], row: Mapping[str, Any]) -> float:
    """GenEval's `evaluate`."""
    right, groups = True, list[Sequence[Thing] | None]()
    for wanted in row["include"]:
        found = [thing for thing in things if thing.shape == wanted["class"]][: wanted["count"]]
        matched = len(found) >= wanted["count"]
        if matched and "color" in wanted:
            matched = sum(thing.colour == wanted["color"] for thing in found) >= wanted["count"]
        if matched and "position" in wanted:
            where, place = wanted["position"]
            group = groups[place]
            matched = group is not None and all(
                where in relations(one, other) for one in found for other in group
            )
        groups.append(found if matched else None)
        right = right and matched
    for refused in row.get("exclude", ()):
        right = right and sum(thing.shape == refused["class"] for thing in things) < refused["count"]
    return float(right)


# --- T2I-CompBench ------------------------------------------------------------------------------------------

SIDES = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}


def placed() -> list[Sample]:
    """Scenes with prompts that ask for a place."""
    prompts = [f"a circle on the {side} of a square" for side in SIDES]
    return drawn(
        [(prompt, {}) for prompt in (*prompts, "a square near a circle", "a circle next to a triangle")]
    )


def place(prompt: str, things: Sequence[Thing]) -> float:
    """A quarter for each object and a half for the place, and nothing below a half; boxes never overlap."""
    words = prompt.split()
    pair = [next((thing for thing in things if thing.shape == words[at]), None) for at in (1, -1)]
    one, other = pair
    where = 0.0
    if one is not None and other is not None:
        across, down = (one.x - other.x) * SIDE, (one.y - other.y) * SIDE
        if words[2] in ("near", "next"):
            near = abs(across) < 150 or abs(down) < 150
            where = 1.0 if near else 150 / max(abs(across), abs(down))
        else:
            toward = SIDES[words[4]]
            along, aside = (across, down) if toward[0] else (down, across)
            where = float(along * sum(toward) > 0 and abs(along) > abs(aside))
    value = sum(0.25 for thing in pair if thing is not None) + where / 2
    return value if value >= 0.5 else 0.0


def mixed() -> list[Sample]:
    """A row of each kind that T2I-CompBench's 3-in-1 reads."""
    meta = {"phrases": ["a red circle", "a square"], "action": "a circle beside a square"}
    return drawn(
        [
            ("a circle on the left of a square", meta | {"kind": kind})
            for kind in ("spatial", "action", "both")
        ]
    )


def save_parts(folder: Path) -> Args:
    """BLIP's file, the oracle and a CLIP."""
    return blip.save_parts(folder) | {"detector": "oracle", "encoder": save_clip(folder / "clip")}


def three_in_one(args: Args) -> Sampled:
    """Mean of BLIP-VQA, the place and the cosine, of those that the kind has."""
    asked = blip.assents(args)
    cosine = clipscore({"weights": args["encoder"]})

    def value(sample: Sample) -> float:
        found = [asked.value(sample)]
        if sample.meta["kind"] != "action":
            found.append(place(sample.prompt, things_of(sample)))
        if sample.meta["kind"] != "spatial":
            found.append(cosine.value(pictures_of(sample)[0], sample.meta["action"]))
        return sum(found) / len(found)

    return Sampled(value)


# --- lists of questions -------------------------------------------------------------------------------------


def judge() -> NaiveVLM:
    """The miniature, one request at a time."""
    return load(str(ASSETS / "mini-vlm"))


def assent(naive: NaiveVLM, sample: Sample, question: str) -> float:
    """P(yes) against P(no) of a picture or of a clip's frames; every spelling of both that is one token."""
    clip = sample.video
    frames = None if clip is None else torch.from_numpy(clip.frames_at(range(clip.frames)))
    video = None if frames is None else frames.permute(0, 3, 1, 2)
    last = naive_logprobs(naive, [] if clip else pictures_of(sample), question, video=video)[-1].exp()
    yes, no = (float(sum(last[token] for token in spelled(naive, [word]))) for word in ("yes", "no"))
    return yes / (yes + no)


def spelled(naive: NaiveVLM, words: Sequence[str]) -> set[int]:
    """Tokens of the words by themselves: their casings, with a space before them and without."""
    forms = {form for word in words for form in (word, word.upper(), word.title())}
    texts = [space + form for form in forms for space in ("", " ")]
    found = [naive.processor.tokenizer.encode(text, add_special_tokens=False) for text in texts]
    return {ids[0] for ids in found if len(ids) == 1}


COLOURS = ("red", "blue", "green", "yellow", "white", "black")
SHAPES = ("circle", "square", "triangle")
ABOUT = [f"Is there a {colour} {shape}?" for colour in COLOURS for shape in SHAPES]


def write_questions(folder: Path) -> tuple[Args, Args]:
    """Files in VisionReward's forms, in our own words: arguments of `visionreward` and of its clips' list."""
    image = ["Is there a circle?", "Is there a square?", "Is there a triangle? ", *ABOUT, *ABOUT[:9]]
    video = [f'Does it show "[[prompt]]" {word}?' for word in ("wholly", "mostly", "at all")]
    video += [*ABOUT, *ABOUT[:8]]
    coef = [2.3, *(0.01 * place for place in range(1, 28))]
    files = {
        "image.txt": "\n".join(image),
        "image.json": json.dumps({"coef": [2.3, *(x / 2 for x in coef[1:])], "intercept": [0.125]}),
        "video.txt": "\n".join(video) + "\n",
        "video.json": json.dumps([0.01 * place for place in range(1, 30)]),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    first, second = (
        {"questions": str(folder / f"{kind}.txt"), "coefficients": str(folder / f"{kind}.json")}
        for kind in ("image", "video")
    )
    return first, second


def save_list(folder: Path) -> Args:
    """The arguments of `visionreward`."""
    folder.mkdir(exist_ok=True)
    return write_questions(folder)[0] | {"judge": "mini-vlm", "alignment": "mini-vlm", "min_mass": 0.0}


def described() -> list[Sample]:
    """Scenes with a prompt each."""
    return drawn([("a red circle and a blue square", {})])


def weighed(alignment: float, yes: Sequence[bool], weights: Mapping[str, Any]) -> float:
    """VisionReward's reward list, masks by index, alignment before the rest, dot and intercept."""
    row = [1 if one else -1 for one in yes]
    for mask, features in {0: [22, 23, 24, 28, 29], 1: [25, 26], 2: [27]}.items():
        for feature in features:
            row[feature] *= int(row[mask] > 0)
    return float(np.dot([alignment, *row[3:]], weights["coef"]) + weights["intercept"][0])


def visionreward(args: Args) -> Sampled:
    """One request for each question."""
    naive = judge()
    questions = [line.strip() for line in Path(args["questions"]).read_text().splitlines()]
    weights = json.loads(Path(args["coefficients"]).read_text())
    (token,) = naive.processor.tokenizer.encode("Yes", add_special_tokens=False)

    def value(sample: Sample) -> float:
        yes = [assent(naive, sample, question + SUFFIX) > 0.5 for question in questions]
        asked = ALIGNED.replace("{prompt}", sample.prompt)
        aligned = naive_logprobs(naive, pictures_of(sample), asked)[-1].exp()[token]
        return weighed(float(aligned), yes, weights)

    return Sampled(value)


def save_clips_list(folder: Path) -> Args:
    """The arguments of `visionreward_video`."""
    folder.mkdir(exist_ok=True)
    return write_questions(folder)[1] | {"judge": "mini-vlm", "min_mass": 0.0}


def moved() -> list[Sample]:
    """Clips of two and four frames at two a second, of which a judge reads all."""
    pictures = [np.asarray(render(scene, SIDE)) for scene in SCENES]
    shown = ((0, 0, 1, 1), (3, 4), (4, 3, 2, 1))
    return [
        Sample(
            id=str(row),
            prompt="a red circle and a blue square",
            video=Media(np.stack([pictures[place] for place in places]), "video", fps=2.0),
        )
        for row, places in enumerate(shown)
    ]


def visionreward_video(args: Args) -> Sampled:
    """One request for each question, as the publisher sums them: answer times weight, and their mean."""
    naive = judge()
    questions = Path(args["questions"]).read_text().splitlines()
    weights = json.loads(Path(args["coefficients"]).read_text())

    def value(sample: Sample) -> float:
        asked = [question.replace("[[prompt]]", sample.prompt) + SUFFIX for question in questions]
        yes = [1 if assent(naive, sample, question) > 0.5 else -1 for question in asked]
        return float(np.mean(np.array(yes) * np.array(weights)))

    return Sampled(value)


ATOMS = (
    ("How many circles are in the image?", "one", ("one", "1")),
    ("Are the circles red?", "Yes", ("yes",)),
    ("Are there any circles in the image?", "Yes", ("yes",)),
    ("Are there any triangles in the image?", "No", ("no",)),
)
"""Questions as GenEval 2's file has them, their answers, and the words that count as these."""


def counted() -> list[Sample]:
    """Scenes with a row of GenEval 2's file."""
    skills = ["count", "attribute", "object", "object"]
    row = {"atom_count": 4, "vqa_list": [[text, right] for text, right, _ in ATOMS], "skills": skills}
    return drawn([("a red circle and a blue square", row)])


def soft_tifa(args: Args) -> Sampled:
    """Geometric or arithmetic mean of the right answers' probabilities, each token once."""
    naive = judge()

    def value(sample: Sample) -> float:
        sure = []
        for text, _, words in ATOMS:
            last = naive_logprobs(naive, pictures_of(sample), text + geneval2.SUFFIX)[-1].exp()
            sure.append(float(sum(last[token] for token in spelled(naive, words))))
        return math.prod(sure) ** (1 / len(sure)) if args["how"] == "gm" else sum(sure) / len(sure)

    return Sampled(value)


GRAPH = (
    (1, "Is there a circle?", "0", "entity - whole (circle)"),
    (2, "Is there a triangle?", "0", "entity - whole (triangle)"),
    (3, "Is the circle red?", "1", "attribute - color (circle, red)"),
    (4, "Is the circle left of the triangle?", "1, 2", "relation - spatial (circle, triangle, left)"),
)
"""Lines of DPG-Bench's file: number, question, parents, tuple."""


def depending() -> list[Sample]:
    """Scenes with a graph of questions."""
    names = ("proposition_id", "question_natural_language", "dependency", "tuple")
    return drawn([("x", {"dpg": [dict(zip(names, line, strict=True)) for line in GRAPH]})])


def graded(args: Args) -> Sampled:
    """Share of right answers, a child of a failed parent counting as wrong."""
    naive = judge()

    def value(sample: Sample) -> float:
        scores = {line[0]: float(assent(naive, sample, line[1] + dpg.SUFFIX) > 0.5) for line in GRAPH}
        for number, _, parents, _ in GRAPH:
            if any(scores.get(int(parent), 1.0) == 0 for parent in parents.split(",")):
                scores[number] = 0.0
        return sum(scores.values()) / len(scores)

    return Sampled(value)


# --- edits --------------------------------------------------------------------------------------------------

BOX = (0.25, 0.25, 0.75, 0.5)


def overpainted() -> list[Sample]:
    """Pictures over whose boxes, or round them, a scene was laid, and one that was drawn larger."""
    sources, found = [row.image for row in described() if row.image is not None], []
    for row, (source, other) in enumerate(pairwise(sources)):
        edited = source.still().copy()
        side = SIDE // 4
        edited[side : 2 * side, side : 3 * side] = other.still()[:side, : 2 * side]
        edited[3 * side :] //= row + 1
        image = Image.fromarray(edited).resize((SIDE << (row == 3), SIDE << (row == 3)))
        found.append(Sample(id=str(row), image=Media(image), inputs=(source,), meta={"region": list(BOX)}))
    return found


def kept(args: Args) -> Sampled:
    """The harmonic mean of both sides' differences, with the arguments' usual values."""

    def value(sample: Sample) -> float:
        edited, source = pictures_of(sample)
        one, other = (
            np.asarray(p.resize((SIDE, SIDE), Image.Resampling.BICUBIC), float) for p in (edited, source)
        )
        inside, outside = [], []
        for y in range(SIDE):
            for x in range(SIDE):
                apart = float(np.abs(one[y, x] - other[y, x]).mean()) / 255
                if 16 <= x < 48 and 16 <= y < 32:
                    inside.append(apart)
                if not (15 <= x < 49 and 15 <= y < 33):
                    outside.append(apart)
        changed = min(1.0, float(np.mean(inside)) / 0.1)
        stayed = max(0.0, 1 - float(np.mean(outside)) / 0.1)
        return 2 / (1 / changed + 1 / stayed) if changed and stayed else 0.0

    return Sampled(value)


SAMPLED: dict[str, Callable[[Args], Sampled]] = {
    **readers.READERS,
    **clips.CLIPS,
    "nora": vjepa.combined,
    "blip_vqa": blip.assents,
    "dpg": graded,
    "edit_change": kept,
    "geneval": lambda _: Sampled(lambda sample: evaluated(things_of(sample), sample.meta)),
    "geneval2": soft_tifa,
    "qwen_image_bench": marking.averaged,
    "t2i_compbench_3in1": three_in_one,
    "t2i_compbench_spatial": lambda _: Sampled(lambda sample: place(sample.prompt, things_of(sample))),
    "visionreward": visionreward,
    "visionreward_video": visionreward_video,
    "vqascore": flan.vqascore,
}
"""Scorer -> its second writing, from the arguments of ours; cases with samples of their own."""
