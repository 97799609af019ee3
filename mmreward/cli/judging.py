"""Commands about judges themselves: `judge calibrate`, which holds a judge against labels."""

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
        str,
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
    rewards = resolve(chosen_rewards({}, [reward]))
    (loaded,) = rewards.values()
    rows = list(read_rows(data, columns))
    samples = [row.sample for row in rows if row.sample is not None]
    if not samples:
        raise ValueError(f"{data} has no row that can be read: {rows[0].problem if rows else 'it is empty'}")
    labels = [label_of(sample, label) for sample in samples]
    check_rewards(rewards)
    with Engine(device) if device is not None else Engine() as engine:
        found = calibration(reward, *engine.run(compared(loaded, samples, labels)), seed=seed)
    typer.echo(as_json(found) if machine else as_text(found))
    if len(samples) < len(rows):
        typer.echo(f"{len(rows) - len(samples)} rows could not be read and were left out", err=True)
    if out is not None:
        typer.echo(write_calibration(found, data.name, out), err=machine)
