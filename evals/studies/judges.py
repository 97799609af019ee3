"""Training of a judge of picture pairs, in stages: `python -m mmreward.evals.studies.judges
configs/judge/mini-*.yaml`.

Held-out comparisons are asked in both orders before the first stage (in one turn, as anybody would ask) and
after every one that the student went through, and a frozen listener hears the reasoning. The table of all
exams is printed. Figures: evals/judges.md.
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from mmreward import Engine, load, models
from mmreward.config import Amount, Positive, Strict, load_yaml
from mmreward.data.pair_folder import read_pairs
from mmreward.judges import comparison
from mmreward.judges.comparison import Comparison
from mmreward.judges.exam import FIGURES, Exam, examine
from mmreward.judges.miniature import sample_comparisons
from mmreward.judges.rationales import RationaleSampling
from mmreward.judges.training import RejectionStage, Role, Stage, TrainingRun, load_judge
from mmreward.monitor.intervals import paired_change
from mmreward.progress import Display
from mmreward.rewards.judged.asking import Asking

from .vlm_exam import weaken

EXAM_SEED = 70_001


class JudgeConfig(Strict):
    """Config of one training of a judge.

    Args:
        student: the model that learns: a folder, a hub id or "mini-vlm".
        teacher: the model that writes rationales for `parrot`; MODEL@URL for a served one.
        listener: the frozen model that filters them, and examines.
        weaken: noise on the student's weights, in standard deviations of each matrix.
        asking: arguments of `rewards.judged.asking.Asking`.
        pairs: how many comparisons to draw from shapes world, or a folder that `mmreward pairs` made.
        examined: held-out comparisons; of a folder they are taken from its end.
        max_tokens: where a turn is cut off.
        stages: one after the other.
        out: folder of the weights and of exams.jsonl.
        seed: of noise, scenes, draws and trainers.
    """

    student: str = "mini-vlm"
    teacher: str = "mini-vlm"
    listener: str = "mini-vlm"
    weaken: Amount = 0.0
    asking: dict[str, Any] = Field(default_factory=dict)
    pairs: Positive | str = 1500
    examined: Positive = 300
    max_tokens: Positive = 90
    stages: Annotated[list[Stage], Field(min_length=1)]
    out: str
    seed: int = 0

    @model_validator(mode="after")
    def _in_order(self) -> "JudgeConfig":
        for place, stage in enumerate(self.stages):
            before = self.stages[:place]
            if getattr(stage, "unsolved", False) and not any(
                isinstance(one, RejectionStage) for one in before
            ):
                raise ValueError(f"stages.{place}.unsolved: no rejection comes before it to find them")
        return self


class Sitting(NamedTuple):
    """An exam, the stage before it, and the minutes until then."""

    after: str
    exam: Exam
    minutes: float


def train(config: JudgeConfig, display: Display | None = None) -> list[Sitting]:
    """The exams of a training, which is run as its config says; `display` shows how far it is.

    Raises:
        ValueError: there is something in the output folder, or a folder of too few pairs.
    """
    out = Path(config.out)
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty: give another folder, or remove it")
    out.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    asking = Asking(**config.asking)
    learned, held_out = _split(config)
    student = _disturbed(config, out) if config.weaken else config.student
    listener = load("listener", listener=config.listener, labels=("1", "2"))
    greedy = RationaleSampling(asking=asking, temperature=0.0, max_tokens=config.max_tokens)
    sittings = []
    with Engine() as engine:
        weights: dict[Role, str] = {"student": student, "teacher": config.teacher}
        run = TrainingRun(
            engine, weights, learned, asking, listener, config.max_tokens, out, config.seed, display=display
        )

        def phase(name: str) -> None:
            if display is not None:
                display.phase(name)

        def sit(after: str, sampling: RationaleSampling) -> None:
            phase(f"examining after {after}")
            judge = models.vlm(run.weights["student"])
            exam = examine(engine, judge, listener, held_out, sampling)
            sittings.append(Sitting(after, exam, (time.perf_counter() - begun) / 60))
            columns = {name: column.tolist() for name, column in asdict(exam).items()}
            with (out / "exams.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"after": after, **columns}) + "\n")
            means = ", ".join(f"{name} {getattr(exam, name).mean():.3f}" for name in FIGURES)
            run.say(f"after {after}: {means}")

        sit("nothing", replace(greedy, asking=replace(asking, turns=1)))
        for number, stage in enumerate(config.stages, 1):
            phase(f"stage {number} of {len(config.stages)}, {stage.kind}")
            before = run.weights["student"]
            stage.run(run)
            if run.weights["student"] != before:
                sit(stage.kind, greedy)
    return sittings


def _split(config: JudgeConfig) -> tuple[list[Comparison], list[Comparison]]:
    """Comparisons to learn from, and held out ones."""
    if isinstance(config.pairs, int):
        learned = sample_comparisons(config.pairs, config.seed)
        held = sample_comparisons(config.examined, EXAM_SEED)
        return [one.comparison for one in learned], [one.comparison for one in held]
    every = comparison.comparisons(read_pairs(config.pairs))
    if len(every) <= config.examined:
        raise ValueError(f"{config.pairs} has {len(every)} pairs, and {config.examined} are to be held out")
    return every[: -config.examined], every[-config.examined :]


def _disturbed(config: JudgeConfig, out: Path) -> str:
    model, processor = load_judge(config.student)
    weaken(model, config.weaken, config.seed)
    folder = out / "0-student"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def table(name: str, sittings: list[Sitting]) -> str:
    """Markdown: figures by exam, and what was gained from the first to the last."""
    first, last = sittings[0].exam, sittings[-1].exam
    heads = [f"after {one.after}, {one.minutes:.1f} min" for one in sittings[1:]]
    number = len(getattr(first, next(iter(FIGURES))))
    lines = [f"| {name} | before | {' | '.join(heads)} | points (95 %, {number} pairs) |"]
    lines.append("|---" * (len(heads) + 3) + "|")
    for figure, called in FIGURES.items():
        values = [f"{getattr(one.exam, figure).mean():.3f}" for one in sittings]
        points = paired_change(getattr(first, figure), getattr(last, figure), scale=100)
        lines.append(f"| {called} | {' | '.join(values)} | {points.signed(1)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("configs", type=Path, nargs="+", help="YAML files, trained one after the other")
    parser.add_argument("--out", type=Path, help="where the runs are left; default: as the configs say")
    given = parser.parse_args()
    tables = []
    for path in given.configs:
        config = load_yaml(path, JudgeConfig)
        if given.out is not None:
            config = config.model_copy(update={"out": str(given.out / path.stem)})
        with Display() as shown:
            tables.append(table(path.stem, train(config, shown)))
    print("\n\n".join(tables))


if __name__ == "__main__":
    main()
