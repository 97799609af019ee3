"""The demo, `mmreward demo`: mini-flow draws, six kinds of reward and the oracle grade, and pages show it.

First act (`demo`): pictures for random captions, mini-vlm's answers about them, scores through one engine, a
table and a report page. Second act (`train`): a short Flow-GRPO run by the recipe
configs/tune/mini-grpo.yaml, and what it did to the oracle, which nobody optimises; the words claim no more
than the interval allows.
"""

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from mmreward import Engine, Media, models
from mmreward.data.results import Result, read
from mmreward.data.run import score_file
from mmreward.generators.loading import load
from mmreward.generators.mini_flow import MiniFlow
from mmreward.loading import resolve
from mmreward.mini import oracle, tasks, world
from mmreward.monitor.intervals import Array, Interval, Measured, agreement, mean_of
from mmreward.progress import Display, duration
from mmreward.sampling import media as media_of
from mmreward.sampling import sample
from mmreward.tune.config import TuneConfig, load_tune_config
from mmreward.tune.trainer import tune

from .report.report import write_report
from .report.training_run import TrainingRun, change, load_training_run

# --- first act: draw and grade ------------------------------------------------------------------------------

NUM_PROMPTS = 16
PER_PROMPT = 2
ROUND_SECONDS = 6
"""Of a round of the training on two cores, its share of the evaluations included."""
REWARDS: Mapping[str, Mapping[str, Any]] = {
    "clipscore": {"weights": "mini-clip"},
    "artifact": {"classifier": "mini-artifact"},
    "checklist": {"judge": "mini-vlm"},
    "critique": {"judge": "mini-vlm"},
    "listener": {
        "listener": "mini-vlm",
        "columns": {"prompt": "question", "response": "verdict", "target": "true_verdict"},
    },
    "iou": {},
    "oracle": {},
}


def demo(out: Path, seed: int, rounds: int = 0, *, stats: bool = False) -> None:
    """Write pictures, samples.jsonl, scores.parquet and report.html into `out`, and print a table.

    Args:
        out: the folder.
        seed: of the pictures.
        rounds: of the training that follows, in `out`/training; 0 trains nothing.
        stats: print the engine's counters too.
    """
    console = Console()
    console.print(f"takes about {duration(30 + rounds * ROUND_SECONDS)} on two cores")
    _grade(out, seed, console, stats=stats)
    if rounds:
        console.print(f"page: {train(out / 'training', Size(rounds=rounds), console)}")


def _grade(out: Path, seed: int, console: Console, *, stats: bool = False) -> None:
    prompts = draw_prompts(NUM_PROMPTS, seed)
    console.print(f"drawing {PER_PROMPT} pictures for each of {NUM_PROMPTS} prompts with mini-flow")
    repeated = [prompt for prompt in prompts for _ in range(PER_PROMPT)]
    seeds = [1000 * seed + index for index in range(len(repeated))]
    pictures = [media.picture() for media in media_of(sample(MiniFlow(), repeated, seeds))]
    out.mkdir(parents=True, exist_ok=True)
    (out / "scores.parquet").unlink(missing_ok=True)
    with Engine() as engine:
        console.print("asking mini-vlm where the shapes are and whether each picture matches its prompt")
        answers = engine.run(answer_all(pictures, repeated))
        write_samples(out, pictures, repeated, answers)
        console.print("scoring with six rewards and the oracle")
        with Display() as shown:
            shown.phase("scoring", "scores")
            score_file(
                out / "samples.jsonl",
                resolve(REWARDS),
                out / "scores.parquet",
                engine,
                title="mmreward demo",
                progress=shown.scored,
            )
        if stats:
            console.print(str(engine.stats()), highlight=False, style="dim", soft_wrap=True)
    results = read(out / "scores.parquet")
    console.print(summary_table(results))
    page = write_report(out / "scores.parquet", out / "report.html", out / "samples.jsonl")
    console.print(f"page: {page}")


def draw_prompts(number: int, seed: int) -> list[str]:
    """Different captions of random scenes."""
    rng = np.random.default_rng((seed, 77))
    captions: dict[str, None] = {}
    while len(captions) < number:
        captions[str(world.describe(world.sample_scene(rng), rng, relations=0.3))] = None
    return list(captions)


async def answer_all(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[tuple[str, str]]:
    """(boxes, verdict) of every picture in the VLM's own words, for `iou` and `listener` to grade."""
    vlm = models.vlm("mini-vlm")

    async def answer(picture: Image.Image, prompt: str) -> tuple[str, str]:
        media = Media(picture)
        boxes, verdict = await asyncio.gather(
            vlm.write(media, tasks.LOCATE_ALL, max_tokens=160),
            vlm.write(media, tasks.VERDICT.format(caption=prompt), max_tokens=160),
        )
        return boxes.text, verdict.text

    return list(await asyncio.gather(*map(answer, pictures, prompts)))


def write_samples(
    out: Path,
    pictures: Sequence[Image.Image],
    prompts: Sequence[str],
    answers: Sequence[tuple[str, str]],
) -> None:
    """The pictures and one row each: checklist and true boxes come from the caption and the oracle."""
    (out / "pictures").mkdir(exist_ok=True)
    rows = []
    for index, (picture, prompt, (boxes, verdict)) in enumerate(zip(pictures, prompts, answers, strict=True)):
        name = f"{index // PER_PROMPT:02d}-{index % PER_PROMPT}"
        picture.save(out / "pictures" / f"{name}.png")
        caption = world.parse_caption(prompt)
        judged = oracle.judge(picture, caption)
        rows.append(
            {
                "id": name,
                "prompt": prompt,
                "image": f"pictures/{name}.png",
                "group": f"{index // PER_PROMPT:02d}",
                "response": boxes,
                "target": [
                    {"bbox_2d": [round(1000 * v, 1) for v in thing.box], "label": " ".join(thing.kind)}
                    for thing in judged.seen
                ],
                "question": tasks.VERDICT.format(caption=prompt).partition("?")[0] + "?",
                "verdict": verdict,
                "true_verdict": "yes" if judged.strict else "no",
                "checklist": [{"question": q, "answer": a} for q, a in tasks.checklist(caption)],
            }
        )
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (out / "samples.jsonl").write_text(lines, encoding="utf-8")


def summary_table(results: Sequence[Result]) -> Table:
    """Coverage, mean and rank correlation with the oracle, for every reward; 95 % intervals over prompts."""
    ids = list(dict.fromkeys(result.id for result in results))
    prompts = [name.partition("-")[0] for name in ids]
    columns: dict[str, Array] = {}
    for result in results:
        column = columns.setdefault(result.reward, np.full(len(ids), np.nan))
        column[ids.index(result.id)] = np.nan if result.value is None else result.value
    table = Table("reward", "scored", "mean", "95 % interval", "Spearman with the oracle")
    table.title = f"{len(ids)} pictures of {len(set(prompts))} prompts"
    for name, values in columns.items():
        ok = values[np.isfinite(values)]
        mean = f"{ok.mean():.3f}" if len(ok) else "-"
        agrees = "-" if name == "oracle" else _agreement(values, columns["oracle"], prompts)
        between = _interval(mean_of(values, prompts).interval)
        table.add_row(name, f"{len(ok)}/{len(ids)}", mean, between, agrees)
    return table


def _agreement(values: Array, reference: Array, prompts: Sequence[str]) -> str:
    found = agreement(values, reference, prompts)
    rho = "undefined" if found.rho is None else f"{found.rho:.2f} {_interval(found.interval)}"
    return f"{rho}, n = {found.n}"


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"[{interval.low:.2f}, {interval.high:.2f}]"


# --- second act: train --------------------------------------------------------------------------------------

RECIPE = "tune/mini-grpo.yaml"
HELD_OUT = "oracle"
EVERY = 8
"""Rounds between evaluations, whatever the number of rounds, so that a run may go on for longer."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Amount of training: rounds of `prompts` x `group` samples, measured on `evaluated` other prompts."""

    rounds: int = 24
    prompts: int = 12
    group: int = 12
    evaluated: int = 256


def train(out: Path, size: Size, console: Console) -> Path:
    """Train as configs/tune/mini-grpo.yaml says, but shorter; print before and after, and write the page.

    The same folder again goes on where it stopped, or shows what a finished run found.

    Args:
        out: the folder of the run.
        size: of the training.
        console: where it prints.

    Returns:
        The page.

    Raises:
        ValueError: `out` holds a run with other settings.
    """
    number = size.prompts * size.group
    console.print(
        "training mini-flow by Flow-GRPO on a checklist that mini-vlm answers and, a little, on "
        f"mini-artifact: {size.rounds} rounds of {number} samples; the oracle is never optimised"
    )
    with Display() as shown:
        shown.phase("starting")
        said = partial(console.print, style="dim", highlight=False, markup=False)
        tune(config_of(out, size), load, said, shown)
    run = load_training_run(out)
    console.print(before_after(run))
    console.print(conclusion(run), soft_wrap=True, highlight=False, markup=False)
    return write_report(out)


def config_of(out: Path, size: Size) -> TuneConfig:
    """The recipe in this size."""
    with as_file(files("mmreward.configs") / RECIPE) as path:
        settings = load_tune_config(path).model_dump()
    settings["rollout"] |= {"prompts": size.prompts, "group": size.group}
    settings["rollout"]["micro_batch"] = min(settings["rollout"]["micro_batch"], size.prompts * size.group)
    settings["evaluation"]["every"] = EVERY
    settings["evaluation"]["prompts"]["count"] = size.evaluated
    changes = {"rounds": size.rounds, "minutes": None, "checkpoint_every": 2, "out": str(out)}
    return TuneConfig.model_validate(settings | changes)


def before_after(run: TrainingRun) -> Table:
    """Every reward before and after, with 95 % intervals."""
    first, last = run.evaluations[0], run.evaluations[-1]
    table = Table("reward", "", "before", f"after {last.after} rounds", "change", "n")
    for name in (*run.optimised, *run.held_out):
        before, after = run.measured(first, name), run.measured(last, name)
        role = "held out" if name in run.held_out else "optimised"
        moved = _shown(change(before, after), sign="+")
        table.add_row(name, role, _shown(before), _shown(after), moved, str(after.n))
    return table


def conclusion(run: TrainingRun) -> str:
    """The change of the held-out oracle in words, which claim no more than its interval allows."""
    first, last = (run.measured(one, HELD_OUT) for one in (run.evaluations[0], run.evaluations[-1]))
    moved = change(first, last)
    said = f"{HELD_OUT}: {_shown(first)} before, {_shown(last)} after, n = {last.n} held-out prompts. "
    return said + _change_in_words(moved.interval, run.done)


def _change_in_words(between: Interval | None, rounds: int) -> str:
    if between is None:
        return "The change could not be measured."
    if between.low <= 0 <= between.high:
        return (
            f"{rounds} rounds on so few prompts cannot tell this change from chance; "
            f"`mmreward tune configs/{RECIPE}` trains for longer and measures on more."
        )
    return f"The change is {'a rise' if between.low > 0 else 'a fall'} beyond chance (95 % interval)."


def _shown(one: Measured, sign: str = "") -> str:
    if not math.isfinite(one.mean):
        return "-"
    between = one.interval
    ends = f" [{between.low:{sign}.3f}, {between.high:{sign}.3f}]" if between is not None else ""
    return f"{one.mean:{sign}.3f}{ends}"
