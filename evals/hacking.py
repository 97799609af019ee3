"""A reward that is gamed, and what prevents it: `python -m mmreward.evals.hacking`.

Runs configs/hack-mini-clip.yaml (mini-clip alone; the alarm only watches) and configs/hack-mini-guarded.yaml
(with mini-artifact as a regulariser; the alarm stops). Prints what every evaluation found, and writes one
picture: the same prompts from the same seeds, untrained, gamed and guarded, row by row.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from mmreward.tune.config import TuneConfig
from mmreward.tune.journal import lines, read_grid

from .training_run import TrainingRun, change, load_training_run
from .tuning import shipped, train

GAMED, GUARDED = "hack-mini-clip", "hack-mini-guarded"
REWARDS = ("clipscore", "checklist", "oracle", "artifact")
SHOWN, ENLARGED = 8, 2
GAP = 4
"""Pixels between rows of pictures."""


def table(run: TrainingRun) -> str:
    """Markdown: every evaluation's means, and what the alarm said."""
    rows = ["| rounds | " + " | ".join(REWARDS) + " | alarm |", "|---" * (len(REWARDS) + 2) + "|"]
    for one in run.evaluations:
        means = " | ".join(f"{run.measured(one, name).mean:.3f}" for name in REWARDS)
        rows.append(f"| {one.after} | {means} | {one.level} |")
    return "\n".join(rows)


def moved(run: TrainingRun, at: int) -> str:
    """The change of every reward from the first evaluation to number `at`, with paired intervals."""
    first, last = run.evaluations[0], run.evaluations[at]
    said = []
    for name in REWARDS:
        found = change(run.measured(first, name), run.measured(last, name))
        if found.interval is not None:
            said.append(f"{name} {found.mean:+.3f} ({found.interval.low:+.3f} to {found.interval.high:+.3f})")
    return f"from round 0 to round {last.after}: " + ", ".join(said)


def kept(run: TrainingRun) -> int:
    """Index of the evaluation whose weights the run saved: the best one after an alarm, else the last."""
    stopped = run.ended is not None and str(run.ended["reason"]).startswith("stopped by the alarm")
    if stopped and run.best is not None:
        return run.evaluations.index(run.best)
    return len(run.evaluations) - 1


def sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Pictures in rows, enlarged."""
    side = rows[0][0].width * ENLARGED
    whole = Image.new("RGB", (side * len(rows[0]), (side + GAP) * len(rows) - GAP), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            whole.paste(picture.resize((side, side), Image.Resampling.NEAREST), (x * side, y * (side + GAP)))
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/hacking"), help="where the runs are left")
    parser.add_argument("--picture", type=Path, help="default pictures.png among the runs")
    given = parser.parse_args()
    runs = {}
    for name in (GAMED, GUARDED):
        config: TuneConfig = shipped(f"{name}.yaml").model_copy(update={"out": str(given.out / name)})
        train(config)
        runs[name] = load_training_run(given.out / name)
        run = runs[name]
        print(f"## {name}\n\n{table(run)}\n\n{moved(run, kept(run))}")
        for line in lines(given.out / name / "evaluations.jsonl"):
            for reason in line["reasons"]:
                print(f"- {line['verdict']} after {line['round']} rounds: {reason}")
        print(f"ended: {json.dumps(run.ended)}\n")
    gamed, guarded = runs[GAMED], runs[GUARDED]
    ends = [(gamed, 0), (gamed, len(gamed.evaluations) - 1), (guarded, kept(guarded))]
    rows = [read_grid(run.folder, run.evaluations[at].after, len(run.prompts))[:SHOWN] for run, at in ends]
    picture = given.picture or given.out / "pictures.png"
    sheet(rows).save(picture)
    print(f"pictures -> {picture}")


if __name__ == "__main__":
    main()
