"""RewardDance on the miniature: `python -m mmreward.evals.studies.rewarddance --seeds 0 1 2`.

mini-vlm is trained to say yes or no to "is the second picture better than the first?" (`judges.assent`), once
per seed, and examined on held-out comparisons in both orders, beside the written verdict of `preference` by
mini-vlm as it is shipped, and by a judge that was trained to write it (`--written FOLDER`). Each seed's judge
is left in OUT/SEED/judge; one that is there is examined, and not trained again. The recipe
configs/tune/mini-rewarddance.yaml trains a generator with the first.
Figures: evals/judges.md.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmreward import Engine, load, models
from mmreward.files import whole_file
from mmreward.judges.assent import AssentPlan, Column, examined, train_assent, verdicts
from mmreward.judges.miniature import sample_comparisons
from mmreward.monitor.intervals import mean_of, paired_change

from .judges import EXAM_SEED

WRITTEN: dict[str, Any] = {"judge": "mini-vlm", "system": "", "max_tokens": 90}
CALLED = {
    "right": "P(yes) against a reference, each order",
    "margin": "P(yes) against a reference, both orders",
    "alone": "P(yes) alone",
}


Columns = dict[str, Column]


def run(seeds: list[int], out: Path, pairs: int, held_out: int, plan: AssentPlan, written: str) -> str:
    """Markdown of all exams. Judges and exams are left in `out`; what is there is not done again."""
    held = [one.comparison for one in sample_comparisons(held_out, EXAM_SEED)]
    minutes = []
    with Engine("cpu") as engine:

        def exam(judge: str) -> Columns:
            return engine.run(examined(models.vlm(judge), held))._asdict()

        def told(judge: str) -> Columns:
            return {"right": engine.run(verdicts(load("preference", **{**WRITTEN, "judge": judge}), held))}

        exams: dict[str, Columns] = {}
        for seed in seeds:
            judge = out / str(seed) / "judge"
            if not judge.exists():
                begun = time.perf_counter()
                learned = [one.comparison for one in sample_comparisons(pairs, 1000 + seed)]
                train_assent("mini-vlm", learned, plan.model_copy(update={"seed": seed}), judge.parent)
                minutes.append((time.perf_counter() - begun) / 60)
            exams[f"seed {seed}"] = _kept(judge.parent / "exam.json", partial(exam, str(judge)))
        before = _kept(out / "before.json", partial(exam, "mini-vlm"))
        verdict = {"mini-vlm": _kept(out / "verdicts.json", partial(told, "mini-vlm"))["right"]}
        if written:
            verdict["trained to write it"] = told(written)["right"]
    return table(verdict, before, exams, minutes)


def _kept(file: Path, compute: Callable[[], Columns]) -> Columns:
    """Columns of an exam in a file, computed where it is not there."""
    if not file.exists():
        columns = {name: column.tolist() for name, column in compute().items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            part.write_text(json.dumps(columns), encoding="utf-8")
    return {name: np.array(column) for name, column in json.loads(file.read_text(encoding="utf-8")).items()}


def table(verdict: Columns, before: Columns, exams: dict[str, Columns], minutes: list[float]) -> str:
    """Markdown: shares of right answers by seed, and paired points over the written verdicts."""
    lines = [
        f"| right on {len(before['right'])} held-out pairs | before | {' | '.join(exams)} | mean (95 %) |"
    ]
    lines.append("|---" * (len(exams) + 3) + "|")
    for name, called in CALLED.items():
        shares = [float(one[name].mean()) for one in (before, *exams.values())]
        over = mean_of(shares[1:])
        ends = f" ({over.interval.low:.3f} to {over.interval.high:.3f})" if over.interval else ""
        printed = " | ".join(f"{share:.3f}" for share in shares)
        lines.append(f"| {called} | {printed} | {over.mean:.3f}{ends} |")
    for name, column in verdict.items():
        lines.append(f"| written verdict, {name} | {column.mean():.3f} |" + " |" * (len(exams) + 1))
    for name, column in verdict.items() if exams else ():
        for seed, one in exams.items():
            points = paired_change(column, one["right"], scale=100).signed(1)
            lines.append(f"\n{seed}, each order, against the written verdict of {name}: {points} points.")
    if minutes:
        lines.append(f"\nTraining took {', '.join(f'{one:.1f}' for one in minutes)} minutes.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--pairs", type=int, default=2000, help="comparisons to learn from")
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--steps", type=int, default=AssentPlan().steps)
    parser.add_argument("--lr", type=float, default=AssentPlan().lr)
    parser.add_argument("--written", default="", help="a judge that was trained to write its verdict")
    parser.add_argument("--out", type=Path, default=Path("runs/judge-rewarddance"))
    given = parser.parse_args()
    plan = AssentPlan(steps=given.steps, lr=given.lr)
    print(run(given.seeds, given.out, given.pairs, given.held_out, plan, given.written))


if __name__ == "__main__":
    main()
