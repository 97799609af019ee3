"""RewardDance on the miniature: `python -m mmreward.evals.studies.rewarddance --seeds 0 1 2`.

mini-vlm is trained to say yes or no to "is the second picture better than the first?" (`judges.assent`), once
per seed, and examined on held-out comparisons in both orders, beside the written verdict of `preference` by
mini-vlm as it is shipped, and by a judge that was trained to write it (`--written FOLDER`). Each seed's judge
is left in OUT/SEED/judge (one that is there is examined, not trained again), which the recipe configs/tune/mini-rewarddance.yaml trains a generator with.
Figures: evals/judges.md.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from mmreward import Engine, load, models
from mmreward.judges.assent import AssentExam, AssentPlan, Column, examined, train_assent, verdicts
from mmreward.judges.miniature import sample_comparisons
from mmreward.monitor.intervals import mean_of, paired_change

from .judges import EXAM_SEED

WRITTEN = {"judge": "mini-vlm", "system": "", "max_tokens": 90}
CALLED = {
    "right": "P(yes) against a reference, each order",
    "margin": "P(yes) against a reference, both orders",
    "alone": "P(yes) alone",
}


def run(seeds: list[int], out: Path, pairs: int, held_out: int, plan: AssentPlan, written: str) -> str:
    """Markdown of all exams; the judges are left in `out`."""
    held = [one.comparison for one in sample_comparisons(held_out, EXAM_SEED)]
    exams: dict[str, AssentExam] = {}
    minutes = []
    with Engine("cpu") as engine:
        told: dict[str, Column] = {"mini-vlm": engine.run(verdicts(load("preference", **WRITTEN), held))}
        if written:
            trained = load("preference", **{**WRITTEN, "judge": written})
            told["trained to write it"] = engine.run(verdicts(trained, held))
        exams["before"] = engine.run(examined(models.vlm("mini-vlm"), held))
        for seed in seeds:
            folder = out / str(seed)
            judge = folder / "judge"
            if not judge.exists():
                begun = time.perf_counter()
                learned = [one.comparison for one in sample_comparisons(pairs, 1000 + seed)]
                judge = train_assent("mini-vlm", learned, plan.model_copy(update={"seed": seed}), folder)
                minutes.append((time.perf_counter() - begun) / 60)
            exams[f"seed {seed}"] = engine.run(examined(models.vlm(str(judge)), held))
            _leave(folder, exams[f"seed {seed}"], told)
    return table(told, exams, minutes)


def _leave(folder: Path, exam: AssentExam, told: dict[str, Column]) -> None:
    columns = {**{name: column.tolist() for name, column in exam._asdict().items()},
               **{f"verdict of {name}": column.tolist() for name, column in told.items()}}  # fmt: skip
    (folder / "exam.json").write_text(json.dumps(columns), encoding="utf-8")


def table(told: dict[str, Column], exams: dict[str, AssentExam], minutes: list[float]) -> str:
    """Markdown: shares of right answers by seed, and paired points over the written verdicts."""
    number = len(exams["before"].right)
    seeds = [name for name in exams if name != "before"]
    lines = [f"| right on {number} held-out pairs | before | {' | '.join(seeds)} | mean of seeds (95 %) |"]
    lines.append("|---" * (len(seeds) + 3) + "|")
    for name, called in CALLED.items():
        shares = [float(getattr(exam, name).mean()) for exam in exams.values()]
        over = mean_of(shares[1:])
        lines.append(f"| {called} | {' | '.join(f'{share:.3f}' for share in shares)} | {_ends(over)} |")
    for name, column in told.items():
        lines.append(f"| written verdict, {name} | {column.mean():.3f} |" + " |" * (len(seeds) + 1))
    average = np.mean([exams[name].right for name in seeds], axis=0)
    for name, column in told.items():
        points = paired_change(column, average, scale=100).signed(1)
        lines.append(f"\nP(yes) in each order against the written verdict of {name}: {points} points.")
    if minutes:
        lines.append(f"\nTraining took {', '.join(f'{one:.1f}' for one in minutes)} minutes.")
    return "\n".join(lines)


def _ends(measured: object) -> str:
    mean, interval = measured.mean, measured.interval  # type: ignore[attr-defined]
    return f"{mean:.3f}" if interval is None else f"{mean:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pairs", type=int, default=3000, help="comparisons to learn from")
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--steps", type=int, default=AssentPlan().steps)
    parser.add_argument("--lr", type=float, default=AssentPlan().lr)
    parser.add_argument("--written", default="", help="a judge that was trained to write its verdict")
    parser.add_argument("--out", type=Path, default=Path("runs/judge-rewarddance"))
    given = parser.parse_args()
    plan = AssentPlan(steps=given.steps, lr=given.lr)
    print(run(given.seeds, given.out, given.pairs, given.held_out, plan, given.written))


if __name__ == "__main__":
    main()
