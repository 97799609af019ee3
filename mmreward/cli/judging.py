"""Commands about judges themselves: `judge calibrate` and `judge rubrics`, both by labels."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .arguments import chosen_rewards, parse_columns, present
from .scoring import Mapped

judge = typer.Typer(help="Judges themselves: how far they can be believed.", no_args_is_help=True)
app.add_typer(judge, name="judge")


@judge.callback()
def judges() -> None:
    """Judges themselves: how far they can be believed."""


@judge.command()
def calibrate(
    data: Annotated[Path, typer.Argument(help="A data set with labels, as for `mmreward score`.")],
    reward: Annotated[
        list[str],
        typer.Option(help="The judge: NAME or NAME:ARGUMENT=VALUE,..., a reward of one sample or of two."),
    ],
    label: Annotated[
        str, typer.Option(help="Column of the labels: a number (larger is better), or numbers by aspect.")
    ] = "target",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also an HTML page.")] = None,
    machine: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: CUDA if any.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstraps.")] = 0,
    mapped: Mapped = None,
) -> None:
    """Hold a judge against labels: accuracy, ties, both orders, length, calibration, agreement by aspect.

    Every two rows of one group (or, without groups, of one prompt) are a comparison.
    """
    if len(reward) > 1:
        raise ValueError(f"{len(reward)} judges: hold each against the labels by a command of its own")
    present(data, "no data at {}")
    columns = parse_columns(mapped or (), data)
    from mmreward.evals.report.calibrating import as_json, as_text, write_calibration
    from mmreward.evals.report.html import page_at

    from ..data.rows import read_rows
    from ..engine.engine import Engine
    from ..engine.preconditions import check_rewards
    from ..judges.calibration import calibration, compared, label_of
    from ..loading import resolve

    if out is not None:
        page_at(out)
    rewards = resolve(chosen_rewards({}, reward))
    (loaded,) = rewards.values()
    rows = list(read_rows(data, columns))
    samples = [row.sample for row in rows if row.sample is not None]
    if not samples:
        raise ValueError(f"{data} has no row that can be read: {rows[0].problem if rows else 'it is empty'}")
    labels = [label_of(sample, label) for sample in samples]
    check_rewards(rewards)
    with Engine(device) if device is not None else Engine() as engine:
        found = calibration(reward[0], *engine.run(compared(loaded, samples, labels)), seed=seed)
    typer.echo(as_json(found) if machine else as_text(found))
    if len(samples) < len(rows):
        typer.echo(f"{len(rows) - len(samples)} rows could not be read and were left out", err=True)
    if out is not None:
        typer.echo(write_calibration(found, data.name, out), err=machine)


@judge.command()
def rubrics(
    pairs: Annotated[Path, typer.Argument(help="A folder of labelled pairs; `mmreward pairs` makes one.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of rubrics, YAML.")],
    model: Annotated[
        str, typer.Option("--judge", help="VLM that says whether a rubric holds.")
    ] = "Qwen/Qwen3-VL-8B-Instruct",
    writer: Annotated[str | None, typer.Option(help="VLM that writes; default: the judge.")] = None,
    held_out: Annotated[float, typer.Option(help="Share of the prompts that filter the rubrics.")] = 0.3,
    tested: Annotated[float, typer.Option(help="Share that only says how good they are.")] = 0.2,
    most: Annotated[int, typer.Option(min=1, help="Rubrics to keep; `preference` decides by 5 at most.")] = 5,
    temperature: Annotated[float, typer.Option(min=0, help="Of the writer; 0 is greedy.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Where a writing is cut off.")] = 1024,
    seed: Annotated[int, typer.Option(help="Of the writer.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: CUDA if any.")] = None,
) -> None:
    """Learn rubrics from labelled pairs, and keep those that separate pairs they were not written from.

    Read the file with critique:mode=binary,rubric=FILE or preference:mode=contrast,rubric=FILE.
    """
    present(pairs, "no pairs at {}")
    from .. import models
    from ..data.pair_folder import read_pairs
    from ..engine.engine import Engine
    from ..judges.comparison import comparisons
    from ..judges.rubrics import learn_rubrics, parted, write_rubrics

    if out.exists():
        raise ValueError(f"{out} is there already: give another file, or remove it")
    parts = parted(comparisons(read_pairs(pairs)), held_out, tested)
    vlm = models.vlm(model)
    author = models.vlm(writer) if writer else vlm
    with Engine(device) if device is not None else Engine() as engine:
        found = engine.run(
            learn_rubrics(
                author, vlm, parts, most=most, temperature=temperature, max_tokens=max_tokens, seed=seed
            )
        )
    for one in (*found.kept, *found.refused):
        low, high = one.separates.interval or (float("nan"), float("nan"))
        verdict = "kept" if one in found.kept else "not "
        typer.echo(f"{verdict}  {one.separates.mean:.3f} ({low:.3f} to {high:.3f})  {one.text}")
    for reason, number in found.failures.items():
        typer.echo(f"{number} of {len(parts.written)} writings: {reason[:160]}", err=True)
    write_rubrics(found, model, pairs.name, out)
    assert found.tested is not None, "there are rubrics, or the file was refused"
    low, high = found.tested.interval or (float("nan"), float("nan"))
    right = f"right on {found.tested.mean:.3f} ({low:.3f} to {high:.3f})"
    typer.echo(
        f"{len(found.kept)} rubrics in {out}; together {right} of {found.tested.n} pairs that decided nothing"
    )
