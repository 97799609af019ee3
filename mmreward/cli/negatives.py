"""The command `negatives`: clips of success become negatives with labels, for judges of progress."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .app import app
from .arguments import parse_columns, parse_share, present
from .exits import BUDGET, CODES
from .scoring import Mapped


@app.command(epilog=CODES)
def negatives(
    data: Annotated[
        Path, typer.Argument(help="Rows with videos or steps, and prompts, what was to be done.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of negatives; a second run goes on there.")],
    verifier: Annotated[str, typer.Option(help="A VLM by name, or MODEL@URL, that confirms every label.")],
    writer: Annotated[
        str | None, typer.Option(help="One that writes other commands; default: the verifier.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="counterfactual or clip; may be given several times; default: both."),
    ] = None,
    labels: Annotated[str, typer.Option(help="Wanted of each kind.")] = "1,2,3,4",
    label: Annotated[
        str, typer.Option(help="Column of the rows' own labels, 5 for success; default: ask the verifier.")
    ] = "",
    view: Annotated[str, typer.Option(help="Of steps that several cameras see, the one to take.")] = "",
    tries: Annotated[int, typer.Option(help="Of each label before it is given up.")] = 3,
    threshold: Annotated[float, typer.Option(help="The verifier's probability that is enough.")] = 0.5,
    fps: Annotated[float, typer.Option(help="Pictures a second that models see, and the last frame.")] = 1.0,
    frames: Annotated[int, typer.Option(help="Most pictures of a clip that models see.")] = 16,
    seed: Annotated[int, typer.Option(help="Of the writer, and of where clips end.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto: CUDA if any.")] = "auto",
    max_failures: Annotated[str, typer.Option(help="Wanted negatives that may be missing.")] = "50%",
    mapped: Mapped = None,
) -> None:
    """Make negatives of successful clips: other commands for the same clip, and clips that end early.

    Each has the label that the verifier confirms, 1 to 4, as its target, and where it comes from in its meta.
    """
    present(data, "no data at {}")
    columns = parse_columns(mapped or (), data) or None
    budget = parse_share(max_failures)
    from .. import models
    from ..data.negatives import KINDS, Making, make_negatives
    from ..engine.devices import check_device
    from ..engine.engine import Engine

    given: Any = tuple(dict.fromkeys(kind or KINDS))
    plan = Making(
        kinds=given, labels=_labels(labels), tries=tries, threshold=threshold, fps=fps, frames=frames,
        label=label, view=view, seed=seed,
    )  # fmt: skip
    check_device(device)
    judge = models.vlm(verifier)
    author = judge if writer is None else models.vlm(writer)
    with Engine(device) as engine:
        done = make_negatives(data, out, engine, author, judge, plan, columns=columns)
    typer.echo(str(done))
    if done.failure_rate > budget:
        raise typer.Exit(BUDGET)


def _labels(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(one) for one in text.split(",")))
    except ValueError:
        raise ValueError(f"--labels {text!r} is no list such as 1,2,3,4") from None
