"""Held-out figures of the miniature, through the same engine and rewards a user runs: `python -m
mmreward.mini.evaluate`.

Scenes come from seeds that no training draws. Pictures are half rendered at 64 pixels and half at 32, half of
them softened. Prints a Markdown table and exits with 1 when a bar is missed.
"""

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy.stats import spearmanr

from .. import models
from ..assets import ASSETS
from ..engine.engine import Engine
from ..errors import Unscorable
from ..loading import load, resolve
from ..media import Media
from ..models.vlms.answers import VLM, YES_NO
from ..models.vlms.qwen import QwenVL
from ..models.weights import locate
from ..rewards.robot.values import read_hop
from ..types import Sample
from ..verifiers.boxes import boxes_of, soft_f1, to_unit
from ..verifiers.lists import parse_list
from . import artifact, clip, dialogues, flow, gui, oracle, robot, screens, tasks, vlm_measure, world
from .corrupt import soften
from .robot_places import BEST

SEED = 20_261_121
DIGITS = tuple("0123456789")


class Figure(NamedTuple):
    """One line of the table; `low` and `high` are its bar, infinite where it has none."""

    what: str
    value: float
    n: int
    low: float = -np.inf
    high: float = np.inf

    @property
    def met(self) -> bool:
        return self.low <= self.value <= self.high

    def __str__(self) -> str:
        bounded = np.isfinite(self.high)
        bar = (
            "" if self.low == -np.inf else f"{self.low:g} to {self.high:g}" if bounded else f">= {self.low:g}"
        )
        verdict = "" if not bar else "met" if self.met else "MISSED"
        return f"| {self.what} | {self.value:.4f} | {self.n} | {bar} | {verdict} |"


class HeldOutPicture(NamedTuple):
    """Picture of a held-out scene."""

    scene: world.Scene
    picture: Image.Image


def held_out(number: int, seed: int) -> Iterator[HeldOutPicture]:
    """Scenes and pictures of them, alternating in size, every second pair softened."""
    rng = np.random.default_rng((SEED, seed))
    for index in range(number):
        scene = world.sample_scene(rng)
        picture = world.render(scene, (64, 32)[index % 2])
        yield HeldOutPicture(scene, soften(picture, rng) if index % 4 >= 2 else picture)


def oracle_figures(number: int = 1000) -> Iterator[Figure]:
    """Share of rendered scenes that the oracle reads exactly, by size."""
    for size in (64, 32):
        rng = np.random.default_rng((SEED, size))
        right = 0
        for index in range(number):
            scene = world.sample_scene(
                rng, clutter=index % 4, text="ab" if index % 5 == 0 and size == 64 else ""
            )
            right += Counter(thing.kind for thing in oracle.read(world.render(scene, size))) == scene.kinds
        yield Figure(f"oracle reads a rendered scene of {size} px exactly", right / number, number, 0.99)


def vlm_figures(engine: Engine, number: int = 400) -> Iterator[Figure]:
    """Accuracy of every kind of question, balanced for yes and no, and the IoU of every shape's box."""
    vlm = models.vlm("mini-vlm")
    rng = np.random.default_rng((SEED, 5))
    seen = list(held_out(number, 1))
    asked = [
        (view, dialogue)
        for view in seen
        for task in (*dialogues.BINARY, "count")
        if (dialogue := dialogues.FACTS[task](view.scene, rng)) is not None
    ]

    async def right(view: HeldOutPicture, dialogue: tasks.Dialogue) -> bool:
        labels = YES_NO if dialogue.answer in YES_NO else DIGITS
        read = await vlm.read(Media(view.picture), dialogue.question, labels)
        return read.mass > 0.5 and read.answer == dialogue.answer

    answers = engine.run(_all(right(*pair) for pair in asked))
    yes_no = [(d.answer, ok) for (_, d), ok in zip(asked, answers, strict=True) if d.answer in YES_NO]
    by_answer = [np.mean([ok for answer, ok in yes_no if answer == label]) for label in YES_NO]
    yield Figure("mini-vlm yes/no, balanced accuracy", float(np.mean(by_answer)), len(yes_no), 0.93)
    for task in dialogues.BINARY:
        hits = [ok for (_, d), ok in zip(asked, answers, strict=True) if d.task == task]
        yield Figure(f"mini-vlm yes/no, {task}", float(np.mean(hits)), len(hits))
    counts = [ok for (_, d), ok in zip(asked, answers, strict=True) if d.answer not in YES_NO]
    yield Figure("mini-vlm count", float(np.mean(counts)), len(counts), 0.93)
    overlaps = engine.run(_all(_overlap(vlm, view) for view in seen[: number // 2]))
    yield Figure("mini-vlm grounding, mean IoU", float(np.mean(overlaps)), len(overlaps), 0.75)


async def _overlap(vlm: VLM, view: HeldOutPicture) -> float:
    """Mean IoU over the true shapes, matched by label; a shape without a box counts as 0."""
    truth = [
        box
        for thing in view.scene.things
        if (box := to_unit(*_unit(thing.box, " ".join(thing.kind)))) is not None
    ]
    written = await vlm.write(Media(view.picture), tasks.LOCATE_ALL, max_tokens=160)
    try:
        items = parse_list(written.text).items
    except Unscorable:
        return 0.0
    found = [to_unit(box, 1000, 1000) if box is not None else None for box in boxes_of(items)]
    return soft_f1(found, truth).parts["mean_iou"]


def _unit(corners: Sequence[float], label: str) -> tuple[Any, float, float]:
    return boxes_of([{"bbox_2d": corners, "label": label}])[0], 1.0, 1.0


TALK = {
    "attribute": "mini-vlm attributes",
    "artifact": "mini-vlm artifact question",
    "listen": "mini-vlm verdict after another's reasoning",
    "verdict": "mini-vlm verdict after its own reasoning",
    "prefer": "mini-vlm choice between two pictures",
    "critique_parsed": "mini-vlm critiques that can be parsed",
    "critique_faithfulness": "mini-vlm critique, faithfulness score exact",
    "critique_quality": "mini-vlm critique, quality score exact",
}
"""The figures of `vlm_measure` that have no bar."""


def talk_figures(number: int = 200) -> Iterator[Figure]:
    """Accuracy of what the VLM writes; n is the number of pictures, of which a figure uses those it applies
    to."""
    vlm = QwenVL("mini-vlm")
    measured = vlm_measure.measure(vlm.module, vlm.processor, number, SEED)
    for name, what in TALK.items():
        yield Figure(what, measured[name], number)


def agreement_figures(engine: Engine, number: int = 256) -> Iterator[Figure]:
    """Rank correlation (Spearman) of each reward with the oracle over mini-flow's own pictures."""
    captions = flow.held_out(number)
    pictures = flow.draw(flow.load(), [str(caption) for caption in captions], range(number))
    verdicts = [oracle.judge(*pair) for pair in zip(pictures, captions, strict=True)]
    yield Figure(
        "mini-flow oracle-strict accuracy", float(np.mean([v.strict for v in verdicts])), number, 0.35, 0.65
    )
    yield Figure("mini-flow object F1", float(np.mean([v.f1 for v in verdicts])), number)
    samples = []
    for caption, picture in zip(captions, pictures, strict=True):
        checks = [{"question": question, "answer": answer} for question, answer in tasks.checklist(caption)]
        samples.append(Sample(prompt=str(caption), image=Media(picture), meta={"checklist": checks}))
    rewards: Mapping[str, Mapping[str, Any]] = {
        "checklist": {"judge": "mini-vlm"},
        "checklist (soft)": {"reward": "checklist", "judge": "mini-vlm", "soft": True},
        "clipscore": {"weights": "mini-clip"},
        "critique": {"judge": "mini-vlm"},
        "artifact": {"classifier": "mini-artifact"},
        "artifact (asked)": {"reward": "artifact", "judge": "mini-vlm"},
    }
    truth = np.array([verdict.f1 for verdict in verdicts])
    for name, scores in engine.score(samples, resolve(rewards)).items():
        ok = [index for index, score in enumerate(scores) if score.ok]
        rho = spearmanr([scores[i].value for i in ok], truth[ok]).statistic
        bar = 0.8 if name == "checklist" else -np.inf
        yield Figure(f"{name}: Spearman with the oracle's F1 on mini-flow", float(rho), len(ok), bar)


def robot_figures(engine: Engine, number: int = 240) -> Iterator[Figure]:
    """Figures of mini-robot on the pair of shapes that its training never saw, by the axis of the task."""
    rng = np.random.default_rng((SEED, 5))
    asked: list[tuple[str, int]] = []
    samples = []
    for index in range(number):
        moment = robot.draw_moment(rng)._replace(kinds=robot.HELD_OUT, others=())
        relation = str(rng.choice(world.RELATIONS))
        asked.append((relation, moment.value(relation)))
        samples.append(Sample(id=str(index), prompt=moment.task(relation), image=Media(moment.pixels)))
    words = {name: str(ASSETS / robot.NAME / f"{name}.txt") for name in ("roboreward", "topreward")}
    rewards = {
        "roboreward": load("roboreward", judge=robot.NAME, words=words["roboreward"], max_tokens=8),
        "topreward": load("topreward", judge=robot.NAME, words=words["topreward"], how="spellings"),
    }
    scores = engine.score(samples, rewards)
    for axis, ones in (("above, below", ("above", "below")), ("left, right of", ("left of", "right of"))):
        rows = [row for row, (relation, _) in enumerate(asked) if relation in ones]
        marks = [scores["roboreward"][row].value == asked[row][1] for row in rows]
        said = [(scores["topreward"][row].value > np.log(0.5)) == (asked[row][1] == BEST) for row in rows]
        best = float(np.mean([asked[row][1] == BEST for row in rows]))
        yield Figure(f"mini-robot marks, {axis} (always 5: {best:.2f})", float(np.mean(marks)), len(rows))
        yield Figure(f"mini-robot true or false, {axis}", float(np.mean(said)), len(rows))
    yield from hop_figures(engine, number // 2)


def hop_figures(engine: Engine, number: int) -> Iterator[Figure]:
    """Hops that mini-robot says exactly, and of those that are not 0 the share whose sign is right; of the
    pair that its training never saw."""
    rng = np.random.default_rng((SEED, 6))
    rows = [robot.hop_row(rng, robot.HELD_OUT) for _ in range(number)]
    vlm = models.vlm(robot.NAME)

    async def said(row: robot.Shown) -> float:
        text = "".join(row.leads) + row.branches[0].question
        places = tuple(int(end) for end in np.cumsum([len(lead) for lead in row.leads]))
        media = tuple(Media(moment.pixels) for moment in row.moments)
        written = await vlm.write(media, text, max_tokens=24, places=places)
        try:
            return read_hop(written.text)
        except Unscorable:
            return np.nan

    found = np.array(engine.run(_all(said(row) for row in rows)))
    true = np.array([read_hop(row.branches[0].answer) for row in rows])
    common = max(float(np.mean(true == one)) for one in set(true))
    yield Figure(f"mini-robot hops (always the same: {common:.2f})", float(np.mean(found == true)), number)
    moved = true != 0
    right = np.sign(found[moved]) == np.sign(true[moved])
    yield Figure("mini-robot hops, forward or back", float(np.mean(right)), int(moved.sum()))


def gui_figures(engine: Engine, number: int = 200) -> Iterator[Figure]:
    """Presses of mini-gui and its judgements of presses: on windows whose texts and arrangements no training
    drew, on those of training in pages of their own, and on icons."""
    vlm = models.vlm(gui.NAME)
    kinds = {
        "windows, held-out texts and arrangements": {"texts": True},
        "windows, texts and arrangements of its training": {"texts": True, "held_out": False},
        "icons": {},
    }
    for what, given in kinds.items():
        found = [screens.draw_task(SEED + index, **given) for index in range(number)]
        rows = screens.rows(found)
        said = engine.run(_all(_pressed(vlm, Media(row["image"]), row["prompt"]) for row in rows))
        samples = [
            Sample(image=Media(row["image"]), response=one, target={"bbox_2d": row["box"]})
            for row, one in zip(rows, said, strict=True)
        ]
        hits = [score.ok and score.value == 1 for score in engine.score(samples, "click")["click"]]
        yield Figure(f"mini-gui presses, {what}", float(np.mean(hits)), number)
        asked = [
            gui.judgement(task, np.random.default_rng((SEED, index))) for index, task in enumerate(found)
        ]
        reads = engine.run(_all(vlm.read(Media(one.picture), one.question, YES_NO) for one in asked))
        right = [read.answer == one.answer for read, one in zip(reads, asked, strict=True)]
        yield Figure(f"mini-gui judgements of presses, {what}", float(np.mean(right)), number)


async def _pressed(vlm: VLM, screen: Media, prompt: str) -> str:
    return (await vlm.write(screen, prompt, max_tokens=gui.LONGEST, temperature=0.0)).text


async def _all(jobs: Iterator[Awaitable[Any]]) -> list[Any]:
    return list(await asyncio.gather(*jobs))


def figures(engine: Engine) -> Iterator[Figure]:
    """All lines of the table, in order."""
    yield from oracle_figures()
    yield from vlm_figures(engine)
    yield from talk_figures()
    picked = clip.measure()
    yield Figure("mini-clip picks the right caption of 8", picked["top1_of_8"], int(picked["n"]), 0.90)
    classified = artifact.measure()
    yield Figure("mini-artifact AUROC", classified["auroc"], int(classified["n"]), 0.97)
    yield from agreement_figures(engine)
    yield from robot_figures(engine)
    yield from gui_figures(engine)


def main(report: Callable[[str], None] = print) -> bool:
    """Print the table; True when every bar is met."""
    argparse.ArgumentParser(prog="python -m mmreward.mini.evaluate", description=__doc__).parse_args()
    for name in ("mini-flow", "mini-clip", "mini-vlm", "mini-robot", "mini-gui", "mini-artifact"):
        locate(name)
    report("| figure | value | n | bar | |\n| --- | --- | --- | --- | --- |")
    met = True
    with Engine("cpu") as engine:
        for figure in figures(engine):
            report(str(figure))
            met &= figure.met
    return met


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
