"""Gain of every tuning method on mini-flow: `python -m mmreward.evals.studies.tuning`.

Runs the recipes `configs/tune/mini-*.yaml` as they are written, each in a process of its own on one thread.
Then pictures are drawn, before and after, for captions that no run has seen, with the sampler of the recipe's
evaluations; the oracle, which no recipe optimises, says how many show exactly what was asked for. Figures:
evals/tuning.md.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmreward.generator import Generator
from mmreward.generators.loading import load
from mmreward.mini import flow, oracle
from mmreward.monitor.intervals import Measured, paired_change
from mmreward.sampling import media, sample
from mmreward.tune.config import TuneConfig, load_tune_config
from mmreward.tune.journal import lines
from mmreward.tune.learner import TrainedWeights, read_weights

RECIPES = ("grpo", "guard", "nft", "awm", "dpo", "d3po", "draft", "refl")
SEVERAL_SEEDS = ("grpo", "nft", "dpo")
CAPTIONS, CAPTION_SEED = 512, 20007
"""Captions of the judgement: neither trained on (seed 1) nor evaluated on meanwhile (seed 10007)."""


class TuningJob(NamedTuple):
    """A recipe and the seed it is run from."""

    recipe: str
    seed: int


class TuningRow(NamedTuple):
    """A finished run.

    Args:
        rounds: that were done.
        minutes: by the clock, evaluations included.
        rewards: optimised and held out, at the first and at the last evaluation.
        before: the oracle's verdicts (N,) on pictures of the untrained network.
        after: on those of the trained one, for the same captions from the same noise.
        ended: why.
    """

    job: TuningJob
    rounds: int
    minutes: float
    rewards: Mapping[str, tuple[float, float]]
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    ended: str

    @property
    def gain(self) -> Measured:
        """Points of strict accuracy, paired over captions."""
        return paired_change(self.before, self.after, scale=100)


def recipe_of(job: TuningJob, folder: Path) -> TuneConfig:
    """The recipe with the job's seed, in a folder of its own under `folder`."""
    changes = {"seed": job.seed, "out": str(folder / f"{job.recipe}-{job.seed}")}
    return shipped(f"tune/mini-{job.recipe}.yaml").model_copy(update=changes)


def shipped(name: str) -> TuneConfig:
    """A config of the package."""
    with as_file(files("mmreward.configs") / name) as path:
        return load_tune_config(path)


def train(config: TuneConfig) -> None:
    """Run `mmreward tune` on one thread; a finished run of the same recipe is left as it is. It prints into
    log.txt.

    Raises:
        RuntimeError: it failed.
    """
    out = Path(config.out)
    recipe, text = out / "recipe.yaml", config.model_dump_json(indent=1)  # JSON is YAML
    if (out / "ended.json").exists() and recipe.exists() and recipe.read_text("utf-8") == text:
        return
    out.mkdir(parents=True, exist_ok=True)
    recipe.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mmreward.cli", "tune", str(recipe)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (out / "log.txt").open("a", encoding="utf-8") as log:
        done = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode:
        raise RuntimeError(f"the run in {out} failed; see {out / 'log.txt'}")


def verdicts(config: TuneConfig, generator: Generator, number: int) -> NDArray[np.bool_]:
    """Strict verdicts of the oracle, (N,), on one picture per caption, drawn as the run's evaluations are."""
    captions = flow.held_out(number, CAPTION_SEED)
    pixels = sample(
        generator,
        [str(caption) for caption in captions],
        range(number),
        config.evaluation.steps,
        config.evaluation.guidance,
    )
    judged = zip(media(pixels, None), captions, strict=True)
    return np.array([oracle.judge(one.picture(), caption).strict for one, caption in judged])


def judge(job: TuningJob, folder: Path, number: int) -> TuningRow:
    """A finished run's weights compared with the ones it began with."""
    config = recipe_of(job, folder)
    out = Path(config.out)
    generator, lora = load(**config.generator), config.lora
    before = verdicts(config, generator, number)
    weights = TrainedWeights(
        generator,
        rank=lora.rank if lora else 0,
        alpha=lora.alpha if lora else None,
        targets=lora.targets if lora else None,
    )
    with weights.using(read_weights(out / "weights.safetensors")):
        after = verdicts(config, generator, number)
    evaluations = lines(out / "evaluations.jsonl")
    first, last = evaluations[0]["rewards"], evaluations[-1]["rewards"]
    ended = json.loads((out / "ended.json").read_text(encoding="utf-8"))
    names = [*config.rewards, *(name for name in config.held_out if name != "oracle")]
    means = {name: (first[name]["mean"], last[name]["mean"]) for name in names}
    return TuningRow(job, ended["rounds"], ended["seconds"] / 60, means, before, after, ended["reason"])


def run(job: TuningJob, folder: Path, number: int) -> TuningRow | RuntimeError:
    """Train and judge; a run that fails is returned as its error, and does not take the others with it."""
    try:
        train(recipe_of(job, folder))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return error
    row = judge(job, folder, number)
    print(
        f"{job.recipe}, seed {job.seed}: {row.gain.mean:+.1f} points, {row.minutes:.1f} min", file=sys.stderr
    )
    return row


def table(rows: Sequence[TuningRow]) -> str:
    """Markdown, one line per run."""
    lines = [
        "| recipe | seed | rounds | minutes | rewards on held-out prompts | oracle strict | gain (95 %) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        rewards = ", ".join(f"{name} {a:.2f} to {b:.2f}" for name, (a, b) in row.rewards.items())
        ended = "" if row.ended == "all rounds done" else f"; {row.ended}"
        lines.append(
            f"| {row.job.recipe} | {row.job.seed} | {row.rounds}{ended}"
            f" | {row.minutes:.1f} | {rewards}"
            f" | {100 * row.before.mean():.1f} to {100 * row.after.mean():.1f} %"
            f" | {row.gain.signed(1)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=RECIPES, action="append", help="a recipe; may be repeated")
    parser.add_argument("--seeds", type=int, help="of every recipe; default 3 or 1")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, default 1")
    parser.add_argument("--captions", type=int, default=CAPTIONS, help=f"to judge by, default {CAPTIONS}")
    parser.add_argument("--out", type=Path, default=Path("runs/tuning"), help="where the runs are left")
    given = parser.parse_args()
    recipes = given.only or RECIPES
    seeds = {recipe: given.seeds or (3 if recipe in SEVERAL_SEEDS else 1) for recipe in recipes}
    jobs = [TuningJob(recipe, seed) for recipe in recipes for seed in range(seeds[recipe])]
    with ThreadPoolExecutor(given.jobs) as pool:
        ended = list(pool.map(lambda job: run(job, given.out, given.captions), jobs))
    rows = [one for one in ended if isinstance(one, TuningRow)]
    print(f"{given.captions} captions, one thread per run, {given.jobs} at a time\n\n{table(rows)}")
    failed = [one for one in ended if isinstance(one, RuntimeError)]
    if failed:
        sys.exit("\n".join(map(str, failed)))


if __name__ == "__main__":
    main()
