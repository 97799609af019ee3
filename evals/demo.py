"""The demo: mini-flow draws, six kinds of reward and the oracle grade through one engine, and a page shows it
all; then mini-flow is trained for a while, and a second page shows that."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmreward.generators.mini_flow import MiniFlow
from PIL import Image
from rich.console import Console
from rich.table import Table

from mmreward import Engine, Media, models
from mmreward.loading import resolve
from mmreward.mini import oracle, tasks, world
from mmreward.results import Result, read
from mmreward.run import score_file
from mmreward.tune.sampling import media as media_of
from mmreward.tune.sampling import sample

from .demo_training import Size, train
from .figures import Array, Interval, agreement, mean_interval
from .report import write_report

NUM_PROMPTS = 16
PER_PROMPT = 2
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


def demo(out: Path, seed: int, rounds: int = 0) -> None:
    """Write pictures, samples.jsonl, scores.parquet and report.html into `out`, and print a table.

    Args:
        out: the folder.
        seed: of the pictures.
        rounds: of the training that follows, in `out`/training; 0 trains nothing.
    """
    console = Console()
    _grade(out, seed, console)
    if rounds:
        console.print(f"page: {train(out / 'training', Size(rounds=rounds), console)}")


def _grade(out: Path, seed: int, console: Console) -> None:
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
        score_file(
            out / "samples.jsonl", resolve(REWARDS), out / "scores.parquet", engine, title="mmreward demo"
        )
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
    """(boxes, verdict) of every picture in the VLM's own words; what `iou` and `listener` will grade."""
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
    """Coverage, spread and rank correlation with the oracle, for every reward; 95 % bootstrap intervals."""
    ids = list(dict.fromkeys(result.id for result in results))
    columns: dict[str, Array] = {}
    for result in results:
        column = columns.setdefault(result.reward, np.full(len(ids), np.nan))
        column[ids.index(result.id)] = np.nan if result.value is None else result.value
    table = Table("reward", "scored", "mean", "95 % interval", "Spearman with the oracle")
    table.title = f"{len(ids)} pictures"
    for name, values in columns.items():
        ok = values[np.isfinite(values)]
        mean = f"{ok.mean():.3f}" if len(ok) else "-"
        agrees = "-" if name == "oracle" else _agreement(values, columns["oracle"])
        table.add_row(name, f"{len(ok)}/{len(ids)}", mean, _interval(mean_interval(ok)), agrees)
    return table


def _agreement(values: Array, reference: Array) -> str:
    found = agreement(values, reference)
    rho = "undefined" if found.rho is None else f"{found.rho:.2f} {_interval(found.interval)}"
    return f"{rho}, n = {found.n}"


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"[{interval.low:.2f}, {interval.high:.2f}]"
