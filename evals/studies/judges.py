"""Training of a judge of picture pairs, in stages: `python -m mmreward.evals.studies.judges
configs/judge/mini-*.yaml --seeds 1 2 3`.

Held-out comparisons are asked in both orders before the first stage (in one turn, as anybody would ask) and
after every one that the student went through, and a frozen listener hears the reasoning. Every seed has
scenes, draws and held-out comparisons of its own. A stage is kept in the folder of the run as it ends, under
a name that its configuration decides: a run that was stopped goes on, and a cold start that two recipes
share, or a recipe and its control, is trained once per seed. Figures: evals/judges.md.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from mmreward import Engine, load, models
from mmreward.config import Amount, Positive, Strict, load_yaml
from mmreward.data.pair_folder import read_pairs
from mmreward.data.response_pairs import read_response_pairs
from mmreward.files import whole_file
from mmreward.judges import comparison
from mmreward.judges.comparison import Comparison
from mmreward.judges.exam import FIGURES, Exam, examine, marks_of, right_of
from mmreward.judges.miniature import sample_answers, sample_comparisons
from mmreward.judges.rationales import RationaleSampling
from mmreward.judges.training import RejectionStage, Role, Stage, TaughtStage, TrainingRun, load_judge
from mmreward.monitor.intervals import mean_of, paired_change
from mmreward.progress import Display
from mmreward.rewards.judged.asking import Asking

from .vlm_exam import weaken

EXAM_SEED = 70_001
"""Seed of the held-out comparisons of seed 0; each further seed has the next."""
SHARED = "shared"
"""Folder of stages that runs of all seeds have in common."""


class JudgeConfig(Strict):
    """Config of one training of a judge.

    Args:
        student: the model that learns: a folder, a hub id or "mini-vlm".
        teacher: the model that writes rationales for `parrot`; MODEL@URL for a served one.
        listener: the frozen model that filters them, and examines.
        weaken: noise on the student's weights, in standard deviations of each matrix.
        asking: arguments of `rewards.judged.asking.Asking`.
        pairs: how many comparisons to draw from shapes world, or a folder that `mmreward pairs` made.
        answers: comparisons of two answers to learn from besides: how many to draw from shapes world, or a
            folder that `mmreward pairs --responses` made; as many are held out as of pictures.
        examined: held-out comparisons; of a folder they are taken from its end.
        max_tokens: where a turn is cut off.
        marked: examine the marks that the student gives single pictures as the reward `critique`, too.
        stages: one after the other.
        control: stages of a run without what is claimed to help; compared with, seed by seed.
        out: folder of the weights and exams, a folder in it for each stage.
        seed: of noise, scenes, draws and trainers.
    """

    student: str = "mini-vlm"
    teacher: str = "mini-vlm"
    listener: str = "mini-vlm"
    weaken: Amount = 0.0
    asking: dict[str, Any] = Field(default_factory=dict)
    pairs: Positive | str = 1500
    answers: Positive | str | None = None
    examined: Positive = 300
    max_tokens: Positive = 90
    marked: bool = False
    stages: Annotated[list[Stage], Field(min_length=1)]
    control: Annotated[list[Stage], Field(min_length=1)] | None = None
    out: str
    seed: int = 0

    @model_validator(mode="after")
    def _in_order(self) -> "JudgeConfig":
        if self.answers is not None and self.asking.get("turns") == 2:
            raise ValueError("answers: two answers are compared in one turn, and asking.turns is 2")
        for name, stages in (("stages", self.stages), ("control", self.control or [])):
            for place, stage in enumerate(stages):
                before = stages[:place]
                if getattr(stage, "unsolved", False) and not any(
                    isinstance(one, RejectionStage) for one in before
                ):
                    raise ValueError(f"{name}.{place}.unsolved: no rejection comes before it to find them")
        return self

    def folder(self, stages: int) -> Path:
        """Folder of what the first so many stages leave: equal for equal configurations of them.

        A taught stage does not see the pairs of the run, so that runs on other pairs share it; one with a
        seed of its own does not see the run's.
        """
        decides = self.model_dump(mode="json", exclude={"out", "stages", "control"})
        decides["stages"] = [
            one.model_dump(mode="json", exclude_defaults=True) for one in self.stages[:stages]
        ]
        for unused in ("marked", "answers"):
            if not decides[unused]:
                del decides[unused]
        taught = [one for one in self.stages[:stages] if isinstance(one, TaughtStage)]
        if isinstance(self.pairs, int) and len(taught) == stages:
            del decides["pairs"]
            decides.pop("answers", None)
        of = f"seed-{self.seed}"
        if stages and all(one.seed is not None for one in taught) and len(taught) == stages:
            del decides["seed"], decides["examined"]
            of = SHARED
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]
        kind = self.stages[stages - 1].kind if stages else "nothing"
        return Path(self.out) / of / f"{stages}-{kind}-{digest}"


class Sitting(NamedTuple):
    """An exam, the stage before it, and the minutes until then."""

    after: str
    exam: Exam
    minutes: float


def train(config: JudgeConfig, display: Display | None = None) -> list[Sitting]:
    """The exams of a training, which is run as its config says; `display` shows how far it is.

    Stages that are in the output folder are read from it.

    Raises:
        ValueError: a folder of too few pairs.
    """
    asking = Asking(**config.asking)
    learned, held_out = _split(config)
    more, answers = _split_answers(config)
    learned += more
    listener = load("listener", listener=config.listener, labels=("1", "2"))
    greedy = RationaleSampling(asking=asking, temperature=0.0, max_tokens=config.max_tokens)
    opening = replace(greedy, asking=replace(asking, turns=1))
    sittings: list[Sitting] = []
    minutes = 0.0
    with Engine() as engine:
        weights: dict[Role, str] = {"student": config.student, "teacher": config.teacher}
        run = TrainingRun(
            engine, weights, learned, asking, listener, config.max_tokens, Path(config.out), config.seed,
            display=display,
        )  # fmt: skip
        for number in range(len(config.stages) + 1):
            folder = config.folder(number)
            after = config.stages[number - 1].kind if number else "nothing"
            if (kept := _read(folder, run)) is None:
                begun, before = time.perf_counter(), run.weights["student"]
                run.out = folder
                folder.mkdir(parents=True, exist_ok=True)
                if display is not None:
                    display.phase(f"stage {number} of {len(config.stages)}, {after}")
                if number:
                    config.stages[number - 1].run(run)
                elif config.weaken:
                    run.weights["student"] = _disturbed(config, folder)
                exam = None
                if not number or run.weights["student"] != before:
                    if display is not None:
                        display.phase(f"examining after {after}")
                    judge = models.vlm(run.weights["student"])
                    exam = examine(engine, judge, listener, held_out, greedy if number else opening)
                    if answers:
                        exam = replace(exam, understood=right_of(engine, judge, answers, greedy))
                    if config.marked:
                        critic = load("critique", judge=run.weights["student"])
                        exam = replace(exam, marked=marks_of(engine, critic, held_out))
                    means = ", ".join(f"{name} {getattr(exam, name).mean():.3f}" for name in _figures([exam]))
                    run.say(f"seed {config.seed}, after {after}: {means}")
                kept = exam, (time.perf_counter() - begun) / 60
                _write(folder, run, *kept)
            exam, took = kept
            minutes += took
            if exam is not None:
                sittings.append(Sitting(after, exam, minutes))
    return sittings


def _write(folder: Path, run: TrainingRun, exam: Exam | None, minutes: float) -> None:
    """Leave what a stage made, last of all: a stage without this file is run again."""
    columns = exam and {name: getattr(exam, name).tolist() for name in _figures([exam])}
    unsolved = [one.id for one in run.unsolved]
    left = {"exam": columns, "minutes": minutes, "weights": run.weights, "unsolved": unsolved}
    with whole_file(folder / "stage.json") as part:
        part.write_text(json.dumps(left), encoding="utf-8")


def _read(folder: Path, run: TrainingRun) -> tuple[Exam | None, float] | None:
    """Exam and minutes of a stage that ended, whose weights the run goes on with; None: it did not."""
    file = folder / "stage.json"
    if not file.exists():
        return None
    left = json.loads(file.read_text(encoding="utf-8"))
    # A shared teacher's stage was left by a run whose student is another one.
    run.weights |= (
        {"teacher": left["weights"]["teacher"]} if folder.parent.name == SHARED else left["weights"]
    )
    wanted = set(left["unsolved"])
    run.unsolved = [one for one in run.comparisons if one.id in wanted]
    columns = {name: np.array(column) for name, column in (left["exam"] or {}).items()}
    return (Exam(**columns) if columns else None), left["minutes"]


def _split(config: JudgeConfig) -> tuple[list[Comparison], list[Comparison]]:
    """Comparisons to learn from, and held out ones."""
    if isinstance(config.pairs, int):
        learned = sample_comparisons(config.pairs, config.seed)
        held = sample_comparisons(config.examined, EXAM_SEED + config.seed)
        return [one.comparison for one in learned], [one.comparison for one in held]
    every = comparison.comparisons(read_pairs(config.pairs))
    if len(every) <= config.examined:
        raise ValueError(f"{config.pairs} has {len(every)} pairs, and {config.examined} are to be held out")
    return every[: -config.examined], every[-config.examined :]


def _split_answers(config: JudgeConfig) -> tuple[list[Comparison], list[Comparison]]:
    """Comparisons of answers to learn from, and held out ones."""
    if config.answers is None:
        return [], []
    if isinstance(config.answers, int):
        learned = sample_answers(config.answers, config.seed)
        held = sample_answers(config.examined, EXAM_SEED + config.seed)
        return [one.comparison for one in learned], [one.comparison for one in held]
    every = comparison.comparisons_of_answers(read_response_pairs(config.answers))
    if len(every) <= config.examined:
        raise ValueError(f"{config.answers} has {len(every)} pairs, and {config.examined} are to be held out")
    return every[: -config.examined], every[-config.examined :]


def _disturbed(config: JudgeConfig, out: Path) -> str:
    model, processor = load_judge(config.student)
    weaken(model, config.weaken, config.seed)
    folder = out / "student"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def table(name: str, runs: Sequence[Sequence[Sitting]]) -> str:
    """Markdown: figures by exam, and what was gained from the first to the last.

    Of one run, with the interval over its comparisons; of several seeds, their means, with Student's interval
    over seeds, each of which was examined on comparisons of its own, and the points of each.
    """
    firsts, lasts = [one[0].exam for one in runs], [one[-1].exam for one in runs]
    heads = [
        f"after {one.after}, {np.mean([own[place].minutes for own in runs]):.1f} min"
        for place, one in enumerate(runs[0])
    ][1:]
    number = len(firsts[0].right)
    over = f"{number} pairs" if len(runs) == 1 else f"{len(runs)} seeds"
    seeds = " seed by seed |" if len(runs) > 1 else ""
    lines = [f"| {name} | before | {' | '.join(heads)} | points (95 %, {over}) |{seeds}"]
    lines.append("|---" * (len(heads) + 3 + (len(runs) > 1)) + "|")
    for figure, called in _figures([*firsts, *lasts]).items():
        values = [
            f"{np.mean([getattr(own[place].exam, figure).mean() for own in runs]):.3f}"
            for place in range(len(runs[0]))
        ]
        points = _points(firsts, lasts, figure)
        lines.append(f"| {called} | {' | '.join(values)} | {points}")
    return "\n".join(lines)


def against(name: str, runs: Sequence[Sequence[Sitting]], controls: Sequence[Sequence[Sitting]]) -> str:
    """Markdown: the last exams of the control and of the recipe, and how far they differ on equal pairs."""
    lasts, others = [one[-1].exam for one in runs], [one[-1].exam for one in controls]
    over = f"{len(lasts[0].right)} pairs" if len(runs) == 1 else f"{len(runs)} seeds"
    seeds = " seed by seed |" if len(runs) > 1 else ""
    lines = [f"| {name} against its control | control | {name} | points (95 %, {over}) |{seeds}"]
    lines.append("|---" * (4 + (len(runs) > 1)) + "|")
    for figure, called in _figures([*others, *lasts]).items():
        means = [np.mean([getattr(one, figure).mean() for one in exams]) for exams in (others, lasts)]
        lines.append(f"| {called} | {means[0]:.3f} | {means[1]:.3f} | {_points(others, lasts, figure)}")
    return "\n".join(lines)


def _figures(exams: Sequence[Exam]) -> dict[str, str]:
    """Figures that all of these exams have, and their names in a table."""
    return {
        name: called
        for name, called in FIGURES.items()
        if all(getattr(exam, name) is not None for exam in exams)
    }


def _points(before: Sequence[Exam], after: Sequence[Exam], figure: str) -> str:
    """Cells of a change: of one run over its comparisons; of several over seeds, and each seed's own."""
    changes = [
        paired_change(getattr(one, figure), getattr(other, figure), scale=100)
        for one, other in zip(before, after, strict=True)
    ]
    if len(changes) == 1:
        return f"{changes[0].signed(1)} |"
    each = ", ".join(f"{one.mean:+.1f}" for one in changes)
    return f"{mean_of([one.mean for one in changes])._replace(share=False).signed(1)} | {each} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("configs", type=Path, nargs="+", help="YAML files, trained one after the other")
    parser.add_argument("--seeds", type=int, nargs="+", help="runs of each; default: the config's seed")
    parser.add_argument("--out", type=Path, help="where the runs are left; default: as the configs say")
    given = parser.parse_args()
    tables = []
    for path in given.configs:
        config = load_yaml(path, JudgeConfig)
        if given.out is not None:
            config = config.model_copy(update={"out": str(given.out)})
        runs, controls = [], []
        for seed in given.seeds or [config.seed]:
            own = config.model_copy(update={"seed": seed})
            with Display() as shown:
                runs.append(train(own, shown))
            if config.control is not None:
                with Display() as shown:
                    controls.append(train(own.model_copy(update={"stages": config.control}), shown))
        tables.append(table(path.stem, runs))
        if controls:
            tables.append(against(path.stem, runs, controls))
    print("\n\n".join(tables))


if __name__ == "__main__":
    main()
