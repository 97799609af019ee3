"""Commands about mixtures of data sources: `mixture pilots`, the pilot runs to make, and `mixture next`, the
mixture that follows from their outcomes."""

import csv
import sys
from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .arguments import present

mixture = typer.Typer(help="Mixtures of data sources, from the outcomes of pilot runs.", no_args_is_help=True)
app.add_typer(mixture, name="mixture")


@mixture.callback()
def mixtures() -> None:
    """Mixtures of data sources, from the outcomes of pilot runs (MoDoMoDo, arXiv:2505.24871)."""


@mixture.command()
def pilots(
    sources: Annotated[list[str], typer.Argument(help="Names of the data sources, two or more.")],
) -> None:
    """Print a CSV of the pilot runs to make: a row each, its share of every source, and an empty `outcome`.

    Each source alone, each pair in halves, all in equal parts: what settles every term of the surrogate.
    """
    from ..tune.mixture import OUTCOME, pilots_to_run

    rows = pilots_to_run(sources)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow([*sources, OUTCOME])
    for row in rows:
        table.writerow([*(f"{row[source]:.6g}" for source in sources), ""])


@mixture.command("next")
def following(
    data: Annotated[
        Path,
        typer.Argument(
            help="A .csv, .tsv, .jsonl or .parquet of pilot runs: a column per source with its share, and "
            "`outcome`, of which more is better."
        ),
    ],
    floor: Annotated[float, typer.Option(help="Smallest share of any source.")] = 0.0,
) -> None:
    """Fit a quadratic surrogate to pilot runs, and print the mixture it expects the best outcome of."""
    present(data, "no data at {}")
    from ..monitor.tables import aligned
    from ..tune.mixture import fit_surrogate, read_pilots
    from ..tune.next_mixture import propose

    runs, left_out = read_pilots(data)
    surrogate = fit_surrogate(runs)
    found = propose(surrogate, floor)
    best = max(runs, key=lambda run: run.outcome)
    rows = [("source", "next", "best pilot")]
    rows += [(name, f"{share:.3f}", f"{best.weights[name]:.3f}") for name, share in found.weights.items()]
    rows.append(("outcome", f"{found.expected:.4g} +- {found.deviation:.2g}", f"{best.outcome:.4g}"))
    typer.echo("\n".join(aligned(rows)))
    typer.echo(f"{found.gain:+.3g} over equal parts; fitted to {len(runs)} pilot runs")
    if left_out:
        typer.echo(f"{left_out} runs have no outcome yet and were left out", err=True)
    if surrogate.error >= surrogate.baseline:
        typer.echo(
            f"do not believe it: the others predict a pilot with an error of {surrogate.error:.3g}, "
            f"their mean alone with {surrogate.baseline:.3g}; more pilot runs may help"
        )
    elif found.deviation > found.gain:
        typer.echo("the gain is within a standard deviation: another pilot run near here is worth more")
