"""Reward hacking with and without a guard: `python -m mmreward.evals.audits.hacking`.

Runs configs/tune/hack-mini-CASE.yaml (the alarm only watches) and its -guarded twin (with mini-artifact as a
regulariser; the alarm stops) for every case. Prints what every evaluation found, and writes one picture for
each: the same prompts from the same seeds, untrained, gamed and guarded, row by row, each row with its name
and the means of its evaluation. Figures: evals/hacking.md.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mmreward.tune.config import TuneConfig
from mmreward.tune.journal import lines, read_grid

from ..report.training_run import TrainingRun, change, load_training_run
from ..studies.tuning import shipped, train

CASES = ("saturation", "clip")
SHOWN, ENLARGED = 8, 3
GAP, LABEL, LETTERS = 4, 150, 13
"""Pixels: between rows of pictures, width of a row's label, height of its letters."""


def table(run: TrainingRun) -> str:
    """Markdown: every evaluation's means, and the level of its alarm."""
    names = run.optimised + run.held_out
    rows = ["| rounds | " + " | ".join(names) + " | alarm |", "|---" * (len(names) + 2) + "|"]
    for one in run.evaluations:
        means = " | ".join(f"{run.measured(one, name).mean:.3f}" for name in names)
        rows.append(f"| {one.after} | {means} | {one.level} |")
    return "\n".join(rows)


def moved(run: TrainingRun, at: int) -> str:
    """Changes of all rewards from the first evaluation to number `at`, with paired intervals."""
    first, last = run.evaluations[0], run.evaluations[at]
    said = []
    for name in run.optimised + run.held_out:
        found = change(run.measured(first, name), run.measured(last, name))
        if found.interval is not None:
            said.append(f"{name} {found.signed(3)}")
    return f"from round 0 to round {last.after}: " + ", ".join(said)


def kept(run: TrainingRun) -> int:
    """Index of the evaluation whose weights the run saved: the best one where it was stopped, else the
    last."""
    stopped = run.ended is not None and run.ended["reason"].startswith(("stopped by the alarm", "no rise"))
    if stopped and run.best is not None:
        return run.evaluations.index(run.best)
    return len(run.evaluations) - 1


def pictures(run: TrainingRun, at: int) -> list[Image.Image]:
    """The first pictures of evaluation number `at`."""
    return read_grid(run.folder, run.evaluations[at].after, len(run.prompts))[:SHOWN]


def label(name: str, run: TrainingRun, at: int) -> str:
    """A row's name, its round, and the means of what was paid for and of the judge nobody paid."""
    one = run.evaluations[at]
    shown = [*(reward for reward in run.optimised if reward != "artifact"), "oracle"]
    return "\n".join(
        [f"{name} (round {one.after})", *(f"{r} {run.measured(one, r).mean:.2f}" for r in shown)]
    )


def sheet(rows: Sequence[Sequence[Image.Image]], labels: Sequence[str]) -> Image.Image:
    """Pictures in rows, enlarged, each row behind its label."""
    side = rows[0][0].width * ENLARGED
    size = (LABEL + side * len(rows[0]), (side + GAP) * len(rows) - GAP)
    whole = Image.new("RGB", size, "white")
    letters = ImageFont.load_default(LETTERS)
    for y, (row, text) in enumerate(zip(rows, labels, strict=True)):
        ImageDraw.Draw(whole).text((4, y * (side + GAP) + 4), text, fill="black", font=letters, spacing=6)
        for x, picture in enumerate(row):
            place = (LABEL + x * side, y * (side + GAP))
            whole.paste(picture.resize((side, side), Image.Resampling.NEAREST), place)
    return whole


def run(name: str, folder: Path) -> TrainingRun:
    """Train as a config says, unless that is done already, and print what its evaluations found."""
    config: TuneConfig = shipped(f"tune/{name}.yaml").model_copy(update={"out": str(folder / name)})
    train(config)
    done = load_training_run(folder / name)
    print(f"## {name}\n\n{table(done)}\n\n{moved(done, kept(done))}")
    for line in lines(folder / name / "evaluations.jsonl"):
        for reason in line["reasons"]:
            print(f"- {line['verdict']} after {line['round']} rounds: {reason}")
    print(f"ended: {json.dumps(done.ended)}\n")
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=CASES, action="append", help="a case; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("runs/hacking"), help="where the runs are left")
    given = parser.parse_args()
    for case in given.only or CASES:
        gamed, guarded = (run(f"hack-mini-{case}{guard}", given.out) for guard in ("", "-guarded"))
        ends = [
            ("untrained", gamed, 0),
            ("gamed", gamed, len(gamed.evaluations) - 1),
            ("guarded", guarded, kept(guarded)),
        ]
        rows = [pictures(done, at) for _, done, at in ends]
        picture = given.out / f"{case}.png"
        sheet(rows, [label(*end) for end in ends]).save(picture)
        print(f"pictures -> {picture}\n")


if __name__ == "__main__":
    main()
