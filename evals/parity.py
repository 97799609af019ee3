"""Parity of published scorers with their publishers: `python -m mmreward.evals.parity`.

Every scorer of `mmreward/rewards/learned` and `mmreward/rewards/pictures`, and `nora` of the robots', is
given a tiny random checkpoint in its publisher's file format, and scores pictures of awkward sizes beside the
publisher's own package. A row has the largest difference of a value (bar 1e-4, float32), that of a gradient
by the picture's pixels, as a part of the gradient's largest (bar 1e-4), and how far a value moves with the
batch: alone, backwards, and among neighbours drawn by lot (bar 1e-5). It exits with 1 where a bar is missed.

Packages that conflict with ours run in an interpreter of their own:

    python -m mmreward.evals.parity --python hpsv2=old/bin/python --python ImageReward=old/bin/python

A scorer none of whose packages is there is held against a second writing of its formula, and the row says so
("not here": upstream was not installed); one that cannot score has a row with the reason, and the others
follow. Nothing is fetched. Figures and how the interpreters were made: evals/parity.md.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table
from transformers.utils import logging

from mmreward import Engine, Sample, load
from mmreward.engine.batching import Budget
from mmreward.registry import Reward

from .published import upstream
from .published.cases import ANY_SIZE, CASES, ELSEWHERE, Case, rows_of
from .published.readers import Sampled
from .published.scenes import SAMPLED
from .published.second import SECOND
from .published.upstream import DISTRIBUTIONS, SCORERS, pixels_of

VALUE, GRADIENT, BATCH = 1e-4, 1e-4, 1e-5
"""Bars."""
PACKAGES = tuple(sorted({package for package, _ in SCORERS}))


class ParityRow(NamedTuple):
    """One comparison; None where there is none to make."""

    scorer: str
    beside: str
    value: float | None
    gradient: float | None
    batch: float | None
    trouble: str = ""
    """What an interpreter that was named said instead of an answer, or why our scorer has none."""

    @property
    def met(self) -> bool:
        bars = ((self.value, VALUE), (self.gradient, GRADIENT), (self.batch, BATCH))
        return not self.trouble and all(number is None or number <= bar for number, bar in bars)


def main(words: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m mmreward.evals.parity", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="NAME=INTERPRETER",
        type=_interpreter,
        help=f"interpreter for a package's own code: {', '.join(PACKAGES)}",
    )
    parser.add_argument("--only", action="append", default=[], metavar="SCORER", choices=sorted(_names()))
    parser.add_argument("--markdown", action="store_true", help="the table as evals/parity.md has it")
    options = parser.parse_args(words)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    cases = [case for case in CASES if not options.only or case.scorer in options.only]
    lines, missed = [], []
    for row in measured(cases, dict(options.python)):
        figures = [_figure(number) for number in (row.value, row.gradient, row.batch)]
        lines.append((row.scorer, row.beside, *figures, "met" if row.met else "MISSED"))
        missed += [] if row.met else [row]
    for scorer, (tests, reason) in {} if options.only else ELSEWHERE.items():
        lines.append((scorer, f"{tests}: {reason}", "-", "-", "-", "not here"))
    _show(lines, options.markdown)
    for row in missed:
        print(f"{row.scorer}, {row.beside}: {row.trouble or 'a bar is missed'}", file=sys.stderr)
    return 1 if missed else 0


def _show(lines: Iterable[Sequence[str]], markdown: bool) -> None:
    head = ("scorer", "held against", "value", "gradient", "batch", "")
    if markdown:
        print("\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *lines)))
        return
    table = Table(*head, box=box.SIMPLE)
    for cells in lines:
        table.add_row(*cells)
    Console(width=130).print(table)


def _names() -> set[str]:
    return {case.scorer for case in CASES}


def _interpreter(word: str) -> tuple[str, str]:
    name, _, path = word.partition("=")
    if name not in PACKAGES:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(PACKAGES)}")
    if shutil.which(path) is None:
        raise argparse.ArgumentTypeError(f"{path!r} is no interpreter: give NAME=/path/to/bin/python")
    return name, path


def _figure(number: float | None) -> str:
    return "-" if number is None else f"{number:.1e}"


def measured(cases: Iterable[Case], interpreters: Mapping[str, str]) -> list[ParityRow]:
    """One row for each case and package that answers, or for its second writing where none does.

    Args:
        interpreters: by package; others are looked for in this interpreter.
    """
    with TemporaryDirectory() as folder:
        made, numbers = [], []
        rows: dict[int, list[ParityRow]] = {}
        for number, case in enumerate(cases):
            try:
                made.append((case, case.build(_new(Path(folder, f"{number:02}")))))
                numbers.append(number)
            except TROUBLES as error:
                rows[number] = [_troubled(case, error)]
        answers = _answers(made, interpreters, Path(folder))
        for number, (case, args), said in zip(numbers, made, answers, strict=True):
            found = [(p, a) for p, a in said.items() if "error" not in a or p in interpreters]
            try:
                compared = [_beside(case, args, package, answer) for package, answer in found]
                rows[number] = compared or [_second(case, args, said)]
            except TROUBLES as error:
                rows[number] = [_troubled(case, error)]
        return [row for number in sorted(rows) for row in rows[number]]


TROUBLES = (ValueError, RuntimeError, OSError, ImportError)
"""What a scorer raises whose package is missing or that cannot score: its row says so, and others follow."""


def _troubled(case: Case, error: Exception) -> ParityRow:
    return ParityRow(case.name, "nothing", None, None, None, " ".join(str(error).split())[:300])


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


Made = Sequence[tuple[Case, dict[str, Any]]]
"""Cases with the arguments of our scorer."""


def _answers(made: Made, interpreters: Mapping[str, str], folder: Path) -> list[dict[str, dict[str, Any]]]:
    """For each case, what every package says that knows it: one process for each interpreter."""
    work: dict[str, list[tuple[int, str]]] = {}
    for row, (case, _) in enumerate(made):
        for package in case.packages:
            work.setdefault(interpreters.get(package, sys.executable), []).append((row, package))
    answers: list[dict[str, dict[str, Any]]] = [{} for _ in made]
    for number, (interpreter, tasks) in enumerate(work.items()):
        jobs = [_job(made[row][0], package, made[row][1], folder) for row, package in tasks]
        said = _run(interpreter, jobs, folder / f"jobs-{number}.json")
        for (row, package), answer in zip(tasks, said, strict=True):
            answers[row][package] = answer
    return answers


def _job(case: Case, package: str, args: dict[str, Any], folder: Path) -> dict[str, Any]:
    pictures, prompts, _ = rows_of(case)
    paths = [folder / f"{case.samples}-{row}.png" for row in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        if not path.exists():
            picture.save(path)
    common = {"package": package, "scorer": case.scorer, "args": args, "graded": [0]}
    return {**common, "pictures": [str(path) for path in paths], "prompts": prompts}


def _run(interpreter: str, jobs: list[dict[str, Any]], file: Path) -> list[dict[str, Any]]:
    file.write_text(json.dumps(jobs))
    answers = file.with_suffix(".answers")
    command = [interpreter, "-W", "ignore", upstream.__file__, str(file), str(answers)]
    # Of our own environment, what names packages would be taken for theirs.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # Nor is a module beside theirs, such as `blip`, to be taken for a package.
    env |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode or not answers.exists():
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return [{"error": f"{interpreter}: {last[:300]}"}] * len(jobs)
    found: list[dict[str, Any]] = json.loads(answers.read_text())
    return found


def _beside(case: Case, args: dict[str, Any], package: str, answer: dict[str, Any]) -> ParityRow:
    ours = load(case.scorer, **args | case.packages[package])
    pictures, prompts, samples = rows_of(case)
    values, batch = scored(ours, samples)
    if "error" in answer:
        return ParityRow(case.name, package, None, None, batch, answer["error"])
    apart = float(np.nanmax(np.abs(values - np.array(answer["values"]))))
    theirs = [np.array(one) for one in answer["gradients"]]
    slopes = [gradient(ours, pixels_of(pictures[row]), prompts[row]) for row in [0][: len(theirs)]]
    return ParityRow(case.name, answer["version"], apart, _apart(slopes, theirs), batch)


def _second(case: Case, args: dict[str, Any], answers: Mapping[str, Any]) -> ParityRow:
    if case.second is None:
        packages = ", ".join(DISTRIBUTIONS.get(package, package) for package in case.packages)
        raise ValueError(f"{case.name} has no second writing: install {packages}")
    ours = load(case.scorer, **args | case.second)
    if case.rows is not None:
        return _of_samples(case, ours, case.rows(), SAMPLED[case.scorer](args | case.second))
    pictures, prompts, samples = rows_of(case)
    values, batch = scored(ours, samples)
    reference = SECOND[case.scorer](args)
    graded = [0, *(ANY_SIZE if reference.resizes else ())] if ours.info.differentiable else []
    theirs = upstream.answer(reference, pictures, prompts, graded)
    apart = float(np.abs(values - np.array(theirs["values"])).max())
    wanted = [np.array(one) for one in theirs["gradients"]]
    slopes = [gradient(ours, pixels_of(pictures[row]), prompts[row]) for row in graded[: len(wanted)]]
    name = f"a second writing; not here: {', '.join(answers)}" if answers else "a second writing"
    return ParityRow(case.name, name, apart, _apart(slopes, wanted), batch)


def _of_samples(case: Case, ours: Reward, samples: list[Sample], reference: Sampled) -> ParityRow:
    values, batch = scored(ours, samples)
    wanted = [reference.value(sample) for sample in samples]
    apart = float(np.abs(values - np.array(wanted)).max())
    slopes, theirs = [], []
    for sample in samples if reference.tensor is not None else ():
        assert reference.tensor is not None and sample.image is not None
        pixels = pixels_of(Image.fromarray(sample.image.still()))
        slopes.append(gradient(ours, pixels.clone(), sample.prompt))
        theirs.append(gradient_of(reference.tensor, pixels, sample.prompt))
    return ParityRow(
        case.name, "a second writing", apart / case.top, _apart(slopes, theirs), batch / case.top
    )


def scored(reward: Reward, samples: list[Sample]) -> tuple[np.ndarray[Any, Any], float]:
    """Values of the samples in one batch, and the most that one moves alone, backwards or among others.

    Raises:
        ValueError: a score failed.
    """
    together = _values(reward, samples)
    apart = [_values(reward, samples[::-1])[::-1], _values(reward, samples, items=1)]
    order = np.random.default_rng(0).permutation(len(samples))
    mixed = np.empty_like(together)
    mixed[order] = _values(reward, [samples[row] for row in order], items=3)
    return together, float(max(np.abs(one - together).max() for one in (*apart, mixed)))


def _values(reward: Reward, samples: list[Sample], items: int = 256) -> np.ndarray[Any, Any]:
    with Engine("cpu", budget=Budget(items=items), cache_bytes=0) as engine:
        found = engine.score(samples, reward)[reward.info.name]
    if failed := [score.note for score in found if not score.ok]:
        raise ValueError(f"{reward.info.name}: {len(failed)} scores failed; the first: {failed[0]}")
    return np.array([score.value for score in found])


def gradient(reward: Reward, pixels: torch.Tensor, prompt: str) -> np.ndarray[Any, Any]:
    """Gradient (3, H, W) of our value by float pixels (1, 3, H, W)."""
    score_tensor = reward.score_tensor
    assert score_tensor is not None
    return gradient_of(lambda pixels, prompt: score_tensor(pixels, [prompt]), pixels, prompt)


def gradient_of(
    value: Callable[[torch.Tensor, str], torch.Tensor], pixels: torch.Tensor, prompt: str
) -> np.ndarray[Any, Any]:
    """The same of any value."""
    pixels = pixels.requires_grad_()
    value(pixels, prompt).sum().backward()  # type: ignore[no-untyped-call]
    assert pixels.grad is not None
    return pixels.grad[0].numpy()


def _apart(ours: Sequence[Any], theirs: Sequence[Any]) -> float | None:
    """Largest difference as a part of their largest slope; None without any."""
    pairs = zip(ours, theirs, strict=True)
    return max((float(np.abs(one - other).max() / np.abs(other).max()) for one, other in pairs), default=None)


if __name__ == "__main__":
    sys.exit(main())
